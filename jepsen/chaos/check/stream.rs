//! Streams: ids grow with time, what was added is there in the order of its ids, and a group gets each entry once.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::history::{F, Op};
use crate::verdict::Verdict;

/// The entries that a reading shows at the most.
pub const READ_MAX: usize = 400;

/// An id.
type Id = (i64, i64);

/// Judges all streams.
pub fn check(ops: &[Op]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut keys: BTreeMap<i64, Vec<&Op>> = BTreeMap::new();
    ops.iter().for_each(|op| keys.entry(op.key).or_default().push(op));
    for (key, ops) in &keys {
        let adds: HashMap<i64, &Op> = ops.iter().filter(|op| op.f == F::Add).map(|op| (op.asked.int(), *op)).collect();
        grows(ops, &mut verdict);
        ops.iter().filter(|op| op.f == F::Read && op.is_ok()).for_each(|read| whole(read, ops, &adds, &mut verdict));
        once(*key, ops, &adds, &mut verdict);
    }
    verdict.figure("keys", keys.len());
    verdict
}

fn id(op: &Op) -> Option<Id> {
    match op.answered.ints() {
        [ms, sequence] if op.is_ok() => Some((*ms, *sequence)),
        _ => None,
    }
}

/// Who added later has the larger id.
fn grows(ops: &[&Op], verdict: &mut Verdict) {
    let mut calls: Vec<(u64, Id, &Op)> =
        ops.iter().filter(|op| op.f == F::Add).filter_map(|op| Some((op.call, id(op)?, *op))).collect();
    calls.sort_unstable_by_key(|(call, ..)| *call);
    let mut ends: Vec<(u64, Id, &Op)> =
        calls.iter().map(|(_, id, op)| (op.returned().unwrap_or(u64::MAX), *id, *op)).collect();
    ends.sort_unstable_by_key(|(end, ..)| *end);
    let mut ended = ends.into_iter().peekable();
    let mut highest: Option<(Id, &Op)> = None;
    for (call, id, op) in calls {
        while let Some((_, id, before)) = ended.next_if(|(end, ..)| *end < call) {
            highest = highest.into_iter().chain([(id, before)]).max_by_key(|(id, _)| *id);
        }
        if let Some((_, before)) = highest.filter(|(other, _)| *other >= id) {
            verdict.invalid("id went back", format!("{before}\n  {op}"));
        }
    }
}

/// A reading, from the last entry on backwards, shows all that was there, unless it had to stop early.
fn whole(read: &Op, ops: &[&Op], adds: &HashMap<i64, &Op>, verdict: &mut Verdict) {
    let shown: Vec<(Id, i64)> = read.answered.ints().chunks(3).map(|e| ((e[0], e[1]), e[2])).collect();
    if shown.windows(2).any(|pair| pair[0].0 <= pair[1].0) {
        verdict.invalid("out of order", format!("{read}"));
    }
    for (place, value) in &shown {
        match adds.get(value) {
            Some(add) if !add.is_possible() || add.call > read.returned().unwrap_or(u64::MAX) => {
                verdict.invalid("phantom", format!("{add}\n  and yet {value} is there: {read}"));
            }
            Some(add) if id(add).is_some_and(|id| id != *place) => {
                verdict.invalid("another id", format!("{add}\n  {read}"));
            }
            Some(_) => {}
            None => verdict.invalid("phantom", format!("{value} was never added\n  {read}")),
        }
    }
    let values: HashSet<i64> = shown.iter().map(|(_, value)| *value).collect();
    let last = shown.last().map(|(id, _)| *id);
    let missing = ops.iter().filter(|op| op.f == F::Add && read.is_after(op) && !values.contains(&op.asked.int()));
    for add in missing.filter(|add| shown.len() < READ_MAX || id(add) > last) {
        verdict.invalid("lost element", format!("{add}\n  is not in {read}"));
    }
}

/// Each entry goes to one consumer; what nobody got was perhaps taken by somebody who had no answer.
fn once(key: i64, ops: &[&Op], adds: &HashMap<i64, &Op>, verdict: &mut Verdict) {
    let takes: Vec<&Op> = ops.iter().copied().filter(|op| op.f == F::Dequeue && op.is_possible()).collect();
    let mut got: HashMap<i64, &Op> = HashMap::new();
    for take in takes.iter().filter(|take| take.is_ok()) {
        for value in take.answered.ints() {
            if let Some(first) = got.insert(*value, take) {
                verdict.invalid("delivered twice", format!("{value}\n  {first}\n  {take}"));
            }
            if adds.get(value).is_none_or(|add| !add.is_possible()) {
                verdict.invalid("phantom", format!("{value} was never added\n  {take}"));
            }
        }
    }
    let drained = takes.iter().filter(|take| take.is_ok() && take.answered.ints().is_empty());
    let end = drained.map(|take| take.call).max().unwrap_or(0);
    let missing: Vec<&&Op> = adds
        .values()
        .filter(|add| add.returned().is_some_and(|returned| returned < end) && !got.contains_key(&add.asked.int()))
        .collect();
    // Each asks for three.
    let open = takes.iter().filter(|take| !take.is_ok()).count() * 3;
    if let Some(add) = missing.first().filter(|_| missing.len() > open) {
        let text =
            format!("key {key}: {} entries were given to nobody, {open} at the most can be:\n  {add}", missing.len());
        verdict.invalid("never delivered", text);
    }
}
