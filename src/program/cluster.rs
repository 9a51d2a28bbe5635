//! `quoris cluster start`: a local cluster of child processes, for trying things out.
//!
//! Each node has a folder with its own quoris.toml, so that it can be stopped and started again by hand.
//! A node that ends is reported and left alone: the others go on without it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use super::status::{self, View, field};

/// How long the nodes may take until every group has a leader.
const READY_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a node may take to stop before it is killed.
const STOP_TIME_MAX: Duration = Duration::from_secs(15);
/// As far above the client's port as in Redis Cluster.
const PEER_PORT_DISTANCE: u16 = 10_000;

/// The cluster to start.
#[derive(Debug, Args)]
pub(super) struct Start {
    /// Number of nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
    nodes: u16,
    /// Client port of the first node; the others follow. Ports for peers are 10000 higher.
    #[arg(long, default_value_t = 7001)]
    port: u16,
    /// Folder with one folder for each node.
    #[arg(long)]
    dir: PathBuf,
    /// Raft groups that share the slots.
    #[arg(long, default_value_t = 1)]
    groups: u32,
    /// Copies of each group; by default 3, or the number of nodes when there are fewer.
    #[arg(long)]
    replication_factor: Option<u16>,
}

impl Start {
    fn port_of(&self, node: u16) -> u16 {
        self.port + node - 1
    }

    fn check(&self) -> anyhow::Result<()> {
        let last = u32::from(self.port) + u32::from(self.nodes) - 1 + u32::from(PEER_PORT_DISTANCE);
        if last > 65535 || self.port == 0 {
            bail!(
                "ports would be above 65535: choose a --port of at most {}",
                65535 - PEER_PORT_DISTANCE - self.nodes + 1
            );
        }
        if self.replication_factor.is_some_and(|factor| factor == 0 || factor > self.nodes) {
            bail!("--replication-factor must be between 1 and the number of nodes");
        }
        Ok(())
    }

    fn config(&self, node: u16, dir: &Path) -> String {
        let peers: Vec<String> = (1..=self.nodes)
            .map(|other| format!("\"127.0.0.1:{}\"", self.port_of(other) + PEER_PORT_DISTANCE))
            .collect();
        let factor = self.replication_factor.unwrap_or(self.nodes.min(3));
        let path = |name: &str| quoris_server::config::file::quote(&dir.join(name).to_string_lossy());
        format!(
            "# Node {node} of a local cluster. Start it again with: quoris server --config <this file>\n\
             port = {}\nbind = [\"127.0.0.1\"]\ndir = {}\nlogfile = {}\npeers = [{}]\ngroups = {}\nreplication-factor = {factor}\n",
            self.port_of(node),
            path("data"),
            path("quoris.log"),
            peers.join(", "),
            self.groups,
        )
    }

    /// Writes a node's folder, or uses the one that is there.
    fn prepare(&self, node: u16) -> anyhow::Result<PathBuf> {
        let dir = std::path::absolute(&self.dir)?.join(format!("node-{node}"));
        std::fs::create_dir_all(dir.join("data")).with_context(|| format!("folder {}", dir.display()))?;
        let path = dir.join("quoris.toml");
        let wanted = self.config(node, &dir);
        match std::fs::read_to_string(&path) {
            Ok(found) if found == wanted => {}
            Ok(_) => bail!(
                "{} was written for another cluster or changed by hand: use another --dir, or the same options as before",
                path.display()
            ),
            Err(_) => std::fs::write(&path, wanted).with_context(|| path.display().to_string())?,
        }
        Ok(path)
    }
}

/// Starts the nodes, waits for leaders, and stays until it is told to stop.
pub(super) async fn start(options: Start) -> anyhow::Result<()> {
    options.check()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut nodes = BTreeMap::new();
    for node in 1..=options.nodes {
        let config = options.prepare(node)?;
        nodes.insert(node, spawn(&config)?);
    }
    let watch = async {
        tokio::select! {
            ready = wait_until_ready(&options) => println!("{}", ready?),
            why = any_death(&mut nodes) => bail!("{why}; its log is in {}", options.dir.display()),
        }
        println!("Press Ctrl-C to stop. Connect with: redis-cli -p {}", options.port);
        loop {
            let why = any_death(&mut nodes).await;
            println!("{why}; the others go on");
            if nodes.is_empty() {
                bail!("no node is left");
            }
        }
    };
    let result: anyhow::Result<()> = tokio::select! {
        result = watch => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    stop(nodes).await;
    result
}

fn spawn(config: &Path) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("the own program")?;
    Command::new(program)
        .arg("server")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // Ctrl-C reaches this process only; it stops the nodes itself.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("a node could not be started")
}

/// Waits until a node ends, takes it out and says so.
async fn any_death(nodes: &mut BTreeMap<u16, Child>) -> String {
    loop {
        for (node, child) in nodes.iter_mut() {
            if let Ok(Some(status)) = child.try_wait() {
                let (node, text) = (*node, format!("node {node} ended: {status}"));
                nodes.remove(&node);
                return text;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The table of nodes and leaders, once every node is ready.
async fn wait_until_ready(options: &Start) -> anyhow::Result<String> {
    let deadline = Instant::now() + READY_TIME_MAX;
    loop {
        let first = View::ask(&format!("127.0.0.1:{}", options.port), None).await;
        if let Ok(first) = first {
            let views = status::everybody(&first, None).await;
            let all =
                views.len() == usize::from(options.nodes) && views.values().all(|view| view.ready && view.is_led());
            if all && first.nodes.iter().all(|node| views.contains_key(field(node, "id"))) {
                return Ok(status::tables(&first, &views));
            }
        }
        if Instant::now() >= deadline {
            bail!(
                "the cluster is not ready after {} s; see the logs in {}",
                READY_TIME_MAX.as_secs(),
                options.dir.display()
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// SIGTERM to all, then patience, then SIGKILL.
async fn stop(mut nodes: BTreeMap<u16, Child>) {
    println!("stopping");
    for child in nodes.values() {
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
    for (node, child) in &mut nodes {
        match tokio::time::timeout(STOP_TIME_MAX, child.wait()).await {
            Ok(Ok(status)) if status.success() => {}
            Ok(end) => println!("node {node}: {end:?}"),
            Err(_) => {
                println!("node {node} does not stop and is killed");
                let _ = child.kill().await;
            }
        }
    }
}
