//! FUNCTION and FCALL: libraries are state of the group, as scripts are.

use quoris_resp::{Argv, Reply};

use super::call::World;
use super::libraries::{FunctionRow, Libraries, Library};
use super::run::{self, Program};
use crate::command::{ReadContext, by_name, introspect};
use crate::rdb::{self, RdbError};
use crate::{ApplyContext, CommandResult, Error, Keyspace, glob, number};

/// The error of a subcommand that was given too much.
fn syntax(argv: &Argv) -> Error {
    let end = b"'. Try FUNCTION HELP.";
    Error::quoting(&[b"ERR unknown subcommand or wrong number of arguments for '", &argv[1], end])
}

/// The function of a call, its library, and the number of keys.
fn called(keyspace: &Keyspace, argv: &Argv) -> Result<(Library, FunctionRow, usize), Error> {
    let found = keyspace.libraries().function(&argv[1]);
    let (library, function) = found.ok_or_else(|| Error::text("ERR Function not found"))?;
    let keys = number::integer(&argv[2]).ok_or_else(|| Error::text("ERR Bad number of keys provided"))?;
    if keys > (argv.len() - 3) as i64 {
        return Err(Error::text("ERR Number of keys can't be greater than number of args"));
    }
    let keys = usize::try_from(keys).map_err(|_| Error::text("ERR Number of keys can't be negative"))?;
    Ok((library.clone(), function.clone(), keys))
}

/// FCALL
pub(super) fn fcall(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (library, function, keys) = called(keyspace, argv)?;
    let program = Program::Function(&library, &function);
    run::run(World::Write(keyspace, context), Some(function.flags), &program, keys, argv)
}

/// FCALL_RO
pub(super) fn fcall_ro(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let (library, function, keys) = called(keyspace, argv)?;
    let program = Program::Function(&library, &function);
    run::run(World::Read(keyspace, context.clone()), Some(function.flags), &program, keys, argv)
}

/// FUNCTION LOAD
pub(super) fn load(keyspace: &mut Keyspace, _context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let mut replace = false;
    for word in (2..argv.len() - 1).map(|at| &argv[at]) {
        if !word.eq_ignore_ascii_case(b"replace") {
            return Err(Error::quoting(&[b"ERR Unknown option given: ", word]));
        }
        replace = true;
    }
    keyspace.libraries_mut().load(&argv[argv.len() - 1], replace).map(Reply::bulk)
}

/// FUNCTION DELETE
pub(super) fn delete(keyspace: &mut Keyspace, _context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    if keyspace.libraries_mut().delete(&argv[2]) { Ok(Reply::Ok) } else { Err(Error::text("ERR Library not found")) }
}

/// FUNCTION FLUSH
pub(super) fn flush(keyspace: &mut Keyspace, _context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    if argv.len() > 3 {
        return Err(syntax(argv));
    }
    match argv.get(2).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"async" | b"sync") => {
            *keyspace.libraries_mut() = Libraries::default();
            Ok(Reply::Ok)
        }
        _ => Err(Error::text("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")),
    }
}

/// FUNCTION RESTORE
pub(super) fn restore(keyspace: &mut Keyspace, _context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    if argv.len() > 4 {
        return Err(syntax(argv));
    }
    let policy = argv.get(3).map_or(b"append".to_vec(), <[u8]>::to_ascii_lowercase);
    if ![&b"append"[..], b"replace", b"flush"].contains(&&policy[..]) {
        return Err(Error::text("ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE."));
    }
    let codes = rdb::restore_functions(&argv[2]).map_err(|error| match error {
        RdbError::Malformed { why, .. } => Error::text(format!("ERR {why}")),
        RdbError::Checksum { .. } => Error::text("ERR DUMP payload version or checksum are wrong"),
        _ => Error::text("ERR failed loading the given functions payload"),
    })?;
    let mut libraries = Libraries::default();
    codes.iter().try_for_each(|code| libraries.load(code, false).map(drop))?;
    match &policy[..] {
        b"flush" => *keyspace.libraries_mut() = libraries,
        other => keyspace.libraries_mut().join(libraries, other == b"replace")?,
    }
    Ok(Reply::Ok)
}

/// FUNCTION DUMP
pub(super) fn dump(keyspace: &Keyspace, _context: &ReadContext, _argv: &Argv) -> CommandResult {
    Ok(Reply::bulk(rdb::dump_functions(keyspace.libraries().codes().map(|code| &code[..]))))
}

fn field(name: &str, value: Reply) -> (Reply, Reply) {
    (Reply::bulk(name), value)
}

/// A function as FUNCTION LIST shows it.
fn listed(function: &FunctionRow) -> Reply {
    Reply::Map(vec![
        field("name", Reply::bulk(&function.name)),
        field("description", function.description.as_ref().map_or(Reply::Null, Reply::bulk)),
        field("flags", Reply::Set(function.flags.names().map(Reply::status).collect())),
    ])
}

/// FUNCTION LIST
pub(super) fn list(keyspace: &Keyspace, _context: &ReadContext, argv: &Argv) -> CommandResult {
    let (mut with_code, mut pattern) = (false, None);
    let mut words = argv.iter().skip(2);
    while let Some(word) = words.next() {
        match word.to_ascii_lowercase().as_slice() {
            b"withcode" if !with_code => with_code = true,
            b"libraryname" if pattern.is_none() => {
                let given = words.next().ok_or_else(|| Error::text("ERR library name argument was not given"))?;
                pattern = Some(given);
            }
            _ => return Err(Error::quoting(&[b"ERR Unknown argument ", word])),
        }
    }
    let fits = |name: &[u8]| pattern.is_none_or(|pattern| glob::matches_case(pattern, name, true));
    let shown = keyspace.libraries().iter().filter(|(name, _)| fits(name)).map(|(name, library)| {
        let mut fields = vec![
            field("library_name", Reply::bulk(name)),
            field("engine", Reply::bulk("LUA")),
            field("functions", Reply::Array(library.functions.iter().map(listed).collect())),
        ];
        if with_code {
            fields.push(field("library_code", Reply::Bulk(library.code.clone())));
        }
        Reply::Map(fields)
    });
    Ok(Reply::Array(shown.collect()))
}

/// FUNCTION STATS: a function ends before anybody could look at it.
pub(super) fn stats(keyspace: &Keyspace, _context: &ReadContext, _argv: &Argv) -> CommandResult {
    let (libraries, functions) = keyspace.libraries().counts();
    let count = |n: usize| Reply::Int(n as i64);
    let counts =
        Reply::Map(vec![field("libraries_count", count(libraries)), field("functions_count", count(functions))]);
    let engines = Reply::Map(vec![field("LUA", counts)]);
    Ok(Reply::Map(vec![field("running_script", Reply::Null), field("engines", engines)]))
}

/// FUNCTION HELP
pub(super) fn help(_keyspace: &Keyspace, _context: &ReadContext, _argv: &Argv) -> CommandResult {
    Ok(by_name(b"function").map_or(Reply::Null, |found| introspect::help(found.command)))
}
