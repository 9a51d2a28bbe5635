//! The keyspace as it was at one moment, read out in small steps while writes go on.
//!
//! Step 8's side of a snapshot. Nothing is copied when the cut begins, except the slots' counters: an
//! entry whose version is above its slot's counter of that moment is younger than the cut. Before the
//! first change or removal of an older entry that was not read out yet, the entry is set aside; what
//! is read out is the merge of the tables and what lies aside, in the order (database, slot, hash,
//! key). The result is therefore the same, byte for byte, whatever was written meanwhile.
//!
//! SWAPDB and FLUSHDB move whole databases: the cut remembers where each of its databases went, and a
//! flushed one is not freed but belongs to the cut from then on.
//!
//! Invariants:
//! * What lies before `at` was given out; what lies aside is behind it, and was not.
//! * An old entry is either in a table or aside, never both and never neither.

use std::collections::BTreeMap;

use super::access::Stamp;
use super::database::Database;
use super::entry::{Entry, Key};
use super::table::Pos;
use super::{Keyspace, Place};
use crate::Value;

/// Above this many bytes aside, the next steps give out what lies aside first, out of order, so that a
/// storm of writes cannot double the memory.
const ASIDE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Buckets and entries that one step looks at, so that a step that finds nothing also ends.
const EFFORT_MAX: usize = 4096;

/// An entry as it was at the cut.
#[derive(Debug)]
pub(crate) struct CutEntry<'a> {
    /// The number that its database had.
    pub(crate) database: u32,
    /// The key.
    pub(crate) key: &'a [u8],
    /// The value.
    pub(crate) value: &'a Value,
    /// The deadline.
    pub(crate) expire_at_ms: Option<u64>,
    /// The slot's counter at the last write before the cut.
    pub(crate) version: u64,
}

/// What the receiver of an entry wants next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    /// More entries.
    More,
    /// No more in this step.
    Pause,
    /// To read this value bit by bit through [`Keyspace::cut_streamed`]; no more in this step.
    Stream,
}

#[derive(Debug)]
struct Aside {
    value: Value,
    expire_at_ms: Option<u64>,
    version: u64,
}

/// An entry whose value the cut must get.
#[derive(Debug)]
pub(super) struct Wanted {
    at: (u32, Place, Key),
    expire_at_ms: Option<u64>,
    version: u64,
    streamed: bool,
    bytes: usize,
}

/// Where the keys of one of the cut's databases are now.
#[derive(Debug)]
enum Home {
    /// In the database of this number.
    Live(usize),
    /// Nowhere else: they were flushed.
    Detached(Box<Database>),
}

/// A value that is read bit by bit.
#[derive(Debug)]
enum Streamed {
    /// It is still in its table.
    Live { home: u32, place: Place, key: Key },
    /// It was changed since.
    Aside(Value),
}

/// What was given out: all before `place`, and at `place` the keys up to `after`.
#[derive(Debug)]
struct At {
    database: u32,
    place: Place,
    after: Option<Key>,
}

impl At {
    fn is_behind(&self, database: u32, place: Place, key: &Key) -> bool {
        let done = (database, place) < (self.database, self.place);
        !done
            && ((database, place) > (self.database, self.place) || self.after.as_ref().is_none_or(|after| key > after))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cut {
    counters: Vec<u64>,
    homes: Vec<Home>,
    at: At,
    aside: BTreeMap<(u32, Place, Key), Aside>,
    aside_bytes: usize,
    streamed: Option<Streamed>,
    sizes: Vec<(u64, u64)>,
}

impl Cut {
    /// Must be asked before an entry of a live database is changed or removed; when there is an answer, the
    /// entry's present value must be given to [`Cut::keep`] before the next step.
    pub(super) fn wants(&self, database: u32, slot: u16, entry: &Entry) -> Option<Wanted> {
        if entry.version > self.counters[slot as usize] {
            return None;
        }
        let is_home = |home: &Home| matches!(home, Home::Live(now) if *now == database as usize);
        let home = self.homes.iter().position(is_home)? as u32;
        let place = Place::new(slot, entry.hash);
        let streamed = match &self.streamed {
            Some(Streamed::Live { home: h, place: p, key }) => (*h, *p, key) == (home, place, &entry.key),
            Some(Streamed::Aside(_)) | None => false,
        };
        if !streamed && !self.at.is_behind(home, place, &entry.key) {
            return None;
        }
        let bytes = entry.memory_bytes() as usize;
        let (expire_at_ms, version) = (entry.deadline(), entry.version);
        Some(Wanted { at: (home, place, entry.key.clone()), expire_at_ms, version, streamed, bytes })
    }

    /// Sets a value aside as it was at the cut.
    pub(super) fn keep(&mut self, wanted: Wanted, value: Value) {
        let Wanted { at, expire_at_ms, version, streamed, bytes } = wanted;
        if streamed {
            self.streamed = Some(Streamed::Aside(value));
        } else {
            self.aside_bytes += bytes;
            self.aside.insert(at, Aside { value, expire_at_ms, version });
        }
    }

    /// Notes that a slot without keys gets some from elsewhere: whatever their versions, they are younger.
    pub(super) fn refilled(&mut self, slot: u16) {
        self.counters[slot as usize] = 0;
    }

    /// Notes that two live databases were exchanged.
    pub(super) fn exchanged(&mut self, one: usize, other: usize) {
        for home in &mut self.homes {
            match home {
                Home::Live(now) if *now == one => *now = other,
                Home::Live(now) if *now == other => *now = one,
                Home::Live(_) | Home::Detached(_) => {}
            }
        }
    }

    /// Takes over a live database that is flushed, or gives it back when the cut has no use for it.
    pub(super) fn detach(&mut self, number: usize, database: Database) -> Option<Database> {
        match self.homes.iter_mut().find(|home| matches!(home, Home::Live(now) if *now == number)) {
            Some(home) => {
                *home = Home::Detached(Box::new(database));
                None
            }
            None => Some(database),
        }
    }

    /// Gives out what lies aside before `end`; false when the receiver wants a pause.
    fn give_aside(&mut self, end: (u32, Place, &[u8]), visit: &mut dyn FnMut(CutEntry<'_>) -> Flow) -> bool {
        while let Some(first) = self.aside.first_entry() {
            let (database, place, key) = first.key();
            if (*database, *place, key.bytes()) >= end {
                return true;
            }
            let ((database, place, key), aside) = first.remove_entry();
            let Aside { value, expire_at_ms, version } = aside;
            let entry = Entry {
                key,
                value,
                expire_at_ms: expire_at_ms.unwrap_or(u64::MAX),
                version,
                print: 0,
                hash: 0,
                next: 0,
                used: Stamp::default(),
            };
            self.aside_bytes = self.aside_bytes.saturating_sub(entry.memory_bytes() as usize);
            let key = entry.key.bytes();
            let flow = visit(CutEntry { database, key, value: &entry.value, expire_at_ms, version });
            if self.at.is_behind(database, place, &entry.key) {
                self.note_given(database, place, entry.key.clone());
            }
            match flow {
                Flow::More => {}
                Flow::Pause => return false,
                Flow::Stream => {
                    self.streamed = Some(Streamed::Aside(entry.value));
                    return false;
                }
            }
        }
        true
    }

    fn note_given(&mut self, database: u32, place: Place, key: Key) {
        self.at = At { database, place, after: Some(key) };
    }
}

impl Keyspace {
    /// Begins a cut at the present state. There is at most one.
    pub(crate) fn begin_cut(&mut self) {
        assert!(self.cut.is_none(), "there is one cut at a time");
        self.cut = Some(Box::new(Cut {
            counters: self.versions.counters().to_vec(),
            homes: (0..self.databases.len()).map(Home::Live).collect(),
            at: At { database: 0, place: Place::MIN, after: None },
            aside: BTreeMap::new(),
            aside_bytes: 0,
            streamed: None,
            sizes: self.databases.iter().map(|d| (d.len(), d.expires())).collect(),
        }));
        // What is half owned is written down with what is still to come of it.
        let owning = self.moves().and_then(crate::moves::Moves::owning);
        if let (Some(range), Some(cut)) = (owning, &mut self.cut) {
            (range.first..=range.last).for_each(|slot| cut.refilled(slot));
        }
    }

    /// Ends the cut, finished or not.
    pub(crate) fn end_cut(&mut self) {
        let homes = self.cut.take().map(|cut| cut.homes);
        for home in homes.into_iter().flatten() {
            if let Home::Detached(database) = home {
                self.garbage.databases.push(*database);
            }
        }
    }

    /// The number of keys, and of keys with a deadline, that a database had at the cut.
    pub(crate) fn cut_sizes(&self, database: u32) -> (u64, u64) {
        self.cut.as_ref().expect("a cut is running").sizes[database as usize]
    }

    /// The value that the receiver chose to read bit by bit, as it was at the cut.
    pub(crate) fn cut_streamed(&self) -> &Value {
        let cut = self.cut.as_deref().expect("a cut is running");
        match cut.streamed.as_ref().expect("a value is being streamed") {
            Streamed::Aside(value) => value,
            Streamed::Live { home, place, key } => {
                let database = cut.home(*home, &self.databases);
                let entry = database.table(place.slot()).and_then(|table| table.get(place.hash(), key.bytes()));
                &entry.expect("a change sets the value aside").value
            }
        }
    }

    /// Forgets the value that was read bit by bit.
    pub(crate) fn cut_stream_ends(&mut self) {
        self.cut.as_mut().expect("a cut is running").streamed = None;
    }

    /// Gives out the next entries of the cut, in order, until `visit` wants a pause or a step's effort is
    /// spent; false when there are no more.
    pub(crate) fn cut_step(&mut self, visit: &mut dyn FnMut(CutEntry<'_>) -> Flow) -> bool {
        let Keyspace { cut, databases, .. } = self;
        let cut = cut.as_deref_mut().expect("a cut is running");
        if cut.aside_bytes > ASIDE_BYTES_MAX {
            return cut.drain_aside(visit);
        }
        let mut effort = 0;
        let mut bucket = Vec::new();
        while (cut.at.database as usize) < cut.homes.len() && effort < EFFORT_MAX {
            if !cut.step_bucket(databases, &mut bucket, visit) {
                return true;
            }
            effort += bucket.len() + 1;
        }
        (cut.at.database as usize) < cut.homes.len()
    }
}

impl Cut {
    fn home<'a>(&'a self, number: u32, databases: &'a [Database]) -> &'a Database {
        match &self.homes[number as usize] {
            Home::Live(now) => &databases[*now],
            Home::Detached(database) => database,
        }
    }

    /// Gives out what lies aside wherever it belongs. What is behind `at` in the tables is younger than the
    /// cut by now, so it is not given out twice.
    fn drain_aside(&mut self, visit: &mut dyn FnMut(CutEntry<'_>) -> Flow) -> bool {
        let end = (u32::MAX, Place::MAX, &[][..]);
        let at = std::mem::replace(&mut self.at, At { database: u32::MAX, place: Place::MAX, after: None });
        self.give_aside(end, visit);
        self.at = at;
        true
    }

    /// Gives out one bucket of the tables merged with what lies aside before its end; false for a pause.
    fn step_bucket(
        &mut self,
        databases: &[Database],
        bucket: &mut Vec<Pos>,
        visit: &mut dyn FnMut(CutEntry<'_>) -> Flow,
    ) -> bool {
        let number = self.at.database;
        let from = self.at.place;
        let slot = self.home(number, databases).slot_from(u32::from(from.slot()));
        let Some(slot) = slot else {
            if !self.give_aside((number + 1, Place::MIN, &[]), visit) {
                return false;
            }
            self.leave_slots(number, from.slot(), u32::from(super::SLOTS));
            self.at = At { database: number + 1, place: Place::MIN, after: None };
            return true;
        };
        let hash = if slot == from.slot() { from.hash() } else { 0 };
        let table = self.home(number, databases).table(slot).expect("the slot has keys");
        let next = table.bucket_from(hash, bucket);
        for &index in bucket.iter() {
            if !self.give_entry(databases, slot, index, visit) {
                return false;
            }
        }
        let place = match next {
            Some(hash) => Place::new(slot, hash),
            None if u32::from(slot) + 1 == u32::from(super::SLOTS) => Place::MAX,
            None => Place::new(slot + 1, 0),
        };
        let whole = if place == Place::MAX { (number + 1, Place::MIN) } else { (number, place) };
        if !self.give_aside((whole.0, whole.1, &[]), visit) {
            return false;
        }
        if next.is_none() {
            self.leave_slots(number, from.slot(), u32::from(slot) + 1);
        }
        self.at = At { database: whole.0, place: whole.1, after: None };
        true
    }

    /// Gives out one entry of a table, unless it is younger than the cut or was given out; false for a pause.
    fn give_entry(
        &mut self,
        databases: &[Database],
        slot: u16,
        index: Pos,
        visit: &mut dyn FnMut(CutEntry<'_>) -> Flow,
    ) -> bool {
        let number = self.at.database;
        let entry = self.home(number, databases).at(slot, index);
        let place = Place::new(slot, entry.hash);
        if entry.version > self.counters[slot as usize] || !self.at.is_behind(number, place, &entry.key) {
            return true;
        }
        let key = entry.key.clone();
        if !self.give_aside((number, place, key.bytes()), visit) {
            return false;
        }
        let entry = self.home(number, databases).at(slot, index);
        let (value, expire_at_ms, version) = (&entry.value, entry.deadline(), entry.version);
        let flow = visit(CutEntry { database: number, key: key.bytes(), value, expire_at_ms, version });
        if flow == Flow::Stream {
            self.streamed = Some(Streamed::Live { home: number, place, key: key.clone() });
        }
        self.note_given(number, place, key);
        flow == Flow::More
    }

    /// Frees the tables of a flushed database that were given out.
    fn leave_slots(&mut self, number: u32, from: u16, to: u32) {
        if let Home::Detached(database) = &mut self.homes[number as usize] {
            (u32::from(from)..to).for_each(|slot| database.discard(slot as u16));
        }
    }
}
