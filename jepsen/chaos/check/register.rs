//! Registers: each key by itself is linearizable under reads, writes and compare-and-set.
//!
//! Every written value is written once, so a write of unknown outcome that nobody saw need not have happened and
//! is left out; that keeps the search short whatever the number of such writes.

use std::collections::{BTreeMap, HashSet};

use super::wgl::{Found, Model, Timed, search};
use crate::history::{F, Op};
use crate::verdict::Verdict;

/// A key that needs more steps is of unknown verdict.
const STEPS_MAX: u64 = 50_000_000;
/// Larger ones are shown as they are.
const SHRUNK_OPS_MAX: usize = 3_000;

/// What happened to one register; 0 is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// This was there.
    Read(i64),
    /// This is there now.
    Write(i64),
    /// The first was there, the second is now.
    Cas(i64, i64),
}

impl Act {
    fn seen(self) -> Option<i64> {
        match self {
            Act::Read(value) | Act::Cas(value, _) => Some(value),
            Act::Write(_) => None,
        }
    }

    fn written(self) -> Option<i64> {
        match self {
            Act::Write(value) | Act::Cas(_, value) => Some(value),
            Act::Read(_) => None,
        }
    }
}

/// One register.
pub struct Register;

impl Model for Register {
    type Op = Act;
    type State = i64;

    fn step(state: i64, op: &Act) -> Option<i64> {
        match *op {
            Act::Read(value) => (value == state).then_some(state),
            Act::Write(value) => Some(value),
            Act::Cas(old, new) => (old == state).then_some(new),
        }
    }

    fn is_read(op: &Act) -> bool {
        matches!(op, Act::Read(_))
    }
}

/// Judges all registers.
pub fn check(ops: &[Op]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut keys: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (at, op) in ops.iter().enumerate().filter(|(_, op)| op.is_possible() && (op.is_ok() || op.f != F::Read)) {
        keys.entry(op.key).or_default().push(at);
    }
    for (key, places) in &keys {
        if let Some(value) = written_twice(ops, places) {
            verdict.unknown("malformed", format!("key {key}: {value} was written more than once"));
            continue;
        }
        let places = observed(ops, places);
        let acts: Vec<Timed<Act>> = places.iter().map(|at| timed(&ops[*at])).collect();
        match search::<Register>(0, &acts, STEPS_MAX) {
            Found::Linearizable => {}
            Found::GaveUp => verdict.unknown("search too long", format!("key {key}, {} operations", acts.len())),
            Found::Not(at) => {
                let shown: Vec<String> = smallest(&acts, at).iter().map(|at| ops[places[*at]].to_string()).collect();
                let text = format!("key {key}: no order of these explains their answers\n  {}", shown.join("\n  "));
                verdict.invalid("not linearizable", text);
            }
        }
    }
    verdict.figure("keys", keys.len());
    verdict
}

fn act(op: &Op) -> Act {
    match (op.f, op.answered.ints()) {
        (F::Read, _) => Act::Read(op.answered.int()),
        (F::Cas, [old, new]) => Act::Cas(*old, *new),
        _ => Act::Write(op.asked.int()),
    }
}

fn timed(op: &Op) -> Timed<Act> {
    Timed { op: act(op), call: op.call, returned: op.returned() }
}

fn written_twice(ops: &[Op], places: &[usize]) -> Option<i64> {
    let mut written = HashSet::new();
    places.iter().filter_map(|at| act(&ops[*at]).written()).find(|value| !written.insert(*value))
}

/// Without what nobody answered and nobody saw.
fn observed(ops: &[Op], places: &[usize]) -> Vec<usize> {
    let mut kept = places.to_vec();
    loop {
        let seen: HashSet<i64> = kept.iter().filter_map(|at| act(&ops[*at]).seen()).collect();
        let before = kept.len();
        kept.retain(|at| ops[*at].is_ok() || act(&ops[*at]).written().is_some_and(|value| seen.contains(&value)));
        if kept.len() == before {
            return kept;
        }
    }
}

/// As few of the operations as still contradict each other; `at` is the one that the search could not fit in.
fn smallest(acts: &[Timed<Act>], at: usize) -> Vec<usize> {
    let end = acts[at].returned.unwrap_or(u64::MAX);
    // What returned later than the blocked one may as well be unanswered: a read then says nothing.
    let cut = |act: &Timed<Act>| Timed { returned: act.returned.filter(|time| *time <= end), ..*act };
    let is_past =
        |act: &Timed<Act>| act.call <= end && (act.returned.is_some_and(|t| t <= end) || act.op.written().is_some());
    let mut kept: Vec<usize> = (0..acts.len()).filter(|at| is_past(&acts[*at])).collect();
    if kept.len() > SHRUNK_OPS_MAX {
        return kept;
    }
    let fails = |kept: &[usize]| {
        let part: Vec<Timed<Act>> = kept.iter().map(|at| cut(&acts[*at])).collect();
        matches!(search::<Register>(0, &part, STEPS_MAX / 100), Found::Not(_))
    };
    if !fails(&kept) {
        return (0..acts.len()).collect();
    }
    for at in kept.clone().into_iter().rev() {
        // A value that is still seen keeps its write: without it, the reading alone would look wrong.
        let seen = |value: i64| kept.iter().any(|other| *other != at && acts[*other].op.seen() == Some(value));
        if acts[at].op.written().is_some_and(seen) {
            continue;
        }
        let fewer: Vec<usize> = kept.iter().copied().filter(|other| *other != at).collect();
        if fails(&fewer) {
            kept = fewer;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{End, Value};

    fn op(f: F, value: i64, call: u64, returned: u64) -> Op {
        let answered = Value::Int(value);
        Op { process: 0, f, key: 1, asked: answered.clone(), answered, call, end: End::Ok(returned) }
    }

    #[test]
    fn the_smallest_contradiction_is_shown() {
        let mut ops: Vec<Op> = (1..100).map(|n| op(F::Write, n, n as u64 * 10, n as u64 * 10 + 5)).collect();
        ops.extend((1..100).map(|n| op(F::Read, n, n as u64 * 10 + 6, n as u64 * 10 + 7)));
        ops.sort_by_key(|op| op.call);
        assert!(check(&ops).findings.is_empty());
        ops.push(op(F::Read, 42, 2000, 2001));
        let verdict = check(&ops);
        assert!(verdict.has("not linearizable"));
        assert_eq!(verdict.findings[0].text.lines().count(), 4, "two writes and a read: {}", verdict.findings[0].text);
    }

    #[test]
    fn compare_and_set_sees_what_it_replaces() {
        let cas = |old, new, call, returned| Op {
            f: F::Cas,
            asked: Value::Int(new),
            answered: Value::Ints(vec![old, new]),
            ..op(F::Cas, 0, call, returned)
        };
        let good = [op(F::Write, 1, 0, 1), cas(1, 2, 2, 3), cas(2, 3, 4, 5), op(F::Read, 3, 6, 7)];
        assert!(check(&good).findings.is_empty());
        let lost_update = [op(F::Write, 1, 0, 1), cas(1, 2, 2, 5), cas(1, 3, 2, 5)];
        assert!(check(&lost_update).has("not linearizable"));
    }
}
