//! What the leader of the source reads of its keys while they go.
//!
//! It looks under its lock, a little at a time: what is of ordinary size is copied, a large value is read part by
//! part and given up when it was written in between. What it sends it writes as bytes behind the lock.

use quoris_resp::Argv;
use xxhash_rust::xxh3::Xxh3;

use super::parcel::{Begin, next_part};
use super::part::{self, Cursor};
use super::{NAME, Range};
use crate::keyspace::{SumPlace, key_print, print_in};
use crate::types::growing;
use crate::{Engine, EntryRef, Value, payload, slot};

/// Bytes of keys that are picked at a time, about.
const PICKED_BYTES: usize = 256 * 1024;
/// Keys that are looked at in one step of a walk.
const STEP_KEYS: usize = 64;
/// Keys that are added up in one step.
const SUM_KEYS: usize = 4096;
/// Bytes of a text that are hashed at a time.
const HASHED_BYTES: usize = 4 << 20;

/// What was picked of a key.
#[derive(Debug)]
pub(super) enum What {
    /// It is gone.
    Gone,
    /// Its value, deadline and version.
    Value(Value, Option<u64>, u64),
}

/// A key as it was when it was picked.
#[derive(Debug)]
pub struct Picked {
    pub(super) database: u32,
    pub(super) key: Vec<u8>,
    pub(super) what: What,
}

/// A large value that is read part by part; see [`Engine::next_parcel`].
#[derive(Debug)]
pub struct Sending {
    database: u32,
    key: Vec<u8>,
    version: u64,
    bytes: u64,
    begin: Option<Begin>,
    at: Option<Cursor>,
    done: bool,
}

impl Sending {
    /// Bytes of the value by our own count.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether all of it was read.
    pub fn is_done(&self) -> bool {
        self.done
    }
}

/// Keys that were picked: those as a whole, and those that go in parts.
#[derive(Debug, Default)]
pub struct Picks {
    /// For [`super::parcels`].
    pub small: Vec<Picked>,
    /// For [`Engine::next_parcel`].
    pub large: Vec<Sending>,
}

impl Picks {
    /// Whether nothing was picked.
    pub fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_empty()
    }

    /// Adds a key; gives its bytes, about.
    fn add(&mut self, database: u32, key: &[u8], entry: Option<EntryRef<'_>>) -> usize {
        let key = key.to_vec();
        let mut bytes = key.len() + size_of::<Picked>();
        match entry {
            Some(entry)
                if payload::size(entry.value) > payload::LARGE_BYTES && growing::kind_of(entry.value).is_some() =>
            {
                let (version, bytes) = (entry.version, payload::size(entry.value) as u64);
                self.large.push(Sending { database, key, version, bytes, begin: None, at: None, done: false });
            }
            Some(entry) => {
                bytes += payload::size(entry.value);
                let what = What::Value(entry.value.clone(), entry.expire_at_ms, entry.version);
                self.small.push(Picked { database, key, what });
            }
            None => self.small.push(Picked { database, key, what: What::Gone }),
        }
        bytes
    }
}

/// How far a walk through the keys of some slots has come.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    range: Range,
    database: u32,
    cursor: u64,
}

impl Walk {
    /// From the beginning.
    pub fn new(range: Range) -> Walk {
        Walk { range, database: 0, cursor: u64::from(range.first) << 32 }
    }
}

/// The digest of slots that are frozen, which is added up a little at a time.
#[derive(Debug, Default)]
pub struct Sum {
    place: SumPlace,
    sum: u64,
    /// Large values that changed since they were hashed last.
    heavy: Vec<Heavy>,
}

impl Sum {
    /// The large values that have to be hashed for it.
    pub fn take_heavy(&mut self) -> Vec<Heavy> {
        std::mem::take(&mut self.heavy)
    }

    /// Adds a large value, all of which was read by [`Engine::weigh`]. Takes long.
    pub fn add(&mut self, heavy: Heavy) {
        let hash = match &heavy.value {
            Some(value) => payload::hash(value, false),
            None => payload::long_text_hash(heavy.hasher.digest()),
        };
        let print = key_print(&heavy.key, hash, heavy.expire_at_ms, heavy.version);
        self.sum = self.sum.wrapping_add(print_in(heavy.database, print));
    }
}

/// A large value that is to be hashed behind the lock.
pub struct Heavy {
    database: u32,
    key: Vec<u8>,
    expire_at_ms: Option<u64>,
    version: u64,
    /// A collection shares its nodes with the one in the keyspace, and remembers there what was hashed.
    value: Option<Value>,
    /// Of a text.
    hasher: Box<Xxh3>,
    offset: usize,
}

impl std::fmt::Debug for Heavy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heavy").field("key", &self.key.len()).finish_non_exhaustive()
    }
}

/// For the leader of the source.
impl Engine {
    /// Slots that wait for their new owner.
    pub fn frozen(&self) -> Option<super::Frozen> {
        self.keyspace.moves().and_then(super::Moves::frozen)
    }

    /// As many of the slots from the front of a range as have so many keys and bytes together, at least one.
    pub fn piece_of(&self, range: Range, keys: u64, bytes: u64) -> Range {
        let (mut sum, mut size) = (0, 0);
        let fits = |slot: &u16| {
            sum += self.keyspace.slot_len(*slot);
            if sum <= keys {
                size += self.keyspace.slot_bytes(*slot);
            }
            sum <= keys && size <= bytes
        };
        let count = (range.first..=range.last).take_while(fits).count().max(1);
        Range { first: range.first, last: range.first + (count as u16 - 1) }
    }

    /// From now on notes which keys of some slots are touched.
    pub fn track(&mut self, range: Range) {
        self.keyspace.track(range);
    }

    /// Notes nothing any more.
    pub fn untrack(&mut self) {
        self.keyspace.untrack();
    }

    /// The keys that were touched since the last time; nothing when any may have been.
    pub fn take_tracked(&mut self) -> Option<Vec<(u32, Vec<u8>)>> {
        self.keyspace.take_tracked()
    }

    /// The next keys of a walk, about a parcel of them; nothing at the end.
    pub fn pick_next(&self, walk: &mut Walk) -> Picks {
        let (keys, last) = (&self.keyspace, walk.range.last);
        let (mut picks, mut size) = (Picks::default(), 0);
        while (size < PICKED_BYTES || picks.is_empty()) && walk.database < keys.databases() {
            let database = walk.database;
            walk.cursor = keys.scan(database, walk.cursor, STEP_KEYS, &mut |key, entry| {
                if slot(key) <= last {
                    size += picks.add(database, key, Some(entry));
                }
            });
            if walk.cursor == 0 || walk.cursor >> 32 > u64::from(last) {
                *walk = Walk { database: database + 1, ..Walk::new(walk.range) };
            }
        }
        picks
    }

    /// When keys are due for a move: when their slots froze, or now.
    fn move_clock_ms(&self) -> u64 {
        self.frozen().map_or(self.keyspace.now_ms(), |frozen| frozen.clock_ms)
    }

    /// These keys as they are, or as they were when their slots froze.
    pub fn pick(&self, keys: &[(u32, Vec<u8>)]) -> Picks {
        let (clock_ms, mut picks) = (self.move_clock_ms(), Picks::default());
        for (database, key) in keys {
            picks.add(*database, key, self.keyspace.entry_at(*database, key, clock_ms));
        }
        picks
    }

    /// The next parcel of a large value; nothing behind the last one, and when it is another one by now, so that it
    /// was touched.
    pub fn next_parcel(&self, sending: &mut Sending) -> Option<Vec<u8>> {
        let entry = self.keyspace.entry_at(sending.database, &sending.key, self.move_clock_ms());
        let entry = entry.filter(|entry| entry.version == sending.version && !sending.done)?;
        if sending.begin.is_none() {
            let (value, expire_at_ms, version) = (entry.value, entry.expire_at_ms, entry.version);
            sending.begin = Begin::new(sending.database, &sending.key, value, expire_at_ms, version);
        }
        let begin = sending.begin.as_ref()?;
        let (parcel, last) = next_part(begin, &mut sending.at, |at, out| part::write(entry.value, at, out));
        sending.done = last;
        Some(parcel)
    }

    /// Goes on with the digest of the slots that are frozen; false when all keys were looked at.
    pub fn sum_next(&self, sum: &mut Sum) -> bool {
        let Some(frozen) = self.frozen() else { return false };
        let mut heavy = Vec::new();
        let added = self.keyspace.sum_some(frozen.range, frozen.clock_ms, &mut sum.place, SUM_KEYS, &mut heavy);
        sum.sum = sum.sum.wrapping_add(added.unwrap_or(0));
        sum.heavy.extend(heavy.into_iter().map(|(database, key)| Heavy {
            database,
            key,
            expire_at_ms: None,
            version: 0,
            value: None,
            hasher: Box::new(Xxh3::new()),
            offset: 0,
        }));
        added.is_some()
    }

    /// Goes on reading a large value of slots that are frozen; false when all was read.
    pub fn weigh(&self, heavy: &mut Heavy) -> bool {
        let Some(entry) = self.keyspace.entry_at(heavy.database, &heavy.key, self.move_clock_ms()) else {
            return false;
        };
        (heavy.expire_at_ms, heavy.version) = (entry.expire_at_ms, entry.version);
        let Value::String(text) = entry.value else {
            heavy.value = Some(entry.value.clone());
            return false;
        };
        let text = payload::string_bytes(text);
        let rest = text.get(heavy.offset..).unwrap_or_default();
        let some = &rest[..rest.len().min(HASHED_BYTES)];
        heavy.hasher.update(some);
        heavy.offset += some.len();
        some.len() < rest.len()
    }

    /// The last word of the source: `SEAL`, of slots that are frozen and whose digest is known. `clock_ms` is the
    /// group's present clock.
    pub fn seal_of(&self, attempt: u64, clock_ms: u64, sum: &Sum) -> Option<Argv> {
        let frozen = self.frozen().filter(|frozen| frozen.attempt == attempt)?;
        let mut versions = Vec::new();
        for slot in frozen.range.first..=frozen.range.last {
            let (counter, removed) = self.keyspace.slot_versions(slot);
            crate::snapshot::numbers::put(counter, &mut versions);
            crate::snapshot::numbers::put(removed, &mut versions);
        }
        let clock_ms = clock_ms.max(self.keyspace.now_ms());
        let sessions = self.sessions.depart(frozen.range);
        // As text it has the form of every other number.
        let numbers = [attempt, clock_ms, frozen.clock_ms, sum.sum & (u64::MAX >> 1)].map(|n| n.to_string());
        let [attempt, clock, frozen, digest] = numbers.each_ref().map(|n| n.as_bytes());
        Some(Argv::from_parts(&[NAME.as_bytes(), b"SEAL", attempt, clock, frozen, digest, &versions, &sessions]))
    }
}
