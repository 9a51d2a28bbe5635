//! Scripts: EVAL and its kin.
//!
//! A script runs at apply, on every replica, in a Lua state that was made for it alone and that sees nothing but
//! the keys, its arguments and what the entry gives. Its instructions and its memory are counted, both the same on
//! every replica: a script that passes its budget ends with an error everywhere and its writes are taken back.
//!
//! Bodies that were loaded or run are state of the group, so EVALSHA survives a failover and a restart.
//!
//! Invariants:
//! * What a script can observe is a function of state and entry: no clock, no address, no chance of its own.
//! * Nothing that a script does reaches another script but through the keys.

mod bodies;
mod call;
mod commands;
mod convert;
mod header;
mod library;
mod run;
mod sandbox;

pub(crate) use bodies::Bodies;

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
const ALL: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

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
    Command { name: "script", arity: -2, since: "2.6.0", summary: "Holds the commands for scripts.", complexity: "See the subcommands.",
        categories: Some(category::NONE), handler: Handler::Container, subcommands: SCRIPT, ..SCRIPTING },
];

#[rustfmt::skip]
const SCRIPT: &[Command] = &[
    Command { name: "load", arity: 3, flags: NOSCRIPT.with(STALE), complexity: "O(N) for a script of N bytes",
        summary: "Keeps a script, and gives the SHA1 by which EVALSHA runs it.", syntax: "script", tips: ALL,
        handler: Handler::Write(commands::load), ..SUB },
    Command { name: "exists", arity: -3, complexity: "O(N) for N scripts",
        summary: "Tells which scripts are known.", syntax: "sha1 ...",
        tips: &["request_policy:all_shards", "response_policy:agg_logical_and"],
        handler: Handler::Read(commands::exists), ..SUB },
    Command { name: "show", arity: 3, flags: NOSCRIPT.with(STALE), since: "8.0.0", summary: "Gives a script's text.",
        syntax: "sha1", handler: Handler::Read(commands::show), ..SUB },
    Command { name: "flush", arity: -2, complexity: "O(N) for N scripts", summary: "Forgets all scripts.",
        syntax: "[ASYNC | SYNC]", tips: ALL, handler: Handler::Write(commands::flush), ..SUB },
    Command { name: "kill", arity: 2, flags: NOSCRIPT.with(ALLOW_BUSY), summary: "Ends a script that runs too long.",
        tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
        handler: Handler::Read(commands::kill), ..SUB },
    Command { name: "debug", arity: 3, since: "3.2.0", summary: "Would set the mode of the script debugger.",
        syntax: "{YES | SYNC | NO}", handler: Handler::Read(commands::debug), ..SUB },
    Command { name: "help", arity: 2, flags: LOADING.with(STALE), since: "5.0.0",
        summary: "Lists these subcommands.", handler: Handler::Read(commands::help), ..SUB },
];

#[cfg(test)]
mod tests;
