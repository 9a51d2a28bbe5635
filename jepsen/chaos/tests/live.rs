//! The program as a whole: it finds what a store without a log forgets, finds nothing in one that works, says so by
//! its exit status, and does not pass what it did not see.
//!
//! Quoris itself is run where its program was built beside this test (the gate builds it), or where `QUORIS_BIN`
//! says.

use std::path::PathBuf;
use std::process::{Command, Output};

use quoris_chaos::faults::{Done, Fault};
use quoris_chaos::history::{F, Kind, read_events};
use quoris_chaos::run::Notes;
use tempfile::TempDir;

const VALID: i32 = 0;
const INVALID: i32 = 1;
const UNKNOWN: i32 = 2;
const HARNESS_FAILED: i32 = 3;

/// Runs it; gives its exit status and all that it said.
fn chaos(words: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_chaos")).args(words).output().expect("the program starts");
    let text = String::from_utf8_lossy(&stdout).into_owned();
    (status.code().expect("no signal ends it"), format!("{}\n{text}", String::from_utf8_lossy(&stderr)))
}

fn last(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

fn folder() -> (TempDir, String) {
    let root = TempDir::with_prefix("chaos-").expect("a temporary folder");
    let path = root.path().join("run").display().to_string();
    (root, path)
}

#[test]
fn what_redis_forgets_is_found_by_every_workload_that_keeps_something() {
    let (_root, dir) = folder();
    let (status, text) =
        chaos(&["run", "--redis", "redis-server", "--fault", "kill", "--time", "3s", "--seed", "7", "--out", &dir]);
    assert_eq!(status, INVALID, "{text}");
    assert!(last(&text).starts_with("invalid, "), "{text}");
    for workload in ["register", "append", "counter", "queue", "set", "lock"] {
        assert!(text.contains(&format!("\n{workload}: invalid")), "{workload} found nothing: {text}");
    }
    assert_eq!(chaos(&["check", &dir]).0, INVALID, "the folder alone says the same");
    // Without the faults, the same questions have right answers.
    let (_root, dir) = folder();
    let (status, text) = chaos(&["run", "--redis", "redis-server", "--time", "1s", "--seed", "7", "--out", &dir]);
    assert_eq!(status, VALID, "{text}");
    assert!(last(&text).starts_with("valid, "), "{text}");
    let history = std::fs::read(format!("{dir}/register.jsonl")).expect("the run has left it");
    let events = read_events(&history[..]).expect("it is a history");
    let swaps = events.iter().filter(|event| event.f == F::Cas && event.kind == Kind::Ok);
    let by_script: Vec<bool> = swaps.map(|event| event.value.ints()[1] % 2 == 0).collect();
    assert!(by_script.contains(&true) && by_script.contains(&false), "both ways of compare-and-set: {by_script:?}");
}

#[test]
fn what_was_not_seen_does_not_pass() {
    let (_root, dir) = folder();
    let run = ["run", "--redis", "redis-server", "--workload", "counter", "--time", "1s", "--out", &dir];
    let (status, text) = chaos(&[&run[..], &["--fault", "kill"]].concat());
    assert_eq!(status, UNKNOWN, "no fault fits into a second: {text}");
    assert!(last(&text).contains("fault did not happen"), "{text}");
    let (_root, dir) = folder();
    let run = ["run", "--redis", "redis-server", "--workload", "counter", "--time", "1s", "--out", &dir];
    let (status, text) = chaos(&[&run[..], &["--rate", "4", "--clients", "1"]].concat());
    assert_eq!(status, UNKNOWN, "four operations mean little: {text}");
}

#[test]
fn a_failure_of_the_harness_is_no_verdict() {
    let (_root, dir) = folder();
    let (status, text) = chaos(&["run", "--redis", "no-such-program", "--out", &dir]);
    assert_eq!(status, HARNESS_FAILED, "{text}");
    assert_eq!(chaos(&["check", &dir]).0, HARNESS_FAILED, "no history");
}

/// The program under test, if it is there.
fn quoris() -> Option<PathBuf> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("quoris"));
    let path = std::env::var_os("QUORIS_BIN").map(PathBuf::from).or_else(beside)?;
    path.exists().then_some(path)
}

/// A run that is over, and its folder.
struct Ran {
    status: i32,
    text: String,
    dir: String,
    _root: TempDir,
}

impl Ran {
    fn is_valid(&self) {
        assert_eq!(self.status, VALID, "{}", self.text);
        println!("{}", last(&self.text));
    }

    /// Valid, unless the machine cannot do one of the faults; gives whether it can do all.
    fn is_valid_as_far_as_it_went(&self) -> bool {
        let is_whole = !self.text.contains("fault skipped");
        assert_eq!(self.status, if is_whole { VALID } else { UNKNOWN }, "{}", self.text);
        println!("{}", last(&self.text));
        is_whole
    }

    /// What a file of the folder holds.
    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("{}/{name}", self.dir)).expect("the run has left it")
    }
}

/// Runs nodes of the program under test with these faults, and options in which tests differ; nothing without it.
fn run_quoris(faults: &str, more: &[&str]) -> Option<Ran> {
    let Some(program) = quoris() else {
        println!("skipped: there is no quoris beside this test; `cargo build --bin quoris` or QUORIS_BIN");
        return None;
    };
    let (root, dir) = folder();
    let program = program.display().to_string();
    let run = ["run", "--quoris", &program, "--other", &program, "--fault", faults, "--out", &dir];
    let (status, text) = chaos(&[&run[..], more].concat());
    Some(Ran { status, text, dir, _root: root })
}

/// Few clients for some seconds: what two processors can do beside nodes and faults.
fn run_gently(faults: &str, seed: &str) -> Option<Ran> {
    run_quoris(faults, &["--time", "8s", "--seed", seed, "--rate", "60", "--clients", "3"])
}

#[test]
fn quoris_keeps_what_it_promised_while_nodes_die_and_stall() {
    let more = ["--nodes", "3", "--groups", "4", "--time", "5s", "--seed", "3", "--rate", "100"];
    let Some(ran) = run_quoris("kill-all,pause,partition", &more) else { return };
    ran.is_valid();
}

#[test]
fn quoris_keeps_what_it_promised_while_leaders_move_nodes_pause_and_clocks_drift() {
    let more = ["--groups", "2", "--time", "8s", "--seed", "4", "--rate", "60", "--clients", "3"];
    let Some(ran) = run_quoris("pause,drift,transfer", &more) else { return };
    ran.is_valid_as_far_as_it_went();
    let said = ran.file("operators.log");
    assert!(said.contains("CLUSTER FAILOVER: done"), "{said}");
    assert!(last(&ran.text).contains("cut logs"), "large values make logs too long: {}", last(&ran.text));
}

#[test]
fn quoris_keeps_what_it_promised_when_the_power_fails_and_clocks_jump() {
    let Some(ran) = run_gently("power,clock,slow", "7") else { return };
    let is_whole = ran.is_valid_as_far_as_it_went();
    let notes: Notes = serde_json::from_str(&ran.file("notes.json")).expect("the harness wrote it");
    let is_all = |done: &Done| done.fault == Fault::Power && done.nodes.len() == 3;
    assert!(!is_whole || notes.faults.iter().any(is_all), "no power failed at all nodes: {:?}", notes.faults);
    let page = ran.file("report.html");
    assert!(page.contains("<svg") && page.ends_with("</html>\n"));
}

#[test]
fn quoris_keeps_what_it_promised_while_slots_move_and_nodes_are_killed() {
    let Some(ran) = run_gently("slots,kill,partition", "6") else { return };
    ran.is_valid();
    let said = ran.file("operators.log");
    assert!(said.contains(": done"), "{said}");
}

#[test]
fn quoris_keeps_what_it_promised_while_nodes_are_exchanged() {
    let Some(ran) = run_gently("members,slots,pause", "3") else { return };
    ran.is_valid();
    let said = ran.file("operators.log");
    assert!(said.contains("is forgotten: done"), "{said}");
}

#[test]
fn quoris_keeps_what_it_promised_when_files_are_damaged_and_nodes_restart() {
    let Some(ran) = run_gently("damage,upgrade", "1") else { return };
    ran.is_valid();
}

#[test]
fn the_quickest_mutants_are_found() {
    let Some(program) = quoris() else { return };
    let (_root, dir) = folder();
    let program = program.display().to_string();
    let only = "digest-ignored,event-before-commit,lost-event";
    let (status, text) = chaos(&["mutants", "--only", only, "--quoris", &program, "--out", &dir]);
    if text.contains("was not built with the feature mutants") {
        println!("skipped: the nodes beside this test have no mutants; ./dev test builds some that have");
        return;
    }
    assert_eq!(status, VALID, "{text}");
}
