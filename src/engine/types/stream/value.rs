//! The value of a stream key.
//!
//! An entry is one item of a tree: its id, then fields and values in turn. Redis keeps entries in nodes of up to
//! `stream-node-max-entries`, and shows that in three places: trimming with `~` removes whole nodes, XINFO counts
//! them, RDB holds them. Here there are none: where they matter, entries are taken in groups of as many as such
//! a node would hold, counted from the first entry.
//!
//! Invariants:
//! * Entries are in ascending order of ids, none above `last`.
//! * A stream without entries stays: it knows its last id and its groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use quoris_resp::Reply;

use super::group::{Group, UNKNOWN};
use super::id::{self, Id, Interval};
use super::produced::Produced;
use crate::events::Class;
use crate::sequence::{PackIter, Tree, items, put_item};
use crate::types::collection::{Collection, Typed};
use crate::{Settings, Value};

mod units;

pub(crate) use units::growing;

/// Bytes that the ids of an entry do not take in a node of Redis.
const ID_BYTES: u64 = 16;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stream(Box<Body>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Body {
    entries: Tree,
    /// The id of the last entry that ever was, or what XSETID said.
    last: Id,
    /// The highest id that XDEL removed.
    max_deleted: Id,
    /// Entries that were ever added.
    added: u64,
    groups: BTreeMap<Box<[u8]>, Arc<Group>>,
    /// Bytes of all groups.
    group_bytes: u64,
    /// What producers have said; nothing when none ever did.
    produced: Option<Box<Produced>>,
}

/// Fields and values of an entry, in turn.
pub(super) fn fields(item: &[u8]) -> PackIter<'_> {
    items(item.get(16..).unwrap_or_default())
}

/// Fields and values of an entry as a reply.
pub(super) fn fields_reply(item: &[u8]) -> Reply {
    Reply::Array(fields(item).map(Reply::bulk).collect())
}

/// An entry as a reply.
pub(super) fn entry_reply(item: &[u8]) -> Reply {
    Reply::Array(vec![id::reply(Id::of(item)), fields_reply(item)])
}

impl Stream {
    /// The id of the last entry that ever was.
    pub(super) fn last(&self) -> Id {
        self.0.last
    }

    /// The highest id that was removed one by one.
    pub(super) fn max_deleted(&self) -> Id {
        self.0.max_deleted
    }

    /// Entries that were ever added.
    pub(super) fn added(&self) -> u64 {
        self.0.added
    }

    /// The id of the first entry, the lowest when there is none.
    pub(super) fn first_id(&self) -> Id {
        self.0.entries.get(0).map_or(Id::MIN, Id::of)
    }

    /// The id of the last entry that is there.
    pub(super) fn last_id(&self) -> Option<Id> {
        self.0.entries.get(self.len().checked_sub(1)?).map(Id::of)
    }

    /// Sets the last id and the counters, as XSETID and RDB do.
    pub(super) fn set_counters(&mut self, last: Id, max_deleted: Id, added: u64) {
        (self.0.last, self.0.max_deleted, self.0.added) = (last, max_deleted, added);
    }

    /// Adds an entry; its id must be above all others.
    pub(super) fn append<'a>(&mut self, id: Id, fields: impl Iterator<Item = &'a [u8]>) {
        let mut item = id.bytes().to_vec();
        fields.for_each(|field| put_item(field, &mut item));
        self.0.entries.push(&item);
        self.0.last = id;
        self.0.added = self.0.added.wrapping_add(1);
    }

    /// The entry with an id.
    pub(super) fn find(&self, id: Id) -> Option<&[u8]> {
        self.0.entries.find(&id.bytes()).map(|(_, item)| item)
    }

    /// The number of entries below an id.
    pub(super) fn count_below(&self, id: Id) -> u64 {
        self.0.entries.lower_bound(&id.bytes())
    }

    /// The entries from the one at `index` on.
    pub(super) fn iter_from(&self, index: u64) -> impl Iterator<Item = &[u8]> {
        self.0.entries.iter_from(index)
    }

    /// The entries of a range.
    pub(super) fn range(&self, interval: Interval) -> impl Iterator<Item = &[u8]> {
        self.iter_from(self.count_below(interval.start)).take_while(move |item| Id::of(item) <= interval.end)
    }

    /// The entries of a range, from the last to the first.
    pub(super) fn range_back(&self, interval: Interval) -> impl Iterator<Item = &[u8]> {
        let end = interval.end.next().map_or(self.len(), |next| self.count_below(next));
        self.0.entries.iter_back_from(end).take_while(move |item| Id::of(item) >= interval.start)
    }

    /// Removes one entry and remembers that there was one; false when it is not there.
    pub(super) fn remove(&mut self, id: Id) -> bool {
        let Some((index, _)) = self.0.entries.find(&id.bytes()) else { return false };
        self.0.entries.remove(index);
        self.0.max_deleted = self.0.max_deleted.max(id);
        true
    }

    /// Removes the first entries.
    pub(super) fn remove_first(&mut self, count: u64) {
        // Taking an entry out costs about an eighth of putting one in.
        if self.len().saturating_sub(count) < count / 8 {
            let mut rest = Tree::default();
            self.0.entries.iter_from(count).for_each(|item| rest.push(item));
            self.0.entries = rest;
        } else {
            self.0.entries.remove_range(0, count.min(self.len()));
        }
    }

    /// What producers have said.
    pub(super) fn produced(&self) -> Option<&Produced> {
        self.0.produced.as_deref()
    }

    /// Changes it.
    pub(super) fn change_produced<R>(&mut self, change: impl FnOnce(&mut Produced) -> R) -> R {
        change(self.0.produced.get_or_insert_default())
    }

    /// Entries that a node of Redis would hold; limits of 0 are none.
    pub(super) fn per_node(&self, entries_max: u64, bytes_max: u64) -> u64 {
        let limit = |n: u64| if n == 0 { u64::MAX } else { n };
        let bytes = self.0.entries.bytes().saturating_sub(ID_BYTES * self.len()).max(1);
        let by_bytes = if bytes_max == 0 { u64::MAX } else { (bytes_max.saturating_mul(self.len()) / bytes).max(1) };
        limit(entries_max).min(by_bytes)
    }

    /// The same, by the settings.
    pub(super) fn per_node_by(&self, settings: &Settings) -> u64 {
        let limit = |n: i64| u64::try_from(n).unwrap_or(0);
        self.per_node(limit(settings.stream_node_max_entries), limit(settings.stream_node_max_bytes))
    }

    /// A group.
    pub(super) fn group(&self, name: &[u8]) -> Option<&Group> {
        self.0.groups.get(name).map(|group| &**group)
    }

    /// All groups, by name.
    pub(super) fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &Group)> {
        self.0.groups.iter().map(|(name, group)| (&**name, &**group))
    }

    /// Adds a group, in place of one with its name.
    pub(super) fn put_group(&mut self, name: &[u8], group: Group) {
        self.remove_group(name);
        self.0.group_bytes += group.bytes() + name.len() as u64;
        self.0.groups.insert(name.into(), Arc::new(group));
    }

    /// Removes a group; false when there is none.
    pub(super) fn remove_group(&mut self, name: &[u8]) -> bool {
        let old = self.0.groups.remove(name);
        old.inspect(|group| self.0.group_bytes -= group.bytes() + name.len() as u64).is_some()
    }

    /// Changes a group; nothing when there is none.
    pub(super) fn change_group<R>(&mut self, name: &[u8], change: impl FnOnce(&Stream, &mut Group) -> R) -> Option<R> {
        let (name, mut group) = self.0.groups.remove_entry(name)?;
        self.0.group_bytes -= group.bytes();
        let result = change(self, Arc::make_mut(&mut group));
        self.0.group_bytes += group.bytes();
        self.0.groups.insert(name, group);
        Some(result)
    }

    /// Forgets in all groups that an entry was delivered.
    pub(super) fn forget_deliveries(&mut self, id: Id) {
        for group in self.0.groups.values_mut().filter(|group| group.is_pending(id)) {
            self.0.group_bytes -= group.bytes();
            Arc::make_mut(group).take(id);
            self.0.group_bytes += group.bytes();
        }
    }

    /// Whether some group has not read an entry, or not acknowledged it.
    pub(super) fn is_wanted(&self, id: Id) -> bool {
        self.0.groups.values().any(|group| group.last < id || group.is_pending(id))
    }

    /// Whether an entry was removed at `start` or behind it.
    fn has_holes_from(&self, start: Id) -> bool {
        self.len() > 0 && self.0.max_deleted != Id::MIN && start <= self.0.max_deleted
    }

    /// How many entries were ever added up to an id; [`UNKNOWN`] when that cannot be said.
    pub(super) fn added_up_to(&self, id: Id) -> i64 {
        let (added, len, first) = (self.0.added as i64, self.len() as i64, self.first_id());
        if added == 0 {
            return 0;
        }
        if len == 0 && id <= self.0.last {
            return added;
        }
        if id != Id::MIN && id < self.0.max_deleted {
            return UNKNOWN;
        }
        match id.cmp(&self.0.last) {
            std::cmp::Ordering::Equal => return added,
            std::cmp::Ordering::Greater => return UNKNOWN,
            std::cmp::Ordering::Less => {}
        }
        if self.0.max_deleted != Id::MIN && self.0.max_deleted >= first {
            return UNKNOWN;
        }
        match id.cmp(&first) {
            std::cmp::Ordering::Less => added.wrapping_sub(len),
            std::cmp::Ordering::Equal => added.wrapping_sub(len).wrapping_add(1),
            std::cmp::Ordering::Greater => UNKNOWN,
        }
    }

    /// What a group's count of read entries becomes when it reads the entry with an id next.
    pub(super) fn read_with(&self, group: &Group, id: Id) -> i64 {
        if group.read != UNKNOWN && group.last >= self.first_id() && !self.has_holes_from(group.last) {
            group.read.wrapping_add(1)
        } else if self.0.added > 0 {
            self.added_up_to(id)
        } else {
            group.read
        }
    }

    /// How many entries a group has not read; nothing when that cannot be said.
    pub(super) fn lag(&self, group: &Group) -> Option<i64> {
        let added = self.0.added as i64;
        if self.0.added == 0 || self.len() == 0 {
            return Some(0);
        }
        if group.last < self.first_id() && self.0.max_deleted < self.first_id() {
            return Some(self.len() as i64);
        }
        if group.read != UNKNOWN && !self.has_holes_from(group.last) {
            return Some(added.wrapping_sub(group.read));
        }
        match self.added_up_to(group.last) {
            UNKNOWN => None,
            read => Some(added.wrapping_sub(read)),
        }
    }
}

impl Collection for Stream {
    fn type_name(&self) -> &'static str {
        "stream"
    }

    fn encoding(&self) -> &'static str {
        "stream"
    }

    fn len(&self) -> u64 {
        self.0.entries.len()
    }

    fn is_gone(&self) -> bool {
        false
    }

    fn bytes(&self) -> u64 {
        let produced = self.0.produced.as_ref().map_or(0, |produced| produced.bytes());
        self.0.entries.bytes() + self.0.group_bytes + produced + size_of::<Body>() as u64
    }

    fn hash(&self, anew: bool) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        hasher.update(&self.0.entries.print(anew).to_le_bytes());
        for id in [self.0.last, self.0.max_deleted] {
            hasher.update(&id.bytes());
        }
        for n in [self.len(), self.0.added, self.0.groups.len() as u64] {
            hasher.update(&n.to_le_bytes());
        }
        for (name, group) in self.groups() {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name);
            group.hash(anew, &mut hasher);
        }
        if let Some(produced) = self.produced() {
            produced.hash(anew, &mut hasher);
        }
        hasher.digest()
    }

    fn flip_bit(&mut self) -> bool {
        // Items have a form of their own here, which a flipped bit could break: a counter has none.
        self.0.added ^= 1;
        true
    }

    fn origin(&self) -> u8 {
        1
    }

    fn restore_origin(&mut self, origin: u8) -> bool {
        origin == 1
    }

    fn rdb_type(&self) -> u8 {
        super::rdb::RDB_STREAM_2
    }

    fn has_units(&self) -> bool {
        true
    }

    fn units(&self, from: u64, visit: &mut dyn FnMut(&[u8]) -> bool) {
        units::visit(self, from, visit);
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        super::rdb::write_head(self, out);
    }

    fn write_part(&self, from: u64, end: usize, out: &mut Vec<u8>) -> Option<u64> {
        super::rdb::write_part(self, from, end, out)
    }

    fn beside(&self) -> Option<Vec<u8>> {
        super::beside::write(self)
    }

    fn restore_beside(&mut self, text: &[u8]) -> bool {
        super::beside::restore(self, text)
    }
}

impl Typed for Stream {
    const CLASS: Class = Class::Stream;

    fn of(value: &Value) -> Option<&Stream> {
        if let Value::Stream(stream) = value { Some(stream) } else { None }
    }

    fn of_mut(value: &mut Value) -> Option<&mut Stream> {
        if let Value::Stream(stream) = value { Some(stream) } else { None }
    }

    fn into_value(self) -> Value {
        Value::Stream(self)
    }
}
