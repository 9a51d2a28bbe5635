//! Fast failover: a leader whose connection ends and is then refused is probably dead.
//!
//! That is a hint that campaigning is worthwhile and never a proof. The lowest surviving replica campaigns when
//! its window is over ([`crate::lease`]), the next one a little later, so that mostly one of them does. Who
//! campaigns tells its own Raft core that the lost leader hands over to it: its vote requests then pass Raft's
//! long lease at the other voters, and their windows are all that they wait for.
//!
//! Invariants: a leader that is heard during the wait is not lost; a wrong hint costs an election, never a read.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::raft::TransferLeaderRequest;

use crate::group::Group;
use crate::node::Node;
use crate::types::NodeId;
use crate::wire::Hello;

/// The head start of each replica over the next: a vote request, its flush and its answer take less.
const RANK_STEP: Duration = Duration::from_millis(60);
/// A leader may have sent appends that are still on their way through this process: so often the window is waited
/// for anew.
const WINDOWS_MAX: usize = 3;
/// A dying process still accepts connections for a moment, and resets them.
const PROBES_MAX: usize = 10;
const PROBE_PAUSE: Duration = Duration::from_millis(5);

impl Node {
    /// A connection on which a peer has sent appends has ended: finds out whether the peer is gone, and if so
    /// campaigns in every group that it led.
    pub(crate) async fn peer_lost(self, peer: Hello) {
        let led = || self.inner().groups.load().values().filter(|g| g.leader() == Some(peer.node)).cloned().collect();
        let groups: Vec<Arc<Group>> = led();
        if groups.is_empty() {
            return;
        }
        // Until the next term nobody is sent to it, should it be gone.
        let doubt =
            |of: fn(&Group) -> u64| groups.iter().for_each(|g| g.replica.doubted.store(of(g), Ordering::Relaxed));
        doubt(|group| group.metrics().current_term);
        if !self.is_gone(&peer).await {
            doubt(|_| 0);
            return;
        }
        futures_util::future::join_all(groups.iter().map(|group| campaign(group, peer.node))).await;
    }

    /// Whether the peer refuses connections, or is not the process that it was.
    async fn is_gone(&self, peer: &Hello) -> bool {
        for _ in 0..PROBES_MAX {
            match self.links().greet(peer.node).await {
                Ok(now) => return now.boot != peer.boot,
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => return true,
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => tokio::time::sleep(PROBE_PAUSE).await,
                // Unreachable is not refused: it may live behind a broken wire.
                Err(_) => return false,
            }
        }
        true
    }
}

async fn campaign(group: &Group, lost: NodeId) {
    let (vote, rank) = {
        let metrics = group.metrics();
        let mut rivals = metrics.membership_config.voter_ids().filter(|v| Some(*v) != metrics.current_leader);
        (metrics.vote, rivals.position(|voter| voter == group.replica.id))
    };
    let Some(rank) = rank.filter(|_| vote.committed) else { return };
    let mut heard = None;
    for _ in 0..WINDOWS_MAX {
        heard = group.replica.window.over().await;
        if heard.is_some() {
            break;
        }
    }
    let Some(heard) = heard else { return };
    tokio::time::sleep(RANK_STEP * rank as u32).await;
    let changed = group.metrics().vote != vote || group.replica.window.count() != heard;
    if changed || group.replica.is_quarantined() || group.leader() != Some(lost) {
        return;
    }
    let last = group.raft.data_metrics().borrow_watched().last_log;
    let (id, own) = (group.replica.group.0, group.replica.id);
    match group.raft.handle_transfer_leader(TransferLeaderRequest::new(vote, own, last)).await {
        Ok(Ok(())) => tracing::info!(group = id, lost = lost.0, "the leader's connection was lost: campaigning"),
        Ok(Err(e)) => tracing::info!(group = id, lost = lost.0, error = %e, "no campaign after a lost connection"),
        Err(e) => tracing::debug!(group = id, error = %e, "no campaign: Raft has stopped"),
    }
}
