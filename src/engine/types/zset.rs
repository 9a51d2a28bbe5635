//! Sorted sets.
//!
//! [`SortedSet`] says how elements are kept and found; `range` what a range of scores or members is. The commands
//! are in one file per kind: adding, looking, ranges, removing, combining.

mod add;
mod blocking;
mod combine;
mod load;
mod query;
mod range;
mod read;
mod remove;
#[cfg(test)]
mod tests;
mod value;

use quoris_resp::Reply;

pub(in crate::types) use add::{Rules, add};
pub(in crate::types) use value::Scored;
pub use value::SortedSet;
pub(crate) use value::growing;

use crate::command::*;
use crate::events::Class;
use crate::types::collection::{Collection, Typed};
use crate::{ApplyContext, Keyspace, Value};

impl Typed for SortedSet {
    const CLASS: Class = Class::SortedSet;

    fn of(value: &Value) -> Option<&SortedSet> {
        if let Value::SortedSet(set) = value { Some(set) } else { None }
    }

    fn of_mut(value: &mut Value) -> Option<&mut SortedSet> {
        if let Value::SortedSet(set) = value { Some(set) } else { None }
    }

    fn into_value(self) -> Value {
        Value::SortedSet(self)
    }
}

/// Elements as a reply: members, or members with scores.
fn shown<'a>(elements: impl Iterator<Item = Scored<'a>>, with_scores: bool) -> Reply {
    if with_scores {
        return Reply::Pairs(elements.map(|one| (Reply::bulk(one.member), Reply::Double(one.score))).collect());
    }
    Reply::Array(elements.map(|one| Reply::bulk(one.member)).collect())
}

/// Puts a result in the place of whatever a key held, or removes the key when the result is empty; the reply is
/// the number of elements. `name` is the event.
pub(in crate::types) fn store(
    keyspace: &mut Keyspace,
    context: &ApplyContext,
    key: &[u8],
    result: SortedSet,
    name: &'static str,
) -> Reply {
    let len = result.len();
    if len == 0 {
        keyspace.delete_and_tell(context.database, key);
    } else {
        keyspace.set(context.database, key, result.into_value(), None);
        keyspace.notify(Class::SortedSet, name, context.database, key);
    }
    Reply::Int(len as i64)
}

const SORTED: Command = Command { group: Group::SortedSet, ..ROW };
const GROW: Flags = WRITE.with(DENYOOM);
const ONE: Command = Command { flags: READONLY.with(FAST), keys: KEY_READ, complexity: LOG, ..SORTED };
const RANGE: Command = Command { arity: -4, flags: READONLY, keys: KEY_READ, complexity: LOG_AND_GIVEN, ..SORTED };
const CUT: Command = Command { arity: 4, flags: WRITE, keys: KEY_DELETE, complexity: LOG_AND_REMOVED, ..SORTED };
const POP: Command = Command {
    arity: -2,
    flags: WRITE.with(FAST),
    keys: KEY_TAKE,
    since: "5.0.0",
    complexity: LOG_AND_REMOVED,
    syntax: "key [count]",
    ..SORTED
};
const WAIT: Command = Command {
    arity: -3,
    flags: WRITE.with(FAST).with(BLOCKING),
    keys: &[range(RW_ACCESS_DELETE, 1, -2, 1)],
    since: "5.0.0",
    complexity: LOG,
    syntax: "key ... timeout",
    waits: Some(&blocking::LAST),
    ..SORTED
};
const COMBINE: Command =
    Command { arity: -3, flags: READONLY, keys: &[counted(RO_ACCESS, 1, 1)], since: "6.2.0", ..SORTED };
const STORE: Command =
    Command { arity: -4, flags: GROW, keys: &[one(OW_UPDATE, 1), counted(RO_ACCESS, 2, 1)], since: "2.0.0", ..SORTED };
const LOG: &str = "O(log N) for N elements";
const LOG_AND_GIVEN: &str = "O(log N + M) for M elements given back of N";
const LOG_AND_REMOVED: &str = "O(M log N) for M elements removed of N";
const UNION: &str = "O(N log N) for N elements of all sets together";
const INTERSECTION: &str = "O(N*K log N) for K sets, the smallest of N elements";
const DIFFERENCE: &str = "O(N*K log N) for K sets, the first of N elements";
const WEIGHTS: &str = "numkeys key ... [WEIGHTS weight ...] [AGGREGATE {SUM | MIN | MAX | COUNT}] [WITHSCORES]";
const WEIGHTS_STORE: &str = "destination numkeys key ... [WEIGHTS weight ...] [AGGREGATE {SUM | MIN | MAX | COUNT}]";
const UNSTABLE: &[&str] = &["nondeterministic_output"];

/// The rows of the sorted set commands.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command { name: "zadd", arity: -4, flags: GROW.with(FAST), keys: KEY_UPDATE, since: "1.2.0",
        complexity: "O(log N) for each element, of N",
        summary: "Gives members scores; a sorted set is made where there is none.",
        syntax: "key [NX | XX] [GT | LT] [CH] [INCR] {score member} ...", handler: Handler::Write(add::zadd),
        ..SORTED },
    Command { name: "zincrby", arity: 4, flags: GROW.with(FAST), keys: KEY_CHANGE, since: "1.2.0", complexity: LOG,
        summary: "Adds to the score of a member; an absent member counts as 0.", syntax: "key score-increment member",
        handler: Handler::Write(add::zincrby), ..SORTED },
    Command { name: "zrem", arity: -3, flags: WRITE.with(FAST), keys: KEY_DELETE, since: "1.2.0",
        complexity: LOG_AND_REMOVED, summary: "Removes members.", syntax: "key member ...",
        handler: Handler::Write(remove::zrem), ..SORTED },
    Command { name: "zremrangebyrank", since: "2.0.0", summary: "Removes the elements between two ranks.",
        syntax: "key start stop", handler: Handler::Write(remove::zremrangebyrank), ..CUT },
    Command { name: "zremrangebyscore", since: "1.2.0", summary: "Removes the elements between two scores.",
        syntax: "key min max", handler: Handler::Write(remove::zremrangebyscore), ..CUT },
    Command { name: "zremrangebylex", since: "2.8.9",
        summary: "Removes the members between two others, where all scores are equal.", syntax: "key min max",
        handler: Handler::Write(remove::zremrangebylex), ..CUT },
    Command { name: "zpopmin", summary: "Takes the elements with the lowest scores.",
        handler: Handler::Write(remove::zpopmin), ..POP },
    Command { name: "zpopmax", summary: "Takes the elements with the highest scores.",
        handler: Handler::Write(remove::zpopmax), ..POP },
    Command { name: "zmpop", arity: -4, flags: WRITE, keys: &[counted(RW_ACCESS_DELETE, 1, 1)], since: "7.0.0",
        complexity: "O(K + M log N) for K keys and M elements given back of N",
        summary: "Takes elements from the first of several sorted sets that is there.",
        syntax: "numkeys key ... {MIN | MAX} [COUNT count]", handler: Handler::Write(remove::zmpop), ..SORTED },
    Command { name: "bzpopmin", summary: "Takes the element with the lowest score; waits until there is one.",
        handler: Handler::Write(blocking::bzpopmin), ..WAIT },
    Command { name: "bzpopmax", summary: "Takes the element with the highest score; waits until there is one.",
        handler: Handler::Write(blocking::bzpopmax), ..WAIT },
    Command { name: "bzmpop", arity: -5, flags: WRITE.with(BLOCKING), keys: &[counted(RW_ACCESS_DELETE, 2, 1)],
        since: "7.0.0", complexity: "O(K + M log N) for K keys and M elements given back of N",
        summary: "Takes elements from the first of several sorted sets that is there; waits until one is.",
        syntax: "timeout numkeys key ... {MIN | MAX} [COUNT count]", waits: Some(&blocking::FIRST),
        handler: Handler::Write(blocking::bzmpop), ..SORTED },
    Command { name: "zcard", arity: 2, flags: READONLY.with(FAST), keys: KEY_LOOK, since: "1.2.0",
        summary: "Counts the elements of a sorted set.", syntax: "key", handler: Handler::Read(read::zcard), ..SORTED },
    Command { name: "zcount", arity: 4, since: "2.0.0", summary: "Counts the elements between two scores.",
        syntax: "key min max", handler: Handler::Read(read::zcount), ..ONE },
    Command { name: "zlexcount", arity: 4, since: "2.8.9",
        summary: "Counts the members between two others, where all scores are equal.", syntax: "key min max",
        handler: Handler::Read(read::zlexcount), ..ONE },
    Command { name: "zscore", arity: 3, since: "1.2.0", summary: "Gives the score of a member.",
        syntax: "key member", handler: Handler::Read(read::zscore), ..ONE },
    Command { name: "zmscore", arity: -3, since: "6.2.0", complexity: "O(M log N) for M members of N",
        summary: "Gives the scores of several members.", syntax: "key member ...",
        handler: Handler::Read(read::zmscore), ..ONE },
    Command { name: "zrank", arity: -3, since: "2.0.0", summary: "Gives the rank of a member, the lowest score first.",
        syntax: "key member [WITHSCORE]", handler: Handler::Read(read::zrank), ..ONE },
    Command { name: "zrevrank", arity: -3, since: "2.0.0",
        summary: "Gives the rank of a member, the highest score first.", syntax: "key member [WITHSCORE]",
        handler: Handler::Read(read::zrevrank), ..ONE },
    Command { name: "zrandmember", arity: -2, flags: READONLY, since: "6.2.0",
        complexity: "O(M log N) for M elements given back of N", summary: "Gives random members.",
        syntax: "key [count [WITHSCORES]]", tips: UNSTABLE, handler: Handler::Read(read::zrandmember), ..ONE },
    Command { name: "zscan", arity: -3, flags: READONLY, since: "2.8.0",
        complexity: "O(1) for each call, O(N) for a whole pass over N elements",
        summary: "Gives the elements of a sorted set bit by bit.",
        syntax: "key cursor [MATCH pattern] [COUNT count] [NOSCORES]", tips: UNSTABLE,
        handler: Handler::Read(read::zscan), ..ONE },
    Command { name: "zrange", since: "1.2.0", summary: "Gives the elements between two ranks, scores or members.",
        syntax: "key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
        handler: Handler::Read(query::zrange), ..RANGE },
    Command { name: "zrangestore", arity: -5, flags: GROW, keys: &[one(OW_UPDATE, 1), one(RO_ACCESS, 2)],
        since: "6.2.0", summary: "Stores the elements between two ranks, scores or members as another sorted set.",
        syntax: "destination source min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]",
        handler: Handler::Write(query::zrangestore), ..RANGE },
    Command { name: "zrevrange", since: "1.2.0",
        summary: "Gives the elements between two ranks, the highest score first.",
        deprecated: Some(("6.2.0", "`ZRANGE` with the `REV` argument")), syntax: "key start stop [WITHSCORES]",
        handler: Handler::Read(query::zrevrange), ..RANGE },
    Command { name: "zrangebyscore", since: "1.0.5", summary: "Gives the elements between two scores.",
        deprecated: Some(("6.2.0", "`ZRANGE` with the `BYSCORE` argument")),
        syntax: "key min max [WITHSCORES] [LIMIT offset count]", handler: Handler::Read(query::zrangebyscore),
        ..RANGE },
    Command { name: "zrevrangebyscore", since: "2.2.0",
        summary: "Gives the elements between two scores, the highest first.",
        deprecated: Some(("6.2.0", "`ZRANGE` with the `REV` and `BYSCORE` arguments")),
        syntax: "key max min [WITHSCORES] [LIMIT offset count]", handler: Handler::Read(query::zrevrangebyscore),
        ..RANGE },
    Command { name: "zrangebylex", since: "2.8.9",
        summary: "Gives the members between two others, where all scores are equal.",
        deprecated: Some(("6.2.0", "`ZRANGE` with the `BYLEX` argument")), syntax: "key min max [LIMIT offset count]",
        handler: Handler::Read(query::zrangebylex), ..RANGE },
    Command { name: "zrevrangebylex", since: "2.8.9",
        summary: "Gives the members between two others in descending order, where all scores are equal.",
        deprecated: Some(("6.2.0", "`ZRANGE` with the `REV` and `BYLEX` arguments")),
        syntax: "key max min [LIMIT offset count]", handler: Handler::Read(query::zrevrangebylex), ..RANGE },
    Command { name: "zunion", complexity: UNION, summary: "Gives the union of sorted sets.", syntax: WEIGHTS,
        handler: Handler::Read(combine::zunion), ..COMBINE },
    Command { name: "zinter", complexity: INTERSECTION, summary: "Gives the intersection of sorted sets.",
        syntax: WEIGHTS, handler: Handler::Read(combine::zinter), ..COMBINE },
    Command { name: "zdiff", complexity: DIFFERENCE, summary: "Gives the elements of the first sorted set alone.",
        syntax: "numkeys key ... [WITHSCORES]", handler: Handler::Read(combine::zdiff), ..COMBINE },
    Command { name: "zintercard", since: "7.0.0", complexity: INTERSECTION,
        summary: "Counts the members of the intersection of sorted sets.", syntax: "numkeys key ... [LIMIT limit]",
        handler: Handler::Read(combine::zintercard), ..COMBINE },
    Command { name: "zunionstore", complexity: UNION, summary: "Stores the union of sorted sets.",
        syntax: WEIGHTS_STORE, handler: Handler::Write(combine::zunionstore), ..STORE },
    Command { name: "zinterstore", complexity: INTERSECTION, summary: "Stores the intersection of sorted sets.",
        syntax: WEIGHTS_STORE, handler: Handler::Write(combine::zinterstore), ..STORE },
    Command { name: "zdiffstore", since: "6.2.0", complexity: DIFFERENCE,
        summary: "Stores the elements of the first sorted set alone.", syntax: "destination numkeys key ...",
        handler: Handler::Write(combine::zdiffstore), ..STORE },
];
