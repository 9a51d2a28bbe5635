//! A stream in units: its counters, the items of its entries, then group by group what a group knows, who reads for
//! it with what is pending there, what was released; and what producers have said.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::super::group::{Consumer, Group, NUMBER_MAX, Pending};
use super::super::id::Id;
use super::super::produced::Produced;
use super::Stream;
use crate::types::collection::{Collection, Typed};
use crate::types::growing::{Growing, push_ascending};
use crate::{Value, codec};

/// The first unit.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    entries: u64,
    last: [u8; 16],
    max_deleted: [u8; 16],
    added: u64,
    groups: u64,
    produced: Option<ProducedHead>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct ProducedHead {
    duration_s: u64,
    max: u64,
    added: u64,
    duplicates: u64,
    names: u64,
}

/// In front of a group's consumers.
#[derive(Debug, Serialize, Deserialize)]
struct GroupHead {
    name: Vec<u8>,
    last: [u8; 16],
    read: i64,
    consumers: u64,
    released: u64,
    /// The place of what is released next.
    next: u64,
}

/// In front of what is pending at a consumer.
#[derive(Debug, Serialize, Deserialize)]
struct ConsumerHead {
    name: Vec<u8>,
    seen: u64,
    active: Option<u64>,
    pending: u64,
}

type PendingUnit = ([u8; 16], u64, u64);

fn read<T: serde::de::DeserializeOwned>(unit: &[u8]) -> Option<T> {
    let (value, len) = codec::read(unit, "stream").ok()?;
    (len == unit.len()).then_some(value)
}

/// Units, counted from the beginning.
struct Parts<'a> {
    from: u64,
    /// The next one.
    at: u64,
    visit: &'a mut dyn FnMut(&[u8]) -> bool,
}

impl Parts<'_> {
    /// Gives one unless it is passed over; false when it was not taken.
    fn one(&mut self, unit: impl FnOnce() -> Vec<u8>) -> bool {
        let taken = self.at < self.from || (self.visit)(&unit());
        self.at += u64::from(taken);
        taken
    }

    /// Gives `count` of them, which `units` has from some place on.
    fn many<T, I: Iterator<Item = T>>(
        &mut self,
        count: u64,
        units: impl FnOnce(u64) -> I,
        mut give: impl FnMut(T, &mut dyn FnMut(&[u8]) -> bool) -> bool,
    ) -> bool {
        let passed = self.from.saturating_sub(self.at).min(count);
        self.at += passed;
        passed == count
            || units(passed).all(|unit| {
                let taken = give(unit, self.visit);
                self.at += u64::from(taken);
                taken
            })
    }

    fn pending(&mut self, consumer: &Consumer) -> bool {
        self.many(
            consumer.len(),
            |passed| consumer.pending_at(passed),
            |(id, pending), visit| {
                let unit: PendingUnit = (id.bytes(), pending.time, pending.count);
                visit(&codec::bytes(&unit))
            },
        )
    }

    fn group(&mut self, name: &[u8], group: &Group) -> bool {
        let head = || GroupHead {
            name: name.to_vec(),
            last: group.last.bytes(),
            read: group.read,
            consumers: group.consumers().len() as u64,
            released: group.released().map_or(0, Consumer::len),
            next: group.next_place(),
        };
        self.one(|| codec::bytes(&head()))
            && group.consumers().all(|consumer| {
                let Consumer { seen, active, .. } = *consumer;
                let head = || ConsumerHead { name: consumer.name.to_vec(), seen, active, pending: consumer.len() };
                self.one(|| codec::bytes(&head())) && self.pending(consumer)
            })
            && group.released().is_none_or(|released| self.pending(released))
    }
}

/// See [`Collection::units`].
pub(super) fn visit(stream: &Stream, from: u64, visit: &mut dyn FnMut(&[u8]) -> bool) {
    let produced = stream.produced().map(|produced| ProducedHead {
        duration_s: produced.duration_s,
        max: produced.max,
        added: produced.added,
        duplicates: produced.duplicates,
        names: produced.len(),
    });
    let head = || Head {
        entries: stream.len(),
        last: stream.last().bytes(),
        max_deleted: stream.max_deleted().bytes(),
        added: stream.added(),
        groups: stream.groups().len() as u64,
        produced,
    };
    let mut parts = Parts { from, at: 0, visit };
    let _ = parts.one(|| codec::bytes(&head()))
        && parts.many(stream.len(), |passed| stream.iter_from(passed), |item, visit| visit(item))
        && stream.groups().all(|(name, group)| parts.group(name, group))
        && stream.produced().is_none_or(|produced| {
            parts.many(produced.len(), |passed| produced.names_from(passed), |item, visit| visit(item))
        });
}

/// A group that comes.
#[derive(Debug)]
struct Begun {
    name: Vec<u8>,
    group: Group,
    consumers: u64,
    /// The consumer that comes, and how much of what is pending there.
    consumer: Option<(u64, u64)>,
    released: u64,
    next: u64,
}

/// A stream that comes. Of what was announced it counts down what is missing.
#[derive(Debug, Default)]
struct Arriving {
    stream: Stream,
    head: Option<Head>,
    group: Option<Begun>,
}

/// A stream of which nothing has come yet.
pub(crate) fn growing() -> Box<dyn Growing> {
    Box::new(Arriving::default())
}

/// Whether bytes are fields and values, each behind its length.
fn is_fields(mut bytes: &[u8]) -> bool {
    let mut count = 0;
    while !bytes.is_empty() {
        let Some(rest) = take_length(&mut bytes).and_then(|len| bytes.get(len..)) else { return false };
        (bytes, count) = (rest, count + 1);
    }
    count % 2 == 0
}

/// A length in LEB128 as it is written, in as few bytes as it needs.
fn take_length(bytes: &mut &[u8]) -> Option<usize> {
    let (mut len, mut shift) = (0usize, 0);
    loop {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        len |= usize::from(first & 0x7f).checked_shl(shift).filter(|_| shift < 35)?;
        if *first < 0x80 {
            return (*first > 0 || shift == 0).then_some(len);
        }
        shift += 7;
    }
}

impl Begun {
    fn pending(&mut self, owner: Option<u64>, unit: &[u8]) -> Option<()> {
        let (id, time, count): PendingUnit = read(unit)?;
        let (id, pending) = (Id::of(&id), Pending { time, count });
        if self.group.is_pending(id) || time > NUMBER_MAX || count > NUMBER_MAX {
            return None;
        }
        match owner {
            Some(owner) => self.group.put(id, owner, pending),
            None if time < self.next => self.group.restore_released(id, pending, self.next),
            None => return None,
        }
        Some(())
    }

    fn add(&mut self, unit: &[u8]) -> Option<()> {
        match &mut self.consumer {
            Some((owner, left)) if *left > 0 => {
                *left -= 1;
                let owner = *owner;
                self.pending(Some(owner), unit)
            }
            _ if self.consumers > 0 => {
                let head: ConsumerHead = read(unit)?;
                if head.seen > NUMBER_MAX || head.active.is_some_and(|at| at > NUMBER_MAX) {
                    return None;
                }
                let number = self.group.add_consumer(&head.name, head.seen)?;
                self.group.consumer_mut(number).active = head.active;
                self.consumers -= 1;
                self.consumer = Some((number, head.pending));
                Some(())
            }
            _ => {
                self.released = self.released.checked_sub(1)?;
                self.pending(None, unit)
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.consumers == 0 && self.released == 0 && self.consumer.is_none_or(|(_, left)| left == 0)
    }
}

impl Arriving {
    fn begin(&mut self, unit: &[u8]) -> Option<()> {
        let head: Head = read(unit)?;
        if let Some(produced) = head.produced {
            if !Produced::allows(produced.duration_s, produced.max) {
                return None;
            }
            self.stream.change_produced(|own| {
                own.configure(produced.duration_s, produced.max);
                (own.added, own.duplicates) = (produced.added, produced.duplicates);
            });
        }
        self.head = Some(head);
        Some(())
    }

    fn begin_group(&mut self, unit: &[u8]) -> Option<()> {
        let head: GroupHead = read(unit)?;
        if self.stream.group(&head.name).is_some() || head.next > NUMBER_MAX {
            return None;
        }
        let group = Group::new(Id::of(&head.last), head.read);
        let (consumers, released, next) = (head.consumers, head.released, head.next);
        self.group = Some(Begun { name: head.name, group, consumers, consumer: None, released, next });
        Some(())
    }

    fn name(&mut self, unit: &[u8]) -> Option<()> {
        let (producer, message, id) = Produced::parse_name(unit)?;
        let before = self.stream.produced()?.len();
        self.stream.change_produced(|produced| produced.record(producer, message, id));
        // One that was known already takes the other's place, one too many takes the oldest one's.
        (self.stream.produced()?.len() == before + 1).then_some(())
    }
}

impl Growing for Arriving {
    fn add(&mut self, unit: Cow<'_, [u8]>) -> Option<()> {
        let Some(head) = &mut self.head else { return self.begin(&unit) };
        if head.entries > 0 {
            head.entries -= 1;
            let fields = unit.get(16..)?;
            if Id::of(&unit) == Id::MIN || !is_fields(fields) {
                return None;
            }
            // The id orders them: what is behind it is not asked.
            if self.stream.last_id().is_some_and(|last| last >= Id::of(&unit)) {
                return None;
            }
            return push_ascending(&mut self.stream.0.entries, &unit);
        }
        match &mut self.group {
            Some(group) => group.add(&unit)?,
            None if head.groups > 0 => {
                head.groups -= 1;
                self.begin_group(&unit)?;
            }
            None => {
                let names = head.produced.as_mut().map(|produced| &mut produced.names)?;
                *names = names.checked_sub(1)?;
                self.name(&unit)?;
            }
        }
        if let Some(group) = self.group.take_if(|group| group.is_whole()) {
            self.stream.put_group(&group.name, group.group);
        }
        Some(())
    }

    fn settle(&self) {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        self.stream.0.entries.print(false);
        self.stream.produced().into_iter().for_each(|produced| produced.hash(false, &mut hasher));
        self.group.iter().for_each(|begun| begun.group.hash(false, &mut hasher));
    }

    fn finish(mut self: Box<Self>) -> Option<Value> {
        let head = self.head.take()?;
        let names = head.produced.map_or(0, |produced| produced.names);
        if self.group.is_some() || (head.entries, head.groups, names) != (0, 0, 0) {
            return None;
        }
        let last = Id::of(&head.last);
        self.stream.set_counters(last, Id::of(&head.max_deleted), head.added);
        self.stream.last_id().is_none_or(|id| id <= last).then(|| self.stream.into_value())
    }
}
