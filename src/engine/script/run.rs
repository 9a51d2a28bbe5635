//! One run of a script, from its text to its reply.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use mlua::chunk::ChunkMode;
use mlua::{Function, Lua, Table, Value};
use quoris_resp::Argv;

use super::bodies::Sha;
use super::call::World;
use super::convert;
use super::header;
use super::sandbox::{self, CHUNK, Meter, Running};
use crate::{CommandResult, Error};

/// Whether a text is a script.
///
/// # Errors
/// When it cannot be compiled.
pub(super) fn check(body: &[u8]) -> Result<(), Error> {
    let (_, text) = header::read(body)?;
    let lua = sandbox::state(&Rc::new(Meter::new(0))).map_err(|e| host(&e))?;
    compile(&lua, text).map(drop)
}

fn compile(lua: &Lua, text: &[u8]) -> Result<Function, Error> {
    let compiled = lua.load(text).set_name(CHUNK).set_mode(ChunkMode::Text).into_function();
    compiled.map_err(|error| {
        let message = match &error {
            mlua::Error::SyntaxError { message, .. } => message.clone(),
            other => other.to_string(),
        };
        Error::text(format!("ERR Error compiling script (new function): {message}"))
    })
}

/// An error of the Lua state itself, such as one out of memory.
fn host(error: &mlua::Error) -> Error {
    let text = error.to_string();
    Error::text(format!("ERR Error running script: {}", text.lines().next().unwrap_or_default()))
}

/// Runs a script; `keys` words of `argv` from the fourth on are keys, the rest are arguments. A script that is
/// stopped leaves no write behind.
///
/// # Errors
/// Those of the script.
pub(super) fn run(mut world: World<'_>, sha: &Sha, body: &[u8], keys: usize, argv: &Argv) -> CommandResult {
    let (header, text) = header::read(body)?;
    let meter = Rc::new(Meter::new(world.threshold_ms()));
    let database = *world.database();
    let random = world.random();
    if let World::Write(keyspace, _) = &mut world {
        keyspace.begin_undo();
    }
    let running = Running { world: RefCell::new(world), header, resp3: Cell::new(false), random: Cell::new(random) };
    let result = execute(&running, &meter, sha, text, keys, argv);
    let mut world = running.world.into_inner();
    *world.database() = database;
    let stopped = meter.is_empty();
    if let World::Write(keyspace, _) = &mut world {
        if stopped { keyspace.roll_back() } else { keyspace.end_undo() }
    }
    if stopped {
        return Err(Error::text(format!(
            "ERR script {} was stopped and its writes were taken back: it needs more instructions than \
             busy-reply-threshold allows",
            String::from_utf8_lossy(sha)
        )));
    }
    result
}

fn execute(
    running: &Running<'_>,
    meter: &Rc<Meter>,
    sha: &Sha,
    text: &[u8],
    keys: usize,
    argv: &Argv,
) -> CommandResult {
    let lua = sandbox::state(meter).map_err(|e| host(&e))?;
    let script = compile(&lua, text)?;
    let outcome = lua.scope(|scope| {
        let (keys, arguments) = words(&lua, keys, argv)?;
        let run = sandbox::furnish(&lua, scope, running, keys, arguments)?;
        let (ended_well, value): (bool, Value) = run.call(script)?;
        if ended_well {
            return Ok(Ok(convert::from_lua(&value, running.resp3.get())));
        }
        Ok(Err(failure(&value, sha)?))
    });
    match outcome {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(error),
        Err(error) => Err(host(&error)),
    }
}

fn words(lua: &Lua, keys: usize, argv: &Argv) -> mlua::Result<(Table, Table)> {
    let table = |from: usize, to: usize| lua.create_sequence_from((from..to).map(|at| Word(&argv[at])));
    Ok((table(3, 3 + keys)?, table(3 + keys, argv.len())?))
}

/// Bytes that become a Lua string.
struct Word<'a>(&'a [u8]);

impl mlua::IntoLua for Word<'_> {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        lua.create_string(self.0).map(Value::String)
    }
}

/// What a client reads of an error that ended a script.
fn failure(value: &Value, sha: &Sha) -> mlua::Result<Error> {
    let Value::Table(table) = value else {
        return Ok(Error::text("ERR the script failed without saying why"));
    };
    let message = match table.raw_get("err")? {
        Value::String(text) => text.as_bytes().to_vec(),
        _ => b"ERR unknown error".to_vec(),
    };
    let one_line: Vec<u8> = message.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b }).collect();
    let line: Option<usize> = table.raw_get("line")?;
    let place = line.map(|line| format!(", on @user_script:{line}")).unwrap_or_default();
    Ok(Error::quoting(&[&one_line, b" script: ", sha, place.as_bytes(), b"."]))
}
