//! Ranges of scores and of members, as arguments say them and as ranks.

use super::value::{SortedSet, order_of};
use crate::types::collection::Collection;
use crate::{Error, double};

/// Ranks: the first one, and the one behind the last.
pub(super) type Span = std::ops::Range<u64>;

/// Scores from one bound to another, kept as the order of the first score inside and of the first one behind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ScoreRange {
    begin: u64,
    end: u64,
}

/// The order of a bound; `(` in front excludes it.
fn score_bound(text: &[u8]) -> Result<(u64, bool), Error> {
    let (text, excluded) = text.strip_prefix(b"(").map_or((text, false), |rest| (rest, true));
    let score = double::bound(text).ok_or_else(|| Error::text("ERR min or max is not a float"))?;
    Ok((order_of(score), excluded))
}

impl ScoreRange {
    /// Between two arguments.
    ///
    /// # Errors
    /// When one is not a number.
    pub(super) fn parse(min: &[u8], max: &[u8]) -> Result<ScoreRange, Error> {
        let ((min, without_min), (max, without_max)) = (score_bound(min)?, score_bound(max)?);
        Ok(ScoreRange { begin: min + u64::from(without_min), end: max + u64::from(!without_max) })
    }

    /// The ranks of the elements inside.
    pub(super) fn span(self, set: &SortedSet) -> Span {
        let begin = set.count_below(self.begin);
        begin..if self.end <= self.begin { begin } else { set.count_below(self.end) }
    }
}

/// One end of a range of members.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound<'a> {
    Lowest,
    Highest,
    Included(&'a [u8]),
    Excluded(&'a [u8]),
}

/// Members from one bound to another. It means something where all scores are equal; elsewhere Redis promises
/// nothing, and a small set answers as a small one does there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LexRange<'a> {
    min: Bound<'a>,
    max: Bound<'a>,
}

fn member_bound(text: &[u8]) -> Result<Bound<'_>, Error> {
    match text {
        [b'-'] | [b'-', 0, ..] => Ok(Bound::Lowest),
        [b'+'] | [b'+', 0, ..] => Ok(Bound::Highest),
        [b'[', member @ ..] => Ok(Bound::Included(member)),
        [b'(', member @ ..] => Ok(Bound::Excluded(member)),
        _ => Err(Error::text("ERR min or max not valid string range item")),
    }
}

/// How many of `count` ranks hold, where those that hold come first.
fn partition(count: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

impl<'a> LexRange<'a> {
    /// Between two arguments.
    ///
    /// # Errors
    /// When one is not of the form `[member`, `(member`, `-` or `+`.
    pub(super) fn parse(min: &'a [u8], max: &'a [u8]) -> Result<LexRange<'a>, Error> {
        Ok(LexRange { min: member_bound(min)?, max: member_bound(max)? })
    }

    fn is_above_min(&self, member: &[u8]) -> bool {
        match self.min {
            Bound::Lowest => true,
            Bound::Highest => false,
            Bound::Included(min) => member >= min,
            Bound::Excluded(min) => member > min,
        }
    }

    fn is_below_max(&self, member: &[u8]) -> bool {
        match self.max {
            Bound::Lowest => false,
            Bound::Highest => true,
            Bound::Included(max) => member <= max,
            Bound::Excluded(max) => member < max,
        }
    }

    /// The ranks of the members inside, looked for from the front or from behind.
    pub(super) fn span(&self, set: &SortedSet, reverse: bool) -> Span {
        if !set.is_small() {
            let member = |rank| set.at(rank).map_or(&[][..], |element| element.member);
            let begin = partition(set.len(), |rank| !self.is_above_min(member(rank)));
            let end = partition(set.len(), |rank| self.is_below_max(member(rank)));
            return begin..end.max(begin);
        }
        let members: Vec<&[u8]> = set.iter_from(0).map(|element| element.member).collect();
        let outside = match (members.first(), members.last()) {
            (Some(first), Some(last)) => !self.is_above_min(last) || !self.is_below_max(first),
            _ => true,
        };
        if outside {
            return 0..0;
        }
        let (begin, end) = if reverse {
            let end = members.iter().rposition(|member| self.is_below_max(member)).map_or(0, |last| last + 1);
            let inside = members[..end].iter().rev().take_while(|member| self.is_above_min(member)).count();
            (end - inside, end)
        } else {
            let begin = members.iter().position(|member| self.is_above_min(member)).unwrap_or(members.len());
            let inside = members[begin..].iter().take_while(|member| self.is_below_max(member)).count();
            (begin, begin + inside)
        };
        begin as u64..end as u64
    }
}
