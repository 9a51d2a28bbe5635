//! What the clients talk to: processes that the run starts and may kill, or a deployment that is already there.
//!
//! Invariants: only own children get signals, and none outlives the run; a node comes back on its old folder and
//! ports; a node that ends by itself is a finding.

use std::fs::OpenOptions;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::cables::Cables;
use crate::client::Client;

/// How long nodes may take until each of them takes writes for every group.
const READY_TIME_MAX: Duration = Duration::from_secs(60);
const STOP_TIME_MAX: Duration = Duration::from_secs(10);
/// Between two looks at a condition that is waited for.
const PAUSE: Duration = Duration::from_millis(20);
/// What the names of all keys begin with that this harness writes.
pub const PREFIX: &str = "chaos:";
/// Keys that are tried, enough to meet every group.
const PROBES: usize = 64;
const PROBE_TIME_MAX: Duration = Duration::from_secs(5);

/// What is looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// Nodes of this program.
    Quoris(PathBuf),
    /// One redis-server without a log: what it forgets must be found.
    Redis(PathBuf),
    /// Nodes at these addresses, which get no faults.
    Deployed(Vec<SocketAddr>),
}

/// How large a cluster is and how it is set up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shape {
    /// Processes.
    pub nodes: usize,
    /// Groups that share the slots.
    pub groups: usize,
    /// Further settings, as `name=value`.
    pub settings: Vec<String>,
    /// Relays stand between the nodes, so that cables can be cut.
    pub relays: bool,
}

struct Node {
    command: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

/// All nodes.
pub struct Nodes {
    /// Where each is reached.
    pub addresses: Vec<SocketAddr>,
    /// What connects them, where relays stand between them.
    pub cables: Cables,
    nodes: Vec<Node>,
}

impl Nodes {
    /// Starts them in folders of `dir`, and waits until they are ready.
    ///
    /// # Errors
    /// When they do not get ready.
    pub fn start(system: &System, shape: &Shape, dir: &Path) -> anyhow::Result<Nodes> {
        let mut nodes = match system {
            System::Deployed(addresses) => {
                Nodes { addresses: addresses.clone(), cables: Cables::default(), nodes: Vec::new() }
            }
            System::Quoris(program) => {
                let ports = free_ports(shape.nodes * 3)?;
                let ports: Vec<&[u16]> = ports.chunks(shape.nodes).collect();
                let pairs: Vec<(u16, u16)> = ports[1].iter().copied().zip(ports[2].iter().copied()).collect();
                let cables = if shape.relays { Cables::lay(&pairs)? } else { Cables::default() };
                let node = |at| Node::new(quoris(program, shape, &ports, at, dir), at, dir);
                let addresses = ports[0].iter().map(|port| loopback(*port)).collect();
                Nodes { addresses, cables, nodes: (0..shape.nodes).map(node).collect() }
            }
            System::Redis(program) => {
                let port = free_ports(1)?[0];
                let words = ["--port", &port.to_string(), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"];
                let mut command = vec![program.display().to_string()];
                command.extend(words.map(str::to_string));
                Nodes {
                    addresses: vec![loopback(port)],
                    cables: Cables::default(),
                    nodes: vec![Node::new(command, 0, dir)],
                }
            }
        };
        for at in 0..nodes.nodes.len() {
            nodes.spawn(at)?;
        }
        nodes.wait_until_ready()?;
        Ok(nodes)
    }

    /// How many can get signals.
    pub fn own(&self) -> usize {
        self.nodes.len()
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
        command.args(&node.command[1..]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
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

    /// Which nodes ended without being killed, in words; they are not looked at again.
    pub fn ended(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        for (at, node) in self.nodes.iter_mut().enumerate() {
            if let Some(Ok(Some(status))) = node.child.as_mut().map(Child::try_wait) {
                node.child = None;
                found.push(format!("node {} ended by itself: {status}; its log is {}", at + 1, node.log.display()));
            }
        }
        found
    }

    /// Waits until every node takes writes, whatever group they go to.
    ///
    /// # Errors
    /// With what the last one said.
    pub fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_TIME_MAX;
        for address in &self.addresses {
            while let Err(why) = probe(*address) {
                anyhow::ensure!(Instant::now() < deadline, "{address} is not ready: {why}");
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// Ends all in good order, or else kills them.
    pub fn stop(&mut self) {
        let children = || 0..self.nodes.len();
        for at in children() {
            if let Some(child) = &self.nodes[at].child {
                let _ = kill_process(Pid::from_child(child), Signal::TERM);
            }
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
        Node { command, log: folder(dir, at).join("log"), child: None }
    }
}

fn folder(dir: &Path, at: usize) -> PathBuf {
    let folder = dir.join(format!("node-{}", at + 1));
    // What cannot be made is found out when the log is opened.
    let _ = std::fs::create_dir_all(folder.join("data"));
    folder
}

/// Ports are those for clients, for peers, and behind the relays.
fn quoris(program: &Path, shape: &Shape, ports: &[&[u16]], at: usize, dir: &Path) -> Vec<String> {
    let peers: Vec<String> = ports[1].iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut words = vec![program.display().to_string(), "server".to_string()];
    let mut set = |name: &str, value: String| words.extend([format!("--{name}"), value]);
    set("bind", "127.0.0.1".to_string());
    set("port", ports[0][at].to_string());
    set("peer-address", peers[at].clone());
    set("peers", peers.join(" "));
    if shape.relays {
        set("peer-bind", format!("127.0.0.1:{}", ports[2][at]));
    }
    set("groups", shape.groups.to_string());
    set("replication-factor", shape.nodes.min(3).to_string());
    set("dir", folder(dir, at).join("data").display().to_string());
    for (name, value) in shape.settings.iter().filter_map(|setting| setting.split_once('=')) {
        set(name, value.to_string());
    }
    words
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Whether writes to all groups are acknowledged through this node.
fn probe(address: SocketAddr) -> Result<(), String> {
    let mut client = Client::connect(address, PROBE_TIME_MAX, PREFIX).map_err(|why| why.to_string())?;
    for at in 0..PROBES {
        let key = client.name(&format!("probe:{at}"));
        client.call(&["SET", &key, "ready"]).map_err(|trouble| format!("{trouble:?}"))?;
    }
    Ok(())
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
