//! Linearizable reads without the log: ReadIndex, shared by everybody who waits.
//!
//! One round is in flight; a round asks a quorum whether this replica still leads and gives the commit
//! index of that moment (Raft §6.4). Reads that were waiting when a round began share it; later ones
//! wait for the next, because their start must not be after the confirmation.

use std::sync::Arc;

use openraft::ReadPolicy;
use tokio::sync::{mpsc, oneshot};

use crate::replica::Replica;
use crate::types::Raft;

/// Reads that wait for a round; as for proposals, a connection has one at a time.
const WAITING_MAX: usize = 16_384;

/// This replica could not confirm that it leads.
#[derive(Debug)]
pub struct NotLeading;

/// The way to a confirmation.
#[derive(Clone)]
pub struct ReadRounds {
    waiting: mpsc::Sender<oneshot::Sender<Result<(), NotLeading>>>,
}

impl ReadRounds {
    /// Starts the group's task.
    pub fn start(raft: Raft, replica: Arc<Replica>) -> ReadRounds {
        let (waiting, queue) = mpsc::channel(WAITING_MAX);
        tokio::spawn(run(raft, replica, queue));
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

async fn run(raft: Raft, replica: Arc<Replica>, mut queue: mpsc::Receiver<oneshot::Sender<Result<(), NotLeading>>>) {
    while let Some(first) = queue.recv().await {
        let mut round = vec![first];
        while let Ok(next) = queue.try_recv() {
            round.push(next);
        }
        let confirmed = match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => {
                replica.wait_applied(linearizer.read_log_id().index()).await;
                true
            }
            Err(_) => false,
        };
        for waiter in round {
            let _ = waiter.send(if confirmed { Ok(()) } else { Err(NotLeading) });
        }
    }
}
