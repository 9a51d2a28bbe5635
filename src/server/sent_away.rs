//! Slots for which a connection was sent elsewhere a moment ago.
//!
//! Two nodes may send a client to each other as long as one of them has not heard that a slot or a leader moved, and
//! libraries give up after three to sixteen redirections, which takes them some milliseconds. So who comes back for the
//! same slot within [`SENT_FOR`] is served: what is forwarded gets to the right place, however long that takes.

use std::time::{Duration, Instant};

use quoris_engine::number;

/// Who comes back later than that has not been sent in a circle.
const SENT_FOR: Duration = Duration::from_secs(1);
/// So many slots are remembered; of others a client hears MOVED again.
const SENT_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct SentAway(Vec<(u16, Instant)>);

impl SentAway {
    /// Whether the client has come back for a slot like this.
    pub fn is_back(&self, asks_for: impl Fn(u16) -> bool) -> bool {
        self.0.iter().any(|(slot, at)| at.elapsed() < SENT_FOR && asks_for(*slot))
    }

    /// The client gets this error.
    pub fn note(&mut self, error: &[u8]) {
        let Some(rest) = error.strip_prefix(b"MOVED ") else { return };
        let slot = rest.split(|byte| *byte == b' ').next().and_then(number::integer);
        let Some(slot) = slot.and_then(|slot| u16::try_from(slot).ok()) else { return };
        self.0.retain(|(_, at)| at.elapsed() < SENT_FOR);
        if self.0.len() < SENT_MAX && self.0.iter().all(|(sent, _)| *sent != slot) {
            self.0.push((slot, Instant::now()));
        }
    }
}
