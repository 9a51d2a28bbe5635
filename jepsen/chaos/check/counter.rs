//! Counters that only grow: every sum that was told lies between what was certainly added before and what may
//! have been added until then, sums never go back, and no addition happens twice.

use std::collections::BTreeMap;

use crate::history::{F, Op};
use crate::verdict::Verdict;

/// Judges all counters.
pub fn check(ops: &[Op]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut keys: BTreeMap<i64, Vec<&Op>> = BTreeMap::new();
    for op in ops.iter().filter(|op| op.is_possible()) {
        keys.entry(op.key).or_default().push(op);
    }
    for ops in keys.values() {
        let told: Vec<&Op> = ops.iter().copied().filter(|op| op.is_ok()).collect();
        bounds(ops, &told, &mut verdict);
        never_back(&told, &mut verdict);
        once(&told, &mut verdict);
    }
    verdict.figure("keys", keys.len());
    verdict
}

fn added(op: &Op) -> i64 {
    if op.f == F::Add { op.asked.int() } else { 0 }
}

fn returned(op: &Op) -> u64 {
    op.returned().unwrap_or(u64::MAX)
}

/// Running sums by time: what was added up to and including each moment.
pub(super) struct Sums(Vec<(u64, i64)>);

impl Sums {
    /// Of moments and what was added at each.
    pub fn new(mut added: Vec<(u64, i64)>) -> Sums {
        added.sort_unstable();
        let mut sum = 0;
        added.iter_mut().for_each(|(_, n)| {
            sum += *n;
            *n = sum;
        });
        Sums(added)
    }

    /// The sum of all with a time before this.
    pub fn before(&self, time: u64) -> i64 {
        let count = self.0.partition_point(|(other, _)| *other < time);
        if count == 0 { 0 } else { self.0[count - 1].1 }
    }
}

fn bounds(ops: &[&Op], told: &[&Op], verdict: &mut Verdict) {
    let certain = Sums::new(told.iter().map(|op| (returned(op), added(op))).collect());
    let possible = Sums::new(ops.iter().map(|op| (op.call, added(op))).collect());
    for op in told {
        // Its own addition is certain, and has not returned before its call.
        let least = certain.before(op.call) + added(op);
        let most = possible.before(returned(op).saturating_add(1));
        let sum = op.answered.int();
        if sum < least {
            verdict.invalid("lost addition", format!("{op}: at least {least} had been added"));
        } else if sum > most {
            verdict.invalid("added too much", format!("{op}: at most {most} can have been added"));
        }
    }
}

fn never_back(told: &[&Op], verdict: &mut Verdict) {
    let mut ends = told.to_vec();
    ends.sort_by_key(|op| returned(op));
    let mut ended = ends.into_iter().peekable();
    let mut highest: Option<&Op> = None;
    // `told` is in order of the calls.
    for op in told {
        while let Some(before) = ended.next_if(|before| returned(before) < op.call) {
            if highest.is_none_or(|highest| highest.answered.int() < before.answered.int()) {
                highest = Some(before);
            }
        }
        if let Some(before) = highest.filter(|before| before.answered.int() > op.answered.int() - added(op)) {
            verdict.invalid("went back", format!("{op}\n  after {before}"));
        }
    }
}

/// An addition of n that made s of the sum has the numbers above s - n up to s for itself.
fn once(told: &[&Op], verdict: &mut Verdict) {
    let mut spans: Vec<&Op> = told.iter().copied().filter(|op| added(op) > 0).collect();
    spans.sort_by_key(|op| op.answered.int());
    for pair in spans.windows(2).filter(|pair| pair[1].answered.int() - added(pair[1]) < pair[0].answered.int()) {
        verdict.invalid("two additions made one sum", format!("{}\n  {}", pair[0], pair[1]));
    }
}
