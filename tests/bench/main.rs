//! `quoris-bench`: Quoris beside redis-server and etcd, on one machine, in one run.
//!
//! It starts every server itself, drives all of them with its own client so that the client costs
//! every side the same, alternates between the sides, and holds the medians against a table of
//! floors (`rows`). A peer that is not installed is reported as not measured.
//!
//! The way of a measurement: `args` → `rows` says what, `sides` starts servers through `process`,
//! `measure` alternates them and runs a load client (`load` and `messages` for RESP, `grpc` for etcd) inside a
//! `window`, `verdict` judges, `report` prints.
//!
//! Anything that speaks RESP can stand in for Quoris:
//!
//! ```text
//! quoris-bench --only one \
//!   --quoris-one-cmd 'redis-server --port {port} --dir {dir} --appendonly yes --save EMPTY'
//! ```

#![forbid(unsafe_code)]

mod args;
mod control;
mod cpu;
mod grpc;
mod interrupt;
mod load;
mod machine;
mod measure;
mod messages;
mod process;
mod protobuf;
mod quiet;
mod random;
mod report;
mod resp;
mod rows;
mod sides;
mod verdict;
mod window;

use anyhow::{Context, Result, bail};
use args::Args;
use clap::Parser;
use machine::Machine;
use report::Report;
use rows::{Row, Setting};
use sides::{Commands, Side};
use std::path::Path;
use std::process::ExitCode;
use verdict::Verdict;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("quoris-bench: {error:#}");
            ExitCode::from(verdict::HARNESS_FAILED)
        }
    }
}

fn run(args: &Args) -> Result<u8> {
    let rows = rows::select(&args.only, args.leader_only);
    if args.list || rows.is_empty() {
        let all = rows::select(&[], args.leader_only);
        let names: Vec<&str> = all.iter().map(|row| row.name.as_str()).collect();
        if args.list {
            println!("{}", names.join("\n"));
            return Ok(verdict::ALL_HOLD);
        }
        bail!("no row is called {}; there are {}", args.only.join(", "), names.join(", "));
    }
    interrupt::install()?;
    let (plan, commands) = (args.plan()?, args.commands(&rows)?);
    let machine = Machine::look(&args.directory())?;
    let results = measure::measure(&rows, &commands, &plan)?;
    let missing = |row: &Row| missing_peer(&commands, row);
    let judged = verdict::judge(&rows, &results, missing);
    let report = Report {
        command_line: command_line(),
        machine: &machine,
        versions: &versions(&commands, &rows),
        plan: &plan,
        commands: &commands,
        rows: &rows,
        results: &results,
        judged: &judged,
    };
    let text = report.markdown();
    println!("{text}");
    if let Some(path) = &args.out {
        std::fs::write(path, &text).with_context(|| format!("write {}", path.display()))?;
    }
    for row in judged.iter().filter(|row| matches!(row.verdict, Verdict::Misses | Verdict::Failed(_))) {
        eprintln!("quoris-bench: {} does not hold", row.row.name);
    }
    Ok(verdict::exit_code(&judged))
}

/// What was typed, quoted where it needs it.
fn command_line() -> String {
    let quoted = |word: String| match word.contains(char::is_whitespace) {
        true => format!("'{word}'"),
        false => word,
    };
    std::env::args().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Why a row's peer cannot be measured, if it cannot.
fn missing_peer(commands: &Commands, row: &Row) -> Option<String> {
    let setting = row.peer.setting;
    let program = match setting {
        Setting::OneRedis | Setting::ThreeRedis => "redis-server",
        Setting::ThreeEtcd => "etcd",
    };
    let missing = commands.templates(Side::Peer, setting).is_none();
    missing.then(|| format!("{program} is not installed"))
}

/// The versions of the programs that the rows need, each once.
fn versions(commands: &Commands, rows: &[Row]) -> Vec<(String, String)> {
    let mut versions: Vec<(String, String)> = Vec::new();
    for row in rows {
        for side in [Side::Subject, Side::Peer] {
            let templates = commands.templates(side, row.subject.setting).unwrap_or_default();
            let Some(program) = templates.first().and_then(|text| text.split_whitespace().next()) else {
                continue;
            };
            let name = match side {
                Side::Subject => format!("measured as Quoris, {program}"),
                Side::Peer => program.to_owned(),
            };
            if versions.iter().all(|(known, _)| *known != name) {
                versions.push((name, machine::version(Path::new(program))));
            }
        }
    }
    versions
}
