//! A replica in quarantine is thrown away and made anew.
//!
//! From the moment in which it is found to be wrong it gives no reads and no replies, takes no writes, and
//! hands leadership over. Then its Raft core stops, so it can neither campaign nor vote, its keys are
//! dropped, and it starts again inside the process, as it would with the process: same id, same log, same
//! vote. What it starts from depends on what was wrong:
//!
//! * Its memory: snapshot and log on disk are what they were. (A snapshot is only kept after a scrub of the
//!   keys that it was written from.)
//! * Its state, by the majority's digest: the own snapshot may be wrong as well. The leader sends its own,
//!   and every other one is deleted. The log stays: entries are the same on all replicas.
//!
//! Invariants: what the replica acknowledged stays on disk throughout; a replica that cannot be rebuilt ends
//! the process with a message.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::RaftLogReader;
use openraft::async_runtime::WatchReceiver;
use openraft::storage::RaftLogStorage;
use quoris_engine::{Engine, EngineSeed};

use crate::group::{Group, GroupSeed};
use crate::link::Lane;
use crate::network::Factory;
use crate::node::Node;
use crate::replica::Fault;
use crate::types::GroupId;
use crate::wire::{self, Kind, SnapshotWanted, Target};

/// How long the new leader may take.
const HAND_OVER_TIME_MAX: Duration = Duration::from_secs(2);
/// Between two attempts to get the leader's snapshot.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long a leader may take to write its snapshot and send it.
const SNAPSHOT_TIME_MAX: Duration = Duration::from_secs(600);

/// Looks after one group of this node: rebuilds its replica whenever it goes into quarantine.
pub(crate) async fn keep_whole(node: Node, id: GroupId) {
    loop {
        let Some(group) = node.group(id) else { return };
        let fault = group.replica.wait_for_fault().await;
        group.hand_over(HAND_OVER_TIME_MAX).await;
        group.stop().await;
        let snapshot = match fault {
            Fault::Memory(_) => None,
            Fault::Astray(_) => Some(leaders_snapshot(&node, &group).await),
        };
        if let Err(e) = start_again(&node, &group, snapshot).await {
            let text = format!("{id}: its replica was found to be wrong ({fault}) and could not be rebuilt: {e}");
            tracing::error!(group = id.0, "{text}");
            node.inner().health.failed.send_if_modified(|f| f.is_none() && f.replace(text).is_none());
            return;
        }
        tracing::warn!(group = id.0, "the replica is rebuilt and out of quarantine");
    }
}

/// Has the leader send its newest snapshot, until one is here; its name.
async fn leaders_snapshot(node: &Node, group: &Group) -> String {
    loop {
        match ask_leader(node, group).await {
            Ok(name) => return name,
            Err(e) => tracing::warn!(group = group.replica.group.0, error = %e, "no snapshot from the leader yet"),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn ask_leader(node: &Node, group: &Group) -> io::Result<String> {
    let id = group.replica.group;
    let leader = node.leader_of(id).filter(|leader| *leader != node.id());
    let leader = leader.ok_or_else(|| io::Error::other("no other leader is known"))?;
    let applied = group.replica.applied.load(Ordering::Acquire);
    let wanted = SnapshotWanted { target: Target { group: id, replica: group.replica.id }, applied };
    let connection = node.links().connection(leader, Lane::Control).await?;
    let answer = connection.call(Kind::SnapshotWanted, vec![wire::part(&wanted)]);
    let answer = tokio::time::timeout(SNAPSHOT_TIME_MAX, answer).await??;
    let name: String = wire::message(&answer)?;
    if !group.replica.seams.disk.snapshots(id)?.contains(&name) {
        return Err(io::Error::other(format!("snapshot {name} did not arrive")));
    }
    Ok(name)
}

/// Drops the keys and starts the replica from disk; with the name of a snapshot, from that one.
async fn start_again(node: &Node, old: &Arc<Group>, snapshot: Option<String>) -> io::Result<()> {
    let id = old.replica.group;
    let identity = node.identity();
    let record = identity.topology.groups.get(&id).ok_or_else(|| io::Error::other("the group is gone"))?;
    let empty = || {
        Engine::new(EngineSeed { hash_seed: record.hash_seed, databases: identity.topology.databases })
            .owning(&record.born_with)
    };
    old.replica.installs.fetch_add(1, Ordering::SeqCst);
    let wrong = std::mem::replace(&mut *old.replica.engine.write(), empty());
    old.replica.seams.blocking(move || drop(wrong)).await?;
    // Everything that was handed to the disk is on it once this is: it is one queue.
    let mut log = old.log.clone();
    if let Some(vote) = log.read_vote().await? {
        log.save_vote(&vote).await?;
    }
    if let Some(right) = snapshot {
        let disk = &old.replica.seams.disk;
        for name in disk.snapshots(id)?.into_iter().filter(|name| *name != right) {
            disk.remove_snapshot(id, &name)?;
        }
        // What the wrong state told may be wrong, too.
        old.replica.retained.reset(crate::snapshot::with_index(right).0);
        old.replica.retained.settled().await?;
    }
    let timing = node.config().timing.clone();
    // The process is the same, so is what it has heard of the clock.
    let clock = Some(old.replica.clock.clone());
    let seed = GroupSeed { group: id, replica: old.replica.id, engine: empty(), timing, clock };
    let inner = node.inner();
    let new = Group::start(seed, inner.seams.clone(), node.links().clone(), inner.health.clone()).await?;
    new.replica.rebuilds.store(old.replica.rebuilds.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    node.put_group(id, new.clone());
    // What the new one had applied by now was told to nobody.
    new.replica.watchers.tell_all(id);
    Ok(())
}

impl Group {
    /// Sends a snapshot that is at least as new as what the asking replica had; gives its name.
    ///
    /// # Errors
    /// When this replica does not lead, or the snapshot cannot be written or sent.
    pub(crate) async fn on_snapshot_wanted(&self, node: &Node, wanted: SnapshotWanted) -> io::Result<String> {
        if !self.leads() {
            return Err(io::Error::other(format!("{} is not led here", self.replica.group)));
        }
        self.replica.wait_applied(wanted.applied).await;
        self.take_snapshot().await?;
        let file = self.replica.snapshot.lock().clone();
        let file = file.filter(|f| f.meta.last_log_id.is_some_and(|id| id.index >= wanted.applied));
        let file = file.ok_or_else(|| io::Error::other("no snapshot could be taken"))?;
        let (vote, member) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let member = metrics.membership_config.membership().get_node(&wanted.target.replica).cloned();
            (metrics.vote, member)
        };
        let member = member.ok_or_else(|| io::Error::other("the asking replica is no member"))?;
        let factory = Factory { replica: self.replica.clone(), links: node.links().clone() };
        let client = factory.client(wanted.target.replica, &member, Lane::Append);
        let snapshot = openraft::Snapshot { meta: file.meta.clone(), snapshot: file.clone() };
        client.send_snapshot(vote, snapshot).await.map_err(io::Error::other)?;
        Ok(file.name)
    }
}
