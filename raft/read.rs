//! Linearizable reads without the log: ReadIndex, shared by everybody who waits.
//!
//! One round is in flight; a round asks a quorum whether this replica still leads and gives the commit
//! index of that moment (Raft §6.4). Reads that were waiting when a round began share it; later ones
//! wait for the next, because their start must not be after the confirmation. A round that succeeded also
//! establishes the read lease, which spares the reads of the next moments a round ([`crate::lease`]); as long as
//! there are such reads, rounds go on without anybody waiting.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::ReadPolicy;
use quoris_resp::Reply;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::deliver::run_read;
use crate::group::Group;
use crate::node::Node;
use crate::propose::Operation;
use crate::replica::Replica;
use crate::types::{GroupId, Raft};

/// Reads that wait for a round; as for proposals, a connection has one at a time.
const WAITING_MAX: usize = 16_384;

/// A follower that is further behind leaves reads to the leader.
const FOLLOW_TIME_MAX: Duration = Duration::from_millis(500);

/// How old what a replica that does not lead answers may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAge {
    /// It has everything that was acknowledged so long before the command came; zero is as new as the leader.
    Within(Duration),
    /// Whatever it has.
    Any,
}

/// This replica could not confirm that it leads.
#[derive(Debug)]
pub struct NotLeading;

/// The way to a confirmation.
#[derive(Clone)]
pub struct ReadRounds {
    waiting: mpsc::Sender<Waiter>,
}

impl ReadRounds {
    /// Starts the group's task.
    pub fn start(raft: Raft, replica: Arc<Replica>, lease: bool) -> ReadRounds {
        let (waiting, queue) = mpsc::channel(WAITING_MAX);
        tokio::spawn(run(raft, replica, lease, queue));
        ReadRounds { waiting }
    }

    /// Returns once everything committed before this call is applied here.
    ///
    /// # Errors
    /// When this replica does not lead, or no quorum confirms that it does.
    pub async fn confirm(&self) -> Result<(), NotLeading> {
        let (tx, rx) = oneshot::channel();
        self.waiting.send(tx).await.map_err(|_| NotLeading)?;
        rx.await.unwrap_or(Err(NotLeading))
    }
}

impl Node {
    /// Runs reads on this node's replica, which does not lead. Nothing when it cannot be as new as `age` asks for; then
    /// the leader has to answer.
    pub(crate) async fn read_as_follower(
        &self,
        group: GroupId,
        operations: &[Operation],
        age: ReadAge,
    ) -> Option<Vec<Reply>> {
        let local = self.sound_group(group).filter(|local| !local.leads())?;
        if let ReadAge::Within(limit) = age {
            timeout(FOLLOW_TIME_MAX, self.catch_up(&local, limit)).await.ok()??;
        }
        let now_ms = local.replica.clock.now_ms();
        let engine = local.replica.engine.read();
        let read = |o: &Operation| run_read(&engine, o, now_ms);
        (!local.replica.is_quarantined()).then(|| operations.iter().map(read).collect())
    }
}

impl Node {
    /// Waits until a replica has everything that was acknowledged so long ago: the leader says how far that is
    /// (ReadIndex at a follower), or has said it since then.
    async fn catch_up(&self, local: &Group, limit: Duration) -> Option<()> {
        let replica = &local.replica;
        let now = replica.seams.clock.boottime();
        let known = replica.followed.lock().filter(|(asked, _)| now < *asked + limit);
        let index = match known {
            Some((_, index)) => index,
            None => {
                let index = self.ask_position(local.leader()?, replica.group).await.ok()?;
                let mut followed = replica.followed.lock();
                // Answers may come in another order.
                *followed = followed.filter(|(asked, _)| *asked > now).or(Some((now, index)));
                index
            }
        };
        replica.wait_applied(index).await;
        Some(())
    }
}

type Waiter = oneshot::Sender<Result<(), NotLeading>>;

async fn run(raft: Raft, replica: Arc<Replica>, lease: bool, mut queue: mpsc::Receiver<Waiter>) {
    loop {
        let mut round = Vec::new();
        tokio::select! {
            biased;
            first = queue.recv() => match first {
                Some(first) => round.push(first),
                None => return,
            },
            () = replica.lease.wanted() => {}
        }
        while let Ok(next) = queue.try_recv() {
            round.push(next);
        }
        let began = replica.lease.begin().filter(|_| lease);
        replica.read_rounds.fetch_add(1, Ordering::Relaxed);
        let confirmed = match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => {
                replica.wait_applied(linearizer.read_log_id().index()).await;
                began.into_iter().for_each(|began| replica.lease.establish(began));
                true
            }
            Err(_) => false,
        };
        replica.lease.round_ended();
        for waiter in round {
            let _ = waiter.send(if confirmed { Ok(()) } else { Err(NotLeading) });
        }
    }
}
