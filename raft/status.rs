//! What a node and its groups look like from outside: for INFO, CLUSTER, `quoris admin status`.

use std::sync::atomic::Ordering;

use openraft::ServerState;

use crate::group::Group;
use crate::link::Lane;
use crate::node::Node;
use crate::session::Position;
use crate::topology::Topology;
use crate::types::{GroupId, NodeId};
use crate::wire::{self, Kind};

/// A node of the cluster.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Its id.
    pub id: NodeId,
    /// Where clients reach it.
    pub client_addr: String,
    /// Where peers reach it.
    pub peer_addr: String,
    /// Whether this node has a connection to it; true for itself.
    pub connected: bool,
}

/// A replica of a group.
#[derive(Clone, Debug)]
pub struct ReplicaStatus {
    /// Its id.
    pub replica: u64,
    /// The node that holds it.
    pub node: NodeId,
    /// Whether it votes.
    pub voter: bool,
    /// The last index that is durable there; known to the leader only.
    pub matched: Option<u64>,
}

/// A group.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// Its id.
    pub id: GroupId,
    /// Whether a replica runs on this node; if not, only id, slots, replicas and leader are known.
    pub local: bool,
    /// leader, follower, learner, candidate, quarantined or none.
    pub role: &'static str,
    /// The term.
    pub term: u64,
    /// Who leads, if known.
    pub leader: Option<NodeId>,
    /// The last index known to be committed.
    pub commit: u64,
    /// The last applied index.
    pub applied: u64,
    /// The last index of the log.
    pub last_log: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Kept events: everything above this index.
    pub events_floor: u64,
    /// Bytes of them.
    pub events_bytes: u64,
    /// The index that the newest snapshot covers.
    pub snapshot_index: u64,
    /// The last index that is purged.
    pub purged: u64,
    /// Snapshots received from a leader and installed since the start.
    pub snapshots_installed: u64,
    /// The version of the cluster's settings that is applied here.
    pub settings: u64,
    /// The local replica was found to be wrong and is being rebuilt: it neither votes nor serves.
    pub quarantined: bool,
    /// Rounds in which a quorum confirmed reads, since it was started or rebuilt.
    pub read_rounds: u64,
    /// How often it was rebuilt since the start.
    pub rebuilds: u64,
    /// The last index at which it was found to be what a majority is, since it was started or rebuilt.
    pub verified: u64,
    /// Owned slots as inclusive ranges.
    pub slots: Vec<(u16, u16)>,
    /// Its replicas.
    pub replicas: Vec<ReplicaStatus>,
    /// The estimate of its clock, Unix milliseconds.
    pub clock_ms: u64,
    /// Its clock stands still until an operator confirms a step: nothing expires.
    pub clock_held: bool,
    /// When the newest snapshot was finished, Unix seconds; 0 when none was since the start.
    pub last_save_unix_s: u64,
}

/// A node and everything on it.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// The cluster's id, 32 hex digits.
    pub cluster_id: String,
    /// Its name from the configuration.
    pub cluster_name: String,
    /// This node.
    pub node: NodeId,
    /// New with every start.
    pub boot_id: u64,
    /// All nodes, in order of id.
    pub nodes: Vec<NodeInfo>,
    /// All groups, the meta group first.
    pub groups: Vec<GroupStatus>,
    /// The topology's epoch.
    pub epoch: u64,
    /// Whether leaders on this node read under a lease.
    pub read_lease: bool,
    /// Flushes of the log since the start.
    pub fsyncs: u64,
    /// Terms that began since the start, over all groups; a cluster at rest adds none.
    pub elections: u64,
    /// Every local group has a leader and is caught up with it as far as it knows, none is in quarantine, and
    /// no clock is held. On a guest: every group has a leader that answers.
    pub ready: bool,
}

/// Committed entries that a replica in good health may not have applied yet: under load there are always
/// some, and a leader has fewer than these in flight.
const READY_LAG_MAX: u64 = 16;

fn role(state: ServerState) -> &'static str {
    match state {
        ServerState::Leader => "leader",
        ServerState::Follower => "follower",
        ServerState::Learner => "learner",
        ServerState::Candidate => "candidate",
        ServerState::Shutdown => "none",
    }
}

impl Node {
    /// The state of this node and of what it knows of the others.
    pub fn status(&self) -> NodeStatus {
        let routes = self.routes();
        let topology = &routes.topology;
        let own = self.id();
        let nodes = topology.nodes.iter().map(|(id, n)| NodeInfo {
            id: *id,
            client_addr: n.client_addr.clone(),
            peer_addr: n.peer_addr.clone(),
            connected: *id == own || self.links().is_connected(*id),
        });
        let groups: Vec<GroupStatus> = topology.groups.keys().map(|g| self.status_in(topology, *g)).collect();
        let caught_up = |g: &GroupStatus| g.applied + READY_LAG_MAX >= g.commit;
        let sound = |g: &GroupStatus| !g.quarantined && !g.clock_held;
        let counts = |g: &&GroupStatus| g.local || self.is_guest();
        let ready = groups.iter().filter(counts).all(|g| g.leader.is_some() && caught_up(g) && sound(g));
        NodeStatus {
            cluster_id: format!("{:032x}", topology.cluster),
            cluster_name: self.config().cluster_name.clone(),
            node: own,
            boot_id: self.inner().boot,
            nodes: nodes.collect(),
            groups,
            epoch: topology.epoch,
            elections: self.inner().health.elections.load(Ordering::Relaxed),
            read_lease: self.config().timing.read_lease,
            fsyncs: self.inner().seams.disk.flushes(),
            ready,
        }
    }

    /// How many replicas beside the leader's have the position in their durable log. Asks the leader.
    pub async fn replicas_covering(&self, position: &Position) -> usize {
        if let Some(local) = self.group(position.group).filter(|g| g.leads()) {
            return covering(&local, position.index);
        }
        let Some(leader) = self.leader_of(position.group) else { return 0 };
        let Ok(connection) = self.links().connection(leader, Lane::Control).await else { return 0 };
        let question = vec![wire::part(&(position.group, position.index))];
        let answer = connection.call(Kind::Progress, question).await;
        answer.ok().and_then(|a| wire::message::<u64>(&a).ok()).unwrap_or(0) as usize
    }

    /// The state of one group, as far as this node knows it.
    pub fn group_status(&self, id: GroupId) -> GroupStatus {
        self.status_in(&self.routes().topology, id)
    }

    /// The same, in the topology of all groups that are shown together.
    fn status_in(&self, topology: &Topology, id: GroupId) -> GroupStatus {
        let record = topology.groups.get(&id);
        let mut status = GroupStatus {
            id,
            local: false,
            role: "none",
            term: 0,
            leader: self.known_leader(id).and(self.leader_to_name(id)),
            commit: 0,
            applied: 0,
            last_log: 0,
            log_bytes: 0,
            events_floor: 0,
            events_bytes: 0,
            snapshot_index: 0,
            purged: 0,
            snapshots_installed: 0,
            settings: 0,
            quarantined: false,
            read_rounds: 0,
            rebuilds: 0,
            verified: 0,
            slots: record.map(|r| r.slots.clone()).unwrap_or_default(),
            replicas: Vec::new(),
            clock_ms: self.clock_ms(id),
            clock_held: false,
            last_save_unix_s: 0,
        };
        let replicas = record.into_iter().flat_map(|r| &r.replicas);
        status.replicas = replicas
            .map(|(id, node)| ReplicaStatus { replica: *id, node: *node, voter: true, matched: None })
            .collect();
        let Some(group) = self.group(id) else { return status };
        let metrics = group.metrics();
        let index = |id: Option<crate::types::LogId>| id.map_or(0, |id| id.index);
        status.local = true;
        status.role = role(metrics.state);
        status.term = metrics.current_term;
        status.commit = index(metrics.cluster_committed);
        status.applied = group.replica.applied.load(Ordering::Acquire);
        status.last_log = metrics.last_log_index.unwrap_or(0);
        status.log_bytes = group.log.log_bytes();
        let kept = group.replica.retained.figures();
        (status.events_floor, status.events_bytes) = (kept.floor, kept.bytes);
        status.snapshot_index = index(metrics.snapshot);
        status.purged = index(metrics.purged);
        status.snapshots_installed = group.replica.installs.load(Ordering::Relaxed);
        status.clock_held = group.replica.clock.is_held();
        status.settings = group.peek().keyspace().settings().version;
        status.quarantined = group.replica.is_quarantined();
        if status.quarantined {
            status.role = "quarantined";
        }
        status.rebuilds = group.replica.rebuilds.load(Ordering::Relaxed);
        status.read_rounds = group.replica.read_rounds.load(Ordering::Relaxed);
        status.verified = group.replica.engine.read().verified_index();
        status.last_save_unix_s = group.replica.last_save_unix_s.load(Ordering::Relaxed);
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        for replica in &mut status.replicas {
            replica.voter = voters.contains(&replica.replica);
            replica.matched = metrics.replication.as_ref().and_then(|r| r.get(&replica.replica)).map(|id| index(*id));
        }
        status
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({})", self.id().0)
    }
}

/// Replicas beside the leader's whose log is durable up to an index.
pub(crate) fn covering(group: &Group, index: u64) -> usize {
    let replication = group.metrics().replication.unwrap_or_default();
    let matched = replication.iter().filter(|(id, _)| **id != group.replica.id).filter_map(|(_, at)| *at);
    matched.filter(|at| at.index >= index).count()
}
