//! Whether operations can have happened one after the other, each between its call and its return.
//!
//! The search of Wing and Gong with Lowe's memory: calls and returns stand in one list; a call whose effect fits the
//! state is lifted out with its return, and at a return that nothing fits before, the last lift is undone. A set of
//! lifted operations with its state is never tried twice. Invariants: what has no return may be lifted or not; a
//! read that fits is lifted at once and for good, because waiting makes nothing possible that was not. Sets are
//! remembered as the exclusive or of 128 random bits for each member: that two of ten million sets are taken for
//! one has a chance of one in 10^24.

use std::collections::HashSet;
use std::hash::Hash;

/// What operations do to a state.
pub trait Model {
    /// One operation with its answer.
    type Op;
    /// What is there between operations.
    type State: Copy + Eq + Hash;
    /// The state after the operation, or nothing if it cannot have had its answer in this one.
    fn step(state: Self::State, op: &Self::Op) -> Option<Self::State>;
    /// The operation changes no state whatever.
    fn is_read(op: &Self::Op) -> bool;
}

/// An operation and its time.
#[derive(Clone, Copy, Debug)]
pub struct Timed<O> {
    /// What.
    pub op: O,
    /// Takes effect after this.
    pub call: u64,
    /// And before this; nothing when it may take effect at any time or never.
    pub returned: Option<u64>,
}

/// What a search says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is an order.
    Linearizable,
    /// There is none: this operation, an index, can in no order be fitted in.
    Not(usize),
    /// It would take more steps than allowed.
    GaveUp,
}

/// Calls come before returns of the same time: they overlap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Call,
    Return,
}

/// The list of calls and returns, from which operations are lifted and put back.
struct List {
    /// Of each entry from 1 on: its operation and its side.
    entries: Vec<(usize, Side)>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Of each operation, the entry of its return.
    returns: Vec<Option<usize>>,
}

impl List {
    fn new<O>(ops: &[Timed<O>]) -> List {
        let calls = ops.iter().enumerate().map(|(at, op)| (op.call, Side::Call, at));
        let returns = ops.iter().enumerate().filter_map(|(at, op)| Some((op.returned?, Side::Return, at)));
        let mut sorted: Vec<(u64, Side, usize)> = calls.chain(returns).collect();
        sorted.sort_unstable();
        let mut entries = vec![(0, Side::Call)];
        entries.extend(sorted.iter().map(|(_, side, at)| (*at, *side)));
        let mut returns = vec![None; ops.len()];
        for (entry, (at, _)) in entries.iter().enumerate().filter(|(_, (_, side))| *side == Side::Return) {
            returns[*at] = Some(entry);
        }
        let len = entries.len();
        let next = (1..=len).map(|entry| if entry == len { 0 } else { entry }).collect();
        let previous = (0..len).map(|entry| if entry == 0 { len - 1 } else { entry - 1 }).collect();
        List { entries, next, previous, returns }
    }

    fn take(&mut self, entry: usize) {
        let (before, after) = (self.previous[entry], self.next[entry]);
        self.next[before] = after;
        self.previous[after] = before;
    }

    fn put(&mut self, entry: usize) {
        let (before, after) = (self.previous[entry], self.next[entry]);
        self.next[before] = entry;
        self.previous[after] = entry;
    }

    fn lift(&mut self, call: usize) {
        self.take(call);
        if let Some(entry) = self.returns[self.entries[call].0] {
            self.take(entry);
        }
    }

    /// In the opposite order of [`List::lift`].
    fn lower(&mut self, call: usize) {
        if let Some(entry) = self.returns[self.entries[call].0] {
            self.put(entry);
        }
        self.put(call);
    }
}

/// Looks for an order, in no more steps than `steps_max`.
pub fn search<M: Model>(start: M::State, ops: &[Timed<M::Op>], steps_max: u64) -> Found {
    let mut list = List::new(ops);
    let mut seen: HashSet<(u128, M::State)> = HashSet::new();
    // Lifted calls with the state before each, and whether something else may be tried in its place.
    let mut lifted: Vec<(usize, M::State, bool)> = Vec::new();
    let (mut state, mut set, mut entry) = (start, 0, list.next[0]);
    let (mut deepest, mut steps) = ((0, 0), 0);
    while entry != 0 {
        steps += 1;
        if steps > steps_max {
            return Found::GaveUp;
        }
        let (at, side) = list.entries[entry];
        if side == Side::Call {
            let is_read = M::is_read(&ops[at].op);
            let next = M::step(state, &ops[at].op).filter(|next| is_read || seen.insert((set ^ mark(at), *next)));
            let Some(next) = next else {
                entry = list.next[entry];
                continue;
            };
            lifted.push((entry, state, !is_read));
            (state, set) = (next, set ^ mark(at));
            list.lift(entry);
            entry = list.next[0];
            continue;
        }
        deepest = deepest.max((lifted.len(), at));
        loop {
            let Some((call, before, has_choice)) = lifted.pop() else { return Found::Not(deepest.1) };
            list.lower(call);
            (state, set) = (before, set ^ mark(list.entries[call].0));
            entry = list.next[call];
            if has_choice {
                break;
            }
        }
    }
    Found::Linearizable
}

/// The bits of one operation.
fn mark(at: usize) -> u128 {
    let half = |seed: u64| {
        let mut bits = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    };
    let seed = at as u64 * 2;
    u128::from(half(seed)) << 64 | u128::from(half(seed + 1))
}
