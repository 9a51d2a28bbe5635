//! SAVE and BGSAVE: at most one file is written at a time.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use crate::server::{Server, unix_ms};

#[derive(Debug)]
pub(crate) struct Saves {
    running: AtomicBool,
    pub done: AtomicU64,
    pub last_unix_s: AtomicU64,
    pub last_failed: AtomicBool,
    pub last_seconds: AtomicI64,
    /// Commands that changed something, when the last file was written.
    pub changes_before: AtomicU64,
    started_unix_s: AtomicU64,
}

impl Default for Saves {
    fn default() -> Saves {
        Saves {
            running: AtomicBool::new(false),
            done: AtomicU64::new(0),
            last_unix_s: AtomicU64::new(unix_ms() / 1000),
            last_failed: AtomicBool::new(false),
            last_seconds: AtomicI64::new(-1),
            changes_before: AtomicU64::new(0),
            started_unix_s: AtomicU64::new(0),
        }
    }
}

impl Saves {
    /// Whether a file is being written.
    pub fn is_running(&self) -> bool {
        self.running.load(Relaxed)
    }

    /// How long it has been running, in seconds; -1 when it is not.
    pub fn running_seconds(&self) -> i64 {
        if self.is_running() { (unix_ms() / 1000).saturating_sub(self.started_unix_s.load(Relaxed)) as i64 } else { -1 }
    }

    /// Claims the right to write; false when somebody else has it.
    pub fn claim(&self) -> bool {
        let claimed = self.running.compare_exchange(false, true, Relaxed, Relaxed).is_ok();
        if claimed {
            self.started_unix_s.store(unix_ms() / 1000, Relaxed);
        }
        claimed
    }
}

impl Server {
    /// Writes the file of a claimed save.
    pub(crate) async fn save_claimed(&self) -> std::io::Result<()> {
        let started = Instant::now();
        let changes = self.changes();
        let result = self.node.save().await;
        self.saves.last_failed.store(result.is_err(), Relaxed);
        self.saves.last_seconds.store(started.elapsed().as_secs() as i64, Relaxed);
        if let Err(error) = &result {
            tracing::warn!(%error, "the snapshots could not be written");
        } else {
            self.saves.last_unix_s.store(unix_ms() / 1000, Relaxed);
            self.saves.changes_before.store(changes, Relaxed);
            self.saves.done.fetch_add(1, Relaxed);
        }
        self.saves.running.store(false, Relaxed);
        result
    }

    /// Log entries of the groups that live here: what `rdb_changes_since_last_save` counts.
    pub(crate) fn changes(&self) -> u64 {
        self.node.status().groups.iter().filter(|group| group.local).map(|group| group.applied).sum()
    }
}
