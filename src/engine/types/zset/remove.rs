//! The commands that remove elements: by member, by range, from an end.

use quoris_resp::{Argv, Reply};

use super::range::{LexRange, ScoreRange, Span};
use super::value::{Scored, SortedSet};
use crate::types::collection::{Collection, change, look, positive, range};
use crate::types::first::{Many, take_first};
use crate::{ApplyContext, CommandResult, Error, Keyspace, Settings, number};

/// ZREM
pub(super) fn zrem(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (database, key) = (context.database, &argv[1]);
    let Some(set) = look::<SortedSet>(keyspace, database, key)? else { return Ok(Reply::Int(0)) };
    let members = || argv.iter().skip(2);
    if members().all(|member| set.score(member).is_none()) {
        return Ok(Reply::Int(0));
    }
    let removed = change(keyspace, database, key, "zrem", |set: &mut SortedSet, _| {
        members().filter(|member| set.remove(member)).count()
    })?;
    Ok(Reply::Int(removed.unwrap_or(0) as i64))
}

/// Removes the elements of the ranks that `find` gives.
fn remove(
    keyspace: &mut Keyspace,
    context: &ApplyContext,
    key: &[u8],
    name: &'static str,
    find: impl FnOnce(&SortedSet) -> Span,
) -> CommandResult {
    let span = look::<SortedSet>(keyspace, context.database, key)?.map_or(0..0, find);
    if span.is_empty() {
        return Ok(Reply::Int(0));
    }
    change(keyspace, context.database, key, name, |set: &mut SortedSet, _| set.remove_span(&span))?;
    Ok(Reply::Int((span.end - span.start) as i64))
}

/// ZREMRANGEBYRANK
pub(super) fn zremrangebyrank(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let integer = |at: usize| number::integer(&argv[at]).ok_or(Error::NotAnInteger);
    let (start, stop) = (integer(2)?, integer(3)?);
    remove(keyspace, context, &argv[1], "zremrangebyrank", |set| {
        range(start, stop, set.len()).map_or(0..0, |(first, count)| first..first + count)
    })
}

/// ZREMRANGEBYSCORE
pub(super) fn zremrangebyscore(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let range = ScoreRange::parse(&argv[2], &argv[3])?;
    remove(keyspace, context, &argv[1], "zremrangebyscore", |set| range.span(set))
}

/// ZREMRANGEBYLEX
pub(super) fn zremrangebylex(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let range = LexRange::parse(&argv[2], &argv[3])?;
    remove(keyspace, context, &argv[1], "zremrangebylex", |set| range.span(set, false))
}

/// One end of a sorted set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    Min,
    Max,
}

impl End {
    /// The event of elements that are taken from it.
    pub(super) fn popped(self) -> &'static str {
        if self == End::Min { "zpopmin" } else { "zpopmax" }
    }
}

impl SortedSet {
    /// Takes at most `count` elements from an end, the outermost first, as replies.
    pub(super) fn pop(&mut self, end: End, count: u64) -> Vec<(Reply, Reply)> {
        let len = self.len();
        let count = count.min(len);
        let pair = |Scored { score, member }: Scored<'_>| (Reply::bulk(member), Reply::Double(score));
        let take = count as usize;
        let (popped, span) = match end {
            End::Min => (self.iter_from(0).take(take).map(pair).collect(), 0..count),
            End::Max => (self.iter_back_from(len).take(take).map(pair).collect(), len - count..len),
        };
        self.remove_span(&span);
        popped
    }
}

fn pop(keyspace: &mut Keyspace, context: &ApplyContext, argv: &Argv, end: End) -> CommandResult {
    if argv.len() > 3 {
        return Err(Error::Syntax);
    }
    let count = argv.get(2).map(positive).transpose()?;
    let (database, key) = (context.database, &argv[1]);
    if look::<SortedSet>(keyspace, database, key)?.is_none() || count == Some(0) {
        return Ok(Reply::Array(Vec::new()));
    }
    let pop = |set: &mut SortedSet, _: &Settings| set.pop(end, count.unwrap_or(1));
    let popped = change(keyspace, database, key, end.popped(), pop)?;
    let popped = popped.unwrap_or_default();
    Ok(match count {
        Some(_) => Reply::Pairs(popped),
        // A single element is a flat list in RESP3 too.
        None => Reply::Array(popped.into_iter().flat_map(|(member, score)| [member, score]).collect()),
    })
}

/// ZPOPMIN
pub(super) fn zpopmin(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    pop(keyspace, context, argv, End::Min)
}

/// ZPOPMAX
pub(super) fn zpopmax(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    pop(keyspace, context, argv, End::Max)
}

/// The end that an argument names.
///
/// # Errors
/// When it is neither.
pub(super) fn end(word: &[u8]) -> Result<End, Error> {
    match &word.to_ascii_lowercase()[..] {
        b"min" => Ok(End::Min),
        b"max" => Ok(End::Max),
        _ => Err(Error::Syntax),
    }
}

/// Takes elements from the first sorted set that is there; ZMPOP and BZMPOP.
///
/// # Errors
/// When a key in front of it holds another type.
pub(super) fn take_many(
    many: Many<End>,
    keyspace: &mut Keyspace,
    context: &ApplyContext,
    argv: &Argv,
) -> CommandResult {
    let pop = |set: &mut SortedSet, _: &Settings| set.pop(many.end, many.count);
    let Some((at, popped)) = take_first(keyspace, context, argv, many.keys, many.end.popped(), pop)? else {
        return Ok(Reply::NullArray);
    };
    let pairs = popped.into_iter().map(|(member, score)| Reply::Array(vec![member, score])).collect();
    Ok(Reply::Array(vec![Reply::bulk(&argv[at]), Reply::Array(pairs)]))
}

/// ZMPOP
pub(super) fn zmpop(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    take_many(Many::parse(argv, 1, end)?, keyspace, context, argv)
}
