//! Builds with mutants break a rule each when they are told to; the simulator has to see it.
//!
//! A mutant is chosen once for a process, so each has a process of its own: this program again. `MUTANT_SEEDS=500
//! ./dev sim mutants --no-capture` looks longer; with a mutant's name in `MUTANT`, for that one alone.

use std::process::{Command, Stdio};
use std::time::Instant;

use quoris_raft::mutant;
use quoris_sim::seeds::{Plan, run_all};

/// What the simulator has to find: the name, and a seed that finds it soon.
const FOUND: &[(&str, u64)] = &[
    ("cuts-off-in-memory-only", 0),
    ("session-off-by-one", 0),
    ("entry-behind-snapshot", 0),
    ("local-clock-in-apply", 0),
    ("digest-ignored", 0),
    ("acknowledges-before-fsync", 0),
    ("votes-before-fsync", 0),
    ("reads-without-index", 1),
    ("lease-too-long", 5),
    ("definite-after-proposal", 17),
    ("lease-survives-transfer", 23),
];
/// Seeds behind that one, should it no longer do.
const SEEDS: u64 = 40;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Only as a process of the test below: fails as soon as a rule is broken.
#[test]
#[ignore = "needs a mutant"]
fn one_mutant() {
    let plan = Plan { from: variable("SIM_FROM", 0), count: variable("SIM_SEEDS", 1), threads: 1, stop: true };
    let (_, failures) = run_all(plan, |_, _| {}, |_| {});
    if let Some((seed, text)) = failures.first() {
        println!("FOUND by seed {seed}: {}", text.lines().next().unwrap_or_default());
    }
    assert!(failures.is_empty());
}

#[test]
fn mutants_are_found_by_simulated_clusters() {
    let only = std::env::var("MUTANT").ok();
    let mut missed = Vec::new();
    for (name, seed) in FOUND.iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)) {
        assert!(mutant::NAMES.iter().any(|(known, _)| known == name), "no mutant is called {name}");
        let began = Instant::now();
        let seeds = variable("MUTANT_SEEDS", SEEDS).to_string();
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "one_mutant", "--ignored", "--nocapture"])
            .envs([("QUORIS_MUTANT", *name), ("SIM_FROM", &seed.to_string()), ("SIM_SEEDS", &seeds)])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .expect("this program runs again");
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        assert!(said.contains("running 1 test"), "{name}: {said}");
        // A panic within a panic ends the process before it says anything.
        let found = said.lines().find(|line| line.contains("FOUND")).unwrap_or("FOUND: the process was ended");
        let found = if child.status.success() { "missed" } else { found };
        println!("{name}: {found} ({:.1} s)", began.elapsed().as_secs_f64());
        if child.status.success() {
            missed.push(*name);
        }
    }
    assert!(missed.is_empty(), "{missed:?} were not found");
}
