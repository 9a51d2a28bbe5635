//! What must come before what among transactions, and the circles in that.
//!
//! Nodes are the operations; behind them one moment for each answer, chained in the order of the clock, so that
//! real time costs two edges an operation; behind those, for each list with elements that nobody has read yet, one
//! node that stands before all of them: whoever read the whole known list came before those too. That last rule
//! goes beyond Elle, and is what finds an acknowledged append that was lost.

use std::collections::{HashMap, HashSet};

use super::append::{Lists, steps};
use super::graph::{Edge, Graph};
use crate::history::{Micro, Mop, Op};
use crate::verdict::Verdict;

const WW: u8 = 1;
const WR: u8 = 2;
const RW: u8 = 4;
const PROCESS: u8 = 8;
const REAL: u8 = 16;
/// Belongs to the edge in front of it.
const PASS: u8 = 32;
const DATA: u8 = WW | WR | RW | PASS;

/// Classes of circles: name, the edge that each has, the edges that it may have.
const CLASSES: [(&str, u8, u8); 4] = [
    ("G0 write cycle", WW, WW | PASS),
    ("G1c circular information flow", WR, WW | WR | PASS),
    ("G-single", RW, WW | WR | PASS),
    ("G2-item", RW, DATA),
];
/// Orders that are added to those.
const ORDERS: [(&str, u8); 3] = [("", 0), ("-process", PROCESS), ("-realtime", REAL)];

/// Finds circles; gives the number of edges.
pub(super) fn judge(ops: &[Op], lists: &Lists, verdict: &mut Verdict) -> usize {
    let mut builder = Builder { edges: Vec::with_capacity(ops.len() * 5), nodes: ops.len() as u32 };
    let committed = committed(ops, lists);
    builder.time(ops, &committed);
    builder.process(ops);
    builder.data(ops, lists, &committed);
    let count = builder.edges.len();
    let graph = Graph::new(builder.nodes as usize, builder.edges);
    if graph.components(u8::MAX).iter().all(Option::is_none) {
        return count;
    }
    let before = verdict.findings.len();
    for (class, first, rest) in CLASSES {
        let is_of_class = |cycle: &[Edge]| class != "G2-item" || cycle.iter().filter(|e| e.kind == RW).count() > 1;
        let found =
            ORDERS.iter().find_map(|(suffix, order)| Some((suffix, graph.cycle(first, rest | order, is_of_class)?)));
        if let Some((suffix, cycle)) = found {
            verdict.invalid(&format!("{class}{suffix}"), explain(ops, &cycle));
        }
    }
    if verdict.findings.len() == before {
        verdict.invalid("cycle", "transactions wait for each other in a circle too large to be shown");
    }
    count
}

/// What was answered, and what was not but was read.
fn committed(ops: &[Op], lists: &Lists) -> Vec<bool> {
    let mut committed: Vec<bool> = ops.iter().map(Op::is_ok).collect();
    for (key, order) in &lists.orders {
        for append in order.iter().filter_map(|element| lists.appends.get(&(*key, *element))) {
            committed[append.at as usize] |= ops[append.at as usize].is_possible();
        }
    }
    committed
}

/// Of each key that was read, those who certainly appended what no read shows.
fn unread(ops: &[Op], lists: &Lists, committed: &[bool]) -> HashMap<i64, Vec<u32>> {
    let mut unread: HashMap<i64, Vec<u32>> = HashMap::new();
    let mut shown: HashSet<(i64, i64)> = HashSet::with_capacity(ops.len());
    for (key, order) in &lists.orders {
        shown.extend(order.iter().map(|element| (*key, *element)));
    }
    for (at, op) in ops.iter().enumerate().filter(|(at, _)| committed[*at]) {
        for Mop(_, key, element) in steps(op).iter().filter(|mop| mop.0 == Micro::Append) {
            if lists.orders.contains_key(key) && !shown.contains(&(*key, element.int())) {
                unread.entry(*key).or_default().push(at as u32);
            }
        }
    }
    unread
}

struct Builder {
    edges: Vec<Edge>,
    nodes: u32,
}

impl Builder {
    fn add(&mut self, from: u32, to: u32, kind: u8, key: i64) {
        if from != to {
            self.edges.push(Edge { from, to, kind, key });
        }
    }

    fn time(&mut self, ops: &[Op], committed: &[bool]) {
        let mut ends: Vec<(u64, u32)> =
            ops.iter().enumerate().filter_map(|(at, op)| Some((op.returned()?, at as u32))).collect();
        ends.sort_unstable();
        let first = self.nodes;
        for (rank, (_, at)) in ends.iter().enumerate() {
            let moment = first + rank as u32;
            self.add(*at, moment, REAL, 0);
            if rank > 0 {
                self.add(moment - 1, moment, REAL, 0);
            }
        }
        for (at, op) in ops.iter().enumerate().filter(|(at, _)| committed[*at]) {
            let rank = ends.partition_point(|(time, _)| *time < op.call) as u32;
            if rank > 0 {
                self.add(first + rank - 1, at as u32, REAL, 0);
            }
        }
        self.nodes += ends.len() as u32;
    }

    fn process(&mut self, ops: &[Op]) {
        let mut last: HashMap<u64, u32> = HashMap::new();
        for (at, op) in ops.iter().enumerate().filter(|(_, op)| op.is_ok()) {
            if let Some(before) = last.insert(op.process, at as u32) {
                self.add(before, at as u32, PROCESS, 0);
            }
        }
    }

    fn data(&mut self, ops: &[Op], lists: &Lists, committed: &[bool]) {
        let unread = unread(ops, lists, committed);
        self.writers(lists);
        let gates = self.gates(lists, &unread);
        let writer = |key: i64, order: &[i64], place: usize| lists.appends.get(&(key, order[place])).map(|a| a.at);
        for seen in &lists.seen {
            let order = lists.orders[&seen.key];
            if let Some(from) = seen.len.checked_sub(1).and_then(|place| writer(seen.key, order, place)) {
                self.add(from, seen.at, WR, seen.key);
            }
            if seen.len < order.len() {
                if let Some(to) = writer(seen.key, order, seen.len) {
                    self.add(seen.at, to, RW, seen.key);
                }
            } else if let Some(others) = unread.get(&seen.key) {
                // The gate leads to all of them, and none comes before itself.
                if others.contains(&seen.at) {
                    others.iter().for_each(|other| self.add(seen.at, *other, RW, seen.key));
                } else {
                    self.add(seen.at, gates[&seen.key], RW, seen.key);
                }
            }
        }
    }

    /// Who appended right behind whom.
    fn writers(&mut self, lists: &Lists) {
        for (key, order) in &lists.orders {
            let writers = order.iter().filter_map(|element| lists.appends.get(&(*key, *element)).map(|a| a.at));
            let writers: Vec<u32> = writers.collect();
            writers.windows(2).for_each(|pair| self.add(pair[0], pair[1], WW, *key));
        }
    }

    fn gates(&mut self, lists: &Lists, unread: &HashMap<i64, Vec<u32>>) -> HashMap<i64, u32> {
        let mut gates = HashMap::new();
        for (key, others) in unread {
            let gate = self.nodes;
            self.nodes += 1;
            gates.insert(*key, gate);
            others.iter().for_each(|other| self.add(gate, *other, PASS, *key));
            let last = lists.orders[key].last().and_then(|element| lists.appends.get(&(*key, *element)));
            if let Some(last) = last.filter(|last| !others.contains(&last.at)) {
                self.add(last.at, gate, WW, *key);
            }
        }
        gates
    }
}

/// A circle in words.
fn explain(ops: &[Op], cycle: &[Edge]) -> String {
    let is_op = |node: u32| (node as usize) < ops.len();
    // Begin with an operation, not with a moment or a gate.
    let start = cycle.iter().position(|edge| is_op(edge.from)).unwrap_or(0);
    let mut lines = Vec::new();
    for edge in cycle[start..].iter().chain(&cycle[..start]) {
        if is_op(edge.from) {
            lines.push(format!("  {}", ops[edge.from as usize]));
        }
        match edge.kind {
            WW => lines.push(format!("    comes before what was appended to key {} behind it, by", edge.key)),
            WR => lines.push(format!("    appended what was read of key {} by", edge.key)),
            RW => lines.push(format!("    read key {} without what was appended to it by", edge.key)),
            PROCESS => lines.push("    comes before what the same process did next".to_string()),
            REAL if is_op(edge.from) => lines.push("    had ended before there began".to_string()),
            _ => {}
        }
    }
    lines.push("    which closes the circle".to_string());
    format!("each of these comes before the next\n{}", lines.join("\n"))
}
