//! One key with its value, as it lies in a slot's table.

use super::access::Stamp;
use crate::{Value, payload};

/// No deadline.
pub(super) const NEVER: u64 = u64::MAX;

/// Bytes that a key takes beside its text and its value: the entry, its share of the bucket heads, of room in the
/// leaf and of the allocator's rounding, as measured. A constant, because the count must be the same on every
/// replica.
const ENTRY_BYTES: u64 = 112;
/// Bytes that a deadline takes in the index of deadlines.
const DEADLINE_BYTES: u64 = 32;

/// Longer keys go to the heap.
const INLINE_BYTES_MAX: usize = 22;

/// A key's text; short ones need no allocation, and no second cache line when they are compared.
#[derive(Clone, Debug)]
pub(super) enum Key {
    /// The length and the text.
    Inline(u8, [u8; INLINE_BYTES_MAX]),
    /// A long text.
    Heap(Box<[u8]>),
}

const _: () = assert!(size_of::<Key>() == 24, "the key keeps the entry small");

impl Key {
    /// Copies a key.
    pub(super) fn new(text: &[u8]) -> Key {
        if text.len() > INLINE_BYTES_MAX {
            return Key::Heap(text.into());
        }
        let mut bytes = [0; INLINE_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text);
        Key::Inline(text.len() as u8, bytes)
    }

    /// The text.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Key::Inline(len, bytes) => &bytes[..*len as usize],
            Key::Heap(bytes) => bytes,
        }
    }

    fn heap_bytes(&self) -> u64 {
        match self {
            Key::Inline(..) => 0,
            Key::Heap(bytes) => bytes.len().next_multiple_of(8) as u64,
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> std::cmp::Ordering {
        self.bytes().cmp(other.bytes())
    }
}

/// A key with its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) value: Value,
    /// Group clock in Unix milliseconds, or [`NEVER`].
    pub(super) expire_at_ms: u64,
    /// The slot's counter at the last write.
    pub(super) version: u64,
    /// The fingerprint that the last write left, see [`super::account`].
    pub(super) print: u64,
    /// The order within the slot.
    pub(super) hash: u32,
    /// The next entry of the same bucket, for [`super::table`].
    pub(super) next: u32,
    /// When it was last used; not of the state.
    pub(super) used: Stamp,
}

impl Entry {
    /// Whether the key is gone for everybody at `now_ms`.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.expire_at_ms <= now_ms || self.value.is_gone(now_ms)
    }

    /// The version as WATCH sees it at `now_ms`, and whether something is due. A field that is due has gone, so
    /// its key looks different before the field is removed.
    pub(super) fn seen(&self, now_ms: u64) -> (u64, bool) {
        let fields = self.value.due(now_ms);
        let version = self.version.wrapping_add(fields.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        (version, fields > 0 || self.is_due(now_ms))
    }

    /// The deadline, if there is one.
    pub(super) fn deadline(&self) -> Option<u64> {
        (self.expire_at_ms != NEVER).then_some(self.expire_at_ms)
    }

    /// Bytes that the key takes by our own count.
    pub(super) fn memory_bytes(&self) -> u64 {
        let deadline = if self.expire_at_ms == NEVER { 0 } else { DEADLINE_BYTES };
        ENTRY_BYTES + self.key.heap_bytes() + payload::heap_bytes(&self.value) + deadline
    }

    /// The key's share of the digest: a stable hash of all that apply can see of it. With `anew` from the bytes
    /// alone, without what a large value remembers.
    pub(super) fn fingerprint(&self, anew: bool) -> u64 {
        print(self.key.bytes(), payload::hash(&self.value, anew), self.expire_at_ms, self.version)
    }
}

/// A key's fingerprint from the hash of its value.
pub(super) fn print(key: &[u8], value: u64, expire_at_ms: u64, version: u64) -> u64 {
    let seed = expire_at_ms.rotate_left(32) ^ version;
    mix(xxhash_rust::xxh3::xxh3_64_with_seed(key, seed), value)
}

/// Two hashes as one; not symmetric.
pub(super) fn mix(one: u64, other: u64) -> u64 {
    let product = u128::from(one ^ 0xa076_1d64_78bd_642f) * u128::from(other ^ 0xe703_7ed1_a0b4_28db);
    (product as u64) ^ ((product >> 64) as u64) ^ one.rotate_left(29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stays_small() {
        assert!(size_of::<Entry>() <= 88, "{} bytes", size_of::<Entry>());
    }

    #[test]
    fn keys_compare_by_text_wherever_they_lie() {
        for len in [0, 1, 22, 23, 100] {
            let text = vec![b'k'; len];
            assert_eq!(Key::new(&text).bytes(), &text);
        }
        assert!(Key::new(&[b'a'; 30]) < Key::new(b"b"));
        assert!(Key::new(b"a") < Key::new(&[b'a'; 30]));
    }
}
