//! A move of slots, as the topology has it: who owns what is decided there and nowhere else.
//!
//! A range goes piece by piece, each in attempts of its own. Every attempt has a number, the epoch in which it began;
//! beginning one is what ends all earlier ones, because the switch names the attempt that it belongs to.
//!
//! Invariants: one move at a time; a slot has one owner at each epoch; whoever changes the topology compares with
//! what it was.

use std::io;

use bytes::Bytes;
use quoris_engine::moves::{Range, with_range, without_range};
use quoris_resp::Reply;
use serde::{Deserialize, Serialize};

use crate::follow::operation;
use crate::node::Node;
use crate::propose::Operation;
use crate::session::{Error, Executed, Session};
use crate::topology::{KEY, Topology, format};
use crate::types::{GroupId, META};

/// How long between two attempts to change the topology.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// Slots on their way to another group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// The owner of those that are left.
    pub source: GroupId,
    /// Who gets them.
    pub target: GroupId,
    /// What is left, the present piece included.
    pub left: Range,
    /// Slots in all.
    pub total: u16,
    /// Bytes that the source sends in a second at most, 0 without a limit.
    pub rate: u64,
    /// The number of the present attempt.
    pub attempt: u64,
    /// How far it is.
    pub step: Step,
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// A piece is copied; the source owns it.
    Copying,
    /// The target owns this piece; both groups learn it.
    Switched {
        /// The piece.
        piece: Range,
        /// An index of the target's log below which it has told nothing of these slots since they came.
        index: u64,
    },
    /// It is to end; the source owns what is left.
    Cancelled,
}

/// Why the topology is as it was.
#[derive(Debug, thiserror::Error)]
pub enum Unchanged {
    /// The change does not fit what is there.
    #[error("{0}")]
    Refused(String),
}

/// What a change makes of a topology.
pub(crate) enum Change<T> {
    /// It was made before.
    Made(T),
    /// To be stored.
    Store(T),
}

fn refused<T>(text: impl Into<String>) -> Result<T, Unchanged> {
    Err(Unchanged::Refused(text.into()))
}

/// Changes the topology in the meta group, however long that takes; `change` is asked again when it is another one
/// by then, and must know its own work.
pub(crate) async fn change_topology<T>(
    node: &Node,
    session: &Session,
    mut change: impl FnMut(&mut Topology) -> Result<Change<T>, Unchanged>,
) -> Result<T, Unchanged> {
    loop {
        if let Ok(Some((mut topology, held))) = ask(session).await {
            node.learn_topology(topology.clone());
            match change(&mut topology)? {
                Change::Made(made) => return Ok(made),
                Change::Store(made) => {
                    topology.epoch += 1;
                    let set = operation(&[b"SET", KEY, &format::encode(&topology), b"IFEQ", &held]);
                    let done = session.execute(META, vec![set], true).await;
                    if done.is_ok_and(|done| done.replies == [Reply::Ok]) {
                        node.learn_topology(topology);
                        return Ok(made);
                    }
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The topology of this moment, and its bytes.
pub(crate) async fn ask(session: &Session) -> Result<Option<(Topology, Bytes)>, Error> {
    session.execute(META, vec![question()], true).await.map(answer)
}

/// The question for it, to the meta group.
pub(crate) fn question() -> Operation {
    operation(&[b"GET", KEY])
}

/// The topology in the answer.
pub(crate) fn answer(executed: Executed) -> Option<(Topology, Bytes)> {
    let Some(Reply::Bulk(held)) = executed.replies.into_iter().next() else { return None };
    format::decode(&held).ok().map(|topology| (topology, held))
}

impl Topology {
    /// Slots are to go to a group.
    pub(crate) fn begin_move(&mut self, range: Range, target: GroupId, rate: u64) -> Result<Change<()>, Unchanged> {
        if let Some(moving) = &self.moving {
            let same = moving.target == target && moving.left.last == range.last && moving.left.first >= range.first;
            let other = format!("slots up to {} are on their way to {}", moving.left.last, moving.target);
            return if same { Ok(Change::Made(())) } else { refused(other) };
        }
        if target == META || !self.groups.contains_key(&target) {
            return refused(format!("there is no {target}"));
        }
        let owners = self.slot_owners();
        let mut owners = (range.first..=range.last).map(|slot| owners[usize::from(slot)]);
        let Some(source) = owners.next().flatten() else { return refused("a slot without an owner") };
        if !owners.all(|owner| owner == Some(source)) {
            return refused("the slots have several owners: move them in parts");
        }
        if source == target {
            return Ok(Change::Made(()));
        }
        let (attempt, total) = (self.epoch + 1, range.last - range.first + 1);
        let step = Step::Copying;
        self.moving = Some(Moving { source, target, left: range, total, rate, attempt, step });
        Ok(Change::Store(()))
    }

    /// The move is to end with what has gone by now.
    pub(crate) fn cancel_move(&mut self) -> Result<Change<bool>, Unchanged> {
        match &mut self.moving {
            None => Ok(Change::Made(false)),
            Some(Moving { step: Step::Switched { .. }, .. }) => refused("a piece is changing its owner: try again"),
            Some(Moving { step: Step::Cancelled, .. }) => Ok(Change::Made(true)),
            Some(moving) => {
                (moving.step, moving.attempt) = (Step::Cancelled, self.epoch + 1);
                Ok(Change::Store(true))
            }
        }
    }

    /// The source begins to copy a piece anew. From now on no earlier attempt can succeed.
    pub(crate) fn begin_attempt(&mut self, source: GroupId) -> Result<Change<Moving>, Unchanged> {
        let epoch = self.epoch + 1;
        match self.moving.as_mut().filter(|moving| moving.source == source && moving.step == Step::Copying) {
            None => refused("there is nothing to copy any more"),
            Some(moving) => {
                moving.attempt = epoch;
                Ok(Change::Store(moving.clone()))
            }
        }
    }

    /// The one decision: a piece has another owner from now on.
    pub(crate) fn switch(&mut self, attempt: u64, piece: Range, index: u64) -> Result<Change<Moving>, Unchanged> {
        let Some(moving) = self.moving.as_mut().filter(|moving| moving.attempt == attempt) else {
            return refused("a later attempt has begun");
        };
        match moving.step {
            Step::Cancelled => return refused("the move was cancelled"),
            Step::Switched { .. } => return Ok(Change::Made(moving.clone())),
            Step::Copying => moving.step = Step::Switched { piece, index },
        }
        let moving = moving.clone();
        for (group, change) in [(moving.source, without_range as fn(&[_], _) -> _), (moving.target, with_range)] {
            let Some(record) = self.groups.get_mut(&group) else { return refused(format!("{group} is gone")) };
            record.slots = change(&record.slots, piece);
        }
        Ok(Change::Store(moving))
    }

    /// Both groups have learned of the switch, or that the move is cancelled.
    pub(crate) fn end_attempt(&mut self, attempt: u64) -> Result<Change<()>, Unchanged> {
        let Some(moving) = self.moving.as_mut().filter(|moving| moving.attempt == attempt) else {
            return Ok(Change::Made(()));
        };
        match moving.step {
            Step::Copying => return Ok(Change::Made(())),
            Step::Switched { piece, .. } if piece.last < moving.left.last => {
                (moving.left.first, moving.step) = (piece.last + 1, Step::Copying);
            }
            Step::Switched { .. } | Step::Cancelled => self.moving = None,
        }
        Ok(Change::Store(()))
    }
}

impl Node {
    /// Begins to move slots to a group; returns when that is decided. The rest happens by itself.
    ///
    /// # Errors
    /// When they cannot move; the text says why.
    pub async fn move_slots(&self, range: Range, target: GroupId, rate: u64) -> Result<(), Unchanged> {
        let session = self.session();
        let begin = change_topology(self, &session, |topology| topology.begin_move(range, target, rate));
        self.in_time(begin).await
    }

    /// Ends a move with what has gone by now; false when there is none.
    ///
    /// # Errors
    /// When it cannot end now.
    pub async fn cancel_move(&self) -> Result<bool, Unchanged> {
        let session = self.session();
        self.in_time(change_topology(self, &session, Topology::cancel_move)).await
    }

    async fn in_time<T>(&self, change: impl Future<Output = Result<T, Unchanged>>) -> Result<T, Unchanged> {
        let changed = tokio::time::timeout(self.config().request_timeout, change).await;
        changed.unwrap_or_else(|_| refused("the meta group does not answer; look whether the slots move"))
    }

    /// Who owns what, while nothing is on its way: files of several groups then hold each key once.
    pub(crate) fn owners_at_rest(&self) -> io::Result<Vec<Option<GroupId>>> {
        match self.moving() {
            Some(_) => Err(io::Error::other("slots are moving: wait for their end, or cancel the move")),
            None => Ok(self.routes().topology.slot_owners()),
        }
    }

    /// The move that is under way, as far as this node knows.
    pub fn moving(&self) -> Option<Moving> {
        self.routes().topology.moving.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Founding, NodeRecord};

    fn topology() -> Topology {
        let node = NodeRecord::new(String::new(), String::new(), String::new());
        let founding = Founding { cluster: 1, nodes: vec![node], groups: 2, replication_factor: 1, databases: 1 };
        Topology::found(founding, || 7)
    }

    /// As it is stored: with the next epoch.
    fn stored<T>(topology: &mut Topology, change: Result<Change<T>, Unchanged>) -> T {
        match change {
            Ok(Change::Store(value)) => {
                topology.epoch += 1;
                topology.slot_owners();
                value
            }
            Ok(Change::Made(_)) => panic!("made before"),
            Err(e) => panic!("{e}"),
        }
    }

    #[test]
    fn a_later_attempt_ends_the_earlier_ones() {
        let (mut topology, range) = (topology(), Range { first: 0, last: 99 });
        let (source, target) = (GroupId(1), GroupId(2));
        let change = topology.begin_move(range, target, 0);
        stored(&mut topology, change);
        let change = topology.begin_attempt(source);
        let first = stored(&mut topology, change);
        let change = topology.begin_attempt(source);
        let second = stored(&mut topology, change);
        assert!(second.attempt > first.attempt);
        let piece = Range { first: 0, last: 49 };
        assert!(topology.switch(first.attempt, piece, 5).is_err());
        let change = topology.switch(second.attempt, piece, 5);
        stored(&mut topology, change);
        assert!(matches!(topology.switch(second.attempt, piece, 5), Ok(Change::Made(_))));
        assert!(topology.cancel_move().is_err() && topology.begin_attempt(source).is_err());
        let owners = topology.slot_owners();
        assert_eq!([owners[49], owners[50]], [Some(target), Some(source)]);
        let change = topology.end_attempt(second.attempt);
        stored(&mut topology, change);
        assert_eq!(topology.moving.as_ref().map(|moving| (moving.left.first, moving.step)), Some((50, Step::Copying)));
        let change = topology.cancel_move();
        assert!(stored(&mut topology, change));
        let attempt = topology.moving.as_ref().expect("until both groups know").attempt;
        assert!(topology.switch(attempt, piece, 5).is_err() && topology.switch(second.attempt, piece, 5).is_err());
        let change = topology.end_attempt(attempt);
        stored(&mut topology, change);
        assert_eq!(topology.moving, None);
    }

    #[test]
    fn what_cannot_move_is_refused() {
        let (mut topology, owned) = (topology(), Range { first: 0, last: 8191 });
        for (range, target) in [(owned, GroupId(9)), (owned, META), (Range { first: 0, last: 8192 }, GroupId(2))] {
            assert!(topology.begin_move(range, target, 0).is_err());
        }
        assert!(matches!(topology.begin_move(owned, GroupId(1), 0), Ok(Change::Made(()))));
        let change = topology.begin_move(owned, GroupId(2), 0);
        stored(&mut topology, change);
        assert!(topology.begin_move(Range { first: 9000, last: 9001 }, GroupId(1), 0).is_err());
    }
}
