//! Proposals: what waits becomes one entry, and every caller learns what became of its commands.
//!
//! Step 6. One task per group packs all waiting submissions into an entry, stamps it with the group's
//! clock and a seed, and hands it to Raft, one entry at a time. There is no timer: when the
//! pipe is idle the first submission leaves at once, and while it is full the next entry grows.
//!
//! What happened to an entry is learned from this node's own log, by the entry's seed:
//! * applied here, as leader or later as follower: the replies are delivered;
//! * refused before it was appended, or cut off and then overtaken by an applied entry of the leader
//!   that cut it off: certainly not executed. (Leaders never decrease along a log, so a cut-off entry
//!   cannot come back behind an entry of a later one. Cut off alone is not enough: Raft, figure 8.)
//! * covered by an installed snapshot, or lost with the Raft core: unknown.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use openraft::raft::responder::Responder;
use openraft::type_config::alias::CommittedLeaderIdOf;
use parking_lot::Mutex;
use quoris_engine::Verify;
use quoris_engine::command::{self, Command};
use quoris_engine::entry::{SessionId, SessionStamp};
use quoris_resp::{Argv, Reply};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::deliver::Delivery;
use crate::pack::Packing;
use crate::runtime::random_u64;
use crate::timekeeper::Timekeeper;
use crate::types::{Body, LogId, Raft, TypeConfig};
use crate::waiters::Waiters;

/// Entries in flight per group. What comes while one is on its way goes into the next, which is cheaper than
/// more and smaller entries: with 3 there were 8 % fewer SETs per second on one node and 15 % on three.
const IN_FLIGHT_MAX: usize = 1;
/// An entry is closed when it has passed this many bytes; one larger command still fits.
pub const ENTRY_BYTES: usize = 1 << 20;
/// How often a proposer with a full pipe looks whether it still leads.
const LEADER_CHECK: std::time::Duration = std::time::Duration::from_millis(50);
/// Submissions that wait; a connection has one at a time, so this bounds busy connections per group.
const WAITING_MAX: usize = 16_384;

/// One command on its way to a group.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The row; for a transaction the row of EXEC.
    pub command: &'static Command,
    /// The arguments; for a transaction its encoding.
    pub argv: Argv,
    /// The selected database.
    pub database: u32,
    /// Number of the user, 0 for the default user.
    pub user: u32,
    /// Whether `argv` is an encoded transaction.
    pub transaction: bool,
    /// The mark of the session that a client holds, in place of that of its connection.
    pub own: Option<SessionStamp>,
    /// False for a read; behind a write of the same submission it runs right after that write.
    pub write: bool,
}

impl Operation {
    /// A command that a node sends by itself.
    ///
    /// # Panics
    /// When no row and no internal command has its name.
    pub(crate) fn of_node(argv: Argv) -> Operation {
        let command = command::logged(&argv).expect("nodes send what they know");
        let write = command.is_write();
        Operation { command, argv, database: 0, user: 0, transaction: false, own: None, write }
    }
}

/// The identity of a submission whose replies must be kept.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The session.
    pub session: SessionId,
    /// The number of the first operation; the others follow.
    pub first_sequence: u64,
    /// Replies below this number have arrived.
    pub acknowledged_below: u64,
    /// When it was sent first, in the group's clock.
    pub first_sent_ms: u64,
}

impl Stamp {
    /// The mark of the operation with this number in the submission, from 0 on.
    pub fn mark(&self, number: u64) -> SessionStamp {
        SessionStamp {
            session: self.session,
            sequence: self.first_sequence + number,
            acknowledged_below: self.acknowledged_below,
            first_sent_ms: self.first_sent_ms,
        }
    }
}

/// What became of a submission.
#[derive(Debug)]
pub enum Outcome {
    /// Applied; the replies in order, where, and whether any of them shows what was there before. The operations again
    /// when some of them belong elsewhere.
    Applied(Vec<Reply>, LogId, bool, Vec<Operation>),
    /// Certainly not executed: this replica does not lead. Here they are again.
    NotExecuted(Vec<Operation>),
    /// May have been executed.
    Unknown(&'static str),
}

/// Operations that go into one entry together, the first of them a write.
pub struct Submission {
    /// In order. May be empty: a tick, which only advances the clock.
    pub operations: Vec<Operation>,
    /// Set when the replies must be kept.
    pub stamp: Option<Stamp>,
    /// What the group itself writes into its log; then there are no operations.
    pub verify: Option<Verify>,
    /// Memory is short.
    pub short: bool,
    /// Where the outcome goes.
    pub done: oneshot::Sender<Outcome>,
}

impl Submission {
    /// Asks for an entry; nobody waits for it.
    pub fn tick() -> Submission {
        Submission { operations: Vec::new(), stamp: None, verify: None, short: false, done: oneshot::channel().0 }
    }
}

/// Term and replica id of a leader; they never decrease along a log.
pub type Leader = (u64, u64);

/// An entry whose outcome is not known yet.
struct InFlight {
    submissions: Vec<Submission>,
    /// Places of attempts of waiting commands, and whose they are.
    attempts: VecDeque<(usize, u64)>,
    /// Who wrote it.
    leader: Leader,
    /// The leader that cut the entry off, once one did.
    cut_off_by: Option<Leader>,
    _permit: OwnedSemaphorePermit,
}

/// Entries that this node has proposed to one group, by seed; ordered, so that a simulation repeats itself.
#[derive(Default)]
pub struct Pending {
    entries: Mutex<BTreeMap<u64, InFlight>>,
    count: AtomicUsize,
    cut_off: AtomicUsize,
    /// The commands that wait here.
    pub waiters: Arc<Waiters>,
}

impl Pending {
    fn insert(&self, seed: u64, entry: InFlight) {
        self.entries.lock().insert(seed, entry);
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    fn take(&self, seed: u64) -> Option<InFlight> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let entry = self.entries.lock().remove(&seed)?;
        self.count.fetch_sub(1, Ordering::AcqRel);
        if entry.cut_off_by.is_some() {
            self.cut_off.fetch_sub(1, Ordering::AcqRel);
        }
        Some(entry)
    }

    /// The replies of the entry with this seed go to whoever waits here.
    pub fn delivery(&self, seed: u64, log_id: LogId) -> Option<Delivery> {
        let entry = self.take(seed)?;
        Some(Delivery::new(entry.submissions, entry.attempts, self.waiters.clone(), log_id))
    }

    fn finish(&self, seed: u64, outcome: fn(Vec<Operation>) -> Outcome) {
        if let Some(entry) = self.take(seed) {
            let executed = !matches!(outcome(Vec::new()), Outcome::NotExecuted(_));
            for (_, waiter) in entry.attempts {
                if executed { self.waiters.lost(waiter) } else { self.waiters.not_executed(waiter) }
            }
            for submission in entry.submissions {
                let _ = submission.done.send(outcome(submission.operations));
            }
        }
    }

    fn mark_cut_off(&self, seed: u64, by: Leader) {
        if let Some(entry) = self.entries.lock().get_mut(&seed) {
            // Only a later leader cuts off; should `by` be out of date, the next one is waited for.
            let later = by.max((entry.leader.0, entry.leader.1 + 1));
            if entry.cut_off_by.replace(later).is_none() {
                self.cut_off.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    /// An entry of this leader was applied: what it or an earlier one cut off stays cut off.
    pub fn applied_leader(&self, leader: Leader) {
        if self.cut_off.load(Ordering::Acquire) == 0 {
            return;
        }
        let seeds: Vec<u64> = self
            .entries
            .lock()
            .iter()
            .filter(|(_, e)| e.cut_off_by.is_some_and(|by| by <= leader))
            .map(|(seed, _)| *seed)
            .collect();
        for seed in seeds {
            self.finish(seed, Outcome::NotExecuted);
        }
    }

    /// A snapshot replaced the state: what was in flight may be part of it.
    pub fn snapshot_installed(&self) {
        let seeds: Vec<u64> = self.entries.lock().keys().copied().collect();
        for seed in seeds {
            self.finish(seed, |_| Outcome::Unknown("a snapshot replaced the log of this replica"));
        }
        self.waiters.step_down();
    }
}

/// Tells the proposer what openraft did with an entry; a dropped notice means that its core is gone.
pub struct Notice<T> {
    on_end: Option<Box<dyn FnOnce(Option<T>) + Send>>,
}

impl<T: openraft::OptionalSend + 'static> Responder<TypeConfig, T> for Notice<T> {
    fn on_complete(mut self, result: T) {
        if let Some(on_end) = self.on_end.take() {
            on_end(Some(result));
        }
    }
}

impl<T> Drop for Notice<T> {
    fn drop(&mut self) {
        if let Some(on_end) = self.on_end.take() {
            on_end(None);
        }
    }
}

/// The way into a group's log.
#[derive(Clone)]
pub struct Proposer {
    waiting: mpsc::Sender<Submission>,
}

impl Proposer {
    /// Starts the group's task.
    pub fn start(
        raft: Raft,
        pending: Arc<Pending>,
        timekeeper: Arc<Timekeeper>,
        vote: impl Fn() -> Leader + Send + Sync + 'static,
    ) -> Proposer {
        let (waiting, queue) = mpsc::channel(WAITING_MAX);
        pending.waiters.connect(&waiting);
        let task = Task { raft, pending, timekeeper, vote: Arc::new(vote), last_clock_ms: AtomicU64::new(0) };
        tokio::spawn(task.run(queue));
        Proposer { waiting }
    }

    /// Proposes and waits for the outcome. When this future is dropped the commands may still execute.
    pub async fn submit(&self, operations: Vec<Operation>, stamp: Option<Stamp>, short: bool) -> Outcome {
        self.send(operations, stamp, None, short).await
    }

    /// Proposes a mark or a verdict; the outcome says where it stands.
    pub async fn verify(&self, verify: Verify) -> Outcome {
        self.send(Vec::new(), None, Some(verify), false).await
    }

    async fn send(
        &self,
        operations: Vec<Operation>,
        stamp: Option<Stamp>,
        verify: Option<Verify>,
        short: bool,
    ) -> Outcome {
        let (done, outcome) = oneshot::channel();
        if let Err(refused) = self.waiting.send(Submission { operations, stamp, verify, short, done }).await {
            return Outcome::NotExecuted(refused.0.operations);
        }
        outcome.await.unwrap_or(Outcome::Unknown("the group stopped"))
    }
}

struct Task {
    raft: Raft,
    pending: Arc<Pending>,
    timekeeper: Arc<Timekeeper>,
    /// Whom this replica follows now.
    vote: Arc<dyn Fn() -> Leader + Send + Sync>,
    last_clock_ms: AtomicU64,
}

impl Task {
    async fn run(self, mut queue: mpsc::Receiver<Submission>) {
        let slots = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        while let Some(first) = queue.recv().await {
            let Some((permit, leader)) = self.turn(&slots).await else {
                self.pending.waiters.step_down();
                let _ = first.done.send(Outcome::NotExecuted(first.operations));
                continue;
            };
            let by = (leader.term, leader.node_id);
            let (body, seed, submissions, attempts) = self.pack(first, &mut queue);
            let entry = InFlight { submissions, attempts, leader: by, cut_off_by: None, _permit: permit };
            self.pending.insert(seed, entry);
            let write = self.raft.write(Body(body)).with_leader(leader).responder(self.notice(seed));
            if write.await.is_err() {
                self.pending.finish(seed, |_| Outcome::Unknown("the group's Raft core stopped"));
            }
        }
    }

    /// Waits for a place in the pipe and a settled clock for as long as this replica leads: an entry whose
    /// outcome stays open must not hold up what could go to another leader.
    async fn turn(&self, slots: &Arc<Semaphore>) -> Option<(OwnedSemaphorePermit, CommittedLeaderIdOf<TypeConfig>)> {
        while let Ok(leader) = self.raft.as_leader().map(|l| l.to_committed_leader_id()) {
            if let Ok(permit) = tokio::time::timeout(LEADER_CHECK, slots.clone().acquire_owned()).await {
                let settled = self.timekeeper.settle((leader.term, leader.node_id)).await;
                return permit.ok().filter(|_| settled).map(|permit| (permit, leader));
            }
        }
        None
    }

    fn pack(
        &self,
        first: Submission,
        queue: &mut mpsc::Receiver<Submission>,
    ) -> (bytes::Bytes, u64, Vec<Submission>, VecDeque<(usize, u64)>) {
        let clock_ms = self.timekeeper.clock_ms().max(self.last_clock_ms.load(Ordering::Relaxed));
        self.last_clock_ms.store(clock_ms, Ordering::Relaxed);
        let mut packing = Packing::begin(&self.pending.waiters, clock_ms);
        let mut submissions = Vec::new();
        let mut next = Some(first);
        while let Some(submission) = next {
            packing.push(&submission);
            submissions.push(submission);
            next = if packing.builder.bytes() < ENTRY_BYTES { queue.try_recv().ok() } else { None };
        }
        packing.push_due();
        let seed = random_u64();
        (packing.builder.finish(clock_ms, seed), seed, submissions, packing.attempts)
    }

    fn notice(&self, seed: u64) -> Notice<ClientWriteResult<TypeConfig>> {
        let (pending, vote) = (self.pending.clone(), self.vote.clone());
        let on_end = move |result: Option<ClientWriteResult<TypeConfig>>| match result {
            // Applied: the state machine has delivered the replies.
            Some(Ok(_)) => {}
            Some(Err(ClientWriteError::LogEntryDiscarded(_))) => pending.mark_cut_off(seed, vote()),
            Some(Err(_)) => pending.finish(seed, Outcome::NotExecuted),
            None => pending.finish(seed, |_| Outcome::Unknown("the group's Raft core stopped")),
        };
        Notice { on_end: Some(Box::new(on_end)) }
    }
}
