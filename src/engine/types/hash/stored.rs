//! A hash as all types are seen from outside: counted, hashed, written to RDB and read from it.
//!
//! Hashes without deadlines have a form in RDB that every Redis reads. Those with deadlines have the one of
//! Redis 7.4 and later: the earliest deadline in front, and with each field 0, or one more than how much later
//! its own deadline is.

use super::times::Times;
use super::value::{Body, Hash, View};
use crate::events::Class;
use crate::rdb::{HASH_METADATA, RdbError, Source, packed, write};
use crate::types::collection::{Collection, Typed};
use crate::{Settings, Value, number};

/// RDB: fields and values one by one.
const RDB_HASH: u8 = 4;
const RDB_ZIPMAP: u8 = 9;
const RDB_ZIPLIST: u8 = 13;
const RDB_LISTPACK: u8 = 16;
const RDB_METADATA_BEFORE: u8 = 22;
const RDB_LISTPACK_EX_BEFORE: u8 = 23;
const RDB_LISTPACK_EX: u8 = 25;
/// Later deadlines of fields are no deadlines, as in Redis.
pub(super) const DEADLINE_MAX: u64 = (1 << 48) - 1;

type Field = (Vec<u8>, Vec<u8>, Option<u64>);

/// Field and value in turn.
fn pairs(source: &Source<'_>, items: Vec<Vec<u8>>) -> Result<Vec<Field>, RdbError> {
    if items.len() % 2 == 1 {
        return Err(source.malformed("a hash with a field without a value"));
    }
    let mut items = items.into_iter();
    Ok(std::iter::from_fn(|| Some((items.next()?, items.next()?, None))).collect())
}

/// Field, value and deadline in turn.
fn triples(source: &Source<'_>, items: &[Vec<u8>]) -> Result<Vec<Field>, RdbError> {
    let deadline =
        |text: &[u8]| number::integer(text).and_then(|n| u64::try_from(n).ok()).filter(|at| *at <= DEADLINE_MAX);
    let triple = |items: &[Vec<u8>]| match items {
        [field, value, at] => Some((field.clone(), value.clone(), Some(deadline(at)?).filter(|at| *at > 0))),
        _ => None,
    };
    let fields: Option<Vec<Field>> = items.chunks(3).map(triple).collect();
    fields.ok_or_else(|| source.malformed("a hash with a field without a deadline"))
}

/// Deadline, field and value one by one; deadlines count from `base`.
fn expiring(source: &mut Source<'_>, base: Option<u64>) -> Result<Vec<Field>, RdbError> {
    let mut fields = Vec::new();
    for _ in 0..source.length()? {
        let at = match (source.length()?, base) {
            (0, _) => None,
            (at, None) => Some(at),
            (later, Some(base)) => Some(base.saturating_add(later - 1)),
        };
        if at.is_some_and(|at| at > DEADLINE_MAX) {
            return Err(source.malformed("a field whose deadline is out of range"));
        }
        fields.push((source.string()?, source.string()?, at));
    }
    Ok(fields)
}

impl Hash {
    /// Reads a hash in any of the forms that RDB has had; nothing when the type byte is not a hash's.
    ///
    /// # Errors
    /// When the data is damaged.
    pub(crate) fn read(source: &mut Source<'_>, kind: u8, settings: &Settings) -> Result<Option<Value>, RdbError> {
        let fields: Vec<Field> = match kind {
            RDB_HASH => {
                let mut fields = Vec::new();
                for _ in 0..source.length()? {
                    fields.push((source.string()?, source.string()?, None));
                }
                fields
            }
            RDB_ZIPMAP => {
                let items = source.packed(packed::zipmap)?;
                pairs(source, items)?
            }
            RDB_ZIPLIST => {
                let items = source.packed(packed::ziplist)?;
                pairs(source, items)?
            }
            RDB_LISTPACK => {
                let items = source.packed(packed::listpack)?;
                pairs(source, items)?
            }
            RDB_METADATA_BEFORE => expiring(source, None)?,
            HASH_METADATA => {
                let first = u64::from_le_bytes(source.array()?);
                expiring(source, Some(first))?
            }
            RDB_LISTPACK_EX_BEFORE | RDB_LISTPACK_EX => {
                if kind == RDB_LISTPACK_EX {
                    source.array::<8>()?;
                }
                let items = source.packed(packed::listpack)?;
                triples(source, &items)?
            }
            _ => return Ok(None),
        };
        match Hash::of(&fields, settings) {
            Some(hash) if hash.len() > 0 => Ok(Some(hash.into_value())),
            Some(_) => Err(source.malformed("an empty hash")),
            None => Err(source.malformed("a hash with a field twice")),
        }
    }
}

impl Collection for Hash {
    fn type_name(&self) -> &'static str {
        "hash"
    }

    fn encoding(&self) -> &'static str {
        ["", "listpack", "hashtable", "listpackex"][usize::from(self.origin())]
    }

    fn len(&self) -> u64 {
        match self.view() {
            View::Small(pack) => pack.len() as u64 / 2,
            View::Large(tree) => tree.len(),
        }
    }

    fn bytes(&self) -> u64 {
        let fields = match self.view() {
            View::Small(pack) => pack.item_bytes() as u64,
            View::Large(tree) => tree.bytes(),
        };
        fields + self.times().map_or(0, Times::bytes)
    }

    fn hash(&self, anew: bool) -> u64 {
        let fields = match self.view() {
            View::Small(pack) => xxhash_rust::xxh3::xxh3_64(pack.as_bytes()),
            View::Large(tree) => tree.print(anew).rotate_left(7) ^ tree.len(),
        };
        fields ^ self.times().map_or(0, |times| times.print(anew).rotate_left(23) ^ times.len())
    }

    fn flip_bit(&mut self) -> bool {
        match &mut self.0 {
            Body::Small(pack) => pack.flip_bit(),
            Body::More(more) => more.fields.flip_bit(),
        }
    }

    fn origin(&self) -> u8 {
        match (&self.0, self.view()) {
            (Body::Small(_), _) => 1,
            (Body::More(_), View::Large(_)) => 2,
            (Body::More(_), View::Small(_)) => 3,
        }
    }

    fn restore_origin(&mut self, origin: u8) -> bool {
        match origin {
            _ if origin == self.origin() => {}
            1 if self.times().is_none() => {
                let items: Vec<&[u8]> = self.fields().flat_map(|(field, value)| [field, value]).collect();
                self.0 = Body::Small(crate::sequence::Pack::of(items.into_iter()));
            }
            2 => self.enlarge(),
            3 => {
                self.compact();
                self.more();
            }
            _ => return false,
        }
        true
    }

    fn rdb_type(&self) -> u8 {
        if self.times().is_some() { HASH_METADATA } else { RDB_HASH }
    }

    fn has_units(&self) -> bool {
        matches!(self.view(), View::Large(_))
    }

    fn units(&self, from: u64, visit: &mut dyn FnMut(&[u8]) -> bool) {
        super::value::visit_units(self, from, visit);
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        if let Some(first) = self.next_deadline() {
            out.extend_from_slice(&first.to_le_bytes());
        }
        write::length(self.len(), out);
    }

    fn write_part(&self, from: u64, end: usize, out: &mut Vec<u8>) -> Option<u64> {
        let first = self.next_deadline();
        write::items(self.fields_from(from), from, end, out, |(field, value), out| {
            if let Some(first) = first {
                let later = self.deadline(field).map_or(0, |at| at.saturating_sub(first) + 1);
                write::length(later, out);
            }
            write::string(field, out);
            write::string(value, out);
        })
    }
}

impl Typed for Hash {
    const CLASS: Class = Class::Hash;

    fn of(value: &Value) -> Option<&Hash> {
        if let Value::Hash(hash) = value { Some(hash) } else { None }
    }

    fn of_mut(value: &mut Value) -> Option<&mut Hash> {
        if let Value::Hash(hash) = value { Some(hash) } else { None }
    }

    fn into_value(self) -> Value {
        Value::Hash(self)
    }
}
