//! Transactions over several registers: strictly serializable, as the search for one order of whole transactions
//! decides it. It asks for each group of registers by itself; no transaction reaches into two.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::wgl::{Found, Model, Timed, search};
use crate::history::{Micro, Mop, Op};
use crate::verdict::Verdict;

/// Registers of a group.
pub const WIDTH: i64 = 3;
/// A group that needs more steps is of unknown verdict.
const STEPS_MAX: u64 = 50_000_000;
/// Of a contradiction so many of the latest transactions are shown.
const SHOWN: usize = 12;

/// One step: the register, and what it must hold or holds from then on.
#[derive(Clone, Copy, Debug)]
enum Act {
    Reads(usize, i64),
    Writes(usize, i64),
}

struct Registers;

impl Model for Registers {
    type Op = Vec<Act>;
    type State = [i64; WIDTH as usize];

    fn step(mut state: Self::State, op: &Vec<Act>) -> Option<Self::State> {
        for act in op {
            match *act {
                Act::Reads(at, value) if state[at] != value => return None,
                Act::Reads(..) => {}
                Act::Writes(at, value) => state[at] = value,
            }
        }
        Some(state)
    }

    fn is_read(op: &Vec<Act>) -> bool {
        op.iter().all(|act| matches!(act, Act::Reads(..)))
    }
}

/// The steps of an operation, with answers if it has some.
fn steps(op: &Op) -> &[Mop] {
    if op.is_ok() { op.answered.steps() } else { op.asked.steps() }
}

fn acts(op: &Op) -> Vec<Act> {
    let act = |Mop(what, key, value): &Mop| {
        let at = key.rem_euclid(WIDTH) as usize;
        match what {
            Micro::Write => Some(Act::Writes(at, value.int())),
            Micro::Read | Micro::Append => op.is_ok().then(|| Act::Reads(at, value.int())),
        }
    };
    steps(op).iter().filter_map(act).collect()
}

/// Judges all groups of registers.
pub fn check(ops: &[Op]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut groups: BTreeMap<i64, Vec<&Op>> = BTreeMap::new();
    for op in ops.iter().filter(|op| op.is_possible()) {
        if let Some(Mop(_, key, _)) = op.asked.steps().first() {
            groups.entry(key.div_euclid(WIDTH)).or_default().push(op);
        }
    }
    for (group, ops) in &groups {
        let kept = observed(ops);
        let timed: Vec<Timed<Vec<Act>>> =
            kept.iter().map(|op| Timed { op: acts(op), call: op.call, returned: op.returned() }).collect();
        match search::<Registers>([0; WIDTH as usize], &timed, STEPS_MAX) {
            Found::Linearizable => {}
            Found::GaveUp => verdict.unknown("search too long", format!("group {group}, {} operations", kept.len())),
            Found::Not(at) => verdict.invalid("not serializable", explain(*group, &kept, at)),
        }
    }
    verdict.figure("keys", groups.len());
    verdict
}

/// Without what nobody answered and nobody saw.
fn observed<'a>(ops: &[&'a Op]) -> Vec<&'a Op> {
    let mut seen: HashSet<i64> = HashSet::new();
    for op in ops.iter().filter(|op| op.is_ok()) {
        seen.extend(steps(op).iter().filter(|mop| mop.0 == Micro::Read).map(|mop| mop.2.int()));
    }
    let is_seen = |op: &Op| steps(op).iter().any(|mop| mop.0 == Micro::Write && seen.contains(&mop.2.int()));
    ops.iter().copied().filter(|op| op.is_ok() || is_seen(op)).collect()
}

/// The transaction that fits nowhere, who wrote what it read, and the latest of the others.
fn explain(group: i64, ops: &[&Op], at: usize) -> String {
    let blocked = ops[at];
    let mut writers: HashMap<i64, usize> = HashMap::new();
    for (place, op) in ops.iter().enumerate() {
        writers.extend(steps(op).iter().filter(|mop| mop.0 == Micro::Write).map(|mop| (mop.2.int(), place)));
    }
    let read = steps(blocked).iter().filter(|mop| mop.0 == Micro::Read).filter_map(|mop| writers.get(&mop.2.int()));
    let mut shown: Vec<usize> = read.copied().chain([at]).collect();
    let is_writer = |op: &Op| steps(op).iter().any(|mop| mop.0 == Micro::Write);
    let before = (0..ops.len()).rev().filter(|place| ops[*place].call <= blocked.returned().unwrap_or(u64::MAX));
    shown.extend(before.filter(|place| is_writer(ops[*place])).take(SHOWN));
    shown.sort_unstable();
    shown.dedup();
    let lines: Vec<String> = shown.iter().map(|place| format!("  {}", ops[*place])).collect();
    format!(
        "group {group}: no order of its transactions explains\n  {blocked}\nthe latest before it:\n{}",
        lines.join("\n")
    )
}
