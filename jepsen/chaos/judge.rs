//! From the folder of a run to its verdict: every workload's checker, and whether enough happened to say anything.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::Context;

use crate::check::expiry::Tolerance;
use crate::faults::{Done, Fault};
use crate::history::{Event, F, Op, operations, read_events};
use crate::run::{Notes, Settings};
use crate::verdict::{Validity, Verdict};
use crate::work;

/// Successful operations per second that a workload needs, at the least.
const RATE_MIN: u64 = 2;
/// And altogether.
const COUNT_MIN: usize = 20;

/// What a run said of itself, as it stands in its folder.
///
/// # Errors
/// When there is no such file, or it holds something else.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

/// Judges a folder; gives the verdict of each workload and that of the run as a whole, which is the last.
///
/// # Errors
/// When the folder does not hold a run.
pub fn judge(dir: &Path) -> anyhow::Result<Vec<(String, Verdict)>> {
    let settings: Settings = read_json(&dir.join("run.json"))?;
    let notes: Notes = read_json(&dir.join("notes.json"))?;
    let late = settings.late_ms * 1_000_000 + longest_pause(&notes.faults);
    let tolerance = Tolerance { early: settings.early_ms * 1_000_000, late };
    let mut verdicts = Vec::new();
    let mut all = Verdict::default();
    let mut totals = [0; 3];
    for name in &settings.workloads {
        let path = dir.join(format!("{name}.jsonl"));
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        let events = read_events(BufReader::new(file)).with_context(|| path.display().to_string())?;
        let ops = operations(&events).with_context(|| path.display().to_string())?;
        let mut verdict = work::judge(name, &ops, tolerance);
        let counts = count(&ops);
        totals.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
        verdict.figures.splice(0..0, figures(counts));
        enough(&settings, &ops, &events, &mut verdict);
        verdicts.push((name.clone(), verdict));
    }
    all.figures.extend(figures(totals));
    faults(&settings, &notes.faults, &mut all);
    notes.ended.iter().for_each(|text| all.invalid("node ended", text.clone()));
    notes.stubborn.iter().for_each(|text| all.invalid("goes on without a disk", text.clone()));
    notes.unready.iter().for_each(|text| all.unknown("did not recover", text.clone()));
    notes.unsettled.iter().for_each(|text| all.unknown("not brought to an end", text.clone()));
    notes.differences.iter().for_each(|text| all.invalid("replicas differ", text.clone()));
    notes.unlevel.iter().for_each(|text| all.unknown("replicas not compared", text.clone()));
    if notes.level > 0 {
        all.figure("equal replicas", notes.level);
    }
    if notes.snapshots[0] > 0 {
        all.figure("cut logs", notes.snapshots[0]);
        all.figure("installed snapshots", notes.snapshots[1]);
    }
    let skipped = settings.skipped.iter();
    skipped.for_each(|(fault, why)| all.unknown("fault skipped", format!("{}: {why}", fault.name())));
    notes.unfinished.iter().for_each(|name| all.unknown("last questions without answer", name.clone()));
    for (name, verdict) in &verdicts {
        for finding in &verdict.findings {
            all.findings.push(crate::verdict::Finding { name: format!("{name}: {}", finding.name), ..finding.clone() });
        }
    }
    verdicts.push(("all".to_string(), all));
    Ok(verdicts)
}

/// A node that slept and leads before it has heard anybody goes on from the group's time as it knew it: keys live
/// longer by as much as it slept. That is a documented limit (`src/docs/adr/0014-where-a-clock-begins.md`).
fn longest_pause(done: &[Done]) -> u64 {
    let pauses = done.iter().filter(|done| done.fault == Fault::Pause);
    pauses.filter_map(|done| Some(done.until? - done.from)).max().unwrap_or(0)
}

fn count(ops: &[Op]) -> [u64; 3] {
    let ok = ops.iter().filter(|op| op.is_ok()).count() as u64;
    let open = ops.iter().filter(|op| op.is_possible()).count() as u64 - ok;
    [ok, ops.len() as u64 - ok - open, open]
}

fn figures(counts: [u64; 3]) -> [(&'static str, u64); 3] {
    [("ok", counts[0]), ("fail", counts[1]), ("info", counts[2])]
}

/// Every kind of operation succeeded, and often enough.
fn enough(settings: &Settings, ops: &[Op], events: &[Event], verdict: &mut Verdict) {
    let mut kinds: Vec<F> = Vec::new();
    events.iter().for_each(|event| {
        if !kinds.contains(&event.f) {
            kinds.push(event.f);
        }
    });
    for f in kinds {
        if !ops.iter().any(|op| op.f == f && op.is_ok()) {
            verdict.unknown("too little", format!("no {f:?} succeeded"));
        }
    }
    let ok = ops.iter().filter(|op| op.is_ok()).count();
    let least = COUNT_MIN.max((settings.time_ms / 1000 * RATE_MIN) as usize);
    if ok < least {
        verdict.unknown("too little", format!("{ok} operations succeeded, fewer than {least}"));
    }
}

/// Each fault that was asked for happened.
fn faults(settings: &Settings, done: &[Done], all: &mut Verdict) {
    for fault in &settings.faults {
        let count = done.iter().filter(|done| done.fault == *fault && done.until.is_some()).count();
        all.figure(fault.name(), count);
        if count == 0 {
            all.unknown("fault did not happen", fault.name());
        }
    }
}

/// What a verdict makes of the program's exit status.
pub fn status(validity: Validity) -> u8 {
    match validity {
        Validity::Valid => 0,
        Validity::Invalid => 1,
        Validity::Unknown => 2,
    }
}
