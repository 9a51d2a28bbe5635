//! Transactions that append to lists and read them: strictly serializable, as Elle judges it.
//!
//! Lists remember who came before whom. From what was read follow the order in which elements arrived and edges
//! between transactions: *ww*, one appended right behind the other; *wr*, one read what the other appended; *rw*,
//! one did not yet read what the other appended. With the order of each process and of the clock they form no
//! circle. Transactions of unknown outcome count once somebody has read something of theirs.

use std::collections::HashMap;

use super::edges;
use crate::history::{Micro, Mop, Op};
use crate::verdict::Verdict;

/// An element's place in the history.
#[derive(Clone, Copy)]
pub(super) struct Append {
    /// The operation that appended it, an index.
    pub at: u32,
    /// No later step of it appends to the same key.
    pub is_last: bool,
}

/// What a transaction found in a list before it changed it.
pub(super) struct Seen {
    /// The operation, an index.
    pub at: u32,
    pub key: i64,
    /// How many elements of the list's order.
    pub len: usize,
}

/// What all transactions together tell about the lists.
pub(super) struct Lists<'a> {
    pub appends: HashMap<(i64, i64), Append>,
    /// The longest that was read of each key.
    pub orders: HashMap<i64, &'a [i64]>,
    pub seen: Vec<Seen>,
}

/// Judges all transactions.
pub fn check(ops: &[Op]) -> Verdict {
    let mut verdict = Verdict::default();
    let appends = appends(ops, &mut verdict);
    let mut lists = Lists { appends, orders: HashMap::new(), seen: Vec::new() };
    let reads = reads(ops, &mut verdict);
    for (_, key, list) in &reads {
        let order = lists.orders.entry(*key).or_insert(list);
        if list.len() > order.len() {
            *order = list;
        }
    }
    orders(ops, &lists, &mut verdict);
    for (at, key, list) in reads {
        read(ops, &mut lists, (at, key, list), &mut verdict);
    }
    let count = edges::judge(ops, &lists, &mut verdict);
    verdict.figure("keys", lists.orders.len());
    verdict.figure("edges", count);
    verdict
}

/// The steps of an operation, with answers if it has some.
pub(super) fn steps(op: &Op) -> &[Mop] {
    if op.is_ok() { op.answered.steps() } else { op.asked.steps() }
}

fn appends(ops: &[Op], verdict: &mut Verdict) -> HashMap<(i64, i64), Append> {
    let mut found = HashMap::with_capacity(ops.len());
    for (at, op) in ops.iter().enumerate() {
        let steps = steps(op);
        for (step, Mop(what, key, element)) in steps.iter().enumerate().filter(|(_, mop)| mop.0 == Micro::Append) {
            let is_last = !steps[step + 1..].iter().any(|later| (later.0, later.1) == (*what, *key));
            if found.insert((*key, element.int()), Append { at: at as u32, is_last }).is_some() {
                verdict.unknown("malformed", format!("{op}: an element that was appended before"));
            }
        }
    }
    found
}

/// What each transaction found in each list when it began; what it read of its own is compared on the way.
fn reads<'a>(ops: &'a [Op], verdict: &mut Verdict) -> Vec<(u32, i64, &'a [i64])> {
    let mut found: Vec<(u32, i64, &[i64])> = Vec::with_capacity(ops.len());
    for (at, op) in ops.iter().enumerate().filter(|(_, op)| op.is_ok()) {
        let steps = steps(op);
        let mut firsts: Vec<(i64, &[i64])> = Vec::new();
        for (step, Mop(_, key, value)) in steps.iter().enumerate().filter(|(_, mop)| mop.0 == Micro::Read) {
            let list = value.ints();
            let own = own(&steps[..step], *key);
            let first = firsts.iter().find(|(known, _)| known == key).map(|(_, first)| *first);
            let begins = first.unwrap_or(&list[..list.len().saturating_sub(own.len())]);
            if list.len() != begins.len() + own.len() || !list.starts_with(begins) || !list.ends_with(&own) {
                verdict.invalid("internal", format!("step {}: not what its own steps make of it\n  {op}", step + 1));
            } else if first.is_none() {
                firsts.push((*key, begins));
            }
        }
        found.extend(firsts.into_iter().map(|(key, list)| (at as u32, key, list)));
    }
    found
}

/// What these steps append to a key.
fn own(steps: &[Mop], key: i64) -> Vec<i64> {
    let appends = steps.iter().filter(|mop| mop.0 == Micro::Append && mop.1 == key);
    appends.map(|Mop(_, _, element)| element.int()).collect()
}

/// The longest list of each key has nothing twice and nothing of nobody.
fn orders(ops: &[Op], lists: &Lists, verdict: &mut Verdict) {
    for (key, order) in &lists.orders {
        elements(ops, lists, *key, order, verdict);
    }
}

fn elements(ops: &[Op], lists: &Lists, key: i64, list: &[i64], verdict: &mut Verdict) {
    let mut sorted = list.to_vec();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        verdict.invalid("duplicate element", format!("key {key}: {} is there twice: {list:?}", pair[0]));
    }
    for element in list {
        match lists.appends.get(&(key, *element)) {
            None => verdict.invalid("phantom", format!("key {key}: nobody appended {element}: {list:?}")),
            Some(append) if !ops[append.at as usize].is_possible() => {
                verdict.invalid(
                    "G1a aborted read",
                    format!("{}\n  and yet {element} is there: {list:?}", ops[append.at as usize]),
                );
            }
            Some(_) => {}
        }
    }
}

/// Fits one list into the order of its key.
fn read(ops: &[Op], lists: &mut Lists, (at, key, list): (u32, i64, &[i64]), verdict: &mut Verdict) {
    let op = &ops[at as usize];
    if !lists.orders[&key].starts_with(list) {
        verdict.invalid("incompatible order", format!("key {key}: {:?} elsewhere, and\n  {op}", lists.orders[&key]));
        elements(ops, lists, key, list, verdict);
        return;
    }
    if let Some(last) = list.last().and_then(|element| lists.appends.get(&(key, *element))) {
        if !last.is_last && last.at != at {
            verdict.invalid("G1b intermediate read", format!("{}\n  {op}", ops[last.at as usize]));
        }
        if ops[last.at as usize].call > op.returned().unwrap_or(u64::MAX) {
            verdict.invalid("phantom", format!("{op}\n  read what came later: {}", ops[last.at as usize]));
        }
    }
    lists.seen.push(Seen { at, key, len: list.len() });
}
