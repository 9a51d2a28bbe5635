//! The value of a set key.

use std::borrow::Cow;

use super::ints::{Ints, IntsIter};
use crate::sequence::{Items, Pack, Tree};
use crate::types::collection::Collection;
use crate::types::hashed::{self, HASH_BYTES, Item};
use crate::{Settings, number};

mod units;

pub(crate) use units::growing;
pub(super) use units::visit as visit_units;

/// More numbers than this are never kept as such, as in Redis.
const INTS_MAX: u64 = 1 << 30;

/// Members without order. It says `listpack`, `intset` or `hashtable`, as in Redis, and changes from one to
/// another where Redis does.
#[derive(Clone, Debug)]
pub struct Set(pub(super) Body);

#[derive(Clone, Debug)]
pub(super) enum Body {
    /// In the order in which they came.
    Small(Pack),
    /// Behind a pointer, so that small sets need no other allocation than their members'.
    More(Box<More>),
}

#[derive(Clone, Debug)]
pub(super) enum More {
    /// Ascending.
    Ints(Ints),
    /// Hash and member, see [`hashed`].
    Large(Tree),
}

const _: () = assert!(size_of::<Set>() == 16, "a set fits into a value");

/// The members of a set, from some place on.
#[derive(Debug)]
pub(in crate::types) enum Members<'a> {
    Ints(IntsIter<'a>),
    /// Items, and how many of their bytes come before the member.
    Texts(Items<'a>, usize),
}

impl<'a> Iterator for Members<'a> {
    type Item = Cow<'a, [u8]>;

    fn next(&mut self) -> Option<Cow<'a, [u8]>> {
        match self {
            Members::Ints(ints) => ints.next().map(|n| Cow::Owned(digits(n))),
            Members::Texts(items, begin) => items.next().map(|item| Cow::Borrowed(&item[*begin..])),
        }
    }
}

pub(super) fn digits(n: i64) -> Vec<u8> {
    itoa::Buffer::new().format(n).as_bytes().to_vec()
}

fn large(tree: Tree) -> Body {
    Body::More(Box::new(More::Large(tree)))
}

pub(super) fn ints(ascending: &[i64]) -> Body {
    Body::More(Box::new(More::Ints(Ints::new(ascending))))
}

/// A member as an item of a tree.
fn item(member: &[u8]) -> Item {
    let mut item = hashed::begin(member);
    item.extend_from_slice(member);
    item
}

/// Where an item is, or where it would be.
fn place(tree: &Tree, item: &[u8]) -> Result<u64, u64> {
    let at = tree.lower_bound(item);
    if tree.get(at) == Some(item) { Ok(at) } else { Err(at) }
}

fn count_of(setting: i64) -> u64 {
    setting.max(0).cast_unsigned()
}

/// The most members that are kept as numbers.
fn ints_max(settings: &Settings) -> u64 {
    count_of(settings.set_max_intset_entries).min(INTS_MAX)
}

/// Whether so many members, the longest of so many bytes, are few and short.
fn is_small(count: u64, longest: usize, settings: &Settings) -> bool {
    count <= count_of(settings.set_max_listpack_entries) && longest as u64 <= count_of(settings.set_max_listpack_value)
}

impl Default for Set {
    fn default() -> Set {
        Set(Body::Small(Pack::default()))
    }
}

impl PartialEq for Set {
    fn eq(&self, other: &Set) -> bool {
        self.origin() == other.origin() && self.members().eq(other.members())
    }
}

impl Set {
    /// A set of members that differ, in the encoding that suits all of them; nothing when two are equal.
    pub(super) fn of(members: &[Cow<'_, [u8]>], settings: &Settings) -> Option<Set> {
        let (count, longest) = (members.len() as u64, members.iter().map(|member| member.len()).max().unwrap_or(0));
        let numbers = || members.iter().map(|member| number::integer(member)).collect::<Option<Vec<i64>>>();
        if count <= ints_max(settings)
            && let Some(mut numbers) = numbers()
        {
            numbers.sort_unstable();
            return numbers.is_sorted_by(|a, b| a < b).then(|| Set(ints(&numbers)));
        }
        if is_small(count, longest, settings) {
            let mut sorted: Vec<&[u8]> = members.iter().map(|member| &**member).collect();
            sorted.sort_unstable();
            let differ = sorted.is_sorted_by(|a, b| a < b);
            return differ.then(|| Set(Body::Small(Pack::of(members.iter().map(|member| &**member)))));
        }
        let mut items: Vec<Item> = members.iter().map(|member| item(member)).collect();
        items.sort_unstable();
        let mut tree = Tree::default();
        items.iter().for_each(|item| tree.push(item));
        items.is_sorted_by(|a, b| a < b).then(|| Set(large(tree)))
    }

    /// The members.
    pub(in crate::types) fn members(&self) -> Members<'_> {
        self.members_from(0)
    }

    pub(super) fn members_from(&self, index: u64) -> Members<'_> {
        match &self.0 {
            Body::Small(pack) => Members::Texts(Items::Small(pack.iter_from(index as usize)), 0),
            Body::More(more) => match &**more {
                More::Ints(ints) => Members::Ints(ints.iter_from(index as usize)),
                More::Large(tree) => Members::Texts(Items::Large(tree.iter_from(index)), HASH_BYTES),
            },
        }
    }

    /// The member at a place below [`Collection::len`].
    pub(super) fn get(&self, index: u64) -> Option<Cow<'_, [u8]>> {
        self.members_from(index).next()
    }

    /// Where members are found without looking at all of them.
    pub(super) fn tree(&self) -> Option<&Tree> {
        match &self.0 {
            Body::Small(_) => None,
            Body::More(more) => {
                if let More::Large(tree) = &**more {
                    Some(tree)
                } else {
                    None
                }
            }
        }
    }

    /// Whether it has a member.
    pub(in crate::types) fn contains(&self, member: &[u8]) -> bool {
        match &self.0 {
            Body::Small(pack) => pack.iter().any(|other| other == member),
            Body::More(more) => match &**more {
                More::Ints(ints) => number::integer(member).is_some_and(|n| ints.search(n).is_ok()),
                More::Large(tree) => place(tree, &item(member)).is_ok(),
            },
        }
    }

    /// Takes the encoding in which Redis begins to add so many members, the first one of them as given.
    pub(super) fn prepare(&mut self, first: &[u8], count: u64, settings: &Settings) {
        let many = |max: i64| count > count_of(max);
        let (many_ints, many_texts) = (many(settings.set_max_intset_entries), many(settings.set_max_listpack_entries));
        match &mut self.0 {
            Body::Small(pack) if pack.is_empty() => {
                if number::integer(first).is_some() && !many_ints {
                    self.0 = ints(&[]);
                } else if many_texts {
                    self.0 = large(Tree::default());
                }
            }
            Body::Small(_) if many_texts => self.enlarge(),
            Body::Small(_) => {}
            Body::More(more) => {
                if many_ints && matches!(**more, More::Ints(_)) {
                    self.enlarge();
                }
            }
        }
    }

    /// Adds a member; false when it is there.
    pub(super) fn add(&mut self, member: &[u8], settings: &Settings) -> bool {
        let len = self.len();
        match &mut self.0 {
            Body::Small(pack) => {
                if pack.iter().any(|other| other == member) {
                    return false;
                }
                if is_small(len + 1, member.len(), settings) {
                    pack.push(member);
                    return true;
                }
            }
            Body::More(more) => match &mut **more {
                More::Ints(ints) => {
                    if let Some(n) = number::integer(member) {
                        let Err(at) = ints.search(n) else { return false };
                        ints.insert(at, n);
                        if len + 1 > ints_max(settings) {
                            self.enlarge();
                        }
                        return true;
                    }
                    // The longest number is at one of the ends.
                    let ends = [ints.get(0), ints.get(ints.len().wrapping_sub(1))].into_iter().flatten();
                    let ends = ends.map(|n| digits(n).len());
                    let longest = ends.max().unwrap_or(0).max(member.len());
                    if is_small(len + 1, longest, settings) {
                        self.compact();
                        return self.add(member, settings);
                    }
                }
                More::Large(tree) => {
                    let item = item(member);
                    let Err(at) = place(tree, &item) else { return false };
                    tree.insert(at, &item);
                    return true;
                }
            },
        }
        self.enlarge();
        self.add(member, settings)
    }

    /// Takes a member out; false when it is not there.
    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        let place = match &self.0 {
            Body::Small(pack) => pack.iter().position(|other| other == member).map(|at| at as u64),
            Body::More(more) => match &**more {
                More::Ints(ints) => number::integer(member).and_then(|n| Some(ints.search(n).ok()? as u64)),
                More::Large(tree) => place(tree, &item(member)).ok(),
            },
        };
        place.inspect(|place| self.remove_places(&[*place])).is_some()
    }

    /// Takes the members at some places out, which ascend.
    pub(super) fn remove_places(&mut self, places: &[u64]) {
        let mut at = 0;
        let mut stays = |_: &_| {
            at += 1;
            places.binary_search(&(at - 1)).is_err()
        };
        match &mut self.0 {
            Body::Small(pack) => match places {
                [one] => pack.remove(*one as usize),
                _ => {
                    let left: Vec<&[u8]> = pack.iter().filter(|_| stays(&0)).collect();
                    *pack = Pack::of(left.into_iter());
                }
            },
            Body::More(more) => match &mut **more {
                More::Ints(ints) => ints.retain(stays),
                More::Large(tree) => places.iter().rev().for_each(|place| tree.remove(*place)),
            },
        }
    }

    pub(super) fn enlarge(&mut self) {
        let mut items: Vec<Item> = self.members().map(|member| item(&member)).collect();
        items.sort_unstable();
        let mut tree = Tree::default();
        items.iter().for_each(|item| tree.push(item));
        self.0 = large(tree);
    }

    pub(super) fn compact(&mut self) {
        let members: Vec<Cow<'_, [u8]>> = self.members().collect();
        let pack = Pack::of(members.iter().map(|member| &**member));
        self.0 = Body::Small(pack);
    }
}
