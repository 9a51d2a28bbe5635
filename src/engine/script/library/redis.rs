//! The library `redis` but for what needs the keys.

use std::cell::Cell;
use std::rc::Rc;

use mlua::{Lua, MultiValue, Result, Table, Value};

use super::{Outcome, number_at, one};
use crate::REDIS_VERSION;
use crate::script::bodies::sha;
use crate::script::convert;
use crate::script::sandbox::Raised;

/// The version as a number: a byte for each part.
fn version_number() -> u32 {
    REDIS_VERSION.split('.').fold(0, |number, part| number << 8 | part.parse::<u32>().unwrap_or(0) & 0xff)
}

/// Adds a function whose problem is a table with a field `err`, as those of commands are.
fn add(lua: &Lua, library: &Table, name: &str, function: fn(&Lua, MultiValue) -> Result<Outcome>) -> Result<()> {
    let wrapped = lua.create_function(move |lua, args: MultiValue| {
        function(lua, args)?.map_err(|problem| Raised::Reply([b"ERR ", problem.as_bytes()].concat()).into())
    })?;
    library.set(name, wrapped)
}

pub(in crate::script) fn functions(lua: &Lua, resp3: &Rc<Cell<bool>>) -> Result<Table> {
    let redis = lua.create_table()?;
    let resp3 = resp3.clone();
    let setresp = lua.create_function(move |_, args: MultiValue| {
        let version = number_at(&args, 0);
        if args.len() != 1 {
            return Err(Raised::Reply(b"ERR redis.setresp() requires one argument.".to_vec()).into());
        }
        match version {
            Some(2.0 | 3.0) => resp3.set(version == Some(3.0)),
            _ => return Err(Raised::Reply(b"ERR RESP version must be 2 or 3.".to_vec()).into()),
        }
        Ok(())
    })?;
    redis.set("setresp", setresp)?;
    add(lua, &redis, "sha1hex", sha1hex)?;
    add(lua, &redis, "error_reply", error_reply)?;
    add(lua, &redis, "status_reply", status_reply)?;
    add(lua, &redis, "log", log)?;
    add(lua, &redis, "set_repl", nothing)?;
    add(lua, &redis, "replicate_commands", replicate_commands)?;
    add(lua, &redis, "breakpoint", no)?;
    add(lua, &redis, "debug", nothing)?;
    for (name, level) in [("LOG_DEBUG", 0), ("LOG_VERBOSE", 1), ("LOG_NOTICE", 2), ("LOG_WARNING", 3)] {
        redis.set(name, level)?;
    }
    for (name, way) in [("REPL_NONE", 0), ("REPL_AOF", 1), ("REPL_SLAVE", 2), ("REPL_REPLICA", 2), ("REPL_ALL", 3)] {
        redis.set(name, way)?;
    }
    redis.set("REDIS_VERSION", REDIS_VERSION)?;
    redis.set("REDIS_VERSION_NUM", version_number())?;
    Ok(redis)
}

fn nothing(_lua: &Lua, _args: MultiValue) -> Result<Outcome> {
    Ok(Ok(MultiValue::new()))
}

fn no(_lua: &Lua, _args: MultiValue) -> Result<Outcome> {
    Ok(one(Value::Boolean(false)))
}

/// Effects are always what is replicated here.
fn replicate_commands(_lua: &Lua, _args: MultiValue) -> Result<Outcome> {
    Ok(one(Value::Boolean(true)))
}

fn sha1hex(lua: &Lua, args: MultiValue) -> Result<Outcome> {
    if args.len() != 1 {
        return Ok(Err("wrong number of arguments".into()));
    }
    let text = lua.coerce_string(args[0].clone())?;
    let name = sha(&text.map(|text| text.as_bytes().to_vec()).unwrap_or_default());
    Ok(one(Value::String(lua.create_string(name)?)))
}

/// A table with one field, for a reply of one line.
fn single(lua: &Lua, args: &MultiValue, field: &str, text: impl Fn(&[u8]) -> Vec<u8>) -> Result<Outcome> {
    let Some(Value::String(given)) = args.front().filter(|_| args.len() == 1) else {
        return convert::error(lua, b"ERR wrong number or type of arguments").map(one);
    };
    let table = lua.create_table()?;
    table.raw_set(field, lua.create_string(text(&given.as_bytes()))?)?;
    Ok(one(Value::Table(table)))
}

fn status_reply(lua: &Lua, args: MultiValue) -> Result<Outcome> {
    single(lua, &args, "ok", <[u8]>::to_vec)
}

/// An error has a code in front; a text of one word gets one.
fn error_reply(lua: &Lua, args: MultiValue) -> Result<Outcome> {
    single(lua, &args, "err", |text| {
        let text = text.strip_prefix(b"-").unwrap_or(text);
        if text.contains(&b' ') { text.to_vec() } else { [b"ERR ", text].concat() }
    })
}

/// redis.log: a replica's log is no place for what every replica runs again, so the text goes nowhere.
fn log(_lua: &Lua, args: MultiValue) -> Result<Outcome> {
    if args.len() < 2 {
        return Ok(Err("redis.log() requires two arguments or more.".into()));
    }
    match number_at(&args, 0).map(|level| level as i64) {
        Some(0..=3) => Ok(Ok(MultiValue::new())),
        Some(_) => Ok(Err("Invalid log level.".into())),
        None => Ok(Err("First argument must be a number (log level).".into())),
    }
}
