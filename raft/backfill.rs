//! Getting back the kept events that a snapshot passed over: the leader tells them.
//!
//! A replica that installed a snapshot has none of the events before it; until it has them from the leader its floor
//! is high, and who comes back is served by others. It asks once at its start, too.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::events::{Note, Remote, read_note};
use crate::feed::Batch;
use crate::group::Group;
use crate::node::Node;
use crate::types::{GroupId, NodeId};
use crate::wire::{self, Kind};

/// Between two attempts, and two looks whether the replica is still the same.
const PAUSE: Duration = Duration::from_millis(500);
/// When nobody has led for so long, a replica that keeps less than others stands for election too.
const BETTER_TIME_MAX: Duration = Duration::from_secs(3);
/// A leader that says nothing for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Looks after the kept events of one group of this node.
pub(crate) async fn keep_filled(node: Node, id: GroupId) {
    while let Some(group) = node.group(id) {
        let (replica, lacking) = (&group.replica, timeout(PAUSE, group.replica.retained.lacks()).await.is_ok());
        // Others can serve more of the past: one of them is to lead, if one is there.
        group.raft.runtime_config().elect(!replica.retained.is_short() || replica.window.silence() > BETTER_TIME_MAX);
        if !lacking {
            continue;
        }
        match fill(&node, &group).await {
            Ok(()) => {
                replica.retained.filled();
                group.raft.runtime_config().elect(true);
            }
            Err(e) => {
                tracing::debug!(group = id.0, error = %e, "kept events are still missing");
                replica.retained.ask_again();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn fill(node: &Node, group: &Arc<Group>) -> io::Result<()> {
    let id = group.replica.group;
    let leader = node.known_leader(id).ok_or_else(|| io::Error::other("no leader is known"))?;
    let missing = group.replica.retained.floor();
    if missing == 0 || leader == node.id() {
        return Ok(());
    }
    let (floor, batches) = fetch(node, leader, id, missing).await?;
    if floor >= missing || group.replica.retained.backfill(missing, floor, &batches).await? {
        tracing::debug!(group = id.0, floor, batches = batches.len(), "kept events are complete");
        return Ok(());
    }
    Err(io::Error::other("events were dropped meanwhile"))
}

/// What a node keeps up to an index, and above which index.
async fn fetch(node: &Node, from: NodeId, id: GroupId, upto: u64) -> io::Result<(u64, Vec<Arc<Batch>>)> {
    let (mut floor, mut batches) = (0, Vec::new());
    let mut remote = Remote::open(node, from, Kind::Events, wire::part(&(id, floor))).await?;
    loop {
        let note = timeout(SILENCE_MAX, remote.next()).await?;
        match read_note(id, note.ok_or_else(|| io::Error::other("the stream of events ended"))?)? {
            (Note::Floor(above), _) if above >= upto => return Ok((above, batches)),
            (Note::Floor(above), _) => {
                (floor, batches) = (above, Vec::new());
                remote = Remote::open(node, from, Kind::Events, wire::part(&(id, floor))).await?;
            }
            (Note::Batch(..), Some(batch)) if batch.index <= upto => batches.push(Arc::new(batch)),
            (Note::Upto(index, _), _) if index < upto => {}
            (Note::Batch(..) | Note::Upto(..), _) => return Ok((floor, batches)),
        }
    }
}
