//! A stand-in for the Raft layer: one group in memory, entries applied at once.
//!
//! It has the signatures of the real crate, so that everything above it can be built and tested before
//! the real one is there. Nothing is durable and nothing is replicated here.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::{RwLock, RwLockReadGuard};
use quoris_engine::{
    Keyspace, Rng,
    command::{ApplyContext, Command, Handler, ReadContext, lookup},
    entry::Transaction,
};
use quoris_resp::{Argv, Reply};

/// A Raft group; 0 is the meta group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupId(pub u32);

/// A process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u64);

/// One command on its way to a group.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The row; EXEC's for a transaction.
    pub command: &'static Command,
    /// The arguments; `Transaction::to_argv` for a transaction.
    pub argv: Argv,
    /// The selected database.
    pub database: u32,
    /// The user's number; 0 is the default user.
    pub user: u32,
    /// Whether argv is a transaction.
    pub transaction: bool,
    /// False for a read, which runs behind the writes in front of it in the same batch.
    pub write: bool,
}

/// Where a connection's last write stands in its group's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The group.
    pub group: GroupId,
    /// The term.
    pub term: u64,
    /// The log index.
    pub index: u64,
}

/// What came of a batch.
#[derive(Clone, Debug)]
pub struct Executed {
    /// One reply per operation, in order.
    pub replies: Vec<Reply>,
    /// Where its last write stands; nothing when it wrote nothing.
    pub position: Option<Position>,
}

/// Why a batch has no replies.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Definitely not executed: the leader is another node.
    #[error("another node leads the group")]
    NotLeader {
        /// The leader, when it is known.
        leader: Option<NodeId>,
    },
    /// Definitely not executed. Text without a prefix.
    #[error("{0}")]
    Unavailable(String),
    /// Definitely not executed, with an error text of its own, prefix included.
    #[error("{0}")]
    Refused(String),
    /// May have been executed, or may still be.
    #[error("{0}")]
    Unknown(String),
}

/// Exactly-once identity of one client connection.
#[derive(Debug)]
pub struct Session {
    node: Node,
}

impl Session {
    /// Runs a batch in order on a group.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn execute(&self, group: GroupId, operations: Vec<Operation>, forward: bool) -> Result<Executed, Error> {
        let _ = forward;
        if group != GROUP {
            return Err(Error::Unavailable(format!("no group {}", group.0)));
        }
        let mut engine = self.node.0.engine.write();
        let mut wrote = false;
        let replies = operations.iter().map(|operation| engine.run(operation, &mut wrote)).collect();
        let position = wrote.then_some(Position { group, term: 1, index: engine.index });
        Ok(Executed { replies, position })
    }
}

const GROUP: GroupId = GroupId(1);

/// The state machine of the one group.
pub struct Engine {
    keyspace: Keyspace,
    index: u64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Engine {
    /// The keys.
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    fn run(&mut self, operation: &Operation, wrote: &mut bool) -> Reply {
        if operation.write {
            self.index += 1;
            *wrote = true;
        }
        let mut context = ApplyContext {
            database: operation.database,
            index: self.index,
            now_ms: self.keyspace.now_ms(),
            rng: Rng::new(self.index),
        };
        if !operation.transaction {
            return self.one(operation.command, &mut context, &operation.argv);
        }
        let Ok(transaction) = Transaction::from_argv(&operation.argv) else { return Reply::error("ERR damaged transaction") };
        if transaction.watches.iter().any(|w| self.keyspace.version(w.database, &w.key) != w.version) {
            return Reply::NullArray;
        }
        let replies = transaction.commands.iter().map(|argv| match lookup(argv) {
            Ok(found) if found.command.name == "select" => {
                let number = argv.get(1).and_then(|a| std::str::from_utf8(a).ok()?.parse::<u32>().ok());
                match number.filter(|n| *n < self.keyspace.databases()) {
                    Some(n) => {
                        context.database = n;
                        Reply::Ok
                    }
                    None => Reply::error("ERR DB index is out of range"),
                }
            }
            Ok(found) => self.one(found.command, &mut context, argv),
            Err(e) => e.into(),
        });
        Reply::Array(replies.collect())
    }

    fn one(&mut self, command: &Command, context: &mut ApplyContext, argv: &Argv) -> Reply {
        let read = ReadContext { database: context.database, now_ms: now_ms(), rng: context.rng.clone().into() };
        match command.handler {
            Handler::Read(run) => run(&self.keyspace, &read, argv),
            Handler::Write(run) => run(&mut self.keyspace, context, argv),
            Handler::Server | Handler::Container => Ok(Reply::error("ERR not a command of the state machine")),
        }
        .unwrap_or_else(Reply::from)
    }
}

/// This process's part of the cluster.
#[derive(Clone, Debug)]
pub struct Node(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: NodeConfig,
    engine: RwLock<Engine>,
    boot_id: u64,
    started: Instant,
    saved: AtomicU64,
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

impl Node {
    /// Starts the node.
    ///
    /// # Errors
    /// When it cannot start; the text says what to do.
    pub async fn start(config: NodeConfig) -> Result<Node, StartError> {
        let engine = RwLock::new(Engine { keyspace: Keyspace::new([1, 2], config.databases), index: 0 });
        let shared = Shared { config, engine, boot_id: now_ms(), started: Instant::now(), saved: AtomicU64::new(now_ms() / 1000) };
        Ok(Node(Arc::new(shared)))
    }

    /// A session for a new connection.
    pub fn session(&self) -> Session {
        Session { node: self.clone() }
    }

    /// The group that owns a slot.
    pub fn group_of(&self, slot: u16) -> Option<GroupId> {
        (slot < quoris_engine::SLOTS).then_some(GROUP)
    }

    /// Every data group, in order of id.
    pub fn groups(&self) -> Vec<GroupId> {
        vec![GROUP]
    }

    /// Immediate linearizable read access, when this node can give it right now.
    pub fn try_read(&self, group: GroupId) -> Option<ReadGuard<'_>> {
        (group == GROUP).then(|| ReadGuard(self.0.engine.read()))
    }

    /// A look at the local replica, which may lag: for INFO and metrics, never for a client's read.
    pub fn peek(&self, group: GroupId) -> Option<ReadGuard<'_>> {
        self.try_read(group)
    }

    /// The present estimate of a group's clock, Unix ms.
    pub fn clock_ms(&self, _group: GroupId) -> u64 {
        now_ms()
    }

    /// How the node stands.
    pub fn status(&self) -> NodeStatus {
        let index = self.0.engine.read().index;
        let node = NodeId(1);
        let group = GroupStatus {
            id: GROUP,
            local: true,
            role: "leader",
            term: 1,
            leader: Some(node),
            commit: index,
            applied: index,
            last_log: index,
            log_bytes: 0,
            snapshot_index: 0,
            purged: 0,
            slots: vec![(0, quoris_engine::SLOTS - 1)],
            replicas: vec![ReplicaStatus { replica: 1, node, voter: true, matched: Some(index) }],
            clock_ms: now_ms(),
            digest: None,
            last_save_unix_s: self.0.saved.load(Ordering::Relaxed),
        };
        let config = &self.0.config;
        NodeStatus {
            cluster_id: format!("{:032x}", self.0.boot_id),
            cluster_name: config.cluster_name.clone(),
            node,
            boot_id: self.0.boot_id,
            nodes: vec![NodeInfo { id: node, client_addr: config.client_addr.clone(), peer_addr: config.peer_addr.clone(), connected: true }],
            groups: vec![group],
            epoch: 1,
            fsyncs: 0,
            elections: u64::from(self.0.started.elapsed() > Duration::ZERO),
            ready: true,
        }
    }

    /// Number of other replicas whose durable log covers the position.
    pub async fn replicas_covering(&self, _position: &Position) -> usize {
        0
    }

    /// Writes one RDB of the whole node.
    ///
    /// # Errors
    /// Of the file system.
    pub async fn save(&self, path: PathBuf) -> std::io::Result<()> {
        self.0.saved.store(now_ms() / 1000, Ordering::Relaxed);
        std::fs::write(path, b"")
    }

    /// Hands leadership over and stops.
    pub async fn shutdown(&self) {}

    /// Resolves when a group died and could not be rebuilt.
    pub async fn failed(&self) -> String {
        std::future::pending().await
    }
}

/// Read access to a group's state.
#[derive(Debug)]
pub struct ReadGuard<'a>(RwLockReadGuard<'a, Engine>);

impl std::ops::Deref for ReadGuard<'_> {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.0
    }
}

/// When the log is fsynced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before every acknowledgement.
    Always,
    /// Once a second.
    EverySecond,
    /// When the system likes to.
    No,
}

/// How a node starts.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The data folder.
    pub dir: PathBuf,
    /// The cluster's name.
    pub cluster_name: String,
    /// Advertised address for clients, host:port.
    pub client_addr: String,
    /// Address for peers, host:port.
    pub peer_addr: String,
    /// All nodes' peer addresses, the own one included; empty for a single node.
    pub peers: Vec<String>,
    /// Number of data groups.
    pub groups: u32,
    /// Replicas per group.
    pub replication_factor: u32,
    /// Numbered databases.
    pub databases: u32,
    /// When the log is fsynced.
    pub fsync: Fsync,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout.
    pub election_max: Duration,
    /// Largest entry, in bytes.
    pub entry_bytes_max: usize,
    /// Log size that asks for a snapshot, in bytes.
    pub snapshot_log_bytes: u64,
}

/// The node cannot start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

/// One node of the cluster.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Its id.
    pub id: NodeId,
    /// Its address for clients.
    pub client_addr: String,
    /// Its address for peers.
    pub peer_addr: String,
    /// Whether a connection to it is up.
    pub connected: bool,
}

/// One replica of a group.
#[derive(Clone, Debug)]
pub struct ReplicaStatus {
    /// Its Raft id.
    pub replica: u64,
    /// Where it lives.
    pub node: NodeId,
    /// Whether it votes.
    pub voter: bool,
    /// The last index that it is known to hold; only the leader knows.
    pub matched: Option<u64>,
}

/// One group.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// Its id.
    pub id: GroupId,
    /// Whether a replica lives here.
    pub local: bool,
    /// leader, follower, learner, candidate or none.
    pub role: &'static str,
    /// The term.
    pub term: u64,
    /// Who leads.
    pub leader: Option<NodeId>,
    /// The last committed index.
    pub commit: u64,
    /// The last applied index.
    pub applied: u64,
    /// The last index of the log.
    pub last_log: u64,
    /// Size of the log, in bytes.
    pub log_bytes: u64,
    /// The last index that the snapshot covers.
    pub snapshot_index: u64,
    /// The last purged index.
    pub purged: u64,
    /// Ranges of slots, ends included.
    pub slots: Vec<(u16, u16)>,
    /// Its replicas.
    pub replicas: Vec<ReplicaStatus>,
    /// The group's clock, Unix ms.
    pub clock_ms: u64,
    /// The state's digest, when it is known.
    pub digest: Option<u128>,
    /// When a snapshot was saved last, Unix s.
    pub last_save_unix_s: u64,
}

/// The whole node.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// The cluster's id.
    pub cluster_id: String,
    /// The cluster's name.
    pub cluster_name: String,
    /// This node.
    pub node: NodeId,
    /// New at every start.
    pub boot_id: u64,
    /// All nodes.
    pub nodes: Vec<NodeInfo>,
    /// All groups.
    pub groups: Vec<GroupStatus>,
    /// The epoch of the slot map.
    pub epoch: u64,
    /// Fsyncs since the start.
    pub fsyncs: u64,
    /// Elections since the start.
    pub elections: u64,
    /// Every local group has a leader and is caught up.
    pub ready: bool,
}
