//! What a group takes in of slots that are to become its own.
//!
//! Keys wait here, beside the keyspace, where no command, no clock and no eviction reaches them, until all have come
//! and the switch is decided. They are state: in the snapshot and in the digest.
//!
//! Keys of ordinary size stand as bytes in a tree, which is copied in no time; a large value is made as its parts
//! come, which are kept until it is whole: a snapshot holds them, and whoever restores it makes the same.
//!
//! Invariant: while the first keys are in the keyspace already and the last are not, all of them stand here too, and
//! a snapshot leaves those in the keyspace out.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::arriving::Arriving;
use super::parcel::{Begin, Parcel, Record, Sent};
use super::part::Joined;
use super::{Range, refused};
use crate::keyspace::{Restored, Trash, key_print, print_in};
use crate::sequence::Tree;
use crate::snapshot::numbers;
use crate::{Error, Keyspace, Value, codec, payload};

/// A database and a key.
type At = (u32, Vec<u8>);

/// A large value that was taken in.
#[derive(Debug)]
pub(super) struct Large {
    pub(super) begin: Begin,
    pub(super) value: Value,
    /// Its key's fingerprint.
    print: u64,
}

/// One that comes.
#[derive(Debug)]
struct Begun {
    begin: Begin,
    joined: Joined,
    parts: Vec<Bytes>,
    /// A hash of all of it.
    print: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Incoming {
    attempt: u64,
    range: Range,
    /// The number of the next parcel.
    next: u64,
    begun: Option<Begun>,
    /// Of each key what [`front`] gives, then a [`Tail`].
    small: Tree,
    large: BTreeMap<At, Arc<Large>>,
    /// The sum of the prints of all keys.
    sum: u64,
    sealed: Option<Sealed>,
    /// How many of the small ones are in the keyspace; nothing before it is decided that all are to be.
    owned: Option<u64>,
    /// None of the small ones is gone before. Not of the state.
    gone_from_ms: u64,
    /// What takes time to free. Not of the state.
    dropped: Vec<Trash>,
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

/// Attempt, range, next parcel, seal, keys that are owned.
pub(crate) type Head = (u64, Range, u64, Option<Sealed>, Option<u64>);

/// What is behind the key of a small one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Tail {
    /// Its share of the sum.
    share: u64,
    /// From when on it is gone.
    gone_ms: u64,
    pub(super) sent: Sent,
}

/// What an item begins with, and no other.
fn front(database: u32, key: &[u8]) -> Vec<u8> {
    let mut front = database.to_be_bytes().to_vec();
    front.extend_from_slice(&(key.len() as u64).to_be_bytes());
    front.extend_from_slice(key);
    front
}

/// Database, key and the rest of an item.
pub(super) fn split(item: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (database, rest) = item.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(usize::try_from(u64::from_be_bytes(*len)).ok()?)?;
    Some((u32::from_be_bytes(*database), key, rest))
}

pub(super) fn tail<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> T {
    codec::read(bytes, "key").expect("it was written here").0
}

impl Incoming {
    /// Nothing has come yet.
    pub(crate) fn new(attempt: u64, range: Range) -> Incoming {
        let (small, large) = (Tree::default(), BTreeMap::new());
        let (begun, sealed, owned, dropped) = (None, None, None, Vec::new());
        let gone_from_ms = u64::MAX;
        Incoming { attempt, range, next: 0, begun, small, large, sum: 0, sealed, owned, gone_from_ms, dropped }
    }

    /// What is to be freed somewhere else.
    pub(crate) fn take_dropped(&mut self) -> Vec<Trash> {
        std::mem::take(&mut self.dropped)
    }

    /// The value that comes is not gone on with.
    fn drop_begun(&mut self) {
        self.dropped.extend(self.begun.take().map(|begun| Box::new(begun) as Trash));
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

    /// Whether it is decided that all of it becomes the keyspace's.
    pub(crate) fn is_owned(&self) -> bool {
        self.owned.is_some()
    }

    fn remove(&mut self, database: u32, key: &[u8]) {
        let front = front(database, key);
        if let Some((at, item)) = self.small.find(&front) {
            let share: u64 = tail(&item[front.len()..]);
            self.sum = self.sum.wrapping_sub(share);
            self.small.remove(at);
        }
        if let Some(large) = self.large.remove(&(database, key.to_vec())) {
            self.sum = self.sum.wrapping_sub(print_in(database, large.print));
            self.dropped.push(Box::new(large));
        }
    }

    /// Takes a parcel in, unless it has come before; gives the number of the next.
    ///
    /// # Errors
    /// When one in front of it has not come. Nothing has changed.
    pub(crate) fn load(&mut self, number: u64, bytes: Bytes, databases: u32) -> Result<Option<u64>, Error> {
        if number < self.next {
            return Ok(Some(self.next));
        }
        if number > self.next || self.is_sealed() {
            return Err(refused("ERR a parcel of a move is out of order"));
        }
        if self.take(bytes, databases).is_none() {
            return Ok(None);
        }
        self.next += 1;
        Ok(Some(self.next))
    }

    /// Whether a key may come.
    fn expects(&self, database: u32, key: &[u8], databases: u32) -> bool {
        database < databases && self.range.holds(crate::slot(key))
    }

    fn take(&mut self, bytes: Bytes, databases: u32) -> Option<()> {
        match Parcel::read(bytes)? {
            Parcel::Records(records) => {
                // One that was begun was written meanwhile.
                self.drop_begun();
                records.into_iter().try_for_each(|record| {
                    self.expects(record.database, &record.key, databases).then(|| self.take_small(record))?
                })
            }
            Parcel::Part(begin, part, is_last) => {
                if let Some(begin) = begin {
                    if !self.expects(begin.database, &begin.key, databases) {
                        return None;
                    }
                    self.drop_begun();
                    self.remove(begin.database, &begin.key);
                    let joined = Joined::new(begin.kind, begin.origin)?;
                    let print = xxh3_64(&codec::bytes(&begin));
                    self.begun = Some(Begun { begin, joined, parts: Vec::new(), print });
                }
                let begun = self.begun.as_mut()?;
                begun.joined.take(part.clone())?;
                begun.print = xxh3_64_with_seed(&part, begun.print);
                begun.parts.push(part);
                if is_last { self.take_large() } else { Some(()) }
            }
        }
    }

    fn take_small(&mut self, Record { database, key, sent }: Record) -> Option<()> {
        self.remove(database, &key);
        let Some(sent) = sent else { return Some(()) };
        let value = sent.value()?;
        let print = key_print(&key, payload::hash(&value, false), sent.expire_at_ms, sent.version);
        let gone_ms = value.gone_at().into_iter().chain(sent.expire_at_ms).min().unwrap_or(u64::MAX);
        let share = print_in(database, print);
        self.sum = self.sum.wrapping_add(share);
        self.gone_from_ms = self.gone_from_ms.min(gone_ms);
        let mut item = front(database, &key);
        codec::put(&Tail { share, gone_ms, sent }, &mut item);
        self.small.insert(self.small.lower_bound(&item), &item);
        Some(())
    }

    fn take_large(&mut self) -> Option<()> {
        let Begun { begin, joined, parts, .. } = self.begun.take()?;
        self.dropped.push(Box::new(parts));
        let (value, hash) = joined.finish()?;
        if payload::origin(&value) != begin.origin {
            return None;
        }
        let print = key_print(&begin.key, hash, begin.expire_at_ms, begin.version);
        self.sum = self.sum.wrapping_add(print_in(begin.database, print));
        self.large.insert((begin.database, begin.key.clone()), Arc::new(Large { begin, value, print }));
        Some(())
    }

    /// The keys that are gone at a time.
    fn due(&self, at_ms: u64) -> Vec<At> {
        let any = self.gone_from_ms <= at_ms;
        let small = self.small.iter().take_while(|_| any).filter_map(|item| {
            let (database, key, rest) = split(item)?;
            let (_, gone_ms): (u64, u64) = tail(rest);
            (gone_ms <= at_ms).then(|| (database, key.to_vec()))
        });
        let is_due =
            |large: &Large| large.begin.expire_at_ms.is_some_and(|at| at <= at_ms) || large.value.is_gone(at_ms);
        small.chain(self.large.iter().filter(|(_, large)| is_due(large)).map(|(at, _)| at.clone())).collect()
    }

    /// Nothing more comes, at this index of the log: checks that what has come is what the source has. Of the numbers
    /// the first is the source's clock, then come its clock at the freeze and the digest.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn seal(
        &mut self,
        index: u64,
        (clock_ms, frozen_ms, digest): (u64, u64, u64),
        mut versions: &[u8],
        sessions: &[u8],
    ) -> Result<(), Error> {
        if self.is_sealed() {
            return Ok(());
        }
        self.drop_begun();
        self.due(frozen_ms).iter().for_each(|(database, key)| self.remove(*database, key));
        if self.sum & (u64::MAX >> 1) != digest {
            return Err(refused("ERR what has come of the slots is not what their owner has"));
        }
        let mut next = || numbers::take(&mut versions).filter(|n| *n < numbers::MAX);
        let counters = (self.range.first..=self.range.last).map(|_| Some((next()?, next()?)));
        let versions = counters.collect::<Option<Vec<_>>>();
        let versions = versions.ok_or_else(|| refused("ERR the versions of the slots are damaged"))?;
        self.sealed = Some(Sealed { index, clock_ms, versions, sessions: sessions.to_vec() });
        Ok(())
    }

    fn refill(&self, keys: &mut Keyspace, from: u64, to: u64) {
        for item in self.small.iter_from(from).take((to - from) as usize) {
            let (database, key, rest) = split(item).expect("it was written here");
            let Tail { sent, .. } = tail(rest);
            let value = sent.value().expect("it was read before");
            let (expire_at_ms, version) = (sent.expire_at_ms, sent.version);
            keys.refill(database, key, Restored { value, expire_at_ms, version, print: None });
        }
    }

    /// At most `limit` keys more become the keyspace's own, in the last step the large ones as well; gives how many
    /// steps are left, about. It must be sealed.
    pub(crate) fn own_some(&mut self, keys: &mut Keyspace, limit: u64) -> u64 {
        let sealed = self.sealed.as_ref().expect("only what is sealed is owned");
        let from = self.owned.unwrap_or_else(|| {
            for (slot, (counter, removed)) in (self.range.first..=self.range.last).zip(&sealed.versions) {
                keys.refill_slot(slot, *counter, *removed);
            }
            0
        });
        let to = self.small.len().min(from + limit);
        self.refill(keys, from, to);
        self.owned = Some(to);
        (self.small.len() - to).div_ceil(limit)
    }

    /// What was owned before a snapshot was taken is owned again.
    pub(crate) fn own_again(&self, keys: &mut Keyspace) {
        self.refill(keys, 0, self.owned.unwrap_or(0));
    }

    /// All keys but the large ones are owned: these, too. Gives the rest.
    pub(crate) fn settle(&mut self, keys: &mut Keyspace) -> Sealed {
        for ((database, key), large) in std::mem::take(&mut self.large) {
            let (expire_at_ms, version, print) = (large.begin.expire_at_ms, large.begin.version, Some(large.print));
            // Only a snapshot that is being taken shares it: a collection is copied in no time, a text is copied.
            let value = Arc::try_unwrap(large).map_or_else(|shared| shared.value.clone(), |own| own.value);
            keys.refill(database, &key, Restored { value, expire_at_ms, version, print });
        }
        self.sealed.take().expect("only what is sealed is owned")
    }

    /// A hash of all of it.
    pub(crate) fn digest(&self) -> u64 {
        let count = self.small.len() + self.large.len() as u64;
        let begun = self.begun.as_ref().map(|begun| begun.print);
        let all = (self.attempt, self.range, self.next, self.sum, count, codec::bytes(&self.sealed), begun, self.owned);
        xxh3_64(&codec::bytes(&all))
    }

    /// All but the keys.
    pub(crate) fn head(&self) -> Head {
        (self.attempt, self.range, self.next, self.sealed.clone(), self.owned)
    }

    /// The keys as they are now; cheap, and unharmed by what comes later.
    pub(crate) fn capture(&self) -> Arriving {
        let begun = self.begun.as_ref().map(|begun| (begun.begin.clone(), begun.parts.iter().cloned().collect()));
        let large = self.large.values().cloned().collect();
        Arriving { small: self.small.clone(), at: 0, large, cursor: None, payload: None, begun }
    }

    /// Makes it again from a snapshot.
    pub(crate) fn restore(head: Head, keys: &[Vec<u8>], databases: u32) -> Result<Incoming, String> {
        let mut incoming = Incoming::new(head.0, head.1);
        for bytes in keys {
            incoming.take(bytes.clone().into(), databases).ok_or("keys of a move are damaged")?;
        }
        (incoming.next, incoming.sealed, incoming.owned) = (head.2, head.3, head.4);
        if incoming.owned.is_some_and(|count| count > incoming.small.len() || incoming.sealed.is_none()) {
            return Err("keys of a move are missing".into());
        }
        Ok(incoming)
    }
}
