//! The library `cmsgpack`: MessagePack and Lua values.

use mlua::{Lua, MultiValue, Result, Table, Value};

use super::{Outcome, TEXT_MAX, add, number_at, one};
use crate::script::meter::charge;

/// Deeper tables are packed as nil, as in Redis.
const DEPTH_MAX: usize = 16;
/// Deeper data is not unpacked.
const UNPACK_DEPTH_MAX: usize = 128;

pub(super) fn functions(lua: &Lua) -> Result<Table> {
    let cmsgpack = lua.create_table()?;
    add(lua, &cmsgpack, "pack", pack)?;
    add(lua, &cmsgpack, "unpack", unpack)?;
    add(lua, &cmsgpack, "unpack_one", unpack_one)?;
    add(lua, &cmsgpack, "unpack_limit", unpack_limit)?;
    cmsgpack.set("_NAME", "cmsgpack")?;
    cmsgpack.set("_VERSION", "lua-cmsgpack 0.4.0")?;
    Ok(cmsgpack)
}

fn pack(lua: &Lua, args: MultiValue) -> Result<Outcome> {
    if args.is_empty() {
        return Ok(Err("bad argument #0 to 'pack' (MessagePack pack needs input.)".into()));
    }
    let mut out = Vec::new();
    for value in &args {
        put(value, 0, &mut out)?;
        if out.len() > TEXT_MAX {
            return Ok(Err("the packed text is too long".into()));
        }
    }
    charge(lua, (out.len() / 4) as u64)?;
    Ok(one(Value::String(lua.create_string(out)?)))
}

/// A length in the smallest of the forms that a kind has; a mark of 0 is a form that it has not.
fn put_length(len: usize, fixed: (u8, usize), marks: [u8; 3], out: &mut Vec<u8>) {
    if len < fixed.1 {
        out.push(fixed.0 | len as u8);
    } else if len < 1 << 8 && marks[0] != 0 {
        out.extend_from_slice(&[marks[0], len as u8]);
    } else if let Ok(len) = u16::try_from(len) {
        out.push(marks[1]);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(marks[2]);
        out.extend_from_slice(&(len as u32).to_be_bytes());
    }
}

fn put_integer(n: i64, out: &mut Vec<u8>) {
    match n {
        -32..=0x7f => out.push(n as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, n as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(n as u32).to_be_bytes());
        }
        0x1_0000_0000.. => {
            out.push(0xcf);
            out.extend_from_slice(&n.to_be_bytes());
        }
        -128..=-33 => out.extend_from_slice(&[0xd0, n as u8]),
        -32768..=-129 => {
            out.push(0xd1);
            out.extend_from_slice(&(n as i16).to_be_bytes());
        }
        -2_147_483_648..=-32769 => {
            out.push(0xd2);
            out.extend_from_slice(&(n as i32).to_be_bytes());
        }
        _ => {
            out.push(0xd3);
            out.extend_from_slice(&n.to_be_bytes());
        }
    }
}

fn put(value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<()> {
    match value {
        // A table that stands in another several times is written as often; the whole is refused at its end.
        _ if out.len() > TEXT_MAX => {}
        Value::Boolean(b) => out.push(0xc2 | u8::from(*b)),
        Value::Integer(n) => put_integer(*n, out),
        Value::Number(n) if n.fract() == 0.0 && n.abs() < 9.0e18 => put_integer(*n as i64, out),
        Value::Number(n) if f64::from(*n as f32) == *n => {
            out.push(0xca);
            out.extend_from_slice(&(*n as f32).to_be_bytes());
        }
        Value::Number(n) => {
            out.push(0xcb);
            out.extend_from_slice(&n.to_be_bytes());
        }
        Value::String(text) => {
            let text = text.as_bytes();
            put_length(text.len(), (0xa0, 32), [0xd9, 0xda, 0xdb], out);
            out.extend_from_slice(&text);
        }
        Value::Table(table) if depth < DEPTH_MAX => put_table(table, depth + 1, out)?,
        _ => out.push(0xc0),
    }
    Ok(())
}

fn put_table(table: &Table, depth: usize, out: &mut Vec<u8>) -> Result<()> {
    // One pair at a time: what is held of a table takes room on Lua's stack.
    let len = table.raw_len();
    let (mut count, mut is_list) = (0, true);
    for pair in table.pairs::<Value, Value>() {
        let (key, _) = pair?;
        is_list &= key.as_i64().is_some_and(|n| (1..=len as i64).contains(&n));
        count += 1;
    }
    if is_list && count > 0 && count == len {
        put_length(len, (0x90, 16), [0, 0xdc, 0xdd], out);
        for place in 1..=len {
            put(&table.raw_get(place)?, depth, out)?;
        }
        return Ok(());
    }
    put_length(count, (0x80, 16), [0, 0xde, 0xdf], out);
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        put(&key, depth, out)?;
        put(&value, depth, out)?;
    }
    Ok(())
}

/// A problem, or an error of Lua itself.
enum Stop {
    Problem(&'static str),
    Lua(mlua::Error),
}

impl From<mlua::Error> for Stop {
    fn from(error: mlua::Error) -> Stop {
        Stop::Lua(error)
    }
}

const MISSING: Stop = Stop::Problem("Missing bytes in input.");
const BAD: Stop = Stop::Problem("Bad data format in input.");

struct Reader<'a> {
    lua: &'a Lua,
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take(&mut self, len: usize) -> std::result::Result<&[u8], Stop> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(MISSING)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A big-endian number of `len` bytes.
    fn unsigned(&mut self, len: usize) -> std::result::Result<u64, Stop> {
        Ok(self.take(len)?.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    fn signed(&mut self, len: usize) -> std::result::Result<i64, Stop> {
        let unused = 64 - 8 * len as u32;
        Ok((self.unsigned(len)? << unused).cast_signed() >> unused)
    }

    fn text(&mut self, len: u64) -> std::result::Result<Value, Stop> {
        let lua = self.lua;
        let bytes = self.take(usize::try_from(len).map_err(|_| MISSING)?)?;
        Ok(Value::String(lua.create_string(bytes)?))
    }

    fn list(&mut self, len: u64, depth: usize) -> std::result::Result<Value, Stop> {
        let table = self.lua.create_table()?;
        for place in 1..=len {
            let value = self.value(depth + 1)?;
            table.raw_set(place, value)?;
        }
        Ok(Value::Table(table))
    }

    fn map(&mut self, len: u64, depth: usize) -> std::result::Result<Value, Stop> {
        let table = self.lua.create_table()?;
        for _ in 0..len {
            let (key, value) = (self.value(depth + 1)?, self.value(depth + 1)?);
            if !matches!(key, Value::Nil) && !key.as_f64().is_some_and(f64::is_nan) {
                table.raw_set(key, value)?;
            }
        }
        Ok(Value::Table(table))
    }

    fn value(&mut self, depth: usize) -> std::result::Result<Value, Stop> {
        if depth > UNPACK_DEPTH_MAX {
            return Err(BAD);
        }
        let mark = self.take(1)?[0];
        let number = |n: i64| Value::Number(n as f64);
        Ok(match mark {
            0x00..=0x7f => number(i64::from(mark)),
            0xe0..=0xff => number(i64::from(mark.cast_signed())),
            0x80..=0x8f => self.map(u64::from(mark & 15), depth)?,
            0x90..=0x9f => self.list(u64::from(mark & 15), depth)?,
            0xa0..=0xbf => self.text(u64::from(mark & 31))?,
            0xc0 => Value::Nil,
            0xc2 | 0xc3 => Value::Boolean(mark == 0xc3),
            0xca => Value::Number(f64::from(f32::from_bits(self.unsigned(4)? as u32))),
            0xcb => Value::Number(f64::from_bits(self.unsigned(8)?)),
            0xcc..=0xcf => Value::Number(self.unsigned(1 << (mark - 0xcc))? as f64),
            0xd0..=0xd3 => number(self.signed(1 << (mark - 0xd0))?),
            0xc4..=0xc6 => {
                let len = self.unsigned(1 << (mark - 0xc4))?;
                self.text(len)?
            }
            0xd9..=0xdb => {
                let len = self.unsigned(1 << (mark - 0xd9))?;
                self.text(len)?
            }
            0xdc | 0xdd => {
                let len = self.unsigned(2 << (mark - 0xdc))?;
                self.list(len, depth)?
            }
            0xde | 0xdf => {
                let len = self.unsigned(2 << (mark - 0xde))?;
                self.map(len, depth)?
            }
            _ => return Err(BAD),
        })
    }
}

/// Unpacks at most `limit` values from `offset` on; gives the offset behind them, -1 at the end, if it is asked for.
fn unpack_some(lua: &Lua, args: &MultiValue, limit: usize, offset: i64, tells_offset: bool) -> Result<Outcome> {
    let Some(Value::String(text)) = args.front() else {
        return Ok(Err("bad argument #1 to 'unpack' (string expected)".into()));
    };
    let text = text.as_bytes();
    let Some(rest) = usize::try_from(offset).ok().and_then(|offset| text.get(offset..)) else {
        return Ok(Err(format!("Start offset {offset} greater than input length {}.", text.len())));
    };
    let mut reader = Reader { lua, rest };
    let mut values = MultiValue::new();
    while !reader.rest.is_empty() && values.len() < limit {
        match reader.value(0) {
            Ok(value) => values.push_back(value),
            Err(Stop::Problem(problem)) => return Ok(Err(problem.into())),
            Err(Stop::Lua(error)) => return Err(error),
        }
    }
    if tells_offset {
        let at = if reader.rest.is_empty() { -1.0 } else { (text.len() - reader.rest.len()) as f64 };
        values.push_front(Value::Number(at));
    }
    Ok(Ok(values))
}

/// Results that fit on Lua's stack.
const RESULTS_MAX: usize = 7000;

fn unpack(lua: &Lua, args: MultiValue) -> Result<Outcome> {
    unpack_some(lua, &args, RESULTS_MAX, 0, false)
}

fn unpack_one(lua: &Lua, args: MultiValue) -> Result<Outcome> {
    let offset = number_at(&args, 1).unwrap_or(0.0) as i64;
    unpack_some(lua, &args, 1, offset, true)
}

fn unpack_limit(lua: &Lua, args: MultiValue) -> Result<Outcome> {
    let number = |at: usize| number_at(&args, at).map(|n| n as i64);
    let limit = number(1).and_then(|n| usize::try_from(n).ok()).unwrap_or(0).min(RESULTS_MAX);
    unpack_some(lua, &args, limit, number(2).unwrap_or(0), true)
}
