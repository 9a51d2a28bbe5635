//! Many operations at once, and how long each checker takes for them; the numbers are printed. The gate takes fewer
//! than `QUORIS_CHAOS_OPS=1000000 ./dev nextest -p quoris-chaos --no-capture figures`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use quoris_chaos::check::{append, counter, expiry, lock, queue, register, set};
use quoris_chaos::history::{End, F, Op, Value};
use quoris_chaos::verdict::Verdict;

use super::brute::{Store, run};
use super::planted::{counter_question, drain, queue_question, register_answer, register_question};
use super::planted::{set_question, txn_question};
use super::world::{Size, history};

/// On a busy machine; alone it is a few seconds for a million.
const TIME_MAX: Duration = Duration::from_secs(60);

fn ops_wanted() -> usize {
    std::env::var("QUORIS_CHAOS_OPS").ok().and_then(|text| text.parse().ok()).unwrap_or(200_000)
}

fn size() -> Size {
    Size { ops: ops_wanted(), clients: 50, unknown: 1000 }
}

fn measure(name: &str, ops: &[Op], check: impl Fn(&[Op]) -> Verdict) {
    let began = Instant::now();
    let verdict = check(ops);
    let took = began.elapsed();
    println!("{name}: {} operations judged in {:.2} s: {verdict}", ops.len(), took.as_secs_f64());
    assert!(verdict.findings.is_empty(), "{}", verdict.findings[0].text);
    assert!(took < TIME_MAX);
}

#[test]
fn registers() {
    let (mut next, mut state) = (0, BTreeMap::new());
    let ops = history(1, size(), register_question(&mut next, 20), |_, op| Some(register_answer(&mut state, op)));
    measure("register", &ops, register::check);
}

#[test]
fn counters() {
    let mut sums = BTreeMap::<i64, i64>::new();
    let ops = history(2, size(), counter_question, |_, op| {
        let sum = sums.entry(op.key).or_default();
        *sum += op.asked.int();
        Some(Value::Int(*sum))
    });
    measure("counter", &ops, counter::check);
}

#[test]
fn sets() {
    let (mut next, mut sets) = (0, BTreeMap::<i64, Vec<i64>>::new());
    let ops = history(3, size(), set_question(&mut next), |_, op| {
        let set = sets.entry(op.key).or_default();
        if op.f == F::Read {
            return Some(Value::Ints(set.clone()));
        }
        set.push(op.asked.int());
        Some(Value::Null)
    });
    measure("set", &ops, set::check);
}

#[test]
fn queues() {
    let (mut next, mut queues) = (0, BTreeMap::<i64, std::collections::VecDeque<i64>>::new());
    let mut ops = history(4, size(), queue_question(&mut next), |_, op| {
        let queue = queues.entry(op.key).or_default();
        if op.f == F::Enqueue {
            queue.push_back(op.asked.int());
            return Some(Value::Null);
        }
        Some(queue.pop_front().map_or(Value::Null, Value::Int))
    });
    drain(&mut ops, queues.into_iter().map(|(key, left)| (key, left.into())).collect());
    measure("queue", &ops, queue::check);
}

#[test]
fn transactions() {
    let (mut next, mut store) = (0, Store::new());
    let ops = history(5, size(), txn_question(&mut next), |_, op| Some(Value::Txn(run(&mut store, op.asked.steps()))));
    measure("append", &ops, append::check);
}

#[test]
fn locks_and_expiry() {
    const MS: u64 = 1_000_000;
    let op = |f, key, asked, answered, call| Op { process: 0, f, key, asked, answered, call, end: End::Ok(call + 10) };
    let takes: Vec<Op> = (1..=ops_wanted() as i64)
        .map(|n| op(F::Acquire, n % 10, Value::Int(5), Value::Int(n), n as u64 * MS))
        .collect();
    measure("lock", &takes, |ops| lock::check(ops, MS));
    let lives: Vec<Op> = (0..ops_wanted() as i64)
        .map(|n| {
            let (key, call) = (n / 10, n as u64 * MS);
            match n % 10 {
                0 => op(F::Write, key, Value::Ints(vec![1, 5]), Value::Null, call),
                at => op(F::Read, key, Value::Null, Value::Int(i64::from(at < 5)), call),
            }
        })
        .collect();
    measure("expiry", &lives, |ops| expiry::check(ops, expiry::Tolerance { early: MS, late: MS }));
}
