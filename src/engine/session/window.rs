//! The replies that one session may still ask for again.
//!
//! Invariants:
//! * `replies` is ordered by sequence number; numbers below `base` were forgotten or acknowledged.
//! * `bytes` is what [`cost`] says of every reply, and `digest` the sum of their prints.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{HOMES_INLINE, Homes};

/// Most bytes of replies that one session may keep.
const WINDOW_BYTES_MAX: usize = 1024 * 1024;
/// What a window costs beside its replies, in bytes, by our own count.
pub(super) const WINDOW_BYTES: usize = 128;
/// What a reply costs beside its own bytes.
const REPLY_BYTES: usize = 64;

/// A kept reply.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// The command's number in its session.
    pub(super) sequence: u64,
    /// The slots that take it along when they move.
    pub(super) homes: Homes,
    /// RESP3; empty when the command was executed but its reply was too large to keep.
    pub(super) reply: Bytes,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// Everything below was forgotten or acknowledged.
    pub(super) base: u64,
    /// What was first sent before may have been executed in an earlier window of the session: the pool's
    /// floor when this one was made, so that later floors, which other windows leave, do not count here.
    pub(super) known_from_ms: u64,
    /// When the session was used last, in seconds of group clock: coarse, so that it rarely moves.
    pub(super) used_s: u64,
    pub(super) bytes: usize,
    /// A hash of the replies, as a sum so that it can be kept up.
    pub(super) digest: u64,
    pub(super) replies: VecDeque<Kept>,
}

/// What a window says about a command.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// It was not executed here.
    New,
    /// It was executed, and this was the reply.
    Reply(Bytes),
    /// It may have been executed; the reply is gone.
    Forgotten,
}

/// A command may name keys of all slots, so their places count as well.
fn cost(kept: &Kept) -> usize {
    REPLY_BYTES + kept.reply.len() + size_of::<u16>() * kept.homes.len().saturating_sub(HOMES_INLINE)
}

fn print(kept: &Kept) -> u64 {
    let homes = kept.homes.iter().fold(kept.sequence, |sum, home| sum.rotate_left(16) ^ u64::from(*home));
    xxhash_rust::xxh3::xxh3_64_with_seed(&kept.reply, homes)
}

impl Window {
    /// What is known about a sequence number.
    pub(super) fn look(&self, sequence: u64) -> Answer {
        match self.position(sequence) {
            Ok(at) => Answer::Reply(self.replies[at].reply.clone()),
            Err(_) if sequence < self.base => Answer::Forgotten,
            Err(_) => Answer::New,
        }
    }

    fn position(&self, sequence: u64) -> Result<usize, usize> {
        // Sequence numbers come in order but for retries, so the end is the usual place.
        match self.replies.back() {
            None => Err(0),
            Some(last) if last.sequence < sequence => Err(self.replies.len()),
            Some(_) => self.replies.binary_search_by_key(&sequence, |kept| kept.sequence),
        }
    }

    /// Drops what the client has got.
    pub(super) fn acknowledge(&mut self, below: u64) {
        self.base = self.base.max(below);
        while self.replies.front().is_some_and(|kept| kept.sequence < self.base) {
            self.forget_first();
        }
    }

    /// Keeps a reply, and forgets the oldest ones when there are too many.
    pub(super) fn keep(&mut self, kept: Kept) {
        if let Err(at) = self.position(kept.sequence) {
            self.bytes += cost(&kept);
            self.digest = self.digest.wrapping_add(print(&kept));
            self.replies.insert(at, kept);
        }
        while self.bytes > WINDOW_BYTES_MAX {
            self.forget_first();
        }
    }

    /// Forgets the oldest reply, and with it all that came before.
    pub(super) fn forget_first(&mut self) {
        if let Some(kept) = self.replies.pop_front() {
            self.bytes -= cost(&kept);
            self.digest = self.digest.wrapping_sub(print(&kept));
            self.base = self.base.max(kept.sequence.saturating_add(1));
        }
    }
}
