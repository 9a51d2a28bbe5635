//! One run of a script or a function, from its text to its reply.
//!
//! Scripts share a Lua state that is kept from run to run; making one costs more than most scripts. It is no state
//! of the group: what a script gives does not depend on which state it has. The one limit that does depend on it is
//! memory, so a script that meets it is run again in a state of its own, which decides.

use std::cell::{Cell, RefCell};

use mlua::{Function, Table, Value};
use quoris_resp::{Argv, Reply};

use super::bodies::Sha;
use super::call::{Permits, World};
use super::convert;
use super::header::{self, Flags};
use super::libraries::{FunctionRow, Library};
use super::running::Running;
use super::sandbox::{Origin, State, is_memory};
use crate::{CommandResult, Error, slot};

/// Bytes that a script may hold, garbage included.
const MEMORY_MAX: usize = 256 << 20;
/// Bytes that a script may add in the state that is kept.
const KEPT_GROWTH: usize = 8 << 20;
/// A state that has more than this behind a script is not kept.
const KEPT_MAX: usize = 16 << 20;
/// Milliseconds that FUNCTION LOAD may take.
const LOAD_MS: i64 = 500;

thread_local! {
    /// The state that scripts share: a memo of compiled texts, nothing that a script could see.
    static KEPT: RefCell<Option<State>> = const { RefCell::new(None) };
    /// Whether the last script of this thread ran a command that reads.
    static READ: Cell<bool> = const { Cell::new(false) };
}

/// Whether the script that ran last on this thread has looked at keys by a command that reads. Who asks does so right
/// behind the script; it may be said of one that did not, never kept from one that did.
pub fn script_has_read() -> bool {
    READ.get()
}

/// The script that runs, or whose reply is given again, reads.
pub(crate) fn note_read() {
    READ.set(true);
}

/// What runs.
pub(super) enum Program<'a> {
    /// A script, with its name and its text behind the first line.
    Script(&'a Sha, &'a [u8]),
    /// A function of a library.
    Function(&'a Library, &'a FunctionRow),
}

/// How a run ended.
enum Ended<T> {
    /// With what it was for.
    Well(T),
    /// With an error.
    Badly(Error),
    /// The state's memory ran out.
    Starved,
}

impl<T> Ended<T> {
    fn from_lua(result: mlua::Result<Ended<T>>) -> Ended<T> {
        match result {
            Ok(ended) => ended,
            Err(error) if is_memory(&error) => Ended::Starved,
            Err(error) => Ended::Badly(host(&error.to_string())),
        }
    }
}

/// An error of the Lua state itself.
fn host(text: &str) -> Error {
    Error::text(format!("ERR Error running script: {}", text.lines().next().unwrap_or_default()))
}

/// Runs `work` in the state that is kept, and again in a new one when its memory runs out.
fn with_state<T>(
    threshold_ms: i64,
    again: impl FnOnce(),
    work: impl Fn(&mut State) -> mlua::Result<Ended<T>>,
) -> (Result<T, Error>, bool) {
    let attempt = |state: &mut State, limit: usize| -> mlua::Result<Ended<T>> {
        state.lua.set_memory_limit(limit)?;
        state.meter.start(&state.lua, threshold_ms)?;
        super::library::json_options::reset(&state.lua);
        let ended = work(state);
        state.lua.set_memory_limit(0)?;
        ended
    };
    let kept = KEPT.take().map_or_else(State::new, Ok);
    if let Ok(mut state) = kept {
        let limit = state.lua.used_memory() + KEPT_GROWTH;
        let ended = Ended::from_lua(attempt(&mut state, limit));
        let (starved, stopped) = (state.meter.is_starved() || matches!(ended, Ended::Starved), state.meter.is_empty());
        let keeps = !starved && !stopped && state.lua.used_memory() <= KEPT_MAX;
        KEPT.set(keeps.then_some(state));
        match ended {
            Ended::Well(value) if !starved => return (Ok(value), stopped),
            Ended::Badly(error) if !starved => return (Err(error), stopped),
            _ => again(),
        }
    }
    let mut state = match State::new() {
        Ok(state) => state,
        Err(error) => return (Err(host(&error.to_string())), false),
    };
    let ended = Ended::from_lua(attempt(&mut state, MEMORY_MAX));
    let result = match ended {
        Ended::Well(value) if !state.meter.is_starved() => Ok(value),
        Ended::Badly(error) if !state.meter.is_starved() => Err(error),
        _ => Err(host("not enough memory")),
    };
    (result, state.meter.is_empty())
}

/// A text as a function, or why it is none.
fn compile(state: &mut State, sha: &Sha, origin: Origin, text: &[u8]) -> mlua::Result<Result<Function, Error>> {
    match state.chunk(sha, origin, text) {
        Err(mlua::Error::SyntaxError { message, .. }) => {
            let what = if origin == Origin::Script { "script (new function)" } else { "function" };
            Ok(Err(Error::text(format!("ERR Error compiling {what}: {message}"))))
        }
        other => other.map(Ok),
    }
}

/// Whether a text is a script.
///
/// # Errors
/// When it cannot be compiled.
pub(super) fn check(sha: &Sha, body: &[u8]) -> Result<(), Error> {
    let (_, text) = header::script(body)?;
    let work = |state: &mut State| match compile(state, sha, Origin::Script, text)? {
        Ok(_) => Ok(Ended::Well(())),
        Err(error) => Ok(Ended::Badly(error)),
    };
    with_state(0, || (), work).0
}

/// Runs the first level of a library: the functions that it registers.
///
/// # Errors
/// As Redis words them.
pub(super) fn load(sha: &Sha, text: &[u8]) -> Result<Vec<FunctionRow>, Error> {
    let work = |state: &mut State| {
        let main = match compile(state, sha, Origin::Library, text)? {
            Ok(main) => main,
            Err(error) => return Ok(Ended::Badly(error)),
        };
        let (ended_well, value): (bool, Value) = state.load.call(main)?;
        match value {
            Value::Table(rows) if ended_well => {
                rows.sequence_values().map(row).collect::<mlua::Result<_>>().map(Ended::Well)
            }
            value => {
                let (text, _) = thrown(&value)?;
                Ok(Ended::Badly(Error::quoting(&[b"ERR Error registering functions: ", &text])))
            }
        }
    };
    match with_state(LOAD_MS, || (), work) {
        (_, true) => Err(Error::text("ERR Error registering functions: ERR FUNCTION LOAD timeout")),
        (result, false) => result,
    }
}

/// A function as the prelude noted it.
fn row(row: mlua::Result<Table>) -> mlua::Result<FunctionRow> {
    let row = row?;
    let bytes = |text: mlua::LuaString| text.as_bytes().to_vec();
    Ok(FunctionRow {
        name: bytes(row.raw_get("name")?),
        description: row.raw_get::<Option<mlua::LuaString>>("description")?.map(bytes),
        flags: Flags::new(row.raw_get::<Option<u8>>("flags")?.unwrap_or(0)),
    })
}

/// Whether a script may run here at all; `flags` are those that it gave itself.
fn admit(world: &mut World<'_>, flags: Option<Flags>) -> Result<(), Error> {
    let Some(flags) = flags else { return Ok(()) };
    if flags.no_cluster() && world.keyspace().slots().is_some() {
        return Err(Error::text("ERR Can not run script on cluster, 'no-cluster' flag is set."));
    }
    if matches!(world, World::Read(..)) && !flags.no_writes() {
        return Err(Error::text("ERR Can not execute a script with write flag using *_ro command."));
    }
    if let World::Write(_, context) = world {
        if context.short && !flags.allow_oom() {
            return Err(Error::text(
                "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
            ));
        }
        context.short = false;
    }
    Ok(())
}

/// Runs a script or a function; `keys` words of `argv` from the fourth on are keys, the rest are arguments. One that
/// is stopped leaves no write behind.
///
/// # Errors
/// Those of the script.
pub(super) fn run(
    mut world: World<'_>,
    flags: Option<Flags>,
    program: &Program<'_>,
    keys: usize,
    argv: &Argv,
) -> CommandResult {
    READ.set(false);
    admit(&mut world, flags)?;
    let permits = Permits {
        read_only: flags.is_some_and(Flags::no_writes),
        cross_slot: flags.is_none_or(Flags::cross_slot),
        slot: Cell::new((keys > 0).then(|| slot(&argv[3]))),
    };
    let (threshold_ms, database) = (world.keyspace().settings().busy_reply_threshold, *world.database());
    if let World::Write(keyspace, _) = &mut world {
        keyspace.begin_undo();
    }
    let running = Running::new(world, permits);
    let (result, stopped) =
        with_state(threshold_ms, || running.rewind(), |state| execute(state, &running, program, keys, argv));
    let mut world = running.world.into_inner();
    *world.database() = database;
    if let World::Write(keyspace, _) = &mut world {
        if stopped { keyspace.roll_back() } else { keyspace.end_undo() }
    }
    if stopped {
        return Err(Error::quoting(&[
            b"ERR script ",
            program.name(),
            b" was stopped and its writes were taken back: it needs more instructions than busy-reply-threshold allows",
        ]));
    }
    result
}

impl Program<'_> {
    /// How error messages name it.
    fn name(&self) -> &[u8] {
        match self {
            Program::Script(sha, _) => &sha[..],
            Program::Function(_, function) => &function.name,
        }
    }
}

fn execute(
    state: &mut State,
    running: &Running<'_>,
    program: &Program<'_>,
    keys: usize,
    argv: &Argv,
) -> mlua::Result<Ended<Reply>> {
    let compiled = match program {
        Program::Script(sha, text) => compile(state, sha, Origin::Script, text)?,
        Program::Function(library, _) => compile(state, &library.sha, Origin::Library, library.text())?,
    };
    let main = match compiled {
        Ok(main) => main,
        Err(error) => return Ok(Ended::Badly(error)),
    };
    let lua = &state.lua;
    let words = |from: usize, to: usize| {
        let table = lua.create_table_with_capacity(to - from, 0)?;
        (from..to).try_for_each(|at| table.raw_push(lua.create_string(&argv[at])?))?;
        Ok::<_, mlua::Error>(table)
    };
    let (keys, arguments) = (words(3, 3 + keys)?, words(3 + keys, argv.len())?);
    running.within(state, || {
        let (ended_well, value): (bool, Value) = match program {
            Program::Script(..) => state.script.call((main, keys, arguments))?,
            Program::Function(_, function) => {
                state.call.call((main, lua.create_string(&function.name)?, keys, arguments))?
            }
        };
        if ended_well {
            return convert::from_lua(&value, state.resp3.get()).map(Ended::Well);
        }
        failure(&value, program.name())
    })
}

/// The text of what a script threw, and where.
fn thrown(value: &Value) -> mlua::Result<(Vec<u8>, Vec<u8>)> {
    let Value::Table(table) = value else {
        return Ok((b"ERR the script failed without saying why".to_vec(), Vec::new()));
    };
    let message = match table.raw_get("err")? {
        Value::String(text) => text.as_bytes().to_vec(),
        _ => b"ERR unknown error".to_vec(),
    };
    let one_line = message.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b }).collect();
    let place = match (table.raw_get::<Option<String>>("source")?, table.raw_get::<Option<usize>>("line")?) {
        (Some(source), Some(line)) => format!(", on {source}:{line}").into_bytes(),
        _ => Vec::new(),
    };
    Ok((one_line, place))
}

/// What a client reads of an error that ended a script.
fn failure(value: &Value, name: &[u8]) -> mlua::Result<Ended<Reply>> {
    if let Value::String(text) = value
        && *text.as_bytes() == b"not enough memory"[..]
    {
        return Ok(Ended::Starved);
    }
    if let Value::Error(error) = value
        && is_memory(error)
    {
        return Ok(Ended::Starved);
    }
    let (message, place) = thrown(value)?;
    Ok(Ended::Badly(Error::quoting(&[&message, b" script: ", name, &place, b"."])))
}
