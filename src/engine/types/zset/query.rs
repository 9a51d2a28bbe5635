//! ZRANGE and what it replaced: elements between two ranks, scores or members.

use quoris_resp::{Argv, Reply};

use super::range::{LexRange, ScoreRange};
use super::value::{Scored, SortedSet};
use super::{shown, store};
use crate::command::ReadContext;
use crate::types::collection::{Collection, look, range};
use crate::{ApplyContext, CommandResult, Error, Keyspace, number};

/// What the two bounds are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Rank,
    Score,
    Lex,
}

#[derive(Clone, Copy, Debug)]
enum Bounds<'a> {
    Rank(i64, i64),
    Score(ScoreRange),
    Lex(LexRange<'a>),
}

/// What the name of a command says and its words need not.
#[derive(Clone, Copy, Debug)]
struct Fixed {
    /// The argument that is the key.
    key: usize,
    by: Option<By>,
    reverse: Option<bool>,
    /// Nothing is shown: no WITHSCORES.
    stores: bool,
}

const OPEN: Fixed = Fixed { key: 1, by: None, reverse: None, stores: false };

const fn fixed(by: By, reverse: bool) -> Fixed {
    Fixed { by: Some(by), reverse: Some(reverse), ..OPEN }
}

struct Query<'a> {
    bounds: Bounds<'a>,
    reverse: bool,
    with_scores: bool,
    offset: i64,
    /// Negative for no limit.
    limit: i64,
}

fn integer(text: &[u8]) -> Result<i64, Error> {
    number::integer(text).ok_or(Error::NotAnInteger)
}

impl<'a> Query<'a> {
    fn parse(argv: &'a Argv, fixed: Fixed) -> Result<Query<'a>, Error> {
        let Fixed { mut by, mut reverse, .. } = fixed;
        let (mut with_scores, mut offset, mut limit) = (false, 0, -1);
        let mut at = fixed.key + 3;
        while let Some(word) = argv.get(at) {
            match &word.to_ascii_lowercase()[..] {
                b"withscores" if !fixed.stores => with_scores = true,
                b"limit" if at + 2 < argv.len() => {
                    (offset, limit) = (integer(&argv[at + 1])?, integer(&argv[at + 2])?);
                    at += 2;
                }
                b"rev" if reverse.is_none() => reverse = Some(true),
                b"bylex" if by.is_none() => by = Some(By::Lex),
                b"byscore" if by.is_none() => by = Some(By::Score),
                _ => return Err(Error::Syntax),
            }
            at += 1;
        }
        let (by, reverse) = (by.unwrap_or(By::Rank), reverse.unwrap_or(false));
        if limit != -1 && by == By::Rank {
            return Err(Error::text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(Error::text("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        let (first, second) = (&argv[fixed.key + 1], &argv[fixed.key + 2]);
        let (min, max) = if reverse { (second, first) } else { (first, second) };
        let bounds = match by {
            By::Rank => Bounds::Rank(integer(first)?, integer(second)?),
            By::Score => Bounds::Score(ScoreRange::parse(min, max)?),
            By::Lex => Bounds::Lex(LexRange::parse(min, max)?),
        };
        Ok(Query { bounds, reverse, with_scores, offset, limit })
    }

    /// The elements that are looked for, in the order of the reply.
    fn select<'s>(&self, set: &'s SortedSet) -> Box<dyn Iterator<Item = Scored<'s>> + 's> {
        let len = set.len();
        let span = match self.bounds {
            Bounds::Rank(start, stop) => {
                let (first, count) = range(start, stop, len).unwrap_or((0, 0));
                if self.reverse { len - first - count..len - first } else { first..first + count }
            }
            Bounds::Score(range) => range.span(set),
            Bounds::Lex(range) => range.span(set, self.reverse),
        };
        let Ok(offset) = u64::try_from(self.offset) else { return Box::new(std::iter::empty()) };
        let left = (span.end - span.start).saturating_sub(offset);
        let count = u64::try_from(self.limit).map_or(left, |limit| limit.min(left));
        if count == 0 {
            Box::new(std::iter::empty())
        } else if self.reverse {
            Box::new(set.iter_back_from(span.end - offset).take(count as usize))
        } else {
            Box::new(set.iter_from(span.start + offset).take(count as usize))
        }
    }
}

fn answer(keyspace: &Keyspace, context: &ReadContext, argv: &Argv, fixed: Fixed) -> CommandResult {
    let query = Query::parse(argv, fixed)?;
    Ok(match look::<SortedSet>(keyspace, context.database, &argv[fixed.key])? {
        Some(set) => shown(query.select(set), query.with_scores),
        None => Reply::Array(Vec::new()),
    })
}

/// ZRANGE
pub(super) fn zrange(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    answer(keyspace, context, argv, OPEN)
}

/// ZREVRANGE
pub(super) fn zrevrange(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    answer(keyspace, context, argv, fixed(By::Rank, true))
}

/// ZRANGEBYSCORE
pub(super) fn zrangebyscore(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    answer(keyspace, context, argv, fixed(By::Score, false))
}

/// ZREVRANGEBYSCORE
pub(super) fn zrevrangebyscore(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    answer(keyspace, context, argv, fixed(By::Score, true))
}

/// ZRANGEBYLEX
pub(super) fn zrangebylex(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    answer(keyspace, context, argv, fixed(By::Lex, false))
}

/// ZREVRANGEBYLEX
pub(super) fn zrevrangebylex(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    answer(keyspace, context, argv, fixed(By::Lex, true))
}

/// ZRANGESTORE
pub(super) fn zrangestore(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let fixed = Fixed { key: 2, stores: true, ..OPEN };
    let query = Query::parse(argv, fixed)?;
    let result = look::<SortedSet>(keyspace, context.database, &argv[2])?.map(|set| {
        let elements: Vec<Scored<'_>> = query.select(set).collect();
        SortedSet::fitting(&elements, keyspace.settings())
    });
    Ok(store(keyspace, context, &argv[1], result.unwrap_or_default(), "zrangestore"))
}
