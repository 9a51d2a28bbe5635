//! A connection's way to the groups: finds the leader, forwards, waits over elections, repeats.
//!
//! Step 5. A batch that this node's own replica leads is proposed here and needs no session: what became
//! of it is read from the own log. A batch for another node carries the session's stamp, and from the
//! first time it was sent on it carries the same stamp, wherever it is tried again: that is what makes
//! trying again safe. What belongs to another group by then goes on there (`raft/reroute.rs`). Operations of a session that the client itself holds carry its marks from the start,
//! also when they are proposed here, and need no stamp of the connection.
//!
//! Invariants: a write is tried again only when it certainly did not execute, or under its stamp; an
//! error that says "no" is given only when nothing was ever sent, or everything sent certainly failed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quoris_engine::entry::SessionId;
use quoris_engine::outcome;
use quoris_resp::Reply;

use crate::forward::{Forwarded, Local, run_local};
use crate::forwarder::Sent;
use crate::group::Group;
use crate::mutant::{self, Mutant};
use crate::node::Node;
use crate::parcel::Parcel;
use crate::propose::{Operation, Stamp};
use crate::read::ReadAge;
use crate::types::{GroupId, NodeId};

/// How long between two attempts when nobody leads.
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes of a batch that are proposed together; a larger pipeline goes in pieces.
const BATCH_BYTES: usize = 8 << 20;

/// Where a connection's last write stands in its group's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The group.
    pub group: GroupId,
    /// The term of the entry.
    pub term: u64,
    /// The index of the entry.
    pub index: u64,
}

/// Replies, and where the last write stands.
#[derive(Debug)]
pub struct Executed {
    /// One for each operation, in order.
    pub replies: Vec<Reply>,
    /// Nothing when there was no write.
    pub position: Option<Position>,
    /// The reads among them have seen everything up to this index of the group, at least; [`u64::MAX`] when nothing
    /// was read.
    pub seen: u64,
}

/// Why a batch has no replies.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Certainly not executed: another node leads the group.
    #[error("the group is led by another node")]
    NotLeader {
        /// Which one, if known.
        leader: Option<NodeId>,
    },
    /// Certainly not executed.
    #[error("{0}")]
    Unavailable(String),
    /// Certainly not executed; the text has an error code of its own.
    #[error("{0}")]
    Refused(String),
    /// May have been executed, or may still be.
    #[error("{0}")]
    Unknown(String),
}

/// What a batch came to at one group.
pub(crate) struct Attempted {
    pub(crate) executed: Executed,
    /// The operations again, with their marks, when some of them belong elsewhere and had no effect.
    pub(crate) back: Vec<Operation>,
}

impl Attempted {
    fn new(executed: Executed, operations: Vec<Operation>, stamp: Option<Stamp>) -> Attempted {
        if !executed.replies.contains(&Reply::Elsewhere) {
            return Attempted { executed, back: Vec::new() };
        }
        let marked = |(number, operation): (u64, Operation)| match stamp {
            Some(stamp) if operation.write => {
                Operation { own: operation.own.or(Some(stamp.mark(number))), ..operation }
            }
            _ => operation,
        };
        Attempted { executed, back: (0..).zip(operations).map(marked).collect() }
    }
}

/// The stamps of a batch: while this lives, replies to them may be asked for again.
pub(crate) struct Stamps<'a> {
    session: &'a Session,
    first: Vec<u64>,
}

impl Drop for Stamps<'_> {
    fn drop(&mut self) {
        let mut in_flight = self.session.in_flight.lock();
        for sequence in &self.first {
            in_flight.remove(sequence);
        }
    }
}

/// The exactly-once identity of one client connection, for writes without marks of their own.
pub struct Session {
    pub(crate) node: Node,
    id: SessionId,
    next_sequence: AtomicU64,
    /// Whether its writes carry its mark also where they need none.
    signs: AtomicBool,
    /// First sequence numbers of the stamped batches that are in flight.
    pub(crate) in_flight: Mutex<BTreeSet<u64>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({:x}.{})", self.id.origin, self.id.connection)
    }
}

impl Session {
    pub(crate) fn new(node: Node, id: SessionId) -> Session {
        Session {
            node,
            id,
            next_sequence: AtomicU64::new(1),
            signs: AtomicBool::new(false),
            in_flight: Mutex::default(),
        }
    }

    /// Who is named as the author of what this connection changes, once it [`Session::sign`]s.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Whether what its writes change is to be known as its own by those who are told of changes.
    pub fn sign(&self, yes: bool) {
        self.signs.store(yes, Ordering::Relaxed);
    }

    /// Runs a batch in order on a group. Batches for different groups may be in flight at once; for one
    /// group the caller waits for one before it sends the next.
    ///
    /// # Errors
    /// [`Error::NotLeader`] only when `forward` is off. Every other error is given only after the
    /// node's request timeout has passed, except that a command too large for an entry is refused.
    pub async fn execute(&self, group: GroupId, operations: Vec<Operation>, forward: bool) -> Result<Executed, Error> {
        operations.iter().try_for_each(|operation| self.check_size(operation))?;
        let total: usize = operations.iter().map(|o| o.argv.frame().len()).sum();
        if total <= BATCH_BYTES {
            return self.run(group, operations, forward).await;
        }
        let mut executed = Executed { replies: Vec::with_capacity(operations.len()), position: None, seen: u64::MAX };
        let mut operations = operations.into_iter().peekable();
        while operations.peek().is_some() {
            let mut bytes = 0;
            let mut piece = Vec::new();
            while let Some(next) =
                operations.next_if(|o| piece.is_empty() || bytes + o.argv.frame().len() <= BATCH_BYTES)
            {
                bytes += next.argv.frame().len();
                piece.push(next);
            }
            let count = piece.len() + operations.len();
            match self.run(group, piece, forward).await {
                Ok(done) => {
                    executed.replies.extend(done.replies);
                    executed.position = done.position.or(executed.position);
                    executed.seen = executed.seen.min(done.seen);
                }
                // What ran has its replies; the rest of the batch has none.
                Err(e) if !executed.replies.is_empty() => {
                    executed.replies.extend(std::iter::repeat_n(error_reply(&e), count));
                    return Ok(executed);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(executed)
    }

    /// Runs reads on this node's replica of the group, which may be so old; at the leader when that cannot be.
    ///
    /// # Errors
    /// As [`Session::execute`].
    pub async fn read_here(&self, group: GroupId, reads: Vec<Operation>, age: ReadAge) -> Result<Executed, Error> {
        match self.node.read_as_follower(group, &reads, age).await {
            Some(replies) if !replies.contains(&Reply::Elsewhere) => Ok(Executed { replies, position: None, seen: 0 }),
            _ => self.execute(group, reads, true).await,
        }
    }

    pub(crate) fn check_size(&self, operation: &Operation) -> Result<(), Error> {
        let (bytes, limit) = (operation.argv.frame().len(), self.node.config().entry_bytes_max);
        if bytes <= limit {
            return Ok(());
        }
        Err(Error::Refused(format!("ERR command of {bytes} bytes is larger than entry-bytes-max ({limit})")))
    }

    pub(crate) async fn run(
        &self,
        group: GroupId,
        operations: Vec<Operation>,
        forward: bool,
    ) -> Result<Executed, Error> {
        let deadline = tokio::time::Instant::now() + self.node.config().request_timeout;
        let mut stamps = Stamps { session: self, first: Vec::new() };
        let Attempted { mut executed, back } = self.attempts(group, operations, forward, deadline, &mut stamps).await?;
        if !back.is_empty() {
            Box::pin(self.run_elsewhere(group, back, &mut executed, (forward, deadline), &mut stamps)).await;
        }
        Ok(executed)
    }

    pub(crate) fn stamp(&self, first_sent_ms: u64, operations: usize) -> Stamp {
        let mut in_flight = self.in_flight.lock();
        let first_sequence = self.next_sequence.fetch_add(operations as u64, Ordering::Relaxed);
        in_flight.insert(first_sequence);
        let acknowledged_below = in_flight.first().copied().unwrap_or(first_sequence);
        Stamp { session: self.id, first_sequence, acknowledged_below, first_sent_ms }
    }

    /// A mark for what is proposed here and would need none.
    async fn signature(
        &self,
        local: &Group,
        operations: usize,
        deadline: tokio::time::Instant,
        stamps: &mut Stamps<'_>,
    ) -> Option<Stamp> {
        let clock = &local.replica.clock;
        if clock.is_guess() {
            // The first entry of a leader settles it, unless nobody follows.
            let _ = tokio::time::timeout_at(deadline, local.propose(Vec::new(), None, false)).await;
        }
        let stamp = (!clock.is_guess()).then(|| self.stamp(clock.now_ms(), operations));
        stamps.first.extend(stamp.map(|stamp| stamp.first_sequence));
        stamp
    }

    pub(crate) async fn attempts(
        &self,
        group: GroupId,
        mut operations: Vec<Operation>,
        forward: bool,
        deadline: tokio::time::Instant,
        stamps: &mut Stamps<'_>,
    ) -> Result<Attempted, Error> {
        let stamp = &mut None;
        let mut sent = false;
        let mut hint = None;
        let writes = operations.iter().any(|o| o.write);
        let marked = writes && operations.iter().all(|o| !o.write || o.own.is_some());
        loop {
            if let Some(local) = self.node.group(group).filter(|g| g.leads()) {
                if writes && !marked && stamp.is_none() && self.signs.load(Ordering::Relaxed) {
                    *stamp = self.signature(&local, operations.len(), deadline, stamps).await;
                }
                // What may be sent again is kept, should its outcome here be unknown.
                let again = if marked || stamp.is_some() { operations.clone() } else { Vec::new() };
                let run = run_local(&local, std::mem::replace(&mut operations, again), *stamp, sent);
                match tokio::time::timeout_at(deadline, run).await {
                    Ok(Local::Done(replies, log_id, seen, back)) => {
                        let position = log_id.map(|id| Position { group, term: id.leader_id.term, index: id.index });
                        return Ok(Attempted::new(Executed { replies, position, seen }, back, *stamp));
                    }
                    // It leads and takes no writes: it is handing over. Whoever was named before, wait a little.
                    Ok(Local::NotLeader(back)) => (operations, hint) = (back, None),
                    Ok(Local::Unknown(text)) if !marked && stamp.is_none() => {
                        return Err(Error::Unknown(text.to_string()));
                    }
                    Ok(Local::Unknown(_)) => sent = true,
                    Err(_) => return Err(gave_up(group, writes)),
                }
            } else if !forward {
                if let Some(error) = self.elsewhere(group, sent && writes, deadline) {
                    return Err(error);
                }
            } else if let Some(leader) =
                hint.take().or_else(|| self.node.leader_of(group)).filter(|l| *l != self.node.id())
            {
                let call = self.forward(leader, group, &operations, stamp, sent, stamps);
                match tokio::time::timeout_at(deadline, call).await {
                    Ok(Sent::Answered(Forwarded::Done(replies, log_id, seen, clock_ms))) => {
                        self.node.learn(group, leader, clock_ms);
                        let position = log_id.map(|id| Position { group, term: id.term, index: id.index });
                        return Ok(Attempted::new(Executed { replies, position, seen }, operations, *stamp));
                    }
                    Ok(Sent::Answered(Forwarded::NotLeader(better))) => {
                        sent = true;
                        self.node.forget_leader(group, leader);
                        hint = better.filter(|b| *b != leader);
                    }
                    Ok(Sent::Unsent) => self.node.forget_leader(group, leader),
                    Ok(Sent::Answered(Forwarded::Unknown) | Sent::Lost) => {
                        sent = true;
                        self.node.forget_leader(group, leader);
                    }
                    Err(_) => sent = true,
                }
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(gave_up(group, sent && writes));
            }
            if hint.is_none() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// What is said where nothing is forwarded, unless it is worth while to wait for a leader; `maybe` when the
    /// commands may have been executed.
    fn elsewhere(&self, group: GroupId, maybe: bool, deadline: tokio::time::Instant) -> Option<Error> {
        if maybe {
            return Some(gave_up(group, true));
        }
        let leader = self.node.leader_to_name(group);
        (leader.is_some() || tokio::time::Instant::now() >= deadline).then_some(Error::NotLeader { leader })
    }

    /// Sends the batch to a node; from its first time on under a stamp, unless its writes have marks of their own.
    /// `again` when it was sent before.
    async fn forward(
        &self,
        leader: NodeId,
        group: GroupId,
        operations: &[Operation],
        stamp: &mut Option<Stamp>,
        again: bool,
        stamps: &mut Stamps<'_>,
    ) -> Sent {
        if stamp.is_none() && operations.iter().any(|o| o.write && o.own.is_none()) {
            let Some(now_ms) = self.node.settled_clock_ms(group, leader).await else { return Sent::Unsent };
            *stamp = Some(self.stamp(now_ms, operations.len()));
            stamps.first.extend(stamp.map(|stamp| stamp.first_sequence));
        }
        let mut told = *stamp;
        if mutant::is(Mutant::SessionOffByOne) && again {
            told.iter_mut().for_each(|stamp| stamp.first_sequence += 1);
        }
        tokio::select! {
            biased;
            sent = self.node.forwarder().send(leader, group, Parcel::new(operations, told, again)) => sent,
            // One that falls silent, without its connection ending, is not waited for when there is another.
            () = self.node.leader_changes(group, Some(leader)) => Sent::Lost,
        }
    }
}

/// What is said when the time is up; `maybe` when the commands may have been executed.
pub(crate) fn gave_up(group: GroupId, maybe: bool) -> Error {
    let maybe = maybe && !mutant::is(Mutant::DefiniteAfterProposal);
    let text = format!("{group} has no leader that a majority follows");
    if maybe { Error::Unknown(text) } else { Error::Unavailable(text) }
}

/// An error as the reply that a client sees.
pub fn error_reply(error: &Error) -> Reply {
    match error {
        Error::NotLeader { .. } | Error::Unavailable(_) => Reply::error(format!("CLUSTERDOWN {error}")),
        Error::Refused(text) => Reply::error(text.clone()),
        Error::Unknown(text) => Reply::error(outcome::timeout(text)),
    }
}
