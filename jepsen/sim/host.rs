//! One simulated node: Quoris's Raft layer, its clients, and somebody who watches its replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use parking_lot::Mutex;
use quoris_raft::seam::Seams;
use quoris_raft::{GroupId, META, Node, NodeConfig, Timing};
use quoris_resp::Reply;

use crate::clients::{client, execute, reader};
use crate::dice::Dice;
use crate::disk::SimDisk;
use crate::history::History;
use crate::ledger::Ledger;
use crate::mortals::{Mortals, undertaker};
use crate::movers::mover;
use crate::net::{SimClock, SimNet, Wires};
use crate::{NODES, name};

/// The port that peers use.
const PORT: u16 = 7000;
/// Clients of each node, beside one that only reads and one that watches keys die.
const CLIENTS: u64 = 3;
/// Right wall clocks are apart by less, in milliseconds.
pub const WALLS_APART_MS: u64 = 400;

/// Where a run stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Clients work.
    Load,
    /// Clients finish what they have begun.
    Drain,
    /// Every node writes to every group and reads everything.
    Final,
}

/// A replica's applied index and digest.
pub type Standing = (u64, u64);

struct Shared {
    phase: Phase,
    /// Clients that have not ended, and lives of nodes.
    clients: BTreeSet<String>,
    lives: BTreeMap<usize, u64>,
    standing: BTreeMap<(usize, GroupId), Standing>,
    terms: BTreeMap<(usize, GroupId), (u64, &'static str)>,
    /// Snapshots that each life of a node has installed.
    installs: BTreeMap<(usize, u64, GroupId), u64>,
    finals: BTreeMap<usize, Vec<(String, Reply)>>,
}

/// What the nodes of a run share with the one who drives it.
pub struct World {
    /// The seed.
    pub seed: u64,
    /// Data groups.
    pub groups: u32,
    /// What clients were told.
    pub history: History,
    /// Keys that live for a while.
    pub mortals: Mortals,
    /// What must be equal everywhere.
    pub ledger: Arc<Ledger>,
    /// All connections.
    pub wires: Arc<Wires>,
    /// How far the wall clocks of the nodes are ahead, in milliseconds.
    pub walls: Vec<Arc<AtomicI64>>,
    /// The disks of the nodes.
    pub disks: Vec<SimDisk>,
    shared: Mutex<Shared>,
}

impl World {
    /// A world without running nodes.
    pub fn new(seed: u64, groups: u32) -> World {
        let ledger = Arc::<Ledger>::default();
        let disk = |node: usize| SimDisk::new(node, Dice::new(seed, 100 + node as u64), ledger.clone());
        let shared = Shared {
            phase: Phase::Load,
            clients: BTreeSet::new(),
            lives: BTreeMap::new(),
            standing: BTreeMap::new(),
            terms: BTreeMap::new(),
            installs: BTreeMap::new(),
            finals: BTreeMap::new(),
        };
        let disks = (0..NODES).map(disk).collect();
        let wall = |node| Arc::new(AtomicI64::new(Dice::new(seed, 200 + node).below(WALLS_APART_MS) as i64));
        let walls = (0..NODES as u64).map(wall).collect();
        World {
            seed,
            groups,
            history: History::default(),
            mortals: Mortals::default(),
            disks,
            walls,
            ledger,
            wires: Arc::default(),
            shared: Mutex::new(shared),
        }
    }

    /// Where the run stands.
    pub fn phase(&self) -> Phase {
        self.shared.lock().phase
    }

    /// Begins the next part of the run.
    pub fn enter(&self, phase: Phase) {
        self.shared.lock().phase = phase;
    }

    /// A client has ended.
    pub fn client_ended(&self, client: &str) {
        self.shared.lock().clients.remove(client);
    }

    /// Whether all clients have ended.
    pub fn is_drained(&self) -> bool {
        self.shared.lock().clients.is_empty()
    }

    /// A node is gone, and its clients with it.
    pub fn crashed(&self, node: usize) {
        let mut shared = self.shared.lock();
        let own = format!("{}.", name(node));
        shared.clients.retain(|c| !c.starts_with(&own));
        shared.standing.retain(|(n, _), _| *n != node);
        shared.terms.retain(|(n, _), _| *n != node);
    }

    /// Snapshots that were installed, as far as somebody saw it before the next crash.
    pub fn installs(&self) -> u64 {
        self.shared.lock().installs.values().sum()
    }

    /// What every node read at the end, once all have.
    pub fn finals(&self) -> Option<Vec<Vec<(String, Reply)>>> {
        let shared = self.shared.lock();
        (shared.finals.len() == NODES).then(|| shared.finals.values().cloned().collect())
    }

    /// Whether all replicas of all groups stand at the same index with the same digest.
    pub fn is_level(&self) -> bool {
        let shared = self.shared.lock();
        let groups = 0..=self.groups;
        let standing = |node, group| shared.standing.get(&(node, GroupId(group)));
        groups.into_iter().all(|g| standing(0, g).is_some() && (1..NODES).all(|n| standing(n, g) == standing(0, g)))
    }

    /// What a liveness failure shows.
    pub fn describe(&self) -> String {
        let shared = self.shared.lock();
        format!(
            "phase {:?}, clients {:?}, terms {:?}, standing {:?}, finals of {:?}",
            shared.phase,
            shared.clients,
            shared.terms,
            shared.standing,
            shared.finals.keys()
        )
    }
}

fn config(node: usize, groups: u32) -> NodeConfig {
    let peers: Vec<String> = (0..NODES).map(|n| format!("{}:{PORT}", name(n))).collect();
    NodeConfig {
        guest: false,
        cluster_name: "simulated".into(),
        secret: String::new(),
        client_addr: format!("{}:6379", name(node)),
        peer_addr: peers[node].clone(),
        peer_bind: None,
        peers,
        join: None,
        zone: String::new(),
        groups,
        replication_factor: NODES as u32,
        databases: 1,
        settings: Default::default(),
        timing: Timing {
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(150),
            election_max: Duration::from_millis(300),
            read_lease: true,
            snapshot_log_bytes: 4096,
            clock_step_max: Duration::MAX,
        },
        entry_bytes_max: 1 << 20,
        request_timeout: Duration::from_secs(2),
    }
}

/// The software of one host; runs until the host crashes or a group dies.
pub async fn software(node_index: usize, world: Arc<World>) -> turmoil::Result {
    let life = {
        let mut shared = world.shared.lock();
        let life = shared.lives.entry(node_index).or_default();
        *life += 1;
        *life
    };
    let seams = Seams {
        disk: Arc::new(world.disks[node_index].clone()),
        net: Arc::new(SimNet { own: name(node_index), wires: world.wires.clone() }),
        clock: Arc::new(SimClock { ahead_ms: world.walls[node_index].clone() }),
        blocking: |work| work(),
    };
    let node = Node::start(config(node_index, world.groups), seams).await?;
    world.history.trace(format!("{} runs, life {life}", name(node_index)));
    for number in 0..CLIENTS + 2 {
        let client_name = format!("{}.{life}.{number}", name(node_index));
        if world.phase() == Phase::Load {
            world.shared.lock().clients.insert(client_name.clone());
            let dice = Dice::new(world.seed, 1_000_000 * (node_index as u64 + 1) + 1000 * life + number);
            match number {
                0..CLIENTS => drop(tokio::spawn(client(node.clone(), world.clone(), client_name, dice))),
                CLIENTS => drop(tokio::spawn(undertaker(node.clone(), world.clone(), client_name, dice))),
                _ => drop(tokio::spawn(reader(node.clone(), world.clone(), client_name, dice))),
            }
        }
    }
    let dice = Dice::new(world.seed, 400 + 10 * life + node_index as u64);
    tokio::spawn(mover(node_index, node.clone(), world.clone(), dice));
    tokio::spawn(watch((node_index, life), node.clone(), world.clone()));
    tokio::spawn(finish(node_index, node.clone(), world.clone()));
    Err(format!("{}: {}", name(node_index), node.failed().await).into())
}

/// Looks at the replicas: digests, terms, leaders, and snapshots that this life of the node installs.
async fn watch((node_index, life): (usize, u64), node: Node, world: Arc<World>) {
    loop {
        for group in std::iter::once(META).chain(node.groups()) {
            let Some((applied, digest)) = node.digest(group) else { continue };
            world.ledger.digest(node_index, group, applied, digest);
            let status = node.group_status(group);
            let now = (status.term, status.role);
            let mut shared = world.shared.lock();
            shared.standing.insert((node_index, group), (applied, digest));
            shared.installs.insert((node_index, life, group), status.snapshots_installed);
            if shared.terms.insert((node_index, group), now) != Some(now) {
                drop(shared);
                let (term, role) = now;
                world.history.trace(format!("{} {group} term {term} {role} applied {applied}", name(node_index)));
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for the last phase, then writes to every group and reads every key.
async fn finish(node_index: usize, node: Node, world: Arc<World>) {
    while world.phase() != Phase::Final {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let session = node.session();
    for group in node.groups() {
        let mut keys = (0..).map(|i| format!("final:{node_index}:{i}"));
        let key = keys.find(|k| node.group_of(quoris_engine::slot(k.as_bytes())) == Some(group)).unwrap_or_default();
        let set = ["SET".to_string(), key, "x".to_string()];
        while execute(&node, &session, &set).await.is_err() {}
    }
    let mut found = Vec::new();
    for (key, get) in world.history.keys() {
        let reply = loop {
            if let Ok(executed) = execute(&node, &session, &get).await {
                break executed.replies.into_iter().next().unwrap_or(Reply::None);
            }
        };
        found.push((key, reply));
    }
    world.history.trace(format!("{} has read everything", name(node_index)));
    world.shared.lock().finals.insert(node_index, found);
}
