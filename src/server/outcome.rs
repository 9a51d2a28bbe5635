//! What a client is told when a batch has no replies.
//!
//! Every error answers one question: may this write still take effect? `CLUSTERDOWN`, `MOVED`,
//! `CROSSSLOT` and refusals with a prefix of their own say no; those of [`quoris_engine::outcome`] say
//! that nobody knows.

use quoris_engine::outcome;
use quoris_raft::{Error, NodeStatus};
use quoris_resp::Reply;

/// The reply for a failed batch; `slot` is where a redirected client should look.
pub(crate) fn reply(error: &Error, slot: u16, status: impl FnOnce() -> NodeStatus) -> Reply {
    match error {
        Error::NotLeader { leader } => {
            let status = status();
            let address = leader.and_then(|id| status.nodes.into_iter().find(|node| node.id == id));
            match address {
                Some(node) => Reply::error(format!("MOVED {slot} {}", node.client_addr)),
                None => Reply::error("CLUSTERDOWN The cluster is down: the slot's group has no leader"),
            }
        }
        Error::Unavailable(why) => Reply::error(format!("CLUSTERDOWN {why}")),
        Error::Refused(text) => Reply::error(text.clone()),
        Error::Unknown(why) => Reply::error(outcome::timeout(why)),
    }
}

/// CLIENT UNBLOCK with ERROR.
pub(crate) const UNBLOCKED: &str = "UNBLOCKED client unblocked via CLIENT UNBLOCK";

/// No node has the slot.
pub(crate) fn no_owner(slot: u16) -> Reply {
    Reply::error(format!("CLUSTERDOWN Hash slot not served: {slot}"))
}

/// Keys of one command that belong to different groups.
pub(crate) fn cross_slot() -> Reply {
    Reply::error("CROSSSLOT Keys in request don't hash to the same slot")
}
