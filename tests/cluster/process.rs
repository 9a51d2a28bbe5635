//! A cluster of real processes on this machine: started, killed without warning, started again.
//!
//! Invariants: only own children are killed; none outlives the test; what they logged is shown when the
//! test fails.

use std::collections::{BTreeMap, VecDeque};
use std::fs::OpenOptions;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::view::{GroupView, NodeView};

const READY_TIME_MAX: Duration = Duration::from_secs(30);
/// Between two looks at a condition that is waited for.
const PAUSE: Duration = Duration::from_millis(20);
const LOG_LINES_SHOWN: usize = 40;
/// A message that is among the last so many different ones is not shown again.
const LOG_MEMORY: usize = 12;

/// Size of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Processes.
    pub nodes: usize,
    /// Groups that share the slots.
    pub groups: usize,
    /// Copies of each group.
    pub factor: usize,
    /// Further settings of every node, as arguments.
    pub settings: &'static [&'static str],
}

/// How a node with an empty folder begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With all others of its cluster.
    Together,
    /// Alone.
    Alone,
    /// By asking the node with this peer port.
    Joins(u16),
}

/// One node, alive or not.
pub struct Node {
    /// How it begins.
    pub begin: Begin,
    /// Where clients connect.
    pub port: u16,
    /// Where the other nodes connect.
    pub peer_port: u16,
    /// Where it listens for them, if something stands in between.
    pub peer_bind: Option<u16>,
    /// Its folder.
    pub dir: PathBuf,
    /// Variables that its process gets at every start.
    pub environment: Vec<(&'static str, String)>,
    child: Option<Child>,
    /// Settings of this node alone, as arguments.
    pub own_settings: Vec<String>,
    /// Counted up before a kill and again when the process is gone: odd while it dies. A dying process
    /// still accepts connections for a moment.
    pub kills: Arc<AtomicU64>,
}

impl Node {
    /// The folder of its data.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn config(&self) -> PathBuf {
        self.dir.join("node.conf")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_path(&self.dir)).unwrap_or_default()
    }
}

/// All nodes.
pub struct Cluster {
    shape: Shape,
    root: TempDir,
    /// In order of their ids, which begin with 1.
    pub nodes: Vec<Node>,
    /// Digest of each group at each index that was seen on any node.
    digests: BTreeMap<(u64, u64), (u64, String)>,
}

impl Cluster {
    /// Starts all nodes and waits until every group has a leader.
    pub fn start(shape: Shape) -> Cluster {
        Cluster::start_prepared(shape, |_| {})
    }

    /// The same with the text of a configuration file for each node.
    pub fn start_with_files(shape: Shape, files: &[String]) -> Cluster {
        let mut cluster = Cluster::prepare(shape, files);
        cluster.launch();
        cluster
    }

    /// The same; each node is prepared before it starts.
    pub fn start_prepared(shape: Shape, prepare: impl FnMut(&mut Node)) -> Cluster {
        let mut cluster = Cluster::prepare(shape, &vec![String::new(); shape.nodes]);
        cluster.nodes.iter_mut().for_each(prepare);
        cluster.launch();
        cluster
    }

    /// Ports, folders and files, and no process yet.
    pub fn prepare(shape: Shape, files: &[String]) -> Cluster {
        let root = TempDir::with_prefix("quoris-cluster-").expect("a temporary folder");
        let ports = free_ports(shape.nodes * 2);
        let nodes = ports.chunks(2).enumerate().map(|(at, ports)| {
            let dir = root.path().join(format!("node-{}", at + 1));
            std::fs::create_dir(&dir).expect("a folder for each node");
            Node {
                begin: Begin::Together,
                port: ports[0],
                peer_port: ports[1],
                peer_bind: None,
                dir,
                environment: Vec::new(),
                own_settings: Vec::new(),
                child: None,
                kills: Arc::default(),
            }
        });
        let nodes: Vec<Node> = nodes.collect();
        for (node, text) in nodes.iter().zip(files) {
            std::fs::write(node.config(), text).expect("a configuration file");
        }
        Cluster { shape, root, nodes, digests: BTreeMap::new() }
    }

    /// Starts what [`Cluster::prepare`] has made.
    pub fn launch(&mut self) {
        (0..self.shape.nodes).for_each(|at| self.restart(at));
        self.wait_until_ready();
    }

    /// Kills these nodes with SIGKILL, all signals before the first wait.
    pub fn kill(&mut self, which: &[usize]) {
        for at in which {
            let node = &mut self.nodes[*at];
            node.kills.fetch_add(1, Ordering::SeqCst);
            node.child.as_mut().expect("a killed node was alive").kill().expect("an own child can be killed");
        }
        for at in which {
            let node = &mut self.nodes[*at];
            node.child.take().expect("still there").wait().expect("an own child ends");
            node.kills.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Sends a signal to a living node; one that is stopped must be continued before anything else.
    pub fn signal(&self, at: usize, signal: Signal) {
        let child = self.nodes[at].child.as_ref().expect("a node that gets a signal is alive");
        kill_process(Pid::from_child(child), signal).expect("an own child gets signals");
    }

    /// Stops a node with SIGTERM, so that it hands over what it leads.
    pub fn terminate(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.kills.fetch_add(1, Ordering::SeqCst);
        let mut child = node.child.take().expect("a node that is stopped was alive");
        kill_process(Pid::from_child(&child), Signal::TERM).expect("an own child");
        assert!(child.wait().expect("an own child ends").success(), "it stops in good order");
        node.kills.fetch_add(1, Ordering::SeqCst);
    }

    /// Starts a node on its old folder and ports.
    pub fn restart(&mut self, at: usize) {
        let peers: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.peer_port)).collect();
        let node = &mut self.nodes[at];
        assert!(node.child.is_none(), "node {} runs", at + 1);
        let log = OpenOptions::new().create(true).append(true).open(log_path(&node.dir)).expect("a log file");
        let mut command = Command::new(program());
        command.envs(node.environment.iter().cloned());
        command.arg("server").arg(node.config()).args(["--bind", "127.0.0.1"]).args(["--port", &node.port.to_string()]);
        command.args(["--peer-address", &peers[at]]);
        match node.begin {
            Begin::Together => drop(command.args(["--peers", &peers.join(" ")])),
            Begin::Alone => {}
            Begin::Joins(port) => drop(command.args(["--join", &format!("127.0.0.1:{port}")])),
        }
        command.args(["--groups", &self.shape.groups.to_string()]);
        command.args(["--replication-factor", &self.shape.factor.to_string()]);
        command.arg("--dir").arg(node.data()).args(self.shape.settings).args(&node.own_settings);
        if let Some(port) = node.peer_bind {
            command.args(["--peer-bind", &format!("127.0.0.1:{port}")]);
        }
        command.envs(node.environment.iter().map(|(name, value)| (*name, value.as_str())));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("one file, twice")).stderr(log);
        std::fs::create_dir_all(node.data()).expect("a data folder");
        node.child = Some(command.spawn().expect("the program starts"));
    }

    /// Starts a node that must refuse, and gives what it says.
    pub fn refusal(&mut self, at: usize) -> String {
        let before = self.nodes[at].log().len();
        self.restart(at);
        self.wait_for_end(at, before)
    }

    /// Waits until a node ends by itself, with an error; gives what it has said from `before` on.
    pub fn wait_for_end(&mut self, at: usize, before: usize) -> String {
        let deadline = Instant::now() + READY_TIME_MAX;
        let child = self.nodes[at].child.as_mut().expect("it was started");
        let status = loop {
            if let Some(status) = child.try_wait().expect("an own child") {
                break status;
            }
            assert!(Instant::now() < deadline, "node {} does not end", at + 1);
            std::thread::sleep(PAUSE);
        };
        self.nodes[at].child = None;
        let text = self.nodes[at].log().split_off(before);
        assert!(!status.success(), "node {} ended well: {text}", at + 1);
        text
    }

    /// What the living nodes report; digests that were seen before are compared.
    pub fn views(&mut self) -> Vec<Option<NodeView>> {
        for (at, node) in self.nodes.iter_mut().enumerate() {
            if let Some(Ok(Some(status))) = node.child.as_mut().map(Child::try_wait) {
                node.child = None;
                panic!("node {} ended by itself: {status}", at + 1);
            }
        }
        let ask = |node: &Node| node.child.as_ref().and_then(|_| NodeView::ask(node.port));
        let views: Vec<Option<NodeView>> = self.nodes.iter().map(ask).collect();
        for view in views.iter().flatten() {
            self.compare_digests(view);
        }
        views
    }

    /// Folders were exchanged: what follows is another cluster.
    pub fn forget_digests(&mut self) {
        self.digests.clear();
    }

    fn compare_digests(&mut self, view: &NodeView) {
        for group in &view.groups {
            let Some((index, digest)) = &group.digest else { continue };
            let seen = self.digests.entry((group.id, *index)).or_insert_with(|| (view.id, digest.clone()));
            assert_eq!(&seen.1, digest, "group {} at index {index}: nodes {} and {} differ", group.id, seen.0, view.id);
        }
    }

    /// Polls until every living node answers and the condition gives a value.
    ///
    /// # Panics
    /// At the deadline, with the last views.
    pub fn wait_for<T>(&mut self, what: &str, within: Duration, ready: impl Fn(&[NodeView]) -> Option<T>) -> T {
        let deadline = Instant::now() + within;
        loop {
            let views = self.views();
            let all: Vec<NodeView> = views.iter().flatten().cloned().collect();
            let living = self.nodes.iter().filter(|node| node.child.is_some()).count();
            let found = if all.len() == living { ready(&all) } else { None };
            if let Some(found) = found {
                return found;
            }
            assert!(Instant::now() < deadline, "{what}: not within {within:?}; {views:#?}");
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until all nodes answer and the replicas of every group agree on a leader that knows it.
    pub fn wait_until_ready(&mut self) {
        let groups = self.shape.groups as u64;
        self.wait_for("ready nodes", READY_TIME_MAX, |views| {
            let led = (0..=groups).all(|group| leader(views, group).is_some());
            (led && views.iter().all(|view| view.ready)).then_some(())
        });
    }

    /// The node that leads a group.
    pub fn leader_of(&mut self, group: u64) -> usize {
        let id = self.wait_for("a leader", READY_TIME_MAX, |views| leader(views, group));
        id as usize - 1
    }

    /// Waits until the replicas of every group stand at one index, and compares their digests there.
    pub fn wait_for_equal_digests(&mut self, within: Duration) -> Vec<(u64, String)> {
        let (groups, factor) = (self.shape.groups as u64, self.shape.factor);
        self.wait_for("equal indexes", within, |views| {
            (1..=groups).map(|group| common_digest(views, group, factor)).collect()
        })
    }

    /// Lines in the longest log.
    pub fn log_lines(&self) -> usize {
        let lines =
            |node: &Node| std::fs::read(log_path(&node.dir)).map_or(0, |log| log.split(|c| *c == b'\n').count());
        self.nodes.iter().map(lines).max().unwrap_or(0)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                let _ = child.kill().and_then(|()| child.wait());
            }
        }
        if std::thread::panicking() {
            self.nodes.iter().for_each(show_log);
            self.root.disable_cleanup(std::env::var_os("QUORIS_KEEP").is_some());
        }
    }
}

/// What the replicas agree on, by id.
fn leader(views: &[NodeView], group: u64) -> Option<u64> {
    let local = || views.iter().filter_map(|view| Some((view.id, view.group(group)?))).filter(|(_, g)| g.is_local());
    let (id, first) = local().find(|(_, group)| group.role == "leader")?;
    local().all(|(_, other)| (other.leader, other.term) == (Some(id), first.term)).then_some(id)
}

fn common_digest(views: &[NodeView], group: u64, factor: usize) -> Option<(u64, String)> {
    let local: Vec<&GroupView> = views.iter().filter_map(|v| v.group(group)).filter(|g| g.is_local()).collect();
    assert_eq!(local.len(), factor, "replicas of group {group}");
    let first = local[0].digest.clone()?;
    let equal = local.iter().all(|other| other.digest.as_ref().is_some_and(|(index, _)| *index == first.0));
    // Digests at one index were compared when they were seen.
    equal.then_some(first)
}

/// The program to test.
pub fn program() -> std::ffi::OsString {
    std::env::var_os("QUORIS_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_quoris").into())
}

fn log_path(dir: &std::path::Path) -> PathBuf {
    dir.join("log")
}

/// The end of a log without repetitions of what was just said.
fn show_log(node: &Node) {
    let text = node.log();
    let mut said = VecDeque::new();
    let mut shown = Vec::new();
    for line in text.lines() {
        let message = line.split_once(' ').map_or(line, |(_time, message)| message);
        if !said.contains(&message) {
            shown.push(line);
            said.push_back(message);
            if said.len() > LOG_MEMORY {
                said.pop_front();
            }
        }
    }
    eprintln!("---- end of {} ({} lines) ----", log_path(&node.dir).display(), text.lines().count());
    eprintln!("{}", shown[shown.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n"));
}

/// Ports that nobody listens on, below those that the kernel hands out to outgoing connections: a node's
/// port must stay free while the node is dead.
pub fn free_ports(count: usize) -> Vec<u16> {
    let first = 10_000 + (std::process::id() * 61 % 18_000) as u16;
    let listeners = (first..32_000).filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    let listeners: Vec<TcpListener> = listeners.take(count).collect();
    assert_eq!(listeners.len(), count, "free ports");
    listeners.iter().map(|listener| listener.local_addr().expect("bound").port()).collect()
}
