//! Nodes that break a promise on purpose, one run or a few for each way of doing so: the harness has to find it.
//!
//! They are there in builds with the feature `mutants` alone (`raft/mutant.rs`); a node that is told to be one says
//! so in its log, and one that does not say it makes the harness fail.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::faults::Fault;
use crate::matrix::judged;
use crate::options::Options;
use crate::verdict::Validity;

/// A mutant, and what finds it.
struct Case {
    name: &'static str,
    workloads: &'static [&'static str],
    faults: &'static [Fault],
    seconds: u64,
    settings: &'static [&'static str],
    /// Clients of each workload, and their questions per second: many where a moment has to be hit.
    load: (usize, u64),
}

const fn case(name: &'static str, workloads: &'static [&'static str], faults: &'static [Fault], seconds: u64) -> Case {
    Case { name, workloads, faults, seconds, settings: &[], load: (6, 200) }
}

/// What a node that is cut off says about the past, or a new leader about what an old one did.
const READS: &[&str] = &["register", "counter", "append", "set", "many"];

/// The quickest first. What only a simulated cluster finds is in the simulator's own list.
const CASES: &[Case] = &[
    case("digest-ignored", &["set", "any"], &[], 3),
    case("event-before-commit", &["channel"], &[], 3),
    case("lost-event", &["channel"], &[], 4),
    case("lost-outbox", &["channel"], &[], 6),
    case("local-clock-in-apply", &["expiry", "any"], &[Fault::Clock], 8),
    Case { load: (24, 3000), ..case("acknowledges-before-fsync", &["set", "counter", "append"], &[Fault::Power], 10) },
    case("reads-without-index", READS, &[Fault::Partition, Fault::Refuse], 12),
    case("lease-too-long", READS, &[Fault::Refuse], 12),
    case("session-off-by-one", &["counter", "queue"], &[Fault::Kill, Fault::Partition], 12),
    Case {
        settings: &["request-timeout-ms=400"],
        ..case("definite-after-proposal", &["counter", "append"], &[Fault::Partition, Fault::Pause], 12)
    },
];
/// Seeds that are tried until one finds it: whether a write is between its acknowledgement and its flush when the power
/// fails is chance.
const SEEDS: u64 = 10;

/// Tries all of them, or those that are named; whether each was found.
///
/// # Errors
/// When the harness failed, or the program has no mutants.
pub fn run(quoris: &Path, only: &[String], out: &Path) -> anyhow::Result<bool> {
    let mut all = true;
    for name in only {
        anyhow::ensure!(CASES.iter().any(|case| case.name == name), "no case is called {name}");
    }
    for case in CASES.iter().filter(|case| only.is_empty() || only.iter().any(|name| name == case.name)) {
        let began = Instant::now();
        let found = found(quoris, case, out)?;
        let said = found.as_deref().unwrap_or("missed");
        println!("{}: {:.0} s, {said}", case.name, began.elapsed().as_secs_f64());
        all &= found.is_some();
    }
    println!("{}", if all { "valid: every mutant was found" } else { "invalid: a mutant was missed" });
    Ok(all)
}

/// What the first run that finds it says.
fn found(quoris: &Path, case: &Case, out: &Path) -> anyhow::Result<Option<String>> {
    for seed in 1..=SEEDS {
        let dir = out.join(format!("{}-{seed}", case.name));
        let options = Options {
            workload: case.workloads.iter().map(ToString::to_string).collect(),
            fault: case.faults.iter().copied().map(Some).collect(),
            time: Duration::from_secs(case.seconds),
            seed,
            clients: case.load.0,
            rate: case.load.1,
            mutant: Some(case.name.to_string()),
            set: case.settings.iter().map(ToString::to_string).collect(),
            ..Options::of(quoris.to_path_buf(), dir.clone())
        };
        let judged = judged(options);
        let log = std::fs::read_to_string(dir.join("node-1/log"))?;
        anyhow::ensure!(
            log.contains("breaks its promises on purpose"),
            "{} was not built with the feature mutants",
            quoris.display()
        );
        let ((validity, _, text), skipped) = match judged {
            Ok(judged) => judged,
            // Such a node may say what no question of a workload has for an answer. That is no finding: the next seed.
            Err(why) => {
                println!("{}: seed {seed}: unknown, the harness failed: {why:#}", case.name);
                continue;
            }
        };
        if validity == Validity::Invalid {
            return Ok(Some(format!("found with seed {seed}: {text}")));
        }
        if !skipped.is_empty() {
            println!("{}: skipped, {}", case.name, skipped.join("; "));
        }
    }
    Ok(None)
}
