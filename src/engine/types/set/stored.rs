//! A set as all types are seen from outside: counted, hashed, written to RDB and read from it.

use std::borrow::Cow;

use super::value::{Body, More, Set, digits, ints};
use crate::events::Class;
use crate::rdb::{RdbError, Source, packed, write};
use crate::types::collection::{Collection, Typed};
use crate::{Settings, Value, number};

/// RDB: members one by one.
const RDB_SET: u8 = 2;
const RDB_INTSET: u8 = 11;
const RDB_LISTPACK: u8 = 20;
/// Bytes of what stands between a set and its numbers.
const BOX_BYTES: u64 = 16;

impl Set {
    /// Reads a set in any of the forms that RDB has had; nothing when the type byte is not a set's.
    ///
    /// # Errors
    /// When the data is damaged.
    pub(crate) fn read(source: &mut Source<'_>, kind: u8, settings: &Settings) -> Result<Option<Value>, RdbError> {
        let members: Vec<Cow<'_, [u8]>> = match kind {
            RDB_SET => {
                let mut members = Vec::new();
                for _ in 0..source.length()? {
                    members.push(source.string()?.into());
                }
                members
            }
            RDB_INTSET => source.packed(packed::intset)?.into_iter().map(|n| digits(n).into()).collect(),
            RDB_LISTPACK => source.packed(packed::listpack)?.into_iter().map(Cow::Owned).collect(),
            _ => return Ok(None),
        };
        match Set::of(&members, settings) {
            Some(set) if set.len() > 0 => Ok(Some(set.into_value())),
            Some(_) => Err(source.malformed("an empty set")),
            None => Err(source.malformed("a set with a member twice")),
        }
    }
}

impl Collection for Set {
    fn type_name(&self) -> &'static str {
        "set"
    }

    fn encoding(&self) -> &'static str {
        ["", "listpack", "hashtable", "intset"][usize::from(self.origin())]
    }

    fn len(&self) -> u64 {
        match &self.0 {
            Body::Small(pack) => pack.len() as u64,
            Body::More(more) => match &**more {
                More::Ints(ints) => ints.len() as u64,
                More::Large(tree) => tree.len(),
            },
        }
    }

    fn bytes(&self) -> u64 {
        match &self.0 {
            Body::Small(pack) => pack.item_bytes() as u64,
            Body::More(more) => match &**more {
                More::Ints(ints) => BOX_BYTES + ints.heap_bytes() as u64,
                More::Large(tree) => tree.bytes(),
            },
        }
    }

    fn hash(&self, anew: bool) -> u64 {
        match &self.0 {
            Body::Small(pack) => xxhash_rust::xxh3::xxh3_64(pack.as_bytes()),
            Body::More(more) => match &**more {
                More::Ints(ints) => xxhash_rust::xxh3::xxh3_64(ints.as_bytes()),
                More::Large(tree) => tree.print(anew).rotate_left(7) ^ tree.len(),
            },
        }
    }

    fn flip_bit(&mut self) -> bool {
        match &mut self.0 {
            Body::Small(pack) => pack.flip_bit(),
            Body::More(more) => match &mut **more {
                More::Ints(ints) => ints.flip_bit(),
                More::Large(tree) => tree.flip_bit(),
            },
        }
    }

    fn origin(&self) -> u8 {
        match &self.0 {
            Body::Small(_) => 1,
            Body::More(more) => match &**more {
                More::Large(_) => 2,
                More::Ints(_) => 3,
            },
        }
    }

    fn restore_origin(&mut self, origin: u8) -> bool {
        match origin {
            _ if origin == self.origin() => {}
            1 => self.compact(),
            2 => self.enlarge(),
            3 => {
                let numbers: Option<Vec<i64>> = self.members().map(|member| number::integer(&member)).collect();
                let Some(mut numbers) = numbers else { return false };
                numbers.sort_unstable();
                self.0 = ints(&numbers);
            }
            _ => return false,
        }
        true
    }

    fn rdb_type(&self) -> u8 {
        RDB_SET
    }

    fn has_units(&self) -> bool {
        self.tree().is_some()
    }

    fn units(&self, from: u64, visit: &mut dyn FnMut(&[u8]) -> bool) {
        super::value::visit_units(self, from, visit);
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        write::length(self.len(), out);
    }

    fn write_part(&self, from: u64, end: usize, out: &mut Vec<u8>) -> Option<u64> {
        write::items(self.members_from(from), from, end, out, |member, out| write::string(&member, out))
    }
}

impl Typed for Set {
    const CLASS: Class = Class::Set;

    fn of(value: &Value) -> Option<&Set> {
        if let Value::Set(set) = value { Some(set) } else { None }
    }

    fn of_mut(value: &mut Value) -> Option<&mut Set> {
        if let Value::Set(set) = value { Some(set) } else { None }
    }

    fn into_value(self) -> Value {
        Value::Set(self)
    }
}
