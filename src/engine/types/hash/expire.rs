//! When fields expire: HEXPIRE and its kin, HTTL and its kin, HPERSIST.

use quoris_resp::{Argv, Reply};

use super::value::Hash;
use crate::command::ReadContext;
use crate::number;
use crate::types::collection::{change, look};
use crate::types::string::expiry::{Clock, invalid_expire};
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// Later deadlines are refused, as in Redis.
const DEADLINE_MAX_MS: i64 = ((1 << 48) - 1) >> 2;
/// What is said of a field that is not there.
const NO_FIELD: i64 = -2;
/// What is said of a field without a deadline.
const NO_DEADLINE: i64 = -1;

/// The fields behind the word FIELDS at `at` and their number.
///
/// # Errors
/// When the word is missing, or the number is none or another than that of the fields.
pub(super) fn fields<'a>(argv: &'a Argv, at: usize, not_a_number: &str) -> Result<Vec<&'a [u8]>, Error> {
    if !argv.get(at).is_some_and(|word| word.eq_ignore_ascii_case(b"fields")) {
        return Err(Error::text("ERR Mandatory argument FIELDS is missing or not at the right position"));
    }
    let count = argv.get(at + 1).and_then(number::integer).filter(|count| *count > 0);
    let count = count.ok_or_else(|| Error::text(not_a_number))?;
    if usize::try_from(count).ok() != Some(argv.len() - at - 2) {
        return Err(Error::text("ERR The `numfields` parameter must match the number of arguments"));
    }
    Ok(argv.iter().skip(at + 2).collect())
}

/// What [`fields`] says where most commands say it.
pub(super) const NOT_POSITIVE: &str = "ERR Number of fields must be a positive integer";

/// A deadline from a time.
///
/// # Errors
/// When it is no number, negative, or too late.
pub(super) fn deadline(name: &str, clock: Clock, text: &[u8], now_ms: u64) -> Result<u64, Error> {
    let time = number::integer(text).ok_or(Error::NotAnInteger)?;
    if time < 0 {
        return Err(Error::text("ERR invalid expire time, must be >= 0"));
    }
    let ms = if clock.in_seconds() { time.checked_mul(1000) } else { Some(time) };
    let origin = if clock.is_relative() { now_ms.cast_signed() } else { 0 };
    let at = ms.and_then(|ms| ms.checked_add(origin)).filter(|at| *at <= DEADLINE_MAX_MS);
    at.map(i64::cast_unsigned).ok_or_else(|| invalid_expire(name))
}

/// Gives a field that is there a deadline; one that has passed removes it at once. True when it was removed.
pub(super) fn put_deadline(hash: &mut Hash, field: &[u8], at: u64, now_ms: u64) -> bool {
    if at <= now_ms {
        return hash.remove(field);
    }
    hash.set_deadline(field, at);
    false
}

/// The event of a deadline: one that has passed removes what it is given to.
pub(super) fn told(at: u64, now_ms: u64) -> &'static str {
    if at <= now_ms { "hdel" } else { "hexpire" }
}

/// Which deadlines may be replaced. No deadline counts as the latest.
#[derive(Clone, Copy)]
enum Condition {
    Without,
    With,
    Later,
    Earlier,
}

impl Condition {
    fn by_word(word: &[u8]) -> Option<Condition> {
        match &word.to_ascii_uppercase()[..] {
            b"NX" => Some(Condition::Without),
            b"XX" => Some(Condition::With),
            b"GT" => Some(Condition::Later),
            b"LT" => Some(Condition::Earlier),
            _ => None,
        }
    }

    fn allows(self, old: Option<u64>, new: u64) -> bool {
        match self {
            Condition::Without => old.is_none(),
            Condition::With => old.is_some(),
            Condition::Later => old.is_some_and(|old| new > old),
            Condition::Earlier => old.is_none_or(|old| new < old),
        }
    }
}

fn expire(name: &str, clock: Clock, keyspace: &mut Keyspace, context: &ApplyContext, argv: &Argv) -> CommandResult {
    let (database, key, now_ms) = (context.database, &argv[1], keyspace.now_ms());
    look::<Hash>(keyspace, database, key)?;
    let at = deadline(name, clock, &argv[2], context.now_ms)?;
    let condition = Condition::by_word(&argv[3]);
    let first = 3 + usize::from(condition.is_some());
    let fields = fields(argv, first, "ERR Parameter `numFields` should be greater than 0")?;
    let allows = |hash: &Hash, field: &[u8]| condition.is_none_or(|c| c.allows(hash.deadline(field), at));
    let changes = |hash: &Hash, field: &[u8]| hash.get(field, now_ms).is_some() && allows(hash, field);
    let refused = |hash: Option<&Hash>, field: &[u8]| {
        let is_there = hash.is_some_and(|hash| hash.get(field, now_ms).is_some());
        Reply::Int(if is_there { 0 } else { NO_FIELD })
    };
    let hash = look::<Hash>(keyspace, database, key)?;
    if !hash.is_some_and(|hash| fields.iter().any(|field| changes(hash, field))) {
        return Ok(Reply::Array(fields.iter().map(|field| refused(hash, field)).collect()));
    }
    let replies = change(keyspace, database, key, told(at, now_ms), |hash: &mut Hash, _| {
        let one = |field: &&[u8]| {
            if !changes(hash, field) {
                return refused(Some(hash), field);
            }
            Reply::Int(if put_deadline(hash, field, at, now_ms) { 2 } else { 1 })
        };
        fields.iter().map(one).collect()
    })?;
    Ok(Reply::Array(replies.unwrap_or_default()))
}

/// HEXPIRE
pub(super) fn hexpire(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    expire("hexpire", Clock::Seconds, keyspace, context, argv)
}

/// HPEXPIRE
pub(super) fn hpexpire(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    expire("hpexpire", Clock::Milliseconds, keyspace, context, argv)
}

/// HEXPIREAT
pub(super) fn hexpireat(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    expire("hexpireat", Clock::UnixSeconds, keyspace, context, argv)
}

/// HPEXPIREAT
pub(super) fn hpexpireat(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    expire("hpexpireat", Clock::UnixMilliseconds, keyspace, context, argv)
}

/// HPERSIST
pub(super) fn hpersist(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (database, key, now_ms) = (context.database, &argv[1], keyspace.now_ms());
    let hash = look::<Hash>(keyspace, database, key)?;
    let fields = fields(argv, 2, NOT_POSITIVE)?;
    let mortal = |hash: &Hash, field: &[u8]| hash.get(field, now_ms).is_some() && hash.deadline(field).is_some();
    let others = |hash: Option<&Hash>, field: &[u8]| {
        let is_there = hash.is_some_and(|hash| hash.get(field, now_ms).is_some());
        Reply::Int(if is_there { NO_DEADLINE } else { NO_FIELD })
    };
    if !hash.is_some_and(|hash| fields.iter().any(|field| mortal(hash, field))) {
        return Ok(Reply::Array(fields.iter().map(|field| others(hash, field)).collect()));
    }
    let replies = change(keyspace, database, key, "hpersist", |hash: &mut Hash, _| {
        let one = |field: &&[u8]| {
            if !mortal(hash, field) {
                return others(Some(hash), field);
            }
            Reply::Int(hash.forget_deadline(field).into())
        };
        fields.iter().map(one).collect()
    })?;
    Ok(Reply::Array(replies.unwrap_or_default()))
}

/// Says -2 of an absent field, -1 of one that lives forever, else what `answer` makes of the deadline.
fn tell(keyspace: &Keyspace, context: &ReadContext, argv: &Argv, answer: impl Fn(u64) -> u64) -> CommandResult {
    let hash = look::<Hash>(keyspace, context.database, &argv[1])?;
    let fields = fields(argv, 2, NOT_POSITIVE)?;
    let one = |field: &&[u8]| {
        let hash = hash.filter(|hash| hash.get(field, keyspace.now_ms()).is_some());
        let deadline = hash.map(|hash| hash.deadline(field));
        Reply::Int(deadline.map_or(NO_FIELD, |at| at.map_or(NO_DEADLINE, |at| answer(at).cast_signed())))
    };
    Ok(Reply::Array(fields.iter().map(one).collect()))
}

/// HTTL: full seconds, rounded up; at least 1 for a field that a read still sees.
pub(super) fn httl(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    tell(keyspace, context, argv, |at| at.saturating_sub(context.now_ms).div_ceil(1000).max(1))
}

/// HPTTL: at least 1, as HTTL.
pub(super) fn hpttl(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    tell(keyspace, context, argv, |at| at.saturating_sub(context.now_ms).max(1))
}

/// HEXPIRETIME
pub(super) fn hexpiretime(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    tell(keyspace, context, argv, |at| at.div_ceil(1000))
}

/// HPEXPIRETIME
pub(super) fn hpexpiretime(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    tell(keyspace, context, argv, |at| at)
}
