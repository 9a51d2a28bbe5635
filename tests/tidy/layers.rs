//! Dependencies point downwards, and the engine stays pure.
//!
//! The floors are those of `src/docs/architecture.md`. Invariants checked here: a crate depends only on
//! crates of lower floors; only the log crate links RocksDB; nothing that the engine depends on reaches
//! a clock, a file, a socket or a random number, and its own source names none; all versions stand in
//! the one table of the top manifest; every crate takes the workspace's lints.

use std::collections::{BTreeMap, BTreeSet};

use quoris_tidy::{RustFile, files, packages, toml_file};

/// Floor times ten, lowest first. Tools stand above the program: nothing may depend on them.
const FLOORS: &[(&str, u32)] = &[
    ("quoris-resp", 10),
    ("quoris-engine", 20),
    ("quoris-net", 20),
    ("quoris-raft", 30),
    ("quoris-log", 35),
    ("quoris-server", 40),
    ("quoris-proxy", 40),
    ("quoris", 50),
    ("quoris-tidy", 90),
    ("quoris-bench", 90),
    ("quoris-fuzz", 90),
    ("quoris-sim", 90),
    ("quoris-chaos", 90),
];

const ALL_KINDS: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

/// What nothing below the engine may bring: runtimes, sockets, storage, clocks, randomness.
const IMPURE_CRATES: &[&str] = &[
    "async-std",
    "chrono",
    "crossbeam-channel",
    "fastrand",
    "getrandom",
    "jiff",
    "mio",
    "nix",
    "openraft",
    "parking_lot",
    "rand",
    "rayon",
    "rocksdb",
    "rustix",
    "signal-hook",
    "smol",
    "socket2",
    "tempfile",
    "time",
    "tokio",
    "uuid",
    "web-time",
];

/// What is not followed further: the sandbox of scripts decides what they see of Lua, and neither the lock around
/// its state nor the tools that compile it are among that.
const SEALED_CRATES: &[&str] = &["mlua"];

/// What the engine's source may not name.
const IMPURE_PATHS: &[&str] = &[
    "std::env",
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    // Nothing that a node could set from outside of the log: settings are state of the group.
    "std::sync::Mutex",
    "std::sync::OnceLock",
    "std::sync::RwLock",
    "std::sync::atomic",
    "std::sync::mpsc",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
    "std::time::self",
    "std::time::*",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::collections::hash_map::RandomState",
    "std::hash::RandomState",
    "std::hash::DefaultHasher",
];

/// What a file may name nevertheless: a memo of what the bytes beside it say is no state of its own, and when a
/// key was last read is none that apply sees.
const MEMOS: &[(&str, &str)] = &[
    ("src/engine/sequence/tree/node.rs", "std::sync::OnceLock"),
    ("src/engine/keyspace/access.rs", "std::sync::atomic"),
    // Compiled scripts in a Lua state; its tests show that no script can tell which state it has.
    ("src/engine/script/run.rs", "thread_local"),
];

/// Macros that print.
const IMPURE_MACROS: &[&str] = &["println", "print", "eprintln", "eprint"];

fn floor(name: &str) -> Option<u32> {
    FLOORS.iter().find(|(n, _)| *n == name).map(|&(_, floor)| floor)
}

#[test]
fn dependencies_point_to_a_lower_floor() {
    let mut wrong = Vec::new();
    for package in packages() {
        let name = package.name();
        let Some(own) = floor(name) else {
            wrong.push(format!("{}: `{name}` has no floor; add it to FLOORS here", package.manifest));
            continue;
        };
        for (dependency, _) in package.dependencies(ALL_KINDS) {
            match floor(&dependency) {
                Some(theirs) if theirs >= own => {
                    wrong.push(format!(
                        "{}: `{name}` (floor {own}) may not depend on `{dependency}` ({theirs})",
                        package.manifest
                    ));
                }
                None if dependency.starts_with("quoris") => {
                    wrong.push(format!("{}: `{dependency}` has no floor; add it to FLOORS here", package.manifest));
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn only_the_log_links_rocksdb() {
    for package in packages().iter().filter(|p| p.name() != "quoris-log") {
        let found = package.dependencies(ALL_KINDS).into_iter().find(|(name, _)| name.contains("rocksdb"));
        assert!(found.is_none(), "{}: RocksDB belongs to raft/log alone", package.manifest);
    }
}

#[test]
fn versions_stand_in_one_table_and_lints_are_shared() {
    let mut wrong = Vec::new();
    for package in packages() {
        for (name, value) in package.dependencies(ALL_KINDS) {
            if value.get("workspace").and_then(|w| w.as_bool()) != Some(true) {
                wrong.push(format!(
                    "{}: write `{name}.workspace = true`, the version goes to the top",
                    package.manifest
                ));
            }
        }
        let lints = package.table.get("lints").and_then(|l| l.get("workspace")).and_then(|w| w.as_bool());
        if lints != Some(true) {
            wrong.push(format!("{}: `[lints] workspace = true` is missing", package.manifest));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn nothing_below_the_engine_is_impure() {
    let locked = locked_dependencies();
    let engine = packages().into_iter().find(|p| p.name() == "quoris-engine").expect("the engine is a member");
    let mut waiting: Vec<(String, String)> = engine
        .dependencies(&["dependencies"])
        .into_iter()
        .map(|(name, _)| (name, "quoris-engine".to_owned()))
        .collect();
    let mut seen = BTreeMap::new();
    while let Some((name, from)) = waiting.pop() {
        if seen.contains_key(&name) {
            continue;
        }
        // Test-only dependencies of our own crates are in the lock file too, but not in the product.
        let own = packages().into_iter().find(|p| p.name() == name);
        let next: Vec<String> = match own {
            Some(package) => package.dependencies(&["dependencies"]).into_iter().map(|(n, _)| n).collect(),
            None if SEALED_CRATES.contains(&name.as_str()) => Vec::new(),
            None => locked.get(&name).into_iter().flatten().cloned().collect(),
        };
        waiting.extend(next.into_iter().map(|n| (n, name.clone())));
        seen.insert(name, from);
    }
    assert!(seen.len() > 5, "the walk found only {seen:?}");
    let impure: Vec<_> = seen.iter().filter(|(name, _)| IMPURE_CRATES.contains(&name.as_str())).collect();
    assert!(impure.is_empty(), "the engine reaches (crate, brought by): {impure:?}");
}

/// Each locked crate and the names of what it depends on; versions of one name are thrown together.
fn locked_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in toml_file("Cargo.lock")["package"].as_array().expect("a list of packages") {
        let name = package["name"].as_str().expect("a name").to_owned();
        let dependencies = package.get("dependencies").and_then(|d| d.as_array()).into_iter().flatten();
        let names = dependencies.filter_map(|d| d.as_str()?.split(' ').next()).map(str::to_owned);
        found.entry(name).or_default().extend(names);
    }
    found
}

#[test]
fn the_engine_names_no_clock_file_socket_or_thread() {
    let mut wrong = Vec::new();
    let engine: Vec<_> =
        files(&["rs"]).into_iter().filter(|f| f.path.starts_with("src/engine/") && !f.is_test_code()).collect();
    assert!(!engine.is_empty(), "the engine has moved");
    for file in engine {
        let rust = RustFile::parse(&file.path, &file.text);
        for (path, line) in rust.paths("std") {
            let impure = IMPURE_PATHS.iter().find(|p| path == **p || path.starts_with(&format!("{p}::")));
            if let Some(impure) = impure.filter(|impure| !MEMOS.contains(&(&file.path, impure))) {
                wrong.push(format!("{}:{line}: {impure}", file.path));
            }
        }
        for name in IMPURE_MACROS {
            wrong.extend(rust.macros(name).into_iter().map(|line| format!("{}:{line}: {name}!", file.path)));
        }
        if !MEMOS.contains(&(&file.path, "thread_local")) {
            let lines = rust.words("thread_local").into_iter();
            wrong.extend(lines.map(|line| format!("{}:{line}: thread_local", file.path)));
        }
    }
    assert!(wrong.is_empty(), "apply must be a function of the log:\n{}", wrong.join("\n"));
}
