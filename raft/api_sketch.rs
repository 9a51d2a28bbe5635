//! INTERFACE SKETCH of quoris-raft as the server sees it. The real crate replaces this file.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};
use quoris_engine::{Engine, command::Command};
use quoris_resp::{Argv, Reply};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)] pub struct GroupId(pub u32);   // 0 is the meta group
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)] pub struct NodeId(pub u64);

/// One command on its way to a group.
pub struct Operation {
    pub command: &'static Command,   // the EXEC row for a transaction
    pub argv: Argv,                  // Transaction::to_argv() for a transaction
    pub database: u32,
    pub user: u32,
    pub transaction: bool,
    pub write: bool,                 // false: a read, executed behind the writes in front of it in the same batch
}

/// Where a connection's last write stands in its group's log.
pub struct Position { pub group: GroupId, pub term: u64, pub index: u64 }

pub struct Executed { pub replies: Vec<Reply>, pub position: Option<Position> }

pub enum Error {
    /// Definitely not executed: the group's leader is another node (only with forwarding off). => MOVED
    NotLeader { leader: Option<NodeId> },
    /// Definitely not executed: no leader, no slot owner, shutting down, entry too large, disk full. Text without prefix.
    Unavailable(String),
    /// Definitely not executed, refused for a reason that has its own error text (prefix included): -MISCONF, -OOM …
    Refused(String),
    /// May have been executed or may still be: -TIMEOUT.
    Unknown(String),
}

/// Exactly-once identity of one client connection; forwarded commands carry it.
pub struct Session { /* node, connection number, next sequence */ }
impl Session {
    /// Runs a batch in order on the group; forwards to its leader, waits over elections, replays, up to `deadline`.
    /// Batches for different groups may be in flight at once; for one group only one at a time.
    pub async fn execute(&self, group: GroupId, operations: Vec<Operation>, forward: bool) -> Result<Executed, Error> { todo!() }
}

#[derive(Clone)] pub struct Node { /* Arc */ }
impl Node {
    pub async fn start(config: NodeConfig) -> Result<Node, StartError> { todo!() }
    pub fn session(&self) -> Session { todo!() }
    /// The group that owns a slot.
    pub fn group_of(&self, slot: u16) -> Option<GroupId> { todo!() }
    /// Every data group (for DBSIZE, FLUSHALL, SCAN, KEYS …), in order of id.
    pub fn groups(&self) -> Vec<GroupId> { todo!() }
    /// Immediate linearizable read access without a message, when this node can give it right now
    /// (sole voter, or a valid read lease). The guard holds the group's read lock: use it briefly, never across await.
    pub fn try_read(&self, group: GroupId) -> Option<ReadGuard<'_>> { todo!() }
    /// The present estimate of a group's clock, Unix ms (TIME, TTL).
    pub fn clock_ms(&self, group: GroupId) -> u64 { todo!() }
    pub fn status(&self) -> NodeStatus { todo!() }
    /// Number of replicas (this leader not counted) whose durable log covers the position. For WAIT/WAITAOF.
    pub async fn replicas_covering(&self, position: &Position) -> usize { todo!() }
    /// Writes one RDB of the whole node (all groups) for BGSAVE/SAVE; returns when durable.
    pub async fn save(&self, path: PathBuf) -> std::io::Result<()> { todo!() }
    /// Hands leadership over and stops: SIGTERM, SHUTDOWN.
    pub async fn shutdown(&self) { todo!() }
    /// Resolves when a group died and could not be rebuilt: the process must exit with this message.
    pub async fn failed(&self) -> String { todo!() }
}
pub struct ReadGuard<'a>(std::marker::PhantomData<&'a ()>);
impl std::ops::Deref for ReadGuard<'_> { type Target = Engine; fn deref(&self) -> &Engine { todo!() } }

pub enum Fsync { Always, EverySecond, No }
pub struct NodeConfig {
    pub dir: PathBuf, pub cluster_name: String, pub client_addr: String /*advertised host:port*/, pub peer_addr: String /*listen+advertised host:port*/,
    pub peers: Vec<String> /*all nodes' peer addresses incl. own; empty = single node*/, pub groups: u32, pub replication_factor: u32,
    pub databases: u32, pub fsync: Fsync, pub heartbeat: Duration, pub election_min: Duration, pub election_max: Duration,
    pub entry_bytes_max: usize, pub snapshot_log_bytes: u64,
}
pub struct StartError; // Display says what to do
#[derive(Clone, Debug)] pub struct NodeInfo { pub id: NodeId, pub client_addr: String, pub peer_addr: String, pub connected: bool }
#[derive(Clone, Debug)] pub struct ReplicaStatus { pub replica: u64, pub node: NodeId, pub voter: bool, pub matched: Option<u64> }
#[derive(Clone, Debug)] pub struct GroupStatus {
    pub id: GroupId, pub local: bool, pub role: &'static str /*leader|follower|learner|candidate|none*/, pub term: u64, pub leader: Option<NodeId>,
    pub commit: u64, pub applied: u64, pub last_log: u64, pub log_bytes: u64, pub snapshot_index: u64, pub purged: u64,
    pub slots: Vec<(u16, u16)>, pub replicas: Vec<ReplicaStatus>, pub clock_ms: u64, pub digest: Option<u128>,
    pub last_save_unix_s: u64,
}
#[derive(Clone, Debug)] pub struct NodeStatus {
    pub cluster_id: String, pub cluster_name: String, pub node: NodeId, pub boot_id: u64, pub nodes: Vec<NodeInfo>, pub groups: Vec<GroupStatus>,
    pub epoch: u64, pub fsyncs: u64, pub elections: u64, pub ready: bool,
}
