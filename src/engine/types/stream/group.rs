//! A consumer group: how far it has read, who reads for it, and what was delivered and not acknowledged.
//!
//! What is pending stands in three trees: at its consumer, with time and count; in the group, with the number of
//! its consumer; and in the order of delivery, for those who take over what has waited for long. What XNACK released
//! is at a consumer of its own that has no name and is seen by nobody; its time is a place in the order of releases,
//! which is less than any time.
//!
//! Invariants:
//! * The three say the same.
//! * Numbers of consumers are seen by nobody: neither replies, order nor digest depend on them.

use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::id::Id;
use crate::sequence::Tree;

/// A count of read entries that cannot be said.
pub(super) const UNKNOWN: i64 = -1;
/// The count of what nobody should get any more.
pub(super) const DELIVERIES_MAX: u64 = i64::MAX as u64;
/// What comes from elsewhere has no times and places above this.
pub(super) const NUMBER_MAX: u64 = i64::MAX as u64;
/// The number of the consumer of what was released.
const NOBODY: u64 = u64::MAX;
/// Bytes of a group and of a consumer beside names and what is pending. Constants, so that replicas agree.
const GROUP_BYTES: u64 = 160;
const CONSUMER_BYTES: u64 = 160;
/// Bytes of the three items of one pending entry, lengths included.
const PENDING_BYTES: u64 = 33 + 25 + 25;

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    /// When it was delivered last, Unix milliseconds.
    pub(super) time: u64,
    /// How often it was delivered.
    pub(super) count: u64,
}

impl Pending {
    /// The count behind one more delivery; what was delivered for the last time stays so.
    pub(super) fn once_more(self) -> u64 {
        if self.count == DELIVERIES_MAX { DELIVERIES_MAX } else { self.count.wrapping_add(1) }
    }
}

/// Who reads for a group.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Consumer {
    pub(super) name: Box<[u8]>,
    /// When it tried to do something last.
    pub(super) seen: u64,
    /// When it got something last; never, when nothing.
    pub(super) active: Option<u64>,
    pending: Tree,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// The last entry that was delivered.
    pub(super) last: Id,
    /// How many entries were read, or [`UNKNOWN`].
    pub(super) read: i64,
    owners: Tree,
    by_time: Tree,
    consumers: BTreeMap<u64, Arc<Consumer>>,
    /// What was released; nothing when nothing is.
    released: Option<Arc<Consumer>>,
    /// The place of what is released next, 0 when nothing is.
    next_place: u64,
    names: BTreeMap<Box<[u8]>, u64>,
    name_bytes: u64,
}

fn pending_item(id: Id, pending: Pending) -> [u8; 32] {
    let mut item = [0; 32];
    item[..16].copy_from_slice(&id.bytes());
    item[16..24].copy_from_slice(&pending.time.to_be_bytes());
    item[24..].copy_from_slice(&pending.count.to_be_bytes());
    item
}

fn owner_item(id: Id, owner: u64) -> [u8; 24] {
    let mut item = [0; 24];
    item[..16].copy_from_slice(&id.bytes());
    item[16..].copy_from_slice(&owner.to_be_bytes());
    item
}

fn time_item(time: u64, id: Id) -> [u8; 24] {
    let mut item = [0; 24];
    item[..8].copy_from_slice(&time.to_be_bytes());
    item[8..].copy_from_slice(&id.bytes());
    item
}

fn number(item: &[u8], at: usize) -> u64 {
    item.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn pending_of(item: &[u8]) -> (Id, Pending) {
    (Id::of(item), Pending { time: number(item, 16), count: number(item, 24) })
}

fn put(tree: &mut Tree, item: &[u8]) {
    tree.insert(tree.lower_bound(item), item);
}

/// Puts an item in the place of the one with its id, which must be there.
fn replace(tree: &mut Tree, id: Id, item: &[u8]) {
    let index = tree.lower_bound(&id.bytes());
    tree.replace(index, item);
}

fn drop_item(tree: &mut Tree, key: &[u8]) {
    if let Some((index, _)) = tree.find(key) {
        tree.remove(index);
    }
}

impl Consumer {
    fn new(name: &[u8], seen: u64) -> Consumer {
        Consumer { name: name.into(), seen, active: None, pending: Tree::default() }
    }

    /// Whether it only stands for what was released.
    pub(super) fn is_nobody(&self) -> bool {
        self.seen == NOBODY
    }

    /// The time of a delivery as others see it.
    pub(super) fn shown_time(&self, pending: Pending) -> u64 {
        if self.is_nobody() { 0 } else { pending.time }
    }

    /// How many entries are pending.
    pub(super) fn len(&self) -> u64 {
        self.pending.len()
    }

    /// What is pending, from an id on.
    pub(super) fn pending_from(&self, id: Id) -> impl Iterator<Item = (Id, Pending)> {
        self.pending_at(self.pending.lower_bound(&id.bytes()))
    }

    /// What is pending, from some place on.
    pub(super) fn pending_at(&self, index: u64) -> impl Iterator<Item = (Id, Pending)> {
        self.pending.iter_from(index).map(pending_of)
    }
}

impl PartialEq for Group {
    fn eq(&self, other: &Group) -> bool {
        (self.last, self.read, self.next_place) == (other.last, other.read, other.next_place)
            && self.released == other.released
            && self.consumers().eq(other.consumers())
    }
}

impl Group {
    /// A group that has read up to an id.
    pub(super) fn new(last: Id, read: i64) -> Group {
        Group {
            last,
            read,
            owners: Tree::default(),
            by_time: Tree::default(),
            consumers: BTreeMap::new(),
            released: None,
            next_place: 0,
            names: BTreeMap::new(),
            name_bytes: 0,
        }
    }

    /// Bytes by our own count, the name left out.
    pub(super) fn bytes(&self) -> u64 {
        GROUP_BYTES + self.name_bytes + CONSUMER_BYTES * self.names.len() as u64 + PENDING_BYTES * self.len()
    }

    /// Adds all that can be seen of it to a hash.
    pub(super) fn hash(&self, anew: bool, hasher: &mut Xxh3) {
        hasher.update(&self.last.bytes());
        for n in [self.read.cast_unsigned(), self.names.len() as u64] {
            hasher.update(&n.to_le_bytes());
        }
        for consumer in self.consumers() {
            let (active, pending) = (consumer.active.map_or(0, |at| at.wrapping_add(1)), &consumer.pending);
            let numbers = [consumer.name.len() as u64, consumer.seen, active, pending.len(), pending.print(anew)];
            numbers.iter().for_each(|n| hasher.update(&n.to_le_bytes()));
            hasher.update(&consumer.name);
        }
        if let Some(released) = &self.released {
            [released.pending.print(anew), self.next_place].iter().for_each(|n| hasher.update(&n.to_le_bytes()));
        }
    }

    /// How many entries are pending.
    pub(super) fn len(&self) -> u64 {
        self.owners.len()
    }

    /// All consumers, by name.
    pub(super) fn consumers(&self) -> impl ExactSizeIterator<Item = &Consumer> {
        self.names.values().map(|number| &*self.consumers[number])
    }

    /// The number of a consumer.
    pub(super) fn number(&self, name: &[u8]) -> Option<u64> {
        self.names.get(name).copied()
    }

    /// A consumer by its number, which must be known.
    pub(super) fn consumer(&self, number: u64) -> &Consumer {
        match &self.released {
            Some(released) if number == NOBODY => released,
            _ => &self.consumers[&number],
        }
    }

    /// The same, to change it.
    pub(super) fn consumer_mut(&mut self, number: u64) -> &mut Consumer {
        Arc::make_mut(match &mut self.released {
            Some(released) if number == NOBODY => released,
            _ => self.consumers.get_mut(&number).expect("numbers come from the table of names"),
        })
    }

    /// Adds a consumer and gives its number; nothing when the name is taken.
    pub(super) fn add_consumer(&mut self, name: &[u8], seen: u64) -> Option<u64> {
        if self.names.contains_key(name) {
            return None;
        }
        let number = self.consumers.last_key_value().map_or(0, |(last, _)| last + 1);
        self.consumers.insert(number, Arc::new(Consumer::new(name, seen)));
        self.names.insert(name.into(), number);
        self.name_bytes += name.len() as u64;
        Some(number)
    }

    /// The number of a consumer, which is made when there is none, seen just now.
    pub(super) fn see(&mut self, name: &[u8], now_ms: u64) -> u64 {
        match self.number(name) {
            Some(number) => {
                self.consumer_mut(number).seen = now_ms;
                number
            }
            None => self.add_consumer(name, now_ms).unwrap_or_default(),
        }
    }

    /// Removes a consumer with all that is pending there, and tells how much that was.
    pub(super) fn remove_consumer(&mut self, name: &[u8]) -> Option<u64> {
        let number = self.names.remove(name)?;
        self.name_bytes -= name.len() as u64;
        let consumer = self.consumers.remove(&number)?;
        for (id, pending) in consumer.pending_at(0) {
            drop_item(&mut self.owners, &id.bytes());
            drop_item(&mut self.by_time, &time_item(pending.time, id));
        }
        Some(consumer.len())
    }

    /// Whether an entry is pending.
    pub(super) fn is_pending(&self, id: Id) -> bool {
        self.owners.find(&id.bytes()).is_some()
    }

    /// Whose an entry is.
    pub(super) fn owner(&self, id: Id) -> Option<u64> {
        self.owners.find(&id.bytes()).map(|(_, item)| number(item, 16))
    }

    /// Whose a pending entry is, and its delivery.
    pub(super) fn pending(&self, id: Id) -> Option<(u64, Pending)> {
        let owner = self.owner(id)?;
        let (_, item) = self.consumer(owner).pending.find(&id.bytes())?;
        Some((owner, pending_of(item).1))
    }

    /// Makes an entry pending at a consumer, wherever it was before.
    pub(super) fn put(&mut self, id: Id, owner: u64, pending: Pending) {
        let item = pending_item(id, pending);
        match self.pending(id) {
            Some((before, old)) => {
                drop_item(&mut self.by_time, &time_item(old.time, id));
                if before == owner {
                    replace(&mut self.consumer_mut(owner).pending, id, &item);
                } else {
                    replace(&mut self.owners, id, &owner_item(id, owner));
                    drop_item(&mut self.consumer_mut(before).pending, &id.bytes());
                    put(&mut self.consumer_mut(owner).pending, &item);
                }
            }
            None => {
                put(&mut self.owners, &owner_item(id, owner));
                put(&mut self.consumer_mut(owner).pending, &item);
            }
        }
        put(&mut self.by_time, &time_item(pending.time, id));
        self.tidy();
    }

    /// What was released, if anything is.
    pub(super) fn released(&self) -> Option<&Consumer> {
        self.released.as_deref()
    }

    /// The place of what is released next.
    pub(super) fn next_place(&self) -> u64 {
        self.next_place
    }

    /// Releases an entry: it is nobody's, behind all that was released before.
    pub(super) fn release(&mut self, id: Id, count: u64) {
        let place = self.next_place;
        self.restore_released(id, Pending { time: place, count }, place + 1);
    }

    /// The same with the place that it had; `next` is the next one's.
    pub(super) fn restore_released(&mut self, id: Id, pending: Pending, next: u64) {
        self.released.get_or_insert_with(|| Arc::new(Consumer::new(b"", NOBODY)));
        self.next_place = next;
        self.put(id, NOBODY, pending);
    }

    /// Nothing stays of what was released when nothing is released any more.
    fn tidy(&mut self) {
        if self.released.as_ref().is_some_and(|released| released.len() == 0) {
            (self.released, self.next_place) = (None, 0);
        }
    }

    /// Takes a pending entry out; nothing when it was not pending.
    pub(super) fn take(&mut self, id: Id) -> Option<Pending> {
        let (owner, pending) = self.pending(id)?;
        drop_item(&mut self.owners, &id.bytes());
        drop_item(&mut self.by_time, &time_item(pending.time, id));
        drop_item(&mut self.consumer_mut(owner).pending, &id.bytes());
        self.tidy();
        Some(pending)
    }

    /// All that is pending, from an id on.
    pub(super) fn pending_from(&self, id: Id) -> impl Iterator<Item = (Id, &Consumer, Pending)> {
        self.pending_at(self.owners.lower_bound(&id.bytes()))
    }

    /// All that is pending, from some place on.
    pub(super) fn pending_at(&self, index: u64) -> impl Iterator<Item = (Id, &Consumer, Pending)> {
        self.owners.iter_from(index).filter_map(|item| {
            let (id, consumer) = (Id::of(item), self.consumer(number(item, 16)));
            let (_, item) = consumer.pending.find(&id.bytes())?;
            Some((id, consumer, pending_of(item).1))
        })
    }

    /// The first and the last that is pending.
    pub(super) fn bounds(&self) -> Option<(Id, Id)> {
        let last = self.owners.get(self.len().checked_sub(1)?)?;
        Some((Id::of(self.owners.get(0)?), Id::of(last)))
    }

    /// What was released, and then what was delivered at some time or before, the longest ago first.
    pub(super) fn waiting_since(&self, time: Option<u64>) -> impl Iterator<Item = Id> {
        let waits = move |item: &&[u8]| {
            time.is_some_and(|time| number(item, 0) <= time) || self.owner(Id::of(&item[8..])) == Some(NOBODY)
        };
        self.by_time.iter().take_while(waits).map(|item| Id::of(&item[8..]))
    }
}
