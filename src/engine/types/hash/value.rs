//! The value of a hash key.

use super::times::Times;
use crate::Settings;
use crate::sequence::{Items, Pack, Sequence, Tree, put_number};
use crate::types::collection::Collection;
use crate::types::hashed::{self, HASH_BYTES, Item};

mod units;

pub(crate) use units::growing;
pub(super) use units::visit as visit_units;

/// Fields with a value each, and some of them with a deadline. It says `listpack`, `listpackex` when a field
/// was given a deadline, or `hashtable`, as in Redis, and changes from one to the next where Redis does.
///
/// A field whose deadline has passed is here until it is removed, and everybody who reads leaves it out:
/// methods that take the time do, the others tell what lies here.
#[derive(Clone, Debug)]
pub struct Hash(pub(super) Body);

#[derive(Clone, Debug)]
pub(super) enum Body {
    /// A `listpack`: field and value in turn, in the order in which the fields came.
    Small(Pack),
    /// Everything else.
    More(Box<More>),
}

#[derive(Clone, Debug)]
pub(super) struct More {
    /// Small: as above. Large: an item for each field, which [`begin`] begins and the value ends.
    pub(super) fields: Sequence,
    pub(super) times: Times,
}

const _: () = assert!(size_of::<Hash>() == 16, "a hash fits into a value");

/// The fields of a hash.
#[derive(Clone, Copy, Debug)]
pub(super) enum View<'a> {
    Small(&'a Pack),
    Large(&'a Tree),
}

/// What a field's item begins with: its hash, its length in LEB128, the field. No other field's item does.
pub(super) fn begin(field: &[u8]) -> Item {
    let mut item = hashed::begin(field);
    put_number(field.len(), |byte| item.push(byte));
    item.extend_from_slice(field);
    item
}

/// Field and value of an item.
pub(super) fn split(item: &[u8]) -> (&[u8], &[u8]) {
    let (mut len, mut shift, mut at) = (0, 0, HASH_BYTES);
    while let Some(byte) = item.get(at) {
        len |= usize::from(byte & 0x7f).unbounded_shl(shift);
        (shift, at) = (shift + 7, at + 1);
        if *byte < 0x80 {
            break;
        }
    }
    let rest = item.get(at..).unwrap_or_default();
    rest.split_at_checked(len).unwrap_or((rest, &[]))
}

/// Fields and values from some place on.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    items: Items<'a>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        match &mut self.items {
            Items::Small(items) => Some((items.next()?, items.next()?)),
            Items::Large(items) => items.next().map(split),
        }
    }
}

/// Whether a hash of so many fields, the longest field or value of so many bytes, is kept small.
fn is_small(count: u64, longest: usize, settings: &Settings) -> bool {
    count <= settings.hash_max_listpack_entries.max(0).cast_unsigned()
        && longest as u64 <= settings.hash_max_listpack_value.max(0).cast_unsigned()
}

impl Default for Hash {
    fn default() -> Hash {
        Hash(Body::Small(Pack::default()))
    }
}

impl PartialEq for Hash {
    fn eq(&self, other: &Hash) -> bool {
        self.origin() == other.origin()
            && self.fields().eq(other.fields())
            && self.fields().all(|(field, _)| self.deadline(field) == other.deadline(field))
    }
}

/// Looking.
impl Hash {
    pub(super) fn view(&self) -> View<'_> {
        match &self.0 {
            Body::Small(pack) => View::Small(pack),
            Body::More(more) => match &more.fields {
                Sequence::Small(pack) => View::Small(pack),
                Sequence::Large(tree) => View::Large(tree),
            },
        }
    }

    /// The deadlines, when there are any.
    pub(super) fn times(&self) -> Option<&Times> {
        match &self.0 {
            Body::Small(_) => None,
            Body::More(more) => Some(&more.times).filter(|times| !times.is_empty()),
        }
    }

    /// All fields from the one at a place on, with their values.
    pub(super) fn fields_from(&self, index: u64) -> Fields<'_> {
        let items = match self.view() {
            View::Small(pack) => Items::Small(pack.iter_from(2 * index as usize)),
            View::Large(tree) => Items::Large(tree.iter_from(index)),
        };
        Fields { items }
    }

    /// All fields with their values.
    pub(super) fn fields(&self) -> Fields<'_> {
        self.fields_from(0)
    }

    /// The place and the value of a field.
    fn find(&self, field: &[u8]) -> Option<(u64, &[u8])> {
        match self.view() {
            View::Small(_) => {
                self.fields().zip(0..).find(|((other, _), _)| *other == field).map(|((_, value), at)| (at, value))
            }
            View::Large(tree) => {
                let begin = begin(field);
                tree.find(&begin).map(|(at, item)| (at, &item[begin.len()..]))
            }
        }
    }

    /// When a field expires.
    pub(super) fn deadline(&self, field: &[u8]) -> Option<u64> {
        self.times()?.deadline(field)
    }

    /// Whether a field is there but due.
    fn is_due(&self, field: &[u8], now_ms: u64) -> bool {
        self.deadline(field).is_some_and(|at| at <= now_ms)
    }

    /// The value of a field that is not due.
    pub(in crate::types) fn get(&self, field: &[u8], now_ms: u64) -> Option<&[u8]> {
        self.find(field).map(|(_, value)| value).filter(|_| !self.is_due(field, now_ms))
    }

    /// The number of fields that are due.
    pub(crate) fn due(&self, now_ms: u64) -> u64 {
        self.times().map_or(0, |times| times.due(now_ms))
    }

    /// The number of fields that are not due.
    pub(super) fn live_len(&self, now_ms: u64) -> u64 {
        self.len() - self.due(now_ms)
    }

    /// The fields that are not due, with their values.
    pub(super) fn live(&self, now_ms: u64) -> impl Iterator<Item = (&[u8], &[u8])> {
        let any_due = self.due(now_ms) > 0;
        self.fields().filter(move |(field, _)| !any_due || !self.is_due(field, now_ms))
    }

    /// Whether all fields are due: then the key is gone for everybody.
    pub(crate) fn is_gone(&self, now_ms: u64) -> bool {
        self.gone_at().is_some_and(|last| last <= now_ms)
    }

    /// When the last field expires, if all do.
    pub(crate) fn gone_at(&self) -> Option<u64> {
        self.times().filter(|times| times.len() == self.len())?.last()
    }

    /// The earliest deadline of a field.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.times()?.first()
    }
}

/// Changing.
impl Hash {
    /// A hash of fields with value and deadline, in the encoding that suits all of them; nothing when a field
    /// comes twice.
    pub(super) fn of(fields: &[(Vec<u8>, Vec<u8>, Option<u64>)], settings: &Settings) -> Option<Hash> {
        let longest = fields.iter().map(|(field, value, _)| field.len().max(value.len())).max().unwrap_or(0);
        let item = |field: &[u8], value: &[u8]| {
            let mut item = begin(field);
            item.extend_from_slice(value);
            item
        };
        let mut hash = if is_small(fields.len() as u64, longest, settings) {
            let mut names: Vec<&[u8]> = fields.iter().map(|(field, _, _)| &field[..]).collect();
            names.sort_unstable();
            if !names.is_sorted_by(|a, b| a < b) {
                return None;
            }
            Hash(Body::Small(Pack::of(fields.iter().flat_map(|(field, value, _)| [&field[..], &value[..]]))))
        } else {
            let mut items: Vec<Item> = fields.iter().map(|(field, value, _)| item(field, value)).collect();
            items.sort_unstable();
            if !items.is_sorted_by(|a, b| split(a).0 != split(b).0) {
                return None;
            }
            let mut tree = Tree::default();
            items.iter().for_each(|item| tree.push(item));
            Hash(Body::More(Box::new(More { fields: Sequence::Large(tree), times: Times::default() })))
        };
        for (field, _, deadline) in fields {
            if let Some(deadline) = deadline {
                hash.set_deadline(field, *deadline);
            }
        }
        Some(hash)
    }

    /// Takes the encoding in which Redis begins to set so many fields, the longest text of so many bytes.
    pub(super) fn prepare(&mut self, count: u64, longest: usize, settings: &Settings) {
        if !is_small(count, longest, settings) {
            self.enlarge();
        }
    }

    /// Gives a field that is new, or due, or there a value; true when it is new or was due. A field that is
    /// there loses its deadline, unless it is to be kept.
    pub(super) fn set(&mut self, field: &[u8], value: &[u8], keep: bool, now_ms: u64, settings: &Settings) -> bool {
        let found = self.find(field).map(|(at, _)| at);
        let is_live = found.is_some() && !self.is_due(field, now_ms);
        if !(is_live && keep) {
            self.forget_deadline(field);
        }
        self.put(found, field, value, settings);
        !is_live
    }

    /// Writes a field at the place where it was found, or as a new one.
    fn put(&mut self, found: Option<u64>, field: &[u8], value: &[u8], settings: &Settings) {
        let mut found = found;
        let longest = field.len().max(value.len());
        if matches!(self.view(), View::Small(_)) && !is_small(0, longest, settings) {
            self.enlarge();
            // In another order the field has another place.
            found = found.and_then(|_| self.find(field)).map(|(at, _)| at);
        }
        self.put_as_it_is(found, field, value);
        self.prepare(self.len(), 0, settings);
    }

    fn put_as_it_is(&mut self, found: Option<u64>, field: &[u8], value: &[u8]) {
        let put_small = |pack: &mut Pack| match found {
            Some(at) => pack.replace(2 * at as usize + 1, value),
            None => {
                pack.push(field);
                pack.push(value);
            }
        };
        match &mut self.0 {
            Body::Small(pack) => put_small(pack),
            Body::More(more) => match &mut more.fields {
                Sequence::Small(pack) => put_small(pack),
                Sequence::Large(tree) => {
                    let mut item = begin(field);
                    let place = found.unwrap_or_else(|| tree.lower_bound(&item));
                    item.extend_from_slice(value);
                    match found {
                        Some(_) => tree.replace(place, &item),
                        None => tree.insert(place, &item),
                    }
                }
            },
        }
    }

    /// Takes a field out, due or not; false when it is not there.
    pub(super) fn remove(&mut self, field: &[u8]) -> bool {
        let Some((at, _)) = self.find(field) else { return false };
        self.forget_deadline(field);
        match &mut self.0 {
            Body::Small(pack) => pack.remove_range(2 * at as usize, 2),
            Body::More(more) => match &mut more.fields {
                Sequence::Small(pack) => pack.remove_range(2 * at as usize, 2),
                Sequence::Large(tree) => tree.remove(at),
            },
        }
        true
    }

    /// Takes at most `limit` due fields out, in the order (deadline, field); gives how many.
    pub(crate) fn remove_due(&mut self, now_ms: u64, limit: usize) -> usize {
        let fields = self.times().map_or(Vec::new(), |times| times.due_fields(now_ms, limit));
        fields.iter().filter(|field| self.remove(field)).count()
    }

    /// Gives a field that is there a deadline.
    pub(super) fn set_deadline(&mut self, field: &[u8], deadline: u64) {
        self.more().times.set(field, deadline);
    }

    /// Takes a field's deadline away; false when it has none.
    pub(super) fn forget_deadline(&mut self, field: &[u8]) -> bool {
        match &mut self.0 {
            Body::Small(_) => false,
            Body::More(more) => more.times.forget(field),
        }
    }

    /// Makes it one that can have deadlines.
    pub(super) fn more(&mut self) -> &mut More {
        if let Body::Small(pack) = &mut self.0 {
            let fields = Sequence::Small(std::mem::take(pack));
            self.0 = Body::More(Box::new(More { fields, times: Times::default() }));
        }
        match &mut self.0 {
            Body::More(more) => more,
            Body::Small(_) => unreachable!("just made"),
        }
    }

    /// Makes it a large one.
    pub(super) fn enlarge(&mut self) {
        if let View::Small(_) = self.view() {
            let mut items: Vec<Item> = self
                .fields()
                .map(|(field, value)| {
                    let mut item = begin(field);
                    item.extend_from_slice(value);
                    item
                })
                .collect();
            items.sort_unstable();
            let mut tree = Tree::default();
            items.iter().for_each(|item| tree.push(item));
            self.more().fields = Sequence::Large(tree);
        }
    }

    /// Makes it a small one; it keeps its deadlines.
    pub(super) fn compact(&mut self) {
        if let View::Large(_) = self.view() {
            let items: Vec<&[u8]> = self.fields().flat_map(|(field, value)| [field, value]).collect();
            self.more().fields = Sequence::Small(Pack::of(items.into_iter()));
        }
    }
}
