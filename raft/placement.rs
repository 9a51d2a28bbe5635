//! Where replicas go, what is still awaited of that, and which of them should lead: functions of the topology and of
//! who answers.
//!
//! Invariants: a replica that is placed has an id that was never used; a group is never left without a replica, and
//! never has an even number of them only because nodes are missing; what is once placed well is left alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::topology::{META_REPLICAS, NodeState, Topology};
use crate::types::{GroupId, META, NodeId};

/// Nodes that answer.
pub(crate) type Alive = BTreeSet<NodeId>;

/// Places what is missing: replicas of nodes that go, and those that a group has too few of. True when the topology
/// has changed.
pub(crate) fn place(topology: &mut Topology, alive: &Alive) -> bool {
    let before = topology.next_replica;
    let mut changed = false;
    for group in topology.groups.keys().copied().collect::<Vec<_>>() {
        changed |= leave(topology, alive, group);
        while topology.groups[&group].replicas.len() < wanted(topology, alive, group) {
            let Some(to) = candidate(topology, alive, group, None) else { break };
            add(topology, group, to);
        }
    }
    changed || topology.next_replica != before
}

/// Moves the replicas of a group away from nodes that go.
fn leave(topology: &mut Topology, alive: &Alive, group: GroupId) -> bool {
    let mut changed = false;
    for (replica, node) in topology.groups[&group].replicas.clone() {
        let state = state(topology, node);
        if state == NodeState::Serving {
            continue;
        }
        let to = candidate(topology, alive, group, Some(node));
        let stay = topology.groups[&group].replicas.values();
        let stay = stay.filter(|other| self::state(topology, **other) == NodeState::Serving).count();
        // Whoever was lost is missed until there is another; whoever leaves is not waited for.
        if to.is_none() && (stay == 0 || state == NodeState::Replaced) {
            continue;
        }
        take(topology, group, replica);
        if let Some(to) = to {
            add(topology, group, to);
        }
        changed = true;
    }
    changed
}

/// Moves one replica to where it stands better, if there is such a place: what comes first is that copies are in
/// different zones, then that nodes have equal shares.
pub(crate) fn balance(topology: &mut Topology, alive: &Alive) -> bool {
    spread(topology, alive) || even(topology, alive)
}

/// Moves one replica to a zone where its group has fewer.
fn spread(topology: &mut Topology, alive: &Alive) -> bool {
    let serving: BTreeSet<NodeId> = takers(topology, alive).collect();
    let gain = |group: GroupId, from: NodeId| {
        let to = candidate(topology, alive, group, Some(from))?;
        let crowd = |node: NodeId| crowd(topology, group, node, Some(from));
        crowd(from).checked_sub(crowd(to)).filter(|gain| *gain > 0).map(|gain| (gain, to))
    };
    let replicas = topology.groups.iter().flat_map(|(id, group)| group.replicas.iter().map(move |at| (*id, at)));
    let moves = replicas.filter(|(_, (_, from))| serving.contains(from)).filter_map(|(group, (replica, from))| {
        let (gain, to) = gain(group, *from)?;
        Some(((gain, load(topology, *from)), group, *replica, to))
    });
    let Some((_, group, replica, to)) = moves.max_by_key(|(better, ..)| *better) else { return false };
    take(topology, group, replica);
    add(topology, group, to);
    true
}

/// Moves one replica from a node that has many to one that has few, where that evens them out.
fn even(topology: &mut Topology, alive: &Alive) -> bool {
    let loads: Vec<(usize, NodeId)> = takers(topology, alive).map(|node| (load(topology, node), node)).collect();
    let pairs = loads.iter().flat_map(|from| loads.iter().map(move |to| (from.0.saturating_sub(to.0), from.1, to.1)));
    let mut pairs: Vec<_> = pairs.filter(|(more, ..)| *more >= 2).collect();
    pairs.sort_by_key(|(more, from, to)| (std::cmp::Reverse(*more), *from, *to));
    let movable = pairs.into_iter().find_map(|(_, from, to)| {
        let data = topology.groups.iter().filter(|(id, _)| **id != META);
        let mut replicas = data.filter_map(|(id, _)| Some((*id, topology.replica_on(*id, from)?)));
        let found = replicas.find(|(id, _)| {
            let free = topology.replica_on(*id, to).is_none();
            free && crowd(topology, *id, to, Some(from)) <= crowd(topology, *id, from, Some(from))
        });
        found.map(|(id, replica)| (id, replica, to))
    });
    let Some((group, replica, to)) = movable else { return false };
    take(topology, group, replica);
    add(topology, group, to);
    true
}

/// What is still to be placed, moved or forgotten, for people: as much as there would be to do if all nodes answered.
/// Where it is nothing the meta leader leaves the topology as it is, whoever answers.
pub(crate) fn awaited(topology: &Topology) -> Vec<String> {
    let mut awaited = Vec::new();
    for (id, record) in topology.nodes.iter().filter(|(_, record)| record.state != NodeState::Serving) {
        let groups: Vec<String> = topology.replicas_on(*id).map(|(group, _)| group.0.to_string()).collect();
        if !groups.is_empty() {
            let groups = groups.join(", ");
            awaited.push(format!("a node that takes the replicas of {id} ({}): groups {groups}", record.state));
        } else if record.state != NodeState::Draining {
            awaited.push(format!("{id} is about to be forgotten"));
        }
    }
    let (mut planned, all) = (topology.clone(), topology.nodes.keys().copied().collect());
    if place(&mut planned, &all) || balance(&mut planned, &all) {
        for (group, record) in &planned.groups {
            let new = record.replicas.range(topology.next_replica..);
            awaited.extend(new.map(|(_, node)| format!("{group} is to get a replica on {node}")));
        }
    }
    awaited
}

/// The replica of each group that should lead: spread over the nodes, as far as possible over those with the lowest
/// ids of replicas, which is where a new cluster has its leaders anyway.
pub(crate) fn preferred(topology: &Topology) -> BTreeMap<GroupId, u64> {
    let mut leads = BTreeMap::<NodeId, usize>::new();
    let mut preferred = BTreeMap::new();
    for (group, record) in &topology.groups {
        let stay = record.replicas.iter().filter(|(_, node)| state(topology, **node) == NodeState::Serving);
        let count = |node: &NodeId| if *group == META { 0 } else { leads.get(node).copied().unwrap_or(0) };
        if let Some((replica, node)) = stay.min_by_key(|(replica, node)| (count(node), **replica)) {
            preferred.insert(*group, *replica);
            *leads.entry(*node).or_default() += usize::from(*group != META);
        }
    }
    preferred
}

fn state(topology: &Topology, node: NodeId) -> NodeState {
    // A replica without a node would be nobody's: it is missed.
    topology.nodes.get(&node).map_or(NodeState::Replaced, |record| record.state)
}

/// Nodes that may get replicas now.
fn takers(topology: &Topology, alive: &Alive) -> impl Iterator<Item = NodeId> {
    let serving = topology.nodes.iter().filter(|(_, record)| record.state == NodeState::Serving);
    serving.map(|(id, _)| *id).filter(|id| alive.contains(id))
}

/// How many replicas a group should have: as many as it is meant to, or as nodes allow. A second one of three would
/// make the group die with either, so it waits for the third.
fn wanted(topology: &Topology, alive: &Alive, group: GroupId) -> usize {
    let factor = if group == META { META_REPLICAS } else { topology.replication_factor as usize };
    let holders = topology.groups[&group].replicas.values().copied();
    let count = holders.chain(takers(topology, alive)).collect::<BTreeSet<_>>().len().min(factor);
    if count < factor && count.is_multiple_of(2) { count - 1 } else { count }
}

/// The best node for a further replica of a group, or for the one of a node that leaves.
fn candidate(topology: &Topology, alive: &Alive, group: GroupId, leaves: Option<NodeId>) -> Option<NodeId> {
    let holders: BTreeSet<NodeId> = topology.groups[&group].replicas.values().copied().collect();
    let free = takers(topology, alive).filter(|node| !holders.contains(node));
    free.min_by_key(|node| (crowd(topology, group, *node, leaves), load(topology, *node), *node))
}

/// Replicas of the group in a node's zone, beside that of a node that leaves.
fn crowd(topology: &Topology, group: GroupId, node: NodeId, leaves: Option<NodeId>) -> usize {
    let zone = |node: NodeId| topology.nodes.get(&node).map(|record| &record.zone);
    let others = topology.groups[&group].replicas.values().filter(|other| Some(**other) != leaves);
    others.filter(|other| zone(**other) == zone(node)).count()
}

fn load(topology: &Topology, node: NodeId) -> usize {
    let data = topology.groups.iter().filter(|(id, _)| **id != META);
    data.flat_map(|(_, record)| record.replicas.values()).filter(|holder| **holder == node).count()
}

fn add(topology: &mut Topology, group: GroupId, node: NodeId) {
    let id = topology.next_replica;
    topology.next_replica += 1;
    topology.groups.get_mut(&group).expect("the caller looked it up").replicas.insert(id, node);
}

fn take(topology: &mut Topology, group: GroupId, replica: u64) {
    topology.groups.get_mut(&group).expect("the caller looked it up").replicas.remove(&replica);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Founding, NodeRecord};

    fn founded(zones: &[&str], groups: u32, factor: u32) -> Topology {
        let node = |zone: &&str| NodeRecord::new(String::new(), String::new(), zone.to_string());
        let nodes = zones.iter().map(node).collect();
        Topology::found(Founding { cluster: 1, nodes, groups, replication_factor: factor, databases: 1 }, || 7)
    }

    fn join(topology: &mut Topology, zone: &str) {
        let id = NodeId(topology.next_node);
        topology.next_node += 1;
        topology.nodes.insert(id, NodeRecord::new(String::new(), String::new(), zone.to_string()));
    }

    fn all(topology: &Topology) -> Alive {
        topology.nodes.keys().copied().collect()
    }

    fn nodes(topology: &Topology, group: u32) -> Vec<u64> {
        let mut nodes: Vec<u64> = topology.groups[&GroupId(group)].replicas.values().map(|n| n.0).collect();
        nodes.sort_unstable();
        nodes
    }

    fn mark(topology: &mut Topology, node: u64, state: NodeState) {
        topology.nodes.get_mut(&NodeId(node)).expect("it is there").state = state;
    }

    fn settle(topology: &mut Topology) {
        let used: BTreeSet<u64> = topology.groups.values().flat_map(|g| g.replicas.keys().copied()).collect();
        let next = topology.next_replica;
        let alive = all(topology);
        for round in 0.. {
            if !place(topology, &alive) && !balance(topology, &alive) {
                break;
            }
            assert!(round < 100, "it never ends");
        }
        for record in topology.groups.values() {
            let on: BTreeSet<_> = record.replicas.values().collect();
            assert_eq!(on.len(), record.replicas.len(), "two replicas on one node");
            assert!(record.replicas.keys().all(|id| used.contains(id) || *id >= next), "an id came back");
        }
    }

    #[test]
    fn it_grows_in_odd_steps_and_shrinks_again() {
        let mut topology = founded(&[""], 1, 3);
        for (joined, meta, data) in [(2, 1, 1), (3, 3, 3), (4, 3, 3), (5, 5, 3)] {
            join(&mut topology, "");
            settle(&mut topology);
            assert_eq!((nodes(&topology, 0).len(), nodes(&topology, 1).len()), (meta, data), "{joined} nodes");
        }
        mark(&mut topology, 1, NodeState::Draining);
        settle(&mut topology);
        assert_eq!(nodes(&topology, 0), [2, 3, 4, 5]);
        assert_eq!((nodes(&topology, 1).len(), nodes(&topology, 1).contains(&1)), (3, false));
        [2, 3, 4].iter().for_each(|node| mark(&mut topology, *node, NodeState::Leaving));
        settle(&mut topology);
        assert_eq!((nodes(&topology, 0), nodes(&topology, 1)), (vec![5], vec![5]));
        mark(&mut topology, 5, NodeState::Leaving);
        let last = topology.clone();
        settle(&mut topology);
        assert_eq!(topology, last, "the last replica stays");
    }

    #[test]
    fn a_lost_node_is_missed_until_there_is_another_and_the_dead_get_nothing() {
        let mut topology = founded(&["", "", ""], 1, 3);
        mark(&mut topology, 3, NodeState::Replaced);
        assert!(!place(&mut topology, &Alive::from([NodeId(1), NodeId(2)])));
        join(&mut topology, "");
        assert!(!place(&mut topology, &Alive::from([NodeId(1), NodeId(2)])), "node 4 does not answer");
        assert!(place(&mut topology, &Alive::from([NodeId(1), NodeId(2), NodeId(4)])));
        assert_eq!((nodes(&topology, 0), nodes(&topology, 1)), (vec![1, 2, 4], vec![1, 2, 4]));
    }

    #[test]
    fn nothing_is_awaited_only_where_nothing_is_to_be_done() {
        let idle = |topology: &Topology| {
            let all = all(topology);
            let some = (0..1_u32 << all.len()).map(|chosen| {
                all.iter().zip(0..).filter(|(_, at)| chosen >> at & 1 == 1).map(|(id, _)| *id).collect::<Alive>()
            });
            let mut tries = some.flat_map(|alive| [place, balance].map(|change| change(&mut topology.clone(), &alive)));
            tries.all(|changes| !changes)
        };
        let mut topology = founded(&["", "", ""], 2, 3);
        assert!(awaited(&topology).is_empty());
        let mut expect = |change: &dyn Fn(&mut Topology), some: bool| {
            change(&mut topology);
            assert_eq!(!awaited(&topology).is_empty(), some, "{:?}", awaited(&topology));
            assert!(some || idle(&topology));
            let all = all(&topology);
            while place(&mut topology, &all) || balance(&mut topology, &all) {
                assert!(!awaited(&topology).is_empty() || idle(&topology), "{topology:?}");
            }
        };
        expect(&|topology| mark(topology, 3, NodeState::Draining), true);
        // A node that serves again, as one that joins, is missed before anything is decided.
        expect(&|topology| mark(topology, 3, NodeState::Serving), true);
        expect(&|topology| join(topology, ""), true);
        expect(&|topology| join(topology, "other"), true);
        expect(&|topology| mark(topology, 1, NodeState::Replaced), true);
        expect(&|topology| ["a", "b"].iter().for_each(|zone| join(topology, zone)), true);
        expect(&|topology| drop(topology.nodes.remove(&NodeId(1))), false);
        expect(&|topology| mark(topology, 2, NodeState::Leaving), true);
        assert_eq!(awaited(&topology), ["node 2 is about to be forgotten"]);
    }

    #[test]
    fn copies_are_in_different_zones_and_nodes_have_equal_shares() {
        let mut topology = founded(&["a", "a", "b"], 4, 2);
        for group in 1..=4 {
            assert!(nodes(&topology, group).contains(&3), "group {group} has a copy in zone b");
        }
        join(&mut topology, "b");
        join(&mut topology, "a");
        settle(&mut topology);
        for group in 1..=4 {
            let zones: BTreeSet<_> =
                nodes(&topology, group).iter().map(|n| topology.nodes[&NodeId(*n)].zone.clone()).collect();
            assert_eq!(zones.len(), 2, "group {group}: {:?}", nodes(&topology, group));
        }
        let loads: Vec<usize> = topology.nodes.keys().map(|node| load(&topology, *node)).collect();
        assert_eq!((loads.iter().sum::<usize>(), loads.iter().max()), (8, Some(&2)), "{loads:?}");
    }

    #[test]
    fn copies_go_to_zones_that_come_later() {
        let mut topology = founded(&["a", "a", "b"], 4, 3);
        ["b", "c", "c"].iter().for_each(|zone| join(&mut topology, zone));
        settle(&mut topology);
        for group in 0..=4 {
            let zone = |node: &u64| topology.nodes[&NodeId(*node)].zone.clone();
            let zones: BTreeSet<_> = nodes(&topology, group).iter().map(zone).collect();
            assert_eq!(zones.len(), 3, "group {group}: {:?}", nodes(&topology, group));
        }
        assert!(topology.nodes.keys().all(|node| load(&topology, *node) == 2), "{topology:?}");
    }

    #[test]
    fn leaders_are_spread_and_begin_with_the_founders() {
        let mut topology = founded(&["", "", ""], 6, 3);
        let leaders = preferred(&topology);
        assert!(leaders.iter().all(|(group, replica)| topology.groups[group].founder == *replica));
        let on = |topology: &Topology, node: u64| {
            let led = preferred(topology).into_iter().filter(|(group, _)| *group != META);
            led.filter(|(group, replica)| topology.groups[group].replicas[replica] == NodeId(node)).count()
        };
        assert_eq!([on(&topology, 1), on(&topology, 2), on(&topology, 3)], [2, 2, 2]);
        mark(&mut topology, 2, NodeState::Draining);
        assert_eq!([on(&topology, 1), on(&topology, 2), on(&topology, 3)], [3, 0, 3]);
    }
}
