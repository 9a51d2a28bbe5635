//! The short run in the gate: every kept input, and mutations of them from a fixed seed.
//!
//! `QUORIS_FUZZ_SEED` gives another seed. An input that fails is printed as `corpus/TARGET/` takes it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use quoris_fuzz::{TARGETS, target};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// Nothing here may need more address space: what allocates for an announced length ends the process.
const ADDRESS_SPACE: u64 = 1 << 30;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn kept(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = std::fs::read_dir(folder().join(target))
        .expect("a folder for each target")
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("readable")).collect()
}

/// Runs what is kept and `rounds` mutations.
fn run(name: &str, rounds: usize) {
    rlimit::setrlimit(rlimit::Resource::AS, ADDRESS_SPACE, ADDRESS_SPACE).expect("a limit may be lowered");
    let target = target(name).expect("a known name");
    let check = |input: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
            let bytes: String = input.iter().map(|b| format!("\\x{b:02x}")).collect();
            panic!("{name} fails on: printf '{bytes}'");
        }
    };
    let kept = kept(name);
    assert!(!kept.is_empty(), "{name} has no corpus");
    kept.iter().for_each(|input| check(input));
    let seed = std::env::var("QUORIS_FUZZ_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    println!("{name}: {} kept, {rounds} mutations, seed {seed}", kept.len());
    let mut dice = Pcg64::seed_from_u64(seed);
    for _ in 0..rounds {
        let mut input = kept[dice.random_range(0..kept.len())].clone();
        for _ in 0..dice.random_range(1..6) {
            mutate(&mut input, &kept, &mut dice);
        }
        check(&input);
    }
}

fn mutate(input: &mut Vec<u8>, kept: &[Vec<u8>], dice: &mut Pcg64) {
    let at = dice.random_range(0..=input.len());
    match dice.random_range(0..7) {
        0 => input.truncate(at),
        1 => input.insert(at, dice.random()),
        2 if at < input.len() => input[at] ^= 1 << dice.random_range(0..8),
        3 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff, b'9', b'\n'][dice.random_range(0..7)],
        4 => drop(input.drain(at..input.len().min(at + dice.random_range(0..9)))),
        5 => {
            let (from, other) = (dice.random_range(0..=at), input.clone());
            input.extend_from_slice(&other[from..at]);
        }
        _ => {
            let other = &kept[dice.random_range(0..kept.len())];
            let from = dice.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
    }
}

#[test]
fn every_target_has_a_test_here_and_the_corpora_stay_small() {
    assert_eq!(format!("{TARGETS:?}"), "[resp, rdb, frames, entry, events, apply]");
    let bytes: usize = TARGETS.iter().flat_map(|target| kept(target.name)).map(|input| input.len()).sum();
    assert!(bytes < 200_000, "{bytes} bytes: minimise them");
}

#[test]
fn resp() {
    run("resp", 200_000);
}

#[test]
fn rdb() {
    run("rdb", 200_000);
}

#[test]
fn frames() {
    run("frames", 200_000);
}

#[test]
fn entry() {
    run("entry", 5_000);
}

#[test]
fn events() {
    run("events", 200_000);
}

#[test]
fn apply() {
    run("apply", 500);
}
