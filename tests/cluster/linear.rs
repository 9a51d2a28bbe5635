//! Whether what clients saw of a register can have happened one after the other.
//!
//! The search of Wing and Gong with Lowe's memory: an operation takes effect at one moment between its call and
//! its return, a read gives the value of the last write before it. Values are unique.

use std::collections::{BTreeSet, HashSet};

/// A value; 0 is what the register holds before the first write.
pub type Value = u64;

/// One operation on one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// A write of the value, or a read that gave it.
    pub write: bool,
    /// Which value.
    pub value: Value,
    /// When it was sent, on the test's own clock.
    pub called: u64,
    /// When its reply was there; nothing when the outcome is not known.
    pub returned: Option<u64>,
}

/// What a search has seen: operations up to the first open one are done, and these beyond it; the value.
type Seen = (usize, Vec<usize>, Value);

/// Whether there is an order. Writes whose outcome nobody knows may be part of it.
pub fn is_linearizable(ops: &[Op]) -> bool {
    let read: BTreeSet<Value> = ops.iter().filter(|op| !op.write).map(|op| op.value).collect();
    // A write that nobody read and nobody answered need not have happened.
    let mut ops: Vec<Op> = ops.iter().filter(|op| op.returned.is_some() || read.contains(&op.value)).copied().collect();
    ops.sort_by_key(|op| op.called);
    let end = |op: &Op| op.returned.unwrap_or(u64::MAX);
    let mut done = vec![false; ops.len()];
    let (mut path, mut seen) = (Vec::new(), HashSet::<Seen>::new());
    let (mut value, mut from) = (0, 0);
    loop {
        let first = done.iter().position(|done| !done).unwrap_or(ops.len());
        let open = || (first..ops.len()).filter(|at| !done[*at]);
        if open().all(|at| ops[at].returned.is_none()) {
            return true;
        }
        // Whoever returned first of all open ones was done before anything that was called later.
        let mut limit = u64::MAX;
        let mut candidates = Vec::new();
        for at in open() {
            if ops[at].called > limit {
                break;
            }
            limit = limit.min(end(&ops[at]));
            candidates.push(at);
        }
        let fits = |at: usize| at >= from && ops[at].called <= limit && (ops[at].write || ops[at].value == value);
        let next = candidates.into_iter().filter(|at| fits(*at)).find(|at| {
            let beyond = (first..ops.len()).take_while(|other| ops[*other].called <= limit.max(ops[*at].called));
            let beyond = beyond.filter(|other| done[*other] || other == at).collect();
            seen.insert((first, beyond, if ops[*at].write { ops[*at].value } else { value }))
        });
        match next {
            Some(at) => {
                path.push((at, value));
                done[at] = true;
                value = if ops[at].write { ops[at].value } else { value };
                from = 0;
            }
            None => {
                let Some((at, before)) = path.pop() else { return false };
                done[at] = false;
                (value, from) = (before, at + 1);
            }
        }
    }
}

/// The checker itself must be able to fail.
#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: Value, called: u64, returned: u64) -> Op {
        Op { write: true, value, called, returned: Some(returned) }
    }

    fn read(value: Value, called: u64, returned: u64) -> Op {
        Op { write: false, ..write(value, called, returned) }
    }

    fn open(value: Value, called: u64) -> Op {
        Op { returned: None, ..write(value, called, 0) }
    }

    #[test]
    fn a_stale_read_is_found() {
        assert!(is_linearizable(&[write(1, 0, 10), write(2, 20, 30), read(2, 40, 50)]));
        assert!(!is_linearizable(&[write(1, 0, 10), write(2, 20, 30), read(1, 40, 50)]));
        assert!(!is_linearizable(&[write(1, 0, 10), read(0, 20, 30)]));
    }

    #[test]
    fn what_overlaps_may_come_in_any_order_and_only_in_one() {
        let both = [write(1, 0, 100), write(2, 0, 100)];
        assert!(is_linearizable(&[&both[..], &[read(1, 10, 20), read(2, 30, 40)]].concat()));
        assert!(is_linearizable(&[&both[..], &[read(2, 10, 20), read(1, 30, 40)]].concat()));
        assert!(!is_linearizable(&[&both[..], &[read(2, 10, 20), read(1, 30, 40), read(2, 50, 60)]].concat()));
        assert!(!is_linearizable(&[&both[..], &[read(1, 110, 120), read(2, 110, 120)]].concat()));
    }

    #[test]
    fn two_readers_agree_even_while_the_write_is_on_its_way() {
        let ops = [write(1, 0, 10), write(2, 20, 100), read(2, 30, 40), read(1, 50, 60)];
        assert!(!is_linearizable(&ops));
        assert!(is_linearizable(&ops[..3]));
    }

    #[test]
    fn a_write_with_unknown_end_happened_late_or_never() {
        assert!(is_linearizable(&[write(1, 0, 10), open(2, 20), read(1, 30, 40), read(2, 50, 60)]));
        assert!(is_linearizable(&[write(1, 0, 10), open(2, 20), read(1, 30, 40)]));
        assert!(!is_linearizable(&[write(1, 0, 10), open(2, 20), read(2, 30, 40), read(1, 50, 60)]));
        assert!(!is_linearizable(&[read(2, 0, 10), open(2, 20)]));
    }
}
