//! The libraries that scripts find beside Lua's own: redis, cjson, cmsgpack, struct, bit.
//!
//! A function gives its results, or a problem in words, which is raised with the line of the script.

mod bit;
pub(super) mod chance;
mod json;
pub(super) mod json_options;
mod msgpack;
mod pack;
mod pattern;
pub(super) mod redis;
pub(super) mod text;

use mlua::{Error, Lua, MultiValue, Result, Table, Value};

use super::sandbox::words;

/// A problem in words, or results.
type Outcome = std::result::Result<MultiValue, String>;

/// Bytes of a text that a function makes of tables, at most.
const TEXT_MAX: usize = 32 << 20;

/// Adds a function to a library.
fn add(lua: &Lua, library: &Table, name: &str, function: fn(&Lua, MultiValue) -> Result<Outcome>) -> Result<()> {
    let wrapped =
        lua.create_function(move |lua, args: MultiValue| function(lua, args)?.map_err(|problem| raised(lua, problem)))?;
    library.set(name, wrapped)
}

/// A problem in words as an error. Words of a state that has no memory left stay what they are.
fn raised(lua: &Lua, problem: String) -> Error {
    if problem.starts_with("memory error: ") { Error::MemoryError(problem) } else { words(lua, &problem) }
}

/// An argument as a number.
fn number_at(args: &MultiValue, at: usize) -> Option<f64> {
    match args.get(at)? {
        Value::Integer(n) => Some(*n as f64),
        Value::Number(n) => Some(*n),
        Value::String(text) => text.to_str().ok()?.trim().parse().ok(),
        _ => None,
    }
}

/// One result.
fn one(value: Value) -> Outcome {
    Ok(MultiValue::from_iter([value]))
}

/// All but redis, by their names.
pub(super) fn all(lua: &Lua) -> Result<Table> {
    let libraries = lua.create_table()?;
    libraries.set("bit", bit::functions(lua)?)?;
    libraries.set("cjson", json::functions(lua)?)?;
    libraries.set("cmsgpack", msgpack::functions(lua)?)?;
    libraries.set("struct", pack::functions(lua)?)?;
    Ok(libraries)
}
