//! From an applied entry back to those who wait for its replies.
//!
//! Step 9. Replies come in the order of the entry's commands. Reads that a submission holds behind a write run
//! right behind it, and behind the attempts of waiting commands that the entry serves from that write.

use std::collections::VecDeque;
use std::sync::Arc;

use quoris_engine::command::ReadContext;
use quoris_engine::{Engine, Rng, script_has_read};
use quoris_resp::Reply;

use crate::propose::{Operation, Outcome, Submission};
use crate::runtime::random_u64;
use crate::types::LogId;
use crate::waiters::Waiters;

/// Hands the replies of one entry to the submissions in it, and runs their reads in between.
pub struct Delivery {
    submissions: std::vec::IntoIter<Submission>,
    /// Places of the entry that hold an attempt of a waiting command, in order.
    attempts: VecDeque<(usize, u64)>,
    waiters: Arc<Waiters>,
    current: Option<Submission>,
    replies: Vec<Reply>,
    at: usize,
    /// The submission's commands show what stands in front of them.
    read: bool,
    log_id: LogId,
}

impl Delivery {
    /// For the entry at `log_id`.
    pub fn new(
        submissions: Vec<Submission>,
        attempts: VecDeque<(usize, u64)>,
        waiters: Arc<Waiters>,
        log_id: LogId,
    ) -> Delivery {
        let submissions = submissions.into_iter();
        Delivery { submissions, attempts, waiters, current: None, replies: Vec::new(), at: 0, read: false, log_id }
    }

    /// The command at this place of the entry was applied, with this reply.
    pub fn reply(&mut self, place: usize, reply: Reply, engine: &Engine, now_ms: u64) {
        if let Some((_, waiter)) = self.attempts.pop_front_if(|(at, _)| *at == place) {
            self.waiters.answered(waiter, reply, self.log_id, engine);
        } else {
            if self.current.is_none() {
                self.advance();
            }
            let Some(submission) = &self.current else { return };
            self.read |= submission.operations.get(self.at).is_some_and(reads);
            self.replies.push(reply);
            self.at += 1;
        }
        if self.attempts.front().is_none_or(|(at, _)| *at != place + 1) {
            self.read_on(engine, now_ms);
        }
    }

    /// Runs the reads up to the submission's next write.
    fn read_on(&mut self, engine: &Engine, now_ms: u64) {
        let Some(submission) = &self.current else { return };
        while let Some(operation) = submission.operations.get(self.at).filter(|o| !o.write) {
            self.replies.push(run_read(engine, operation, now_ms));
            self.read |= reads(operation);
            self.at += 1;
        }
        if self.at == submission.operations.len() {
            self.complete();
        }
    }

    /// The entry is applied; ticks, which have no command, end here.
    pub fn end(mut self) {
        while self.current.is_some() || self.submissions.len() > 0 {
            self.advance();
            self.complete();
        }
    }

    fn advance(&mut self) {
        while self.current.is_none() {
            let Some(next) = self.submissions.next() else { return };
            if next.operations.is_empty() {
                let _ = next.done.send(Outcome::Applied(Vec::new(), self.log_id, false, Vec::new()));
                continue;
            }
            self.replies = Vec::with_capacity(next.operations.len());
            (self.at, self.read) = (0, false);
            self.current = Some(next);
        }
    }

    fn complete(&mut self) {
        if let Some(submission) = self.current.take() {
            let replies = std::mem::take(&mut self.replies);
            let back = if replies.contains(&Reply::Elsewhere) { submission.operations } else { Vec::new() };
            let _ = submission.done.send(Outcome::Applied(replies, self.log_id, self.read, back));
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        for (_, waiter) in self.attempts.drain(..) {
            self.waiters.lost(waiter);
        }
    }
}

/// Whether the reply to a command, which has just run on this thread, may show what was there before. Of a transaction
/// it is not known.
pub fn reads(operation: &Operation) -> bool {
    match operation.command.runs_script() {
        true => operation.transaction || script_has_read(),
        false => operation.transaction || !operation.write,
    }
}

/// Runs one read on the applied state.
pub fn run_read(engine: &Engine, operation: &Operation, now_ms: u64) -> Reply {
    let rng = std::cell::RefCell::new(Rng::new(random_u64()));
    let context = ReadContext { database: operation.database, now_ms, rng };
    engine.read(operation.command, &context, &operation.argv)
}
