//! What all connections of a node share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use quoris_engine::{Engine, Rng};
use quoris_net::{Link, Service, Settings, Traffic};
use quoris_raft::{GroupId, Node, ReadAge};

use crate::{
    chance, client::Client, clients::Clients, commands, config::Config, gate::Gate, hot_keys::HotKeys,
    latency::Latency, monitor::Monitors, pubsub::PubSub, saves::Saves, shutdown::Shutdown, slowlog::CommandLogs,
    stats::Stats, tracking::Tracking, users::Users,
};

/// A running node as its connections see it.
pub struct Server {
    /// The Raft layer.
    pub node: Node,
    /// All settings.
    pub config: Config,
    /// Limits and socket options of the listeners.
    pub settings: Arc<Settings>,
    /// What went over the listeners.
    pub traffic: Arc<Traffic>,
    pub(crate) stats: Stats,
    pub(crate) clients: Clients,
    pub(crate) command_logs: CommandLogs,
    pub(crate) hot_keys: HotKeys,
    pub(crate) latency: Latency,
    pub(crate) gate: Gate,
    pub(crate) monitors: Monitors,
    pub(crate) pubsub: PubSub,
    pub(crate) tracking: Tracking,
    pub(crate) saves: Saves,
    pub(crate) users: Users,
    pub(crate) shutdown: Shutdown,
    pub(crate) tunables: Tunables,
    groups: ArcSwap<Vec<GroupId>>,
    /// The only data group, `u32::MAX` when there are several.
    sole_group: AtomicU32,
    /// Whether every command has to look at the gate and the monitors.
    watched: AtomicBool,
    seeds: AtomicU64,
    pub(crate) started: Instant,
    pub(crate) run_id: String,
    pub(crate) memory_peak: AtomicU64,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("run_id", &self.run_id).finish_non_exhaustive()
    }
}

/// Live settings that are looked at on the way of a command.
#[derive(Debug)]
pub(crate) struct Tunables {
    pub redirects: AtomicBool,
    pub replica_read_age_ms: AtomicI64,
    pub slow_micros: AtomicI64,
    pub large_request_bytes: AtomicI64,
    pub large_reply_bytes: AtomicI64,
    pub latency_ms: AtomicI64,
    pub protected: AtomicBool,
    pub entry_bytes_max: u64,
    pub databases: u32,
}

/// Unix time in milliseconds, for display only: deadlines go by the groups' clocks.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

impl Server {
    /// The shared state around a node that has started.
    pub fn new(node: Node, config: Config) -> Arc<Server> {
        let tunables = Tunables {
            redirects: false.into(),
            replica_read_age_ms: 0.into(),
            slow_micros: 10_000.into(),
            large_request_bytes: (1 << 20).into(),
            large_reply_bytes: (1 << 20).into(),
            latency_ms: 0.into(),
            protected: true.into(),
            entry_bytes_max: config.count("entry-bytes-max"),
            databases: config.count("databases"),
        };
        let server = Server {
            settings: Arc::default(),
            traffic: Arc::default(),
            stats: Stats::new(),
            clients: Clients::default(),
            command_logs: CommandLogs::default(),
            hot_keys: HotKeys::default(),
            latency: Latency::default(),
            gate: Gate::default(),
            monitors: Monitors::default(),
            pubsub: PubSub::default(),
            tracking: Tracking::default(),
            saves: Saves::default(),
            users: Users::default(),
            shutdown: Shutdown::default(),
            tunables,
            groups: ArcSwap::default(),
            sole_group: AtomicU32::new(u32::MAX),
            watched: AtomicBool::new(false),
            seeds: AtomicU64::new(chance::bits()),
            started: Instant::now(),
            run_id: (0..5).map(|_| format!("{:08x}", chance::bits() as u32)).collect(),
            memory_peak: AtomicU64::new(0),
            node,
            config,
        };
        server.node.memory().set_measure(|| commands::memory::allocated().allocated);
        server.refresh_groups();
        server.apply_all_settings();
        let server = Arc::new(server);
        let hears = Arc::downgrade(&server);
        server.node.set_hear(Box::new(move |_, index, changes| {
            if let Some(server) = hears.upgrade() {
                server.tracking.hear(&server, index, changes);
            }
        }));
        server
    }

    /// Follows the groups that exist.
    pub(crate) fn refresh_groups(&self) {
        let groups = self.node.groups();
        let sole = if let [one] = groups.as_slice() { one.0 } else { u32::MAX };
        self.sole_group.store(sole, Relaxed);
        if **self.groups.load() != groups {
            self.groups.store(Arc::new(groups));
        }
    }

    /// Every data group.
    pub(crate) fn groups(&self) -> Arc<Vec<GroupId>> {
        self.groups.load_full()
    }

    /// The only data group, when there is only one.
    pub(crate) fn sole_group(&self) -> Option<GroupId> {
        let id = self.sole_group.load(Relaxed);
        (id != u32::MAX).then_some(GroupId(id))
    }

    /// How old what a replica answers may be.
    pub(crate) fn read_age(&self) -> ReadAge {
        let limit = u64::try_from(self.tunables.replica_read_age_ms.load(Relaxed));
        limit.map_or(ReadAge::Any, |ms| ReadAge::Within(Duration::from_millis(ms)))
    }

    /// Whether clients are told where to go, instead of everything being forwarded. A proxy has nowhere to send them.
    pub(crate) fn redirects(&self) -> bool {
        self.tunables.redirects.load(Relaxed) && !self.node.is_guest()
    }

    /// Whether commands have to pass the gate or be shown to monitors.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Relaxed)
    }

    /// To be called when a pause or a monitor came or went.
    pub(crate) fn refresh_watched(&self) {
        self.watched.store(self.gate.is_shut() || !self.monitors.is_empty(), Relaxed);
    }

    /// Looks at the local replica of a group, which may lag: for INFO and metrics, never for a client's read.
    pub(crate) fn peek<T>(&self, group: GroupId, look: impl FnOnce(&Engine) -> T) -> Option<T> {
        self.node.peek(group).map(|engine| look(&engine))
    }

    /// The sum of a count over the groups that live here.
    pub(crate) fn sum(&self, count: impl Fn(&Engine) -> u64) -> u64 {
        self.groups().iter().filter_map(|group| self.peek(*group, &count)).sum()
    }

    /// Whether commands that take memory are refused at once. When keys can give way, the leader decides, as it does
    /// for a proxy.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        self.node.memory().is_over() && !self.node.is_guest() && self.config.text("maxmemory-policy") == "noeviction"
    }

    /// Counts the memory that is in use.
    fn refresh_memory(&self) {
        self.memory_peak.fetch_max(self.node.memory().measure(), Relaxed);
    }

    /// A generator for a read: RANDOMKEY and its kin.
    pub(crate) fn rng(&self) -> Rng {
        Rng::new(self.seeds.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed))
    }

    /// What has to be looked after while nobody asks: idle clients, buffers, rates. Runs until dropped.
    pub async fn keep_house(self: Arc<Server>) {
        const TICK: Duration = Duration::from_millis(100);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = Instant::now();
        for round in 0u64.. {
            ticks.tick().await;
            self.refresh_groups();
            self.refresh_memory();
            self.node.look_after_changes();
            let traffic = &self.traffic;
            let totals =
                [self.stats.processed.load(Relaxed), traffic.bytes_in.load(Relaxed), traffic.bytes_out.load(Relaxed)];
            self.stats.sample(last.elapsed(), totals);
            last = Instant::now();
            if round % 10 == 0 {
                self.clients.keep_house(&self.settings, &self.traffic);
            }
        }
    }
}

/// Makes the server's side of each new connection.
#[derive(Debug)]
pub(crate) struct Front(pub Arc<Server>);

impl Service for Front {
    type Handler = Client;

    fn accept(&self, link: Arc<Link>) -> Result<Client, Bytes> {
        let server = &self.0;
        let is_local = link.peer.ip().to_canonical().is_loopback();
        if server.tunables.protected.load(Relaxed) && !is_local && server.users.is_open() {
            return Err(Bytes::from_static(PROTECTED.as_bytes()));
        }
        Ok(Client::new(server.clone(), link))
    }
}

/// Begins with DENIED, as clients expect it; the advice is our own.
const PROTECTED: &str = "-DENIED Quoris runs in protected mode because no password is set. In this mode only connections from the same \
    machine are accepted. To connect from elsewhere, set a password with requirepass (CONFIG SET requirepass, or in the \
    configuration file), or turn this check off with protected-mode no when the network itself is safe.\r\n";
