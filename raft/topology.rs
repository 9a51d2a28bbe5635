//! Who is in the cluster: nodes, groups, replicas, slots.
//!
//! The topology is one value in the meta group, changed by its leader with a compare-and-set through
//! the log; the meta group is an ordinary group, so it has the same log, snapshots and sessions. Every
//! node keeps a copy on disk to start from, and follows the meta group. It says what should be: the leader of each
//! group makes the group's membership what it says (`membership.rs`), each node starts the replicas that it should
//! hold (`holding.rs`), and the meta leader decides where replicas go (`reconcile.rs`).
//!
//! Invariants: ids of nodes, groups and replicas are handed out here and never used again; every slot
//! has exactly one owner; `epoch` grows with every change; no node holds two replicas of a group; a replica
//! that was taken out never comes back.

pub(crate) mod format;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::slots::Moving;
use crate::types::{GroupId, META, Member, NodeId};

/// The number of hash slots.
const SLOTS: u16 = quoris_engine::SLOTS;
/// The key of the meta group that holds the topology.
pub const KEY: &[u8] = b"topology";
/// The most replicas of the meta group.
pub(crate) const META_REPLICAS: usize = 5;

/// A node as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Where peers reach it.
    pub peer_addr: String,
    /// Where clients reach it.
    pub client_addr: String,
    /// Where it stands, a rack or a data centre: copies of a group spread over zones. Empty is a zone as well.
    pub zone: String,
    /// The number under which its folder asked to join; 0 for those that founded the cluster.
    pub ticket: u64,
    /// What is to become of it.
    pub state: NodeState,
}

impl NodeRecord {
    /// A node that founds a cluster.
    pub fn new(peer_addr: String, client_addr: String, zone: String) -> NodeRecord {
        NodeRecord { peer_addr, client_addr, zone, ticket: 0, state: NodeState::Serving }
    }
}

/// What is to become of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// It takes replicas.
    Serving,
    /// Its replicas go to other nodes; it stays, and takes none.
    Draining,
    /// Its replicas go to other nodes, and then so does its record.
    Leaving,
    /// The same, for a node that may be dead: each of its replicas waits until another node can have it.
    Replaced,
}

impl std::fmt::Display for NodeState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            NodeState::Serving => "serving",
            NodeState::Draining => "draining",
            NodeState::Leaving => "leaving",
            NodeState::Replaced => "replaced",
        })
    }
}

/// A group as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// Replica ids and the nodes that hold them.
    pub replicas: BTreeMap<u64, NodeId>,
    /// The slots it owns, as inclusive ranges.
    pub slots: Vec<(u16, u16)>,
    /// Those it began with, where its log begins.
    pub born_with: Vec<(u16, u16)>,
    /// Keys the hash function of its tables.
    pub hash_seed: [u64; 2],
    /// The replica that forms the group at its first start.
    pub founder: u64,
}

/// The whole of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The cluster's id, never 0.
    pub cluster: u128,
    /// Grows with every change.
    pub epoch: u64,
    /// The next unused node id.
    pub next_node: u64,
    /// The next unused replica id, over all groups.
    pub next_replica: u64,
    /// The number of numbered databases of every group.
    pub databases: u32,
    /// All nodes.
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// All groups, the meta group included.
    pub groups: BTreeMap<GroupId, GroupRecord>,
    /// Copies of each data group, when there are as many nodes.
    pub replication_factor: u32,
    /// Slots on their way to another group.
    pub moving: Option<Moving>,
}

/// What a cluster is founded with.
pub struct Founding {
    /// A new random id.
    pub cluster: u128,
    /// The nodes in the order of their peer addresses.
    pub nodes: Vec<NodeRecord>,
    /// The number of data groups.
    pub groups: u32,
    /// Replicas per data group.
    pub replication_factor: u32,
    /// Numbered databases.
    pub databases: u32,
}

impl Topology {
    /// A new cluster: node ids in the order given, the slots spread evenly over the groups, the
    /// replicas of a group on consecutive nodes, in other zones first, so that groups and leaders spread as well.
    pub fn found(founding: Founding, mut random: impl FnMut() -> u64) -> Topology {
        let count = founding.nodes.len() as u64;
        let nodes = founding.nodes.into_iter().zip(1..).map(|(record, id)| (NodeId(id), record)).collect();
        let mut topology = Topology {
            cluster: founding.cluster,
            epoch: 1,
            next_node: count + 1,
            next_replica: 1,
            databases: founding.databases,
            nodes,
            groups: BTreeMap::new(),
            replication_factor: founding.replication_factor.max(1),
            moving: None,
        };
        let meta_replicas = count.min(META_REPLICAS as u64);
        topology.add_group(META, 0, meta_replicas, Vec::new(), &mut random);
        let groups = founding.groups.max(1);
        let factor = u64::from(founding.replication_factor.max(1)).min(count);
        for g in 0..groups {
            let bound = |g: u32| (u32::from(SLOTS) * g / groups) as u16;
            topology.add_group(GroupId(g + 1), u64::from(g), factor, vec![(bound(g), bound(g + 1) - 1)], &mut random);
        }
        topology
    }

    fn add_group(
        &mut self,
        id: GroupId,
        first_node: u64,
        replicas: u64,
        slots: Vec<(u16, u16)>,
        random: &mut impl FnMut() -> u64,
    ) {
        let founder = self.next_replica;
        let (born_with, hash_seed) = (slots.clone(), [random(), random()]);
        let mut record = GroupRecord { replicas: BTreeMap::new(), slots, born_with, hash_seed, founder };
        let mut nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        nodes.rotate_left(first_node as usize % self.nodes.len());
        for _ in 0..replicas {
            let zone = |node: &NodeId| &self.nodes[node].zone;
            let crowd = |node: &NodeId| record.replicas.values().filter(|other| zone(other) == zone(node)).count();
            // Of several that are as good, the first.
            let Some(at) = (0..nodes.len()).min_by_key(|at| crowd(&nodes[*at])) else { break };
            record.replicas.insert(self.next_replica, nodes.remove(at));
            self.next_replica += 1;
        }
        self.groups.insert(id, record);
    }

    /// The group's members as Raft wants them.
    pub fn members(&self, group: GroupId) -> BTreeMap<u64, Member> {
        let Some(record) = self.groups.get(&group) else { return BTreeMap::new() };
        let addr = |node: &NodeId| self.nodes.get(node).map_or_else(String::new, |n| n.peer_addr.clone());
        record.replicas.iter().map(|(id, node)| (*id, Member { node: node.0, addr: addr(node) })).collect()
    }

    /// The groups of which a node holds a replica.
    pub fn replicas_on(&self, node: NodeId) -> impl Iterator<Item = (GroupId, u64)> {
        self.groups.keys().filter_map(move |group| Some((*group, self.replica_on(*group, node)?)))
    }

    /// This node's replica of a group, if it has one.
    pub fn replica_on(&self, group: GroupId, node: NodeId) -> Option<u64> {
        self.groups.get(&group)?.replicas.iter().find(|(_, n)| **n == node).map(|(id, _)| *id)
    }

    /// The owner of every slot.
    pub fn slot_owners(&self) -> Vec<Option<GroupId>> {
        let mut owners = vec![None; usize::from(SLOTS)];
        for (id, record) in &self.groups {
            for &(first, last) in &record.slots {
                for slot in first..=last {
                    let before = owners[usize::from(slot)].replace(*id);
                    assert!(before.is_none(), "slot {slot} has two owners");
                }
            }
        }
        owners
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(n: u16) -> Vec<NodeRecord> {
        (0..n)
            .map(|i| NodeRecord::new(format!("127.0.0.1:{}", 100 + i), format!("127.0.0.1:{i}"), String::new()))
            .collect()
    }

    #[test]
    fn a_new_cluster_owns_every_slot_once_and_reuses_no_id() {
        for (n, groups, factor) in [(1, 1, 3), (3, 4, 3), (5, 4, 3), (3, 7, 1)] {
            let founding = Founding { cluster: 1, nodes: nodes(n), groups, replication_factor: factor, databases: 16 };
            let topology = Topology::found(founding, || 7);
            assert!(topology.slot_owners().iter().all(|o| o.is_some_and(|g| g != META)));
            let ids: Vec<u64> = topology.groups.values().flat_map(|g| g.replicas.keys().copied()).collect();
            assert_eq!(ids.len() as u64 + 1, topology.next_replica);
            for record in topology.groups.values() {
                let on: std::collections::BTreeSet<_> = record.replicas.values().collect();
                assert_eq!(on.len(), record.replicas.len(), "two replicas of a group on one node");
                assert!(record.replicas.contains_key(&record.founder));
            }
        }
    }
}
