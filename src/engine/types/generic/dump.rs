//! DUMP and RESTORE: a value as bytes that Redis understands, and back.

use quoris_resp::{Argv, Reply};

use crate::command::ReadContext;
use crate::events::Class;
use crate::number;
use crate::rdb::{self, RdbError};
use crate::{ApplyContext, CommandResult, Error, Keyspace, Settings, Value};

/// DUMP
pub(super) fn dump(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let value = keyspace.value(context.database, &argv[1]);
    Ok(value.map_or(Reply::Null, |value| Reply::Bulk(rdb::dump_value(value).into())))
}

struct Options {
    replace: bool,
    absolute: bool,
    idle_s: Option<u64>,
    frequency: Option<u8>,
}

impl Options {
    fn parse(argv: &Argv) -> Result<Options, Error> {
        let mut options = Options { replace: false, absolute: false, idle_s: None, frequency: None };
        let mut at = 4;
        while let Some(word) = argv.get(at) {
            let next = argv.get(at + 1);
            match (&word.to_ascii_uppercase()[..], next) {
                (b"REPLACE", _) => options.replace = true,
                (b"ABSTTL", _) => options.absolute = true,
                (b"IDLETIME", Some(seconds)) if options.frequency.is_none() => {
                    let seconds = u64::try_from(number::integer(seconds).ok_or(Error::NotAnInteger)?);
                    let wrong = || Error::text("ERR Invalid IDLETIME value, must be >= 0");
                    options.idle_s = Some(seconds.map_err(|_| wrong())?);
                    at += 1;
                }
                (b"FREQ", Some(frequency)) if options.idle_s.is_none() => {
                    let frequency = u8::try_from(number::integer(frequency).ok_or(Error::NotAnInteger)?);
                    let wrong = || Error::text("ERR Invalid FREQ value, must be >= 0 and <= 255");
                    options.frequency = Some(frequency.map_err(|_| wrong())?);
                    at += 1;
                }
                _ => return Err(Error::Syntax),
            }
            at += 1;
        }
        Ok(options)
    }
}

/// Version and checksum, without which a payload is none.
const FOOTER_BYTES: usize = 10;

/// The value of a payload, or Redis's words for what is wrong with it.
fn read(payload: &[u8], settings: &Settings) -> Result<Value, Error> {
    rdb::restore_value(payload, settings).map_err(|error| match error {
        RdbError::Checksum { .. } => Error::text("ERR DUMP payload version or checksum are wrong"),
        _ if payload.len() < FOOTER_BYTES => Error::text("ERR DUMP payload version or checksum are wrong"),
        _ => Error::text("ERR Bad data format"),
    })
}

/// RESTORE
pub(super) fn restore(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let options = Options::parse(argv)?;
    let (database, key) = (context.database, &argv[1]);
    if !options.replace && keyspace.value(database, key).is_some() {
        return Err(Error::text("BUSYKEY Target key name already exists."));
    }
    let ttl = number::integer(&argv[2]).ok_or(Error::NotAnInteger)?;
    let ttl = u64::try_from(ttl).map_err(|_| Error::text("ERR Invalid TTL value, must be >= 0"))?;
    let value = read(&argv[3], keyspace.settings())?;
    let expire_at_ms = match ttl {
        0 => None,
        at if options.absolute => Some(at),
        ms => Some(ms.saturating_add(context.now_ms).min(i64::MAX as u64)),
    };
    if expire_at_ms.is_some_and(|at| at <= context.now_ms) {
        keyspace.delete_and_tell(database, key);
    } else {
        keyspace.set_anew(database, key, value, expire_at_ms);
        keyspace.set_used(database, key, options.idle_s, options.frequency);
        keyspace.notify(Class::Generic, "restore", database, key);
    }
    Ok(Reply::Ok)
}
