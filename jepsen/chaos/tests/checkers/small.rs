//! Small histories by hand: banks, streams, channels and transactions over registers. What is right raises no
//! alarm, and each lie is called by its name.

use quoris_chaos::check::{bank, channel, many, stream};
use quoris_chaos::history::{End, F, Micro, Mop, Op, Value};
use quoris_chaos::verdict::{Validity, Verdict};

fn op(f: F, asked: Value, answered: Value, (call, returned): (u64, u64)) -> Op {
    Op { process: call, f, key: 0, asked, answered, call, end: End::Ok(returned) }
}

fn ints(list: &[i64]) -> Value {
    Value::Ints(list.to_vec())
}

fn unknown(op: Op) -> Op {
    Op { end: End::Info, ..op }
}

fn failed(op: Op) -> Op {
    Op { end: End::Fail, ..op }
}

fn assert_valid(verdict: &Verdict) {
    assert_eq!(verdict.validity(), Validity::Valid, "{verdict}");
}

fn assert_found(verdict: &Verdict, name: &str) {
    assert!(verdict.has(name), "{name}: {verdict}");
}

fn transfer(from: i64, to: i64, sum: i64, time: (u64, u64)) -> Op {
    op(F::Transfer, ints(&[from, to, sum]), ints(&[from, to, sum]), time)
}

fn balances(list: &[i64], time: (u64, u64)) -> Op {
    op(F::Read, Value::Null, ints(list), time)
}

#[test]
fn banks_keep_their_money() {
    let moves = [transfer(0, 1, 30, (1, 2)), unknown(transfer(2, 3, 10, (3, 4)))];
    let with = |read: Op| [&moves[..], &[read]].concat();
    assert_valid(&bank::check(&with(balances(&[70, 130, 100, 100], (5, 6)))));
    assert_valid(&bank::check(&with(balances(&[70, 130, 90, 110], (5, 6)))));
    assert_found(&bank::check(&with(balances(&[70, 130, 90, 100], (5, 6)))), "wrong total");
    assert_found(&bank::check(&with(balances(&[100, 100, 100, 100], (5, 6)))), "lost transfer");
    assert_found(&bank::check(&with(balances(&[40, 160, 100, 100], (5, 6)))), "transferred too much");
    assert_found(&bank::check(&with(balances(&[-30, 230, 100, 100], (5, 6)))), "below zero");
    let refused = [failed(transfer(0, 1, 30, (1, 2))), balances(&[70, 130, 100, 100], (5, 6))];
    assert_found(&bank::check(&refused), "transferred too much");
}

fn add(value: i64, id: i64, time: (u64, u64)) -> Op {
    op(F::Add, Value::Int(value), ints(&[id, 0]), time)
}

/// From the last entry on backwards: its id and its value.
fn entries(list: &[(i64, i64)], time: (u64, u64)) -> Op {
    op(F::Read, Value::Null, Value::Ints(list.iter().flat_map(|(id, value)| [*id, 0, *value]).collect()), time)
}

fn taken(list: &[i64], time: (u64, u64)) -> Op {
    op(F::Dequeue, Value::Null, ints(list), time)
}

#[test]
fn streams_keep_their_entries_and_their_order() {
    let adds = [add(1, 10, (1, 2)), add(2, 11, (3, 4)), unknown(add(3, 0, (5, 6)))];
    let with = |more: &[Op]| [&adds[..], more].concat();
    let drained = taken(&[], (30, 31));
    assert_valid(&stream::check(&with(&[
        entries(&[(11, 2), (10, 1)], (7, 8)),
        taken(&[1, 2], (9, 10)),
        drained.clone(),
    ])));
    assert_valid(&stream::check(&with(&[entries(&[(12, 3), (11, 2), (10, 1)], (7, 8))])));
    assert_found(&stream::check(&with(&[entries(&[(10, 1)], (7, 8))])), "lost element");
    assert_found(&stream::check(&with(&[entries(&[(10, 1), (11, 2)], (7, 8))])), "out of order");
    assert_found(&stream::check(&with(&[entries(&[(12, 2), (10, 1)], (7, 8))])), "another id");
    assert_found(&stream::check(&with(&[entries(&[(13, 9), (11, 2), (10, 1)], (7, 8))])), "phantom");
    assert_found(&stream::check(&with(&[add(4, 9, (7, 8))])), "id went back");
    assert_found(&stream::check(&with(&[taken(&[1], (7, 8)), taken(&[1, 2], (9, 10))])), "delivered twice");
    assert_found(&stream::check(&with(&[taken(&[1], (7, 8)), drained.clone()])), "never delivered");
    assert_valid(&stream::check(&with(&[taken(&[1], (7, 8)), unknown(taken(&[], (9, 10))), drained])));
}

fn publish(message: i64, how: i64, time: (u64, u64)) -> Op {
    op(F::Publish, ints(&[message, how]), ints(&[message, how]), time)
}

fn heard(list: &[i64], time: (u64, u64)) -> Op {
    op(F::Listen, Value::Null, ints(list), time)
}

#[test]
fn channels_have_one_order_without_gaps() {
    let said: Vec<Op> = (1..=5).map(|n| publish(n, 0, (n as u64 * 10, n as u64 * 10 + 5))).collect();
    let with = |more: &[Op]| [&said[..], more].concat();
    assert_valid(&channel::check(&with(&[heard(&[1, 2, 3], (1, 90)), heard(&[2, 3, 4, 5], (1, 90))])));
    assert_found(
        &channel::check(&with(&[heard(&[1, 2, 3], (1, 90)), heard(&[1, 3], (1, 90))])),
        "gap or another order",
    );
    assert_found(&channel::check(&with(&[heard(&[1, 3], (1, 90))])), "lost message");
    assert_found(&channel::check(&with(&[heard(&[1, 2, 2], (1, 90))])), "heard twice");
    assert_found(&channel::check(&with(&[heard(&[1, 9], (1, 90))])), "phantom");
    let refused = [failed(publish(1, 0, (1, 2))), heard(&[1], (1, 9))];
    assert_found(&channel::check(&refused), "phantom");
    let mut beside: Vec<Op> = (100..200).map(|n| publish(n, 1, (n as u64, n as u64 + 1))).collect();
    let alone = (200..300).map(|n| publish(n, 0, (n as u64 * 2, n as u64 * 2 + 1)));
    beside.extend(alone);
    let all: Vec<i64> = (200..300).collect();
    beside.push(heard(&all, (1, 1000)));
    assert_found(&channel::check(&beside), "nothing heard");
}

fn txn(steps: &[(Micro, i64, i64)], time: (u64, u64)) -> Op {
    let answer = |value| if value == 0 { Value::Null } else { Value::Int(value) };
    let steps = steps.iter().map(|(what, key, value)| Mop(*what, *key, answer(*value))).collect();
    let steps = Value::Txn(steps);
    op(F::Txn, steps.clone(), steps, time)
}

#[test]
fn transactions_over_registers_have_one_order() {
    use Micro::{Read, Write};
    let both = txn(&[(Write, 0, 1), (Write, 1, 2)], (1, 4));
    let reads = |a, b, time| txn(&[(Read, 0, a), (Read, 1, b)], time);
    assert_valid(&many::check(&[both.clone(), reads(0, 0, (2, 3)), reads(1, 2, (5, 6))]));
    assert_found(&many::check(&[both.clone(), reads(1, 0, (2, 3))]), "not serializable");
    assert_found(&many::check(&[both.clone(), reads(0, 0, (5, 6))]), "not serializable");
    let skewed = [txn(&[(Read, 0, 0), (Write, 1, 3)], (1, 9)), txn(&[(Read, 1, 0), (Write, 0, 4)], (1, 9))];
    assert_found(&many::check(&skewed), "not serializable");
    let open = unknown(both);
    assert_valid(&many::check(&[open.clone(), reads(0, 0, (5, 6)), reads(1, 2, (7, 8))]));
    assert_found(&many::check(&[open, reads(1, 2, (5, 6)), reads(0, 0, (7, 8))]), "not serializable");
}
