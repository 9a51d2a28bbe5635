//! What waits, as the body of one entry.
//!
//! Step 6. Commands that wait and are due stand in front, then come the submissions in their order. Attempts of
//! those who wait for a key stand right behind a write that may bring something for it, and an attempt may in turn
//! bring something for others: BLMOVE.

use std::collections::VecDeque;

use quoris_engine::Verify;
use quoris_engine::entry::{CommandMeta, EntryBuilder};

use crate::aside::aside_if_large;
use crate::propose::{ENTRY_BYTES, Operation, Submission};
use crate::waiters::{TryNow, Waiters};

/// An entry that is being packed.
pub struct Packing<'a> {
    waiters: &'a Waiters,
    now_ms: u64,
    /// The body so far.
    pub builder: EntryBuilder,
    /// Commands so far that get a reply.
    place: usize,
    /// The places of attempts, in order, and whose they are.
    pub attempts: VecDeque<(usize, u64)>,
}

impl<'a> Packing<'a> {
    /// Begins with the commands that wait and are due.
    pub fn begin(waiters: &'a Waiters, now_ms: u64) -> Packing<'a> {
        let mut packing =
            Packing { waiters, now_ms, builder: EntryBuilder::default(), place: 0, attempts: VecDeque::new() };
        packing.push_due();
        packing
    }

    /// Adds the commands that wait and are due by now. Whoever took ticks from the queue has to do that behind
    /// the last one: a tick may be all that says that somebody is due.
    pub fn push_due(&mut self) {
        let due = self.waiters.take_due(self.now_ms);
        self.push_attempts(due);
    }

    /// Adds the writes of a submission.
    pub fn push(&mut self, submission: &Submission) {
        if let Some((meta, argv)) = submission.verify.map(Verify::to_command) {
            self.builder.push(&meta, &argv);
        }
        for (i, operation) in submission.operations.iter().enumerate().filter(|(_, o)| o.write) {
            let of_connection = submission.stamp.map(|stamp| stamp.mark(i as u64));
            let meta = CommandMeta {
                database: operation.database,
                user: operation.user,
                transaction: operation.transaction,
                session: operation.own.or(of_connection),
                short: submission.short,
                ..CommandMeta::default()
            };
            aside_if_large(operation.argv.frame().len(), || self.builder.push(&meta, &operation.argv));
            self.place += 1;
            self.push_behind(operation);
        }
    }

    fn push_behind(&mut self, operation: &Operation) {
        if self.builder.bytes() < ENTRY_BYTES {
            let attempts = self.waiters.behind(operation, self.now_ms);
            self.push_attempts(attempts);
        }
    }

    fn push_attempts(&mut self, attempts: Vec<TryNow>) {
        let mut attempts = VecDeque::from(attempts);
        while let Some(attempt) = attempts.pop_front() {
            self.builder.push(&attempt.meta, &attempt.operation.argv);
            self.attempts.push_back((self.place, attempt.waiter));
            self.place += 1;
            if self.builder.bytes() < ENTRY_BYTES {
                attempts.extend(self.waiters.behind(&attempt.operation, self.now_ms));
            }
        }
    }
}
