//! Room on the disk: writes are refused before the disk is full, so that it never is.
//!
//! Ten times a second the node looks at how much is left. Below `disk-reserve` its leaders refuse what
//! clients want to write, with a definite no, before anything is appended. What is in flight then still
//! needs its followers, so these go on until half of the reserve is used; after that a follower leaves
//! entries of clients to its peers and falls behind, without harm to anybody else. Ticks, elections,
//! snapshots, purging and reads never stop: the reserve is for them.
//!
//! Invariant: what was refused is not in the log; what is in the log is never refused afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quoris_engine::entry::EntryReader;

use crate::memory::Memory;
use crate::node::Node;
use crate::seam::Seams;
use crate::types::{Entry, Payload};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// What is left, and what must be.
#[derive(Debug)]
pub struct Room {
    free: AtomicU64,
    reserve: AtomicU64,
}

impl Default for Room {
    fn default() -> Room {
        Room { free: AtomicU64::new(u64::MAX), reserve: AtomicU64::new(0) }
    }
}

impl Room {
    /// Sets how many bytes must stay free; 0 is no limit.
    pub fn set_reserve(&self, bytes: u64) {
        self.reserve.store(bytes, Ordering::Relaxed);
    }

    /// The text for a client whose write is refused, if it is.
    pub fn refusal(&self) -> Option<String> {
        let (free, reserve) = (self.free.load(Ordering::Relaxed), self.reserve.load(Ordering::Relaxed));
        (free < reserve).then(|| {
            format!(
                "MISCONF The disk of this group's leader has {free} bytes left, less than disk-reserve ({reserve}): \
                 writes are refused until there is room"
            )
        })
    }

    /// Whether a follower has to leave these entries to others.
    pub fn refuses(&self, entries: &[Entry]) -> bool {
        let (free, reserve) = (self.free.load(Ordering::Relaxed), self.reserve.load(Ordering::Relaxed));
        free < reserve / 2 && entries.iter().any(is_of_clients)
    }

    fn note(&self, free: u64) {
        let before = self.refusal().is_some();
        self.free.store(free, Ordering::Relaxed);
        match (before, self.refusal()) {
            (false, Some(_)) => tracing::warn!(free, "the disk is short of room: writes are refused"),
            (true, None) => tracing::info!(free, "the disk has room again: writes go on"),
            _ => {}
        }
    }

    /// Looks at the disk for as long as the node lives.
    pub async fn watch(self: Arc<Room>, seams: Seams) {
        loop {
            let disk = seams.disk.clone();
            match seams.blocking(move || disk.free_bytes()).await {
                Ok(Ok(free)) => self.note(free),
                Ok(Err(e)) => tracing::warn!(error = %e, "the room on the disk is not known"),
                Err(_) => return,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Node {
    /// Sets how many bytes of the disk must stay free; below that, writes are refused. 0 is no limit.
    pub fn set_disk_reserve(&self, bytes: u64) {
        self.inner().health.room.set_reserve(bytes);
    }

    /// How much memory is in use and may be.
    pub fn memory(&self) -> &Memory {
        &self.inner().health.memory
    }

    /// Lets the next flush of the log fail, for tests.
    pub fn fail_next_flush(&self) {
        self.inner().seams.disk.fail_next_flush();
    }
}

/// Whether an entry begins with a client's command. A tick has none, and digests are the leader's own.
fn is_of_clients(entry: &Entry) -> bool {
    match &entry.payload {
        Payload::Normal(body) => {
            let first = EntryReader::new(&body.0).and_then(|mut reader| reader.next_command());
            first.map_or(true, |command| command.is_some_and(|c| !c.meta.verify))
        }
        Payload::Blank | Payload::Membership(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::LogIdRecord;
    use crate::types::Body;
    use quoris_engine::entry::{CommandMeta, EntryBuilder};
    use quoris_resp::Argv;

    fn entry(parts: &[&str]) -> Entry {
        let mut builder = EntryBuilder::default();
        if !parts.is_empty() {
            let meta = CommandMeta::default();
            builder.push(&meta, &Argv::from_parts(parts));
        }
        let log_id = LogIdRecord { term: 1, leader: 1, index: 1 }.into();
        Entry { log_id, payload: Payload::Normal(Body(builder.finish(0, 0))) }
    }

    #[test]
    fn leaders_refuse_below_the_reserve_and_followers_below_half_of_it() {
        let room = Room::default();
        assert_eq!(room.refusal(), None);
        room.set_reserve(1000);
        for (free, leader, follower) in
            [(1000, false, false), (999, true, false), (499, true, true), (1000, false, false)]
        {
            room.note(free);
            assert_eq!(room.refusal().is_some(), leader, "{free}");
            assert_eq!(room.refuses(&[entry(&[]), entry(&["SET", "a", "b"])]), follower, "{free}");
            assert!(!room.refuses(&[entry(&[])]), "ticks go on");
        }
    }
}
