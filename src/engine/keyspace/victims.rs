//! Which keys give way when memory is short: chosen by a leader, outside of the state.
//!
//! As in Redis: some keys are drawn at random, those that deserve to go stand in a small pool from one choice to
//! the next, and the one that deserves it most goes first. The keys with the nearest deadlines need no drawing:
//! there is an index of deadlines. What is chosen here is proposed as [`crate::evict`], and only the entry
//! removes it.
//!
//! Invariant: a choice changes nothing in the keyspace.

use super::access::is_lfu;
use super::entry::Entry;
use super::order::pick;
use super::{Keyspace, Place};
use crate::{Rng, Settings};

/// Keys that are remembered from one choice to the next, as in Redis.
const POOL_MAX: usize = 16;
/// Keys with deadlines are drawn from all keys when at least one in so many has one.
const RARE: u64 = 16;
/// Draws that may miss before the index of deadlines is walked instead.
const DRAWS_MAX: u32 = 64;
/// The walk leaves out fewer keys than this between two.
const STRIDE: u64 = 8;

/// A key that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Its numbered database.
    pub database: u32,
    /// The key.
    pub key: Vec<u8>,
    /// What it was when it was chosen: a key that was written since is no victim.
    pub version: u64,
    /// Bytes that it takes by our own count.
    pub bytes: u64,
}

#[derive(Debug)]
struct Candidate {
    victim: Victim,
    rest: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Rest,
    Random,
    Deadline,
}

/// What `maxmemory-policy` says: only keys with a deadline or all, and by what. Nothing for `noeviction`.
fn policy(settings: &Settings) -> Option<(bool, By)> {
    match settings.maxmemory_policy {
        0 | 1 => Some((true, By::Rest)),
        2 => Some((true, By::Random)),
        3 => Some((true, By::Deadline)),
        4 | 5 => Some((false, By::Rest)),
        6 => Some((false, By::Random)),
        _ => None,
    }
}

/// Chooses, and remembers what it saw.
#[derive(Debug)]
pub struct Victims {
    rng: Rng,
    pool: Vec<Candidate>,
    /// Whether the pool goes by frequency.
    lfu: bool,
    /// Where the walk through the deadlines of each database stands.
    walks: Vec<(u64, Place)>,
}

impl Keyspace {
    /// Whether the policy that holds lets keys give way.
    pub fn evicts(&self) -> bool {
        policy(&self.settings).is_some()
    }
}

impl Victims {
    /// `seed` is for the draws.
    pub fn new(seed: u64) -> Victims {
        Victims { rng: Rng::new(seed), pool: Vec::new(), lfu: false, walks: Vec::new() }
    }

    /// Keys that free about `bytes`, the first to go in front, at most `keys_max`; nothing when the policy allows
    /// none. For each of them `samples` are looked at.
    pub fn choose(&mut self, keyspace: &Keyspace, samples: u32, bytes: u64, keys_max: usize) -> Vec<Victim> {
        let Some((mortal, by)) = policy(keyspace.settings()) else { return Vec::new() };
        self.walks.resize(keyspace.databases.len(), (0, Place::MIN));
        if is_lfu(keyspace.settings()) != self.lfu {
            self.lfu = !self.lfu;
            self.pool.clear();
        }
        if by == By::Deadline {
            return soonest(keyspace, bytes, keys_max);
        }
        let (mut chosen, mut freed, mut left) = (Vec::new(), 0, keys_max.saturating_mul(2) + DRAWS_MAX as usize);
        while freed < bytes && chosen.len() < keys_max && left > 0 {
            left -= 1;
            let next = match by {
                By::Random => self.draw(keyspace, mortal).map(|(database, entry)| victim(database, entry)),
                By::Rest | By::Deadline => self.most_rested(keyspace, mortal, samples),
            };
            let Some(next) = next.filter(|next| !is_among(&chosen, next)) else { continue };
            freed += next.bytes;
            chosen.push(next);
        }
        chosen
    }

    /// Fills the pool and takes the best of it that still is what it was.
    fn most_rested(&mut self, keyspace: &Keyspace, mortal: bool, samples: u32) -> Option<Victim> {
        for _ in 0..samples.max(1) {
            let Some((database, entry)) = self.draw(keyspace, mortal) else { break };
            let rest = keyspace.rest_of(entry);
            let is_known = self.pool.iter().any(|c| c.victim.database == database && c.victim.key == entry.key.bytes());
            let is_full = self.pool.len() >= POOL_MAX;
            if !is_known && (!is_full || self.pool.first().is_some_and(|least| least.rest < rest)) {
                if is_full {
                    self.pool.remove(0);
                }
                let at = self.pool.partition_point(|other| other.rest <= rest);
                self.pool.insert(at, Candidate { victim: victim(database, entry), rest });
            }
        }
        while let Some(Candidate { victim: old, rest }) = self.pool.pop() {
            let entry = keyspace.live(old.database, &old.key).filter(|entry| keyspace.rest_of(entry) >= rest);
            if let Some(entry) = entry.filter(|entry| !mortal || entry.deadline().is_some()) {
                return Some(victim(old.database, entry));
            }
        }
        None
    }

    /// A random key.
    fn draw<'a>(&mut self, keyspace: &'a Keyspace, mortal: bool) -> Option<(u32, &'a Entry)> {
        let count = |number: usize| {
            let database = &keyspace.databases[number];
            if mortal { database.expires() } else { database.len() }
        };
        let all: u64 = (0..keyspace.databases.len()).map(count).sum();
        let mut nth = (all > 0).then(|| self.rng.below(all))?;
        let number = (0..keyspace.databases.len()).find(|number| {
            let here = nth < count(*number);
            nth -= if here { 0 } else { count(*number) };
            here
        })?;
        let database = &keyspace.databases[number];
        if !mortal || database.expires().saturating_mul(RARE) >= database.len() {
            for _ in 0..DRAWS_MAX {
                let (slot, _) = database.slot_of_nth(self.rng.below(database.len()))?;
                let entry = pick(database.table(slot)?, &mut self.rng);
                if !entry.is_due(keyspace.now_ms) && (!mortal || entry.deadline().is_some()) {
                    return Some((number as u32, entry));
                }
            }
        }
        self.walk(keyspace, number).filter(|_| mortal).map(|entry| (number as u32, entry))
    }

    /// The next key in the order of deadlines, or one a little further on, and so around again and again.
    fn walk<'a>(&mut self, keyspace: &'a Keyspace, number: usize) -> Option<&'a Entry> {
        let database = &keyspace.databases[number];
        let skipped = self.rng.below(STRIDE) as usize;
        let (deadline, place) =
            database.deadlines_from(self.walks[number]).chain(database.deadlines_from((0, Place::MIN))).nth(skipped)?;
        self.walks[number] = (deadline, Place(place.0.wrapping_add(1)));
        let entry = database.table(place.slot())?.at(database.first_with(deadline, place)?);
        (!entry.is_due(keyspace.now_ms)).then_some(entry)
    }
}

fn victim(database: u32, entry: &Entry) -> Victim {
    Victim { database, key: entry.key.bytes().to_vec(), version: entry.version, bytes: entry.memory_bytes() }
}

/// Keys are chosen in one go, so they are few.
fn is_among(chosen: &[Victim], victim: &Victim) -> bool {
    chosen.iter().any(|other| other.key == victim.key && other.database == victim.database)
}

/// The keys with the nearest deadlines.
fn soonest(keyspace: &Keyspace, bytes: u64, keys_max: usize) -> Vec<Victim> {
    let mut orders: Vec<_> =
        keyspace.databases.iter().map(|d| d.deadlines_from((keyspace.now_ms + 1, Place::MIN)).peekable()).collect();
    let (mut chosen, mut freed) = (Vec::new(), 0);
    while freed < bytes && chosen.len() < keys_max {
        let first = (0..orders.len()).filter_map(|number| Some((*orders[number].peek()?, number))).min();
        let Some(((deadline, place), number)) = first else { break };
        orders[number].next();
        let database = &keyspace.databases[number];
        let Some(table) = database.table(place.slot()) else { continue };
        for (_, entry) in table.with_hash(place.hash()).filter(|(_, entry)| entry.expire_at_ms == deadline) {
            let next = victim(number as u32, entry);
            freed += next.bytes;
            chosen.push(next);
        }
    }
    chosen
}
