//! Handing over what a group's transactions and scripts have published for channels of other groups.
//!
//! Such a message waits in the state of the group that ran it. The group's leader publishes it in the group of its
//! channel under a mark made of its place, and then drops it through its own log. A leader that dies in between is
//! followed by one that hands it over again: the mark makes that the same message.
//!
//! Invariant: messages for one group leave in the order of their places, and one is dropped only when it was
//! published. That group keeps what it knows of this one for as long as it lives, however long an outbox rests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use quoris_engine::entry::{SessionId, SessionStamp};
use quoris_engine::events::{OutboxPlace, Outgoing, delivered};
use quoris_engine::slot;
use quoris_resp::{Argv, Reply};
use tokio::time::timeout;

use crate::group::Group;
use crate::mutant::{self, Mutant};
use crate::node::Node;
use crate::propose::Operation;
use crate::session::Session;
use crate::types::{GroupId, NodeId};

/// Messages that are handed over together.
const MESSAGES_MAX: usize = 1024;
/// Between two looks whether this node leads now, and two attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// Bits of a mark's number that count the messages of one entry: the outbox has room for fewer.
const NUMBER_BITS: u32 = 19;

/// Looks after the outbox of one group of this node.
pub(crate) async fn hand_over(node: Node, id: GroupId) {
    let session = node.session();
    while let Some(group) = node.group(id) {
        let waits = !group.replica.engine.read().outbox().is_empty();
        let did = if waits && group.leads() { hand_over_some(&node, &session, &group).await } else { 0 };
        if did == 0 {
            let _ = timeout(PAUSE, group.replica.posted.notified()).await;
        }
    }
}

/// One round; how many messages it dropped.
async fn hand_over_some(node: &Node, session: &Session, group: &Arc<Group>) -> usize {
    let id = group.replica.group;
    let messages: Vec<(OutboxPlace, Outgoing)> = {
        let engine = group.replica.engine.read();
        engine.outbox().iter().take(MESSAGES_MAX).map(|(place, message)| (place, message.clone())).collect()
    };
    let Some((first, _)) = messages.first() else { return 0 };
    let acknowledged_below = number(*first);
    let mut by_group = BTreeMap::<GroupId, Vec<(OutboxPlace, Argv)>>::new();
    for (place, message) in &messages {
        if let Some(target) = node.group_of(slot(&message.channel)) {
            by_group.entry(target).or_default().push((*place, message.to_argv()));
        }
    }
    let sent = by_group.into_iter().map(async |(target, messages)| {
        let leader = node.leader_of(target).unwrap_or(NodeId(0));
        let Some(first_sent_ms) = node.settled_clock_ms(target, leader).await else { return Vec::new() };
        let mark = |place| SessionStamp {
            session: SessionId::of_group(id.0),
            sequence: number(place),
            acknowledged_below,
            first_sent_ms,
        };
        let (places, argvs): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
        if mutant::is(Mutant::LostOutbox) {
            return places;
        }
        let marked = |(place, argv)| Operation { own: Some(mark(place)), ..Operation::of_node(argv) };
        let operations = places.iter().copied().zip(argvs).map(marked).collect();
        match session.execute(target, operations, true).await {
            Ok(executed) => places.into_iter().zip(executed.replies).filter(is_over).map(|(place, _)| place).collect(),
            Err(e) => {
                tracing::debug!(group = id.0, to = target.0, error = %e, "messages wait in the outbox");
                Vec::new()
            }
        }
    });
    let places: Vec<OutboxPlace> = join_all(sent).await.concat();
    if !places.is_empty() {
        group.propose(vec![Operation::of_node(delivered(&places))], None, false).await;
    }
    places.len()
}

/// Whether a message need not be handed over again.
fn is_over((place, reply): &(OutboxPlace, Reply)) -> bool {
    let Reply::Error(text) = reply else { return true };
    let unknown = text.starts_with(b"UNKNOWN ");
    if unknown {
        tracing::warn!(index = place.0, number = place.1, "a message of the outbox may have been published before");
    }
    unknown
}

/// The number of a place in that session.
fn number((index, number): OutboxPlace) -> u64 {
    index << NUMBER_BITS | u64::from(number)
}
