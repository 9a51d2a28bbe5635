//! The functions of `string` that match patterns.
//!
//! Each call may take as many steps as the script has instructions left, and is charged for those that it took.

use std::rc::Rc;

use mlua::{Lua, MultiValue, Result, Table, Value};

use super::pattern::{Captured, Matcher, Stop, is_plain};
use super::{TEXT_MAX, number_at};
use crate::script::meter::{Meter, charge, charge_bytes};
use crate::script::sandbox::words;

/// Adds `find`, `match`, `gsub` for a text as the replacement, and what the prelude makes the rest of: `next` is the
/// next match from a place on, `texts` checks two arguments.
pub(in crate::script) fn add_to(lua: &Lua, native: &Table) -> Result<()> {
    native.set("find", lua.create_function(|lua, args| find(lua, &args, true))?)?;
    native.set("match", lua.create_function(|lua, args| find(lua, &args, false))?)?;
    native.set("next", lua.create_function(next)?)?;
    native.set("gsub", lua.create_function(|lua, args| substitute(lua, &args))?)?;
    native.set(
        "texts",
        lua.create_function(|lua, (name, text, pattern): (String, Value, Value)| {
            let args = MultiValue::from_iter([text, pattern]);
            Ok((text_at(lua, &args, 0, &name)?, text_at(lua, &args, 1, &name)?))
        })?,
    )
}

fn bad(lua: &Lua, at: usize, name: &str, problem: &str) -> mlua::Error {
    words(lua, &format!("bad argument #{} to '{name}' ({problem})", at + 1))
}

/// An argument as a text.
fn text_at(lua: &Lua, args: &MultiValue, at: usize, name: &str) -> Result<mlua::LuaString> {
    let found = args.get(at);
    match found {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(number @ (Value::Integer(_) | Value::Number(_))) => {
            let text = lua.coerce_string(number.clone())?;
            text.ok_or_else(|| bad(lua, at, name, "string expected, got number"))
        }
        _ => {
            let kind = found.map_or("no value", Value::type_name);
            Err(bad(lua, at, name, &format!("string expected, got {kind}")))
        }
    }
}

/// An optional argument as a whole number.
fn integer_at(lua: &Lua, args: &MultiValue, at: usize, name: &str) -> Result<Option<i64>> {
    match args.get(at) {
        None | Some(Value::Nil) => Ok(None),
        Some(other) => match number_at(args, at) {
            Some(n) => Ok(Some(n as i64)),
            None => Err(bad(lua, at, name, &format!("number expected, got {}", other.type_name()))),
        },
    }
}

/// Runs a matcher within what the script has left.
fn with_matcher<'a, R>(
    lua: &Lua,
    text: &'a [u8],
    pattern: &'a [u8],
    work: impl FnOnce(&mut Matcher<'a>) -> std::result::Result<R, Stop>,
) -> Result<R> {
    let left = lua.app_data_ref::<Rc<Meter>>().map_or(0, |meter| meter.left());
    let mut matcher = Matcher::new(text, pattern, left);
    let result = work(&mut matcher);
    match result {
        // What was left is gone, so this ends the script.
        Err(Stop::Spent) => charge(lua, left).and_then(|()| Err(words(lua, "pattern too long"))),
        Err(Stop::Problem(problem)) => Err(words(lua, problem)),
        Ok(value) => charge(lua, left - matcher.left).map(|()| value),
    }
}

/// A place as Lua gives it, negative ones from the end, as a number of bytes in front.
fn place(given: i64, len: usize) -> usize {
    let from_end = if given < 0 { given.saturating_add(len as i64).saturating_add(1) } else { given };
    usize::try_from(from_end.saturating_sub(1)).unwrap_or(0).min(len)
}

fn value(lua: &Lua, captured: &Captured<'_>) -> Result<Value> {
    match captured {
        Captured::Text(text) => lua.create_string(text).map(Value::String),
        Captured::Position(at) => Ok(Value::Number(*at as f64)),
    }
}

fn values(lua: &Lua, places: &[usize], captured: &[Captured<'_>]) -> Result<MultiValue> {
    let places = places.iter().map(|at| Ok(Value::Number(*at as f64)));
    places.chain(captured.iter().map(|captured| value(lua, captured))).collect()
}

/// string.find and string.match
fn find(lua: &Lua, args: &MultiValue, finds: bool) -> Result<MultiValue> {
    let name = if finds { "find" } else { "match" };
    let (text, pattern) = (text_at(lua, args, 0, name)?, text_at(lua, args, 1, name)?);
    let (text, pattern) = (&*text.as_bytes(), &*pattern.as_bytes());
    let from = place(integer_at(lua, args, 2, name)?.unwrap_or(1), text.len());
    let plain = args.get(3).is_some_and(|value| !matches!(value, Value::Nil | Value::Boolean(false)));
    let nothing = || Ok(MultiValue::from_iter([Value::Nil]));
    if finds && (plain || is_plain(pattern)) {
        let found = with_matcher(lua, text, b"", |matcher| matcher.plain(pattern, from))?;
        return found.map_or_else(nothing, |at| values(lua, &[at + 1, at + pattern.len()], &[]));
    }
    with_matcher(lua, text, pattern, |matcher| {
        let Some(whole) = matcher.search(from, true)? else { return Ok(None) };
        Ok(Some((whole, matcher.captured((!finds).then_some(whole))?)))
    })?
    .map_or_else(nothing, |((begin, end), captured)| {
        let places = [begin + 1, end];
        values(lua, if finds { &places } else { &[] }, &captured)
    })
}

/// The next match from a place on: its begin, the place behind it, its parts. `loose` takes `^` as it is.
fn next(
    lua: &Lua,
    (text, pattern, from, loose): (mlua::LuaString, mlua::LuaString, usize, bool),
) -> Result<MultiValue> {
    let (text, pattern) = (&*text.as_bytes(), &*pattern.as_bytes());
    if from > text.len() + 1 {
        return Ok(MultiValue::new());
    }
    let found = with_matcher(lua, text, pattern, |matcher| {
        let Some(whole) = matcher.search(from - 1, !loose)? else { return Ok(None) };
        Ok(Some((whole, matcher.captured(Some(whole))?)))
    })?;
    found.map_or(Ok(MultiValue::new()), |((begin, end), captured)| values(lua, &[begin + 1, end + 1], &captured))
}

/// string.gsub with a text as the replacement.
fn substitute(lua: &Lua, args: &MultiValue) -> Result<MultiValue> {
    let (text, pattern) = (text_at(lua, args, 0, "gsub")?, text_at(lua, args, 1, "gsub")?);
    let with = match args.get(2) {
        Some(Value::String(_) | Value::Integer(_) | Value::Number(_)) => text_at(lua, args, 2, "gsub")?,
        _ => return Err(bad(lua, 2, "gsub", "string/function/table expected")),
    };
    let (text, pattern, with) = (&*text.as_bytes(), &*pattern.as_bytes(), &*with.as_bytes());
    let most = integer_at(lua, args, 3, "gsub")?.map_or(text.len() + 1, |n| usize::try_from(n).unwrap_or(0));
    let anchored = pattern.first() == Some(&b'^');
    let (mut out, mut count, mut from) = (Vec::new(), 0, 0);
    with_matcher(lua, text, pattern, |matcher| {
        while count < most {
            let Some(whole) = matcher.search(from, true)? else { break };
            count += 1;
            out.extend_from_slice(&text[from..whole.0]);
            replace(matcher, whole, with, &mut out)?;
            if out.len() > TEXT_MAX {
                return Err(Stop::Problem("resulting string too large"));
            }
            from = whole.1;
            if whole.0 == whole.1 {
                out.extend(text.get(from));
                from += 1;
            }
            if anchored || from > text.len() {
                break;
            }
        }
        Ok(())
    })?;
    out.extend_from_slice(text.get(from..).unwrap_or_default());
    charge_bytes(lua, out.len())?;
    Ok(MultiValue::from_iter([Value::String(lua.create_string(out)?), Value::Number(count as f64)]))
}

/// Appends what stands instead of a match.
fn replace(
    matcher: &Matcher<'_>,
    whole: (usize, usize),
    with: &[u8],
    out: &mut Vec<u8>,
) -> std::result::Result<(), Stop> {
    let mut bytes = with.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        // Behind the end there is a zero, as in C.
        let part = match bytes.next().copied().unwrap_or(0) {
            b'0' => matcher.whole(whole),
            digit @ b'1'..=b'9' => matcher.capture(usize::from(digit - b'1'), whole)?,
            other => {
                out.push(other);
                continue;
            }
        };
        match part {
            Captured::Text(text) => out.extend_from_slice(text),
            Captured::Position(at) => out.extend_from_slice(at.to_string().as_bytes()),
        }
    }
    Ok(())
}
