//! What large sets and hashes have in common: the order of their items, cursors, random picks.
//!
//! An item begins with a hash of its member or field. So a tree of ascending items finds it in O(log n), the
//! order of the items is a function of the members alone, and it survives snapshot and restore without being
//! stored. A cursor of SSCAN or HSCAN is the hash to go on from, and items of one hash are never split between
//! two calls: whatever is there throughout is given out, however the value grows and shrinks meanwhile.
//!
//! The hash is not keyed: who makes members of equal hashes makes one batch of a scan longer, and nothing slow.

use std::collections::BTreeSet;

use quoris_resp::Reply;
use smallvec::SmallVec;

use crate::sequence::Tree;
use crate::{Error, Rng, number};

/// An item, or what it begins with.
pub(crate) type Item = SmallVec<[u8; 64]>;

/// Bytes in front of an item that hold its hash.
pub(crate) const HASH_BYTES: usize = 4;

/// Elements that one command picks with repetitions at most. Redis has no limit but its own end, which for us
/// would be the end of every replica.
const REPEATED_MAX: u64 = 1 << 24;

/// The beginning of an item: the hash of its member or field.
pub(crate) fn begin(text: &[u8]) -> Item {
    let hash = (xxhash_rust::xxh3::xxh3_64(text) >> 32) as u32;
    Item::from_slice(&hash.to_be_bytes())
}

/// Visits about `count` items from `cursor` on (0 to begin) and gives the next cursor, 0 at the end.
pub(crate) fn scan(tree: &Tree, cursor: u64, count: usize, visit: &mut dyn FnMut(&[u8])) -> u64 {
    let Ok(from) = u32::try_from(cursor) else { return 0 };
    let (mut left, mut last) = (count.max(1), None);
    for item in tree.iter_from(tree.lower_bound(&from.to_be_bytes())) {
        let hash = item.first_chunk::<HASH_BYTES>().map_or(0, |hash| u32::from_be_bytes(*hash));
        if left == 0 && last != Some(hash) {
            return hash.into();
        }
        visit(item);
        left = left.saturating_sub(1);
        last = Some(hash);
    }
    0
}

/// How many elements a command is to pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Picks {
    /// So many different ones, or all when there are fewer.
    Distinct(u64),
    /// So many, each from all of them.
    Repeated(u64),
}

impl Picks {
    /// Reads the argument of SRANDMEMBER and HRANDFIELD: negative with repetitions.
    ///
    /// # Errors
    /// When it is no number, or beyond what is given back.
    pub(crate) fn parse(text: &[u8]) -> Result<Picks, Error> {
        let count = number::integer(text).ok_or(Error::NotAnInteger)?;
        if count == i64::MIN {
            let (min, max) = (-i64::MAX, i64::MAX);
            return Err(Error::text(format!("ERR value is out of range, value must between {min} and {max}")));
        }
        match u64::try_from(count) {
            Ok(count) => Ok(Picks::Distinct(count)),
            Err(_) if count.unsigned_abs() <= REPEATED_MAX => Ok(Picks::Repeated(count.unsigned_abs())),
            Err(_) => Err(Error::text("ERR value is out of range")),
        }
    }
}

/// Picks `count` different places below `len`, every choice as likely as any other; ascending. All places when
/// there are no more.
pub(crate) fn distinct(rng: &mut Rng, count: u64, len: u64) -> Vec<u64> {
    if count >= len {
        return (0..len).collect();
    }
    // Floyd's way: what is allocated and drawn depends on the count alone.
    let mut picked = BTreeSet::new();
    for last in len - count..len {
        let place = rng.below(last + 1);
        if !picked.insert(place) {
            picked.insert(last);
        }
    }
    picked.into_iter().collect()
}

/// The reply of SSCAN and HSCAN.
pub(crate) fn page(cursor: u64, items: Vec<Reply>) -> Reply {
    Reply::Array(vec![Reply::bulk(cursor.to_string()), Reply::Array(items)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_as_likely_as_any_other() {
        let mut rng = Rng::new(7);
        let mut seen = std::collections::BTreeMap::<Vec<u64>, u64>::new();
        for _ in 0..10_000 {
            *seen.entry(distinct(&mut rng, 2, 5)).or_default() += 1;
        }
        assert_eq!(seen.len(), 10);
        assert!(seen.values().all(|count| (850..1150).contains(count)), "{seen:?}");
        assert_eq!(distinct(&mut rng, 9, 3), [0, 1, 2]);
        assert_eq!(distinct(&mut rng, 0, 3), [0; 0]);
        assert_eq!(distinct(&mut rng, 1000, 1_000_000_000_000).len(), 1000);
    }

    #[test]
    fn items_of_one_hash_come_together() {
        let mut tree = Tree::default();
        for hash in [0u32, 5, 5, 5, 9, u32::MAX, u32::MAX] {
            tree.push(&hash.to_be_bytes());
        }
        let all = |count| {
            let (mut cursor, mut seen, mut calls) = (0, 0, 0);
            loop {
                cursor = scan(&tree, cursor, count, &mut |_| seen += 1);
                calls += 1;
                if cursor == 0 {
                    return (seen, calls);
                }
            }
        };
        assert_eq!((all(1), all(2), all(100)), ((7, 4), (7, 2), (7, 1)));
        assert_eq!(scan(&tree, u64::MAX, 1, &mut |_| panic!("behind the end")), 0);
    }
}
