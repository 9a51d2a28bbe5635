//! What is pending, and who takes it over: XPENDING, XCLAIM, XAUTOCLAIM, XNACK.

use quoris_resp::{Argv, Reply};

use super::group::{Consumer, DELIVERIES_MAX, Group, Pending};
use super::groups::{created_by, no_group};
use super::id::{self, Id, Interval};
use super::read::count_of;
use super::value::{Stream, entry_reply};
use crate::command::ReadContext;
use crate::number;
use crate::types::collection::{change, look};
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// How many pending entries XAUTOCLAIM looks at for each that it may take.
const ATTEMPTS: i64 = 10;
/// What it takes when COUNT does not say.
const COUNT_DEFAULT: i64 = 100;
/// A larger COUNT is refused, as in Redis.
const COUNT_MAX: i64 = i64::MAX / 16;

/// The group that is needed.
fn group_of<'a>(keyspace: &'a Keyspace, database: u32, argv: &Argv) -> Result<&'a Group, Error> {
    let stream = look::<Stream>(keyspace, database, &argv[1])?;
    stream.and_then(|stream| stream.group(&argv[2])).ok_or_else(|| no_group(&argv[1], &argv[2], ""))
}

/// How long ago a delivery was.
fn idle(pending: Pending, now_ms: u64) -> u64 {
    now_ms.saturating_sub(pending.time)
}

/// XPENDING
pub(super) fn xpending(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    if argv.len() == 3 {
        return Ok(summary(group_of(keyspace, context.database, argv)?));
    }
    if !(6..=9).contains(&argv.len()) {
        return Err(Error::Syntax);
    }
    let (mut at, mut min_idle) = (3, 0);
    if argv[3].eq_ignore_ascii_case(b"idle") {
        min_idle = number::integer(&argv[4]).ok_or(Error::NotAnInteger)?;
        if argv.len() < 8 {
            return Err(Error::Syntax);
        }
        at = 5;
    }
    let count = count_of(&argv[at + 2])?;
    let interval = Interval::parse(&argv[at], &argv[at + 1])?;
    let group = group_of(keyspace, context.database, argv)?;
    let fits = |(id, _, pending): &(Id, Option<&[u8]>, Pending)| {
        let waited = context.now_ms.cast_signed().saturating_sub(pending.time.cast_signed());
        *id <= interval.end && (min_idle == 0 || waited >= min_idle)
    };
    let row = |(id, name, pending): (Id, Option<&[u8]>, Pending)| {
        let waited = if name.is_none() { -1 } else { idle(pending, context.now_ms).cast_signed() };
        let numbers = [waited, pending.count.cast_signed()].map(Reply::Int);
        Reply::Array([id::reply(id), Reply::bulk(name.unwrap_or_default())].into_iter().chain(numbers).collect())
    };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    Ok(Reply::Array(match argv.get(at + 3) {
        Some(name) => match group.number(name).map(|number| group.consumer(number)) {
            Some(consumer) => {
                let pending = consumer.pending_from(interval.start).map(|(id, pending)| (id, Some(name), pending));
                pending.take_while(|row| row.0 <= interval.end).filter(fits).take(count).map(row).collect()
            }
            None => Vec::new(),
        },
        None => {
            let pending = group.pending_from(interval.start);
            let named = |consumer: &Consumer| !consumer.is_nobody();
            let pending = pending.map(|(id, who, pending)| (id, named(who).then_some(&*who.name), pending));
            pending.take_while(|row| row.0 <= interval.end).filter(fits).take(count).map(row).collect()
        }
    }))
}

/// How many, from where to where, and how many at each consumer.
fn summary(group: &Group) -> Reply {
    let Some((first, last)) = group.bounds() else {
        return Reply::Array(vec![Reply::Int(0), Reply::Null, Reply::Null, Reply::NullArray]);
    };
    let busy = group.consumers().filter(|consumer| consumer.len() > 0);
    let rows =
        busy.map(|consumer| Reply::Array(vec![Reply::bulk(&consumer.name), Reply::bulk(consumer.len().to_string())]));
    let count = Reply::Int(group.len() as i64);
    Reply::Array(vec![count, id::reply(first), id::reply(last), Reply::Array(rows.collect())])
}

/// What XCLAIM does with the entries.
struct Claim {
    min_idle: u64,
    time: u64,
    count: Option<u64>,
    force: bool,
    only_ids: bool,
    last: Id,
}

fn min_idle(text: &[u8], command: &str) -> Result<u64, Error> {
    let wrong = || Error::text(format!("ERR Invalid min-idle-time argument for {command}"));
    Ok(u64::try_from(number::integer(text).ok_or_else(wrong)?).unwrap_or(0))
}

impl Claim {
    /// Reads the ids and what is behind them.
    fn parse(argv: &Argv, now_ms: u64) -> Result<(Vec<Id>, Claim), Error> {
        let min_idle = min_idle(&argv[4], "XCLAIM")?;
        let ids: Vec<Id> = argv.iter().skip(5).map_while(|text| Id::parse(text, 0).ok()).collect();
        let mut at = 5 + ids.len();
        let mut claim = Claim { min_idle, time: now_ms, count: None, force: false, only_ids: false, last: Id::MIN };
        let now = now_ms.cast_signed();
        // A time that cannot be is now: clients may be ahead of us.
        let sane = |time: i64| if (0..=now).contains(&time) { time.cast_unsigned() } else { now_ms };
        while let Some(word) = argv.get(at) {
            let option = word.to_ascii_uppercase();
            let value = argv.get(at + 1);
            let integer = |text: &[u8]| {
                let name = String::from_utf8_lossy(&option).into_owned();
                let wrong = || Error::text(format!("ERR Invalid {name} option argument for XCLAIM"));
                number::integer(text).ok_or_else(wrong)
            };
            at += 2;
            match (&option[..], value) {
                (b"FORCE", _) => (claim.force, at) = (true, at - 1),
                (b"JUSTID", _) => (claim.only_ids, at) = (true, at - 1),
                (b"IDLE", Some(text)) => claim.time = sane(now.saturating_sub(integer(text)?)),
                (b"TIME", Some(text)) => claim.time = sane(integer(text)?),
                (b"RETRYCOUNT", Some(text)) => claim.count = u64::try_from(integer(text)?).ok(),
                (b"LASTID", Some(text)) => claim.last = Id::parse(text, 0)?,
                _ => return Err(Error::quoting(&[b"ERR Unrecognized XCLAIM option '", word, b"'"])),
            }
        }
        Ok((ids, claim))
    }

    /// Whether an entry has waited for long enough; what was released need not wait.
    fn is_due(&self, consumer: &Consumer, pending: Pending, now_ms: u64) -> bool {
        consumer.is_nobody() || self.min_idle == 0 || idle(pending, now_ms) >= self.min_idle
    }

    /// Gives one entry to a consumer; nothing when that may not be.
    fn one(&self, stream: &Stream, group: &mut Group, number: u64, id: Id, now_ms: u64) -> Option<Reply> {
        let old = group.pending(id);
        let Some(entry) = stream.find(id) else {
            // What is gone from the stream is not pending any more.
            group.take(id);
            return None;
        };
        let old = match old {
            Some((owner, old)) if !self.is_due(group.consumer(owner), old, now_ms) => return None,
            Some((_, old)) => old,
            None if self.force => Pending { time: now_ms, count: 1 },
            None => return None,
        };
        let count = self.count.unwrap_or(if self.only_ids { old.count } else { old.once_more() });
        group.put(id, number, Pending { time: self.time, count });
        group.consumer_mut(number).active = Some(now_ms);
        Some(if self.only_ids { id::reply(id) } else { entry_reply(entry) })
    }
}

/// XCLAIM
pub(super) fn xclaim(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    group_of(keyspace, context.database, argv)?;
    let now_ms = context.now_ms;
    let (ids, claim) = Claim::parse(argv, now_ms)?;
    let created = created_by(keyspace, context.database, &argv[1], &argv[2], &argv[3]);
    let claimed = change(keyspace, context.database, &argv[1], created, |stream: &mut Stream, _| {
        stream.change_group(&argv[2], |stream, group| {
            group.last = group.last.max(claim.last);
            let number = group.see(&argv[3], now_ms);
            ids.iter().filter_map(|id| claim.one(stream, group, number, *id, now_ms)).collect::<Vec<_>>()
        })
    })?;
    Ok(Reply::Array(claimed.flatten().unwrap_or_default()))
}

/// XAUTOCLAIM
pub(super) fn xautoclaim(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let now_ms = context.now_ms;
    let min_idle = min_idle(&argv[4], "XAUTOCLAIM")?;
    let start = id::start_of(&argv[5])?;
    let (mut count, mut only_ids, mut at) = (COUNT_DEFAULT, false, 6);
    while let Some(word) = argv.get(at) {
        match (&word.to_ascii_lowercase()[..], argv.get(at + 1)) {
            (b"count", Some(text)) => {
                let wrong = || Error::text("ERR COUNT must be > 0");
                count = number::integer(text).filter(|n| (1..=COUNT_MAX).contains(n)).ok_or_else(wrong)?;
                at += 1;
            }
            (b"justid", _) => only_ids = true,
            _ => return Err(Error::Syntax),
        }
        at += 1;
    }
    group_of(keyspace, context.database, argv)?;
    let claim = Claim { min_idle, time: now_ms, count: None, force: false, only_ids, last: Id::MIN };
    let created = created_by(keyspace, context.database, &argv[1], &argv[2], &argv[3]);
    let replies = change(keyspace, context.database, &argv[1], created, |stream: &mut Stream, _| {
        stream.change_group(&argv[2], |stream, group| {
            let number = group.see(&argv[3], now_ms);
            auto(stream, group, number, start, count, &claim, now_ms)
        })
    })?;
    Ok(replies.flatten().unwrap_or(Reply::Null))
}

/// Looks through what is pending from `start` on: where to go on, what was taken, what was gone.
fn auto(stream: &Stream, group: &mut Group, number: u64, start: Id, count: i64, claim: &Claim, now_ms: u64) -> Reply {
    let (mut taken, mut gone, mut looked_at) = (Vec::new(), Vec::new(), Vec::new());
    let (mut left, mut attempts, mut next) = (count, count.saturating_mul(ATTEMPTS), Id::MIN);
    for (id, consumer, pending) in group.pending_from(start) {
        if left == 0 || attempts == 0 {
            next = id;
            break;
        }
        attempts -= 1;
        let is_gone = stream.find(id).is_none();
        if is_gone || claim.is_due(consumer, pending, now_ms) {
            looked_at.push((id, is_gone));
            left -= 1;
        }
    }
    for (id, is_gone) in looked_at {
        taken.extend(claim.one(stream, group, number, id, now_ms));
        if is_gone {
            gone.push(id::reply(id));
        }
    }
    Reply::Array(vec![id::reply(next), Reply::Array(taken), Reply::Array(gone)])
}

/// What XNACK does to the count of deliveries.
#[derive(Clone, Copy)]
enum Failure {
    /// As if it had not been delivered.
    Silent,
    /// Nothing.
    Counted,
    /// Nobody should try it again.
    Fatal,
}

/// What XNACK is asked for: how, the ids, the count if it is given, and whether others become pending too.
struct Release {
    failure: Failure,
    ids: Vec<Id>,
    count: Option<u64>,
    force: bool,
}

impl Release {
    fn parse(argv: &Argv) -> Result<Release, Error> {
        let failure = match &argv[3].to_ascii_lowercase()[..] {
            b"silent" => Failure::Silent,
            b"fail" => Failure::Counted,
            b"fatal" => Failure::Fatal,
            _ => return Err(Error::Syntax),
        };
        if !argv[4].eq_ignore_ascii_case(b"ids") {
            return Err(Error::Syntax);
        }
        let (ids, mut at) = id::counted(argv, 5)?;
        let mut release = Release { failure, ids, count: None, force: false };
        while let Some(word) = argv.get(at) {
            match (&word.to_ascii_lowercase()[..], argv.get(at + 1)) {
                (b"retrycount", Some(text)) => {
                    let count = number::integer(text).ok_or(Error::NotAnInteger)?;
                    let wrong = || Error::text("ERR RETRYCOUNT must be >= 0");
                    release.count = Some(u64::try_from(count).map_err(|_| wrong())?);
                    at += 1;
                }
                (b"force", _) => release.force = true,
                _ => return Err(Error::Syntax),
            }
            at += 1;
        }
        Ok(release)
    }

    /// The count of a released entry, which was delivered `before` times.
    fn count(&self, before: u64) -> u64 {
        self.count.unwrap_or(match self.failure {
            Failure::Silent => before.saturating_sub(1),
            Failure::Counted => before,
            Failure::Fatal => DELIVERIES_MAX,
        })
    }
}

/// XNACK
pub(super) fn xnack(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let release = Release::parse(argv)?;
    let group = group_of(keyspace, context.database, argv)?;
    if !release.force && !release.ids.iter().any(|id| group.is_pending(*id)) {
        return Ok(Reply::Int(0));
    }
    let released = change(keyspace, context.database, &argv[1], None, |stream: &mut Stream, _| {
        let one = |stream: &Stream, group: &mut Group, id: Id| {
            let before = match group.pending(id) {
                Some((_, pending)) => pending.count,
                None if release.force && stream.find(id).is_some() => 0,
                None => return false,
            };
            group.release(id, release.count(before));
            true
        };
        stream.change_group(&argv[2], |stream, group| {
            release.ids.iter().filter(|id| one(stream, group, **id)).count() as i64
        })
    })?;
    Ok(Reply::Int(released.flatten().unwrap_or(0)))
}
