//! Locks with a time to live and fencing numbers.
//!
//! What must hold whatever the clocks do: fencing numbers are unique, and grow from one holder to the next. What
//! relies on clocks: nobody gets a lock that another one certainly holds, which is from the answer until it is given
//! back or its time is nearly over.

use std::collections::{BTreeMap, HashMap};

use crate::history::{F, Op};
use crate::verdict::Verdict;

/// One holder of a lock.
struct Hold<'a> {
    op: &'a Op,
    fence: i64,
    from: u64,
    until: u64,
}

/// Judges all locks; a hold counts as ended so many nanoseconds before its time is over.
pub fn check(ops: &[Op], early_max: u64) -> Verdict {
    let mut verdict = Verdict::default();
    let mut keys: BTreeMap<i64, Vec<&Op>> = BTreeMap::new();
    ops.iter().for_each(|op| keys.entry(op.key).or_default().push(op));
    let mut count = 0;
    for ops in keys.values() {
        let holds = holds(ops, early_max);
        count += holds.len();
        fences(&holds, &mut verdict);
        exclusion(&holds, &mut verdict);
    }
    verdict.figure("keys", keys.len());
    verdict.figure("holds", count);
    verdict
}

/// In order of the calls.
fn holds<'a>(ops: &[&'a Op], early_max: u64) -> Vec<Hold<'a>> {
    let releases = ops.iter().filter(|op| op.f == F::Release && op.is_possible());
    let mut released: HashMap<i64, Vec<u64>> = HashMap::new();
    releases.for_each(|op| released.entry(op.asked.int()).or_default().push(op.call));
    let taken = ops.iter().filter(|op| op.f == F::Acquire).filter_map(|op| Some((*op, op.returned()?)));
    let hold = |(op, from): (&'a Op, u64)| {
        let time = (op.asked.int().unsigned_abs() * 1_000_000).saturating_sub(early_max);
        let fence = op.answered.int();
        let given_back = released.get(&fence).and_then(|calls| calls.iter().find(|call| **call > op.call));
        let given_back = given_back.copied().unwrap_or(u64::MAX);
        Hold { op, fence, from, until: given_back.min(op.call + time) }
    };
    taken.map(hold).collect()
}

fn fences(holds: &[Hold], verdict: &mut Verdict) {
    let mut sorted: Vec<&Hold> = holds.iter().collect();
    sorted.sort_by_key(|hold| hold.fence);
    for pair in sorted.windows(2).filter(|pair| pair[0].fence == pair[1].fence) {
        verdict.invalid("fence used twice", format!("{}\n  {}", pair[0].op, pair[1].op));
    }
    let mut ends: Vec<&Hold> = holds.iter().collect();
    ends.sort_by_key(|hold| hold.from);
    let mut ended = ends.into_iter().peekable();
    let mut highest: Option<&Hold> = None;
    for hold in holds {
        while let Some(before) = ended.next_if(|before| before.from < hold.op.call) {
            highest = highest.into_iter().chain([before]).max_by_key(|hold| hold.fence);
        }
        if let Some(before) = highest.filter(|before| before.fence > hold.fence) {
            verdict.invalid("fence went back", format!("{}\n  {}", before.op, hold.op));
        }
    }
}

/// A lock that was asked for and given while another one held it.
fn exclusion(holds: &[Hold], verdict: &mut Verdict) {
    let mut sorted: Vec<&Hold> = holds.iter().filter(|hold| hold.from < hold.until).collect();
    sorted.sort_by_key(|hold| hold.from);
    let mut ended = sorted.into_iter().peekable();
    let mut longest: Option<&Hold> = None;
    for hold in holds {
        while let Some(before) = ended.next_if(|before| before.from < hold.op.call) {
            longest = longest.into_iter().chain([before]).max_by_key(|hold| hold.until);
        }
        if let Some(other) = longest.filter(|other| hold.from < other.until) {
            verdict.invalid("two holders", format!("{}\n  {}", other.op, hold.op));
        }
    }
}
