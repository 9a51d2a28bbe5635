//! Queues, drained at the end: what was put in comes out once, and in its order.
//!
//! A taking of unknown outcome may have taken an element that nobody got, so up to as many elements may be
//! missing. Order bounds that: an element that went in before another one must have been taken before that other
//! one came out, so a missing one needs such a taking that had begun by then.

use std::collections::{BTreeMap, HashMap};

use crate::history::{F, Op};
use crate::verdict::Verdict;

/// One element and what became of it.
struct Element<'a> {
    put: &'a Op,
    taken: Option<&'a Op>,
}

/// Judges all queues.
pub fn check(ops: &[Op]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut keys: BTreeMap<i64, Vec<&Op>> = BTreeMap::new();
    ops.iter().for_each(|op| keys.entry(op.key).or_default().push(op));
    let mut missing = 0;
    for (key, ops) in &keys {
        missing += judge(*key, ops, &mut verdict);
    }
    verdict.figure("keys", keys.len());
    verdict.figure("taken by nobody knows whom", missing);
    verdict
}

fn judge(key: i64, ops: &[&Op], verdict: &mut Verdict) -> usize {
    let mut elements: HashMap<i64, Element> = HashMap::new();
    for &put in ops.iter().filter(|op| op.f == F::Enqueue) {
        if elements.insert(put.asked.int(), Element { put, taken: None }).is_some() {
            verdict.unknown("malformed", format!("{put}: put in before"));
        }
    }
    for &take in ops.iter().filter(|op| op.f == F::Dequeue && op.answered.int() != 0 && op.is_ok()) {
        let Some(element) = elements.get_mut(&take.answered.int()) else {
            verdict.invalid("phantom", format!("{take}: nobody put that in"));
            continue;
        };
        if !element.put.is_possible() || take.returned().is_some_and(|returned| returned < element.put.call) {
            verdict.invalid("phantom", format!("{}\n  and yet it came out: {take}", element.put));
        }
        if let Some(first) = element.taken.replace(take) {
            verdict.invalid("taken twice", format!("{first}\n  {take}"));
        }
    }
    let mut elements: Vec<Element> = elements.into_values().filter(|e| e.put.is_ok() || e.taken.is_some()).collect();
    elements.sort_by_key(|element| element.put.call);
    order(&elements, ops, verdict);
    let last = elements.iter().filter_map(|element| element.put.returned()).max().unwrap_or(0);
    let is_empty = |op: &&&Op| op.f == F::Dequeue && op.is_ok() && op.answered.int() == 0;
    if !ops.iter().filter(is_empty).any(|op| op.call > last) {
        verdict.unknown("not drained", format!("queue {key} was not seen empty at the end"));
        return 0;
    }
    lost(key, &elements, ops, verdict)
}

/// Of those that were in before a moment, the one that was taken last.
struct Latest<'a> {
    ends: std::iter::Peekable<std::vec::IntoIter<&'a Element<'a>>>,
    latest: Option<&'a Element<'a>>,
}

fn taking(element: &Element) -> u64 {
    element.taken.map_or(0, |take| take.call)
}

impl<'a> Latest<'a> {
    fn new(elements: &'a [Element<'a>]) -> Latest<'a> {
        let mut ends: Vec<&Element> = elements.iter().filter(|e| e.put.is_ok() && e.taken.is_some()).collect();
        ends.sort_by_key(|element| element.put.returned());
        Latest { ends: ends.into_iter().peekable(), latest: None }
    }

    /// Moments must not go back.
    fn before(&mut self, time: u64) -> Option<&'a Element<'a>> {
        while let Some(element) = self.ends.next_if(|e| e.put.returned().is_some_and(|returned| returned < time)) {
            if self.latest.is_none_or(|latest| taking(latest) < taking(element)) {
                self.latest = Some(element);
            }
        }
        self.latest
    }
}

/// First in, first out; and nobody is told that a queue is empty which is not.
fn order(elements: &[Element], ops: &[&Op], verdict: &mut Verdict) {
    let mut before = Latest::new(elements);
    for element in elements {
        let Some(take) = element.taken else { continue };
        let earlier = before.before(element.put.call).filter(|earlier| earlier.taken.is_some_and(|t| t.is_after(take)));
        if let Some((earlier, late)) = earlier.and_then(|earlier| Some((earlier, earlier.taken?))) {
            let text = format!("{}\n  {}\n  {take}\n  {late}", earlier.put, element.put);
            verdict.invalid("out of order", text);
        }
    }
    let mut before = Latest::new(elements);
    for empty in ops.iter().filter(|op| op.f == F::Dequeue && op.is_ok() && op.answered.int() == 0) {
        let waiting = before.before(empty.call).filter(|waiting| waiting.taken.is_some_and(|t| t.is_after(empty)));
        if let Some((waiting, late)) = waiting.and_then(|waiting| Some((waiting, waiting.taken?))) {
            verdict.invalid("not empty", format!("{}\n  {empty}\n  {late}", waiting.put));
        }
    }
}

/// Finds takings of unknown outcome for all that is missing; gives how many elements are.
fn lost(key: i64, elements: &[Element], ops: &[&Op], verdict: &mut Verdict) -> usize {
    // From the back: when the first of all that were put in later came out.
    let mut starts: Vec<(u64, u64)> =
        elements.iter().filter_map(|element| Some((element.put.call, element.taken?.returned()?))).collect();
    starts.sort_unstable();
    let mut soonest = u64::MAX;
    for (_, taken) in starts.iter_mut().rev() {
        soonest = soonest.min(*taken);
        *taken = soonest;
    }
    let end = ops.iter().filter(|op| op.f == F::Dequeue).filter_map(|op| op.returned()).max().unwrap_or(0);
    let deadline = |element: &Element| {
        let returned = element.put.returned().unwrap_or(u64::MAX);
        let later = starts.partition_point(|(call, _)| *call <= returned);
        starts.get(later).map_or(end, |(_, taken)| *taken)
    };
    let mut missing: Vec<(u64, &Element)> =
        elements.iter().filter(|element| element.taken.is_none()).map(|e| (deadline(e), e)).collect();
    missing.sort_by_key(|(deadline, _)| *deadline);
    let mut takers: Vec<u64> =
        ops.iter().filter(|op| op.f == F::Dequeue && op.is_possible() && !op.is_ok()).map(|op| op.call).collect();
    takers.sort_unstable();
    for (rank, (deadline, element)) in missing.iter().enumerate() {
        if takers.partition_point(|call| call < deadline) <= rank {
            let text = format!("{}\n  is gone; {rank} other losses of key {key} explain all open takings", element.put);
            verdict.invalid("lost element", text);
        }
    }
    missing.len()
}
