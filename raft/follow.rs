//! Following the meta group: every node takes over the topology and the settings that its log says.
//!
//! A node without a replica of the meta group, or whose replica hears no leader, asks the others what they know.
//!
//! Invariants: the epoch that a node knows never goes back; it is on disk before anything is done about it.

use std::time::Duration;

use bytes::Bytes;
use quoris_resp::{Argv, Reply};
use tokio::time::{Instant, timeout};

use crate::admin::{self, Answer, Question};
use crate::deliver::run_read;
use crate::founding::{self, Identity};
use crate::group::Group;
use crate::node::Node;
use crate::propose::Operation;
use crate::runtime::random_u64;
use crate::settings;
use crate::topology::{self, Topology, format};
use crate::types::{META, NodeId};

/// Between two looks when nothing is applied: an election is not.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two questions to other nodes.
const ASK_PAUSE: Duration = Duration::from_millis(250);
/// A leader of the meta group that is silent for so long may be none any more.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How often the settings are asked for by a node without a replica of the meta group.
const SETTINGS_EVERY: Duration = Duration::from_secs(1);
/// How long a node may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// Takes over every change that the meta group applies; its leader writes the first topology and settings.
pub async fn follow_meta(node: Node) {
    let session = node.session();
    let mut settings_at: Option<Instant> = None;
    loop {
        // A replica that is rebuilt is another one afterwards, and one that left is none.
        let Some(meta) = node.group(META) else {
            // A guest has its own way to the topology.
            if !node.is_guest() {
                ask_somebody(&node).await;
            }
            if settings_at.is_none_or(|at| at.elapsed() >= SETTINGS_EVERY) {
                let _ = timeout(ANSWER_TIME_MAX, settings::look_from_afar(&node, &session)).await;
                settings_at = Some(Instant::now());
            }
            tokio::time::sleep(ASK_PAUSE).await;
            continue;
        };
        let mut applied = meta.replica.applied_watch.subscribe();
        if meta.replica.is_quarantined() {
            let _ = timeout(PAUSE, applied.changed()).await;
            continue;
        }
        // Who was cut off takes the last leader for the present one; others may have gone on without it.
        let silent = !meta.leads() && meta.replica.window.silence() > SILENCE_MAX;
        if silent || meta.leader().is_none() {
            ask_somebody(&node).await;
        }
        let stored = stored(&meta, topology::KEY);
        match stored.map(|bytes| format::decode(&bytes)) {
            Some(Ok(topology)) => node.take_topology(topology),
            Some(Err(e)) => tracing::error!(error = %e, "the topology cannot be read"),
            None if meta.leads() => founding::write_first_topology(&node, &meta).await,
            None => {}
        }
        settings::follow(&node, &meta).await;
        // An election changes who must write the first ones without an entry being applied.
        let _ = timeout(PAUSE, applied.changed()).await;
    }
}

/// Asks one of the other nodes for a newer topology.
async fn ask_somebody(node: &Node) {
    let (own, routes) = (node.id(), node.routes());
    let others: Vec<NodeId> = routes.topology.nodes.keys().copied().filter(|id| *id != own).collect();
    let Some(&peer) = others.get(random_u64() as usize % others.len().max(1)) else { return };
    let question = Question::Topology { known: routes.topology.epoch };
    if let Ok(Ok(Answer::Topology(Some(newer)))) = timeout(ANSWER_TIME_MAX, admin::ask(node, peer, &question)).await {
        node.take_topology(newer);
    }
}

impl Node {
    /// Takes over a topology if it is newer than what this node knows.
    pub(crate) fn take_topology(&self, topology: Topology) {
        let _one = self.inner().taking.lock();
        let identity = self.identity();
        if topology.cluster != identity.topology.cluster || topology.epoch <= identity.topology.epoch {
            return;
        }
        let identity = Identity { topology: topology.clone(), ..identity };
        if let Err(e) = founding::store(&*self.inner().seams.disk, &identity) {
            tracing::error!(error = %e, "the topology could not be stored");
            return;
        }
        self.inner().identity.store(std::sync::Arc::new(Some(identity)));
        self.learn_topology(topology);
    }
}

/// What the local replica of the meta group holds under a key.
pub(crate) fn stored(meta: &Group, key: &[u8]) -> Option<Bytes> {
    match run_read(&meta.replica.engine.read(), &operation(&[b"GET", key]), 0) {
        Reply::Bulk(value) => Some(value),
        _ => None,
    }
}

/// A command that a node sends by itself.
pub(crate) fn operation(parts: &[&[u8]]) -> Operation {
    Operation::of_node(Argv::from_parts(parts))
}
