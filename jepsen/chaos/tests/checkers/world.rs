//! A system with one state and clients that take time: its histories are right by construction, unless its
//! `apply` is made to lie.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use quoris_chaos::history::{End, F, Op, Value};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;

/// Chance with a few words for it.
pub struct Dice(Pcg64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(Pcg64::seed_from_u64(seed))
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64() % n
    }

    /// One time in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.below(n) == 0
    }
}

/// What a client asks for.
pub struct Question {
    pub f: F,
    pub key: i64,
    pub asked: Value,
}

/// A question.
pub fn ask(f: F, key: i64, asked: Value) -> Question {
    Question { f, key, asked }
}

/// How many operations, by how many clients, and how often an outcome is not known.
#[derive(Clone, Copy)]
pub struct Size {
    pub ops: usize,
    pub clients: usize,
    /// One outcome in so many; 0 for none.
    pub unknown: u64,
}

enum Stage {
    Begin,
    Effect(usize),
    End(usize),
}

/// Lets clients ask; `apply` gives the answer of an operation at the moment of its effect, or nothing when it fails.
pub fn history(
    seed: u64,
    size: Size,
    mut choose: impl FnMut(&mut Dice, u64) -> Question,
    mut apply: impl FnMut(&mut Dice, &Op) -> Option<Value>,
) -> Vec<Op> {
    let mut dice = Dice::new(seed);
    let mut ops: Vec<Op> = Vec::with_capacity(size.ops);
    let mut fates: Vec<Option<Value>> = Vec::with_capacity(size.ops);
    let mut stages: Vec<(u64, Stage)> = Vec::new();
    let mut heap = BinaryHeap::new();
    let at = |heap: &mut BinaryHeap<_>, stages: &mut Vec<_>, time: u64, process: u64, stage: Stage| {
        heap.push(Reverse((time, stages.len())));
        stages.push((process, stage));
    };
    for process in 0..size.clients as u64 {
        at(&mut heap, &mut stages, 1 + dice.below(20), process, Stage::Begin);
    }
    while let Some(Reverse((time, stage))) = heap.pop() {
        let process = stages[stage].0;
        match stages[stage].1 {
            Stage::Begin if ops.len() < size.ops => {
                let Question { f, key, asked } = choose(&mut dice, process);
                ops.push(Op { process, f, key, asked, answered: Value::Null, call: time, end: End::Info });
                fates.push(None);
                at(&mut heap, &mut stages, time + 1 + dice.below(20), process, Stage::Effect(ops.len() - 1));
            }
            Stage::Begin => {}
            Stage::Effect(op) if dice.one_in(size.unknown) => {
                // Nobody will know; it happens now, later or never.
                let process = process + size.clients as u64;
                at(&mut heap, &mut stages, time + 1 + dice.below(20), process, Stage::Begin);
                if dice.one_in(2) {
                    apply(&mut dice, &ops[op]);
                }
            }
            Stage::Effect(op) => {
                fates[op] = apply(&mut dice, &ops[op]);
                at(&mut heap, &mut stages, time + 1 + dice.below(20), process, Stage::End(op));
            }
            Stage::End(op) => {
                ops[op].end = if fates[op].is_some() { End::Ok(time) } else { End::Fail };
                ops[op].answered = fates[op].take().unwrap_or_default();
                at(&mut heap, &mut stages, time + 1 + dice.below(20), process, Stage::Begin);
            }
        }
    }
    ops
}
