//! The value of a list key.

use crate::events::Class;
use crate::rdb::{RdbError, Source, packed, write};
use crate::sequence::{Items, ItemsBack, Sequence};
use crate::types::collection::{Collection, Typed};
use crate::{Settings, Value};

mod units;

pub(crate) use units::growing;

/// Bytes of a small list at most where `list-max-listpack-size` is a number of elements.
const SAFE_BYTES_MAX: u64 = 8192;
/// RDB: elements one by one.
const RDB_LIST: u8 = 1;
const RDB_ZIPLIST: u8 = 10;
const RDB_QUICKLIST: u8 = 14;
const RDB_QUICKLIST_2: u8 = 18;

/// One end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The head.
    Left,
    /// The tail.
    Right,
}

/// Elements in order. Small ones lie in one buffer and are called `listpack`, as in Redis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List(Sequence);

/// The largest small list: elements and bytes.
fn limits(settings: &Settings) -> (u64, u64) {
    match settings.list_max_listpack_size {
        count @ 0.. => (count.max(1).cast_unsigned(), SAFE_BYTES_MAX),
        class => (u64::MAX, 4096 << (class.max(-5).unsigned_abs() - 1)),
    }
}

impl List {
    /// The list of some elements.
    pub(in crate::types) fn of<'a>(elements: impl Iterator<Item = &'a [u8]>, settings: &Settings) -> List {
        let mut list = List::default();
        elements.for_each(|element| list.push(End::Right, element, settings));
        list
    }

    /// Bytes as a listpack takes them: an element's header and its length behind it, and the frame.
    fn packed_bytes(&self) -> u64 {
        self.0.bytes() + self.0.len() + 7
    }

    /// The element at an index.
    pub(super) fn get(&self, index: u64) -> Option<&[u8]> {
        self.0.get(index)
    }

    /// The elements from `index` on.
    pub(in crate::types) fn iter_from(&self, index: u64) -> Items<'_> {
        self.0.iter_from(index)
    }

    /// The elements below `end`, from the last to the first.
    pub(super) fn iter_back_from(&self, end: u64) -> ItemsBack<'_> {
        self.0.iter_back_from(end)
    }

    /// Puts an element at an end.
    pub(super) fn push(&mut self, end: End, element: &[u8], settings: &Settings) {
        let at = if end == End::Left { 0 } else { self.len() };
        self.insert(at, element, settings);
    }

    /// Takes at most `count` elements from an end, the outermost first.
    pub(super) fn pop(&mut self, end: End, count: u64, settings: &Settings) -> Vec<Vec<u8>> {
        let len = self.len();
        let count = count.min(len);
        let take = count as usize;
        let popped = match end {
            End::Left => self.iter_from(0).take(take).map(<[u8]>::to_vec).collect(),
            End::Right => self.iter_back_from(len).take(take).map(<[u8]>::to_vec).collect(),
        };
        self.remove_range(if end == End::Left { 0 } else { len - count }, count, settings);
        popped
    }

    /// Puts an element in front of the one at `index`, or at the end.
    pub(super) fn insert(&mut self, index: u64, element: &[u8], settings: &Settings) {
        self.make_room(element, settings);
        self.0.insert(index, element);
    }

    /// Puts an element in the place of another.
    pub(super) fn replace(&mut self, index: u64, element: &[u8], settings: &Settings) {
        self.make_room(element, settings);
        self.0.replace(index, element);
        self.shrink(settings);
    }

    /// Takes `count` elements out, the first at `index`.
    pub(super) fn remove_range(&mut self, index: u64, count: u64, settings: &Settings) {
        self.0.remove_range(index, count);
        self.shrink(settings);
    }

    /// Turns a small list into a large one when it would not stay small with one more element.
    fn make_room(&mut self, element: &[u8], settings: &Settings) {
        let (len_max, bytes_max) = limits(settings);
        let bytes = self.packed_bytes() + element.len() as u64;
        if self.0.is_small() && (bytes > bytes_max || self.len() >= len_max) {
            self.0.enlarge();
        }
    }

    /// Turns a large list into a small one when it is far below the limit, not to go to and fro.
    fn shrink(&mut self, settings: &Settings) {
        let (len_max, bytes_max) = limits(settings);
        if !self.0.is_small() && self.packed_bytes() <= bytes_max / 2 && self.len() <= len_max / 2 {
            self.0.compact();
        }
    }

    /// Reads a list in any of the forms that RDB has had; nothing when the type byte is not a list's.
    ///
    /// # Errors
    /// When the data is damaged.
    pub(crate) fn read(source: &mut Source<'_>, kind: u8, settings: &Settings) -> Result<Option<Value>, RdbError> {
        let mut list = List::default();
        let mut push = |element: &[u8]| list.push(End::Right, element, settings);
        match kind {
            RDB_LIST => {
                for _ in 0..source.length()? {
                    push(&source.string()?);
                }
            }
            RDB_ZIPLIST => source.packed(packed::ziplist)?.iter().for_each(|element| push(element)),
            RDB_QUICKLIST => {
                for _ in 0..source.length()? {
                    source.packed(packed::ziplist)?.iter().for_each(|element| push(element));
                }
            }
            RDB_QUICKLIST_2 => {
                for _ in 0..source.length()? {
                    match source.length()? {
                        1 => push(&source.string()?),
                        2 => source.packed(packed::listpack)?.iter().for_each(|element| push(element)),
                        other => return Err(source.malformed(format!("a list's node of kind {other}"))),
                    }
                }
            }
            _ => return Ok(None),
        }
        if list.len() == 0 {
            return Err(source.malformed("an empty list"));
        }
        Ok(Some(list.into_value()))
    }
}

impl Collection for List {
    fn type_name(&self) -> &'static str {
        "list"
    }

    fn encoding(&self) -> &'static str {
        if self.0.is_small() { "listpack" } else { "quicklist" }
    }

    fn len(&self) -> u64 {
        self.0.len()
    }

    fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    fn hash(&self, anew: bool) -> u64 {
        self.0.print(anew)
    }

    fn flip_bit(&mut self) -> bool {
        self.0.flip_bit()
    }

    fn origin(&self) -> u8 {
        if self.0.is_small() { 1 } else { 2 }
    }

    fn restore_origin(&mut self, origin: u8) -> bool {
        match origin {
            1 => self.0.compact(),
            2 => self.0.enlarge(),
            _ => return false,
        }
        true
    }

    fn rdb_type(&self) -> u8 {
        RDB_LIST
    }

    fn has_units(&self) -> bool {
        !self.0.is_small()
    }

    fn units(&self, from: u64, visit: &mut dyn FnMut(&[u8]) -> bool) {
        units::visit(self, from, visit);
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        write::length(self.len(), out);
    }

    fn write_part(&self, from: u64, end: usize, out: &mut Vec<u8>) -> Option<u64> {
        write::items(self.iter_from(from), from, end, out, write::string)
    }
}

impl Typed for List {
    const CLASS: Class = Class::List;

    fn of(value: &Value) -> Option<&List> {
        if let Value::List(list) = value { Some(list) } else { None }
    }

    fn of_mut(value: &mut Value) -> Option<&mut List> {
        if let Value::List(list) = value { Some(list) } else { None }
    }

    fn into_value(self) -> Value {
        Value::List(self)
    }
}
