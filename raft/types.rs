//! Ids, and the types that openraft is instantiated with.
//!
//! Only this crate names openraft. A *node* is a process; a *replica* is one node's copy of one group,
//! and its id, openraft's NodeId, is handed out by the meta group and never used twice: a wiped disk
//! that came back under an old id could elect itself.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use openraft::impls::leader_id_adv;
use serde::{Deserialize, Serialize};

/// A Raft group. Number 0 is the meta group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct GroupId(pub u32);

/// The group that holds the topology.
pub const META: GroupId = GroupId(0);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {}", self.0)
    }
}

/// A process of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl NodeId {
    /// Ids from here on are those of guests; nodes count from 1.
    const GUESTS: u64 = 1 << 63;

    /// The id of a guest, from random bits.
    pub(crate) fn of_guest(bits: u64) -> NodeId {
        NodeId(bits | NodeId::GUESTS)
    }

    /// Whether this is a guest: it uses the cluster and is no part of it.
    pub fn is_guest(self) -> bool {
        self.0 >= NodeId::GUESTS
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_guest() { write!(f, "proxy {:016x}", self.0) } else { write!(f, "node {}", self.0) }
    }
}

/// A replica's place in a group's membership, openraft's `Node`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Member {
    /// The node that holds the replica.
    pub node: u64,
    /// Its peer address when the membership was written; the node table has the present one.
    pub addr: String,
}

/// The body of an entry as openraft carries it: see [`quoris_engine::entry`]. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Body(pub Bytes);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// openraft's types as Quoris uses them.
#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Body;
    type R = ();
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = leader_id_adv::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Body, u64, Member>;
    type Entry = openraft::Entry<<Self::LeaderId as openraft::vote::RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = crate::runtime::Runtime;
    type Responder<T>
        = crate::propose::Notice<T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// A vote or a leader, with its term and replica.
pub type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
/// Term, leader and index of an entry.
pub type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
/// An entry of the log.
pub type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
/// What an entry carries.
pub type Payload = openraft::EntryPayload<Body, u64, Member>;
/// Voters and learners.
pub type Membership = openraft::Membership<u64, Member>;
/// A membership and where it stands in the log.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
/// A snapshot's log id and membership.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
/// A group's Raft handle.
pub type Raft = openraft::Raft<TypeConfig, crate::machine::Machine>;

/// The present node table: peer addresses by node.
pub type Addresses = Arc<arc_swap::ArcSwap<std::collections::BTreeMap<NodeId, String>>>;
