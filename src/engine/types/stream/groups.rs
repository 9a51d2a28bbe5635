//! Consumer groups: XGROUP, XREADGROUP, XACK.

use quoris_resp::{Argv, Reply};

use super::group::{Group, Pending, UNKNOWN};
use super::id::{self, Id, Interval};
use super::read::{Reading, most, per_stream};
use super::value::{Stream, entry_reply, fields_reply};
use crate::command::{ReadContext, Waits, by_name, introspect};
use crate::number;
use crate::types::collection::{Collection, change, change_or_make, look};
use crate::{ApplyContext, CommandResult, Error, Keyspace, Settings};

/// Neither key nor group, or one of them.
pub(super) fn no_group(key: &[u8], group: &[u8], where_: &str) -> Error {
    let where_ = where_.as_bytes();
    Error::quoting(&[b"NOGROUP No such key '", key, b"' or consumer group '", group, b"'", where_])
}

/// The key is there, the group is not.
pub(super) fn no_group_in(key: &[u8], group: &[u8]) -> Error {
    Error::quoting(&[b"NOGROUP No such consumer group '", group, b"' for key name '", key, b"'"])
}

/// What the arguments behind the id of XGROUP CREATE and SETID say.
struct Options {
    make: bool,
    read: i64,
}

impl Options {
    fn parse(argv: &Argv, is_create: bool) -> Result<Options, Error> {
        let (mut options, mut at) = (Options { make: false, read: UNKNOWN }, 5);
        while let Some(word) = argv.get(at) {
            match &word.to_ascii_lowercase()[..] {
                b"mkstream" if is_create => options.make = true,
                b"entriesread" if at + 1 < argv.len() => {
                    options.read = number::integer(&argv[at + 1]).ok_or(Error::NotAnInteger)?;
                    if options.read < 0 && options.read != UNKNOWN {
                        return Err(Error::text("ERR value for ENTRIESREAD must be positive or -1"));
                    }
                    at += 1;
                }
                _ => return Err(unknown(argv)),
            }
            at += 1;
        }
        Ok(options)
    }

    /// A group cannot have read more than was ever added.
    fn read_of(&self, stream: Option<&Stream>) -> i64 {
        self.read.min(stream.map_or(0, |stream| i64::try_from(stream.added()).unwrap_or(i64::MAX)))
    }
}

/// How Redis takes too many arguments of a subcommand.
pub(super) fn unknown(argv: &Argv) -> Error {
    let container = argv[0].to_ascii_uppercase();
    let name = &argv[1][..argv[1].len().min(128)];
    let why = b"ERR unknown subcommand or wrong number of arguments for '";
    Error::quoting(&[why, name, b"'. Try ", &container, b" HELP."])
}

/// The stream at the key of an XGROUP.
fn stream_of<'a>(keyspace: &'a Keyspace, context: &ApplyContext, argv: &Argv) -> Result<&'a Stream, Error> {
    look::<Stream>(keyspace, context.database, &argv[2])?.ok_or_else(|| {
        Error::text(
            "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the \
             MKSTREAM option to create an empty stream automatically.",
        )
    })
}

/// The same, and its group.
fn group_of<'a>(keyspace: &'a Keyspace, context: &ApplyContext, argv: &Argv) -> Result<(&'a Stream, &'a Group), Error> {
    let stream = stream_of(keyspace, context, argv)?;
    stream.group(&argv[3]).map(|group| (stream, group)).ok_or_else(|| no_group_in(&argv[2], &argv[3]))
}

/// XGROUP CREATE
pub(super) fn create(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let options = Options::parse(argv, true)?;
    let stream = match look::<Stream>(keyspace, context.database, &argv[2])? {
        None if !options.make => stream_of(keyspace, context, argv).map(Some)?,
        stream => stream,
    };
    let last = match &argv[4] {
        b"$" => stream.map_or(Id::MIN, Stream::last),
        text => Id::parse(text, 0)?,
    };
    if stream.is_some_and(|stream| stream.group(&argv[3]).is_some()) {
        return Err(Error::text("BUSYGROUP Consumer Group name already exists"));
    }
    let group = Group::new(last, options.read_of(stream));
    let make = |stream: &mut Stream, _: &Settings| stream.put_group(&argv[3], group);
    change_or_make(keyspace, context.database, &argv[2], "xgroup-create", make)?;
    Ok(Reply::Ok)
}

/// XGROUP SETID
pub(super) fn setid(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let options = Options::parse(argv, false)?;
    let (stream, _) = group_of(keyspace, context, argv)?;
    let last = match &argv[4] {
        b"$" => stream.last(),
        text => Id::parse_special(text, 0)?,
    };
    let read = options.read_of(Some(stream));
    change(keyspace, context.database, &argv[2], "xgroup-setid", |stream: &mut Stream, _| {
        stream.change_group(&argv[3], |_, group| (group.last, group.read) = (last, read));
    })?;
    Ok(Reply::Ok)
}

/// XGROUP DESTROY
pub(super) fn destroy(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    if stream_of(keyspace, context, argv)?.group(&argv[3]).is_none() {
        return Ok(Reply::Int(0));
    }
    let remove = |stream: &mut Stream, _: &Settings| stream.remove_group(&argv[3]);
    let removed = change(keyspace, context.database, &argv[2], "xgroup-destroy", remove)?;
    Ok(Reply::Int(i64::from(removed == Some(true))))
}

/// The event of a consumer that is made.
const CREATED: &str = "xgroup-createconsumer";

/// The same, for a command that makes the consumer when there is none.
pub(super) fn created_by(
    keyspace: &Keyspace,
    database: u32,
    key: &[u8],
    group: &[u8],
    consumer: &[u8],
) -> Option<&'static str> {
    let stream = look::<Stream>(keyspace, database, key).ok()??;
    stream.group(group)?.number(consumer).is_none().then_some(CREATED)
}

/// XGROUP CREATECONSUMER
pub(super) fn createconsumer(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (_, group) = group_of(keyspace, context, argv)?;
    if group.number(&argv[4]).is_some() {
        return Ok(Reply::Int(0));
    }
    change(keyspace, context.database, &argv[2], CREATED, |stream: &mut Stream, _| {
        stream.change_group(&argv[3], |_, group| group.add_consumer(&argv[4], context.now_ms));
    })?;
    Ok(Reply::Int(1))
}

/// XGROUP DELCONSUMER
pub(super) fn delconsumer(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (_, group) = group_of(keyspace, context, argv)?;
    if group.number(&argv[4]).is_none() {
        return Ok(Reply::Int(0));
    }
    let pending = change(keyspace, context.database, &argv[2], "xgroup-delconsumer", |stream: &mut Stream, _| {
        stream.change_group(&argv[3], |_, group| group.remove_consumer(&argv[4]))
    })?;
    Ok(Reply::Int(pending.flatten().flatten().unwrap_or(0) as i64))
}

/// XGROUP HELP
pub(super) fn help(_keyspace: &Keyspace, _context: &ReadContext, _argv: &Argv) -> CommandResult {
    Ok(by_name(b"xgroup").map_or(Reply::Null, |found| introspect::help(found.command)))
}

/// XACK
pub(super) fn xack(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (database, key, name) = (context.database, &argv[1], &argv[2]);
    let stream = look::<Stream>(keyspace, database, key)?;
    let Some(group) = stream.and_then(|stream| stream.group(name)) else { return Ok(Reply::Int(0)) };
    let ids = id::all(argv.iter().skip(3))?;
    if !ids.iter().any(|id| group.is_pending(*id)) {
        return Ok(Reply::Int(0));
    }
    let taken = change(keyspace, database, key, None, |stream: &mut Stream, _| {
        stream.change_group(name, |_, group| ids.iter().filter(|id| group.take(**id).is_some()).count())
    })?;
    Ok(Reply::Int(taken.flatten().unwrap_or(0) as i64))
}

/// What XREADGROUP wants of a stream.
#[derive(Clone, Copy)]
enum From {
    /// What nobody got yet.
    New,
    /// What is pending at the consumer, behind an id.
    History(Id),
}

impl From {
    fn parse(text: &[u8]) -> Result<From, Error> {
        let meaningless = |what: &str| {
            Err(Error::text(format!(
                "ERR The {what} ID is meaningless in the context of XREADGROUP: you want to read the history of this \
                 consumer by specifying a proper ID, or use the > ID to get new messages. The {what} ID would just \
                 return an empty result set."
            )))
        };
        match text {
            b">" => Ok(From::New),
            b"$" => meaningless("$"),
            b"+" => meaningless("+"),
            _ => Ok(match Id::parse(text, 0)? {
                Id::MAX => From::New,
                id => From::History(id),
            }),
        }
    }
}

/// XREADGROUP: BLOCK never waits here.
pub(super) fn xreadgroup(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let reading = Reading::parse(argv, true)?;
    let Some((group, consumer)) = reading.group else { return Err(Error::Syntax) };
    let (name, consumer, database) = (&argv[group], &argv[consumer], context.database);
    let mut wanted = Vec::with_capacity(reading.streams);
    for (key, id) in reading.pairs() {
        let stream = look::<Stream>(keyspace, database, &argv[key])?;
        if stream.and_then(|stream| stream.group(name)).is_none() {
            return Err(no_group(&argv[key], name, " in XREADGROUP with GROUP option"));
        }
        wanted.push((key, From::parse(&argv[id])?));
    }
    let mut replies = Vec::new();
    for (key, from) in wanted {
        let created = created_by(keyspace, database, &argv[key], name, consumer);
        let entries = change(keyspace, database, &argv[key], created, |stream: &mut Stream, _| {
            stream.change_group(name, |stream, group| {
                let number = group.see(consumer, context.now_ms);
                match from {
                    From::History(after) => Some(history(stream, group, number, after, &reading, context.now_ms)),
                    From::New => deliver(stream, group, number, &reading, context.now_ms),
                }
            })
        })?;
        if let Some(entries) = entries.flatten().flatten() {
            replies.push((Reply::bulk(&argv[key]), Reply::Array(entries)));
        }
    }
    Ok(per_stream(replies))
}

/// Consumers of a group wait for the same entries.
pub(super) const WAITS: Waits = Waits { patience, line: group_name, serves, again: |_, _, _| None };

fn patience(argv: &Argv) -> Option<u64> {
    Reading::parse(argv, true).ok()?.block
}

fn group_name(argv: &Argv) -> &[u8] {
    let group = Reading::parse(argv, true).ok().and_then(|reading| reading.group);
    group.and_then(|(name, _)| argv.get(name)).unwrap_or_default()
}

/// The number of entries that the group has not delivered.
fn serves(keyspace: &Keyspace, database: u32, key: &[u8], argv: &Argv) -> u64 {
    let stream = look::<Stream>(keyspace, database, key).ok().flatten();
    match stream.and_then(|stream| Some((stream, stream.group(group_name(argv))?))) {
        Some((stream, group)) => stream.len() - stream.count_below(group.last.next().unwrap_or(Id::MAX)),
        // Everybody has to be told that there is no group any more.
        None => u64::MAX,
    }
}

/// What is pending at a consumer behind an id. What was removed from the stream has no fields.
fn history(stream: &Stream, group: &mut Group, number: u64, after: Id, reading: &Reading, now_ms: u64) -> Vec<Reply> {
    let Some(start) = after.next() else { return Vec::new() };
    let pending = group.consumer(number).pending_from(start).take(most(reading.count)).collect::<Vec<_>>();
    let reply = |(id, old): (Id, Pending)| match stream.find(id) {
        Some(entry) => {
            group.put(id, number, Pending { time: now_ms, count: old.once_more() });
            entry_reply(entry)
        }
        None => Reply::Array(vec![id::reply(id), Reply::NullArray]),
    };
    pending.into_iter().map(reply).collect()
}

/// What has waited for long when that is wanted, then what nobody got yet; nothing when there is neither.
fn deliver(stream: &Stream, group: &mut Group, number: u64, reading: &Reading, now_ms: u64) -> Option<Vec<Reply>> {
    let mut replies = match reading.claim {
        Some(idle) => take_over(stream, group, number, most(reading.count), idle, now_ms),
        None => Vec::new(),
    };
    let room = most(reading.count) - replies.len();
    let start = group.last.next().filter(|_| room > 0);
    let entries = start.into_iter().flat_map(|start| stream.range(Interval { start, end: Id::MAX }));
    for entry in entries.take(room) {
        let id = Id::of(entry);
        group.read = stream.read_with(group, id);
        group.last = id;
        if !reading.noack {
            group.put(id, number, Pending { time: now_ms, count: 1 });
            group.consumer_mut(number).active = Some(now_ms);
        }
        replies.push(match reading.claim {
            Some(_) => claimed_reply(entry, 0, 0),
            None => entry_reply(entry),
        });
    }
    (!replies.is_empty()).then_some(replies)
}

/// An entry as XREADGROUP CLAIM shows it: how long it has waited, and how often it was delivered before.
fn claimed_reply(entry: &[u8], idle: u64, count: u64) -> Reply {
    let numbers = [idle, count].map(|n| Reply::Int(n.cast_signed()));
    Reply::Array([id::reply(Id::of(entry)), fields_reply(entry)].into_iter().chain(numbers).collect())
}

/// Takes over what has waited for `idle` milliseconds, the longest first. What is gone from the stream is forgotten.
fn take_over(stream: &Stream, group: &mut Group, number: u64, count: usize, idle: u64, now_ms: u64) -> Vec<Reply> {
    let since = now_ms.checked_sub(idle);
    let (mut gone, mut found) = (Vec::new(), Vec::new());
    for id in group.waiting_since(since) {
        match stream.find(id) {
            Some(entry) => found.push((id, entry)),
            None => gone.push(id),
        }
        if found.len() == count {
            break;
        }
    }
    for id in gone {
        group.take(id);
    }
    let mut replies = Vec::with_capacity(found.len());
    for (id, entry) in found {
        let Some((owner, old)) = group.pending(id) else { continue };
        let before = group.consumer(owner).shown_time(old);
        group.put(id, number, Pending { time: now_ms, count: old.once_more() });
        group.consumer_mut(number).active = Some(now_ms);
        replies.push(claimed_reply(entry, now_ms.saturating_sub(before), old.count));
    }
    replies
}
