//! The value of a sorted set key.
//!
//! Elements lie in order: an item is the score, as eight bytes that ascend with it, and the member. A small set
//! is one buffer of them and is called `listpack`, as in Redis. A large one, a `skiplist`, is a tree of them and
//! a second tree that finds a member: its hash, its length, the member, the score in the same eight bytes.
//!
//! Invariants:
//! * Members are unique, scores are never NaN and no zero has a sign. (Redis 8 drops the sign of zero in small
//!   sets too; a large one there can show `-0`.)
//! * Both trees hold the same elements.

use super::range::Span;
use crate::Settings;
use crate::sequence::{Items, ItemsBack, Pack, Tree};
use crate::types::collection::Collection;
use crate::types::hashed::{self, HASH_BYTES, Item};

mod units;

pub(crate) use units::growing;

/// RDB: members one by one, each with its score as eight bytes.
const RDB_ZSET_2: u8 = 5;
/// The bytes of a score.
const SCORE: usize = 8;

/// A member with its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::types) struct Scored<'a> {
    pub(in crate::types) score: f64,
    pub(in crate::types) member: &'a [u8],
}

/// Members in the order of their scores, then of their bytes.
#[derive(Clone, Debug, Default)]
pub struct SortedSet(Form);

#[derive(Clone, Debug)]
enum Form {
    Small(Pack),
    Large(Box<Large>),
}

#[derive(Clone, Debug, Default)]
struct Large {
    /// Score and member.
    order: Tree,
    /// Hash, length, member and score.
    names: Tree,
}

const _: () = assert!(size_of::<SortedSet>() == 16, "a sorted set fits into a value");

impl Default for Form {
    fn default() -> Form {
        Form::Small(Pack::default())
    }
}

impl PartialEq for SortedSet {
    fn eq(&self, other: &SortedSet) -> bool {
        self.is_small() == other.is_small() && self.items_from(0).eq(other.items_from(0))
    }
}

/// A score as a number that orders as scores do; both zeros are one.
pub(super) fn order_of(score: f64) -> u64 {
    let bits = (score + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn score_of(order: [u8; SCORE]) -> f64 {
    let order = u64::from_be_bytes(order);
    f64::from_bits(if order >> 63 == 1 { order & !(1 << 63) } else { !order })
}

fn item(score: f64, member: &[u8]) -> Vec<u8> {
    [&order_of(score).to_be_bytes(), member].concat()
}

fn scored(item: &[u8]) -> Scored<'_> {
    let (order, member) = item.split_first_chunk().expect("an item begins with its score");
    Scored { score: score_of(*order), member }
}

/// What stands in front of the score where members are found: nothing else begins with it.
fn name(member: &[u8]) -> Item {
    let mut name = hashed::begin(member);
    let mut len = member.len();
    while len >= 0x80 {
        name.push(len as u8 | 0x80);
        len >>= 7;
    }
    name.push(len as u8);
    name.extend_from_slice(member);
    name
}

/// The element of an item of the second tree.
fn named(item: &[u8]) -> Scored<'_> {
    let (front, order) = item.split_last_chunk().expect("an item ends with its score");
    let rest = &front[HASH_BYTES..];
    let length = rest.iter().take_while(|byte| **byte >= 0x80).count() + 1;
    Scored { score: score_of(*order), member: &rest[length..] }
}

impl Large {
    fn new(pack: &Pack) -> Large {
        let mut large = Large::default();
        let mut names = Vec::with_capacity(pack.len());
        for item in pack.iter() {
            large.order.push(item);
            let Scored { score, member } = scored(item);
            let mut name = name(member);
            name.extend_from_slice(&order_of(score).to_be_bytes());
            names.push(name);
        }
        names.sort_unstable();
        names.iter().for_each(|name| large.names.push(name));
        large
    }

    fn put(&mut self, member: &[u8], score: f64) {
        let mut name = name(member);
        let at = self.names.lower_bound(&name);
        let old = self.names.get(at).filter(|item| item.starts_with(&name)).map(|item| named(item).score);
        name.extend_from_slice(&order_of(score).to_be_bytes());
        match old {
            Some(old) => {
                self.names.replace(at, &name);
                self.order.remove(self.order.lower_bound(&item(old, member)));
            }
            None => self.names.insert(at, &name),
        }
        let item = item(score, member);
        self.order.insert(self.order.lower_bound(&item), &item);
    }

    fn remove(&mut self, member: &[u8]) -> bool {
        let Some((at, item_of)) = self.names.find(&name(member)) else { return false };
        let place = self.order.lower_bound(&item(named(item_of).score, member));
        self.names.remove(at);
        self.order.remove(place);
        true
    }

    fn remove_span(&mut self, span: &Span) {
        let count = span.end - span.start;
        let names: Vec<Item> =
            self.order.iter_from(span.start).take(count as usize).map(|item| name(scored(item).member)).collect();
        for name in names {
            self.names.remove(self.names.lower_bound(&name));
        }
        self.order.remove_range(span.start, count);
    }
}

/// The largest small set: members and bytes of a member.
fn limits(settings: &Settings) -> (u64, u64) {
    (settings.zset_max_listpack_entries.cast_unsigned(), settings.zset_max_listpack_value.cast_unsigned())
}

impl SortedSet {
    /// A set of elements with unique members, in any order, in the encoding that fits them.
    pub(in crate::types) fn fitting(elements: &[Scored<'_>], settings: &Settings) -> SortedSet {
        let (len_max, member_max) = limits(settings);
        let longest = elements.iter().map(|element| element.member.len()).max().unwrap_or(0);
        let mut items: Vec<Vec<u8>> = elements.iter().map(|element| item(element.score, element.member)).collect();
        items.sort_unstable();
        let pack = Pack::of(items.iter().map(Vec::as_slice));
        let small = elements.len() as u64 <= len_max && longest as u64 <= member_max;
        SortedSet(if small { Form::Small(pack) } else { Form::Large(Box::new(Large::new(&pack))) })
    }

    /// Whether it is one buffer.
    pub(super) fn is_small(&self) -> bool {
        matches!(self.0, Form::Small(_))
    }

    fn enlarge(&mut self) {
        if let Form::Small(pack) = &self.0 {
            self.0 = Form::Large(Box::new(Large::new(pack)));
        }
    }

    /// Makes it large when it will not stay small with so many members, or with members so long.
    pub(super) fn expect(&mut self, len: u64, longest: usize, settings: &Settings) {
        let (len_max, member_max) = limits(settings);
        if len > len_max || longest as u64 > member_max {
            self.enlarge();
        }
    }

    fn items_from(&self, rank: u64) -> Items<'_> {
        match &self.0 {
            Form::Small(pack) => Items::Small(pack.iter_from(rank as usize)),
            Form::Large(large) => Items::Large(large.order.iter_from(rank)),
        }
    }

    /// The elements from a rank on.
    pub(in crate::types) fn iter_from(&self, rank: u64) -> impl Iterator<Item = Scored<'_>> {
        self.items_from(rank).map(scored)
    }

    /// The elements with scores from one whole number on that are below another.
    pub(in crate::types) fn between(&self, begin: u64, end: u64) -> impl Iterator<Item = Scored<'_>> {
        let [begin, end] = [begin, end].map(|score| self.count_below(order_of(score as f64)));
        self.iter_from(begin).take((end.max(begin) - begin) as usize)
    }

    /// The elements below a rank, from the last to the first.
    pub(super) fn iter_back_from(&self, end: u64) -> impl Iterator<Item = Scored<'_>> {
        let items = match &self.0 {
            Form::Small(pack) => ItemsBack::Small(pack.iter().take(end as usize).collect::<Vec<_>>().into_iter().rev()),
            Form::Large(large) => ItemsBack::Large(large.order.iter_back_from(end)),
        };
        items.map(scored)
    }

    /// The element at a rank.
    pub(super) fn at(&self, rank: u64) -> Option<Scored<'_>> {
        match &self.0 {
            Form::Small(pack) => pack.get(usize::try_from(rank).ok()?),
            Form::Large(large) => large.order.get(rank),
        }
        .map(scored)
    }

    /// How many elements have a score whose [`order_of`] is below.
    pub(super) fn count_below(&self, order: u64) -> u64 {
        self.lower_bound(&order.to_be_bytes())
    }

    fn lower_bound(&self, key: &[u8]) -> u64 {
        match &self.0 {
            Form::Small(pack) => pack.iter().take_while(|item| *item < key).count() as u64,
            Form::Large(large) => large.order.lower_bound(key),
        }
    }

    /// A member's score.
    pub(in crate::types) fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.0 {
            Form::Small(pack) => pack.iter().map(scored).find(|one| one.member == member).map(|one| one.score),
            Form::Large(large) => large.names.find(&name(member)).map(|(_, item)| named(item).score),
        }
    }

    /// A member's rank and score.
    pub(super) fn rank(&self, member: &[u8]) -> Option<(u64, f64)> {
        if let Form::Small(_) = self.0 {
            let mut ranked = (0..).zip(self.iter_from(0));
            return ranked.find(|(_, one)| one.member == member).map(|(rank, one)| (rank, one.score));
        }
        let score = self.score(member)?;
        Some((self.lower_bound(&item(score, member)), score))
    }

    /// Gives a member a score, whether it was there or not.
    pub(in crate::types) fn put(&mut self, member: &[u8], score: f64, settings: &Settings) {
        if let Form::Small(pack) = &mut self.0 {
            let old = pack.iter().position(|item| scored(item).member == member);
            let fits = old.is_some() || {
                let (len_max, member_max) = limits(settings);
                (pack.len() as u64) < len_max && member.len() as u64 <= member_max
            };
            if fits {
                old.into_iter().for_each(|at| pack.remove(at));
                let item = item(score, member);
                let at = pack.iter().take_while(|other| *other < &item[..]).count();
                return pack.insert(at, &item);
            }
        }
        self.enlarge();
        if let Form::Large(large) = &mut self.0 {
            large.put(member, score);
        }
    }

    /// Removes a member; false when it is not there.
    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.0 {
            Form::Small(pack) => {
                let at = pack.iter().position(|item| scored(item).member == member);
                at.inspect(|at| pack.remove(*at)).is_some()
            }
            Form::Large(large) => large.remove(member),
        }
    }

    /// Removes the elements of some ranks.
    pub(super) fn remove_span(&mut self, span: &Span) {
        match &mut self.0 {
            Form::Small(pack) => pack.remove_range(span.start as usize, (span.end - span.start) as usize),
            Form::Large(large) => large.remove_span(span),
        }
    }

    /// Elements for ZSCAN from a cursor on, about `count`, and the cursor to go on with. A small set is given whole,
    /// as in Redis.
    pub(super) fn scan(&self, cursor: u64, count: usize, visit: &mut dyn FnMut(Scored<'_>)) -> u64 {
        match &self.0 {
            Form::Small(pack) => {
                pack.iter().for_each(|item| visit(scored(item)));
                0
            }
            Form::Large(large) => hashed::scan(&large.names, cursor, count, &mut |item| visit(named(item))),
        }
    }
}

impl Collection for SortedSet {
    fn type_name(&self) -> &'static str {
        "zset"
    }

    fn encoding(&self) -> &'static str {
        if self.is_small() { "listpack" } else { "skiplist" }
    }

    fn len(&self) -> u64 {
        match &self.0 {
            Form::Small(pack) => pack.len() as u64,
            Form::Large(large) => large.order.len(),
        }
    }

    fn bytes(&self) -> u64 {
        match &self.0 {
            Form::Small(pack) => pack.item_bytes() as u64,
            Form::Large(large) => large.order.bytes() + large.names.bytes(),
        }
    }

    fn hash(&self, anew: bool) -> u64 {
        match &self.0 {
            Form::Small(pack) => xxhash_rust::xxh3::xxh3_64(pack.as_bytes()),
            Form::Large(large) => large.order.print(anew).rotate_left(7) ^ large.names.print(anew),
        }
    }

    fn flip_bit(&mut self) -> bool {
        match &mut self.0 {
            Form::Small(pack) => pack.flip_bit(),
            Form::Large(large) => large.order.flip_bit(),
        }
    }

    fn origin(&self) -> u8 {
        if self.is_small() { 1 } else { 2 }
    }

    fn restore_origin(&mut self, origin: u8) -> bool {
        match (origin, &self.0) {
            (1, Form::Large(large)) => {
                let items: Vec<&[u8]> = large.order.iter().collect();
                self.0 = Form::Small(Pack::of(items.into_iter()));
            }
            (2, _) => self.enlarge(),
            (1, Form::Small(_)) => {}
            _ => return false,
        }
        true
    }

    fn rdb_type(&self) -> u8 {
        RDB_ZSET_2
    }

    fn has_units(&self) -> bool {
        !self.is_small()
    }

    fn units(&self, from: u64, visit: &mut dyn FnMut(&[u8]) -> bool) {
        units::visit(self, from, visit);
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        crate::rdb::write::length(self.len(), out);
    }

    /// From the last to the first, as Redis writes them.
    fn write_part(&self, from: u64, end: usize, out: &mut Vec<u8>) -> Option<u64> {
        crate::rdb::write::items(self.iter_back_from(self.len() - from), from, end, out, |element, out| {
            crate::rdb::write::string(element.member, out);
            out.extend_from_slice(&element.score.to_le_bytes());
        })
    }
}
