//! The commands that look at single members and count.

use quoris_resp::{Argv, Reply};

use super::range::{LexRange, ScoreRange};
use super::shown;
use super::value::{Scored, SortedSet};
use crate::command::ReadContext;
use crate::types::collection::{Collection, look};
use crate::types::generic::Scan;
use crate::types::hashed::{self, Picks};
use crate::{CommandResult, Error, Keyspace, glob, number};

fn set<'a>(keyspace: &'a Keyspace, context: &ReadContext, argv: &Argv) -> Result<Option<&'a SortedSet>, Error> {
    look(keyspace, context.database, &argv[1])
}

fn double_or_null(score: Option<f64>) -> Reply {
    score.map_or(Reply::Null, Reply::Double)
}

/// ZCARD
pub(super) fn zcard(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    Ok(Reply::Int(set(keyspace, context, argv)?.map_or(0, |set| set.len() as i64)))
}

/// ZSCORE
pub(super) fn zscore(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    Ok(double_or_null(set(keyspace, context, argv)?.and_then(|set| set.score(&argv[2]))))
}

/// ZMSCORE
pub(super) fn zmscore(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let set = set(keyspace, context, argv)?;
    let score = |member: &[u8]| double_or_null(set.and_then(|set| set.score(member)));
    Ok(Reply::Array(argv.iter().skip(2).map(score).collect()))
}

fn rank(keyspace: &Keyspace, context: &ReadContext, argv: &Argv, reverse: bool) -> CommandResult {
    let with_score = match argv.len() {
        3 => false,
        4 if argv[3].eq_ignore_ascii_case(b"withscore") => true,
        4 => return Err(Error::Syntax),
        _ => return Err(Error::Arity(String::from_utf8_lossy(&argv[0]).to_lowercase())),
    };
    let found = set(keyspace, context, argv)?.and_then(|set| {
        let (rank, score) = set.rank(&argv[2])?;
        Some((if reverse { set.len() - 1 - rank } else { rank }, score))
    });
    Ok(match found {
        Some((rank, score)) if with_score => Reply::Array(vec![Reply::Int(rank as i64), Reply::Double(score)]),
        Some((rank, _)) => Reply::Int(rank as i64),
        None if with_score => Reply::NullArray,
        None => Reply::Null,
    })
}

/// ZRANK
pub(super) fn zrank(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    rank(keyspace, context, argv, false)
}

/// ZREVRANK
pub(super) fn zrevrank(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    rank(keyspace, context, argv, true)
}

/// ZCOUNT
pub(super) fn zcount(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let range = ScoreRange::parse(&argv[2], &argv[3])?;
    let span = set(keyspace, context, argv)?.map(|set| range.span(set));
    Ok(Reply::Int(span.map_or(0, |span| (span.end - span.start) as i64)))
}

/// ZLEXCOUNT
pub(super) fn zlexcount(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let range = LexRange::parse(&argv[2], &argv[3])?;
    let span = set(keyspace, context, argv)?.map(|set| range.span(set, false));
    Ok(Reply::Int(span.map_or(0, |span| (span.end - span.start) as i64)))
}

/// ZSCAN; scores are text there, also in RESP3. Valkey's NOSCORES leaves them out.
pub(super) fn zscan(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let cursor = number::cursor(&argv[2]).ok_or_else(|| Error::text("ERR invalid cursor"))?;
    let Some(set) = set(keyspace, context, argv)? else { return Ok(hashed::page(0, Vec::new())) };
    let scan = Scan::parse(argv, 3, "NOSCORES")?;
    let mut items = Vec::new();
    let next = set.scan(cursor, scan.count, &mut |Scored { score, member }| {
        if scan.pattern.is_none_or(|pattern| glob::matches(pattern, member)) {
            items.push(Reply::bulk(member));
            items.extend((!scan.flag).then(|| Reply::bulk(quoris_resp::double_text(score))));
        }
    });
    Ok(hashed::page(next, items))
}

/// ZRANDMEMBER: a negative count may give a member several times.
pub(super) fn zrandmember(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let rng = &mut *context.rng.borrow_mut();
    let Some(count) = argv.get(2) else {
        let member = set(keyspace, context, argv)?.and_then(|set| set.at(rng.below(set.len())));
        return Ok(member.map_or(Reply::Null, |element| Reply::bulk(element.member)));
    };
    let picks = Picks::parse(count)?;
    let with_scores = match argv.len() {
        3 => false,
        4 if argv[3].eq_ignore_ascii_case(b"withscores") => true,
        _ => return Err(Error::Syntax),
    };
    if with_scores && matches!(picks, Picks::Distinct(count) if count > i64::MAX.cast_unsigned() / 2) {
        return Err(Error::text("ERR value is out of range"));
    }
    let Some(set) = set(keyspace, context, argv)? else { return Ok(Reply::Array(Vec::new())) };
    Ok(match picks {
        Picks::Distinct(count) if count >= set.len() => shown(set.iter_from(0), with_scores),
        Picks::Distinct(count) => {
            let ranks = hashed::distinct(rng, count, set.len());
            shown(ranks.into_iter().filter_map(|rank| set.at(rank)), with_scores)
        }
        Picks::Repeated(count) => shown((0..count).filter_map(|_| set.at(rng.below(set.len()))), with_scores),
    })
}
