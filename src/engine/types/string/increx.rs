//! INCREX: a counter with bounds and a time to live.
//!
//! Invariant: a step that leaves the bounds and is not cut off at them changes nothing, the deadline included.

use quoris_resp::{Argv, Reply};

use super::StringValue;
use super::count::put;
use super::set::Expiry;
use crate::events::Class;
use crate::extended::Extended;
use crate::number;
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// The words behind the key; numbers are not read yet.
struct Options<'a> {
    /// BYINT, or BYFLOAT when it is true.
    by: Option<(bool, &'a [u8])>,
    lower: Option<&'a [u8]>,
    upper: Option<&'a [u8]>,
    saturate: bool,
    expiry: Expiry<'a>,
    /// ENX: a deadline that is there stays.
    only_first: bool,
}

impl<'a> Options<'a> {
    fn parse(argv: &'a Argv) -> Result<Options<'a>, Error> {
        let (expiry, mut at) = (Expiry::Unsaid, 2);
        let mut options = Options { by: None, lower: None, upper: None, saturate: false, expiry, only_first: false };
        let once = |place: &mut Option<&'a [u8]>, text| place.replace(text).map_or(Ok(2), |_| Err(Error::Syntax));
        while let Some(word) = argv.get(at) {
            let next = argv.get(at + 1);
            at += match (&word.to_ascii_uppercase()[..], next) {
                (b"BYINT", Some(text)) if options.by.is_none() => {
                    options.by = Some((false, text));
                    2
                }
                (b"BYFLOAT", Some(text)) if options.by.is_none() => {
                    options.by = Some((true, text));
                    2
                }
                (b"LBOUND", Some(text)) => once(&mut options.lower, text)?,
                (b"UBOUND", Some(text)) => once(&mut options.upper, text)?,
                (b"SATURATE", _) => {
                    options.saturate = true;
                    1
                }
                (b"ENX", _) => {
                    options.only_first = true;
                    1
                }
                (b"BYINT" | b"BYFLOAT", _) => return Err(Error::Syntax),
                _ => options.expiry.take(word, next).ok_or(Error::Syntax)?,
            };
        }
        let has_time = matches!(options.expiry, Expiry::At(_));
        if options.expiry == Expiry::Keep || (options.only_first && !has_time) {
            return Err(Error::Syntax);
        }
        Ok(options)
    }

    /// The bounds as `read` reads them, where there are any.
    fn bounds<N: PartialOrd>(&self, read: impl Fn(&[u8]) -> Result<N, Error>) -> Result<[Option<N>; 2], Error> {
        let lower = self.lower.map(&read).transpose()?;
        let upper = self.upper.map(&read).transpose()?;
        if lower.as_ref().zip(upper.as_ref()).is_some_and(|(lower, upper)| lower > upper) {
            return Err(Error::text("ERR LBOUND can't be greater than UBOUND"));
        }
        Ok([lower, upper])
    }
}

/// What the key will hold, and the reply.
type Step = (Option<StringValue>, Reply);

fn step_by_int(options: &Options<'_>, increment: i64, old: i64) -> Result<Step, Error> {
    let [lower, upper] = options.bounds(|text| number::integer(text).ok_or(Error::NotAnInteger))?;
    let [lower, upper] = [lower.unwrap_or(i64::MIN), upper.unwrap_or(i64::MAX)].map(i128::from);
    let (old, sum) = (i128::from(old), i128::from(old) + i128::from(increment));
    let outside = sum < lower || sum > upper;
    let new = if outside { sum.clamp(lower, upper) } else { sum };
    let int = |n: i128| i64::try_from(n).map_err(|_| Error::text("ERR increment or decrement would overflow"));
    if outside && !options.saturate {
        return Ok((None, Reply::Array(vec![Reply::Int(int(old)?), Reply::Int(0)])));
    }
    let (new, delta) = (int(new)?, int(new - old)?);
    Ok((Some(StringValue::Int(new)), Reply::Array(vec![Reply::Int(new), Reply::Int(delta)])))
}

fn step_by_float(options: &Options<'_>, increment: &[u8], old: Extended) -> Result<Step, Error> {
    let read = |text: &[u8]| Extended::parse(text).ok_or(Error::NotAFloat);
    let finite = |n: Extended| match n.is_finite() {
        true => Ok(n),
        false => Err(Error::text("ERR increment would produce NaN or Infinity")),
    };
    let increment = finite(read(increment)?)?;
    let [lower, upper] = options.bounds(read)?;
    let (lower, upper) = (lower.unwrap_or(Extended::largest().negated()), upper.unwrap_or(Extended::largest()));
    let sum = old.plus(increment);
    let new = if sum < lower {
        lower
    } else if sum > upper {
        upper
    } else {
        sum
    };
    let reply =
        |new: Extended, delta: Extended| Reply::Array([new, delta].map(|n| Reply::Decimal(n.human().into())).to_vec());
    if new != sum && !options.saturate {
        return Ok((None, reply(finite(old)?, Extended::ZERO)));
    }
    let delta = if new == sum { increment } else { finite(new.plus(old.negated()))? };
    Ok((Some(StringValue::text(finite(new)?.human().as_bytes())), reply(new, delta)))
}

/// INCREX
pub(super) fn increx(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (options, key, database) = (Options::parse(argv)?, &argv[1], context.database);
    let entry = keyspace.entry(database, key);
    let has_deadline = entry.as_ref().is_some_and(|entry| entry.expire_at_ms.is_some());
    let old = entry.map(|entry| entry.value.as_string()).transpose()?;
    let deadline = match options.expiry {
        Expiry::At(time) => Some(time.deadline_ms("increx", context)?),
        Expiry::Unsaid | Expiry::Keep | Expiry::Persist => None,
    };
    let (new, reply) = match options.by {
        Some((true, increment)) => {
            let parse = |text: &StringValue| Extended::parse(text.bytes(&mut itoa::Buffer::new()));
            let old = old.map_or(Some(Extended::ZERO), parse).ok_or(Error::NotAFloat)?;
            step_by_float(&options, increment, old)?
        }
        by => {
            let increment = by.map_or(Some(1), |(_, text)| number::integer(text)).ok_or(Error::NotAnInteger)?;
            let old = old.map_or(Some(0), StringValue::integer).ok_or(Error::NotAnInteger)?;
            step_by_int(&options, increment, old)?
        }
    };
    let present = old.is_some();
    let Some(new) = new else { return Ok(reply) };
    put(keyspace, context, key, present, new)?;
    let name = if matches!(options.by, Some((true, _))) { "incrbyfloat" } else { "incrby" };
    keyspace.notify(Class::String, name, database, key);
    match deadline {
        Some(_) if options.only_first && has_deadline => {}
        Some(at) if at <= context.now_ms => {
            keyspace.delete_and_tell(database, key);
        }
        Some(at) => {
            keyspace.set_expire(database, key, Some(at));
            keyspace.notify(Class::Generic, "expire", database, key);
        }
        None if options.expiry == Expiry::Persist && has_deadline => {
            keyspace.set_expire(database, key, None);
            keyspace.notify(Class::Generic, "persist", database, key);
        }
        None => {}
    }
    Ok(reply)
}
