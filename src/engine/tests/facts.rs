//! The command table against what Redis and Valkey say about their commands (`tests/commands/facts.tsv`).
//!
//! Every command of theirs has a row here or stands in [`MISSING`] with a reason; every row agrees with the
//! facts on group, arity, flags, positions of keys and the version that brought it, or stands in [`DEVIATES`]
//! with a reason. A line of either list that is no longer true fails as well.

use std::collections::BTreeSet;
use std::path::Path;

use quoris_engine::command::{Found, by_name, walk};

/// Commands without a row, by the beginning of their names or, with a `$`, by all of it, and why.
const MISSING: &[(&str, &str)] = &[
    ("ar", "the preview type `array`"),
    ("backup", "`quoris admin backup` copies the whole cluster"),
    ("bf.", MODULE),
    ("cf.", MODULE),
    ("cluster|flushslot$", "UNLINK removes keys; a slot is no unit of its own"),
    ("clusterscan", "SCAN walks over all groups"),
    ("cms.", MODULE),
    ("ft.", MODULE),
    ("json.", MODULE),
    ("migrate", "slots move inside the cluster; DUMP and RESTORE carry keys to others"),
    ("sentinel", "redis-server has it only in sentinel mode and else does not know it either"),
    ("sflush", "an internal step of Redis's own slot migration"),
    ("tdigest.", MODULE),
    ("topk.", MODULE),
    ("trimslots", "an internal step of Redis's own slot migration"),
    ("ts.", MODULE),
    ("v", MODULE),
];

const MODULE: &str = "a type of one of Redis's modules";

/// Where a row says something else on purpose: command, field, reason.
const DEVIATES: &[(&str, &str, &str)] = &[];

/// Rows that neither Redis nor Valkey has.
const OURS: &[&str] = &[
    "client|session",
    "cluster|backup",
    "cluster|cancel-move",
    "cluster|confirm-clock",
    "cluster|move-slots",
    "cluster|moves",
    "cluster|node",
];

/// Flags of the documentation that COMMAND INFO does not print, of Sentinel, and of modules.
const NOT_PRINTED: &[&str] = &[
    "all_dbs",
    "experimental",
    "may_replicate",
    "module",
    "movablekeys",
    "only_sentinel",
    "protected",
    "script_runner",
    "sentinel",
];

struct Fact {
    name: String,
    group: String,
    arity: String,
    flags: BTreeSet<String>,
    keys: String,
    since: [String; 2],
    status: String,
}

fn facts() -> Vec<Fact> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = here.ancestors().map(|top| top.join("tests/commands/facts.tsv")).find(|file| file.exists());
    let text = std::fs::read_to_string(file.expect("a folder above the crate holds it")).expect("it is text");
    let fact = |line: &str| {
        let fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
        let [name, group, arity, flags, keys, redis, valkey, status] =
            <[String; 8]>::try_from(fields).unwrap_or_else(|fields| panic!("eight fields: {fields:?}"));
        let flags = flags.split(',').filter(|flag| *flag != "-" && !NOT_PRINTED.contains(flag));
        let flags = flags.map(str::to_owned).collect();
        Fact { name, group, arity, flags, keys, since: [redis, valkey], status }
    };
    text.lines().filter(|line| !line.starts_with('#')).map(fact).collect()
}

/// What a row says beside what the facts say, where they differ.
fn differences(found: &Found, fact: &Fact) -> Vec<(&'static str, String)> {
    let row = found.command;
    let mut different = Vec::new();
    let mut compare = |field, ours: String, theirs: &str| {
        if ours != theirs {
            different.push((field, format!("{ours} here, {theirs} there")));
        }
    };
    let set = |flags: &BTreeSet<String>| flags.iter().cloned().collect::<Vec<_>>().join(",");
    let printed = row.all_flags();
    let flags = printed.names().filter(|flag| !NOT_PRINTED.contains(flag)).map(str::to_owned).collect();
    compare("flags", set(&flags), &set(&fact.flags));
    compare("group", row.group.name().to_owned(), &fact.group);
    compare("arity", row.arity.to_string(), &fact.arity);
    if fact.keys != "-" {
        let (range, _) = row.legacy_range();
        compare("keys", format!("{},{},{}", range.first, range.last, range.step), &fact.keys);
    }
    let [redis, valkey] = &fact.since;
    compare("since", row.since.to_owned(), if redis == "-" { valkey } else { redis });
    different
}

#[test]
fn rows_agree_with_the_facts() {
    let mut wrong = String::new();
    let mut used = BTreeSet::new();
    for fact in facts() {
        let Some(found) = by_name(fact.name.as_bytes()) else { continue };
        for (field, text) in differences(&found, &fact) {
            if DEVIATES.iter().any(|(name, deviating, _)| *name == fact.name && *deviating == field) {
                used.insert((fact.name.clone(), field));
            } else {
                wrong += &format!("{} {field}: {text}\n", fact.name);
            }
        }
    }
    for (name, field, _) in DEVIATES.iter().filter(|(name, field, _)| !used.contains(&((*name).to_owned(), *field))) {
        wrong += &format!("{name} {field} does not deviate any more\n");
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_command_has_a_row_or_a_reason() {
    let mut wrong = String::new();
    let facts = facts();
    let fits = |name: &str, begin: &str| begin.strip_suffix('$').map_or(name.starts_with(begin), |whole| name == whole);
    let is_listed = |name: &str| MISSING.iter().position(|(begin, _)| fits(name, begin));
    let mut used = BTreeSet::new();
    for fact in &facts {
        match (by_name(fact.name.as_bytes()), is_listed(&fact.name)) {
            (None, None) => wrong += &format!("{} ({}) has neither a row nor a reason\n", fact.name, fact.status),
            (None, Some(line)) => {
                used.insert(line);
            }
            (Some(_), Some(_)) => wrong += &format!("{} has a row and a reason for having none\n", fact.name),
            (Some(_), None) => {}
        }
    }
    for (line, (begin, _)) in MISSING.iter().enumerate().filter(|(line, _)| !used.contains(line)) {
        wrong += &format!("MISSING, line {line}: no command begins with {begin}\n");
    }
    let named: BTreeSet<&str> = facts.iter().map(|fact| &fact.name[..]).collect();
    for found in walk() {
        let name = found.full_name();
        if named.contains(&name[..]) == OURS.contains(&&name[..]) {
            wrong += &format!("{name}: OURS is wrong about it\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
