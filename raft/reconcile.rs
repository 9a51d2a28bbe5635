//! The leader of the meta group decides where replicas go, and forgets nodes that have left.
//!
//! It only writes new values of the topology; what follows from them is done by the groups and the nodes themselves.
//! So whoever leads next goes on where this one was, from what the topology says.
//!
//! Invariants: the topology changes by compare-and-set alone; a node is forgotten only when no group has a replica of
//! it among its members; replicas move for balance one at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use quoris_resp::Reply;
use tokio::time::{Instant, sleep, timeout};

use crate::admin::{self, AdminError, Standing};
use crate::follow::operation;
use crate::node::Node;
use crate::placement;
use crate::topology::{KEY, NodeState, Topology, format};
use crate::types::{GroupId, META, NodeId};

/// Between two looks when the topology stays.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two attempts to change the topology.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

impl Node {
    /// Changes the topology, whoever else is at it; gives the one that holds afterwards. `change` says whether there
    /// is anything to change, and may be asked several times.
    ///
    /// # Errors
    /// Those of `change`, and when nothing can be decided in time; then it may still happen.
    pub(crate) async fn change_topology(
        &self,
        change: impl Fn(&mut Topology) -> Result<bool, AdminError>,
    ) -> Result<Topology, AdminError> {
        let session = self.session();
        let deadline = Instant::now() + self.config().request_timeout;
        while Instant::now() < deadline {
            let asked = session.execute(META, vec![operation(&[b"GET", KEY])], true).await;
            if let Some(held) = asked.ok().and_then(|done| text(done.replies)) {
                let mut topology = format::decode(&held).map_err(|e| AdminError(e.to_string()))?;
                if !change(&mut topology)? {
                    return Ok(topology);
                }
                topology.epoch += 1;
                let new = format::encode(&topology);
                let set = operation(&[b"SET", KEY, &new, b"IFEQ", &held]);
                let done = session.execute(META, vec![set], true).await;
                if done.is_ok_and(|done| done.replies == [Reply::Ok]) {
                    self.take_topology(topology.clone());
                    return Ok(topology);
                }
            }
            sleep(RETRY_PAUSE).await;
        }
        Err(AdminError("the meta group has no leader that answers: nothing can be decided now".into()))
    }
}

fn text(replies: Vec<Reply>) -> Option<Bytes> {
    match replies.into_iter().next()? {
        Reply::Bulk(text) => Some(text),
        _ => None,
    }
}

/// Looks after the topology for as long as the node lives, whenever it leads the meta group.
pub(crate) async fn reconcile(node: Node) {
    let mut epochs = node.inner().epoch.subscribe();
    loop {
        if node.group(META).is_some_and(|meta| meta.leads())
            && let Err(e) = round(&node).await
        {
            tracing::warn!(error = %e, "the topology is looked after again later");
        }
        let _ = timeout(PAUSE, epochs.changed()).await;
    }
}

async fn round(node: &Node) -> Result<(), AdminError> {
    let routes = node.routes();
    let topology = &routes.topology;
    let all: BTreeSet<NodeId> = topology.nodes.keys().copied().collect();
    // Most of the time there is nothing to do, and nobody has to be asked.
    let any = |change: fn(&mut Topology, &BTreeSet<NodeId>) -> bool| change(&mut topology.clone(), &all);
    if any(placement::place) {
        let alive = admin::answering(node, all.iter().copied()).await;
        if placement::place(&mut topology.clone(), &alive) {
            node.change_topology(|topology| Ok(placement::place(topology, &alive))).await?;
            return Ok(());
        }
    }
    let gone: Vec<NodeId> = topology.nodes.iter().filter(|(_, record)| goes(record.state)).map(|(id, _)| *id).collect();
    let gone: Vec<NodeId> = gone.into_iter().filter(|id| topology.replicas_on(*id).next().is_none()).collect();
    let uneven = any(placement::balance);
    if gone.is_empty() && !uneven {
        return Ok(());
    }
    let groups = topology.groups.keys().map(async |id| (*id, admin::standing(node, topology, *id).await));
    let standings: Vec<(GroupId, Option<Standing>)> = join_all(groups).await;
    let settled = |standing: &Option<Standing>| standing.as_ref().is_some_and(|standing| standing.settled);
    if !standings.iter().all(|(_, standing)| settled(standing)) {
        return Ok(());
    }
    let epoch = topology.epoch;
    if !gone.is_empty() {
        node.change_topology(|topology| {
            // What was found out holds for this topology.
            let same = topology.epoch == epoch;
            gone.iter().filter(|_| same).for_each(|id| drop(topology.nodes.remove(id)));
            Ok(same)
        })
        .await?;
        tracing::info!(nodes = ?gone, "nodes have left the cluster");
    } else {
        let alive = admin::answering(node, all.iter().copied()).await;
        node.change_topology(|topology| Ok(topology.epoch == epoch && placement::balance(topology, &alive))).await?;
    }
    Ok(())
}

fn goes(state: NodeState) -> bool {
    matches!(state, NodeState::Leaving | NodeState::Replaced)
}
