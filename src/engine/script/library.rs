//! The libraries that scripts find beside Lua's own: redis, cjson, cmsgpack, struct, bit.
//!
//! A function gives its results, or a problem in words, which is raised with the line of the script.

mod bit;
pub(super) mod chance;
mod json;
mod msgpack;
mod pack;
pub(super) mod redis;

use mlua::{Lua, MultiValue, Result, Table, Value};

use super::sandbox::words;

/// A problem in words, or results.
type Outcome = std::result::Result<MultiValue, String>;

/// Adds a function to a library.
fn add(lua: &Lua, library: &Table, name: &str, function: fn(&Lua, MultiValue) -> Result<Outcome>) -> Result<()> {
    let wrapped =
        lua.create_function(move |lua, args: MultiValue| function(lua, args)?.map_err(|problem| words(lua, &problem)))?;
    library.set(name, wrapped)
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
