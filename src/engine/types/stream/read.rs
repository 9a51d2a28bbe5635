//! What reads a stream: XRANGE, XREVRANGE, XREAD, and the arguments that XREADGROUP shares with it.

use quoris_resp::{Argv, Reply};

use super::id::{Id, Interval};
use super::value::{Stream, entry_reply};
use crate::command::{ReadContext, Waits};
use crate::number;
use crate::types::collection::look;
use crate::{CommandResult, Error, Keyspace};

/// A number of entries as `take` wants it; 0 means all.
pub(super) fn most(count: u64) -> usize {
    if count == 0 { usize::MAX } else { usize::try_from(count).unwrap_or(usize::MAX) }
}

/// A COUNT argument; a negative one is 0.
///
/// # Errors
/// When it is no number.
pub(super) fn count_of(text: &[u8]) -> Result<u64, Error> {
    Ok(u64::try_from(number::integer(text).ok_or(Error::NotAnInteger)?).unwrap_or(0))
}

fn range(keyspace: &Keyspace, context: &ReadContext, argv: &Argv, back: bool) -> CommandResult {
    let (start, end) = if back { (&argv[3], &argv[2]) } else { (&argv[2], &argv[3]) };
    let interval = Interval::parse(start, end)?;
    let (mut count, mut at) = (None, 4);
    while let Some(word) = argv.get(at) {
        let value = argv.get(at + 1).filter(|_| word.eq_ignore_ascii_case(b"count")).ok_or(Error::Syntax)?;
        count = Some(count_of(value)?);
        at += 2;
    }
    let Some(stream) = look::<Stream>(keyspace, context.database, &argv[1])? else {
        return Ok(Reply::Array(Vec::new()));
    };
    if count == Some(0) {
        return Ok(Reply::NullArray);
    }
    let count = most(count.unwrap_or(0));
    Ok(Reply::Array(if interval.start > interval.end {
        Vec::new()
    } else if back {
        stream.range_back(interval).take(count).map(entry_reply).collect()
    } else {
        stream.range(interval).take(count).map(entry_reply).collect()
    }))
}

/// XRANGE
pub(super) fn xrange(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    range(keyspace, context, argv, false)
}

/// XREVRANGE
pub(super) fn xrevrange(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    range(keyspace, context, argv, true)
}

/// The arguments of XREAD and XREADGROUP.
#[derive(Debug, Default)]
pub struct Reading {
    /// Entries of one stream at most; 0 means all.
    pub count: u64,
    /// What is read is not pending.
    pub(super) noack: bool,
    /// Wait for so many milliseconds, 0 for ever.
    pub block: Option<u64>,
    /// Take over what has waited for so many milliseconds.
    pub(super) claim: Option<u64>,
    /// The arguments with group and consumer.
    pub(super) group: Option<(usize, usize)>,
    /// The first key.
    first: usize,
    /// How many keys there are; the ids follow them.
    pub(super) streams: usize,
}

impl Reading {
    /// Reads the options.
    ///
    /// # Errors
    /// As Redis words them.
    pub fn parse(argv: &Argv, for_group: bool) -> Result<Reading, Error> {
        let mut reading = Reading::default();
        let only_group = |option: &str| {
            let why = "is only supported by XREADGROUP. You called XREAD instead.";
            Err(Error::text(format!("ERR The {option} option {why}")))
        };
        let mut at = 1;
        while let Some(word) = argv.get(at) {
            let more = argv.len() - 1 - at;
            match &word.to_ascii_lowercase()[..] {
                b"block" if more > 0 => reading.block = Some(timeout(&argv[at + 1])?),
                b"count" if more > 0 => reading.count = count_of(&argv[at + 1])?,
                b"claim" if more > 0 && for_group => reading.claim = Some(claim_of(&argv[at + 1])?),
                b"streams" if more > 0 => {
                    reading.first = at + 1;
                    reading.streams = more / 2;
                    if more % 2 == 1 {
                        return Err(unbalanced(for_group));
                    }
                    break;
                }
                b"group" if more >= 2 && !for_group => return only_group("GROUP"),
                b"group" if more >= 2 => {
                    reading.group = Some((at + 1, at + 2));
                    at += 1;
                }
                b"noack" if !for_group => return only_group("NOACK"),
                b"noack" => {
                    reading.noack = true;
                    at -= 1;
                }
                _ => return Err(Error::Syntax),
            }
            at += 2;
        }
        if reading.first == 0 {
            return Err(Error::Syntax);
        }
        if for_group && reading.group.is_none() {
            return Err(Error::text("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(reading)
    }

    /// Keys and ids, by their arguments.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (first, streams) = (self.first, self.streams);
        (first..first + streams).map(move |key| (key, key + streams))
    }
}

fn timeout(text: &[u8]) -> Result<u64, Error> {
    let millis = number::integer(text).ok_or_else(|| Error::text("ERR timeout is not an integer or out of range"))?;
    u64::try_from(millis).map_err(|_| Error::text("ERR timeout is negative"))
}

fn claim_of(text: &[u8]) -> Result<u64, Error> {
    let idle = number::integer(text).ok_or_else(|| Error::text("ERR min-idle-time is not an integer"))?;
    u64::try_from(idle).map_err(|_| Error::text("ERR min-idle-time must be a positive integer"))
}

fn unbalanced(for_group: bool) -> Error {
    let (name, symbol) = if for_group { ("xreadgroup", '>') } else { ("xread", '$') };
    Error::text(format!(
        "ERR Unbalanced '{name}' list of streams: for each stream key an ID or '{symbol}' must be specified."
    ))
}

/// The id behind which XREAD reads.
fn behind(stream: Option<&Stream>, text: &[u8]) -> Result<Id, Error> {
    match text {
        b"$" => Ok(stream.map_or(Id::MIN, Stream::last)),
        b"+" => Ok(stream.and_then(Stream::last_id).and_then(Id::previous).unwrap_or(Id::MIN)),
        b">" => Err(Error::text(
            "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
        )),
        _ => Id::parse(text, 0),
    }
}

/// XREAD: BLOCK never waits here.
pub(super) fn xread(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let reading = Reading::parse(argv, false)?;
    let mut wanted = Vec::with_capacity(reading.streams);
    for (key, id) in reading.pairs() {
        let stream = look::<Stream>(keyspace, context.database, &argv[key])?;
        wanted.push((key, stream, behind(stream, &argv[id])?));
    }
    let mut replies = Vec::new();
    for (key, stream, after) in wanted {
        let Some((stream, start)) = stream.zip(after.next()) else { continue };
        let entries = stream.range(Interval { start, end: Id::MAX }).take(most(reading.count));
        let entries: Vec<Reply> = entries.map(entry_reply).collect();
        if !entries.is_empty() {
            replies.push((Reply::bulk(&argv[key]), Reply::Array(entries)));
        }
    }
    Ok(per_stream(replies))
}

/// Entries by key: pairs in RESP2, a map in RESP3; no array when there is nothing.
pub(super) fn per_stream(replies: Vec<(Reply, Reply)>) -> Reply {
    if replies.is_empty() { Reply::NullArray } else { Reply::Keyed(replies) }
}

/// XREAD waits beside others, not with them for the same entry: it is asked again whenever something changes.
pub(super) const WAITS: Waits = Waits { patience, line: |_| b"", serves: |_, _, _, _| 0, again };

fn patience(argv: &Argv) -> Option<u64> {
    Reading::parse(argv, false).ok()?.block
}

/// `$` is the last id that a stream has now.
pub(super) fn again(keyspace: &Keyspace, database: u32, argv: &Argv) -> Option<Argv> {
    let reading = Reading::parse(argv, false).ok()?;
    let mut parts: Vec<Vec<u8>> = argv.iter().map(<[u8]>::to_vec).collect();
    for (key, id) in reading.pairs().filter(|(_, id)| &argv[*id] == b"$") {
        let stream = look::<Stream>(keyspace, database, &argv[key]).ok()?;
        parts[id] = behind(stream, b"$").ok()?.to_string().into_bytes();
    }
    Some(Argv::from_parts(&parts))
}
