//! COMMAND and its subcommands, and HELP of every container: answers from the table alone.
//!
//! The shapes are those that redis-cli, redis-py's cluster client and others read: a command is
//! `[name, arity, flags, first, last, step, categories, tips, key specs, subcommands]`.

use quoris_resp::{Argv, Reply};

use super::flags::{Categories, NO_MANDATORY_KEYS};
use super::keys::{Begin, Find, KeySpec};
use super::{Command, Found, by_name, lookup, syntax, walk};
use crate::{CommandResult, Error, glob};

/// Answers `COMMAND` and `COMMAND <subcommand> …`.
///
/// # Errors
/// As Redis words them.
pub fn command(argv: &Argv) -> CommandResult {
    let Some(sub) = argv.get(1) else { return Ok(all()) };
    match &sub.to_ascii_uppercase()[..] {
        b"COUNT" => Ok(count()),
        b"LIST" => list(argv),
        b"INFO" => Ok(if argv.len() == 2 { all() } else { info(argv.iter().skip(2)) }),
        b"DOCS" => Ok(docs(argv.iter().skip(2))),
        b"GETKEYS" => get_keys(argv, false),
        b"GETKEYSANDFLAGS" => get_keys(argv, true),
        b"HELP" => Ok(by_name(b"command").map_or(Reply::Null, |found| help(found.command))),
        _ => lookup(argv).map(|_| Reply::Null),
    }
}

fn top_level() -> impl Iterator<Item = Found> {
    walk().filter(|found| found.container.is_none())
}

/// `COMMAND`: every command.
pub fn all() -> Reply {
    Reply::Array(top_level().map(|found| describe(&found)).collect())
}

/// `COMMAND COUNT`: commands without their subcommands.
pub fn count() -> Reply {
    Reply::Int(top_level().count() as i64)
}

/// `COMMAND INFO`: the named commands, null for one that is not known.
pub fn info<'a>(names: impl Iterator<Item = &'a [u8]>) -> Reply {
    Reply::Array(names.map(|name| by_name(name).map_or(Reply::Null, |found| describe(&found))).collect())
}

fn status_set(names: impl Iterator<Item = &'static str>) -> Reply {
    Reply::Set(names.map(Reply::status).collect())
}

fn describe(found: &Found) -> Reply {
    let command = found.command;
    let (range, _) = command.legacy_range();
    let categories = command.all_categories().names().map(|name| Reply::Status(format!("@{name}").into()));
    Reply::Array(vec![
        Reply::bulk(found.full_name()),
        Reply::Int(i64::from(command.arity)),
        status_set(command.all_flags().names()),
        Reply::Int(i64::from(range.first)),
        Reply::Int(i64::from(range.last)),
        Reply::Int(i64::from(range.step)),
        Reply::Set(categories.collect()),
        Reply::Set(command.tips.iter().map(Reply::bulk).collect()),
        Reply::Set(command.keys.iter().map(key_spec).collect()),
        Reply::Set(subcommands(found).map(|sub| describe(&sub)).collect()),
    ])
}

fn subcommands(found: &Found) -> impl Iterator<Item = Found> {
    let (container, id) = (found.command, found.id);
    container.subcommands.iter().zip(id + 1..).map(move |(command, id)| Found {
        command,
        container: Some(container),
        id,
    })
}

fn key_spec(spec: &KeySpec) -> Reply {
    let number = |key: &'static str, n: i64| (Reply::bulk(key), Reply::Int(n));
    let (begin, begin_spec) = match spec.begin {
        Begin::Unknown => ("unknown", vec![]),
        Begin::Index(at) => ("index", vec![number("index", at as i64)]),
        Begin::Keyword { word, start } => {
            ("keyword", vec![(Reply::bulk("keyword"), Reply::bulk(word)), number("startfrom", i64::from(start))])
        }
    };
    let (find, find_spec) = match spec.find {
        Find::Unknown => ("unknown", vec![]),
        Find::Range { last, step, limit } => (
            "range",
            vec![number("lastkey", i64::from(last)), number("keystep", step as i64), number("limit", limit as i64)],
        ),
        Find::Count { count_at, first, step } => (
            "keynum",
            vec![
                number("keynumidx", count_at as i64),
                number("firstkey", first as i64),
                number("keystep", step as i64),
            ],
        ),
    };
    let part = |kind: &str, spec| {
        Reply::Map(vec![(Reply::bulk("type"), Reply::bulk(kind)), (Reply::bulk("spec"), Reply::Map(spec))])
    };
    Reply::Map(vec![
        (Reply::bulk("flags"), status_set(spec.flags.names())),
        (Reply::bulk("begin_search"), part(begin, begin_spec)),
        (Reply::bulk("find_keys"), part(find, find_spec)),
    ])
}

/// `COMMAND DOCS`: the named commands, or all; one that is not known is left out.
pub fn docs<'a>(names: impl ExactSizeIterator<Item = &'a [u8]>) -> Reply {
    let entry = |found: Found| (Reply::bulk(found.full_name()), document(&found));
    if names.len() == 0 {
        return Reply::Map(top_level().map(entry).collect());
    }
    Reply::Map(names.filter_map(by_name).map(entry).collect())
}

fn document(found: &Found) -> Reply {
    let command = found.command;
    let text = |key: &'static str, value: &str| (Reply::bulk(key), Reply::bulk(value));
    let mut fields = vec![
        text("summary", command.summary),
        text("since", command.since),
        text("group", command.group.name()),
        text("complexity", command.complexity),
    ];
    if let Some((since, by)) = command.deprecated {
        fields.push((Reply::bulk("doc_flags"), Reply::Set(vec![Reply::status("deprecated")])));
        fields.push(text("deprecated_since", since));
        fields.push(text("replaced_by", by));
    }
    let arguments = syntax::parse(command.syntax);
    if !arguments.is_empty() {
        fields.push((Reply::bulk("arguments"), syntax::reply(&arguments, command.keys.len())));
    }
    if !command.subcommands.is_empty() {
        let subs = subcommands(found).map(|sub| (Reply::bulk(sub.full_name()), document(&sub)));
        fields.push((Reply::bulk("subcommands"), Reply::Map(subs.collect())));
    }
    Reply::Map(fields)
}

/// `COMMAND LIST`: names, subcommands included, filtered by category or pattern.
///
/// # Errors
/// When the filter is none.
pub fn list(argv: &Argv) -> CommandResult {
    let names = |keep: &dyn Fn(&Found) -> bool| {
        let kept = walk().filter(keep).map(|found| Reply::bulk(found.full_name()));
        Ok(Reply::Array(kept.collect()))
    };
    match (argv.get(2), argv.get(3), argv.get(4), argv.len()) {
        (None, ..) => names(&|_| true),
        (Some(word), Some(filter), Some(value), 5) if word.eq_ignore_ascii_case(b"FILTERBY") => {
            match &filter.to_ascii_uppercase()[..] {
                b"MODULE" => names(&|_| false),
                b"ACLCAT" => {
                    let category = Categories::by_name(value);
                    names(&|found| category.is_some_and(|category| found.command.all_categories().has(category)))
                }
                b"PATTERN" => names(&|found| glob::matches_case(value, found.full_name().as_bytes(), true)),
                _ => Err(Error::Syntax),
            }
        }
        _ => Err(Error::Syntax),
    }
}

/// `COMMAND GETKEYS` and `COMMAND GETKEYSANDFLAGS`.
fn get_keys(argv: &Argv, with_flags: bool) -> CommandResult {
    let wrong = |text: &str| Error::text(format!("ERR {text}"));
    let parts: Vec<&[u8]> = argv.iter().skip(2).collect();
    if parts.is_empty() {
        return Err(lookup(argv).err().unwrap_or_else(|| wrong("Invalid command specified")));
    }
    let inner = Argv::from_parts(&parts);
    let found = match lookup(&inner) {
        Ok(found) => Ok(found),
        Err(Error::Arity(name)) => {
            Err((by_name(name.as_bytes()), wrong("Invalid number of arguments specified for command")))
        }
        Err(_) => Err((None, wrong("Invalid command specified"))),
    };
    let keyless = |command: &Command| command.keys.is_empty() && command.key_finder.is_none();
    let command = match found {
        Ok(found) => found.command,
        Err((Some(found), _)) if keyless(found.command) => return Err(wrong("The command has no key arguments")),
        Err((_, error)) => return Err(error),
    };
    if keyless(command) {
        return Err(wrong("The command has no key arguments"));
    }
    let keys = command.key_uses(&inner)?;
    if keys.is_empty() && !command.flags.has(NO_MANDATORY_KEYS) {
        return Err(wrong("Invalid arguments specified for command"));
    }
    let one = |key: &super::KeyUse| {
        let name = inner.slice(key.position).map_or(Reply::Null, Reply::Bulk);
        if with_flags { Reply::Array(vec![name, status_set(key.flags.names())]) } else { name }
    };
    Ok(Reply::Array(keys.iter().map(one).collect()))
}

/// HELP of a row that has subcommands: one line each with its arguments, one with what it does.
pub fn help(container: &Command) -> Reply {
    let name = container.name.to_ascii_uppercase();
    let mut lines =
        vec![Reply::Status(format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:").into())];
    for sub in container.subcommands {
        let usage = format!("{} {}", sub.name.to_ascii_uppercase(), sub.syntax);
        lines.push(Reply::Status(usage.trim_end().to_string().into()));
        lines.push(Reply::Status(format!("    {}", sub.summary).into()));
    }
    Reply::Array(lines)
}
