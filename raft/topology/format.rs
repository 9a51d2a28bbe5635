//! A topology and an identity as bytes: in the log of the meta group and in the node's folder.
//!
//! The first format had no number. What stood at its beginning, the cluster's id and the node's, is never 0, so zeros
//! there and a version behind them mark the later ones. `src/docs/formats.md` shows them.

use std::collections::BTreeMap;
use std::io;

use quoris_engine::codec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{GroupRecord, NodeRecord, Topology};
use crate::founding::Identity;
use crate::types::{GroupId, META, NodeId};

/// The present version of both.
const VERSION: u8 = 2;
/// In front of the version of a topology: no cluster has this id.
const NO_CLUSTER: [u8; 16] = [0; 16];
/// In front of the version of an identity: no node has this id.
const NO_NODE: [u8; 8] = [0; 8];
/// Copies of a group where an old topology does not say how many there should be.
const FACTOR: usize = 3;

#[derive(Serialize, Deserialize)]
struct FirstNode {
    peer_addr: String,
    client_addr: String,
}

#[derive(Serialize, Deserialize)]
struct FirstGroup {
    replicas: BTreeMap<u64, NodeId>,
    slots: Vec<(u16, u16)>,
    hash_seed: [u64; 2],
    founder: u64,
}

impl From<FirstGroup> for GroupRecord {
    fn from(old: FirstGroup) -> GroupRecord {
        let FirstGroup { replicas, slots, hash_seed, founder } = old;
        GroupRecord { replicas, born_with: slots.clone(), slots, hash_seed, founder }
    }
}

/// A topology of the first format.
#[derive(Serialize, Deserialize)]
struct First {
    cluster: u128,
    epoch: u64,
    next_node: u64,
    next_replica: u64,
    databases: u32,
    nodes: BTreeMap<NodeId, FirstNode>,
    groups: BTreeMap<GroupId, FirstGroup>,
}

impl From<First> for Topology {
    fn from(old: First) -> Topology {
        let copies = old.groups.iter().filter(|(id, _)| **id != META).map(|(_, g)| g.replicas.len()).max();
        let factor = if old.nodes.len() == 1 { FACTOR } else { copies.unwrap_or(FACTOR) };
        let nodes =
            old.nodes.into_iter().map(|(id, n)| (id, NodeRecord::new(n.peer_addr, n.client_addr, String::new())));
        Topology {
            cluster: old.cluster,
            epoch: old.epoch,
            next_node: old.next_node,
            next_replica: old.next_replica,
            databases: old.databases,
            nodes: nodes.collect(),
            groups: old.groups.into_iter().map(|(id, group)| (id, group.into())).collect(),
            moving: None,
            replication_factor: factor as u32,
        }
    }
}

fn versioned<T: Serialize>(mark: &[u8], value: &T) -> Vec<u8> {
    let mut bytes = [mark, &[VERSION]].concat();
    codec::put(value, &mut bytes);
    bytes
}

fn read<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> io::Result<T> {
    codec::read(bytes, what).map(|(value, _)| value).map_err(io::Error::other)
}

/// The value behind the mark; nothing when the bytes are of the first format.
fn read_versioned<T: DeserializeOwned>(mark: &[u8], bytes: &[u8], what: &'static str) -> io::Result<Option<T>> {
    match bytes.strip_prefix(mark) {
        Some([VERSION, rest @ ..]) => read(rest, what).map(Some),
        Some([version, ..]) => Err(io::Error::other(format!("the {what} has format {version}: upgrade this node"))),
        Some([]) => Err(io::Error::other(format!("the {what} is cut off"))),
        None => Ok(None),
    }
}

/// The bytes of a topology.
pub(crate) fn encode(topology: &Topology) -> Vec<u8> {
    versioned(&NO_CLUSTER, topology)
}

/// A topology of any format.
///
/// # Errors
/// When it is damaged, or of a later version.
pub(crate) fn decode(bytes: &[u8]) -> io::Result<Topology> {
    match read_versioned(&NO_CLUSTER, bytes, "topology")? {
        Some(topology) => Ok(topology),
        None => read::<First>(bytes, "topology").map(Topology::from),
    }
}

/// The bytes of an identity.
pub(crate) fn encode_identity(identity: &Identity) -> Vec<u8> {
    versioned(&NO_NODE, identity)
}

/// An identity of any format.
///
/// # Errors
/// When it is damaged, or of a later version.
pub(crate) fn decode_identity(bytes: &[u8]) -> io::Result<Identity> {
    if let Some(identity) = read_versioned(&NO_NODE, bytes, "identity")? {
        return Ok(identity);
    }
    let (node, topology, founding): (NodeId, First, bool) = read(bytes, "identity")?;
    Ok(Identity { node, topology: topology.into(), founding })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(nodes: u64) -> First {
        let node = |id: u64| (NodeId(id), FirstNode { peer_addr: format!("p{id}"), client_addr: format!("c{id}") });
        let record = FirstGroup {
            replicas: BTreeMap::from([(2, NodeId(1))]),
            slots: vec![(0, 9)],
            hash_seed: [1, 2],
            founder: 2,
        };
        First {
            cluster: 7,
            epoch: 3,
            next_node: nodes + 1,
            next_replica: 3,
            databases: 16,
            nodes: (1..=nodes).map(node).collect(),
            groups: BTreeMap::from([(GroupId(1), record)]),
        }
    }

    #[test]
    fn folders_of_the_first_format_are_read_and_written_anew() {
        let old = codec::bytes(&(NodeId(1), first(1), true));
        let identity = decode_identity(&old).expect("an old identity");
        assert!(identity.founding && identity.node == NodeId(1));
        assert_eq!(identity.topology.nodes[&NodeId(1)], NodeRecord::new("p1".into(), "c1".into(), String::new()));
        assert_eq!((identity.topology.cluster, identity.topology.replication_factor), (7, 3));
        assert_eq!(decode_identity(&encode_identity(&identity)).expect("its own bytes"), identity);

        let topology = decode(&codec::bytes(&first(5))).expect("an old topology");
        assert_eq!(topology.replication_factor, 1, "five nodes were content with one copy");
        assert_eq!(decode(&encode(&topology)).expect("its own bytes"), topology);
        let mut later = encode(&topology);
        later[16] += 1;
        assert!(decode(&later).expect_err("a later version").to_string().contains("upgrade"));
    }
}
