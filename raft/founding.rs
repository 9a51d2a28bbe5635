//! A node's identity, and how a cluster begins.
//!
//! A node with an empty folder and a list of peers asks all of them. Only when every one answers
//! "empty, same cluster name" does the one with the lowest address found the cluster: it writes its own
//! identity, hands every peer its identity, and only then forms the groups. A peer that is missing means
//! waiting. A peer that knows a cluster in which this node's address has a place means that this folder
//! was wiped: the node refuses to start, because an empty log under an old id could elect itself.
//!
//! Invariants: an identity is durable before it is acted on; it never changes its cluster or node id.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::admin::{Answer, Question};
use crate::follow::operation;
use crate::group::Group;
use crate::link::Connection;
use crate::node::{Node, StartError};
use crate::runtime::random_u64;
use crate::seam::Disk;
use crate::topology::{Founding, KEY, NodeRecord, NodeState, Topology, format};
use crate::types::NodeId;
use crate::wire::{self, Kind};
use crate::{holding, join};

/// The record that holds the identity.
const RECORD: &str = "identity";
/// The node with the lowest address gets the first id.
const FOUNDER: NodeId = NodeId(1);
/// How long between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a peer may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// How often the wait for missing peers is said.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The node's id.
    pub node: NodeId,
    /// The newest topology that this node has seen; holds the cluster's id.
    pub topology: Topology,
    /// This node founds the cluster and has not yet told all others.
    pub founding: bool,
}

/// What a node says when it is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// Its own peer address.
    pub peer_addr: String,
    /// Where clients reach it.
    pub client_addr: String,
    /// Where it stands.
    pub zone: String,
    /// The peer addresses of the cluster that it knows.
    pub knows: Option<Vec<String>>,
}

/// Reads the identity from the node's disk.
///
/// # Errors
/// When the disk fails or the record is damaged.
pub fn load(disk: &dyn Disk) -> io::Result<Option<Identity>> {
    let Some(bytes) = disk.read_record(RECORD)? else { return Ok(None) };
    format::decode_identity(&bytes).map(Some)
}

/// Makes the identity durable.
///
/// # Errors
/// When the disk fails.
pub fn store(disk: &dyn Disk, identity: &Identity) -> io::Result<()> {
    disk.write_record(RECORD, &format::encode_identity(identity))
}

/// Returns when the node has an identity.
///
/// # Errors
/// When the folder was wiped or belongs to another node; the text says what to do.
pub async fn settle(node: &Node) -> Result<(), StartError> {
    let identity = node.inner().identity.load().as_ref().clone();
    if let Some(identity) = identity {
        check_address(node, &identity)?;
        return match identity.founding {
            false => greet(node, &identity).await,
            true if identity.node == FOUNDER => tell_all(node, identity).await,
            true => wait_for_founder(node).await,
        };
    }
    let config = node.config();
    if let Some(addr) = config.join.clone() {
        return adopt(node, join::join(node, &addr).await?);
    }
    if config.peers.iter().all(|p| *p == config.peer_addr) {
        let own = NodeRecord::new(config.peer_addr.clone(), config.client_addr.clone(), config.zone.clone());
        return adopt(node, found(node, vec![own], 0));
    }
    if !config.peers.contains(&config.peer_addr) {
        return Err(StartError(format!(
            "peers = {:?} does not contain this node's own peer address {}",
            config.peers, config.peer_addr
        )));
    }
    ask_around(node).await
}

/// A folder is bound to its node's address: two nodes whose folders were swapped would answer for each other.
fn check_address(node: &Node, identity: &Identity) -> Result<(), StartError> {
    let own = &node.config().peer_addr;
    let Some(record) = identity.topology.nodes.get(&identity.node) else {
        return Err(StartError(holding::REMOVED.into()));
    };
    if identity.topology.nodes.len() > 1 && record.peer_addr != *own {
        return Err(StartError(format!(
            "this data folder belongs to {} at peer address {}, but the configuration says {own}: start it with its own configuration file",
            identity.node, record.peer_addr
        )));
    }
    Ok(())
}

/// Meets the peers before anything of Raft runs here. Those that are not there are met later.
async fn greet(node: &Node, identity: &Identity) -> Result<(), StartError> {
    let config = node.config();
    let at = |lost: bool| {
        let nodes = identity.topology.nodes.values().filter(move |n| (n.state == NodeState::Replaced) == lost);
        nodes.map(|n| &n.peer_addr)
    };
    // Nobody waits for a node that is given up; another one may have its address.
    let missed = |addr: &String| at(true).any(|lost| lost == addr) && !at(false).any(|there| there == addr);
    let others = config.peers.iter().chain(at(false)).filter(|addr| !addr.is_empty() && **addr != config.peer_addr);
    let others = others.filter(|addr| !missed(addr));
    let others: BTreeSet<String> = others.cloned().collect();
    // One that is left of several may still name them.
    let always_alone = identity.topology.nodes.len() == 1 && identity.topology.next_node == 2;
    if always_alone && !others.is_empty() {
        return Err(StartError(format!(
            "this data folder belongs to a cluster of one node, but peers names others ({}): start it without peers, or \
             with a folder of its own",
            Vec::from_iter(others).join(", ")
        )));
    }
    let join = config.join.iter().filter(|addr| **addr != config.peer_addr);
    let others: BTreeSet<String> = others.into_iter().chain(join.cloned()).collect();
    let dials = others.iter().map(|addr| async move { (addr, node.links().dial(addr.clone()).await) });
    let met = futures_util::future::join_all(dials).await;
    if let Some(text) = node.inner().health.failed.borrow().clone() {
        return Err(StartError(text));
    }
    for connection in met.iter().filter_map(|(_, result)| result.as_ref().ok()) {
        catch_up(node, connection).await;
    }
    if !node.identity().topology.nodes.contains_key(&node.id()) {
        return Err(StartError(holding::REMOVED.into()));
    }
    let refusals = met.iter().filter_map(|(addr, result)| Some((addr, result.as_ref().err()?)));
    let refusals = refusals.filter(|(_, e)| e.kind() == io::ErrorKind::PermissionDenied);
    let refusals: Vec<String> = refusals.map(|(addr, e)| format!("{addr}: {e}")).collect();
    if refusals.len() * 2 > others.len() {
        return Err(StartError(format!(
            "most of its peers are none of its cluster: {}. Start it with its own data folder, cluster-name and \
             cluster-secret; if its folder is lost, replace the node (quoris admin node replace)",
            refusals.join("; ")
        )));
    }
    Ok(())
}

/// What has become of the cluster meanwhile, as far as this peer knows.
async fn catch_up(node: &Node, connection: &Connection) {
    let question = Question::Topology { known: node.identity().topology.epoch };
    let answer = connection.call(Kind::Cluster, vec![wire::part(&question)]);
    let answer = tokio::time::timeout(ANSWER_TIME_MAX, answer).await;
    if let Ok(Ok(bytes)) = answer
        && let Ok(Answer::Topology(Some(newer))) = wire::message(&bytes)
    {
        node.take_topology(newer);
    }
}

fn found(node: &Node, nodes: Vec<NodeRecord>, own: usize) -> Identity {
    let config = node.config();
    let cluster = (u128::from(random_u64()) << 64 | u128::from(random_u64())).max(1);
    let (groups, replication_factor, databases) = (config.groups, config.replication_factor, config.databases);
    let alone = nodes.len() == 1;
    let topology = Topology::found(Founding { cluster, nodes, groups, replication_factor, databases }, random_u64);
    Identity { node: NodeId(own as u64 + 1), topology, founding: !alone }
}

fn adopt(node: &Node, identity: Identity) -> Result<(), StartError> {
    take(node, identity.clone())?;
    tracing::info!(
        node = identity.node.0,
        cluster = format!("{:032x}", identity.topology.cluster),
        "this node belongs to a cluster now"
    );
    node.inner().adopted.send_replace(true);
    Ok(())
}

/// From now on this node is somebody, durably.
fn take(node: &Node, identity: Identity) -> io::Result<()> {
    store(&*node.inner().seams.disk, &identity)?;
    node.inner().lives.begin(identity.node, node.inner().boot)?;
    node.inner().identity.store(std::sync::Arc::new(Some(identity)));
    Ok(())
}

/// This node was told who it is, but not yet that everybody was.
async fn wait_for_founder(node: &Node) -> Result<(), StartError> {
    let mut adopted = node.inner().adopted.subscribe();
    adopted.wait_for(|over| *over).await.map(drop).map_err(|_| StartError("the node is gone".into()))
}

/// Asks all peers until the cluster is founded here, or by another node.
async fn ask_around(node: &Node) -> Result<(), StartError> {
    let config = node.config().clone();
    let mut sorted = config.peers.clone();
    sorted.sort();
    sorted.dedup();
    let mut said: Option<tokio::time::Instant> = None;
    let mut adopted = node.inner().adopted.subscribe();
    loop {
        if node.id() != NodeId(0) {
            return wait_for_founder(node).await;
        }
        let mut answers = Vec::new();
        let mut missing = Vec::new();
        for addr in &sorted {
            if *addr == config.peer_addr {
                answers.push(own_probe(node));
                continue;
            }
            match probe(node, addr).await {
                Ok(answer) => answers.push(answer),
                Err(e) => missing.push(format!("{addr} ({e})")),
            }
        }
        if node.id() != NodeId(0) {
            continue;
        }
        refuse_if_wiped(&config.peer_addr, &answers)?;
        let all_empty = missing.is_empty() && answers.iter().all(|a| a.knows.is_none());
        if all_empty && sorted.first() == Some(&config.peer_addr) {
            let nodes = answers.into_iter().map(|a| NodeRecord::new(a.peer_addr, a.client_addr, a.zone)).collect();
            let identity = found(node, nodes, 0);
            adopt(node, identity.clone())?;
            return tell_all(node, identity).await;
        }
        if !missing.is_empty() && said.is_none_or(|at| at.elapsed() > SAY_EVERY) {
            tracing::info!(
                missing = missing.join(", "),
                "waiting for peers: a new cluster needs an answer from every one of them"
            );
            said = Some(tokio::time::Instant::now());
        }
        let _ = tokio::time::timeout(PAUSE, adopted.changed()).await;
    }
}

fn refuse_if_wiped(own: &str, answers: &[Probe]) -> Result<(), StartError> {
    let knowing = answers.iter().find_map(|a| a.knows.as_ref().map(|known| (&a.peer_addr, known)));
    let Some((peer, known)) = knowing else { return Ok(()) };
    if known.iter().any(|addr| addr == own) {
        return Err(StartError(format!(
            "this data folder is empty, but {peer} knows a cluster in which {own} has a place: the folder was wiped. \
             A replica must not come back with an empty log under its old id. Restore the folder, or replace the node \
             (quoris admin node replace)"
        )));
    }
    Err(StartError(format!(
        "{peer} belongs to a cluster in which {own} has no place; a node joins a running cluster when it is started with \
         --join {peer} (and without peers)"
    )))
}

/// What this node answers. While a founder has not told everybody, it and those it told keep quiet.
pub fn own_probe(node: &Node) -> Probe {
    let config = node.config();
    let identity = node.inner().identity.load();
    let settled = identity.as_ref().as_ref().filter(|i| !i.founding);
    // Whose node is being replaced has its place no more.
    let places = settled.map(|i| i.topology.nodes.values().filter(|n| n.state != NodeState::Replaced));
    let knows = places.map(|places| places.map(|n| n.peer_addr.clone()).collect());
    let (peer_addr, client_addr, zone) = (config.peer_addr.clone(), config.client_addr.clone(), config.zone.clone());
    Probe { peer_addr, client_addr, zone, knows }
}

async fn probe(node: &Node, addr: &str) -> io::Result<Probe> {
    let connection = node.links().dial(addr.to_string()).await?;
    wire::message(&connection.call(Kind::Probe, Vec::new()).await?)
}

/// The founder hands every peer its identity, then ends the founding.
async fn tell_all(node: &Node, identity: Identity) -> Result<(), StartError> {
    for phase in [true, false] {
        for (&id, record) in identity.topology.nodes.iter().filter(|(id, _)| **id != identity.node) {
            let theirs = Identity { node: id, founding: phase, ..identity.clone() };
            while let Err(e) = tell(node, &record.peer_addr, &theirs).await {
                if e.kind() == io::ErrorKind::PermissionDenied {
                    return Err(StartError(e.to_string()));
                }
                tracing::info!(peer = record.peer_addr, error = %e, "waiting for a peer to join the new cluster");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    adopt(node, Identity { founding: false, ..identity })
}

async fn tell(node: &Node, addr: &str, identity: &Identity) -> io::Result<()> {
    let connection: Connection = node.links().dial(addr.to_string()).await?;
    connection.call(Kind::Adopt, vec![wire::part(identity)]).await.map(drop)
}

/// A founder says who this node is. The second time, with the founding over, the node may go on.
///
/// # Errors
/// When this node already is somebody else.
pub fn on_adopt(node: &Node, identity: Identity) -> io::Result<()> {
    let current = node.inner().identity.load().as_ref().clone();
    match current {
        Some(own) if own.topology.cluster != identity.topology.cluster || own.node != identity.node => {
            Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{} already belongs to cluster {:032x}", own.node, own.topology.cluster),
            ))
        }
        Some(own) if !own.founding => Ok(()),
        _ => {
            let over = !identity.founding;
            take(node, identity)?;
            if over {
                node.inner().adopted.send_replace(true);
            }
            Ok(())
        }
    }
}

/// The meta leader of a new cluster writes the topology into the log, once: `SET … NX`.
pub async fn write_first_topology(node: &Node, meta: &Group) {
    let value = format::encode(&node.identity().topology);
    meta.propose(vec![operation(&[b"SET", KEY, &value, b"NX"])], None, false).await;
}
