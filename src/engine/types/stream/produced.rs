//! What producers have said already: XADD with IDMP, XCFGSET, XIDMPRECORD.
//!
//! A producer names itself and its message; when it sends the message again, it is told the id of the entry that the
//! first one made. A name is known for `duration_s` seconds by the time in the entry's id, and only the latest
//! `max` of a producer are. Names that are too old are forgotten as others come, a bounded number at a time, and
//! count nowhere until then.
//!
//! Invariant: the three trees say the same.

use quoris_resp::{Argv, Reply};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::id::Id;
use super::value::Stream;
use crate::sequence::Tree;
use crate::types::collection::{change, look};
use crate::{ApplyContext, CommandResult, Error, Keyspace, number};

/// Names that are too old which one command forgets at most.
const FORGET_MAX: usize = 16;
/// Bytes beside the trees. A constant, so that replicas agree.
const OWN_BYTES: u64 = 160;
/// What XCFGSET takes.
const DURATION_MAX: i64 = 86_400;
const NAMES_MAX: i64 = 10_000;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Produced {
    /// How long a name is known, in seconds.
    pub(super) duration_s: u64,
    /// How many names of a producer are known.
    pub(super) max: u64,
    /// Entries that were added with a name.
    pub(super) added: u64,
    /// Entries that were not added again.
    pub(super) duplicates: u64,
    /// Producer, message, id.
    known: Tree,
    /// Producer, id, message.
    of_producer: Tree,
    /// Id, producer, message.
    by_age: Tree,
}

impl Default for Produced {
    fn default() -> Produced {
        let tree = Tree::default;
        Produced {
            duration_s: 100,
            max: 100,
            added: 0,
            duplicates: 0,
            known: tree(),
            of_producer: tree(),
            by_age: tree(),
        }
    }
}

/// A name such that no other begins with it.
fn key(name: &[u8]) -> Vec<u8> {
    let mut key = (name.len() as u32).to_be_bytes().to_vec();
    key.extend_from_slice(name);
    key
}

/// The name that a key begins with, and what is behind.
fn split(key: &[u8]) -> (&[u8], &[u8]) {
    let len = key.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes) as usize);
    key.get(4..).and_then(|rest| rest.split_at_checked(len)).unwrap_or_default()
}

fn put(tree: &mut Tree, parts: &[&[u8]]) {
    let item = parts.concat();
    tree.insert(tree.lower_bound(&item), &item);
}

fn drop_item(tree: &mut Tree, parts: &[&[u8]]) {
    if let Some((index, _)) = tree.find(&parts.concat()) {
        tree.remove(index);
    }
}

impl Produced {
    /// The least id that is not too old.
    fn oldest(&self, now_ms: u64) -> Id {
        Id::new(now_ms.saturating_sub(self.duration_s * 1000).saturating_add(1), 0)
    }

    /// The id of the entry that a message made.
    pub(super) fn find(&self, producer: &[u8], message: &[u8], now_ms: u64) -> Option<Id> {
        let key = [key(producer), key(message)].concat();
        let (_, item) = self.known.find(&key)?;
        Some(Id::of(&item[key.len()..])).filter(|id| *id >= self.oldest(now_ms))
    }

    /// Remembers the entry that a message made.
    pub(super) fn record(&mut self, producer: &[u8], message: &[u8], id: Id) {
        let (producer, message) = (key(producer), key(message));
        if let Some((_, old)) = self.known.find(&[&producer[..], &message].concat()) {
            let old = Id::of(&old[producer.len() + message.len()..]);
            self.forget(&producer, &message, old);
        }
        put(&mut self.known, &[&producer, &message, &id.bytes()]);
        put(&mut self.of_producer, &[&producer, &id.bytes(), &message]);
        put(&mut self.by_age, &[&id.bytes(), &producer, &message]);
        while self.count_of(&producer) > self.max {
            let index = self.of_producer.lower_bound(&producer);
            let Some(item) = self.of_producer.get(index) else { break };
            let (id, message) = (Id::of(&item[producer.len()..]), item[producer.len() + 16..].to_vec());
            self.forget(&producer, &message, id);
        }
    }

    /// Forgets a name, both parts as keys.
    fn forget(&mut self, producer: &[u8], message: &[u8], id: Id) {
        drop_item(&mut self.known, &[producer, message]);
        drop_item(&mut self.of_producer, &[producer, &id.bytes(), message]);
        drop_item(&mut self.by_age, &[&id.bytes(), producer, message]);
    }

    /// Forgets some of what is too old.
    pub(super) fn forget_old(&mut self, now_ms: u64) {
        let oldest = self.oldest(now_ms);
        for _ in 0..FORGET_MAX {
            let Some(item) = self.by_age.get(0).filter(|item| Id::of(item) < oldest) else { break };
            let (id, names) = (Id::of(item), item[16..].to_vec());
            let (producer, message) = names.split_at(4 + split(&names).0.len());
            self.forget(producer, message, id);
        }
    }

    /// The index behind a producer's names in [`Produced::of_producer`], whose key is given.
    fn end_of(&self, producer: &[u8]) -> u64 {
        self.of_producer.lower_bound(&[producer, &[0xff; 16], &[0xff; 4]].concat())
    }

    fn count_of(&self, producer: &[u8]) -> u64 {
        self.end_of(producer) - self.of_producer.lower_bound(producer)
    }

    /// Changes how long and how many names are known; anything else than before forgets all of them.
    pub(super) fn configure(&mut self, duration_s: u64, max: u64) {
        if (duration_s, max) != (self.duration_s, self.max) {
            let (added, duplicates) = (self.added, self.duplicates);
            *self = Produced { duration_s, max, added, duplicates, ..Produced::default() };
        }
    }

    /// How many names are known that are not too old.
    pub(super) fn messages(&self, now_ms: u64) -> u64 {
        self.by_age.len() - self.by_age.lower_bound(&self.oldest(now_ms).bytes())
    }

    /// How many producers have such names.
    pub(super) fn producers(&self, now_ms: u64) -> u64 {
        let (oldest, mut count, mut at) = (self.oldest(now_ms), 0, 0);
        while let Some(item) = self.of_producer.get(at) {
            let producer = &item[..4 + split(item).0.len()];
            at = self.end_of(producer);
            // The latest of each tells.
            let latest = at.checked_sub(1).and_then(|last| self.of_producer.get(last));
            count += u64::from(latest.is_some_and(|item| Id::of(&item[producer.len()..]) >= oldest));
        }
        count
    }

    /// All names: producer, message, id.
    pub(super) fn all(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8], Id)> {
        (0..self.known.len() as usize).map(|at| {
            let item = self.known.get(at as u64).unwrap_or_default();
            let (producer, rest) = split(item);
            let (message, _) = split(rest);
            (producer, message, Id::of(&rest[4 + message.len()..]))
        })
    }

    /// How many names there are.
    pub(super) fn len(&self) -> u64 {
        self.known.len()
    }

    /// All names from some place on, each in one text.
    pub(super) fn names_from(&self, index: u64) -> impl Iterator<Item = &[u8]> {
        self.known.iter_from(index)
    }

    /// What such a text says: producer, message, id. Nothing when it is none.
    pub(super) fn parse_name(item: &[u8]) -> Option<(&[u8], &[u8], Id)> {
        let part = |item| {
            let (len, rest) = <[u8]>::split_first_chunk::<4>(item)?;
            rest.split_at_checked(u32::from_be_bytes(*len) as usize)
        };
        let (producer, rest) = part(item)?;
        let (message, id) = part(rest)?;
        (id.len() == 16).then(|| (producer, message, Id::of(id)))
    }

    /// Whether such limits can be set.
    pub(super) fn allows(duration_s: u64, max: u64) -> bool {
        (1..=DURATION_MAX.cast_unsigned()).contains(&duration_s) && (1..=NAMES_MAX.cast_unsigned()).contains(&max)
    }

    /// Bytes by our own count.
    pub(super) fn bytes(&self) -> u64 {
        OWN_BYTES + self.known.bytes() + self.of_producer.bytes() + self.by_age.bytes()
    }

    /// Adds all that can be seen of it to a hash.
    pub(super) fn hash(&self, anew: bool, hasher: &mut Xxh3) {
        let numbers = [self.duration_s, self.max, self.added, self.duplicates, self.known.print(anew)];
        numbers.iter().for_each(|n| hasher.update(&n.to_le_bytes()));
    }
}

/// The name that IDMPAUTO gives a message: the same for the same fields and values in any order.
pub(super) fn content_name<'a>(fields: impl Iterator<Item = &'a [u8]>) -> [u8; 16] {
    let (mut sum, mut fields) = (0u128, fields);
    while let (Some(field), Some(value)) = (fields.next(), fields.next()) {
        sum = sum.wrapping_add(xxh3_128(&[&key(field)[..], value].concat()));
    }
    sum.to_be_bytes()
}

/// XCFGSET
pub(super) fn xcfgset(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    if argv.len() == 2 {
        return Err(Error::text("ERR At least one parameter must be specified"));
    }
    let (mut duration, mut max, mut at) = (None, None, 2);
    while let Some(word) = argv.get(at) {
        let (place, name, limit, unit) = match &word.to_ascii_lowercase()[..] {
            b"idmp-duration" => (&mut duration, "IDMP-DURATION", DURATION_MAX, "seconds"),
            b"idmp-maxsize" => (&mut max, "IDMP-MAXSIZE", NAMES_MAX, "entries"),
            _ => return Err(Error::Syntax),
        };
        let n = number::integer(argv.get(at + 1).ok_or(Error::Syntax)?).ok_or(Error::NotAnInteger)?;
        if !(1..=limit).contains(&n) {
            return Err(Error::text(format!("ERR {name} must be between 1 and {limit} {unit}")));
        }
        *place = Some(n.cast_unsigned());
        at += 2;
    }
    let stream = look::<Stream>(keyspace, context.database, &argv[1])?.ok_or(Error::NoSuchKey)?;
    let now = stream.produced().map_or((100, 100), |produced| (produced.duration_s, produced.max));
    let wanted = (duration.unwrap_or(now.0), max.unwrap_or(now.1));
    if wanted != now {
        change(keyspace, context.database, &argv[1], None, |stream: &mut Stream, _| {
            stream.change_produced(|produced| produced.configure(wanted.0, wanted.1));
        })?;
    }
    Ok(Reply::Ok)
}

/// The names of a producer and of a message, which must say something.
///
/// # Errors
/// When one is empty.
pub(super) fn check_names(option: &str, producer: &[u8], message: &[u8]) -> Result<(), Error> {
    let what = match (producer, message) {
        (b"", _) => "producer",
        (_, b"") => "idempotent",
        _ => return Ok(()),
    };
    Err(Error::text(format!("ERR {option} requires a non-empty {what} ID")))
}

/// XIDMPRECORD
pub(super) fn xidmprecord(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let id = Id::parse(&argv[4], 0)?;
    let stream = look::<Stream>(keyspace, context.database, &argv[1])?.ok_or(Error::NoSuchKey)?;
    check_names("XIDMPRECORD", &argv[2], &argv[3])?;
    if stream.find(id).is_none() {
        return Err(Error::text("ERR The stream has no entry with this ID"));
    }
    match stream.produced().and_then(|produced| produced.find(&argv[2], &argv[3], context.now_ms)) {
        Some(known) if known == id => return Ok(Reply::Ok),
        Some(_) => return Err(Error::text("ERR The idempotent ID of this producer belongs to another entry")),
        None => {}
    }
    change(keyspace, context.database, &argv[1], None, |stream: &mut Stream, _| {
        stream.change_produced(|produced| produced.record(&argv[2], &argv[3], id));
    })?;
    Ok(Reply::Ok)
}
