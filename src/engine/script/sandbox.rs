//! A Lua state: what a script finds in it, and what it may use up.
//!
//! A state runs many scripts, one after the other. `prelude.lua` says why nothing of one can reach another; what a
//! state has been through cannot be seen either, because order, numbers and the count of instructions are those of
//! the script alone. The one thing that does depend on it is how much memory is left, so a script that meets that
//! limit is run again in a state of its own (see `run`).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use mlua::chunk::ChunkMode;
use mlua::{Error, Function, Lua, LuaOptions, Result, StdLib, Table, Value};

use super::bodies::Sha;
use super::meter::{Meter, charge, charge_bytes};
use super::{convert, library};

/// What the host adds to Lua in Lua.
const PRELUDE: &str = include_str!("prelude.lua");
/// Compiled texts that a state keeps, at most.
const CHUNKS_MAX: usize = 256;

/// Where a text is from: the names stand in error messages, as in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// EVAL and its kin.
    Script,
    /// FUNCTION LOAD.
    Library,
}

impl Origin {
    const ALL: [Origin; 2] = [Origin::Script, Origin::Library];

    /// The name of the chunk.
    pub(super) fn chunk(self) -> &'static str {
        match self {
            Origin::Script => "@user_script",
            Origin::Library => "@user_function",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct State {
    pub(super) lua: Lua,
    pub(super) meter: Rc<Meter>,
    /// The state of math.random.
    pub(super) chance: Rc<Cell<u64>>,
    /// What redis.setresp chose.
    pub(super) resp3: Rc<Cell<bool>>,
    /// The functions of `redis`, behind their face.
    pub(super) redis: Table,
    /// Runs a script.
    pub(super) script: Function,
    /// Runs a function of a library.
    pub(super) call: Function,
    /// Gives the functions of a library.
    pub(super) load: Function,
    chunks: BTreeMap<(Sha, bool), Function>,
}

impl State {
    /// A state that has seen no script.
    pub(super) fn new() -> Result<State> {
        let lua = Lua::new_with(StdLib::TABLE | StdLib::STRING | StdLib::MATH, LuaOptions::default())?;
        let (meter, chance, resp3) = (Rc::<Meter>::default(), Rc::<Cell<u64>>::default(), Rc::<Cell<bool>>::default());
        lua.set_app_data(meter.clone());
        let redis = library::redis::functions(&lua, &resp3)?;
        let native = natives(&lua, &meter, &chance)?;
        native.set("redis", &redis)?;
        let entries: Table = lua.load(PRELUDE).set_name("=quoris").set_mode(ChunkMode::Text).call(native)?;
        lua.set_globals(entries.get("world")?)?;
        let (script, call, load) = (entries.get("script")?, entries.get("call")?, entries.get("load")?);
        Ok(State { lua, meter, chance, resp3, redis, script, call, load, chunks: BTreeMap::new() })
    }

    /// A text as a function.
    pub(super) fn chunk(&mut self, sha: &Sha, origin: Origin, text: &[u8]) -> Result<Function> {
        let key = (*sha, origin == Origin::Library);
        if let Some(known) = self.chunks.get(&key) {
            return Ok(known.clone());
        }
        let made = self.lua.load(text).set_name(origin.chunk()).set_mode(ChunkMode::Text).into_function()?;
        if self.chunks.len() >= CHUNKS_MAX {
            self.chunks.clear();
        }
        self.chunks.insert(key, made.clone());
        Ok(made)
    }
}

/// What the prelude takes.
fn natives(lua: &Lua, meter: &Rc<Meter>, chance: &Rc<Cell<u64>>) -> Result<Table> {
    let native = lua.create_table()?;
    let random = chance.clone();
    native.set("random", lua.create_function(move |lua, args| library::chance::random(lua, &random, &args))?)?;
    let random = chance.clone();
    native.set("randomseed", lua.create_function(move |_, seed| library::chance::seed(&random, seed))?)?;
    native.set("charge", lua.create_function(|lua, steps: f64| charge(lua, steps as u64))?)?;
    native.set("charge_bytes", lua.create_function(|lua, bytes: f64| charge_bytes(lua, bytes as usize))?)?;
    native.set("explain", lua.create_function(|lua, error: Value| explain(lua, &error))?)?;
    native.set("problem", lua.create_function(|lua, error: Value| problem(lua, &error))?)?;
    native
        .set("unplaced", lua.create_function(|lua, text: mlua::LuaString| lua.create_string(own(&text.as_bytes())))?)?;
    let meter = meter.clone();
    native.set("starve", lua.create_function(move |lua, ()| meter.starve(lua))?)?;
    library::text::add_to(lua, &native)?;
    native.set("libraries", library::all(lua)?)?;
    Ok(native)
}

/// A message without the place in the prelude that it names, if it does.
fn own(text: &[u8]) -> &[u8] {
    let Some(rest) = text.strip_prefix(b"quoris:") else { return text };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    rest[digits..].strip_prefix(b": ").unwrap_or(rest)
}

/// Where a script is, for its error messages: the name of its text, and the line.
fn place(lua: &Lua) -> Option<(&'static str, usize)> {
    let frame = |level| {
        lua.inspect_stack(level, |frame| {
            let source = frame.source().source?;
            let origin = Origin::ALL.iter().find(|origin| source == origin.chunk())?;
            Some((origin.chunk(), frame.current_line()?))
        })
    };
    (0..64).map_while(frame).flatten().next()
}

/// A problem with the place where it arose, as Lua's own functions tell it.
fn placed(lua: &Lua, problem: &str) -> String {
    match place(lua) {
        Some((name, line)) => format!("{}:{line}: {problem}", &name[1..]),
        None => problem.to_string(),
    }
}

/// A problem that a native function raises. Scripts never see it as it is: pcall gives them [`problem`].
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Raised {
    /// A command's error, with its code: a table with a field `err`.
    #[error("{}", String::from_utf8_lossy(.0))]
    Reply(Vec<u8>),
    /// Words, with the place where it arose.
    #[error("{0}")]
    Words(String),
}

impl From<Raised> for Error {
    fn from(raised: Raised) -> Error {
        Error::external(raised)
    }
}

/// The problem in words, with the place where it arose.
pub(super) fn words(lua: &Lua, problem: &str) -> Error {
    Raised::Words(placed(lua, problem)).into()
}

/// Whether an error says that the state has no memory left.
pub(super) fn is_memory(error: &Error) -> bool {
    error.chain().any(|error| matches!(error.downcast_ref::<Error>(), Some(Error::MemoryError(_))))
}

/// An error as a Lua value.
fn problem(lua: &Lua, error: &Value) -> Result<Value> {
    let Value::Error(error) = error else { return Ok(error.clone()) };
    if is_memory(error) {
        return lua.create_string("not enough memory").map(Value::String);
    }
    match error.downcast_ref::<Raised>() {
        Some(Raised::Reply(text)) => convert::error(lua, text),
        Some(Raised::Words(text)) => lua.create_string(text).map(Value::String),
        None => lua.create_string(error.to_string().lines().next().unwrap_or_default()).map(Value::String),
    }
}

/// An error as a table, with the line of the script that it came from.
fn explain(lua: &Lua, error: &Value) -> Result<Table> {
    let table = lua.create_table()?;
    let place = place(lua);
    match problem(lua, error)? {
        Value::Table(thrown) => table.raw_set("err", thrown.raw_get::<Value>("err")?)?,
        Value::String(text) => {
            let text = text.as_bytes();
            let unplaced = own(&text);
            let front = match place {
                Some((name, line)) if unplaced.len() < text.len() => format!("ERR {}:{line}: ", &name[1..]),
                _ => "ERR ".to_string(),
            };
            table.raw_set("err", lua.create_string([front.as_bytes(), unplaced].concat())?)?;
        }
        other => table.raw_set("err", format!("ERR {}", other.to_string().unwrap_or_default()))?,
    }
    if let Some((name, line)) = place {
        table.raw_set("source", name)?;
        table.raw_set("line", line)?;
    }
    Ok(table)
}
