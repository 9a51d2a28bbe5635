//! Streams in RDB.
//!
//! Written in the form of Redis 7.0 (type 19), which later versions read too: nodes of entries as listpacks,
//! counters, then the groups. It has no place for the time at which a consumer was active last, nor for what later
//! versions know; a snapshot keeps that beside the value (`beside.rs`). Read in the forms of Redis 5 to 8.
//!
//! Invariants:
//! * What is read may come from anywhere: order, totals and references are checked, and nothing is allocated
//!   that the input does not hold.
//! * The bytes are a function of what can be seen of a stream.

use std::collections::BTreeMap;

use super::group::{Consumer, Group, Pending};
use super::id::Id;
use super::value::{Stream, fields};
use crate::Value;
use crate::rdb::packed::{self, ListpackWriter};
use crate::rdb::{RdbError, Source, write};
use crate::types::collection::{Collection, Typed};

/// As Redis 5 wrote them.
const RDB_STREAM: u8 = 15;
/// As Redis 7.0 writes them.
pub(super) const RDB_STREAM_2: u8 = 19;
/// As Redis 7.2 writes them, with the time at which a consumer was active.
const RDB_STREAM_3: u8 = 21;
/// What a node holds, by default, in Redis.
const NODE_ENTRIES: u64 = 100;
const NODE_BYTES: u64 = 4096;
/// Nodes of a stream with fewer bytes than this are far from the end of what a listpack can hold.
const SAFE_BYTES_MAX: u64 = 1 << 30;
/// Fields that entries share stand once in a node, and once in each entry here: so many times what the node has
/// is believed. A node of Redis has 100 entries unless somebody says otherwise.
const EXPANSION_MAX: usize = 128;
/// Flags in front of an entry.
const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

fn per_node(stream: &Stream) -> u64 {
    if stream.bytes() > SAFE_BYTES_MAX { 1 } else { stream.per_node(NODE_ENTRIES, NODE_BYTES) }
}

/// The number of nodes.
pub(super) fn write_head(stream: &Stream, out: &mut Vec<u8>) {
    write::length(stream.len().div_ceil(per_node(stream)), out);
}

fn put_id(id: Id, out: &mut Vec<u8>) {
    write::length(id.ms(), out);
    write::length(id.seq(), out);
}

fn push_number(n: i64, node: &mut ListpackWriter) {
    node.push(itoa::Buffer::new().format(n).as_bytes());
}

/// A node: the fields of its first entry, then the entries, which leave out fields that are the same.
fn write_node<'a>(entries: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let entries: Vec<&[u8]> = entries.collect();
    let Some(first) = entries.first() else { return };
    let master = Id::of(first);
    let names: Vec<&[u8]> = fields(first).step_by(2).collect();
    let mut node = ListpackWriter::new();
    for n in [entries.len() as i64, 0, names.len() as i64] {
        push_number(n, &mut node);
    }
    names.iter().for_each(|name| node.push(name));
    push_number(0, &mut node);
    for entry in entries {
        let same = fields(entry).step_by(2).eq(names.iter().copied());
        let (id, count) = (Id::of(entry), fields(entry).count() as i64 / 2);
        let ms = id.ms().wrapping_sub(master.ms()).cast_signed();
        let seq = id.seq().wrapping_sub(master.seq()).cast_signed();
        for n in [if same { SAME_FIELDS } else { 0 }, ms, seq] {
            push_number(n, &mut node);
        }
        if same {
            fields(entry).skip(1).step_by(2).for_each(|value| node.push(value));
            push_number(count + 3, &mut node);
        } else {
            push_number(count, &mut node);
            fields(entry).for_each(|text| node.push(text));
            push_number(2 * count + 4, &mut node);
        }
    }
    write::string(&master.bytes(), out);
    write::string(&node.finish(), out);
}

/// What is written bit by bit, in units that are counted from the beginning of the stream.
struct Parts<'a> {
    out: &'a mut Vec<u8>,
    end: usize,
    from: u64,
    /// The next unit.
    at: u64,
}

impl Parts<'_> {
    /// Writes one unit, unless it was written before; false when there is no room for it.
    fn one(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.at >= self.from {
            if self.at > self.from && self.out.len() >= self.end {
                return false;
            }
            write(self.out);
        }
        self.at += 1;
        true
    }

    /// Writes `count` units, which `items` gives from some place on.
    fn many<T, I: Iterator<Item = T>>(
        &mut self,
        count: u64,
        items: impl FnOnce(u64) -> I,
        write: impl Fn(T, &mut Vec<u8>),
    ) -> bool {
        let passed = self.from.saturating_sub(self.at).min(count);
        self.at += passed;
        if passed == count {
            return true;
        }
        items(passed).all(|item| self.one(|out| write(item, out)))
    }
}

/// See [`Collection::write_part`]: a unit is a node, a pending entry, or what stands in front of several.
pub(super) fn write_part(stream: &Stream, from: u64, end: usize, out: &mut Vec<u8>) -> Option<u64> {
    let mut parts = Parts { out, end, from, at: 0 };
    let per_node = per_node(stream);
    let nodes = stream.len().div_ceil(per_node);
    let whole = parts.many(
        nodes,
        |passed| passed..nodes,
        |node, out| write_node(stream.iter_from(node * per_node).take(per_node as usize), out),
    ) && parts.one(|out| write_counters(stream, out))
        && stream.groups().all(|(name, group)| write_group(name, group, &mut parts));
    (!whole).then_some(parts.at)
}

fn write_counters(stream: &Stream, out: &mut Vec<u8>) {
    write::length(stream.len(), out);
    [stream.last(), stream.first_id(), stream.max_deleted()].into_iter().for_each(|id| put_id(id, out));
    write::length(stream.added(), out);
    write::length(stream.groups().len() as u64, out);
}

fn write_group(name: &[u8], group: &Group, parts: &mut Parts<'_>) -> bool {
    parts.one(|out| {
        write::string(name, out);
        put_id(group.last, out);
        write::length(group.read.cast_unsigned(), out);
        write::length(group.len(), out);
    }) && parts.many(
        group.len(),
        |passed| group.pending_at(passed),
        |(id, _, pending), out| {
            out.extend_from_slice(&id.bytes());
            out.extend_from_slice(&pending.time.to_le_bytes());
            write::length(pending.count, out);
        },
    ) && parts.one(|out| write::length(owners(group).count() as u64, out))
        && owners(group).all(|(consumer, released)| {
            let len = |consumer: Option<&Consumer>| consumer.map_or(0, Consumer::len);
            parts.one(|out| {
                write::string(consumer.map_or(b"", |consumer| &consumer.name), out);
                out.extend_from_slice(&consumer.map_or(0, |consumer| consumer.seen).to_le_bytes());
                write::length(len(consumer) + len(released), out);
            }) && [consumer, released].into_iter().flatten().all(|some| {
                parts.many(
                    some.len(),
                    |passed| some.pending_at(passed),
                    |(id, _), out| out.extend_from_slice(&id.bytes()),
                )
            })
        })
}

/// Who has what is pending, as this form can say it: what was released belongs to a consumer without a name, which
/// is made up or a real one.
fn owners(group: &Group) -> impl Iterator<Item = (Option<&Consumer>, Option<&Consumer>)> {
    let nameless = group.number(b"").map(|number| group.consumer(number));
    let first = group.released().map(|released| (nameless, Some(released)));
    let has_first = first.is_some();
    let rest = group.consumers().filter(move |consumer| !has_first || !consumer.name.is_empty());
    first.into_iter().chain(rest.map(|consumer| (Some(consumer), None)))
}

/// The elements of a node that are still to come.
struct Elements(std::vec::IntoIter<Vec<u8>>);

impl Elements {
    fn text(&mut self) -> Result<Vec<u8>, &'static str> {
        self.0.next().ok_or("a stream's node ends within an entry")
    }

    fn number(&mut self) -> Result<i64, &'static str> {
        crate::number::integer(&self.text()?).ok_or("a stream's node has text in the place of a number")
    }

    /// A count of what follows, one element each at least.
    fn count(&mut self) -> Result<usize, &'static str> {
        let count = usize::try_from(self.number()?).ok().filter(|count| *count <= self.0.len());
        count.ok_or("a stream's node announces more than it has")
    }
}

/// Adds the entries of a node to a stream.
fn read_node(stream: &mut Stream, master: Id, elements: Vec<Vec<u8>>) -> Result<(), &'static str> {
    let mut budget = EXPANSION_MAX * elements.iter().map(|element| element.len() + 1).sum::<usize>();
    let mut elements = Elements(elements.into_iter());
    let (alive, deleted) = (elements.count()?, elements.count()?);
    let names = (0..elements.count()?).map(|_| elements.text()).collect::<Result<Vec<_>, _>>()?;
    if elements.number()? != 0 {
        return Err("a stream's node has no end of its fields");
    }
    let mut seen = [0, 0];
    while elements.0.len() > 0 {
        let flags = elements.number()?;
        let ms = master.ms().wrapping_add(elements.number()?.cast_unsigned());
        let seq = master.seq().wrapping_add(elements.number()?.cast_unsigned());
        let same = flags & SAME_FIELDS != 0;
        let count = if same { names.len() } else { elements.count()? };
        if same {
            let shared = names.iter().map(|name| name.len() + 1).sum();
            budget = budget.checked_sub(shared).ok_or("a stream's node shares its fields too often")?;
        }
        let mut texts = Vec::with_capacity(2 * count.min(elements.0.len()));
        let mut shared = names.iter().filter(|_| same);
        for _ in 0..count {
            texts.push(match shared.next() {
                Some(name) => name.clone(),
                None => elements.text()?,
            });
            texts.push(elements.text()?);
        }
        let parts = if same { count + 3 } else { 2 * count + 4 };
        if elements.number()? != parts as i64 {
            return Err("a stream's entry has another length from behind");
        }
        let id = Id::new(ms, seq);
        let is_deleted = flags & DELETED != 0;
        seen[usize::from(is_deleted)] += 1;
        if is_deleted {
            continue;
        }
        if id == Id::MIN || id <= stream.last() {
            return Err("the entries of a stream are not in order");
        }
        stream.append(id, texts.iter().map(Vec::as_slice));
    }
    if seen != [alive, deleted] { Err("a stream's node has another number of entries than it says") } else { Ok(()) }
}

fn read_id(source: &mut Source<'_>) -> Result<Id, RdbError> {
    Ok(Id::new(source.length()?, source.length()?))
}

/// A time; one before 1970 counts as 1970.
fn read_time(source: &mut Source<'_>) -> Result<u64, RdbError> {
    Ok(u64::try_from(i64::from_le_bytes(source.array()?)).unwrap_or(0))
}

impl Stream {
    /// Reads a stream; nothing when the type byte is not a stream's.
    ///
    /// # Errors
    /// When the data is damaged.
    pub(crate) fn read(source: &mut Source<'_>, kind: u8) -> Result<Option<Value>, RdbError> {
        if ![RDB_STREAM, RDB_STREAM_2, RDB_STREAM_3].contains(&kind) {
            return Ok(None);
        }
        let mut stream = Stream::default();
        for _ in 0..source.length()? {
            let master = source.string()?;
            let master = master.as_chunks::<16>();
            let ([master], []) = master else { return Err(source.malformed("a stream's node of no id")) };
            let elements = source.packed(packed::listpack)?;
            read_node(&mut stream, Id::of(master), elements).map_err(|why| source.malformed(why))?;
        }
        let (len, last) = (source.length()?, read_id(source)?);
        if len != stream.len() || last < stream.last() {
            return Err(source.malformed("a stream's totals do not fit its entries"));
        }
        let (mut max_deleted, mut added) = (Id::MIN, len);
        if kind != RDB_STREAM {
            read_id(source)?;
            (max_deleted, added) = (read_id(source)?, source.length()?);
        }
        stream.set_counters(last, max_deleted, added);
        for _ in 0..source.length()? {
            let name = source.string()?;
            let group = read_group(source, kind, &stream)?;
            if stream.group(&name).is_some() {
                return Err(source.malformed("a stream has a group twice"));
            }
            stream.put_group(&name, group);
        }
        Ok(Some(stream.into_value()))
    }
}

fn read_group(source: &mut Source<'_>, kind: u8, stream: &Stream) -> Result<Group, RdbError> {
    let last = read_id(source)?;
    let read = if kind == RDB_STREAM { stream.added_up_to(last) } else { source.length()?.cast_signed() };
    let mut group = Group::new(last, read);
    let mut unowned = BTreeMap::new();
    for _ in 0..source.length()? {
        let id = Id::of(&source.array::<16>()?);
        let pending = Pending { time: read_time(source)?, count: source.length()? };
        if unowned.insert(id, pending).is_some() {
            return Err(source.malformed("an entry is pending twice"));
        }
    }
    for _ in 0..source.length()? {
        let name = source.string()?;
        let seen = read_time(source)?;
        let Some(number) = group.add_consumer(&name, seen) else {
            return Err(source.malformed("a group has a consumer twice"));
        };
        let active = if kind == RDB_STREAM_3 { i64::from_le_bytes(source.array()?) } else { seen.cast_signed() };
        group.consumer_mut(number).active = u64::try_from(active).ok();
        for _ in 0..source.length()? {
            let id = Id::of(&source.array::<16>()?);
            let pending = unowned.remove(&id);
            let pending = pending.ok_or_else(|| source.malformed("a consumer's entry is not the group's"))?;
            group.put(id, number, pending);
        }
    }
    if unowned.is_empty() { Ok(group) } else { Err(source.malformed("a pending entry without a consumer")) }
}
