//! Commands that met a group which does not serve their slots: they run again where they belong.
//!
//! A node may route by an old map, and slots stand still for a moment before they have another owner. Apply refuses
//! such a command without any effect, so it can run again: under the same mark if it had one, because then an
//! earlier attempt may have run, whose reply has moved with the slot.
//!
//! Invariant: a command runs again only when the log of the group that it was sent to says that it had no effect.

use std::collections::BTreeMap;
use std::time::Duration;

use quoris_engine::entry::Transaction;
use quoris_engine::moves::{slots_of, slots_of_transaction};
use quoris_engine::{outcome, slot};
use quoris_resp::Reply;
use tokio::time::{Instant, sleep, timeout};

use crate::node::Node;
use crate::propose::Operation;
use crate::session::{Error, Executed, Session, Stamps, error_reply};
use crate::slots;
use crate::types::{GroupId, META, NodeId};

/// Between two attempts while the slots stand still.
const PAUSE: Duration = Duration::from_millis(5);
/// Attempts after which the meta group is asked where the slots are: this node may not hear of it.
const ASK_AFTER: u32 = 10;
/// How long it may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);

/// The keys of a command were of one group when it was sent and are of several now; it had no effect.
pub(crate) const SPREAD: &str = "TRYAGAIN the keys of the command belong to several groups now";
const STANDSTILL: &str = "the slots of the command are on their way to another group";

impl Node {
    /// The group that owns the slots of an operation, `before` for one without keys; nothing when there are several.
    pub(crate) fn group_for(&self, operation: &Operation, before: GroupId) -> Option<GroupId> {
        let slots = match Transaction::from_argv(&operation.argv) {
            Ok(transaction) if operation.transaction => slots_of_transaction(&transaction),
            _ => slots_of(operation.command, &operation.argv),
        };
        // Without keys it is the group's own.
        let mut groups = slots.into_iter().map(|slot| self.group_of(slot).unwrap_or(before));
        let first = groups.next().unwrap_or(before);
        groups.all(|group| group == first).then_some(first)
    }

    fn moved(&self, operation: &Operation, leader: Option<NodeId>) -> Reply {
        let at = operation.command.routed_by(&operation.argv).first().and_then(|at| operation.argv.get(*at)).map(slot);
        let routes = self.routes();
        match (at, leader.and_then(|leader| routes.topology.nodes.get(&leader))) {
            (Some(slot), Some(node)) => Reply::error(format!("MOVED {slot} {}", node.client_addr)),
            _ => error_reply(&Error::Unavailable(STANDSTILL.into())),
        }
    }
}

/// What is told of a command that has found no place in time.
fn gave_up(operation: &Operation) -> Reply {
    if operation.own.is_some() && operation.write {
        return Reply::error(outcome::timeout(STANDSTILL));
    }
    error_reply(&Error::Unavailable(STANDSTILL.into()))
}

fn spread(operation: &Operation) -> Reply {
    // One with a mark may be somewhere on its way, from an earlier attempt.
    let maybe = operation.own.is_some() && operation.write;
    Reply::error(if maybe { outcome::timeout(SPREAD) } else { SPREAD.into() })
}

impl Session {
    /// Puts the replies of those operations in their places that belonged elsewhere.
    pub(crate) async fn run_elsewhere(
        &self,
        group: GroupId,
        operations: Vec<Operation>,
        executed: &mut Executed,
        (forward, deadline): (bool, Instant),
        stamps: &mut Stamps<'_>,
    ) {
        let places = operations.into_iter().enumerate();
        let mut left: Vec<(usize, Operation)> =
            places.filter(|(place, _)| executed.replies[*place] == Reply::Elsewhere).collect();
        for attempt in 1.. {
            if left.is_empty() {
                return;
            }
            if Instant::now() >= deadline {
                left.iter().for_each(|(place, operation)| executed.replies[*place] = gave_up(operation));
                return;
            }
            sleep(PAUSE).await;
            if attempt % ASK_AFTER == 0 {
                self.refresh_topology(stamps).await;
            }
            let mut groups = BTreeMap::<GroupId, Vec<(usize, Operation)>>::new();
            for (place, operation) in left.drain(..) {
                match self.node.group_for(&operation, group) {
                    Some(group) => groups.entry(group).or_default().push((place, operation)),
                    None => executed.replies[place] = spread(&operation),
                }
            }
            for (group, batch) in groups {
                left.extend(self.run_again(group, batch, executed, (forward, deadline), stamps).await);
            }
        }
    }

    async fn refresh_topology(&self, stamps: &mut Stamps<'_>) {
        let deadline = Instant::now() + ANSWER_TIME_MAX;
        let asked = timeout(ANSWER_TIME_MAX, self.attempts(META, vec![slots::question()], true, deadline, stamps));
        if let Ok(Ok(done)) = asked.await
            && let Some((topology, _)) = slots::answer(done.executed)
        {
            self.node.learn_topology(topology);
        }
    }

    /// Runs some of them at one group; gives back what does not belong there either.
    async fn run_again(
        &self,
        group: GroupId,
        batch: Vec<(usize, Operation)>,
        executed: &mut Executed,
        (forward, deadline): (bool, Instant),
        stamps: &mut Stamps<'_>,
    ) -> Vec<(usize, Operation)> {
        let (places, operations): (Vec<usize>, Vec<Operation>) = batch.into_iter().unzip();
        // What was seen counts in the group that was asked first.
        executed.seen = 0;
        match self.attempts(group, operations.clone(), forward, deadline, stamps).await {
            Ok(done) => {
                executed.position = done.executed.position.or(executed.position);
                let mut back = done.back.into_iter();
                let mut left = Vec::new();
                for (place, reply) in places.into_iter().zip(done.executed.replies) {
                    let operation = back.next();
                    match (reply, operation) {
                        (Reply::Elsewhere, Some(operation)) => left.push((place, operation)),
                        (reply, _) => executed.replies[place] = reply,
                    }
                }
                left
            }
            Err(error) => {
                for (place, operation) in places.into_iter().zip(&operations) {
                    executed.replies[place] = match &error {
                        Error::NotLeader { leader } => self.node.moved(operation, *leader),
                        Error::Unavailable(_) => gave_up(operation),
                        error => error_reply(error),
                    };
                }
                Vec::new()
            }
        }
    }
}
