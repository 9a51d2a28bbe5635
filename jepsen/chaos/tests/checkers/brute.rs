//! Small histories, judged by trying every order: a checker must never see a fault where there is none, and must
//! see those that there are.

use std::collections::BTreeMap;

use quoris_chaos::check::wgl::{Found, Timed, search};
use quoris_chaos::check::{append, counter, queue, register, set};
use quoris_chaos::history::{End, F, Micro, Mop, Op, Value};
use quoris_chaos::verdict::{Validity, Verdict};

use super::world::{Dice, Size, ask, history};

/// Whether some order of the operations, each between its call and its return, explains all answers.
fn explainable<S: Clone>(state: &S, left: &[&Op], step: &impl Fn(&S, &Op) -> Option<S>) -> bool {
    if left.iter().all(|op| !op.is_ok()) {
        return true;
    }
    let soonest = left.iter().filter_map(|op| op.returned()).min().unwrap_or(u64::MAX);
    (0..left.len()).filter(|at| left[*at].call <= soonest).any(|at| {
        let rest: Vec<&Op> = left.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, op)| *op).collect();
        step(state, left[at]).is_some_and(|next| explainable(&next, &rest, step))
    })
}

fn judge<S: Clone>(start: &S, ops: &[Op], step: impl Fn(&S, &Op) -> Option<S>) -> bool {
    let possible: Vec<&Op> = ops.iter().filter(|op| op.is_possible()).collect();
    explainable(start, &possible, &step)
}

/// Compares a checker with brute force; gives the share of the wrong histories that it finds, in per cent.
fn compare(
    name: &str,
    rounds: u64,
    make: impl Fn(u64) -> Vec<Op>,
    check: impl Fn(&[Op]) -> Verdict,
    is_right: impl Fn(&[Op]) -> bool,
) -> u64 {
    let (mut wrong, mut found) = (0, 0);
    for seed in 0..rounds {
        let ops = make(seed);
        let verdict = check(&ops);
        let is_right = is_right(&ops);
        let shown = || ops.iter().map(Op::to_string).collect::<Vec<_>>().join("\n");
        let fault = verdict.findings.iter().find(|finding| finding.validity == Validity::Invalid);
        if let Some(fault) = fault.filter(|_| is_right) {
            panic!("{name}, seed {seed}: {} where nothing is wrong\n{}\n{}", fault.name, fault.text, shown());
        }
        wrong += u64::from(!is_right);
        found += u64::from(!is_right && fault.is_some());
    }
    println!("{name}: {rounds} histories, {wrong} of them wrong, {found} of those found");
    assert!(wrong > rounds / 20 && wrong < rounds, "{wrong} of {rounds} wrong histories compare nothing");
    found * 100 / wrong
}

/// Values on top of each other, unknown outcomes, and answers by chance.
#[test]
fn the_search_agrees_with_brute_force_on_any_history() {
    let (mut yes, mut no) = (0, 0);
    for seed in 0..100_000 {
        let mut dice = Dice::new(seed);
        let ops: Vec<Timed<register::Act>> = (0..1 + dice.below(7))
            .map(|_| {
                let value = |dice: &mut Dice| dice.below(3) as i64;
                let op = match dice.below(3) {
                    0 => register::Act::Write(value(&mut dice)),
                    1 => register::Act::Read(value(&mut dice)),
                    _ => register::Act::Cas(value(&mut dice), value(&mut dice)),
                };
                let call = dice.below(40);
                let returned = (!dice.one_in(5)).then(|| call + 1 + dice.below(25));
                Timed { op, call, returned }
            })
            .collect();
        let found = search::<register::Register>(0, &ops, 1_000_000);
        let expected = any_order(0, &ops);
        assert_eq!(found == Found::Linearizable, expected, "seed {seed}: {ops:?}");
        assert_ne!(found, Found::GaveUp);
        yes += u32::from(expected);
        no += u32::from(!expected);
    }
    println!("{yes} histories with an order, {no} without");
    assert!(yes > 4000 && no > 4000);
}

fn any_order(state: i64, left: &[Timed<register::Act>]) -> bool {
    use quoris_chaos::check::wgl::Model;
    if left.iter().all(|op| op.returned.is_none()) {
        return true;
    }
    let soonest = left.iter().filter_map(|op| op.returned).min().unwrap_or(u64::MAX);
    (0..left.len()).filter(|at| left[*at].call <= soonest).any(|at| {
        let mut rest = left.to_vec();
        let op = rest.remove(at);
        register::Register::step(state, &op.op).is_some_and(|next| any_order(next, &rest))
    })
}

const SMALL: Size = Size { ops: 7, clients: 3, unknown: 6 };

#[test]
fn counters() {
    let make = |seed| {
        let mut sum = 0;
        let choose = |dice: &mut Dice, _| match dice.below(2) {
            0 => ask(F::Add, 1, Value::Int(1 + dice.below(3) as i64)),
            _ => ask(F::Read, 1, Value::Null),
        };
        history(seed, SMALL, choose, |dice, op| {
            let added = if op.f == F::Add { op.asked.int() } else { 0 };
            let lie = if dice.one_in(12) { dice.below(5) as i64 - 2 } else { 0 };
            sum += added;
            Some(Value::Int(sum + lie))
        })
    };
    let step = |sum: &i64, op: &Op| {
        let next = sum + if op.f == F::Add { op.asked.int() } else { 0 };
        (!op.is_ok() || op.answered.int() == next).then_some(next)
    };
    let found = compare("counter", 20_000, make, counter::check, |ops| judge(&0, ops, step));
    assert!(found >= 80, "{found} %");
}

#[test]
fn sets() {
    let make = |seed| {
        let (mut next, mut state) = (0, Vec::new());
        let choose = |dice: &mut Dice, _| {
            next += 1;
            if dice.one_in(2) { ask(F::Add, 1, Value::Int(next)) } else { ask(F::Read, 1, Value::Null) }
        };
        history(seed, SMALL, choose, |dice, op| {
            if op.f == F::Add && !dice.one_in(10) {
                state.push(op.asked.int());
            }
            let mut seen: Vec<i64> = state.clone();
            if dice.one_in(10) {
                seen.pop();
            }
            Some(if op.f == F::Add { Value::Null } else { Value::Ints(seen) })
        })
    };
    let step = |state: &Vec<i64>, op: &Op| {
        let mut next = state.clone();
        if op.f == F::Add {
            next.push(op.asked.int());
            next.sort_unstable();
        }
        let mut answered = op.answered.ints().to_vec();
        answered.sort_unstable();
        (op.f == F::Add || !op.is_ok() || answered == next).then_some(next)
    };
    let found = compare("set", 20_000, make, set::check, |ops| judge(&Vec::new(), ops, step));
    assert!(found >= 90, "{found} %");
}

#[test]
fn queues() {
    let make = |seed| {
        let (mut next, mut state) = (0, Vec::new());
        let choose = |dice: &mut Dice, _| {
            next += 1;
            if dice.one_in(2) { ask(F::Enqueue, 1, Value::Int(next)) } else { ask(F::Dequeue, 1, Value::Null) }
        };
        let mut ops = history(seed, SMALL, choose, |dice, op| {
            let lie = dice.below(40);
            match (op.f, lie) {
                (F::Enqueue, 0) => {}
                (F::Enqueue, 1) => state.insert(0, op.asked.int()),
                (F::Enqueue, _) => state.push(op.asked.int()),
                (_, 2) => return Some(Value::Null),
                (_, 3) => return Some(state.first().map_or(Value::Null, |value| Value::Int(*value))),
                _ if state.is_empty() => return Some(Value::Null),
                _ => return Some(Value::Int(state.remove(0))),
            }
            Some(Value::Null)
        });
        // Drained: what is left comes out, then nothing.
        let left: Vec<i64> = state.into_iter().chain([0]).collect();
        for (at, value) in left.into_iter().enumerate() {
            let call = 100_000 + at as u64 * 10;
            let answered = Value::Int(value);
            let (asked, end) = (Value::Null, End::Ok(call + 1));
            ops.push(Op { process: 99, f: F::Dequeue, key: 1, asked, answered, call, end });
        }
        ops
    };
    let step = |state: &Vec<i64>, op: &Op| {
        let mut next = state.clone();
        if op.f == F::Enqueue {
            next.push(op.asked.int());
            return Some(next);
        }
        let front = if next.is_empty() { 0 } else { next.remove(0) };
        (!op.is_ok() || op.answered.int() == front).then_some(next)
    };
    let found = compare("queue", 20_000, make, queue::check, |ops| judge(&Vec::new(), ops, step));
    assert!(found >= 90, "{found} %");
}

/// Lists by key.
pub type Store = BTreeMap<i64, Vec<i64>>;

/// Runs the steps; gives them with answers.
pub fn run(store: &mut Store, steps: &[Mop]) -> Vec<Mop> {
    let mut answer = |Mop(what, key, value): &Mop| {
        let list = store.entry(*key).or_default();
        if *what == Micro::Append {
            list.push(value.int());
            return Mop(*what, *key, value.clone());
        }
        Mop(*what, *key, Value::Ints(list.clone()))
    };
    steps.iter().map(&mut answer).collect()
}

/// One to three steps on two lists.
pub fn steps(dice: &mut Dice, next: &mut i64, keys: u64) -> Value {
    let step = |dice: &mut Dice, next: &mut i64| {
        let key = dice.below(keys) as i64;
        if dice.one_in(2) {
            *next += 1;
            return Mop(Micro::Append, key, Value::Int(*next));
        }
        Mop(Micro::Read, key, Value::Null)
    };
    Value::Txn((0..1 + dice.below(3)).map(|_| step(dice, next)).collect())
}

#[test]
fn transactions() {
    let make = |seed| {
        let (mut next, mut store, mut old) = (0, Store::new(), Store::new());
        let choose = |dice: &mut Dice, _| ask(F::Txn, 0, steps(dice, &mut next, 2));
        let mut ops = history(seed, Size { ops: 6, ..SMALL }, choose, |dice, op| {
            if dice.one_in(4) {
                old = store.clone();
            }
            match dice.below(30) {
                // Of yesterday.
                0 => Some(Value::Txn(run(&mut old.clone(), op.asked.steps()))),
                // Torn: each step sees another state.
                1 => {
                    let all = run(&mut store, op.asked.steps());
                    let early = run(&mut old.clone(), op.asked.steps());
                    let pairs = all.into_iter().zip(early);
                    Some(Value::Txn(pairs.map(|(a, b)| if dice.one_in(2) { a } else { b }).collect()))
                }
                _ => Some(Value::Txn(run(&mut store, op.asked.steps()))),
            }
        });
        let last = [0, 1].map(|key| Mop(Micro::Read, key, Value::Null));
        let answered = Value::Txn(run(&mut store, &last));
        let (asked, end) = (Value::Txn(last.to_vec()), End::Ok(200_000));
        ops.push(Op { process: 99, f: F::Txn, key: 0, asked, answered, call: 100_000, end });
        ops
    };
    let step = |store: &Store, op: &Op| {
        let mut next = store.clone();
        let answers = run(&mut next, op.asked.steps());
        (!op.is_ok() || answers == op.answered.steps()).then_some(next)
    };
    let found = compare("append", 20_000, make, append::check, |ops| judge(&Store::new(), ops, step));
    assert!(found >= 99, "{found} %");
}
