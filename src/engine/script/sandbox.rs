//! The Lua state of one script: what it finds, and what it may use up.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use mlua::chunk::ChunkMode;
use mlua::{Error, Function, HookTriggers, Lua, LuaOptions, MultiValue, Result, Scope, StdLib, Table, Value};
use quoris_resp::Reply;

use super::header::Header;
use super::{call::World, convert, library};

/// What the host adds to Lua in Lua.
const PRELUDE: &str = include_str!("prelude.lua");
/// A script's name in its error messages, as in Redis.
pub(super) const CHUNK: &str = "@user_script";
/// Bytes that a script may hold, garbage included.
const MEMORY_MAX: usize = 256 << 20;
/// The budget is looked at so often, in instructions.
const STEP: u32 = 1000;
/// Instructions for a millisecond of `busy-reply-threshold`: about what an old machine runs.
const INSTRUCTIONS_PER_MS: u64 = 20_000;
/// The threshold is believed up to here; 0, which means for ever in Redis, is this too.
const THRESHOLD_MS_MAX: u64 = 60_000;

/// What a script used up.
#[derive(Debug)]
pub(super) struct Meter {
    used: Cell<u64>,
    max: u64,
}

impl Meter {
    /// A budget for a threshold.
    pub(super) fn new(threshold_ms: i64) -> Meter {
        let ms = threshold_ms.unsigned_abs();
        let ms = if threshold_ms <= 0 || ms > THRESHOLD_MS_MAX { THRESHOLD_MS_MAX } else { ms };
        Meter { used: Cell::new(0), max: ms * INSTRUCTIONS_PER_MS }
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.used.get() >= self.max
    }

    fn step(&self, instructions: u32) -> bool {
        self.used.set(self.used.get() + u64::from(instructions));
        self.is_empty()
    }
}

/// An empty state that ends a script at its limits.
pub(super) fn state(meter: &Rc<Meter>) -> Result<Lua> {
    let lua = Lua::new_with(StdLib::TABLE | StdLib::STRING | StdLib::MATH, LuaOptions::default())?;
    lua.set_memory_limit(MEMORY_MAX)?;
    let meter = meter.clone();
    lua.set_hook(HookTriggers::new().every_nth_instruction(STEP), move |lua, _| {
        if !meter.step(STEP) {
            return Ok(mlua::VmState::Continue);
        }
        // A script may catch this one; from now on every instruction ends it, wherever it stands.
        lua.set_hook(HookTriggers::new().every_nth_instruction(1), |_, _| Err(over()))?;
        Err(over())
    })?;
    Ok(lua)
}

fn over() -> Error {
    Error::RuntimeError("the script's budget is used up".into())
}

/// Where a script is, for its error messages.
pub(super) fn line(lua: &Lua) -> Option<usize> {
    (0..64)
        .map_while(|level| {
            lua.inspect_stack(level, |frame| {
                frame.source().source.is_some_and(|source| source == CHUNK).then(|| frame.current_line()).flatten()
            })
        })
        .flatten()
        .next()
}

/// A problem with the place where it arose, as Lua's own functions tell it.
fn placed(lua: &Lua, problem: &str) -> String {
    match line(lua) {
        Some(line) => format!("user_script:{line}: {problem}"),
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

/// An error as a Lua value.
fn problem(lua: &Lua, error: &Value) -> Result<Value> {
    let Value::Error(error) = error else { return Ok(error.clone()) };
    match error.downcast_ref::<Raised>() {
        Some(Raised::Reply(text)) => convert::error(lua, text),
        Some(Raised::Words(text)) => lua.create_string(text).map(Value::String),
        None => lua.create_string(error.to_string().lines().next().unwrap_or_default()).map(Value::String),
    }
}

/// A script while it runs.
pub(super) struct Running<'a> {
    /// The keys.
    pub(super) world: RefCell<World<'a>>,
    /// What it said of itself.
    pub(super) header: Header,
    /// What redis.setresp chose.
    pub(super) resp3: Cell<bool>,
    /// The state of math.random.
    pub(super) random: Cell<u64>,
}

impl Running<'_> {
    /// Runs a command.
    fn run(&self, args: &MultiValue) -> Reply {
        let args: Vec<Value> = args.iter().cloned().collect();
        if args.is_empty() {
            return Reply::error("ERR Please specify at least one argument for this redis lib call");
        }
        match convert::argv(&args) {
            Some(argv) => self.world.borrow_mut().call(&argv, self.header).unwrap_or_else(Reply::from),
            None => Reply::error("ERR Lua redis lib command arguments must be strings or integers"),
        }
    }

    /// redis.call
    fn call(&self, lua: &Lua, args: &MultiValue) -> Result<Value> {
        match self.run(args) {
            Reply::Error(text) => Err(Raised::Reply(text.to_vec()).into()),
            reply => convert::to_lua(lua, &reply, self.resp3.get()),
        }
    }

    /// redis.pcall
    fn pcall(&self, lua: &Lua, args: &MultiValue) -> Result<Value> {
        convert::to_lua(lua, &self.run(args), self.resp3.get())
    }
}

/// Puts everything in place and gives the function that runs a script: whether it ended well, and its value or
/// error.
pub(super) fn furnish<'scope, 'env: 'scope>(
    lua: &Lua,
    scope: &'scope Scope<'scope, 'env>,
    running: &'env Running<'_>,
    keys: Table,
    argv: Table,
) -> Result<Function> {
    let native = lua.create_table()?;
    native.set("random", scope.create_function(|lua, args| library::chance::random(lua, &running.random, &args))?)?;
    native.set("randomseed", scope.create_function(|_, seed| library::chance::seed(&running.random, seed))?)?;
    native.set("clock", lua.create_function(|_, ()| Ok(0.0))?)?;
    native.set("explain", lua.create_function(|lua, error: Value| explain(lua, &error))?)?;
    native.set("problem", lua.create_function(|lua, error: Value| problem(lua, &error))?)?;
    let redis = library::redis::functions(lua)?;
    redis.set("call", scope.create_function(|lua, args: MultiValue| running.call(lua, &args))?)?;
    redis.set("pcall", scope.create_function(|lua, args: MultiValue| running.pcall(lua, &args))?)?;
    redis.set(
        "setresp",
        scope.create_function(|lua, version: Value| match version {
            Value::Integer(2 | 3) => {
                running.resp3.set(version.as_i64() == Some(3));
                Ok(())
            }
            _ => Err(words(lua, "RESP version must be 2 or 3.")),
        })?,
    )?;
    native.set("redis", redis)?;
    native.set("libraries", library::all(lua)?)?;
    native.set("keys", keys)?;
    native.set("argv", argv)?;
    lua.load(PRELUDE).set_name("=quoris").set_mode(ChunkMode::Text).call(native)
}

/// An error as a table, with the line of the script that it came from.
fn explain(lua: &Lua, error: &Value) -> Result<Table> {
    let table = match problem(lua, error)? {
        Value::Table(table) => table,
        other => {
            let text = match &other {
                Value::String(text) => text.as_bytes().to_vec(),
                other => other.to_string().unwrap_or_default().into_bytes(),
            };
            let table = lua.create_table()?;
            table.raw_set("err", lua.create_string([b"ERR ", &text[..]].concat())?)?;
            table
        }
    };
    if let Some(line) = line(lua) {
        table.raw_set("source", "@user_script")?;
        table.raw_set("line", line)?;
    }
    Ok(table)
}
