//! What a group takes in of slots that are to become its own.
//!
//! Keys wait here, beside the keyspace, where no command, no clock and no eviction reaches them, until all have come
//! and the switch is decided. They are state: in the snapshot and in the digest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::parcel::{Record, Sent};
use super::{Range, refused};
use crate::keyspace::slots_print;
use crate::snapshot::numbers;
use crate::{Error, Keyspace, Value, codec};

/// A key that was taken in.
#[derive(Debug)]
struct Waiting {
    value: Value,
    expire_at_ms: Option<u64>,
    version: u64,
    print: u64,
}

/// A database and a key.
type At = (u32, Vec<u8>);

/// See the module.
#[derive(Debug)]
pub(crate) struct Incoming {
    attempt: u64,
    range: Range,
    /// The number of the next parcel.
    next: u64,
    /// The beginning of a long value whose end has not come.
    begun: Vec<u8>,
    keys: BTreeMap<At, Arc<Waiting>>,
    /// The sum of their prints.
    sum: u64,
    sealed: Option<Sealed>,
}

/// What goes with the keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sealed {
    /// The index of the seal: until then nothing is told here of the slots.
    pub(crate) index: u64,
    /// The source's clock: before it serves, the target's is no less.
    pub(crate) clock_ms: u64,
    /// The counter and the last removal of each slot.
    versions: Vec<(u64, u64)>,
    /// What the source's sessions know of the slots.
    pub(crate) sessions: Vec<u8>,
}

/// Attempt, range, next parcel, begun value, seal.
pub(crate) type Head = (u64, Range, u64, Vec<u8>, Option<Sealed>);

impl Incoming {
    /// Nothing has come yet.
    pub(crate) fn new(attempt: u64, range: Range) -> Incoming {
        Incoming { attempt, range, next: 0, begun: Vec::new(), keys: BTreeMap::new(), sum: 0, sealed: None }
    }

    /// The number of the attempt.
    pub(crate) fn attempt(&self) -> u64 {
        self.attempt
    }

    /// The slots.
    pub(crate) fn range(&self) -> Range {
        self.range
    }

    /// Whether all has come.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    fn remove(&mut self, at: &At) {
        if let Some(old) = self.keys.remove(at) {
            self.sum = self.sum.wrapping_sub(old.print);
        }
    }

    /// Takes a parcel in, unless it has come before; gives the number of the next.
    ///
    /// # Errors
    /// When one in front of it has not come, or it is damaged.
    pub(crate) fn load(&mut self, number: u64, bytes: &[u8], databases: u32) -> Result<u64, Error> {
        if number < self.next {
            return Ok(self.next);
        }
        if number > self.next || self.is_sealed() {
            return Err(refused("ERR a parcel of a move is out of order"));
        }
        let damaged = || refused("ERR a parcel of a move is damaged");
        let (records, _): (Vec<Record>, usize) = codec::read(bytes, "parcel").map_err(|_| damaged())?;
        for record in records {
            self.take(record, databases).ok_or_else(damaged)?;
        }
        self.next += 1;
        Ok(self.next)
    }

    fn take(&mut self, record: Record, databases: u32) -> Option<()> {
        let (database, key, sent) = match record {
            Record::Begin(bytes) => {
                self.begun.extend_from_slice(&bytes);
                return Some(());
            }
            Record::Key { database, key, sent } => (database, key, sent),
        };
        if database >= databases || !self.range.holds(crate::slot(&key)) {
            return None;
        }
        let at = (database, key);
        self.remove(&at);
        if let Some(sent) = sent {
            let (expire_at_ms, version) = (sent.expire_at_ms, sent.version);
            let value = sent.value(std::mem::take(&mut self.begun))?;
            let print = slots_print(at.0, &at.1, &value, expire_at_ms, version);
            self.sum = self.sum.wrapping_add(print);
            self.keys.insert(at, Arc::new(Waiting { value, expire_at_ms, version, print }));
        }
        Some(())
    }

    /// Nothing more comes: checks that what has come is what the source has.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn seal(
        &mut self,
        index: u64,
        clock_ms: u64,
        frozen_ms: u64,
        digest: u64,
        mut versions: &[u8],
        sessions: &[u8],
    ) -> Result<(), Error> {
        if self.is_sealed() {
            return Ok(());
        }
        let is_due = |key: &Waiting| key.expire_at_ms.is_some_and(|at| at <= frozen_ms) || key.value.is_gone(frozen_ms);
        let due: Vec<_> = self.keys.iter().filter(|(_, key)| is_due(key)).map(|(at, _)| at.clone()).collect();
        due.iter().for_each(|at| self.remove(at));
        if self.sum & (u64::MAX >> 1) != digest || !self.begun.is_empty() {
            return Err(refused("ERR what has come of the slots is not what their owner has"));
        }
        let mut next = || numbers::take(&mut versions).filter(|n| *n < numbers::MAX);
        let counters = (self.range.first..=self.range.last).map(|_| Some((next()?, next()?)));
        let versions = counters.collect::<Option<Vec<_>>>();
        let versions = versions.ok_or_else(|| refused("ERR the versions of the slots are damaged"))?;
        self.sealed = Some(Sealed { index, clock_ms, versions, sessions: sessions.to_vec() });
        Ok(())
    }

    /// Everything becomes the keyspace's own; gives the rest. It must be sealed.
    pub(crate) fn settle(self, keys: &mut Keyspace) -> Sealed {
        let sealed = self.sealed.expect("only what is sealed is owned");
        for (slot, (counter, removed)) in (self.range.first..=self.range.last).zip(&sealed.versions) {
            keys.refill_slot(slot, *counter, *removed);
        }
        for ((database, key), waiting) in self.keys {
            let (expire_at_ms, version) = (waiting.expire_at_ms, waiting.version);
            let value = Arc::try_unwrap(waiting).map_or_else(|shared| shared.value.clone(), |own| own.value);
            keys.refill(database, &key, value, expire_at_ms, version);
        }
        sealed
    }

    /// A hash of all of it.
    pub(crate) fn digest(&self) -> u64 {
        let (count, sealed) = (self.keys.len() as u64, codec::bytes(&self.sealed));
        let text = codec::bytes(&(self.attempt, self.range, self.next, self.sum, count, sealed));
        xxhash_rust::xxh3::xxh3_64_with_seed(&text, xxhash_rust::xxh3::xxh3_64(&self.begun))
    }

    /// All but the keys.
    pub(crate) fn head(&self) -> Head {
        (self.attempt, self.range, self.next, self.begun.clone(), self.sealed.clone())
    }

    /// The keys as they are now; cheap, and unharmed by what comes later.
    pub(crate) fn capture(&self) -> Arriving {
        Arriving(self.keys.iter().map(|(at, key)| (at.clone(), key.clone())).collect())
    }

    /// Makes it again from a snapshot.
    pub(crate) fn restore(head: Head, keys: &[Vec<u8>], databases: u32) -> Result<Incoming, String> {
        let mut incoming = Incoming::new(head.0, head.1);
        for (number, bytes) in (0..).zip(keys) {
            incoming.load(number, bytes, databases).map_err(|_| "keys of a move are damaged")?;
        }
        (incoming.next, incoming.begun, incoming.sealed) = (head.2, head.3, head.4);
        Ok(incoming)
    }
}

/// Keys that were taken in, at one moment.
#[derive(Debug, Default)]
pub(crate) struct Arriving(VecDeque<(At, Arc<Waiting>)>);

impl Arriving {
    /// The next parcel, about `bytes` of it; nothing at the end.
    pub(crate) fn next(&mut self, bytes: usize) -> Option<Vec<u8>> {
        let mut records = Vec::new();
        let mut size = 0;
        while size < bytes {
            let Some(((database, key), waiting)) = self.0.pop_front() else { break };
            let sent = Sent::new(&waiting.value, waiting.expire_at_ms, waiting.version);
            size += key.len() + sent.bytes();
            records.push(Record::Key { database, key, sent: Some(sent) });
        }
        (!records.is_empty()).then(|| codec::bytes(&records))
    }
}
