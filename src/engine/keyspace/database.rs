//! One numbered database: a table per slot, the index of deadlines, and the counts.
//!
//! Tables come into being with a slot's first key and go with its last; an unused database takes a few
//! words. The index of deadlines is an ordered set and not a heap with stale items: it is exactly as
//! long as there are deadlines however often one is moved, and its order is a function of the state.
//!
//! Invariants:
//! * A table that exists is not empty.
//! * `deadlines` holds (deadline, place) of every entry that has one, and nothing else.
//! * `blocks` and `len` count the entries of the tables.

use std::collections::BTreeSet;

use super::account::{Account, Opened};
use super::entry::{Entry, NEVER};
use super::table::{Pos, Table};
use super::{Place, SLOTS};
use crate::Value;

/// Slots per block of the coarse counts.
const BLOCK: usize = 128;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Database {
    /// Empty as long as no key was ever stored.
    tables: Vec<Option<Box<Table>>>,
    /// The number of keys in each block of slots.
    blocks: Vec<u64>,
    len: u64,
    expires: u64,
    deadlines: BTreeSet<(u64, Place)>,
    pub(super) account: Account,
}

impl Database {
    /// The number of keys.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The number of keys with a deadline.
    pub(super) fn expires(&self) -> u64 {
        self.expires
    }

    /// The keys of a slot, when there are any.
    pub(super) fn table(&self, slot: u16) -> Option<&Table> {
        self.tables.get(slot as usize)?.as_deref()
    }

    /// The first slot from `from` on that has keys.
    pub(super) fn slot_from(&self, from: u32) -> Option<u16> {
        let mut slot = from as usize;
        while slot < self.tables.len() {
            if slot.is_multiple_of(BLOCK) && self.blocks[slot / BLOCK] == 0 {
                slot += BLOCK;
            } else if self.tables[slot].is_some() {
                return Some(slot as u16);
            } else {
                slot += 1;
            }
        }
        None
    }

    /// The slot that holds the `nth` key when keys are counted slot by slot, and how many of its keys
    /// come before.
    pub(super) fn slot_of_nth(&self, mut nth: u64) -> Option<(u16, u64)> {
        let block = self.blocks.iter().position(|&count| {
            let here = nth < count;
            nth -= if here { 0 } else { count };
            here
        })?;
        for slot in block * BLOCK..(block + 1) * BLOCK {
            let count = self.tables[slot].as_ref().map_or(0, |t| t.len() as u64);
            if nth < count {
                return Some((slot as u16, nth));
            }
            nth -= count;
        }
        None
    }

    /// The position of a key in its slot's table.
    pub(super) fn find(&self, place: Place, key: &[u8]) -> Option<Pos> {
        self.table(place.slot())?.find(place.hash(), key)
    }

    /// The entry at a position that was just found.
    pub(super) fn at(&self, slot: u16, index: Pos) -> &Entry {
        self.table(slot).expect("a key was found in the slot").at(index)
    }

    /// Adds a key that is not there.
    pub(super) fn insert(&mut self, slot: u16, mut entry: Entry) {
        self.account.add(&mut entry);
        self.put(slot, entry);
    }

    /// The same with an entry that has its fingerprint.
    pub(super) fn insert_hashed(&mut self, slot: u16, entry: Entry) {
        self.account.add_hashed(&entry);
        self.put(slot, entry);
    }

    fn put(&mut self, slot: u16, entry: Entry) {
        if self.tables.is_empty() {
            self.tables.resize_with(SLOTS as usize, || None);
            self.blocks.resize(SLOTS as usize / BLOCK, 0);
        }
        if entry.expire_at_ms != NEVER {
            self.expires += 1;
            self.deadlines.insert((entry.expire_at_ms, Place::new(slot, entry.hash)));
        }
        self.tables[slot as usize].get_or_insert_with(|| Box::new(Table::new())).insert(entry);
        self.blocks[slot as usize / BLOCK] += 1;
        self.len += 1;
    }

    /// Takes the entry at a position that was just found.
    pub(super) fn remove(&mut self, slot: u16, index: Pos) -> Entry {
        let table = self.tables[slot as usize].as_deref_mut().expect("a key was found in the slot");
        let entry = table.remove(index);
        if table.len() == 0 {
            self.tables[slot as usize] = None;
        }
        self.blocks[slot as usize / BLOCK] -= 1;
        self.len -= 1;
        self.account.check(&entry);
        self.account.sub(&entry);
        if entry.expire_at_ms != NEVER {
            self.expires -= 1;
            self.forget_deadline(entry.expire_at_ms, Place::new(slot, entry.hash));
        }
        entry
    }

    /// Removes a deadline from the index unless another key of the same hash has the same one.
    fn forget_deadline(&mut self, deadline: u64, place: Place) {
        let table = self.table(place.slot());
        if !table.is_some_and(|t| t.with_hash(place.hash()).any(|(_, e)| e.expire_at_ms == deadline)) {
            self.deadlines.remove(&(deadline, place));
        }
    }

    /// Exchanges value, deadline and version of an entry; returns the value that was there.
    pub(super) fn replace(&mut self, slot: u16, index: Pos, value: Value, expire_at_ms: u64, version: u64) -> Value {
        let table = self.tables[slot as usize].as_deref_mut().expect("a key was found in the slot");
        let opened = Opened::new(table.at_mut(index), &mut self.account, version);
        let old_value = std::mem::replace(&mut opened.entry.value, value);
        let old_deadline = std::mem::replace(&mut opened.entry.expire_at_ms, expire_at_ms);
        let place = Place::new(slot, opened.entry.hash);
        drop(opened);
        self.move_deadline(place, old_deadline, expire_at_ms);
        old_value
    }

    /// Changes the deadline and the version of an entry.
    pub(super) fn set_deadline(&mut self, slot: u16, index: Pos, expire_at_ms: u64, version: u64) {
        let opened = self.open(slot, index, version);
        let old_deadline = std::mem::replace(&mut opened.entry.expire_at_ms, expire_at_ms);
        let place = Place::new(slot, opened.entry.hash);
        drop(opened);
        self.move_deadline(place, old_deadline, expire_at_ms);
    }

    /// Counts an entry out, to be changed and counted in again.
    pub(super) fn open(&mut self, slot: u16, index: Pos, version: u64) -> Opened<'_> {
        let table = self.tables[slot as usize].as_deref_mut().expect("a key was found in the slot");
        let entry = table.at_mut(index);
        self.account.check(entry);
        Opened::new(entry, &mut self.account, version)
    }

    /// An entry that nobody counts: for breaking it on purpose.
    pub(super) fn uncounted(&mut self, slot: u16, index: Pos) -> &mut Entry {
        self.tables[slot as usize].as_deref_mut().expect("a key was found in the slot").at_mut(index)
    }

    fn move_deadline(&mut self, place: Place, old: u64, new: u64) {
        if old == new {
            return;
        }
        if old != NEVER {
            self.expires -= 1;
            self.forget_deadline(old, place);
        }
        if new != NEVER {
            self.expires += 1;
            self.deadlines.insert((new, place));
        }
    }

    /// The earliest deadline and where it is.
    pub(super) fn first_deadline(&self) -> Option<(u64, Place)> {
        self.deadlines.first().copied()
    }

    /// The earliest deadline behind a moment.
    pub(super) fn deadline_behind(&self, ms: u64) -> Option<u64> {
        self.deadlines.range((ms.saturating_add(1), Place::MIN)..).next().map(|(deadline, _)| *deadline)
    }

    /// Deadlines and where they are, in order, from one on.
    pub(super) fn deadlines_from(&self, from: (u64, Place)) -> impl Iterator<Item = (u64, Place)> + '_ {
        self.deadlines.range(from..).copied()
    }

    /// The first key, in order, at `place` with this deadline.
    pub(super) fn first_with(&self, deadline: u64, place: Place) -> Option<Pos> {
        let table = self.table(place.slot())?;
        let same = table.with_hash(place.hash()).filter(|(_, entry)| entry.expire_at_ms == deadline);
        same.min_by(|(_, a), (_, b)| a.key.cmp(&b.key)).map(|(index, _)| index)
    }

    /// The slots that have keys.
    pub(super) fn slots(&self) -> impl Iterator<Item = u16> + '_ {
        self.tables.iter().enumerate().filter(|(_, table)| table.is_some()).map(|(slot, _)| slot as u16)
    }

    /// All entries, in no order that means anything.
    pub(super) fn for_each(&self, visit: &mut dyn FnMut(&Entry)) {
        self.tables.iter().flatten().for_each(|table| table.for_each(visit));
    }

    /// The digest's sum, with what was not hashed yet; `place` finds the place of a key.
    pub(super) fn sum(&mut self, place: impl Fn(&[u8]) -> Place) -> u64 {
        for key in self.account.take_marked() {
            let place = place(key.bytes());
            let table = self.tables[place.slot() as usize].as_deref_mut().expect("a marked key exists");
            let index = table.find(place.hash(), key.bytes()).expect("a marked key exists");
            self.account.hash(table.at_mut(index));
        }
        self.account.sum()
    }

    /// The same sum from the entries alone: the check on the incremental one.
    pub(super) fn sum_from_scratch(&self) -> u64 {
        let mut sum = 0u64;
        self.for_each(&mut |entry| sum = sum.wrapping_add(entry.fingerprint(true)));
        sum
    }

    /// Frees a slot's table of a database that nobody uses any more. The counts are wrong afterwards.
    pub(super) fn discard(&mut self, slot: u16) {
        if let Some(table) = self.tables.get_mut(slot as usize) {
            *table = None;
        }
    }

    /// Frees some of a database that nobody uses any more; true when nothing is left.
    pub(super) fn wear_down(&mut self, count: usize) -> bool {
        for _ in 0..count {
            if self.deadlines.pop_first().is_none() && self.account.fields.pop_first().is_none() {
                break;
            }
        }
        let mut left = count;
        while let Some(table) = self.tables.last_mut() {
            if let Some(table) = table {
                let (freed, gone) = table.wear_down(left);
                if !gone {
                    return false;
                }
                left = left.saturating_sub(freed);
            }
            self.tables.pop();
            left = left.saturating_sub(1);
            if left == 0 {
                return false;
            }
        }
        self.deadlines.is_empty() && self.account.fields.is_empty()
    }
}
