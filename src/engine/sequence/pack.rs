//! Items one behind the other in one buffer.
//!
//! The buffer is: the number of items, then each item's length and bytes; numbers are LEB128. An empty pack has
//! no buffer. Everything but reading it through is linear, so a pack is for few items or for a leaf of a tree.
//!
//! Invariant: a buffer is only ever made here, so it is well formed, and equal items make equal buffers.

/// See the module.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Pack(Box<[u8]>);

impl std::fmt::Debug for Pack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(String::from_utf8_lossy)).finish()
    }
}

/// The bytes that a number takes.
fn number_len(n: usize) -> usize {
    (usize::BITS - (n | 1).leading_zeros()).div_ceil(7) as usize
}

/// Puts the bytes of a number in LEB128 one by one.
pub(crate) fn put_number(mut n: usize, mut put: impl FnMut(u8)) {
    while n >= 0x80 {
        put(n as u8 | 0x80);
        n >>= 7;
    }
    put(n as u8);
}

/// The same into a buffer; how many they are.
fn write_number(n: usize, out: &mut [u8]) -> usize {
    let mut at = 0;
    put_number(n, |byte| {
        out[at] = byte;
        at += 1;
    });
    at
}

/// The number at `at`, and where it ends.
fn number(bytes: &[u8], at: usize) -> (usize, usize) {
    let first = bytes[at];
    if first < 0x80 {
        return (usize::from(first), at + 1);
    }
    let (mut n, mut shift, mut at) = (usize::from(first & 0x7f), 7, at + 1);
    loop {
        let byte = bytes[at];
        n |= usize::from(byte & 0x7f) << shift;
        (shift, at) = (shift + 7, at + 1);
        if byte < 0x80 {
            return (n, at);
        }
    }
}

/// The items of a pack from some place on.
#[derive(Clone, Debug)]
pub(crate) struct PackIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for PackIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let (len, at) = number(self.rest, 0);
        let (item, rest) = self.rest[at..].split_at(len);
        self.rest = rest;
        Some(item)
    }
}

/// Items one behind the other as [`put_item`] wrote them: for a type that keeps several texts in one item.
pub(crate) fn items(bytes: &[u8]) -> PackIter<'_> {
    PackIter { rest: bytes }
}

/// Appends an item behind its length.
pub(crate) fn put_item(item: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    out.resize(at + number_len(item.len()), 0);
    write_number(item.len(), &mut out[at..]);
    out.extend_from_slice(item);
}

impl Pack {
    /// The number of items.
    pub(crate) fn len(&self) -> usize {
        if self.0.is_empty() { 0 } else { number(&self.0, 0).0 }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The buffer: equal for equal items.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes of the items and their lengths.
    pub(crate) fn item_bytes(&self) -> usize {
        self.iter().rest.len()
    }

    /// The items in order.
    pub(crate) fn iter(&self) -> PackIter<'_> {
        let begin = if self.0.is_empty() { 0 } else { number(&self.0, 0).1 };
        PackIter { rest: &self.0[begin..] }
    }

    /// The items from `index` on.
    pub(crate) fn iter_from(&self, index: usize) -> PackIter<'_> {
        let mut items = self.iter();
        if index > 0 {
            items.nth(index - 1);
        }
        items
    }

    /// The item at an index.
    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        self.iter().nth(index)
    }

    /// Where an item begins, its length included; the end for the index behind the last one.
    fn offset(&self, index: usize) -> usize {
        let mut items = self.iter();
        let skipped = (0..index).all(|_| items.next().is_some());
        assert!(skipped, "index {index} of {} items", self.len());
        self.0.len() - items.rest.len()
    }

    /// Replaces the items between two offsets that hold `old` of them by one or none.
    fn splice(&mut self, begin: usize, end: usize, old: usize, item: Option<&[u8]>) {
        let (len, head) = if self.0.is_empty() { (0, 0) } else { number(&self.0, 0) };
        let count = len - old + usize::from(item.is_some());
        if count == 0 {
            self.0 = Box::default();
            return;
        }
        let new_head = number_len(count);
        let part = item.map_or(0, |item| number_len(item.len()) + item.len());
        let total = new_head + (begin.max(head) - head) + part + (self.0.len() - end);
        let mut bytes = std::mem::take(&mut self.0).into_vec();
        let (front, tail_len) = (begin.max(head) - head, bytes.len() - end);
        if total > bytes.len() {
            bytes.reserve_exact(total - bytes.len());
            bytes.resize(total, 0);
        }
        // A shorter head makes room first, a longer one takes it last.
        if new_head < head {
            bytes.copy_within(head..head + front, new_head);
        }
        bytes.copy_within(end..end + tail_len, total - tail_len);
        if new_head > head {
            bytes.copy_within(head..head + front, new_head);
        }
        write_number(count, &mut bytes);
        if let Some(item) = item {
            let at = new_head + front + write_number(item.len(), &mut bytes[new_head + front..]);
            bytes[at..at + item.len()].copy_from_slice(item);
        }
        bytes.truncate(total);
        self.0 = bytes.into_boxed_slice();
    }

    /// Puts an item in front of the one at `index`, or at the end.
    pub(crate) fn insert(&mut self, index: usize, item: &[u8]) {
        let at = self.offset(index);
        self.splice(at, at, 0, Some(item));
    }

    /// Puts an item at the end.
    pub(crate) fn push(&mut self, item: &[u8]) {
        let at = self.0.len();
        self.splice(at, at, 0, Some(item));
    }

    /// Takes an item out.
    pub(crate) fn remove(&mut self, index: usize) {
        self.remove_range(index, 1);
    }

    /// Takes `count` items out, the first at `index`.
    pub(crate) fn remove_range(&mut self, index: usize, count: usize) {
        let (begin, end) = (self.offset(index), self.offset(index + count));
        self.splice(begin, end, count, None);
    }

    /// Puts an item in the place of another.
    pub(crate) fn replace(&mut self, index: usize, item: &[u8]) {
        let (begin, end) = (self.offset(index), self.offset(index + 1));
        self.splice(begin, end, 1, Some(item));
    }

    /// Takes the items from `index` on out.
    pub(crate) fn split_off(&mut self, index: usize) -> Pack {
        let tail = Pack::of(self.iter().skip(index));
        let head = Pack::of(self.iter().take(index));
        *self = head;
        tail
    }

    /// Puts the items of another pack at the end.
    pub(crate) fn append(&mut self, other: &Pack) {
        *self = Pack::of(self.iter().chain(other.iter()));
    }

    /// A pack of items.
    pub(crate) fn of<'a>(items: impl Iterator<Item = &'a [u8]> + Clone) -> Pack {
        let (count, bytes) =
            items.clone().fold((0, 0), |(n, bytes), item| (n + 1, bytes + number_len(item.len()) + item.len()));
        if count == 0 {
            return Pack::default();
        }
        let mut out = vec![0; number_len(count) + bytes];
        let mut at = write_number(count, &mut out);
        for item in items {
            at += write_number(item.len(), &mut out[at..]);
            out[at..at + item.len()].copy_from_slice(item);
            at += item.len();
        }
        Pack(out.into_boxed_slice())
    }

    /// Flips one bit of an item, as broken memory would; false when no item has one.
    pub(crate) fn flip_bit(&mut self) -> bool {
        let mut items = self.iter();
        let mut at = None;
        while let Some(item) = items.next() {
            if !item.is_empty() {
                at = Some(self.0.len() - items.rest.len() - 1);
                break;
            }
        }
        at.inspect(|at| self.0[*at] ^= 1).is_some()
    }
}
