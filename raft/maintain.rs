//! When a replica takes a snapshot, and how much of its log it keeps behind it.
//!
//! Everything counts bytes. Up to its limit, which is that of the configuration or the size of the
//! dataset if that is larger, a log is left alone. Beyond it:
//!
//! * When more than the limit lies behind the newest snapshot, the next one is taken.
//! * What the snapshot covers is purged, but for the last `KEEP_BYTES`.
//! * A leader waits with that for its slowest follower until the log is twice as long as its limit. Then
//!   one limit of log stays, for followers that go on from the snapshot, which is what this one gets.
//!
//! Invariant: snapshots are taken only here and when somebody asks for one; a log is purged only here and
//! by the installation of a snapshot.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;

use crate::replica::Replica;
use crate::snapshot;
use crate::store::LogStore;
use crate::types::{LogId, Raft};

/// How often the size of the log is looked at.
const PAUSE: Duration = Duration::from_millis(500);
/// Log that stays behind a snapshot, unless the configured limit is small. A follower that was away for so
/// much goes on with entries that its leader has in memory: the store keeps twice as much there.
const KEEP_BYTES: u64 = 16 << 20;
/// Part of a small limit that stays instead.
const KEEP_PART: u64 = 4;
/// Limits of log that a slow or dead follower may hold.
const HELD: u64 = 2;
/// Between a snapshot that could not be written and the next.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Looks after the log as long as the replica lives.
pub(crate) async fn maintain(raft: Raft, replica: Arc<Replica>, log: LogStore, snapshot_log_bytes: u64) {
    let keep = KEEP_BYTES.min(snapshot_log_bytes / KEEP_PART);
    let mut not_before = Instant::now();
    loop {
        tokio::time::sleep(PAUSE).await;
        let settings = *replica.engine.read().keyspace().settings();
        let (bytes_max, age_ms_max) = (settings.event_bytes_max(), settings.event_age_ms_max());
        replica.retained.tidy(bytes_max, age_ms_max, replica.clock.now_ms());
        let limit = snapshot_log_bytes.max(replica.engine.read().keyspace().memory_bytes());
        if log.log_bytes() <= limit {
            continue;
        }
        let before = raft.metrics().borrow_watched().snapshot.map_or(0, |id| id.index);
        let is_due = before < log.index_leaving(limit) && Instant::now() >= not_before;
        if is_due && snapshot::trigger(&raft, &replica, |index| index > before).await.is_err() {
            not_before = Instant::now() + RETRY_AFTER;
        }
        let metrics = raft.metrics().borrow_watched().clone();
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        let slowest = metrics.replication.iter().flat_map(|r| r.values()).map(|id| index(*id)).min();
        let mut upto = index(metrics.snapshot).min(log.index_leaving(keep));
        if let Some(slowest) = slowest {
            let held = if log.log_bytes() > limit.saturating_mul(HELD) { log.index_leaving(limit) } else { 0 };
            upto = upto.min(slowest.max(held));
        }
        if upto > index(metrics.purged) && raft.trigger().purge_log(upto).await.is_ok() {
            tracing::debug!(group = replica.group.0, upto, "log purged");
        }
    }
}
