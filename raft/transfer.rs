//! Leadership that moves because a replica asks for it (CLUSTER FAILOVER).
//!
//! The leader hands over as it does when its node stops; no write is lost, and clients see a pause.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::link::Lane;
use crate::node::Node;
use crate::types::GroupId;
use crate::wire::{self, Kind, Target};

/// How long the leader tries, and how long the new one waits to see itself lead.
const TIME_MAX: Duration = Duration::from_secs(2);

impl Node {
    /// Lets this node's replica of a group lead, and returns when it does.
    ///
    /// # Errors
    /// When there is no leader that would hand over, or it does not come about in time.
    pub async fn take_lead(&self, group: GroupId) -> io::Result<()> {
        let local = self.sound_group(group).ok_or_else(|| io::Error::other("it has no sound replica here"))?;
        if local.leads() {
            return Ok(());
        }
        let leader = local.leader().ok_or_else(|| io::Error::other("it has no leader that could hand over"))?;
        let ask = async {
            let connection = self.links().connection(leader, Lane::Control).await?;
            let target = Target { group, replica: local.replica.id };
            connection.call(Kind::LeadWanted, vec![wire::part(&target)]).await
        };
        timeout(TIME_MAX * 2, ask).await.map_err(io::Error::other)??;
        let leads = local.raft.wait(Some(TIME_MAX)).metrics(|m| m.current_leader == Some(m.id), "leadership").await;
        leads.map(drop).map_err(io::Error::other)
    }

    /// A replica elsewhere wants to lead.
    pub(crate) async fn on_lead_wanted(&self, target: Target) -> io::Result<Vec<Bytes>> {
        let local = self.group(target.group).filter(|group| group.leads());
        let local = local.ok_or_else(|| io::Error::other(format!("{} is not led here", target.group)))?;
        if !local.metrics().membership_config.voter_ids().any(|voter| voter == target.replica) {
            return Err(io::Error::other(format!("replica {} is no voter of {}", target.replica, target.group)));
        }
        match local.hand_over_to(target.replica, TIME_MAX).await {
            true => Ok(Vec::new()),
            false => Err(io::Error::other("the replica did not take over in time")),
        }
    }
}
