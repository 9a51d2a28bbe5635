//! The replies that one session may still ask for again, in one slot.
//!
//! Invariants:
//! * `replies` is ordered by sequence number; numbers below `base` were forgotten or acknowledged.
//! * `bytes` is what [`cost`] says of every reply, and `digest` the sum of their prints.

use std::collections::VecDeque;

use bytes::Bytes;

/// Most bytes of replies that one session may keep in one slot.
pub(super) const WINDOW_BYTES_MAX: usize = 256 * 1024;
/// What a window costs beside its replies, in bytes, by our own count.
pub(super) const WINDOW_BYTES: usize = 128;
/// What a reply costs beside its own bytes.
const REPLY_BYTES: usize = 48;

/// A kept reply, as RESP3; empty when it was executed but too large to keep.
pub(super) type Kept = Bytes;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// Everything below was forgotten or acknowledged.
    pub(super) base: u64,
    /// When the session was used last, in seconds of group clock: coarse, so that it rarely moves.
    pub(super) used_s: u64,
    pub(super) bytes: usize,
    /// A hash of the replies, as a sum so that it can be kept up.
    pub(super) digest: u64,
    pub(super) replies: VecDeque<(u64, Kept)>,
}

/// What a window says about a command.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// It was not executed here.
    New,
    /// It was executed, and this was the reply.
    Reply(Kept),
    /// It may have been executed; the reply is gone.
    Forgotten,
}

fn cost(kept: &Kept) -> usize {
    REPLY_BYTES + kept.len()
}

fn print(sequence: u64, kept: &Kept) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(kept, sequence)
}

impl Window {
    /// What is known about a sequence number.
    pub(super) fn look(&self, sequence: u64) -> Answer {
        match self.position(sequence) {
            Ok(at) => Answer::Reply(self.replies[at].1.clone()),
            Err(_) if sequence < self.base => Answer::Forgotten,
            Err(_) => Answer::New,
        }
    }

    fn position(&self, sequence: u64) -> Result<usize, usize> {
        // Sequence numbers come in order but for retries, so the end is the usual place.
        match self.replies.back() {
            None => Err(0),
            Some((last, _)) if *last < sequence => Err(self.replies.len()),
            Some(_) => self.replies.binary_search_by_key(&sequence, |(sequence, _)| *sequence),
        }
    }

    /// Drops what the client has got.
    pub(super) fn acknowledge(&mut self, below: u64) {
        self.base = self.base.max(below);
        while self.replies.front().is_some_and(|(sequence, _)| *sequence < self.base) {
            self.forget_first();
        }
    }

    /// Keeps a reply, and forgets the oldest ones when there are too many.
    pub(super) fn keep(&mut self, sequence: u64, kept: Kept) {
        if let Err(at) = self.position(sequence) {
            self.bytes += cost(&kept);
            self.digest = self.digest.wrapping_add(print(sequence, &kept));
            self.replies.insert(at, (sequence, kept));
        }
        while self.bytes > WINDOW_BYTES_MAX {
            self.forget_first();
        }
    }

    /// Forgets the oldest reply, and with it all that came before.
    pub(super) fn forget_first(&mut self) {
        if let Some((sequence, kept)) = self.replies.pop_front() {
            self.bytes -= cost(&kept);
            self.digest = self.digest.wrapping_sub(print(sequence, &kept));
            self.base = self.base.max(sequence.saturating_add(1));
        }
    }
}
