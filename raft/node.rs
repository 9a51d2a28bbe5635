//! A node: its groups, its peers, and the way in for the server above.
//!
//! Invariants: everything of Raft runs on the runtime that [`Node::start`] was given, apart from the
//! clients' work; a group that dies makes [`Node::failed`] resolve, and the process must end.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use quoris_engine::Settings;
use quoris_engine::entry::SessionId;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::elsewhere::Elsewhere;
use crate::forwarder::Forwarder;
use crate::founding::{self, Identity};
use crate::group::{Group, Health, ReadGuard, Timing};
use crate::guest;
use crate::handshake::Greeter;
use crate::interest::Interest;
use crate::link::Links;
use crate::lives::Lives;
use crate::runtime::random_u64;
use crate::seam::Seams;
use crate::session::Session;
use crate::topology::Topology;
use crate::types::{Addresses, GroupId, META, NodeId};

/// A start waits this long for leaders, then goes on without: other nodes may be missing.
const LEADERS_WAIT: Duration = Duration::from_secs(3);

/// What a node is started with.
#[derive(Clone)]
pub struct NodeConfig {
    /// It is no part of the cluster and uses it: `peers` are where to ask for one. It holds nothing and listens for
    /// nobody.
    pub guest: bool,
    /// Nodes of different names do not talk to each other.
    pub cluster_name: String,
    /// Known to all nodes of the cluster and to nobody else; empty without one.
    pub secret: String,
    /// Where clients reach this node, `host:port`.
    pub client_addr: String,
    /// Where peers reach this node, `host:port`. Empty on a node without peers.
    pub peer_addr: String,
    /// Where it listens for them, if that is not `peer_addr`.
    pub peer_bind: Option<String>,
    /// Peer addresses of all nodes, the own one included; empty for a single node.
    pub peers: Vec<String>,
    /// The peer address of any node of the cluster that this one joins, with an empty folder.
    pub join: Option<String>,
    /// Where this node stands: copies of a group spread over zones.
    pub zone: String,
    /// Data groups of a new cluster.
    pub groups: u32,
    /// Replicas of each data group of a new cluster.
    pub replication_factor: u32,
    /// Numbered databases of a new cluster.
    pub databases: u32,
    /// Settings of a new cluster.
    pub settings: Settings,
    /// Raft's timing, and when snapshots are taken.
    pub timing: Timing,
    /// The largest command, in bytes.
    pub entry_bytes_max: usize,
    /// How long a command may wait for a leader.
    pub request_timeout: Duration,
}

/// A handle to the node; cheap to clone.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: NodeConfig,
    pub(crate) seams: Seams,
    pub(crate) boot: u64,
    pub(crate) identity: ArcSwap<Option<Identity>>,
    pub(crate) adopted: watch::Sender<bool>,
    pub(crate) groups: ArcSwap<BTreeMap<GroupId, Arc<Group>>>,
    pub(crate) links: Links0,
    forwarder: OnceLock<Forwarder>,
    topology: ArcSwap<Option<Arc<Routes>>>,
    /// The topology's epoch.
    pub(crate) epoch: watch::Sender<u64>,
    /// Held while a newer topology is taken over.
    pub(crate) taking: Mutex<()>,
    /// Those of the cluster.
    pub(crate) settings: watch::Sender<Settings>,
    addresses: Addresses,
    /// Groups that have no replica here.
    pub(crate) elsewhere: Elsewhere,
    next_connection: AtomicU64,
    pub(crate) health: Health,
    /// Starts of all nodes.
    pub(crate) lives: Lives,
    /// A failpoint.
    pub(crate) die_at: Mutex<crate::mover::DieAt>,
    /// Another: the step at which moves rest.
    pub(crate) hold_at: watch::Sender<String>,
    /// What clients listen to, here and elsewhere.
    interest: Interest,
    /// Tasks of the node itself, and of each group; they end with it.
    pub(crate) tasks: Mutex<BTreeMap<Option<GroupId>, Vec<tokio::task::AbortHandle>>>,
}

/// The links are made after the inner part, because their greeting asks it.
type Links0 = OnceLock<Arc<Links>>;

/// The topology, and what is looked up in it for every command.
pub(crate) struct Routes {
    pub(crate) topology: Topology,
    owners: Vec<Option<GroupId>>,
}

/// The node cannot start; the text says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

impl From<io::Error> for StartError {
    fn from(e: io::Error) -> StartError {
        StartError(e.to_string())
    }
}

impl Node {
    /// Starts the node: from its data folder, or as part of a new cluster. Returns when its groups run;
    /// they may still have no leader.
    ///
    /// # Errors
    /// When the folder belongs elsewhere, was wiped, or cannot be used.
    pub async fn start(mut config: NodeConfig, seams: Seams) -> Result<Node, StartError> {
        let addresses: Addresses = Arc::default();
        let identity = founding::load(&*seams.disk)?;
        let listener = crate::join::listen(&mut config, &seams, identity.as_ref()).await?;
        let inner = Arc::new(Inner {
            boot: random_u64() | 1,
            identity: ArcSwap::from_pointee(identity),
            adopted: watch::channel(false).0,
            groups: ArcSwap::default(),
            links: Links0::new(),
            forwarder: OnceLock::new(),
            topology: ArcSwap::from_pointee(None),
            epoch: watch::Sender::default(),
            taking: Mutex::default(),
            settings: watch::Sender::default(),
            addresses: addresses.clone(),
            elsewhere: Elsewhere::default(),
            next_connection: AtomicU64::new(1),
            health: Health::default(),
            lives: Lives::load(seams.disk.clone())?,
            interest: Interest::default(),
            die_at: Mutex::default(),
            hold_at: watch::Sender::default(),
            tasks: Mutex::default(),
            config,
            seams: seams.clone(),
        });
        let node = Node(inner);
        if node.id() != NodeId(0) {
            node.0.lives.begin(node.id(), node.0.boot)?;
        }
        let greeter: Arc<dyn Greeter> = node.0.clone();
        let (greeter, runtime) = (Arc::downgrade(&greeter), tokio::runtime::Handle::current());
        let links = Arc::new(Links::new(seams.net.clone(), seams.clock.clone(), addresses, greeter, runtime));
        assert!(node.0.forwarder.set(Forwarder::new(links.clone())).is_ok(), "set once");
        assert!(node.0.links.set(links).is_ok(), "set once");
        if let Some(listener) = listener {
            node.keep(tokio::spawn(crate::serve::accept(listener, Arc::new(node.clone()))));
        }
        if node.is_guest() {
            guest::settle(&node).await?;
            node.keep(tokio::spawn(crate::interest::listen(node.clone())));
        } else {
            founding::settle(&node).await?;
            node.keep(tokio::spawn(node.0.health.room.clone().watch(seams)));
        }
        node.start_groups().await?;
        node.keep(tokio::spawn(crate::elsewhere::follow(node.clone())));
        node.wait_for_leaders(LEADERS_WAIT).await;
        node.keep(tokio::spawn(crate::follow::follow_meta(node.clone())));
        node.keep(tokio::spawn(crate::settings::spread(node.clone())));
        node.keep(tokio::spawn(crate::reconcile::reconcile(node.clone())));
        node.keep(tokio::spawn(crate::join::announce(node.clone())));
        node.keep(tokio::spawn(crate::interest::tell(node.clone())));
        node.keep(tokio::spawn(crate::mover::drive(node.clone())));
        Ok(node)
    }

    pub(crate) fn keep(&self, task: tokio::task::JoinHandle<()>) {
        self.0.tasks.lock().entry(None).or_default().push(task.abort_handle());
    }

    /// Gives the first elections time, so that a node rarely opens its doors before it can serve.
    async fn wait_for_leaders(&self, longest: Duration) {
        let groups: Vec<Arc<Group>> = self.0.groups.load().values().cloned().collect();
        let wait = groups.iter().map(|g| async {
            let wait = g.raft.wait(Some(longest));
            let _ = wait.metrics(|m| m.current_leader.is_some(), "a leader").await;
        });
        futures_util::future::join_all(wait).await;
        if self.is_guest() {
            guest::wait_for_leaders(self, longest).await;
        }
    }

    /// The node cannot go on; the first reason counts.
    pub(crate) fn fail(&self, why: String) {
        tracing::error!("{why}");
        self.0.health.failed.send_if_modified(|f| f.is_none() && f.replace(why).is_none());
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    /// What it was started with.
    pub fn config(&self) -> &NodeConfig {
        &self.0.config
    }

    /// Runs a task beside Raft. It must not keep its thread for long.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.links().runtime().spawn(task).abort_handle()
    }

    pub(crate) fn forwarder(&self) -> &Forwarder {
        self.0.forwarder.get().expect("set in start")
    }

    pub(crate) fn links(&self) -> &Arc<Links> {
        self.0.links.get().expect("set in start")
    }

    /// What clients listen to, here and elsewhere.
    pub fn interest(&self) -> &Interest {
        &self.0.interest
    }

    pub(crate) fn identity(&self) -> Identity {
        self.0.identity.load().as_ref().clone().expect("settled in start")
    }

    /// This node's id; 0 until it belongs to a cluster.
    pub fn id(&self) -> NodeId {
        self.0.identity.load().as_ref().as_ref().map_or(NodeId(0), |i| i.node)
    }

    /// Where clients reach this node.
    pub fn client_addr(&self) -> &str {
        &self.0.config.client_addr
    }

    /// Whether this node uses the cluster and is no part of it.
    pub fn is_guest(&self) -> bool {
        self.0.config.guest
    }

    pub(crate) fn learn_topology(&self, topology: Topology) {
        if self.0.topology.load().as_ref().as_ref().is_some_and(|known| known.topology.epoch > topology.epoch) {
            return;
        }
        let addresses = topology.nodes.iter().map(|(id, n)| (*id, n.peer_addr.clone())).collect();
        self.0.addresses.store(Arc::new(addresses));
        let owners = topology.slot_owners();
        let alone = topology.nodes.len() == 1 && topology.groups.keys().filter(|g| **g != META).count() == 1;
        self.0.seams.disk.submit_may_block(alone);
        let epoch = topology.epoch;
        self.0.topology.store(Arc::new(Some(Arc::new(Routes { topology, owners }))));
        self.0.epoch.send_replace(epoch);
    }

    pub(crate) fn routes(&self) -> Arc<Routes> {
        self.known_routes().expect("learned in start")
    }

    /// The same, as soon as they are known.
    pub(crate) fn known_routes(&self) -> Option<Arc<Routes>> {
        self.0.topology.load().as_ref().clone()
    }

    /// A session for a new client connection.
    pub fn session(&self) -> Session {
        let connection = self.0.next_connection.fetch_add(1, Ordering::Relaxed);
        Session::new(self.clone(), SessionId { origin: self.0.boot, connection })
    }

    /// The group that owns a slot.
    pub fn group_of(&self, slot: u16) -> Option<GroupId> {
        let routes = self.0.topology.load();
        routes.as_ref().as_ref()?.owners.get(usize::from(slot)).copied().flatten()
    }

    /// Every data group, in order of id.
    pub fn groups(&self) -> Vec<GroupId> {
        self.routes().topology.groups.keys().copied().filter(|g| *g != META).collect()
    }

    /// This node's replica of a group.
    pub fn group(&self, group: GroupId) -> Option<Arc<Group>> {
        self.0.groups.load().get(&group).cloned()
    }

    /// The same, unless it is in quarantine.
    pub(crate) fn sound_group(&self, group: GroupId) -> Option<Arc<Group>> {
        self.group(group).filter(|local| !local.replica.is_quarantined())
    }

    /// A group's state for linearizable reads, if this node may give it now without asking anybody.
    pub fn try_read(&self, group: GroupId) -> Option<ReadGuard> {
        self.0.groups.load().get(&group)?.try_read()
    }

    /// A look at the local replica, which may lag: for figures, never for a client's read.
    pub fn peek(&self, group: GroupId) -> Option<ReadGuard> {
        self.sound_group(group).map(|g| g.peek())
    }

    /// The digest of a local replica's state, and the index that it stands at.
    pub fn digest(&self, group: GroupId) -> Option<(u64, u64)> {
        let local = self.sound_group(group)?;
        let mut engine = local.replica.engine.write();
        Some((engine.applied_index(), engine.digest()))
    }

    /// Hands over what this node leads.
    pub async fn hand_over(&self) {
        let groups: Vec<Arc<Group>> = self.0.groups.load().values().cloned().collect();
        let timeout = Duration::from_secs(2);
        futures_util::future::join_all(groups.iter().map(|g| g.hand_over(timeout))).await;
    }

    /// Hands leadership over and stops every group.
    pub async fn shutdown(&self) {
        self.hand_over().await;
        let groups: Vec<Arc<Group>> = self.0.groups.load().values().cloned().collect();
        futures_util::future::join_all(groups.iter().map(|g| g.stop())).await;
        self.0.groups.store(Arc::default());
        std::mem::take(&mut *self.0.tasks.lock()).into_values().flatten().for_each(|t| t.abort());
    }

    /// Resolves with a message when a group has died: the process must end.
    pub async fn failed(&self) -> String {
        let mut failed = self.0.health.failed.subscribe();
        match failed.wait_for(Option::is_some).await {
            Ok(text) => text.clone().unwrap_or_default(),
            Err(_) => "the node is gone".to_string(),
        }
    }
}
