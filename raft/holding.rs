//! The replicas that this node holds: they come with the topology and go when their groups have let go of them.
//!
//! What the node holds is a record of its own, because a replica that the topology no longer names may still have a
//! vote. A new replica starts with nothing, forms no group, and waits for a leader to add it. One that the topology no
//! longer names goes when the group's leader says that it is no member any more; ids are never used again, so that
//! answer stays true.
//!
//! Invariants: the record names a replica before its first byte is written, and says that it goes before its first
//! byte is deleted; there is one replica of a group at a time.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use quoris_engine::{Engine, EngineSeed, codec};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::admin;
use crate::group::{Group, GroupSeed};
use crate::node::{Node, StartError};
use crate::seam::Disk;
use crate::topology::Topology;
use crate::types::{GroupId, NodeId};

/// The record that says what is held.
const RECORD: &str = "replicas";
/// Between two looks when the topology stays.
const PAUSE: Duration = Duration::from_millis(500);
/// What a process that was removed says at its end.
pub(crate) const REMOVED: &str = "this node was removed from its cluster: what it held is on other nodes. Its data folder \
    can be deleted; with an empty one it can join again (--join)";

/// A replica in the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    replica: u64,
    /// Its group has let go of it, and its bytes are being deleted.
    goes: bool,
}

/// All of them.
struct Holding {
    held: BTreeMap<GroupId, Held>,
}

impl Holding {
    /// Reads the record. A folder from before it existed holds what the topology says.
    fn load(disk: &dyn Disk, topology: &Topology, own: NodeId) -> io::Result<Holding> {
        let held = match disk.read_record(RECORD)? {
            Some(bytes) => codec::read(&bytes, "replicas").map_err(io::Error::other)?.0,
            None => {
                let replica = |id: &GroupId| Some((*id, Held { replica: topology.replica_on(*id, own)?, goes: false }));
                topology.groups.keys().filter_map(replica).collect()
            }
        };
        Ok(Holding { held })
    }

    fn set(&mut self, disk: &dyn Disk, group: GroupId, held: Option<Held>) -> io::Result<()> {
        match held {
            Some(held) => self.held.insert(group, held),
            None => self.held.remove(&group),
        };
        disk.write_record(RECORD, &codec::bytes(&self.held))
    }
}

/// Gives replicas in the folder of a stopped node new ids.
///
/// # Errors
/// When the disk fails.
pub(crate) fn renumber(
    disk: &dyn Disk,
    topology: &Topology,
    own: NodeId,
    ids: &BTreeMap<GroupId, u64>,
) -> io::Result<()> {
    let mut holding = Holding::load(disk, topology, own)?;
    ids.iter().try_for_each(|(group, replica)| holding.set(disk, *group, Some(Held { replica: *replica, goes: false })))
}

impl Node {
    /// Starts what this node holds; the founder of a group that is not formed yet forms it.
    pub(crate) async fn start_groups(&self) -> Result<(), StartError> {
        let topology = self.identity().topology;
        self.learn_topology(topology.clone());
        if self.is_guest() {
            return Ok(());
        }
        let holding = start(self).await?;
        for (group, record) in &topology.groups {
            if let Some(running) = self.group(*group).filter(|running| running.replica.id == record.founder) {
                running.initialize(topology.members(*group)).await?;
            }
        }
        self.keep(tokio::spawn(follow(self.clone(), holding)));
        Ok(())
    }

    pub(crate) fn put_group(&self, id: GroupId, group: Arc<Group>) {
        self.inner().groups.rcu(|groups| {
            let mut groups = (**groups).clone();
            groups.insert(id, group.clone());
            groups
        });
    }

    /// Keeps a task that ends with the group's replica here.
    pub(crate) fn keep_group(&self, id: GroupId, task: tokio::task::JoinHandle<()>) {
        self.inner().tasks.lock().entry(Some(id)).or_default().push(task.abort_handle());
    }

    /// Takes a group's replica out of service.
    pub(crate) async fn stop_group(&self, id: GroupId) {
        let tasks = self.inner().tasks.lock().remove(&Some(id));
        tasks.into_iter().flatten().for_each(|task| task.abort());
        let Some(group) = self.group(id) else { return };
        self.inner().groups.rcu(|groups| {
            let mut groups = (**groups).clone();
            groups.remove(&id);
            groups
        });
        group.stop().await;
    }
}

/// Starts what the folder holds; what was being deleted is gone afterwards.
///
/// # Errors
/// When the disk or a group fails.
async fn start(node: &Node) -> io::Result<Holding> {
    let identity = node.identity();
    let disk = node.inner().seams.disk.clone();
    let mut holding = Holding::load(&*disk, &identity.topology, identity.node)?;
    for (group, held) in holding.held.clone() {
        if held.goes {
            delete(&*disk, group).await?;
            holding.set(&*disk, group, None)?;
        } else {
            start_one(node, group, held.replica).await?;
        }
    }
    // A record that is as old as the folder itself.
    disk.write_record(RECORD, &codec::bytes(&holding.held))?;
    Ok(holding)
}

/// Starts and removes replicas as the topology changes, as long as the node lives.
async fn follow(node: Node, mut holding: Holding) {
    let mut epochs = node.inner().epoch.subscribe();
    loop {
        let routes = node.routes();
        if !routes.topology.nodes.contains_key(&node.id()) {
            return node.fail(REMOVED.into());
        }
        if let Err(e) = catch_up(&node, &mut holding, &routes.topology).await {
            return node.fail(format!("replicas cannot be started or removed: {e}"));
        }
        let _ = timeout(PAUSE, epochs.changed()).await;
    }
}

async fn catch_up(node: &Node, holding: &mut Holding, topology: &Topology) -> io::Result<()> {
    let disk = node.inner().seams.disk.clone();
    for group in topology.groups.keys().copied() {
        let wanted = topology.replica_on(group, node.id());
        match (holding.held.get(&group).copied(), wanted) {
            (None, Some(replica)) => {
                holding.set(&*disk, group, Some(Held { replica, goes: false }))?;
                start_one(node, group, replica).await?;
                tracing::info!(group = group.0, replica, "this node holds a new replica");
            }
            (Some(held), wanted) if wanted != Some(held.replica) => {
                let sound = node.group(group).is_some_and(|local| !local.replica.is_quarantined());
                if sound && is_free(node, topology, group, held.replica).await {
                    holding.set(&*disk, group, Some(Held { goes: true, ..held }))?;
                    node.stop_group(group).await;
                    delete(&*disk, group).await?;
                    holding.set(&*disk, group, None)?;
                    tracing::info!(group = group.0, replica = held.replica, "a replica has left this node");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether the group's leader says that the replica is no member.
async fn is_free(node: &Node, topology: &Topology, group: GroupId, replica: u64) -> bool {
    let standing = admin::standing(node, topology, group).await;
    standing.is_some_and(|standing| !standing.members.contains(&replica))
}

/// A new replica has an empty engine; one that was here before finds its snapshot.
async fn start_one(node: &Node, group: GroupId, replica: u64) -> io::Result<()> {
    let routes = node.routes();
    let topology = &routes.topology;
    let record = topology.groups.get(&group).ok_or_else(|| io::Error::other(format!("{group} is in no topology")))?;
    let seed = EngineSeed { hash_seed: record.hash_seed, databases: topology.databases };
    let engine = Engine::new(seed).owning(&record.born_with);
    let seed = GroupSeed { group, replica, engine, timing: node.config().timing.clone(), clock: None };
    let inner = node.inner();
    let running = Group::start(seed, inner.seams.clone(), node.links().clone(), inner.health.clone()).await?;
    // One by one, so that a peer's request finds what already runs.
    node.put_group(group, running);
    node.keep_group(group, tokio::spawn(crate::rebuild::keep_whole(node.clone(), group)));
    node.keep_group(group, tokio::spawn(crate::backfill::keep_filled(node.clone(), group)));
    node.keep_group(group, tokio::spawn(crate::outbox::hand_over(node.clone(), group)));
    node.keep_group(group, tokio::spawn(crate::membership::follow(node.clone(), group)));
    Ok(())
}

/// Deletes everything of a group that does not run.
async fn delete(disk: &dyn Disk, group: GroupId) -> io::Result<()> {
    let (done, deleted) = tokio::sync::oneshot::channel();
    disk.remove(group, Box::new(move |result| drop(done.send(result))));
    deleted.await.map_err(io::Error::other)??;
    disk.snapshots(group)?.iter().try_for_each(|name| disk.remove_snapshot(group, name))
}
