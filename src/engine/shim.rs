//! Stand-in for the command table until the real one is here: a few commands for tests.

use quoris_resp::{Argv, Reply};
use smallvec::SmallVec;

use crate::command::{ApplyContext, Handler};
use crate::{CommandResult, Error, Keyspace, payload};

/// A row.
#[derive(Debug)]
pub struct Command {
    name: &'static str,
    arity: i32,
    /// How it runs.
    pub handler: Handler,
    keys: (usize, usize),
}

/// A row that was looked up.
#[derive(Debug)]
pub struct Found {
    /// The row.
    pub command: &'static Command,
}

impl Command {
    /// Positions of the keys.
    pub fn keys(&self, argv: &Argv) -> Result<SmallVec<[usize; 4]>, Error> {
        Ok((self.keys.0..argv.len().min(self.keys.1)).collect())
    }
}

const ROWS: &[Command] = &[
    Command { name: "set", arity: -3, handler: Handler::Write(set), keys: (1, 2) },
    Command { name: "get", arity: 2, handler: Handler::Read(get), keys: (1, 2) },
    Command { name: "del", arity: -2, handler: Handler::Write(del), keys: (1, usize::MAX) },
    Command { name: "incr", arity: 2, handler: Handler::Write(incr), keys: (1, 2) },
    Command { name: "append", arity: 3, handler: Handler::Write(append), keys: (1, 2) },
    Command { name: "pexpireat", arity: 3, handler: Handler::Write(pexpireat), keys: (1, 2) },
    Command { name: "flushall", arity: -1, handler: Handler::Write(flushall), keys: (0, 0) },
    Command { name: "swapdb", arity: 3, handler: Handler::Write(swapdb), keys: (0, 0) },
    Command { name: "ping", arity: -1, handler: Handler::Server, keys: (0, 0) },
];

/// The row that an argv names, its arity checked.
pub fn lookup(argv: &Argv) -> Result<Found, Error> {
    let name = String::from_utf8_lossy(&argv[0]).to_lowercase();
    let command = ROWS.iter().find(|c| c.name == name);
    let command = command.ok_or_else(|| Error::text(format!("ERR unknown command '{name}'")))?;
    let wanted = command.arity.unsigned_abs() as usize;
    let fits = if command.arity < 0 { argv.len() >= wanted } else { argv.len() == wanted };
    if fits { Ok(Found { command }) } else { Err(Error::Arity(name)) }
}

fn number(text: &[u8]) -> Result<i64, Error> {
    payload::canonical_int(text).ok_or(Error::NotAnInteger)
}

fn set(keys: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let deadline = match argv.get(4) {
        Some(ms) => Some(context.now_ms + number(ms)? as u64),
        None => None,
    };
    keys.set(context.database, &argv[1], payload::from_bytes(argv[2].to_vec()), deadline);
    Ok(Reply::Ok)
}

fn text(keys: &Keyspace, database: u32, key: &[u8]) -> Option<Vec<u8>> {
    let crate::Value::String(value) = keys.value(database, key)?;
    Some(payload::string_bytes(value).into_owned())
}

fn get(keys: &Keyspace, context: &crate::command::ReadContext, argv: &Argv) -> CommandResult {
    Ok(text(keys, context.database, &argv[1]).map_or(Reply::Null, Reply::bulk))
}

fn del(keys: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let count = argv.iter().skip(1).filter(|key| keys.remove(context.database, key).is_some()).count();
    Ok(Reply::Int(count as i64))
}

fn incr(keys: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let n = text(keys, context.database, &argv[1]).map_or(Ok(0), |text| number(&text))? + 1;
    let deadline = keys.entry(context.database, &argv[1]).and_then(|e| e.expire_at_ms);
    keys.set(context.database, &argv[1], payload::from_bytes(n.to_string().into_bytes()), deadline);
    Ok(Reply::Int(n))
}

fn append(keys: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let Some(mut edit) = keys.edit(context.database, &argv[1]) else { return set(keys, context, argv) };
    let crate::Value::String(value) = &*edit;
    let mut bytes = payload::string_bytes(value).into_owned();
    bytes.extend_from_slice(&argv[2]);
    let len = bytes.len() as i64;
    *edit = payload::raw_from_bytes(bytes);
    Ok(Reply::Int(len))
}

fn pexpireat(keys: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let deadline = number(&argv[2])? as u64;
    if deadline <= context.now_ms {
        return Ok(Reply::Int(i64::from(keys.delete(context.database, &argv[1]))));
    }
    Ok(Reply::Int(i64::from(keys.set_expire(context.database, &argv[1], Some(deadline)))))
}

fn flushall(keys: &mut Keyspace, _: &mut ApplyContext, _: &Argv) -> CommandResult {
    (0..keys.databases()).for_each(|database| {
        keys.clear(database);
    });
    Ok(Reply::Ok)
}

fn swapdb(keys: &mut Keyspace, _: &mut ApplyContext, argv: &Argv) -> CommandResult {
    keys.swap(number(&argv[1])? as u32 % keys.databases(), number(&argv[2])? as u32 % keys.databases());
    Ok(Reply::Ok)
}
