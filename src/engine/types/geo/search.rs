//! GEOSEARCH and what it replaced.

use quoris_resp::{Argv, Reply};

use super::arguments::{Family, Query, Sort};
use super::hash::{Place, decode};
use super::{distance_text, place_reply};
use crate::command::{KeyUse, KeyUses, OW_UPDATE, RO_ACCESS, ReadContext};
use crate::types::collection::look;
use crate::types::zset::{Scored, SortedSet, store};
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// A place that was found.
struct Found<'a> {
    member: &'a [u8],
    score: f64,
    place: Place,
    /// Metres from the centre.
    distance: f64,
}

/// The places of a set that a query wants, in its order. Unsorted ones come cell by cell, in a cell by their
/// scores; equally far ones keep that order.
fn find<'a>(set: &'a SortedSet, query: &Query<'_>) -> Vec<Found<'a>> {
    let Some(area) = &query.area else { return Vec::new() };
    let most = usize::try_from(query.count).ok().filter(|n| *n > 0).unwrap_or(usize::MAX);
    let scored = area.cells().into_iter().flat_map(|cell| {
        let (begin, end) = cell.scores();
        set.between(begin, end)
    });
    let found = scored.filter_map(|Scored { score, member }| {
        let place = decode(score);
        area.distance_inside(place).map(|distance| Found { member, score, place, distance })
    });
    let mut found: Vec<Found<'_>> = if query.any { found.take(most).collect() } else { found.collect() };
    match query.sort {
        Sort::None if query.count == 0 || query.any => {}
        Sort::None | Sort::Ascending => found.sort_by(|one, other| one.distance.total_cmp(&other.distance)),
        Sort::Descending => found.sort_by(|one, other| other.distance.total_cmp(&one.distance)),
    }
    found.truncate(most);
    found
}

fn reply(found: &[Found<'_>], query: &Query<'_>) -> Reply {
    let one = |found: &Found<'_>| {
        let member = Reply::bulk(found.member);
        if !(query.with_distance || query.with_hash || query.with_place) {
            return member;
        }
        let mut parts = vec![member];
        parts.extend(query.with_distance.then(|| Reply::bulk(distance_text(found.distance / query.unit))));
        parts.extend(query.with_hash.then_some(Reply::Int(found.score as i64)));
        parts.extend(query.with_place.then(|| place_reply(found.place)));
        Reply::Array(parts)
    };
    Reply::Array(found.iter().map(one).collect())
}

fn answer(keyspace: &Keyspace, context: &ReadContext, argv: &Argv, family: Family) -> CommandResult {
    let set = look::<SortedSet>(keyspace, context.database, &argv[1])?;
    let query = Query::parse(argv, family, false, set)?;
    Ok(set.map_or(Reply::Array(Vec::new()), |set| reply(&find(set, &query), &query)))
}

/// The same for the commands that can store the result.
fn keep(keyspace: &mut Keyspace, context: &ApplyContext, argv: &Argv, family: Family) -> CommandResult {
    let source = if family == Family::SearchStore { &argv[2] } else { &argv[1] };
    let set = look::<SortedSet>(keyspace, context.database, source)?;
    let query = Query::parse(argv, family, true, set)?;
    let found = set.map_or(Vec::new(), |set| find(set, &query));
    let Some(key) = query.store else { return Ok(reply(&found, &query)) };
    let elements = found.iter().map(|found| {
        let score = if query.store_distance { found.distance / query.unit } else { found.score };
        Scored { score, member: found.member }
    });
    let result = SortedSet::fitting(&elements.collect::<Vec<_>>(), keyspace.settings());
    let name = if family == Family::SearchStore { "geosearchstore" } else { "georadiusstore" };
    Ok(store(keyspace, context, key, result, name))
}

/// The keys of GEORADIUS and GEORADIUSBYMEMBER: the source, and the last one behind STORE or STOREDIST.
pub(super) fn radius_keys(argv: &Argv) -> Result<KeyUses, Error> {
    let mut keys = KeyUses::new();
    keys.push(KeyUse { position: 1, flags: RO_ACCESS });
    let (mut at, mut stored) = (5, None);
    while at + 1 < argv.len() {
        if argv[at].eq_ignore_ascii_case(b"store") || argv[at].eq_ignore_ascii_case(b"storedist") {
            stored = Some(at + 1);
            at += 1;
        }
        at += 1;
    }
    keys.extend(stored.map(|position| KeyUse { position, flags: OW_UPDATE }));
    Ok(keys)
}

/// GEORADIUS
pub(super) fn georadius(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    keep(keyspace, context, argv, Family::AroundPlace)
}

/// GEORADIUSBYMEMBER
pub(super) fn georadiusbymember(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    keep(keyspace, context, argv, Family::AroundMember)
}

/// GEORADIUS_RO
pub(super) fn georadius_ro(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    answer(keyspace, context, argv, Family::AroundPlace)
}

/// GEORADIUSBYMEMBER_RO
pub(super) fn georadiusbymember_ro(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    answer(keyspace, context, argv, Family::AroundMember)
}

/// GEOSEARCH
pub(super) fn geosearch(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    answer(keyspace, context, argv, Family::Search)
}

/// GEOSEARCHSTORE
pub(super) fn geosearchstore(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    keep(keyspace, context, argv, Family::SearchStore)
}
