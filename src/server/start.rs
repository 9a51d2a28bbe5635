//! Starting and stopping a node: configuration, Raft layer, listeners, housekeeping.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use quoris_net::{BindError, Listener, Threads};
use quoris_raft::{Node, NodeConfig, Timing, seam::Seams};
use tokio::{runtime::Handle, task::JoinSet, time::Instant};

use crate::{
    config::Config,
    http,
    server::{Front, Server},
};

/// How much higher the port for peers is, when nothing else is said; as in Redis Cluster.
const PEER_PORT_DISTANCE: u32 = 10_000;

/// How long commands that have come may take when the process stops, and between two looks at them.
const FINISH_TIME_MAX: Duration = Duration::from_secs(1);
const FINISH_PAUSE: Duration = Duration::from_millis(5);

/// What a process is to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A part of it.
    Node,
    /// A guest, which holds nothing and serves clients all the same.
    Proxy,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The Raft layer refuses; the text says what to do.
    #[error("this node, with the data folder {dir}, does not start: {why}")]
    Node {
        /// The data folder.
        dir: PathBuf,
        /// The reason.
        why: quoris_raft::StartError,
    },
    /// The data folder or another file.
    #[error("{path}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Settings that do not fit together.
    #[error("{0}")]
    Config(String),
}

/// A node that serves.
#[derive(Debug)]
pub struct Running {
    /// What its connections share.
    pub server: Arc<Server>,
    /// Where it listens for clients.
    pub addresses: Vec<SocketAddr>,
    tasks: JoinSet<()>,
}

/// Starts a node or a proxy and serves clients on `threads`. Raft runs on the runtime `raft`, over the disk and the
/// network that `seams` opens once the client's addresses are taken.
///
/// # Errors
/// When an address is taken, the data folder belongs to somebody else, or settings contradict each other.
pub async fn start(
    config: Config,
    role: Role,
    raft: &Handle,
    threads: Arc<Threads>,
    seams: impl FnOnce(&Config) -> io::Result<Seams>,
) -> Result<Running, StartError> {
    let dir = PathBuf::from(config.text("dir"));
    let failed = |source| StartError::Io { path: dir.clone(), source };
    if role == Role::Node {
        std::fs::create_dir_all(&dir).map_err(failed)?;
    }
    let port: u16 = config.count("port");
    // The sockets come first: a port that is taken must not touch the data.
    let sockets = if port == 0 {
        Vec::new()
    } else {
        quoris_net::bind(&config.words("bind"), port, config.count("tcp-backlog"))?
    };
    let admin_port: u16 = config.count("admin-port");
    let admin = if admin_port == 0 { None } else { Some(http::bind(admin_port)?) };
    let seams = seams(&config).map_err(failed)?;
    let node_config = node_config(&config, role)?;
    // Everything that Raft spawns runs where it is started, apart from clients' work.
    let node = raft.spawn(Node::start(node_config, seams)).await.map_err(|e| StartError::Config(e.to_string()))?;
    let node = node.map_err(|why| match role {
        Role::Node => StartError::Node { dir: std::path::absolute(&dir).unwrap_or(dir), why },
        Role::Proxy => StartError::Config(format!("this proxy does not start: {why}")),
    })?;
    let server = Server::new(node, config);
    let mut tasks = JoinSet::new();
    tasks.spawn(server.clone().keep_house());
    tasks.spawn(server.clone().follow_settings());
    let (settings, traffic) = (server.settings.clone(), server.traffic.clone());
    let listener = Listener::new(Arc::new(Front(server.clone())), settings, traffic, threads);
    let mut addresses = Vec::new();
    for socket in sockets {
        addresses.extend(socket.local_addr());
        tasks.spawn(listener.clone().run(socket));
    }
    if let Some(socket) = admin {
        tasks.spawn(http::serve(server.clone(), socket));
    }
    Ok(Running { server, addresses, tasks })
}

impl Running {
    /// Serves until SHUTDOWN is asked for or a group dies; the text is why it has to end with an error.
    pub async fn wait(&self) -> Result<(), String> {
        tokio::select! {
            () = self.server.shutdown.requested() => Ok(()),
            why = self.server.node.failed() => Err(why),
        }
    }

    /// Takes no more connections, hands leadership over, and answers what clients have asked.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
        // Leaving first lets clients of this node be served by others; then connections end, each behind a reply.
        self.server.node.hand_over().await;
        self.server.clients.all().iter().for_each(|client| client.link.finish());
        let deadline = Instant::now() + FINISH_TIME_MAX;
        while Instant::now() < deadline && self.server.clients.all().iter().any(|client| !client.link.watches_end()) {
            tokio::time::sleep(FINISH_PAUSE).await;
        }
        self.server.node.shutdown().await;
        let clients = self.server.clients.all();
        clients.iter().for_each(|client| client.link.close());
        tokio::time::sleep(Duration::from_millis(if clients.is_empty() { 0 } else { 20 })).await;
    }
}

/// The first address that is not a wildcard, for others to connect to.
fn own_address(config: &Config) -> String {
    let written = config.text("client-address");
    if !written.is_empty() {
        return written;
    }
    let words = config.words("bind");
    let host = words
        .iter()
        .map(|word| word.trim_start_matches('-'))
        .find(|host| !["*", "::*", "0.0.0.0", "::"].contains(host));
    format!("{}:{}", host.unwrap_or("127.0.0.1"), config.text("port"))
}

fn peer_address(config: &Config, client_address: &str) -> Result<String, StartError> {
    let written = config.text("peer-address");
    if !written.is_empty() {
        return Ok(written);
    }
    let (host, port) = client_address.rsplit_once(':').unwrap_or((client_address, "0"));
    let port = port.parse::<u32>().ok().map(|port| port + PEER_PORT_DISTANCE).filter(|port| *port <= 65535);
    match port {
        Some(port) => Ok(format!("{host}:{port}")),
        // A single node can do without, until another one is to join it.
        None if config.words("peers").is_empty() && config.text("join").is_empty() => Ok(String::new()),
        None => Err(StartError::Config("the port for peers would be above 65535: set peer-address".into())),
    }
}

/// The addresses at which a proxy asks for its cluster.
fn addresses_to_ask(config: &Config, role: Role) -> Result<Vec<String>, StartError> {
    let words = config.words("nodes");
    let addresses: Vec<String> =
        words.iter().flat_map(|word| word.split(',')).filter(|a| !a.is_empty()).map(str::to_string).collect();
    match (role, addresses.is_empty()) {
        (Role::Proxy, true) => Err(StartError::Config(
            "a proxy needs the peer address of a node, or of several: --nodes HOST:PORT,…".into(),
        )),
        (Role::Node, false) => {
            Err(StartError::Config("nodes names the cluster that a proxy serves; a node has peers".into()))
        }
        (Role::Proxy, false) | (Role::Node, true) => Ok(addresses),
    }
}

fn node_config(config: &Config, role: Role) -> Result<NodeConfig, StartError> {
    let millis = |name: &str| Duration::from_millis(config.count(name));
    let (election_min, election_max) = (millis("election-ms-min"), millis("election-ms-max"));
    if election_min > election_max || millis("heartbeat-ms") * 2 > election_min {
        return Err(StartError::Config(
            "election-ms-min must be at least twice heartbeat-ms and at most election-ms-max".into(),
        ));
    }
    let to_ask = addresses_to_ask(config, role)?;
    if !config.words("peers").is_empty() && !config.text("join").is_empty() {
        return Err(StartError::Config("peers founds a cluster and join joins one: a node has one of the two".into()));
    }
    let client_addr = own_address(config);
    let (peer_addr, peers) = match role {
        Role::Node => (peer_address(config, &client_addr)?, config.words("peers")),
        Role::Proxy => (String::new(), to_ask),
    };
    Ok(NodeConfig {
        guest: role == Role::Proxy,
        cluster_name: config.text("cluster-name"),
        secret: config.text("cluster-secret"),
        client_addr,
        peer_addr,
        peer_bind: Some(config.text("peer-bind")).filter(|bind| !bind.is_empty()),
        peers,
        join: Some(config.text("join")).filter(|addr| !addr.is_empty()),
        zone: config.text("zone"),
        groups: config.count("groups"),
        replication_factor: config.count("replication-factor"),
        databases: config.count("databases"),
        settings: config.settings(),
        timing: Timing {
            heartbeat: millis("heartbeat-ms"),
            election_min,
            election_max,
            read_lease: config.flag("read-lease"),
            snapshot_log_bytes: config.count("snapshot-log-bytes"),
            clock_step_max: Duration::from_secs(config.count("clock-step-max")),
        },
        entry_bytes_max: config.count("entry-bytes-max"),
        request_timeout: millis("request-timeout-ms"),
    })
}
