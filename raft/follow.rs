//! Following the meta group: every node takes over the topology that the group's log says.

use std::time::Duration;

use quoris_engine::{codec, command};
use quoris_resp::{Argv, Reply};

use crate::founding::{self, Identity};
use crate::group::Group;
use crate::node::Node;
use crate::propose::{Operation, run_read};
use crate::topology::Topology;
use crate::types::META;

/// Takes over every change of the topology that the meta group applies; its leader writes the first one.
pub async fn follow_meta(node: Node) {
    let Some(meta) = node.group(META) else { return };
    let mut applied = meta.replica.applied_watch.subscribe();
    let mut epoch = node.routes().topology.epoch;
    loop {
        let stored = stored_topology(&meta);
        match stored {
            Some(topology) if topology.epoch > epoch => {
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
        // An election changes who must write the first topology without an entry being applied.
        let _ = tokio::time::timeout(Duration::from_millis(500), applied.changed()).await;
    }
}

fn stored_topology(meta: &Group) -> Option<Topology> {
    let argv = Argv::from_parts(&[b"GET".as_slice(), crate::topology::KEY]);
    let command = command::lookup(&argv).ok()?.command;
    let get = Operation { command, argv, database: 0, user: 0, transaction: false, write: false };
    let Reply::Bulk(value) = run_read(&meta.replica.engine.read(), &get, 0) else { return None };
    codec::read(&value, "topology").ok().map(|(topology, _)| topology)
}
