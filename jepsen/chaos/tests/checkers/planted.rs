//! Planted faults: a history of thousands of operations with one lie in it, which must be found and named; and for
//! each class of circle among transactions the smallest history that has it.

use std::collections::BTreeMap;

use quoris_chaos::check::{append, counter, expiry, lock, queue, register, set};
use quoris_chaos::history::{End, F, Mop, Op, Value};
use quoris_chaos::verdict::Verdict;

use super::brute::{Store, run, steps};
use super::world::{Dice, Question, Size, ask, history};

pub const SIZE: Size = Size { ops: 5000, clients: 10, unknown: 50 };
/// The lie is told at this one of the chances to tell it.
const WHEN: u32 = 100;
const SEEDS: std::ops::Range<u64> = 0..10;

/// Without a lie all seeds are right; with it all are wrong, under one of these names.
fn plant(names: &[&str], make: impl Fn(u64, bool) -> Vec<Op>, check: impl Fn(&[Op]) -> Verdict) {
    for seed in SEEDS {
        let honest = check(&make(seed, false));
        assert!(honest.findings.is_empty(), "seed {seed}: {honest}\n{}", honest.findings[0].text);
        let lying = check(&make(seed, true));
        let named = names.iter().any(|name| lying.has(name));
        assert!(named, "seed {seed}: {names:?} expected, {lying}");
    }
}

/// Counts the chances to lie, and lies once.
struct Liar(Option<u32>);

impl Liar {
    fn new(lies: bool) -> Liar {
        Liar(lies.then_some(WHEN))
    }

    /// Asked where a lie can be told.
    fn lies_now(&mut self) -> bool {
        self.0 = self.0.and_then(|left| left.checked_sub(1));
        self.0 == Some(0)
    }
}

/// Every key is asked about 500 times, `hot` of them at a time.
pub fn register_question(next: &mut i64, hot: i64) -> impl FnMut(&mut Dice, u64) -> Question + '_ {
    move |dice, _| {
        *next += 1;
        let key = *next / 500 / hot * hot + dice.below(hot as u64) as i64;
        match dice.below(4) {
            0 => ask(F::Write, key, Value::Int(*next)),
            1 => ask(F::Cas, key, Value::Int(*next)),
            _ => ask(F::Read, key, Value::Null),
        }
    }
}

/// Does it; gives the answer.
pub fn register_answer(state: &mut BTreeMap<i64, i64>, op: &Op) -> Value {
    let value = state.entry(op.key).or_default();
    let old = *value;
    if op.f != F::Read {
        *value = op.asked.int();
    }
    if op.f == F::Cas { Value::Ints(vec![old, *value]) } else { Value::Int(*value) }
}

#[test]
fn a_register_that_answers_with_yesterday() {
    let make = |seed, lies| {
        let (mut next, mut state, mut liar) = (0, BTreeMap::new(), Liar::new(lies));
        let mut first: BTreeMap<i64, (i64, i32)> = BTreeMap::new();
        history(seed, SIZE, register_question(&mut next, 1), |_, op| {
            let told = first.entry(op.key).or_default();
            told.1 += 1;
            if op.f == F::Read && told.0 != 0 && told.1 > 100 && liar.lies_now() {
                return Some(Value::Int(told.0));
            }
            let answer = register_answer(&mut state, op);
            if op.f == F::Write && told.0 == 0 {
                told.0 = op.asked.int();
            }
            Some(answer)
        })
    };
    plant(&["not linearizable"], make, register::check);
}

#[test]
fn a_register_that_forgets_an_acknowledged_write() {
    let make = |seed, lies| {
        let (mut next, mut state, mut liar) = (0, BTreeMap::new(), Liar::new(lies));
        history(seed, Size { clients: 4, ..SIZE }, register_question(&mut next, 1), |_, op| {
            // Swapped in over a value that goes on being there: the next swap shows it.
            if op.f == F::Cas && op.asked.int() % 500 < 400 && liar.lies_now() {
                let old = state.get(&op.key).copied().unwrap_or_default();
                return Some(Value::Ints(vec![old, op.asked.int()]));
            }
            Some(register_answer(&mut state, op))
        })
    };
    // One in a few is overwritten before anybody could have seen it.
    let found = SEEDS.filter(|seed| register::check(&make(*seed, true)).has("not linearizable")).count();
    assert!(found * 10 >= SEEDS.count() * 6, "{found}");
}

/// Additions and readings.
pub fn counter_question(dice: &mut Dice, _: u64) -> Question {
    let key = dice.below(5) as i64;
    if dice.one_in(2) { ask(F::Add, key, Value::Int(1 + dice.below(5) as i64)) } else { ask(F::Read, key, Value::Null) }
}

#[test]
fn a_counter_that_adds_twice_or_not_at_all() {
    for twice in [0, 2] {
        let make = |seed, lies| {
            let (mut sums, mut liar) = (BTreeMap::<i64, i64>::new(), Liar::new(lies));
            history(seed, Size { unknown: 0, ..SIZE }, counter_question, |_, op| {
                let times = if op.f == F::Add && liar.lies_now() { twice } else { 1 };
                let sum = sums.entry(op.key).or_default();
                *sum += times * op.asked.int();
                Some(Value::Int(if times == 0 { *sum + op.asked.int() } else { *sum }))
            })
        };
        let names: &[&str] =
            if twice == 2 { &["added too much"] } else { &["lost addition", "two additions made one sum"] };
        plant(names, make, counter::check);
    }
}

/// Elements and readings; sets change every 200 operations.
pub fn set_question(next: &mut i64) -> impl FnMut(&mut Dice, u64) -> Question + '_ {
    move |dice, _| {
        *next += 1;
        let key = *next / 200;
        if dice.one_in(2) { ask(F::Add, key, Value::Int(*next)) } else { ask(F::Read, key, Value::Null) }
    }
}

#[test]
fn a_set_that_loses_invents_or_refuses_and_has() {
    for (kind, name) in [(0, "lost element"), (1, "phantom"), (2, "stale read")] {
        let make = |seed, lies| {
            let (mut next, mut sets, mut liar) = (0, BTreeMap::<i64, Vec<i64>>::new(), Liar::new(lies));
            history(seed, SIZE, set_question(&mut next), |_, op| {
                let set = sets.entry(op.key).or_default();
                let early = op.asked.int() % 200 < 100;
                match op.f {
                    F::Add if kind < 2 && early && liar.lies_now() => {
                        if kind == 1 {
                            set.push(op.asked.int());
                            return None;
                        }
                    }
                    F::Add => set.push(op.asked.int()),
                    _ if kind == 2 && set.len() > 20 && set.len() < 60 && liar.lies_now() => {
                        return Some(Value::Ints(set[1..].to_vec()));
                    }
                    _ => return Some(Value::Ints(set.clone())),
                }
                Some(Value::Null)
            })
        };
        plant(&[name], make, set::check);
    }
}

/// Elements in and out.
pub fn queue_question(next: &mut i64) -> impl FnMut(&mut Dice, u64) -> Question + '_ {
    move |dice, _| {
        *next += 1;
        let key = dice.below(5) as i64;
        if dice.one_in(2) { ask(F::Enqueue, key, Value::Int(*next)) } else { ask(F::Dequeue, key, Value::Null) }
    }
}

/// Drains what is left, one after the other.
pub fn drain(ops: &mut Vec<Op>, queues: BTreeMap<i64, Vec<i64>>) {
    let mut call = ops.iter().map(|op| op.returned().unwrap_or(op.call)).max().unwrap_or(0);
    for (key, left) in queues {
        for value in left.into_iter().chain([0]) {
            call += 10;
            let (answered, end) = (Value::Int(value), End::Ok(call + 1));
            ops.push(Op { process: 9999, f: F::Dequeue, key, asked: Value::Null, answered, call, end });
        }
    }
}

#[test]
fn a_queue_that_loses_doubles_swaps_or_denies() {
    for (kind, name) in [(0, "lost element"), (1, "taken twice"), (2, "out of order"), (3, "not empty")] {
        let make = |seed, lies| {
            let (mut next, mut queues, mut liar) = (0, BTreeMap::<i64, Vec<i64>>::new(), Liar::new(lies));
            let mut ops = history(seed, Size { unknown: 0, ..SIZE }, queue_question(&mut next), |_, op| {
                let queue = queues.entry(op.key).or_default();
                let lies = (op.f == F::Enqueue) == (kind == 0) && queue.len() > 12 && liar.lies_now();
                match op.f {
                    F::Enqueue if lies => {}
                    F::Enqueue => queue.push(op.asked.int()),
                    _ if lies && kind == 1 => return Some(Value::Int(queue[0])),
                    _ if lies && kind == 2 => return Some(Value::Int(queue.pop().expect("more than twelve"))),
                    _ if queue.is_empty() || lies => return Some(Value::Null),
                    _ => return Some(Value::Int(queue.remove(0))),
                }
                Some(Value::Null)
            });
            drain(&mut ops, queues);
            ops
        };
        plant(&[name], make, queue::check);
    }
}

/// Lists change every 100 elements.
pub fn txn_question(next: &mut i64) -> impl FnMut(&mut Dice, u64) -> Question + '_ {
    move |dice, _| {
        let first = *next / 100 * 3;
        let Value::Txn(mut steps) = steps(dice, next, 3) else { panic!("steps") };
        steps.iter_mut().for_each(|step| step.1 += first);
        ask(F::Txn, 0, Value::Txn(steps))
    }
}

#[test]
fn transactions_that_read_yesterday_or_are_lost() {
    let orders = ["", "-process", "-realtime"];
    let names: Vec<String> = ["G-single", "G2-item"].iter().flat_map(|c| orders.map(|o| format!("{c}{o}"))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for kind in 0..2 {
        let make = |seed, lies| {
            let (mut next, mut store, mut liar) = (0, Store::new(), Liar::new(lies));
            history(seed, SIZE, txn_question(&mut next), |_, op| {
                let first = op.asked.steps()[0].clone();
                let list = store.get(&first.1).map_or(0, Vec::len);
                let fits =
                    op.asked.steps().len() == 1 && (5..20).contains(&list) && (first.2 == Value::Null) == (kind == 0);
                if fits && liar.lies_now() {
                    let old = store[&first.1][..1].to_vec();
                    let answer = if kind == 0 { Value::Ints(old) } else { first.2 };
                    return Some(Value::Txn(vec![Mop(first.0, first.1, answer)]));
                }
                Some(Value::Txn(run(&mut store, op.asked.steps())))
            })
        };
        plant(&names, make, append::check);
    }
}

/// Whole transactions as JSON, with process, call and return.
fn golden(txns: &[(u64, u64, u64, &str)]) -> Verdict {
    let op = |&(process, call, returned, text): &(u64, u64, u64, &str)| {
        let answered: Value = serde_json::from_str(text).expect("steps");
        let end = if returned == 0 { End::Fail } else { End::Ok(returned) };
        Op { process, f: F::Txn, key: 0, asked: answered.clone(), answered, call, end }
    };
    append::check(&txns.iter().map(op).collect::<Vec<_>>())
}

fn named(verdict: &Verdict) -> Vec<&str> {
    verdict.findings.iter().map(|finding| finding.name.as_str()).collect()
}

#[test]
fn each_anomaly_by_its_name() {
    let all = 1000;
    let read = |x: &str, y: &str| format!(r#"[["r",1,{x}],["r",2,{y}]]"#);
    let g0 = golden(&[
        (1, 1, all, r#"[["append",1,1],["append",2,1]]"#),
        (2, 1, all, r#"[["append",1,2],["append",2,2]]"#),
        (3, 1, all, &read("[1,2]", "[2,1]")),
    ]);
    assert_eq!(named(&g0)[0], "G0 write cycle");
    let g1a = golden(&[(1, 1, 0, r#"[["append",1,1]]"#), (2, 1, all, r#"[["r",1,[1]]]"#)]);
    assert_eq!(named(&g1a), ["G1a aborted read"]);
    let g1b = golden(&[
        (1, 1, all, r#"[["append",1,1],["append",1,2]]"#),
        (2, 1, all, r#"[["r",1,[1]]]"#),
        (3, 1, all, r#"[["r",1,[1,2]]]"#),
    ]);
    assert!(g1b.has("G1b intermediate read"), "{g1b}");
    let g1c = golden(&[(1, 1, all, r#"[["append",1,1],["r",2,[1]]]"#), (2, 1, all, r#"[["append",2,1],["r",1,[1]]]"#)]);
    assert_eq!(named(&g1c), ["G1c circular information flow"]);
    let single = golden(&[
        (1, 1, all, r#"[["append",1,1],["append",2,1]]"#),
        (2, 1, all, &read("[1]", "[]")),
        (3, 1, all, &read("[1]", "[1]")),
    ]);
    assert_eq!(named(&single), ["G-single"]);
    let skew = golden(&[
        (1, 1, all, r#"[["r",1,[]],["append",2,1]]"#),
        (2, 1, all, r#"[["r",2,[]],["append",1,1]]"#),
        (3, 1, all, &read("[1]", "[1]")),
    ]);
    assert_eq!(named(&skew), ["G2-item"]);
    let lost_update = golden(&[
        (1, 1, all, r#"[["r",1,[]],["append",1,1]]"#),
        (2, 1, all, r#"[["r",1,[]],["append",1,2]]"#),
        (3, 1, all, r#"[["r",1,[1,2]]]"#),
    ]);
    assert_eq!(named(&lost_update), ["G-single"]);
    let process =
        golden(&[(1, 1, 2, r#"[["append",1,1]]"#), (1, 3, 4, r#"[["r",1,[]]]"#), (2, 5, 6, r#"[["r",1,[1]]]"#)]);
    assert_eq!(named(&process), ["G-single-process"]);
    let time = golden(&[(1, 1, 2, r#"[["append",1,1]]"#), (2, 3, 4, r#"[["r",1,[]]]"#), (2, 5, 6, r#"[["r",1,[1]]]"#)]);
    assert_eq!(named(&time), ["G-single-realtime"]);
    let lost = golden(&[(1, 1, 2, r#"[["append",1,1]]"#), (2, 3, 4, r#"[["r",1,[]]]"#)]);
    assert_eq!(named(&lost), ["G-single-realtime"]);
    let internal = golden(&[(1, 1, 2, r#"[["append",1,1],["r",1,[]]]"#)]);
    assert!(internal.has("internal"));
    let order = golden(&[
        (1, 1, all, r#"[["append",1,1]]"#),
        (2, 1, all, r#"[["append",1,2]]"#),
        (3, 1, all, r#"[["r",1,[1,2]]]"#),
        (4, 1, all, r#"[["r",1,[2]]]"#),
    ]);
    assert!(order.has("incompatible order"));
    println!("{}\n{}", skew.findings[0].text, time.findings[0].text);
}

fn op(f: F, asked: Value, answered: Value, call: u64, end: End) -> Op {
    Op { process: call, f, key: 1, asked, answered, call, end }
}

const MS: u64 = 1_000_000;

#[test]
fn locks() {
    let take =
        |fence, from: u64, to: u64| op(F::Acquire, Value::Int(100), Value::Int(fence), from * MS, End::Ok(to * MS));
    let give = |fence, from: u64, end| op(F::Release, Value::Int(fence), Value::Null, from * MS, end);
    let judge = |ops: &[Op]| lock::check(ops, 10 * MS);
    assert!(judge(&[take(1, 0, 1), give(1, 10, End::Ok(11 * MS)), take(2, 12, 13)]).findings.is_empty());
    assert!(judge(&[take(1, 0, 1), take(2, 95, 96)]).findings.is_empty(), "its time was nearly over");
    assert!(judge(&[take(1, 0, 1), give(1, 10, End::Info), take(2, 12, 13)]).findings.is_empty());
    assert_eq!(named(&judge(&[take(1, 0, 1), take(2, 50, 51)])), ["two holders"]);
    assert_eq!(named(&judge(&[take(1, 0, 1), give(1, 10, End::Fail), take(2, 50, 51)])), ["two holders"]);
    assert_eq!(named(&judge(&[take(2, 0, 1), take(1, 200, 201)])), ["fence went back"]);
    assert_eq!(named(&judge(&[take(2, 0, 1), take(2, 200, 201)])), ["fence used twice"]);
}

#[test]
fn expiry_intervals() {
    let write = |end| op(F::Write, Value::Ints(vec![7, 100]), Value::Null, 0, end);
    let read = |value, at: u64| op(F::Read, Value::Null, Value::Int(value), at * MS, End::Ok((at + 1) * MS));
    let judge = |ops: &[Op]| expiry::check(ops, expiry::Tolerance { early: 10 * MS, late: 500 * MS });
    let sure = || write(End::Ok(MS));
    assert!(judge(&[sure(), read(7, 50), read(7, 550), read(0, 600)]).findings.is_empty());
    assert!(judge(&[write(End::Info), read(0, 5), read(7, 50), read(0, 100)]).findings.is_empty(), "it came late");
    assert_eq!(named(&judge(&[sure(), read(0, 50)])), ["died early"]);
    assert_eq!(named(&judge(&[sure(), read(7, 602)])), ["lives too long"]);
    assert_eq!(named(&judge(&[sure(), read(0, 120), read(7, 130)])), ["came back"]);
    assert_eq!(named(&judge(&[write(End::Info), read(7, 5), read(0, 120), read(7, 130)])), ["came back"]);
    assert_eq!(named(&judge(&[write(End::Fail), read(7, 5)])), ["phantom"]);
    assert_eq!(named(&judge(&[sure(), read(8, 5)])), ["phantom"]);
}
