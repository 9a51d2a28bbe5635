//! XINFO: what lies behind a stream.

use quoris_resp::{Argv, Reply};

use super::group::{Consumer, Group, UNKNOWN};
use super::groups::{no_group_in, unknown};
use super::id;
use super::produced::Produced;
use super::read::most;
use super::value::{Stream, entry_reply};
use crate::command::{ReadContext, by_name, introspect};
use crate::number;
use crate::types::collection::{Collection, look};
use crate::{CommandResult, Error, Keyspace};

/// Entries and pending entries that FULL shows when COUNT does not say.
const COUNT_DEFAULT: u64 = 10;

fn map(rows: Vec<(&str, Reply)>) -> Reply {
    Reply::Map(rows.into_iter().map(|(name, value)| (Reply::bulk(name), value)).collect())
}

fn int(n: u64) -> Reply {
    Reply::Int(n.cast_signed())
}

fn stream_of<'a>(keyspace: &'a Keyspace, context: &ReadContext, argv: &Argv) -> Result<&'a Stream, Error> {
    look::<Stream>(keyspace, context.database, &argv[2])?.ok_or(Error::NoSuchKey)
}

/// What XINFO STREAM FULL shows at most; nothing when it is not FULL.
fn full(argv: &Argv) -> Result<Option<usize>, Error> {
    match argv.len() {
        3 => Ok(None),
        4 | 6 if argv[3].eq_ignore_ascii_case(b"full") => {
            let Some(word) = argv.get(4) else { return Ok(Some(most(COUNT_DEFAULT))) };
            if !word.eq_ignore_ascii_case(b"count") {
                return Err(unknown(argv));
            }
            let count = number::integer(&argv[5]).ok_or(Error::NotAnInteger)?;
            Ok(Some(most(u64::try_from(count).unwrap_or(COUNT_DEFAULT))))
        }
        _ => Err(unknown(argv)),
    }
}

/// XINFO STREAM
pub(super) fn stream(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let stream = stream_of(keyspace, context, argv)?;
    let full = full(argv)?;
    let nodes = stream.len().div_ceil(stream.per_node_by(keyspace.settings()));
    let mut rows = vec![
        ("length", int(stream.len())),
        ("radix-tree-keys", int(nodes)),
        ("radix-tree-nodes", int(nodes + 1)),
        ("last-generated-id", id::reply(stream.last())),
        ("max-deleted-entry-id", id::reply(stream.max_deleted())),
        ("entries-added", int(stream.added())),
        ("recorded-first-entry-id", id::reply(stream.first_id())),
    ];
    rows.extend(producers(stream.produced().unwrap_or(&Produced::default()), context.now_ms));
    match full {
        Some(count) => {
            let entries = stream.iter_from(0).take(count).map(entry_reply).collect();
            rows.push(("entries", Reply::Array(entries)));
            let groups = stream.groups().map(|(name, group)| full_group(stream, name, group, count));
            rows.push(("groups", Reply::Array(groups.collect())));
        }
        None => {
            let at = |index| stream.iter_from(index).next().map_or(Reply::Null, entry_reply);
            rows.push(("groups", int(stream.groups().len() as u64)));
            rows.push(("first-entry", at(0)));
            rows.push(("last-entry", stream.len().checked_sub(1).map_or(Reply::Null, at)));
        }
    }
    Ok(map(rows))
}

/// What producers have said, and for how long it is known.
fn producers(produced: &Produced, now_ms: u64) -> [(&'static str, Reply); 6] {
    [
        ("idmp-duration", int(produced.duration_s)),
        ("idmp-maxsize", int(produced.max)),
        ("pids-tracked", int(produced.producers(now_ms))),
        ("iids-tracked", int(produced.messages(now_ms))),
        ("iids-added", int(produced.added)),
        ("iids-duplicates", int(produced.duplicates)),
    ]
}

fn progress(stream: &Stream, group: &Group) -> [(&'static str, Reply); 3] {
    let read = if group.read == UNKNOWN { Reply::Null } else { Reply::Int(group.read) };
    let lag = stream.lag(group).map_or(Reply::Null, Reply::Int);
    [("last-delivered-id", id::reply(group.last)), ("entries-read", read), ("lag", lag)]
}

fn full_group(stream: &Stream, name: &[u8], group: &Group, count: usize) -> Reply {
    let pending = group.pending_from(id::Id::MIN).take(count).map(|(id, consumer, pending)| {
        let (time, deliveries) = (int(consumer.shown_time(pending)), int(pending.count));
        Reply::Array(vec![id::reply(id), Reply::bulk(&consumer.name), time, deliveries])
    });
    let mut rows = vec![("name", Reply::bulk(name))];
    rows.extend(progress(stream, group));
    rows.push(("pel-count", int(group.len())));
    rows.push(("pending", Reply::Array(pending.collect())));
    let consumers = group.consumers().map(|consumer| full_consumer(consumer, count)).collect();
    rows.push(("consumers", Reply::Array(consumers)));
    map(rows)
}

fn full_consumer(consumer: &Consumer, count: usize) -> Reply {
    let pending = consumer
        .pending_at(0)
        .take(count)
        .map(|(id, pending)| Reply::Array(vec![id::reply(id), int(pending.time), int(pending.count)]));
    map(vec![
        ("name", Reply::bulk(&consumer.name)),
        ("seen-time", int(consumer.seen)),
        ("active-time", consumer.active.map_or(Reply::Int(-1), int)),
        ("pel-count", int(consumer.len())),
        ("pending", Reply::Array(pending.collect())),
    ])
}

/// XINFO GROUPS
pub(super) fn groups(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let stream = stream_of(keyspace, context, argv)?;
    let one = |(name, group): (&[u8], &Group)| {
        let mut rows = vec![
            ("name", Reply::bulk(name)),
            ("consumers", int(group.consumers().len() as u64)),
            ("pending", int(group.len())),
        ];
        rows.extend(progress(stream, group));
        map(rows)
    };
    Ok(Reply::Array(stream.groups().map(one).collect()))
}

/// XINFO CONSUMERS
pub(super) fn consumers(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let group = stream_of(keyspace, context, argv)?.group(&argv[3]);
    let group = group.ok_or_else(|| no_group_in(&argv[2], &argv[3]))?;
    let ago = |time: u64| int(context.now_ms.saturating_sub(time));
    let one = |consumer: &Consumer| {
        map(vec![
            ("name", Reply::bulk(&consumer.name)),
            ("pending", int(consumer.len())),
            ("idle", ago(consumer.seen)),
            ("inactive", consumer.active.map_or(Reply::Int(-1), ago)),
        ])
    };
    Ok(Reply::Array(group.consumers().map(one).collect()))
}

/// XINFO HELP
pub(super) fn help(_keyspace: &Keyspace, _context: &ReadContext, _argv: &Argv) -> CommandResult {
    Ok(by_name(b"xinfo").map_or(Reply::Null, |found| introspect::help(found.command)))
}
