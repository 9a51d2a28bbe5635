//! Proxies as processes, started and stopped by tests.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::client::Client;
use super::load::{Door, Place};
use super::process::{Cluster, free_ports, program};

const READY_TIME_MAX: Duration = Duration::from_secs(20);
const NODE_PORTS_MAX: usize = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// One proxy; killed when it is dropped.
pub struct Proxy {
    /// Where clients connect.
    pub port: u16,
    arguments: Vec<String>,
    kills: Arc<AtomicU64>,
    child: Child,
    log: PathBuf,
    _dir: tempfile::TempDir,
}

impl Proxy {
    /// Starts a proxy for these peer addresses, and does not wait for it.
    pub fn launch(nodes: &str, settings: &[&str]) -> Proxy {
        // The first free ports may be those of nodes that do not run now.
        let port = free_ports(NODE_PORTS_MAX + 1)[NODE_PORTS_MAX];
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("log");
        let own = ["proxy", "--nodes", nodes, "--bind", "127.0.0.1", "--port", &port.to_string()];
        let arguments: Vec<String> = own.iter().chain(settings).map(|word| word.to_string()).collect();
        Proxy { port, child: spawn(&arguments, &path), arguments, kills: Arc::default(), log: path, _dir: dir }
    }

    /// SIGKILL, then the same again.
    pub fn crash(&mut self) {
        self.kills.fetch_add(1, Ordering::SeqCst);
        self.child.kill().and_then(|()| self.child.wait()).expect("an own child");
        self.kills.fetch_add(1, Ordering::SeqCst);
        self.child = spawn(&self.arguments, &self.log);
        self.wait_until_ready();
    }

    /// A proxy for a cluster, ready to serve; it is told of one node alone.
    pub fn of(cluster: &Cluster, node: usize) -> Proxy {
        let mut proxy = Proxy::launch(&format!("127.0.0.1:{}", cluster.nodes[node].peer_port), &[]);
        proxy.wait_until_ready();
        proxy
    }

    /// Waits until it says that every group has a leader.
    pub fn wait_until_ready(&mut self) {
        self.wait_for("it is ready", |proxy| {
            let info =
                Client::connect(proxy.port).ok().map(|mut client| client.text(&["INFO", "raft"], READY_TIME_MAX));
            matches!(info, Some(Ok(Some(text))) if text.contains("ready:1"))
        });
    }

    /// Waits until it has said something.
    pub fn wait_for_words(&mut self, words: &str) {
        self.wait_for(words, |proxy| proxy.said().contains(words));
    }

    fn wait_for(&mut self, what: &str, is: impl Fn(&Proxy) -> bool) {
        let deadline = Instant::now() + READY_TIME_MAX;
        while !is(self) {
            let ended = self.child.try_wait().expect("an own child");
            assert!(ended.is_none(), "{what}: the proxy ended with {ended:?}:\n{}", self.said());
            assert!(Instant::now() < deadline, "{what}: not in time:\n{}", self.said());
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until it ends by itself, with an error; what it has said.
    pub fn wait_for_end(&mut self) -> String {
        let deadline = Instant::now() + READY_TIME_MAX;
        loop {
            if let Some(status) = self.child.try_wait().expect("an own child") {
                assert!(!status.success(), "it ended well");
                return self.said();
            }
            assert!(Instant::now() < deadline, "the proxy does not end:\n{}", self.said());
            std::thread::sleep(PAUSE);
        }
    }

    /// What it has logged.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A client's way in.
    pub fn door(&self, number: usize, places: &[Place]) -> Door {
        Door { number, port: self.port, kills: self.kills.clone(), places: places.to_vec() }
    }

    /// A connection.
    pub fn connect(&self) -> Client {
        Client::connect(self.port).expect("a proxy that runs listens")
    }
}

fn spawn(arguments: &[String], log: &Path) -> Child {
    let folder = log.parent().expect("a file in a folder");
    let log = OpenOptions::new().create(true).append(true).open(log).expect("a log file");
    let mut command = Command::new(program());
    command.current_dir(folder).args(arguments);
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("one file, twice")).stderr(log);
    command.spawn().expect("the program starts")
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
        if std::thread::panicking() {
            eprintln!("---- proxy on {} ----\n{}", self.port, self.said());
        }
    }
}
