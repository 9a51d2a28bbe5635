//! The commands on single places.

use quoris_resp::{Argv, Reply};

use super::arguments::{place, unit};
use super::hash::{decode, encode, text};
use super::shape::distance;
use super::{distance_text, place_reply};
use crate::command::ReadContext;
use crate::types::collection::look;
use crate::types::zset::{Rules, SortedSet, add};
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// GEOADD: ZADD with places instead of scores.
pub(super) fn geoadd(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (mut rules, mut at) = (Rules::default(), 2);
    while let Some(word) = argv.get(at) {
        match &word.to_ascii_lowercase()[..] {
            b"nx" => rules.new_only = true,
            b"xx" => rules.old_only = true,
            b"ch" => rules.count_changed = true,
            _ => break,
        }
        at += 1;
    }
    let rest = argv.len() - at;
    if rest == 0 || !rest.is_multiple_of(3) || rules.new_only && rules.old_only {
        return Err(Error::Syntax);
    }
    let pairs = (at..argv.len()).step_by(3).map(|at| Ok((encode(place(&argv[at], &argv[at + 1])?), &argv[at + 2])));
    let pairs = pairs.collect::<Result<Vec<_>, Error>>()?;
    add(keyspace, context, &argv[1], rules, &pairs)
}

/// GEODIST
pub(super) fn geodist(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let unit = match argv.len() {
        4 => 1.0,
        5 => unit(&argv[4])?,
        _ => return Err(Error::Syntax),
    };
    let set = look::<SortedSet>(keyspace, context.database, &argv[1])?;
    let score = |member: &[u8]| set.and_then(|set| set.score(member));
    let (Some(one), Some(other)) = (score(&argv[2]), score(&argv[3])) else { return Ok(Reply::Null) };
    Ok(Reply::bulk(distance_text(distance(decode(one), decode(other)) / unit)))
}

/// One reply for each member.
fn each(
    keyspace: &Keyspace,
    context: &ReadContext,
    argv: &Argv,
    absent: &Reply,
    show: impl Fn(f64) -> Reply,
) -> CommandResult {
    let set = look::<SortedSet>(keyspace, context.database, &argv[1])?;
    let one = |member: &[u8]| set.and_then(|set| set.score(member)).map_or_else(|| absent.clone(), &show);
    Ok(Reply::Array(argv.iter().skip(2).map(one).collect()))
}

/// GEOHASH
pub(super) fn geohash(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    each(keyspace, context, argv, &Reply::Null, |score| Reply::bulk(text(score)))
}

/// GEOPOS
pub(super) fn geopos(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    each(keyspace, context, argv, &Reply::NullArray, |score| place_reply(decode(score)))
}
