//! Scripts and functions: EVAL, FCALL and their kin.
//!
//! A script runs at apply, on every replica, and sees nothing but the keys, its arguments and what the entry gives.
//! Its instructions and its memory are counted, both the same on every replica: a script that passes its budget ends
//! with an error everywhere and its writes are taken back. Scripts share a Lua state, in which nothing of one can
//! reach another (`prelude.lua`).
//!
//! Bodies that were loaded or run, and libraries of functions, are state of the group, so EVALSHA and FCALL survive
//! a failover and a restart.
//!
//! Invariants:
//! * What a script can observe is a function of state and entry: no clock, no address, no chance of its own.
//! * Nothing that a script does reaches another script but through the keys.

mod bodies;
mod call;
mod commands;
mod convert;
mod functions;
mod header;
mod libraries;
mod library;
mod meter;
mod run;
mod running;
mod sandbox;

pub(crate) use bodies::Bodies;
pub(crate) use libraries::Libraries;
pub(crate) use run::note_read;
pub use run::script_has_read;

use crate::command::*;

const SCRIPTING: Command = Command { group: Group::Scripting, categories: Some(category::SCRIPTING), ..ROW };
const RUNNER: Flags = NOSCRIPT.with(SKIP_MONITOR).with(NO_MANDATORY_KEYS).with(STALE);
const RUN: Command = Command {
    arity: -3,
    flags: RUNNER,
    keys: &[counted(RW_ACCESS_UPDATE, 2, 1)],
    complexity: "What the script does.",
    since: "2.6.0",
    ..SCRIPTING
};
const RUN_READING: Command =
    Command { flags: RUNNER.with(READONLY), keys: &[counted(RO_ACCESS, 2, 1)], since: "7.0.0", ..RUN };
const SUB: Command = Command { flags: NOSCRIPT, since: "2.6.0", ..SCRIPTING };
const ALL_SHARDS: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];
const ALL_NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

/// The rows of the scripting commands.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command { name: "eval", summary: "Runs a script.", syntax: "script numkeys [key ...] [arg ...]",
        handler: Handler::Write(commands::eval), ..RUN },
    Command { name: "evalsha", summary: "Runs a script that is known by its SHA1.",
        syntax: "sha1 numkeys [key ...] [arg ...]", handler: Handler::Write(commands::evalsha), ..RUN },
    Command { name: "eval_ro", summary: "Runs a script that only reads.", syntax: "script numkeys [key ...] [arg ...]",
        handler: Handler::Read(commands::eval_ro), ..RUN_READING },
    Command { name: "evalsha_ro", summary: "Runs a script that only reads and is known by its SHA1.",
        syntax: "sha1 numkeys [key ...] [arg ...]", handler: Handler::Read(commands::evalsha_ro), ..RUN_READING },
    Command { name: "fcall", summary: "Runs a function.", syntax: "function numkeys [key ...] [arg ...]",
        since: "7.0.0", handler: Handler::Write(functions::fcall), ..RUN },
    Command { name: "fcall_ro", summary: "Runs a function that only reads.",
        syntax: "function numkeys [key ...] [arg ...]", handler: Handler::Read(functions::fcall_ro), ..RUN_READING },
    Command { name: "function", arity: -2, since: "7.0.0", summary: "Holds the commands for functions.",
        complexity: "See the subcommands.", categories: Some(category::NONE), handler: Handler::Container,
        subcommands: FUNCTION, ..SCRIPTING },
    Command { name: "script", arity: -2, since: "2.6.0", summary: "Holds the commands for scripts.", complexity: "See the subcommands.",
        categories: Some(category::NONE), handler: Handler::Container, subcommands: SCRIPT, ..SCRIPTING },
];

#[rustfmt::skip]
const SCRIPT: &[Command] = &[
    Command { name: "load", arity: 3, flags: NOSCRIPT.with(STALE), complexity: "O(N) for a script of N bytes",
        summary: "Keeps a script, and gives the SHA1 by which EVALSHA runs it.", syntax: "script", tips: ALL_NODES,
        handler: Handler::Write(commands::load), ..SUB },
    Command { name: "exists", arity: -3, complexity: "O(N) for N scripts",
        summary: "Tells which scripts are known.", syntax: "sha1 ...",
        tips: &["request_policy:all_shards", "response_policy:agg_logical_and"],
        handler: Handler::Read(commands::exists), ..SUB },
    Command { name: "show", arity: 3, flags: NOSCRIPT.with(STALE), since: "8.0.0", summary: "Gives a script's text.",
        syntax: "sha1", handler: Handler::Read(commands::show), ..SUB },
    Command { name: "flush", arity: -2, complexity: "O(N) for N scripts", summary: "Forgets all scripts.",
        syntax: "[ASYNC | SYNC]", tips: ALL_NODES, handler: Handler::Write(commands::flush), ..SUB },
    Command { name: "kill", arity: 2, flags: NOSCRIPT.with(ALLOW_BUSY), summary: "Ends a script that runs too long.",
        tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
        handler: Handler::Read(commands::kill), ..SUB },
    Command { name: "debug", arity: 3, since: "3.2.0", summary: "Would set the mode of the script debugger.",
        syntax: "{YES | SYNC | NO}", handler: Handler::Read(commands::debug), ..SUB },
    Command { name: "help", arity: 2, flags: LOADING.with(STALE), since: "5.0.0",
        summary: "Lists these subcommands.", handler: Handler::Read(commands::help), ..SUB },
];

const LIBRARY: Command = Command { flags: NOSCRIPT, since: "7.0.0", ..SCRIPTING };
const CHANGE: Command = Command { flags: NOSCRIPT.with(WRITE), tips: ALL_SHARDS, ..LIBRARY };

#[rustfmt::skip]
const FUNCTION: &[Command] = &[
    Command { name: "load", arity: -3, flags: NOSCRIPT.with(WRITE).with(DENYOOM), complexity: "O(1), and what the library does.",
        summary: "Keeps a library of functions, and gives its name.", syntax: "[REPLACE] function-code",
        handler: Handler::Write(functions::load), ..CHANGE },
    Command { name: "delete", arity: 3, summary: "Removes a library and its functions.", syntax: "library-name",
        handler: Handler::Write(functions::delete), ..CHANGE },
    Command { name: "flush", arity: -2, complexity: "O(N) for N functions", summary: "Removes all libraries.",
        syntax: "[ASYNC | SYNC]", handler: Handler::Write(functions::flush), ..CHANGE },
    Command { name: "restore", arity: -3, flags: NOSCRIPT.with(WRITE).with(DENYOOM), complexity: "O(N) for N functions",
        summary: "Adds the libraries that FUNCTION DUMP gave.", syntax: "serialized-value [FLUSH | APPEND | REPLACE]",
        handler: Handler::Write(functions::restore), ..CHANGE },
    Command { name: "dump", arity: 2, complexity: "O(N) for N functions", summary: "Gives all libraries as bytes.",
        handler: Handler::Read(functions::dump), ..LIBRARY },
    Command { name: "list", arity: -2, complexity: "O(N) for N functions", summary: "Lists libraries and functions.",
        syntax: "[LIBRARYNAME library-name-pattern] [WITHCODE]", tips: &["nondeterministic_output_order"],
        handler: Handler::Read(functions::list), ..LIBRARY },
    Command { name: "stats", arity: 2, flags: NOSCRIPT.with(ALLOW_BUSY), summary: "Counts libraries and functions.",
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        handler: Handler::Read(functions::stats), ..LIBRARY },
    Command { name: "kill", arity: 2, flags: NOSCRIPT.with(ALLOW_BUSY), summary: "Ends a function that runs too long.",
        tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
        handler: Handler::Read(commands::kill), ..LIBRARY },
    Command { name: "help", arity: 2, flags: LOADING.with(STALE), summary: "Lists these subcommands.",
        handler: Handler::Read(functions::help), ..LIBRARY },
];

#[cfg(test)]
mod tests;
