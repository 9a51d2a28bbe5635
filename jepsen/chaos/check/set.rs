//! Sets that only grow: what is known to be in stays in, and nothing else is.
//!
//! An element is known to be in once its addition was acknowledged or somebody read it; whoever begins to read
//! after that must see it.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::history::{F, Op};
use crate::verdict::Verdict;

/// What is known of one element.
struct Element<'a> {
    addition: &'a Op,
    /// Since when it is in for certain.
    known: u64,
}

/// Judges all sets.
pub fn check(ops: &[Op]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut keys: BTreeMap<i64, Vec<&Op>> = BTreeMap::new();
    ops.iter().for_each(|op| keys.entry(op.key).or_default().push(op));
    let mut counts = [0; 3];
    for ops in keys.values() {
        counts.iter_mut().zip(judge(ops, &mut verdict)).for_each(|(sum, count)| *sum += count);
    }
    let [elements, never_read, lost] = counts;
    verdict.figure("keys", keys.len());
    verdict.figure("elements", elements);
    verdict.figure("never read", never_read);
    verdict.figure("lost", lost);
    verdict
}

/// One set; gives the numbers of elements that were acknowledged, of those that no read could have seen, and of those
/// that the last read should have seen.
fn judge(ops: &[&Op], verdict: &mut Verdict) -> [usize; 3] {
    let mut elements: HashMap<i64, Element> = HashMap::new();
    for &op in ops.iter().filter(|op| op.f == F::Add) {
        let element = Element { addition: op, known: op.returned().unwrap_or(u64::MAX) };
        if elements.insert(op.asked.int(), element).is_some() {
            verdict.unknown("malformed", format!("{op}: added before"));
        }
    }
    let mut reads: Vec<(u64, &Op)> =
        ops.iter().filter(|op| op.f == F::Read).filter_map(|op| Some((op.returned()?, *op))).collect();
    reads.sort_by_key(|(returned, _)| *returned);
    for (returned, read) in &reads {
        for value in read.answered.ints() {
            let Some(element) = elements.get_mut(value) else {
                verdict.invalid("phantom", format!("{value} was never added\n  {read}"));
                continue;
            };
            if !element.addition.is_possible() || element.addition.call > *returned {
                verdict.invalid("phantom", format!("{}\n  and yet {value} is in: {read}", element.addition));
            }
            element.known = element.known.min(*returned);
        }
    }
    let mut known: Vec<(u64, i64)> = elements.iter().map(|(value, element)| (element.known, *value)).collect();
    known.sort_unstable();
    let mut present: HashSet<i64> = HashSet::new();
    for (_, read) in &reads {
        present.clear();
        present.extend(read.answered.ints());
        if present.len() < read.answered.ints().len() {
            verdict.invalid("duplicate", format!("{read}"));
        }
        let must = known.iter().take_while(|(since, _)| *since < read.call);
        for (_, value) in must.filter(|(_, value)| !present.contains(value)) {
            let later = reads.last().is_some_and(|(_, last)| last.answered.ints().contains(value));
            let name = if later { "stale read" } else { "lost element" };
            verdict.invalid(name, format!("{}\n  is not in {read}", elements[value].addition));
        }
    }
    let last_call = reads.iter().map(|(_, read)| read.call).max().unwrap_or(0);
    let unread = elements.values().filter(|e| e.addition.returned().is_some_and(|returned| returned >= last_call));
    let lost = reads.last().map_or(0, |(_, last)| {
        let present: HashSet<&i64> = last.answered.ints().iter().collect();
        let is_lost = |(value, e): &(&i64, &Element)| last.is_after(e.addition) && !present.contains(value);
        elements.iter().filter(is_lost).count()
    });
    [elements.values().filter(|element| element.addition.is_ok()).count(), unread.count(), lost]
}
