//! A guest: a node that uses a cluster and is no part of it. `quoris proxy` is the server over one.
//!
//! It holds no replica, so every group is elsewhere, and everything that a node does for a group without a replica of
//! its own, a guest does for all: it forwards under sessions, waits and listens over streams, repeats what was in
//! flight when a leader dies. It asks any of the addresses that it was given for the topology and follows it from
//! there on ([`crate::elsewhere`]). Its id is random and above all ids of nodes; nobody dials it, nothing of it is
//! kept, and peers let it ask only what a guest may ([`Hello::may_ask`](crate::wire::Hello)).
//!
//! Invariants: a guest belongs to the first cluster that it learned of until its process ends; it never votes, holds
//! or founds anything.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use crate::elsewhere::{Pulse, SILENCE_MAX};
use crate::founding::Identity;
use crate::node::{Node, StartError};
use crate::runtime::random_u64;
use crate::seam::{Disk, DiskOp, Done, GroupRecords, SnapshotSink, SnapshotSource};
use crate::topology::Topology;
use crate::types::{GroupId, NodeId};
use crate::wire::{self, Kind};

/// How long between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(200);
/// How often the wait for an answer is said.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// What the given addresses answer.
struct Answers {
    topologies: Vec<Topology>,
    /// Those who answer and want nothing of this guest, with their reasons.
    refusals: Vec<String>,
    /// The others.
    missing: Vec<String>,
}

async fn ask_around(node: &Node, known: u64) -> Answers {
    let asked = node.config().peers.iter().map(|addr| async move {
        let ask = async {
            let connection = node.links().dial(addr.clone()).await?;
            wire::message::<Pulse>(&connection.call(Kind::Topology, vec![wire::part(&known)]).await?)
        };
        (addr, timeout(SILENCE_MAX, ask).await.map_err(io::Error::other).flatten())
    });
    let mut answers = Answers { topologies: Vec::new(), refusals: Vec::new(), missing: Vec::new() };
    for (addr, answer) in join_all(asked).await {
        match answer {
            Ok(pulse) => answers.topologies.extend(pulse.topology),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => answers.refusals.push(format!("{addr}: {e}")),
            Err(e) => answers.missing.push(format!("{addr} ({e})")),
        }
    }
    answers
}

/// Returns when the guest knows its cluster.
///
/// # Errors
/// When everybody refuses it, or the addresses belong to several clusters.
pub(crate) async fn settle(node: &Node) -> Result<(), StartError> {
    let mut said: Option<Instant> = None;
    let topology = loop {
        let answers = ask_around(node, 0).await;
        let clusters: BTreeSet<u128> = answers.topologies.iter().map(|topology| topology.cluster).collect();
        if clusters.len() > 1 {
            let ids: Vec<String> = clusters.iter().map(|id| format!("{id:032x}")).collect();
            return Err(StartError(format!("the addresses belong to several clusters: {}", ids.join(", "))));
        }
        if let Some(newest) = answers.topologies.into_iter().max_by_key(|topology| topology.epoch) {
            break newest;
        }
        if answers.missing.is_empty() {
            return Err(StartError(format!("every node refuses this proxy: {}", answers.refusals.join("; "))));
        }
        if said.is_none_or(|at| at.elapsed() > SAY_EVERY) {
            let missing = [answers.missing, answers.refusals].concat().join(", ");
            tracing::info!(missing, "waiting for a node of the cluster to answer");
            said = Some(Instant::now());
        }
        sleep(PAUSE).await;
    };
    tracing::info!(cluster = format!("{:032x}", topology.cluster), "this proxy serves a cluster now");
    let identity = Identity { node: NodeId::of_guest(random_u64()), topology, founding: false };
    node.inner().identity.store(std::sync::Arc::new(Some(identity)));
    Ok(())
}

/// Gives the nodes time to say what they lead, so that a proxy rarely opens its doors before it can serve.
pub(crate) async fn wait_for_leaders(node: &Node, longest: Duration) {
    let deadline = Instant::now() + longest;
    while Instant::now() < deadline && !node.groups().iter().all(|group| node.known_leader(*group).is_some()) {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Takes over a newer topology of the same cluster.
pub(crate) fn take_topology(node: &Node, topology: Topology) {
    let routes = node.routes();
    if node.is_guest() && topology.cluster == routes.topology.cluster && topology.epoch > routes.topology.epoch {
        node.learn_topology(topology);
    }
}

/// No node that is known answers: those at the given addresses may know others. Where most of them belong to another
/// cluster, the one that this guest served is gone.
pub(crate) async fn look_again(node: &Node) {
    let answers = ask_around(node, node.routes().topology.epoch).await;
    answers.topologies.into_iter().for_each(|topology| take_topology(node, topology));
    if answers.refusals.len() * 2 > node.config().peers.len() {
        let text = format!("most nodes refuse this proxy now: {}", answers.refusals.join("; "));
        node.inner().health.failed.send_if_modified(|f| f.is_none() && f.replace(text).is_none());
    }
}

/// The disk of a guest: it has nothing to keep.
#[derive(Debug)]
pub struct NoDisk;

fn none<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "a guest has no disk"))
}

impl Disk for NoDisk {
    fn submit(&self, _: GroupId, _: DiskOp, done: Option<Done>) {
        done.into_iter().for_each(|done| done(none()));
    }

    fn load(&self, _: GroupId) -> io::Result<GroupRecords> {
        none()
    }

    fn read(&self, _: GroupId, _: u64, _: u64, _: usize) -> io::Result<Vec<(u64, Bytes)>> {
        none()
    }

    fn events(&self, _: GroupId, _: u64, _: usize) -> io::Result<Vec<(u64, Bytes)>> {
        none()
    }

    fn events_floor(&self, _: GroupId) -> io::Result<Option<u64>> {
        none()
    }

    fn remove(&self, _: GroupId, done: Done) {
        done(none());
    }

    fn snapshots(&self, _: GroupId) -> io::Result<Vec<String>> {
        none()
    }

    fn open_snapshot(&self, _: GroupId, _: &str) -> io::Result<(u64, Box<dyn SnapshotSource>)> {
        none()
    }

    fn create_snapshot(&self, _: GroupId, _: &str) -> io::Result<Box<dyn SnapshotSink>> {
        none()
    }

    fn remove_snapshot(&self, _: GroupId, _: &str) -> io::Result<()> {
        none()
    }

    fn flushes(&self) -> u64 {
        0
    }

    /// What a guest hears of the starts of nodes it knows for as long as it lives.
    fn write_record(&self, _: &str, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn read_record(&self, _: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }
}
