//! The commands: they find the script and hand it over.

use bytes::Bytes;
use quoris_resp::{Argv, Reply};

use super::bodies::{Sha, name, sha};
use super::call::World;
use super::header;
use super::run::{self, Program};
use crate::command::{ReadContext, by_name, introspect};
use crate::number;
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// The words of a call behind the script: how many of them are keys.
fn keys(argv: &Argv) -> Result<usize, Error> {
    let keys = number::integer(&argv[2]).ok_or(Error::NotAnInteger)?;
    let keys = usize::try_from(keys).map_err(|_| Error::text("ERR Number of keys can't be negative"))?;
    if keys > argv.len() - 3 {
        return Err(Error::text("ERR Number of keys can't be greater than number of args"));
    }
    Ok(keys)
}

fn known(keyspace: &Keyspace, text: &[u8]) -> Result<(Sha, Bytes), Error> {
    let found = name(text).and_then(|sha| Some((sha, keyspace.scripts().get(&sha)?.clone())));
    found.ok_or_else(no_script)
}

fn no_script() -> Error {
    Error::text("NOSCRIPT No matching script. Please use EVAL.")
}

fn evaluate(world: World<'_>, sha: &Sha, body: &[u8], keys: usize, argv: &Argv) -> CommandResult {
    let (flags, text) = header::script(body)?;
    run::run(world, flags, &Program::Script(sha, text), keys, argv)
}

impl Keyspace {
    /// Whether a command that runs a script says, or names a function that said, that it does not write.
    pub fn promises_no_writes(&self, argv: &Argv) -> bool {
        let Some(named) = argv.get(1) else { return false };
        let flags = match &argv[0].to_ascii_lowercase()[..] {
            b"eval" => header::script(named).ok().and_then(|(flags, _)| flags),
            b"evalsha" => known(self, named).ok().and_then(|(_, body)| header::script(&body).ok()?.0),
            b"fcall" => self.libraries().function(named).map(|(_, function)| function.flags),
            _ => None,
        };
        flags.is_some_and(header::Flags::no_writes)
    }
}

/// EVAL
pub(super) fn eval(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let keys = keys(argv)?;
    let sha = sha(&argv[1]);
    let reply = evaluate(World::Write(keyspace, context), &sha, &argv[1], keys, argv)?;
    keyspace.scripts_mut().cache(sha, &argv[1]);
    Ok(reply)
}

/// EVALSHA
pub(super) fn evalsha(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    name(&argv[1]).ok_or_else(no_script)?;
    let keys = keys(argv)?;
    let (sha, body) = known(keyspace, &argv[1])?;
    evaluate(World::Write(keyspace, context), &sha, &body, keys, argv)
}

/// EVAL_RO: the script is not kept, because a read changes nothing.
pub(super) fn eval_ro(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    evaluate(World::Read(keyspace, context.clone()), &sha(&argv[1]), &argv[1], keys(argv)?, argv)
}

/// EVALSHA_RO
pub(super) fn evalsha_ro(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    name(&argv[1]).ok_or_else(no_script)?;
    let keys = keys(argv)?;
    let (sha, body) = known(keyspace, &argv[1])?;
    evaluate(World::Read(keyspace, context.clone()), &sha, &body, keys, argv)
}

/// SCRIPT LOAD
pub(super) fn load(keyspace: &mut Keyspace, _context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let sha = sha(&argv[2]);
    run::check(&sha, &argv[2])?;
    keyspace.scripts_mut().load(sha, &argv[2]);
    Ok(Reply::bulk(sha))
}

/// SCRIPT EXISTS
pub(super) fn exists(keyspace: &Keyspace, _context: &ReadContext, argv: &Argv) -> CommandResult {
    let is_known = |text| name(text).is_some_and(|sha| keyspace.scripts().get(&sha).is_some());
    Ok(Reply::Array(argv.iter().skip(2).map(|text| Reply::Int(i64::from(is_known(text)))).collect()))
}

/// SCRIPT SHOW
pub(super) fn show(keyspace: &Keyspace, _context: &ReadContext, argv: &Argv) -> CommandResult {
    known(keyspace, &argv[2]).map(|(_, body)| Reply::Bulk(body))
}

/// SCRIPT FLUSH
pub(super) fn flush(keyspace: &mut Keyspace, _context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let word = argv.get(2).map(<[u8]>::to_ascii_lowercase);
    match word.as_deref() {
        None | Some(b"async" | b"sync") if argv.len() <= 3 => {
            *keyspace.scripts_mut() = super::Bodies::default();
            Ok(Reply::Ok)
        }
        _ => Err(Error::text("ERR SCRIPT FLUSH only support SYNC|ASYNC option")),
    }
}

/// SCRIPT KILL: a script ends by itself before anybody could kill it.
pub(super) fn kill(_keyspace: &Keyspace, _context: &ReadContext, _argv: &Argv) -> CommandResult {
    Err(Error::text("NOTBUSY No scripts in execution right now."))
}

/// SCRIPT DEBUG
pub(super) fn debug(_keyspace: &Keyspace, _context: &ReadContext, _argv: &Argv) -> CommandResult {
    Err(Error::text("ERR there is no script debugger: scripts run in the log, on every replica"))
}

/// SCRIPT HELP
pub(super) fn help(_keyspace: &Keyspace, _context: &ReadContext, _argv: &Argv) -> CommandResult {
    Ok(by_name(b"script").map_or(Reply::Null, |found| introspect::help(found.command)))
}
