//! What the clients talk to: processes that the run starts and may harm, or a deployment that is already there.
//!
//! A *site* is what a fault hits: a node of Quoris, or a redis-server with the Sentinel beside it. Invariants: only
//! own children get signals, and none outlives the run; a node comes back on its old folder and ports; a node that
//! ends by itself is a finding, unless its disk was taken away or it was told to leave the cluster.

use std::fs::OpenOptions;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::cables::Cables;
use crate::clocks::Clocks;
use crate::disks::Disks;

mod harm;
pub mod ready;
mod seats;
mod shapes;
mod words;

use words::Ports;

const STOP_TIME_MAX: Duration = Duration::from_secs(10);
/// Between two looks at a condition that is waited for.
const PAUSE: Duration = Duration::from_millis(20);
/// What the names of all keys begin with that this harness writes.
pub const PREFIX: &str = "chaos:";
/// Replicas of each group, where there are as many nodes.
pub const REPLICAS_MAX: usize = 3;
/// The variable that makes a build with mutants break a promise.
const MUTANT: &str = "QUORIS_MUTANT";

/// What is looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// Nodes of this program.
    Quoris(PathBuf),
    /// One redis-server without a log: what it forgets must be found.
    Redis(PathBuf),
    /// A primary with replicas, and Sentinels that decide which is which.
    Sentinel(PathBuf),
    /// Nodes at these addresses, which get no faults.
    Deployed(Vec<SocketAddr>),
}

/// How large a cluster is and how it is set up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shape {
    /// Sites.
    pub nodes: usize,
    /// Further nodes, which are started when they are to join.
    #[serde(default)]
    pub spares: usize,
    /// Groups that share the slots.
    pub groups: usize,
    /// Further settings, as `name=value`.
    pub settings: Vec<String>,
    /// Relays stand between the nodes, so that cables can be cut.
    pub relays: bool,
    /// Each node has a disk of its own.
    #[serde(default)]
    pub disks: bool,
    /// Wall clocks can be set.
    #[serde(default)]
    pub clocks: bool,
    /// The deliberate bug of a build that has them.
    #[serde(default)]
    pub mutant: Option<String>,
}

struct Node {
    command: Vec<String>,
    /// How it comes to belong to the cluster.
    begin: Vec<String>,
    data: PathBuf,
    environment: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
    /// Its disk is gone: it has to end.
    may_end: bool,
    /// It is to leave the cluster, and ends then.
    leaves: bool,
    /// A fault is on it that has to be undone.
    is_harmed: bool,
}

/// All nodes.
pub struct Nodes {
    /// Where each is reached.
    pub addresses: Vec<SocketAddr>,
    /// One of them leads and takes what clients say, the others do not.
    pub has_primary: bool,
    /// Where the Sentinels are.
    watchers: Vec<SocketAddr>,
    cables: Cables,
    disks: Option<Disks>,
    clocks: Option<Clocks>,
    /// Whose clocks jump back and forth.
    strobing: Vec<usize>,
    nodes: Vec<Node>,
    sites: usize,
    /// Where each node is reached by the others.
    peers: Vec<String>,
    /// The nodes that belong to the cluster.
    seats: Vec<usize>,
}

impl Nodes {
    /// Starts them in folders of `dir`, and waits until they are ready.
    ///
    /// # Errors
    /// When they do not get ready.
    pub fn start(system: &System, shape: &Shape, dir: &Path) -> anyhow::Result<Nodes> {
        let mut nodes = Nodes {
            addresses: Vec::new(),
            has_primary: matches!(system, System::Sentinel(_)),
            watchers: Vec::new(),
            cables: Cables::default(),
            disks: None,
            clocks: None,
            strobing: Vec::new(),
            nodes: Vec::new(),
            sites: shape.nodes + shape.spares,
            peers: Vec::new(),
            seats: Vec::new(),
        };
        match system {
            System::Deployed(addresses) => nodes.addresses = addresses.clone(),
            System::Redis(program) => {
                let port = free_ports(1)?[0];
                nodes.addresses = vec![loopback(port)];
                nodes.nodes = vec![Node::new(words::redis(program, port), 0, dir)];
            }
            System::Quoris(program) => {
                let command = |ports: &Ports, at| Ok(words::quoris(program, shape, ports, at, dir));
                nodes.prepare(shape, shape.nodes + shape.spares, dir, command)?;
                let founders = nodes.peers[..shape.nodes].join(" ");
                for (at, node) in nodes.nodes.iter_mut().enumerate() {
                    node.begin = vec!["--peers".to_string(), founders.clone()];
                    node.data = words::data(shape, at, dir);
                }
            }
            System::Sentinel(program) => {
                let sites = shape.nodes;
                nodes.prepare(shape, sites * 2, dir, |ports, at| match at < sites {
                    true => words::replicated(program, shape, ports, at, dir),
                    // The first port of the sites is the one that they watch.
                    false => words::sentinel(program, ports, at, dir),
                })?;
                nodes.watchers = nodes.addresses.split_off(sites);
            }
        }
        nodes.seats = (0..nodes.addresses.len() - shape.spares).collect();
        for at in 0..nodes.nodes.len() - shape.spares {
            nodes.spawn(at)?;
        }
        nodes.wait_until_ready()?;
        nodes.wait_until_watched()?;
        Ok(nodes)
    }

    /// Ports, cables, disks and clocks for so many programs.
    fn prepare(
        &mut self,
        shape: &Shape,
        count: usize,
        dir: &Path,
        command: impl Fn(&Ports, usize) -> anyhow::Result<Vec<String>>,
    ) -> anyhow::Result<()> {
        let ports = free_ports(count * 3)?;
        let peers = &ports[count..2 * count];
        // A redis-server has one port for clients and peers.
        let behind = if self.has_primary { &ports[..count] } else { &ports[2 * count..] };
        let ports = Ports { clients: &ports[..count], peers, behind };
        if shape.relays {
            let pairs: Vec<(u16, u16)> = peers.iter().copied().zip(behind.iter().copied()).collect();
            self.cables = Cables::lay(&pairs)?;
        }
        let folders: Vec<PathBuf> = (0..count).map(|at| folder(dir, at)).collect();
        self.clocks = if shape.clocks { Some(Clocks::make(&folders)?) } else { None };
        self.disks = if shape.disks { Some(Disks::make(folders)?) } else { None };
        self.peers = peers.iter().map(|port| loopback(*port).to_string()).collect();
        self.addresses = ports.clients.iter().map(|port| loopback(*port)).collect();
        for at in 0..count {
            let mut node = Node::new(command(&ports, at)?, at, dir);
            node.environment = self.clocks.as_ref().map_or_else(Vec::new, |clocks| clocks.environment(at));
            node.environment.extend(shape.mutant.iter().map(|name| (MUTANT.to_string(), name.clone())));
            self.nodes.push(node);
        }
        Ok(())
    }

    /// The programs of these sites.
    fn nodes_at(&self, sites: &[usize]) -> Vec<usize> {
        let all = (0..self.nodes.len()).filter(|node| sites.contains(&(node % self.sites.max(1))));
        all.collect()
    }

    fn disks(&self) -> anyhow::Result<&Disks> {
        self.disks.as_ref().context("the nodes have no disks of their own")
    }

    fn clocks(&self) -> anyhow::Result<&Clocks> {
        self.clocks.as_ref().context("the nodes have no clocks of their own")
    }

    /// Starts a node that is not running.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(&mut self, at: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[at];
        anyhow::ensure!(node.child.is_none(), "node {} runs already", at + 1);
        let log = OpenOptions::new().create(true).append(true).open(&node.log)?;
        let mut command = Command::new(&node.command[0]);
        command
            .args(node.command[1..].iter().chain(&node.begin))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        command.env_remove(MUTANT).envs(node.environment.iter().cloned());
        command.current_dir(node.log.parent().unwrap_or(Path::new(".")));
        let child = command.spawn().with_context(|| format!("cannot start {}", node.command[0]))?;
        self.cables.is_process(at, Some(child.id()));
        node.child = Some(child);
        Ok(())
    }

    /// Kills these, all signals before the first wait.
    ///
    /// # Errors
    /// When one had ended already.
    pub fn kill(&mut self, which: &[usize]) -> anyhow::Result<()> {
        for at in which {
            self.child(*at)?.kill()?;
        }
        for at in which {
            self.child(*at)?.wait()?;
            self.nodes[*at].child = None;
            self.cables.is_process(*at, None);
        }
        Ok(())
    }

    /// Sends a signal to each of these.
    ///
    /// # Errors
    /// When one had ended already.
    pub fn signal(&mut self, which: &[usize], signal: Signal) -> anyhow::Result<()> {
        which.iter().try_for_each(|at| Ok(kill_process(Pid::from_child(self.child(*at)?), signal)?))
    }

    fn child(&mut self, at: usize) -> anyhow::Result<&mut Child> {
        self.nodes[at].child.as_mut().with_context(|| format!("node {} does not run", at + 1))
    }

    /// Whether a node runs.
    pub fn runs(&self, at: usize) -> bool {
        self.nodes.get(at).is_some_and(|node| node.child.is_some())
    }

    /// Which nodes ended without being killed, in words; they are not looked at again.
    pub fn ended(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        for (at, node) in self.nodes.iter_mut().enumerate() {
            if let Some(Ok(Some(status))) = node.child.as_mut().map(Child::try_wait) {
                node.child = None;
                self.cables.is_process(at, None);
                if !node.may_end && !node.leaves {
                    found.push(format!("node {} ended by itself: {status}; its log is {}", at + 1, node.log.display()));
                }
            }
        }
        found
    }

    /// Ends all in good order, or else kills them.
    pub fn stop(&mut self) {
        for child in self.nodes.iter().filter_map(|node| node.child.as_ref()) {
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
        }
        let deadline = Instant::now() + STOP_TIME_MAX;
        for node in &mut self.nodes {
            let Some(mut child) = node.child.take() else { continue };
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(PAUSE);
            }
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

impl Node {
    fn new(command: Vec<String>, at: usize, dir: &Path) -> Node {
        Node {
            command,
            begin: Vec::new(),
            data: folder(dir, at).join("data"),
            environment: Vec::new(),
            log: folder(dir, at).join("log"),
            child: None,
            may_end: false,
            leaves: false,
            is_harmed: false,
        }
    }
}

fn folder(dir: &Path, at: usize) -> PathBuf {
    let folder = dir.join(format!("node-{}", at + 1));
    // What cannot be made is found out when the log is opened.
    let _ = std::fs::create_dir_all(folder.join("data"));
    folder
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Ports that nobody listens on, below those that the kernel gives to outgoing connections: a node's port must
/// stay free while the node is dead.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let first = 10_000 + (std::process::id() * 67 % 18_000) as u16;
    let listeners: Vec<TcpListener> =
        (first..32_000).filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).take(count).collect();
    anyhow::ensure!(listeners.len() == count, "there are not enough free ports");
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
