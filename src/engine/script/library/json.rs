//! The library `cjson`: JSON text and Lua tables.
//!
//! Encoding: a table whose keys are all positive integers is an array unless it is mostly holes; an empty table is
//! an object. Decoding: null is `cjson.null`. Nesting is bounded in both directions.

use mlua::{Lua, MultiValue, Result, Table, Value};

use super::json_options::{self as options, Invalid, Options};
use super::{Outcome, TEXT_MAX, add, one};
use crate::script::meter::charge;

/// Deeper nesting is refused whatever the options say: a thread's stack has an end.
const DEPTH_END: usize = 1000;

pub(super) fn functions(lua: &Lua) -> Result<Table> {
    let cjson = lua.create_table()?;
    add(lua, &cjson, "encode", encode)?;
    add(lua, &cjson, "decode", decode)?;
    options::functions(lua, &cjson)?;
    cjson.set("null", Value::NULL)?;
    cjson.set("_NAME", "cjson")?;
    cjson.set("_VERSION", "2.1.0")?;
    Ok(cjson)
}

type Encoded = std::result::Result<(), String>;

fn encode(lua: &Lua, args: MultiValue) -> Result<Outcome> {
    let Some(value) = args.front().filter(|_| args.len() == 1) else {
        return Ok(Err("bad argument #1 to 'encode' (expected 1 argument)".into()));
    };
    let mut out = Vec::new();
    Ok(match put(value, 0, &options::of(lua), &mut out) {
        Ok(()) => {
            charge(lua, (out.len() / 4) as u64)?;
            one(Value::String(lua.create_string(out)?))
        }
        Err(problem) => Err(problem),
    })
}

/// What JSON has no form for.
fn invalid(n: f64) -> &'static str {
    match n {
        n if n.is_nan() => "nan",
        n if n < 0.0 => "-inf",
        _ => "inf",
    }
}

/// A number as C's `%.*g` prints it, with so many digits.
pub(super) fn general(n: f64, digits: usize) -> String {
    let before = digits as i32;
    if n == 0.0 {
        return if n.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    let scientific = format!("{n:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text.to_string(),
    };
    if (-4..before).contains(&exponent) {
        return trimmed(&format!("{n:.*}", (before - 1 - exponent).max(0) as usize));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs())
}

fn put(value: &Value, depth: usize, options: &Options, out: &mut Vec<u8>) -> Encoded {
    let digits = options.precision;
    match value {
        // A table that stands in another several times is written as often.
        _ if out.len() > TEXT_MAX => return Err("Cannot serialise, excessive length".into()),
        Value::Nil => out.extend_from_slice(b"null"),
        Value::LightUserData(pointer) if pointer.0.is_null() => out.extend_from_slice(b"null"),
        Value::Boolean(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        Value::Integer(n) => out.extend_from_slice(general(*n as f64, digits).as_bytes()),
        Value::Number(n) if n.is_finite() => out.extend_from_slice(general(*n, digits).as_bytes()),
        Value::Number(_) if options.invalid == Invalid::Null => out.extend_from_slice(b"null"),
        Value::Number(n) if options.invalid == Invalid::Written => out.extend_from_slice(invalid(*n).as_bytes()),
        Value::Number(_) => return Err("Cannot serialise number: must not be NaN or Inf".into()),
        Value::String(text) => put_text(&text.as_bytes(), out),
        Value::Table(_) if depth >= options.encode_depth.min(DEPTH_END) => {
            return Err(format!("Cannot serialise, excessive depth ({})", depth + 1));
        }
        Value::Table(table) => put_table(table, depth + 1, options, out)?,
        other => return Err(format!("Cannot serialise {}: type not supported", other.type_name())),
    }
    Ok(())
}

fn put_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'/' => out.extend_from_slice(b"\\/"),
            8 => out.extend_from_slice(b"\\b"),
            9 => out.extend_from_slice(b"\\t"),
            10 => out.extend_from_slice(b"\\n"),
            12 => out.extend_from_slice(b"\\f"),
            13 => out.extend_from_slice(b"\\r"),
            0..32 | 127 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

/// The last place of an array, and the values in it; nothing for a table that is an object.
fn array(table: &Table) -> Option<(usize, usize)> {
    let (mut last, mut count) = (0, 0);
    for pair in table.pairs::<Value, Value>() {
        let place = match pair.ok()?.0 {
            Value::Integer(n) => usize::try_from(n).ok().filter(|n| *n > 0)?,
            _ => return None,
        };
        last = last.max(place);
        count += 1;
    }
    (count > 0).then_some((last, count))
}

fn put_table(table: &Table, depth: usize, options: &Options, out: &mut Vec<u8>) -> Encoded {
    let lua_error = |e: mlua::Error| e.to_string();
    let is_sparse = |(last, count): (usize, usize)| {
        options.ratio > 0 && last > options.safe && last > count.saturating_mul(options.ratio)
    };
    let listed = array(table);
    if listed.is_some_and(is_sparse) && !options.converts {
        return Err("Cannot serialise table: excessively sparse array".into());
    }
    if let Some((last, _)) = listed.filter(|listed| !is_sparse(*listed)) {
        out.push(b'[');
        for place in 1..=last {
            if place > 1 {
                out.push(b',');
            }
            put(&table.raw_get(place).map_err(lua_error)?, depth, options, out)?;
        }
        out.push(b']');
        return Ok(());
    }
    out.push(b'{');
    let mut first = true;
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(lua_error)?;
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        match &key {
            Value::String(text) => put_text(&text.as_bytes(), out),
            Value::Integer(n) => put_text(general(*n as f64, options.precision).as_bytes(), out),
            Value::Number(n) => put_text(general(*n, options.precision).as_bytes(), out),
            _ => return Err("Cannot serialise table: table key must be a number or string".into()),
        }
        out.push(b':');
        put(&value, depth, options, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn decode(lua: &Lua, args: MultiValue) -> Result<Outcome> {
    let text = match args.front().cloned().filter(|_| args.len() == 1).map(|value| lua.coerce_string(value)) {
        Some(Ok(Some(text))) => text,
        _ => return Ok(Err("bad argument #1 to 'decode' (string expected)".into())),
    };
    let bytes = text.as_bytes();
    let options = options::of(lua);
    let mut reader = Reader { lua, text: &bytes, at: 0, options };
    Ok(reader.document().and_then(one))
}

/// Reads JSON from its beginning.
struct Reader<'a> {
    lua: &'a Lua,
    text: &'a [u8],
    at: usize,
    options: Options,
}

type Read<T> = std::result::Result<T, String>;

impl Reader<'_> {
    fn document(&mut self) -> Read<Value> {
        let value = self.value(0)?;
        self.blanks();
        if self.at < self.text.len() { Err(self.expected("the end")) } else { Ok(value) }
    }

    fn expected(&self, what: &str) -> String {
        let found = match self.text.get(self.at) {
            None => "T_END".to_string(),
            Some(_) => "invalid token".to_string(),
        };
        format!("Expected {what} but found {found} at character {}", self.at + 1)
    }

    fn blanks(&mut self) {
        while self.text.get(self.at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.blanks();
        let is_there = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn value(&mut self, depth: usize) -> Read<Value> {
        self.blanks();
        if depth > self.options.decode_depth.min(DEPTH_END) {
            return Err(format!("Found too many nested data structures ({depth})"));
        }
        for (word, value) in
            [(&b"null"[..], Value::NULL), (b"true", Value::Boolean(true)), (b"false", Value::Boolean(false))]
        {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        match self.text.get(self.at) {
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.list(depth + 1),
            Some(b'"') => {
                let text = self.string()?;
                Ok(Value::String(self.lua.create_string(text).map_err(|e| e.to_string())?))
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ if self.options.decode_invalid => self.invalid_number(),
            _ => Err(self.expected("value")),
        }
    }

    fn invalid_number(&mut self) -> Read<Value> {
        let rest = &self.text[self.at..];
        let words =
            [(&b"nan"[..], f64::NAN), (b"NaN", f64::NAN), (b"inf", f64::INFINITY), (b"Infinity", f64::INFINITY)];
        let found = words.into_iter().find(|(word, _)| rest.starts_with(word));
        let (word, number) = found.ok_or_else(|| self.expected("value"))?;
        self.at += word.len();
        Ok(Value::Number(number))
    }

    fn number(&mut self) -> Read<Value> {
        let rest = &self.text[self.at..];
        let end = rest.iter().position(|b| !matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'));
        let digits = &rest[..end.unwrap_or(rest.len())];
        let number = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<f64>().ok());
        let number = number.ok_or_else(|| self.expected("value"))?;
        self.at += digits.len();
        Ok(Value::Number(number))
    }

    fn object(&mut self, depth: usize) -> Read<Value> {
        self.at += 1;
        let table = self.lua.create_table().map_err(|e| e.to_string())?;
        if self.take(b'}') {
            return Ok(Value::Table(table));
        }
        loop {
            self.blanks();
            if self.text.get(self.at) != Some(&b'"') {
                return Err(self.expected("object key string"));
            }
            let key = self.lua.create_string(self.string()?).map_err(|e| e.to_string())?;
            if !self.take(b':') {
                return Err(self.expected("colon"));
            }
            let value = self.value(depth)?;
            table.raw_set(key, value).map_err(|e| e.to_string())?;
            if self.take(b'}') {
                return Ok(Value::Table(table));
            }
            if !self.take(b',') {
                return Err(self.expected("comma or object end"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Read<Value> {
        self.at += 1;
        let table = self.lua.create_table().map_err(|e| e.to_string())?;
        if self.take(b']') {
            return Ok(Value::Table(table));
        }
        for place in 1.. {
            let value = self.value(depth)?;
            table.raw_set(place, value).map_err(|e| e.to_string())?;
            if self.take(b']') {
                break;
            }
            if !self.take(b',') {
                return Err(self.expected("comma or array end"));
            }
        }
        Ok(Value::Table(table))
    }

    fn string(&mut self) -> Read<Vec<u8>> {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let byte = *self.text.get(self.at).ok_or_else(|| self.expected("string end"))?;
            self.at += 1;
            match byte {
                b'"' => return Ok(out),
                b'\\' => self.escape(&mut out)?,
                _ => out.push(byte),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Read<()> {
        let byte = *self.text.get(self.at).ok_or_else(|| self.expected("string end"))?;
        self.at += 1;
        out.push(match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let first = self.unit()?;
                let point = if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with(b"\\u") {
                    self.at += 2;
                    let second = self.unit()?;
                    0x1_0000 + ((first - 0xd800) << 10) + (second.wrapping_sub(0xdc00) & 0x3ff)
                } else {
                    first
                };
                let letter = char::from_u32(point).ok_or_else(|| self.expected("a Unicode escape"))?;
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.expected("a valid escape")),
        });
        Ok(())
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Read<u32> {
        let digits = self.text.get(self.at..self.at + 4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let text = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let unit = text.and_then(|text| u32::from_str_radix(text, 16).ok());
        self.at += 4;
        unit.ok_or_else(|| self.expected("a Unicode escape"))
    }
}

#[cfg(test)]
mod tests {
    use super::general;

    #[test]
    fn numbers_print_as_c_prints_them() {
        for (n, text) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (1e14, "1e+14"),
            (1e13, "10000000000000"),
            (123_456_789_012_345.0, "1.2345678901234e+14"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (1.0 / 3.0, "0.33333333333333"),
            (1e300, "1e+300"),
        ] {
            assert_eq!(general(n, 14), text);
        }
    }
}
