//! Keys on their way from one group to another, as bytes.
//!
//! The source's leader picks keys under its lock, which copies next to nothing, and writes them as bytes behind it.
//!
//! Invariant: a value that was read from its bytes has the same print as the one that was written.

use serde::{Deserialize, Serialize};

use super::{NAME, Range};
use crate::types::collection::Collection;
use crate::{Engine, Value, codec, payload, rdb, slot};
use quoris_resp::Argv;

/// Bytes of one parcel, about.
const PARCEL_BYTES: usize = 512 * 1024;
/// Longer values go in pieces of so many bytes, between which the entries of others find room.
const PIECE_BYTES: usize = 1 << 20;
/// Keys that are looked at in one step of a walk.
const STEP_KEYS: usize = 64;

/// A value with all that belongs to it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sent {
    /// As DUMP writes it, or its end.
    payload: Vec<u8>,
    origin: u8,
    beside: Option<Vec<u8>>,
    pub(super) expire_at_ms: Option<u64>,
    pub(super) version: u64,
}

impl Sent {
    pub(super) fn new(value: &Value, expire_at_ms: Option<u64>, version: u64) -> Sent {
        let beside = value.collection().and_then(Collection::beside);
        Sent { payload: rdb::dump_value(value), origin: payload::origin(value), beside, expire_at_ms, version }
    }

    /// Bytes of it, about.
    pub(super) fn bytes(&self) -> usize {
        self.payload.len() + size_of::<Sent>()
    }

    /// The value; `begun` is what has come of it before.
    pub(super) fn value(self, mut begun: Vec<u8>) -> Option<Value> {
        begun.extend_from_slice(&self.payload);
        let value = rdb::restore_value(&begun, &payload::encodings(self.origin)).ok()?;
        let mut value = payload::with_origin(value, self.origin)?;
        match self.beside {
            Some(text) if !value.collection_mut()?.restore_beside(&text) => None,
            _ => Some(value),
        }
    }
}

/// One thing in a parcel.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Record {
    /// The beginning of the next value, or more of it.
    Begin(Vec<u8>),
    /// A key is this now; nothing when it is gone.
    Key {
        /// Its database.
        database: u32,
        /// The key.
        key: Vec<u8>,
        /// What it is.
        sent: Option<Sent>,
    },
}

/// A key as it was when it was picked.
#[derive(Debug)]
pub struct Picked {
    database: u32,
    key: Vec<u8>,
    value: Option<(Value, Option<u64>, u64)>,
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

/// Keys as the bytes of parcels, in order.
pub fn parcels(picked: Vec<Picked>) -> Vec<Vec<u8>> {
    let (mut parcels, mut records, mut size) = (Vec::new(), Vec::new(), 0);
    for Picked { database, key, value } in picked {
        let mut sent = value.map(|(value, expire_at_ms, version)| Sent::new(&value, expire_at_ms, version));
        if let Some(sent) = sent.as_mut().filter(|sent| sent.payload.len() > PIECE_BYTES) {
            let end = sent.payload.len() - sent.payload.len() % PIECE_BYTES;
            let end = if end == sent.payload.len() { end - PIECE_BYTES } else { end };
            let rest = sent.payload.split_off(end);
            if !records.is_empty() {
                parcels.push(codec::bytes(&std::mem::take(&mut records)));
                size = 0;
            }
            for piece in sent.payload.chunks(PIECE_BYTES) {
                parcels.push(codec::bytes(&vec![Record::Begin(piece.to_vec())]));
            }
            sent.payload = rest;
        }
        size += key.len() + sent.as_ref().map_or(0, Sent::bytes);
        records.push(Record::Key { database, key, sent });
        if size >= PARCEL_BYTES {
            parcels.push(codec::bytes(&std::mem::take(&mut records)));
            size = 0;
        }
    }
    if !records.is_empty() {
        parcels.push(codec::bytes(&records));
    }
    parcels
}

/// For the leader of the source.
impl Engine {
    /// Slots that wait for their new owner.
    pub fn frozen(&self) -> Option<super::Frozen> {
        self.keyspace.moves().and_then(super::Moves::frozen)
    }

    /// As many of the slots from the front of a range as have so many keys together, at least one.
    pub fn piece_of(&self, range: Range, keys: u64) -> Range {
        let mut sum = 0;
        let fits = |slot: &u16| {
            sum += self.keyspace.slot_len(*slot);
            sum <= keys
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

    /// The next keys of a walk, about a parcel of them; an empty list at the end.
    pub fn pick_next(&self, walk: &mut Walk) -> Vec<Picked> {
        let (keys, last) = (&self.keyspace, walk.range.last);
        let (mut picked, mut size) = (Vec::new(), 0);
        while size < PARCEL_BYTES && walk.database < keys.databases() {
            let database = walk.database;
            walk.cursor = keys.scan(database, walk.cursor, STEP_KEYS, &mut |key, entry| {
                if slot(key) <= last {
                    size += key.len() + payload::size(entry.value) + size_of::<Picked>();
                    let value = Some((entry.value.clone(), entry.expire_at_ms, entry.version));
                    picked.push(Picked { database, key: key.to_vec(), value });
                }
            });
            if walk.cursor == 0 || walk.cursor >> 32 > u64::from(last) {
                *walk = Walk { database: database + 1, ..Walk::new(walk.range) };
            }
        }
        picked
    }

    /// These keys as they are, or as they were when their slots froze.
    pub fn pick(&self, keys: Vec<(u32, Vec<u8>)>) -> Vec<Picked> {
        let clock_ms = self.frozen().map_or(self.keyspace.now_ms(), |frozen| frozen.clock_ms);
        let pick = |(database, key): (u32, Vec<u8>)| {
            let entry = self.keyspace.entry_at(database, &key, clock_ms);
            let value = entry.map(|entry| (entry.value.clone(), entry.expire_at_ms, entry.version));
            Picked { database, key, value }
        };
        keys.into_iter().map(pick).collect()
    }

    /// The last word of the source: `SEAL`, of slots that are frozen. `clock_ms` is the group's present clock.
    pub fn seal_of(&self, attempt: u64, clock_ms: u64) -> Option<Argv> {
        let frozen = self.frozen().filter(|frozen| frozen.attempt == attempt)?;
        let mut versions = Vec::new();
        for slot in frozen.range.first..=frozen.range.last {
            let (counter, removed) = self.keyspace.slot_versions(slot);
            crate::snapshot::numbers::put(counter, &mut versions);
            crate::snapshot::numbers::put(removed, &mut versions);
        }
        let clock_ms = clock_ms.max(self.keyspace.now_ms());
        // As text it has the form of every other number.
        let digest = self.keyspace.digest_of_slots(frozen.range, frozen.clock_ms);
        let sessions = self.sessions.depart(frozen.range);
        let numbers = [attempt, clock_ms, frozen.clock_ms, digest & (u64::MAX >> 1)].map(|n| n.to_string());
        let [attempt, clock, frozen, digest] = numbers.each_ref().map(|n| n.as_bytes());
        Some(Argv::from_parts(&[NAME.as_bytes(), b"SEAL", attempt, clock, frozen, digest, &versions, &sessions]))
    }
}
