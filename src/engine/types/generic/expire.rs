//! Times to live: EXPIRE and its kin, TTL and its kin, PERSIST.

use quoris_resp::{Argv, Reply};

use crate::command::{ReadContext, quoted};
use crate::number;
use crate::types::string::expiry::{Clock, invalid_expire};
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// Which deadlines EXPIRE may replace.
#[derive(Default)]
struct Options {
    only_without: bool,
    only_with: bool,
    only_later: bool,
    only_earlier: bool,
}

impl Options {
    fn parse(argv: &Argv) -> Result<Options, Error> {
        let mut options = Options::default();
        for word in argv.iter().skip(3) {
            match &word.to_ascii_uppercase()[..] {
                b"NX" => options.only_without = true,
                b"XX" => options.only_with = true,
                b"GT" => options.only_later = true,
                b"LT" => options.only_earlier = true,
                _ => return Err(Error::quoting(&[b"ERR Unsupported option ", quoted(word, word.len())])),
            }
        }
        if options.only_without && (options.only_with || options.only_later || options.only_earlier) {
            return Err(Error::text("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if options.only_later && options.only_earlier {
            return Err(Error::text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(options)
    }

    /// Whether the new deadline may take the place of the old one. No deadline counts as the latest.
    fn allow(&self, old: Option<u64>, new: i64) -> bool {
        let old = old.map(|at| at as i64);
        !((self.only_without && old.is_some())
            || (self.only_with && old.is_none())
            || (self.only_later && old.is_none_or(|old| new <= old))
            || (self.only_earlier && old.is_some_and(|old| new >= old)))
    }
}

fn set_deadline(
    name: &str,
    clock: Clock,
    keyspace: &mut Keyspace,
    context: &ApplyContext,
    argv: &Argv,
) -> CommandResult {
    let options = Options::parse(argv)?;
    let time = number::integer(&argv[2]).ok_or(Error::NotAnInteger)?;
    let ms = if clock.in_seconds() { time.checked_mul(1000) } else { Some(time) };
    let origin = if clock.is_relative() { context.now_ms as i64 } else { 0 };
    let at = ms.and_then(|ms| ms.checked_add(origin)).ok_or_else(|| invalid_expire(name))?;
    let Some(entry) = keyspace.entry(context.database, &argv[1]) else { return Ok(Reply::Int(0)) };
    if !options.allow(entry.expire_at_ms, at) {
        return Ok(Reply::Int(0));
    }
    // A deadline that has passed removes the key at once, as in Redis.
    let at = u64::try_from(at).ok().filter(|at| *at > context.now_ms);
    keyspace.expire_at(context.database, &argv[1], at);
    Ok(Reply::Int(1))
}

/// EXPIRE
pub(super) fn expire(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    set_deadline("expire", Clock::Seconds, keyspace, context, argv)
}

/// PEXPIRE
pub(super) fn pexpire(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    set_deadline("pexpire", Clock::Milliseconds, keyspace, context, argv)
}

/// EXPIREAT
pub(super) fn expireat(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    set_deadline("expireat", Clock::UnixSeconds, keyspace, context, argv)
}

/// PEXPIREAT
pub(super) fn pexpireat(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    set_deadline("pexpireat", Clock::UnixMilliseconds, keyspace, context, argv)
}

/// PERSIST
pub(super) fn persist(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let mortal = keyspace.entry(context.database, &argv[1]).is_some_and(|entry| entry.expire_at_ms.is_some());
    if mortal {
        keyspace.persist(context.database, &argv[1]);
    }
    Ok(Reply::Int(i64::from(mortal)))
}

/// Says -2 for an absent key, -1 for one that lives forever, else what `answer` makes of the deadline.
fn tell(keyspace: &Keyspace, context: &ReadContext, argv: &Argv, answer: impl Fn(u64) -> u64) -> CommandResult {
    Ok(Reply::Int(match keyspace.entry(context.database, &argv[1]) {
        None => -2,
        Some(entry) => entry.expire_at_ms.map_or(-1, |at| answer(at) as i64),
    }))
}

/// Milliseconds to full seconds, rounded to the nearest as in Redis.
fn seconds(ms: u64) -> u64 {
    ms.saturating_add(500) / 1000
}

/// TTL: at least 1 for a key that a read still sees, although its deadline may have passed by the
/// present estimate of the clock. (Redis says 0 in its last half second.)
pub(super) fn ttl(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    tell(keyspace, context, argv, |at| seconds(at.saturating_sub(context.now_ms)).max(1))
}

/// PTTL: at least 1, as TTL.
pub(super) fn pttl(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    tell(keyspace, context, argv, |at| at.saturating_sub(context.now_ms).max(1))
}

/// EXPIRETIME
pub(super) fn expiretime(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    tell(keyspace, context, argv, seconds)
}

/// PEXPIRETIME
pub(super) fn pexpiretime(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    tell(keyspace, context, argv, |at| at)
}
