//! A directed graph with kinds of edges: strongly connected components, and short cycles through a kind of edge.
//!
//! Linear in nodes and edges unless there is a cycle; the search for a short one then has a budget.

/// Edges of one direction, grouped by the node that they leave.
pub struct Graph {
    starts: Vec<u32>,
    edges: Vec<Edge>,
}

/// An edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The node it leaves.
    pub from: u32,
    /// The node it reaches.
    pub to: u32,
    /// Its kind, one bit.
    pub kind: u8,
    /// What it is about.
    pub key: i64,
}

/// Nodes that a search for a short cycle may look at, over all searches of one call.
const LOOKS_MAX: usize = 20_000_000;
/// After so many cycles the shortest of them will do.
const CYCLES_MAX: usize = 30;
const NONE: u32 = u32::MAX;

/// Searches that share their memory.
struct Walk {
    kinds: u8,
    /// The search that reached a node last, and by which edge.
    reached: Vec<(u32, u32)>,
    round: u32,
    looks: usize,
}

impl Graph {
    /// Nodes are the numbers below `nodes`.
    pub fn new(nodes: usize, mut edges: Vec<Edge>) -> Graph {
        edges.sort_by_key(|edge| edge.from);
        let mut starts = vec![0; nodes + 1];
        edges.iter().for_each(|edge| starts[edge.from as usize + 1] += 1);
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        Graph { starts, edges }
    }

    fn leaving(&self, node: u32) -> std::ops::Range<usize> {
        self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize
    }

    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The component of each node under edges of these kinds; a node in no cycle is in none. Tarjan's way, with a
    /// stack of its own.
    pub fn components(&self, kinds: u8) -> Vec<Option<u32>> {
        let nodes = self.len();
        let (mut index, mut low) = (vec![NONE; nodes], vec![0u32; nodes]);
        let mut component = vec![None; nodes];
        let mut open = vec![false; nodes];
        let (mut path, mut stack): (Vec<(u32, usize)>, Vec<u32>) = (Vec::new(), Vec::new());
        let (mut next, mut found) = (0, 0);
        for root in 0..nodes as u32 {
            if index[root as usize] != NONE {
                continue;
            }
            path.push((root, self.leaving(root).start));
            while let Some((node, edge)) = path.pop() {
                let at = node as usize;
                if index[at] == NONE {
                    (index[at], low[at], open[at]) = (next, next, true);
                    next += 1;
                    stack.push(node);
                }
                let rest = edge..self.leaving(node).end;
                let fresh = rest.clone().find(|edge| {
                    let Edge { to, kind, .. } = self.edges[*edge];
                    if kind & kinds != 0 && open[to as usize] {
                        low[at] = low[at].min(index[to as usize]);
                    }
                    kind & kinds != 0 && index[to as usize] == NONE
                });
                if let Some(edge) = fresh {
                    path.push((node, edge));
                    path.push((self.edges[edge].to, self.leaving(self.edges[edge].to).start));
                    continue;
                }
                if let Some((parent, _)) = path.last() {
                    low[*parent as usize] = low[*parent as usize].min(low[at]);
                }
                if low[at] == index[at] {
                    let from = stack.iter().rposition(|other| *other == node).expect("a root lies on the stack");
                    let is_cycle = stack.len() - from > 1;
                    for member in stack.drain(from..) {
                        open[member as usize] = false;
                        component[member as usize] = is_cycle.then_some(found);
                    }
                    found += u32::from(is_cycle);
                }
            }
        }
        component
    }

    /// A short cycle that has an edge of kind `first` and else only edges of the kinds `rest`.
    pub fn cycle(&self, first: u8, rest: u8, fits: impl Fn(&[Edge]) -> bool) -> Option<Vec<Edge>> {
        let component = self.components(first | rest);
        let inside = |edge: &&Edge| {
            let ends = (component[edge.from as usize], component[edge.to as usize]);
            edge.kind & first != 0 && ends.0.is_some() && ends.0 == ends.1
        };
        let mut walk = Walk { kinds: rest, reached: vec![(0, 0); self.len()], round: 0, looks: 0 };
        let (mut cycles, mut best) = (0, None::<Vec<Edge>>);
        for edge in self.edges.iter().filter(inside) {
            let is_inside = |node: u32| component[node as usize] == component[edge.from as usize];
            if let Some(way) = self.way(edge.to, edge.from, &mut walk, is_inside) {
                let cycle: Vec<Edge> = std::iter::once(*edge).chain(way).collect();
                if fits(&cycle) {
                    cycles += 1;
                    best = best.filter(|best| best.len() <= cycle.len()).or(Some(cycle));
                }
            }
            if walk.looks > LOOKS_MAX || cycles >= CYCLES_MAX {
                break;
            }
        }
        best
    }

    /// The shortest way from one node to another one.
    fn way(&self, from: u32, to: u32, walk: &mut Walk, is_inside: impl Fn(u32) -> bool) -> Option<Vec<Edge>> {
        walk.round += 1;
        let mut queue = std::collections::VecDeque::from([from]);
        walk.reached[from as usize] = (walk.round, NONE);
        while let Some(node) = queue.pop_front() {
            if node == to {
                return Some(self.trace(node, &walk.reached));
            }
            walk.looks += 1;
            for at in self.leaving(node) {
                let edge = self.edges[at];
                let reached = &mut walk.reached[edge.to as usize];
                if edge.kind & walk.kinds != 0 && reached.0 != walk.round && is_inside(edge.to) {
                    *reached = (walk.round, at as u32);
                    queue.push_back(edge.to);
                }
            }
        }
        None
    }

    fn trace(&self, end: u32, reached: &[(u32, u32)]) -> Vec<Edge> {
        let (mut way, mut node) = (Vec::new(), end);
        while reached[node as usize].1 != NONE {
            let edge = self.edges[reached[node as usize].1 as usize];
            way.push(edge);
            node = edge.from;
        }
        way.reverse();
        way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(nodes: usize, edges: &[(u32, u32, u8)]) -> Graph {
        Graph::new(nodes, edges.iter().map(|&(from, to, kind)| Edge { from, to, kind, key: 0 }).collect())
    }

    #[test]
    fn components_are_those_of_brute_force() {
        let mut bits = 1u64;
        let mut dice = move |n: u64| {
            bits = bits.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (bits >> 33) % n
        };
        for _ in 0..2000 {
            let nodes = 1 + dice(7) as usize;
            let edges: Vec<(u32, u32, u8)> = (0..dice(12))
                .map(|_| (dice(nodes as u64) as u32, dice(nodes as u64) as u32, 1 << dice(2)))
                .filter(|(from, to, _)| from != to)
                .collect();
            let mut reach = vec![vec![false; nodes]; nodes];
            edges.iter().filter(|(_, _, kind)| *kind == 1).for_each(|(a, b, _)| reach[*a as usize][*b as usize] = true);
            for k in 0..nodes {
                for a in 0..nodes {
                    for b in 0..nodes {
                        reach[a][b] |= reach[a][k] && reach[k][b];
                    }
                }
            }
            let found = graph(nodes, &edges).components(1);
            for a in 0..nodes {
                assert_eq!(found[a].is_some(), reach[a][a], "{edges:?}");
                for b in (0..nodes).filter(|b| *b != a) {
                    let same = found[a].is_some() && found[a] == found[b];
                    assert_eq!(same, reach[a][b] && reach[b][a], "{edges:?}");
                }
            }
        }
    }

    #[test]
    fn the_shortest_cycle_with_one_edge_of_a_kind() {
        let graph = graph(5, &[(0, 1, 1), (1, 2, 1), (2, 0, 2), (2, 3, 1), (3, 4, 1), (4, 0, 2)]);
        assert!(graph.cycle(1, 1, |_| true).is_none());
        assert_eq!(graph.cycle(2, 1, |_| true).unwrap().len(), 3);
        assert!(graph.cycle(4, 3, |_| true).is_none());
    }
}
