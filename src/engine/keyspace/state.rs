//! The state as a whole: its digest, the settings, and the parts that a snapshot carries beside the keys.

use super::database::Database;
use super::entry::{Entry, Key};
use super::{Keyspace, Place, slot, stored};
use crate::events::{Events, Outbox};
use crate::script::{Bodies, Libraries};
use crate::{Settings, Value, payload};

/// Anything that takes time to free.
pub(crate) trait Thrown: std::fmt::Debug + Send + Sync {}

impl<T: std::fmt::Debug + Send + Sync> Thrown for T {}

/// Something to be freed somewhere else.
pub(crate) type Trash = Box<dyn Thrown>;

/// What nobody uses any more and takes time to free; dropping it is safe on any thread.
#[derive(Debug, Default)]
pub struct Garbage {
    pub(super) databases: Vec<Database>,
    pub(super) rest: Vec<Trash>,
}

impl Garbage {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.databases.is_empty() && self.rest.is_empty()
    }
}

/// What belongs to a key that comes from a snapshot or from another group.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) value: Value,
    pub(crate) expire_at_ms: Option<u64>,
    pub(crate) version: u64,
    /// The fingerprint, when it was taken of these bytes already.
    pub(crate) print: Option<u64>,
}

impl Keyspace {
    /// A hash of all that apply can see here: keys, values, deadlines, versions, clock, settings. Equal on
    /// replicas at the same log index. Costs a few microseconds and the hashing of large values that changed.
    pub fn digest(&mut self) -> u64 {
        let sums = self.sums();
        self.digest_of(&sums)
    }

    /// The sums of all databases, with what was not hashed yet.
    pub(super) fn sums(&mut self) -> Vec<u64> {
        let hasher = self.hasher;
        let place = |key: &[u8]| Place::new(slot(key), (hasher.hash(key) >> 32) as u32);
        self.databases.iter_mut().map(|d| d.sum(place)).collect()
    }

    /// [`Keyspace::digest`] computed from every entry: the check on the incremental one. Slow.
    pub fn digest_from_scratch(&self) -> u64 {
        let sums: Vec<u64> = self.databases.iter().map(Database::sum_from_scratch).collect();
        self.digest_of(&sums)
    }

    fn digest_of(&self, sums: &[u64]) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        let lens = self.databases.iter().flat_map(|d| [d.len(), d.expires()]);
        let rest = [
            self.now_ms,
            self.expired,
            self.seed[0],
            self.seed[1],
            self.versions.digest(),
            self.settings.digest(),
            self.scripts.digest(),
            self.libraries.digest(),
            self.outbox.digest(),
        ];
        let moves = self.moves().map(|moves| moves.digest(self.slots()));
        let all = sums.iter().copied().chain(lens).chain(rest).chain(moves);
        all.for_each(|n| hasher.update(&n.to_le_bytes()));
        hasher.digest()
    }

    /// The settings that commands go by.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the entry that is being applied has told.
    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    /// The same, to tell more.
    pub(crate) fn events_mut(&mut self) -> &mut Events {
        &mut self.events
    }

    /// What was published for channels of other groups and waits to be handed to them.
    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// The same, to change it.
    pub(crate) fn outbox_mut(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// The scripts that are known by their SHA1.
    pub(crate) fn scripts(&self) -> &Bodies {
        &self.scripts
    }

    /// The same, to change them.
    pub(crate) fn scripts_mut(&mut self) -> &mut Bodies {
        &mut self.scripts
    }

    /// The libraries of functions.
    pub(crate) fn libraries(&self) -> &Libraries {
        &self.libraries
    }

    /// The same, to change them.
    pub(crate) fn libraries_mut(&mut self) -> &mut Libraries {
        &mut self.libraries
    }

    /// The number of scripts, of libraries, and of functions.
    pub fn script_counts(&self) -> [usize; 3] {
        let (libraries, functions) = self.libraries.counts();
        [self.scripts.len(), libraries, functions]
    }

    /// Takes settings over, from the log or from a snapshot.
    pub(crate) fn set_settings(&mut self, settings: Settings) {
        self.events.set_classes(settings.notify_keyspace_events);
        self.settings = settings;
    }
}

/// For restoring a snapshot.
impl Keyspace {
    /// Adds an entry with its version; false when the key is there already.
    pub(crate) fn restore(&mut self, database: u32, key: &[u8], restored: Restored) -> bool {
        let (place, used) = (self.place(key), self.access.new_stamp());
        let database = &mut self.databases[database as usize];
        if database.find(place, key).is_some() {
            return false;
        }
        let Restored { value, expire_at_ms, version, print } = restored;
        let (key, expire_at_ms) = (Key::new(key), stored(expire_at_ms));
        let entry = Entry { key, value, expire_at_ms, version, print: 0, hash: place.hash(), next: 0, used };
        match print {
            Some(print) => database.insert_hashed(place.slot(), Entry { print, ..entry }),
            None => database.insert(place.slot(), entry),
        };
        true
    }

    /// A slot's version counter and the number of its last removal.
    pub(crate) fn slot_versions(&self, slot: u16) -> (u64, u64) {
        self.versions.slot(slot)
    }

    /// Restores what [`Keyspace::slot_versions`] gave.
    pub(crate) fn set_slot_versions(&mut self, slot: u16, counter: u64, removed: u64) {
        self.versions.set_slot(slot, counter, removed);
    }

    /// How often each database was exchanged by SWAPDB.
    pub(crate) fn exchanges(&self) -> &[u16] {
        self.versions.exchanges()
    }

    /// Restores how often a database was exchanged.
    pub(crate) fn set_exchanges(&mut self, database: u32, count: u16) {
        self.versions.set_exchanges(database, count);
    }

    /// Restores the number of keys that were removed because they were due.
    pub(crate) fn set_expired(&mut self, count: u64) {
        self.expired = count;
    }
}

/// What FLUSHALL left, large values that are gone, and what came of slots and is not wanted.
impl Keyspace {
    /// Frees some of it, at most about `count` keys, or one large thing.
    pub fn collect_garbage(&mut self, count: usize) {
        self.garbage.rest.pop();
        if let Some(database) = self.garbage.databases.last_mut()
            && database.wear_down(count)
        {
            self.garbage.databases.pop();
        }
    }

    /// Hands it over, to be dropped elsewhere; nothing when there is nothing.
    pub fn take_garbage(&mut self) -> Option<Garbage> {
        (!self.garbage.is_empty()).then(|| std::mem::take(&mut self.garbage))
    }

    /// Keeps something to be freed elsewhere.
    pub(crate) fn throw_away(&mut self, trash: impl IntoIterator<Item = Trash>) {
        self.garbage.rest.extend(trash);
    }

    /// A value that nobody wants any more.
    pub(super) fn throw_value_away(&mut self, value: Value) {
        if payload::size(&value) > payload::LARGE_BYTES {
            self.throw_away([Box::new(value) as Trash]);
        }
    }
}
