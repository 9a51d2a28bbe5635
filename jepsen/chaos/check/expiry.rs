//! Keys that live for a time: none dies early, none lives long beyond it, none comes back.
//!
//! Each key is written once, with its time to live. That none comes back is judged without any clock but that of
//! the history; the other two allow for what the clocks of the nodes may differ.

use std::collections::BTreeMap;

use crate::history::{F, Op};
use crate::verdict::Verdict;

/// What is allowed, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// A key may die so much before its time.
    pub early: u64,
    /// And be there so long after it.
    pub late: u64,
}

/// A reading and when it had its answer.
type Read<'a> = (u64, &'a Op);

/// Judges all keys.
pub fn check(ops: &[Op], tolerance: Tolerance) -> Verdict {
    let mut verdict = Verdict::default();
    let mut keys: BTreeMap<i64, Vec<&Op>> = BTreeMap::new();
    ops.iter().for_each(|op| keys.entry(op.key).or_default().push(op));
    let mut died = 0;
    for ops in keys.values() {
        let mut writes = ops.iter().filter(|op| op.f == F::Write);
        let Some(write) = writes.next() else { continue };
        if let Some(second) = writes.next() {
            verdict.unknown("malformed", format!("{second}: its key was written before"));
            continue;
        }
        died += usize::from(judge(write, ops, tolerance, &mut verdict));
    }
    verdict.figure("keys", keys.len());
    verdict.figure("seen to die", died);
    verdict
}

/// One key; whether somebody saw it dead.
fn judge(write: &Op, ops: &[&Op], tolerance: Tolerance, verdict: &mut Verdict) -> bool {
    let [value, milliseconds] = write.asked.ints() else {
        verdict.unknown("malformed", format!("{write}: value and milliseconds are needed"));
        return false;
    };
    let time = milliseconds.unsigned_abs() * 1_000_000;
    let mut reads: Vec<Read> =
        ops.iter().filter(|op| op.f == F::Read).filter_map(|op| Some((op.returned()?, *op))).collect();
    reads.sort_by_key(|(returned, _)| *returned);
    let (alive, dead): (Vec<Read>, Vec<Read>) = reads.iter().partition(|(_, read)| read.answered.int() != 0);
    for (returned, read) in &alive {
        if read.answered.int() != *value || !write.is_possible() || *returned < write.call {
            verdict.invalid("phantom", format!("{write}\n  {read}"));
        }
    }
    // Since when it was there for certain.
    let born = alive.first().map_or(u64::MAX, |(returned, _)| *returned).min(write.returned().unwrap_or(u64::MAX));
    let Some((gone, death)) = dead.iter().find(|(_, read)| read.call > born) else {
        late(write, &alive, born.saturating_add(time).saturating_add(tolerance.late), verdict);
        return false;
    };
    if gone.saturating_add(tolerance.early) < write.call + time {
        verdict.invalid("died early", format!("{write}\n  {death}"));
    }
    if let Some((_, read)) = alive.iter().find(|(_, read)| read.call > *gone) {
        verdict.invalid("came back", format!("{write}\n  {death}\n  {read}"));
    }
    late(write, &alive, born.saturating_add(time).saturating_add(tolerance.late), verdict);
    true
}

fn late(write: &Op, alive: &[Read], deadline: u64, verdict: &mut Verdict) {
    if let Some((_, read)) = alive.iter().find(|(_, read)| read.call > deadline) {
        verdict.invalid("lives too long", format!("{write}\n  {read}"));
    }
}
