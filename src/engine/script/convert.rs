//! Between replies and Lua values, as Redis converts them.

use mlua::{Lua, LuaString, MultiValue, Result, Table, Value};
use quoris_resp::{Argv, Reply, double_text};

/// Tables in tables of a reply at most.
const DEPTH_MAX: usize = 1000;

/// Bytes of the arguments of a call, and of a reply, at most.
const BYTES_MAX: usize = 512 << 20;

/// What every part of a reply counts beside its text.
const PART_BYTES: usize = 512;

/// The arguments of a call: texts, and numbers as texts; or what is wrong with them.
pub(super) fn argv(values: &MultiValue) -> std::result::Result<Argv, &'static str> {
    let mut parts = Vec::with_capacity(values.len());
    let mut bytes = 0;
    for value in values {
        let part = match value {
            Value::String(text) => text.as_bytes().to_vec(),
            Value::Integer(n) => n.to_string().into_bytes(),
            Value::Number(n) => double_text(*n).into_bytes(),
            _ => return Err("ERR Lua redis lib command arguments must be strings or integers"),
        };
        bytes += part.len();
        if bytes > BYTES_MAX {
            return Err("ERR the arguments of a call from a script are too long");
        }
        parts.push(part);
    }
    Ok(Argv::from_parts(&parts))
}

/// A table with one field.
fn field(lua: &Lua, name: &str, value: Value) -> Result<Value> {
    let table = lua.create_table()?;
    table.raw_set(name, value)?;
    Ok(Value::Table(table))
}

fn text(lua: &Lua, text: impl AsRef<[u8]>) -> Result<Value> {
    lua.create_string(text).map(Value::String)
}

/// An error as scripts see it.
pub(super) fn error(lua: &Lua, message: &[u8]) -> Result<Value> {
    field(lua, "err", text(lua, message)?)
}

fn list(lua: &Lua, replies: &[Reply], resp3: bool) -> Result<Value> {
    let table = lua.create_table_with_capacity(replies.len(), 0)?;
    for reply in replies {
        table.raw_push(to_lua(lua, reply, resp3)?)?;
    }
    Ok(Value::Table(table))
}

fn flat(pairs: &[(Reply, Reply)]) -> Vec<Reply> {
    pairs.iter().flat_map(|(one, other)| [one.clone(), other.clone()]).collect()
}

fn both(pairs: &[(Reply, Reply)]) -> Vec<Reply> {
    pairs.iter().map(|(one, other)| Reply::Array(vec![one.clone(), other.clone()])).collect()
}

/// A reply as scripts see it; `resp3` as redis.setresp has it.
pub(super) fn to_lua(lua: &Lua, reply: &Reply, resp3: bool) -> Result<Value> {
    match reply {
        Reply::Ok => field(lua, "ok", text(lua, "OK")?),
        Reply::Status(status) => field(lua, "ok", text(lua, status)?),
        Reply::Error(message) => error(lua, message),
        Reply::Int(n) => Ok(Value::Number(*n as f64)),
        Reply::Bulk(bytes) => text(lua, bytes),
        Reply::None | Reply::Elsewhere | Reply::Null | Reply::NullArray => {
            Ok(if resp3 { Value::Nil } else { Value::Boolean(false) })
        }
        Reply::Double(n) if resp3 => field(lua, "double", Value::Number(*n)),
        Reply::Double(n) => text(lua, double_text(*n)),
        Reply::Decimal(digits) if resp3 => {
            let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            field(lua, "double", Value::Number(number.unwrap_or(f64::NAN)))
        }
        Reply::Bool(b) if resp3 => Ok(Value::Boolean(*b)),
        Reply::Bool(b) => Ok(Value::Number(f64::from(u8::from(*b)))),
        Reply::BigNumber(digits) if resp3 => field(lua, "big_number", text(lua, digits)?),
        Reply::Verbatim(format, bytes) if resp3 => {
            let table = lua.create_table()?;
            table.raw_set("format", text(lua, format)?)?;
            table.raw_set("string", text(lua, bytes)?)?;
            field(lua, "verbatim_string", Value::Table(table))
        }
        Reply::Decimal(bytes) | Reply::BigNumber(bytes) | Reply::Verbatim(_, bytes) => text(lua, bytes),
        Reply::Map(pairs) | Reply::Keyed(pairs) if resp3 => {
            let table = lua.create_table_with_capacity(0, pairs.len())?;
            for (key, value) in pairs {
                table.raw_set(to_lua(lua, key, true)?, to_lua(lua, value, true)?)?;
            }
            field(lua, "map", Value::Table(table))
        }
        Reply::Set(members) if resp3 => {
            let table = lua.create_table_with_capacity(0, members.len())?;
            for member in members {
                table.raw_set(to_lua(lua, member, true)?, true)?;
            }
            field(lua, "set", Value::Table(table))
        }
        Reply::Pairs(pairs) if resp3 => list(lua, &both(pairs), true),
        Reply::Keyed(pairs) => list(lua, &both(pairs), resp3),
        Reply::Map(pairs) | Reply::Pairs(pairs) => list(lua, &flat(pairs), resp3),
        Reply::Array(replies) | Reply::Set(replies) | Reply::Push(replies) => list(lua, replies, resp3),
    }
}

/// What a script gave back as a reply; `resp3` as redis.setresp has it. A table that stands in another several times
/// is several replies, so the whole is bounded.
pub(super) fn from_lua(value: &Value, resp3: bool) -> Result<Reply> {
    let mut left = BYTES_MAX;
    let reply = Output { resp3, left: &mut left }.reply(value, 0)?;
    Ok(if left > 0 { reply } else { Reply::error("ERR the reply of the script is too long") })
}

/// What is left of a reply's length while it is made.
struct Output<'a> {
    resp3: bool,
    left: &'a mut usize,
}

/// Text on one line, as status and error lines have to be.
fn line(text: &LuaString) -> Vec<u8> {
    text.as_bytes().iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect()
}

impl Output<'_> {
    fn reply(&mut self, value: &Value, depth: usize) -> Result<Reply> {
        let len = if let Value::String(bytes) = value { bytes.as_bytes().len() } else { 0 };
        *self.left = self.left.saturating_sub(len + PART_BYTES);
        Ok(match value {
            _ if *self.left == 0 => Reply::Null,
            Value::String(bytes) => Reply::bulk(&bytes.as_bytes()[..]),
            Value::Integer(n) => Reply::Int(*n),
            // Truncated as a cast in C does it, and whatever is out of range saturates.
            Value::Number(n) => Reply::Int(*n as i64),
            Value::Boolean(b) if self.resp3 => Reply::Bool(*b),
            Value::Boolean(true) => Reply::Int(1),
            Value::Table(_) if depth >= DEPTH_MAX => Reply::error("ERR reached lua stack limit"),
            Value::Table(table) => self.table(table, depth)?,
            _ => Reply::Null,
        })
    }

    fn table(&mut self, table: &Table, depth: usize) -> Result<Reply> {
        if let Value::String(text) = table.raw_get("err")? {
            return Ok(Reply::Error(line(&text).into()));
        }
        if let Value::String(text) = table.raw_get("ok")? {
            return Ok(Reply::Status(line(&text).into()));
        }
        if let Some(n) = number(table.raw_get("double")?) {
            return Ok(Reply::Double(n));
        }
        if let Value::Table(map) = table.raw_get("map")? {
            let pairs = map.pairs::<Value, Value>().map(|pair| {
                let (key, value) = pair?;
                Ok((self.reply(&key, depth + 1)?, self.reply(&value, depth + 1)?))
            });
            return Ok(Reply::Map(pairs.collect::<Result<_>>()?));
        }
        if let Value::Table(set) = table.raw_get("set")? {
            let members = set.pairs::<Value, Value>().map(|pair| self.reply(&pair?.0, depth + 1));
            return Ok(Reply::Set(members.collect::<Result<_>>()?));
        }
        if let Value::String(digits) = table.raw_get("big_number")? {
            return Ok(Reply::BigNumber(line(&digits).into()));
        }
        if let Value::Table(verbatim) = table.raw_get("verbatim_string")?
            && let (Value::String(format), Value::String(text)) =
                (verbatim.raw_get("format")?, verbatim.raw_get("string")?)
            && let Ok(format) = <[u8; 3]>::try_from(&*format.as_bytes())
        {
            return Ok(Reply::Verbatim(format, text.as_bytes().to_vec().into()));
        }
        let mut replies = Vec::new();
        for index in 1.. {
            match table.raw_get(index)? {
                Value::Nil => break,
                _ if *self.left == 0 => break,
                value => replies.push(self.reply(&value, depth + 1)?),
            }
        }
        Ok(Reply::Array(replies))
    }
}

fn number(value: Value) -> Option<f64> {
    match value {
        Value::Number(n) => Some(n),
        Value::Integer(n) => Some(n as f64),
        _ => None,
    }
}
