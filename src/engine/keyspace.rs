//! A group's keys: databases, slots, deadlines, versions, memory and digest.
//!
//! Step 8 of a command's way: commands change and read keys here, and nothing else does. Every key is
//! in a table of its slot; the tables order keys by a keyed hash, so the order is a function of the
//! keys alone and survives restart, restore and failover without being stored.
//!
//! Invariants:
//! * A key whose deadline is at or before the applied clock is gone for every reader at once. It is removed by a
//!   later entry, in the order (deadline, database, slot, hash, key), and before any write to the same key.
//! * Every change of an entry takes a new version, is counted in its database's account, and is
//!   announced to a running cut first.
//! * Reads change nothing.

mod access;
mod account;
mod awaited;
mod changes;
mod count;
mod cut;
mod database;
mod due;
mod entry;
mod fields;
mod journal;
mod leaf;
mod order;
mod scrub;
mod slots;
mod state;
mod table;
mod tracked;
mod undo;
mod versions;
mod victims;
mod warm;

pub use changes::Changes;
pub(crate) use cut::{CutEntry, Flow};
pub use scrub::{Flaw, Scrub};
pub use slots::{SLOTS, slot};
pub(crate) use slots::{SumPlace, key_print, print_in};
pub use state::Garbage;
pub(crate) use state::{Restored, Trash};
pub use victims::{Victim, Victims};

use siphasher::sip::SipHasher13;

use crate::events::{Class, Events, Outbox};
use crate::moves::Moves;
use crate::script::{Bodies, Libraries};
use crate::{Settings, Value};
use access::Access;
use account::Opened;
use awaited::Awaited;
use cut::{Cut, Wanted};
use database::Database;
use entry::{Entry, Key, NEVER};
use journal::Journal;
use table::Pos;
use tracked::Tracked;
use undo::Undo;
use versions::Versions;
pub use warm::WARM_MAX;

/// Where a key is in the order of its database: slot, then hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u64);

impl Place {
    const MIN: Place = Place(0);
    const MAX: Place = Place(u64::MAX);

    fn new(slot: u16, hash: u32) -> Place {
        Place(u64::from(slot) << 32 | u64::from(hash))
    }

    fn slot(self) -> u16 {
        (self.0 >> 32) as u16
    }

    fn hash(self) -> u32 {
        self.0 as u32
    }
}

/// A deadline as an entry holds it. RDB has 63 bits for it.
fn stored(expire_at_ms: Option<u64>) -> u64 {
    expire_at_ms.map_or(NEVER, |at| at.min(i64::MAX.cast_unsigned()))
}

/// A look at one key.
#[derive(Debug)]
pub struct EntryRef<'a> {
    /// The value.
    pub value: &'a Value,
    /// When it expires, group clock in Unix milliseconds.
    pub expire_at_ms: Option<u64>,
    /// Changes with every write to the key.
    pub version: u64,
}

impl EntryRef<'_> {
    /// When the key or the first of its parts expires.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.expire_at_ms.into_iter().chain(self.value.next_deadline()).min()
    }

    fn new(entry: &Entry) -> EntryRef<'_> {
        EntryRef { value: &entry.value, expire_at_ms: entry.deadline(), version: entry.version }
    }
}

/// A change in place. Accounting (digest, memory, version) happens when it is dropped.
#[derive(Debug)]
pub struct Edit<'a>(Opened<'a>);

impl std::ops::Deref for Edit<'_> {
    type Target = Value;
    fn deref(&self) -> &Value {
        &self.0.entry.value
    }
}

impl std::ops::DerefMut for Edit<'_> {
    fn deref_mut(&mut self) -> &mut Value {
        &mut self.0.entry.value
    }
}

/// All keys of a group, over all numbered databases.
#[derive(Debug)]
pub struct Keyspace {
    now_ms: u64,
    seed: [u64; 2],
    hasher: SipHasher13,
    databases: Vec<Database>,
    versions: Versions,
    /// Keys that were removed because they were due.
    expired: u64,
    settings: Settings,
    cut: Option<Box<Cut>>,
    journal: Option<Box<Journal>>,
    awaited: Option<Box<Awaited>>,
    changing: Option<Box<changes::Changing>>,
    undo: Option<Box<Undo>>,
    events: Events,
    outbox: Outbox,
    scripts: Bodies,
    libraries: Libraries,
    /// The slots that the group owns, as inclusive ranges; nothing when it owns all.
    slots: Option<Box<[(u16, u16)]>>,
    /// Slots on their way; nothing in a group that never gave or took one.
    moves: Option<Box<Moves>>,
    tracked: Option<Box<Tracked>>,
    garbage: Garbage,
    access: Access,
    /// A command of an entry is running.
    applying: bool,
}

impl Keyspace {
    /// An empty keyspace. `hash_seed` keys the hash function; it is part of the group's state.
    ///
    /// # Panics
    /// When there is no database or more than 65536.
    pub fn new(hash_seed: [u64; 2], databases: u32) -> Keyspace {
        assert!((1..=1 << 16).contains(&databases), "{databases} databases");
        Keyspace {
            now_ms: 0,
            seed: hash_seed,
            hasher: SipHasher13::new_with_keys(hash_seed[0], hash_seed[1]),
            databases: (0..databases).map(|_| Database::default()).collect(),
            versions: Versions::new(databases),
            expired: 0,
            settings: Settings::default(),
            cut: None,
            journal: None,
            awaited: None,
            changing: None,
            undo: None,
            events: Events::default(),
            outbox: Outbox::default(),
            scripts: Bodies::default(),
            libraries: Libraries::default(),
            slots: None,
            moves: None,
            tracked: None,
            garbage: Garbage::default(),
            access: Access::default(),
            applying: false,
        }
    }

    fn place(&self, key: &[u8]) -> Place {
        Place::new(slot(key), (self.hasher.hash(key) >> 32) as u32)
    }

    /// What keys the hash function.
    pub fn hash_seed(&self) -> [u64; 2] {
        self.seed
    }

    /// The applied clock: what is due by it is gone for everybody.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The number of databases.
    pub fn databases(&self) -> u32 {
        self.databases.len() as u32
    }

    fn find(&self, database: u32, key: &[u8]) -> Option<&Entry> {
        let database = &self.databases[database as usize];
        if database.len() == 0 {
            return None;
        }
        let place = self.place(key);
        let table = database.table(place.slot())?;
        table.get(place.hash(), key)
    }

    fn live(&self, database: u32, key: &[u8]) -> Option<&Entry> {
        self.find(database, key).filter(|entry| !entry.is_due(self.now_ms))
    }

    /// The key, unless it is absent or due; looking at it is no use of it. `database` must exist (SELECT checked
    /// it).
    pub fn entry(&self, database: u32, key: &[u8]) -> Option<EntryRef<'_>> {
        self.live(database, key).map(EntryRef::new)
    }

    /// The key's value, unless it is absent or due; the key counts as used. Fields of a hash may be due: see
    /// [`Keyspace::now_ms`].
    pub fn value(&self, database: u32, key: &[u8]) -> Option<&Value> {
        let entry = self.live(database, key)?;
        self.touch_access(entry);
        Some(&entry.value)
    }

    /// Finds a key that is to be written; one that is due is removed first and counts as absent.
    fn find_to_write(&mut self, database: u32, place: Place, key: &[u8]) -> Option<Pos> {
        let index = self.databases[database as usize].find(place, key)?;
        if self.databases[database as usize].at(place.slot(), index).is_due(self.now_ms) {
            self.expire(database, place.slot(), index);
            return None;
        }
        Some(index)
    }

    /// Removes a key whose value nobody wants but a running cut.
    fn discard(&mut self, database: u32, slot: u16, index: Pos) {
        let wanted = self.wanted(database, slot, index);
        if self.undo.is_some() {
            let key = self.databases[database as usize].at(slot, index).key.clone();
            self.note_before(database, key.bytes());
        }
        self.versions.remove(slot);
        let entry = self.databases[database as usize].remove(slot, index);
        self.touch(database, entry.key.bytes());
        self.keep(wanted, entry.value);
    }

    /// Whether a running cut needs the value of an entry that is about to change.
    fn wanted(&self, database: u32, slot: u16, index: Pos) -> Option<Wanted> {
        let cut = self.cut.as_deref()?;
        cut.wants(database, slot, self.databases[database as usize].at(slot, index))
    }

    fn keep(&mut self, wanted: Option<Wanted>, value: Value) {
        match (wanted, &mut self.cut) {
            (Some(wanted), Some(cut)) => cut.keep(wanted, value),
            _ => self.throw_value_away(value),
        }
    }

    /// Gives a running cut a copy of a value that is about to change in place.
    fn keep_copy(&mut self, database: u32, slot: u16, index: Pos) {
        if let Some(wanted) = self.wanted(database, slot, index) {
            let value = self.databases[database as usize].at(slot, index).value.clone();
            self.keep(Some(wanted), value);
        }
    }

    /// A value to change in place; a new version whether or not it changes.
    pub fn edit(&mut self, database: u32, key: &[u8]) -> Option<Edit<'_>> {
        let place = self.place(key);
        let index = self.find_to_write(database, place, key)?;
        self.keep_copy(database, place.slot(), index);
        self.touch(database, key);
        self.touch_access(self.databases[database as usize].at(place.slot(), index));
        let version = self.versions.write(place.slot());
        Some(Edit(self.databases[database as usize].open(place.slot(), index, version)))
    }

    /// Stores a value under a key, replacing what was there together with its deadline.
    pub fn set(&mut self, database: u32, key: &[u8], value: Value, expire_at_ms: Option<u64>) {
        let place = self.place(key);
        let slot = place.slot();
        let expire_at_ms = stored(expire_at_ms);
        let found = self.find_to_write(database, place, key);
        self.touch(database, key);
        match found {
            Some(index) => {
                let wanted = self.wanted(database, slot, index);
                self.touch_access(self.databases[database as usize].at(slot, index));
                let version = self.versions.write(slot);
                let old = self.databases[database as usize].replace(slot, index, value, expire_at_ms, version);
                self.keep(wanted, old);
            }
            None => {
                let version = self.versions.write(slot);
                let used = self.access.new_stamp();
                let entry = Entry {
                    key: Key::new(key),
                    value,
                    expire_at_ms,
                    version,
                    print: 0,
                    hash: place.hash(),
                    next: 0,
                    used,
                };
                self.databases[database as usize].insert(slot, entry);
                self.notify(Class::New, "new", database, key);
            }
        }
    }

    /// Changes or removes a deadline; false when the key is absent. For one in the past the caller removes the key.
    pub fn set_expire(&mut self, database: u32, key: &[u8], expire_at_ms: Option<u64>) -> bool {
        let place = self.place(key);
        let Some(index) = self.find_to_write(database, place, key) else { return false };
        self.keep_copy(database, place.slot(), index);
        self.touch(database, key);
        let version = self.versions.write(place.slot());
        let expire_at_ms = stored(expire_at_ms);
        self.databases[database as usize].set_deadline(place.slot(), index, expire_at_ms, version);
        true
    }

    /// Takes a key out, with its deadline; nothing when it is absent or due.
    pub fn remove(&mut self, database: u32, key: &[u8]) -> Option<(Value, Option<u64>)> {
        let place = self.place(key);
        let index = self.find_to_write(database, place, key)?;
        self.keep_copy(database, place.slot(), index);
        self.touch(database, key);
        self.versions.remove(place.slot());
        let entry = self.databases[database as usize].remove(place.slot(), index);
        let deadline = entry.deadline();
        Some((entry.value, deadline))
    }

    /// Removes a key; false when it is absent or due. Cheaper than [`Keyspace::remove`] while a snapshot is taken.
    pub fn delete(&mut self, database: u32, key: &[u8]) -> bool {
        let place = self.place(key);
        let found = self.find_to_write(database, place, key);
        found.inspect(|&index| self.discard(database, place.slot(), index)).is_some()
    }

    /// The version that WATCH compares: of the key, or for an absent one of its slot's last removal.
    pub fn version(&self, database: u32, key: &[u8]) -> u64 {
        let entry = self.find(database, key).map(|entry| entry.seen(self.now_ms));
        self.versions.seen(database, slot(key), entry)
    }

    /// Removes all keys of a database; returns how many. Takes no longer for many keys than for few: the
    /// memory is freed later, by [`Keyspace::collect_garbage`] or [`Keyspace::take_garbage`].
    pub fn clear(&mut self, database: u32) -> u64 {
        self.touch_all(database);
        let old = std::mem::take(&mut self.databases[database as usize]);
        let count = old.len();
        old.slots().for_each(|slot| self.versions.remove(slot));
        let unused = match &mut self.cut {
            Some(cut) => cut.detach(database as usize, old),
            None => Some(old),
        };
        self.garbage.databases.extend(unused.filter(|old| old.len() > 0));
        count
    }

    /// Exchanges two databases (SWAPDB). Aborts every transaction that watches a key in either.
    pub fn swap(&mut self, one: u32, other: u32) {
        if one == other {
            return;
        }
        self.touch_both(one, other);
        self.databases.swap(one as usize, other as usize);
        self.versions.exchange(one);
        self.versions.exchange(other);
        if let Some(cut) = &mut self.cut {
            cut.exchanged(one as usize, other as usize);
        }
    }
}

#[cfg(test)]
mod tests;
