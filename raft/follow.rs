//! Following the meta group: every node takes over the topology and the settings that its log says.

use std::time::Duration;

use bytes::Bytes;
use quoris_engine::codec;
use quoris_resp::{Argv, Reply};

use crate::deliver::run_read;
use crate::founding::{self, Identity};
use crate::group::Group;
use crate::node::Node;
use crate::propose::Operation;
use crate::settings;
use crate::topology::{self, Topology};
use crate::types::META;

/// Between two looks when nothing is applied: an election is not.
const PAUSE: Duration = Duration::from_millis(500);

/// Takes over every change that the meta group applies; its leader writes the first topology and settings.
pub async fn follow_meta(node: Node) {
    if node.group(META).is_none() {
        return settings::follow_from_afar(node).await;
    }
    let mut epoch = node.routes().topology.epoch;
    loop {
        // A replica that is rebuilt is another one afterwards.
        let Some(meta) = node.group(META) else { return };
        let mut applied = meta.replica.applied_watch.subscribe();
        if meta.replica.is_quarantined() {
            let _ = tokio::time::timeout(PAUSE, applied.changed()).await;
            continue;
        }
        let stored = stored(&meta, topology::KEY).and_then(|text| codec::read::<Topology>(&text, "topology").ok());
        match stored {
            Some((topology, _)) if topology.epoch > epoch => {
                epoch = topology.epoch;
                node.learn_topology(topology.clone());
                let identity = Identity { topology, ..node.identity() };
                if let Err(e) = founding::store(&node.inner().seams, &identity) {
                    tracing::error!(error = %e, "the topology could not be stored");
                }
            }
            None if meta.leads() => founding::write_first_topology(&node, &meta).await,
            Some(_) | None => {}
        }
        settings::follow(&node, &meta).await;
        // An election changes who must write the first ones without an entry being applied.
        let _ = tokio::time::timeout(PAUSE, applied.changed()).await;
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
