//! What a group's log remembers of its bytes: over appends, truncations, purges and restarts.

use std::path::Path;
use std::sync::Arc;

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::vote::RaftLeaderId;
use quoris_log::{Fsync, RocksDisk};
use quoris_raft::GroupId;
use quoris_raft::record::HEAD_BYTES;
use quoris_raft::store::LogStore;
use quoris_raft::types::{Body, Entry, LogId, Payload};

fn id(index: u64) -> LogId {
    LogId::new(RaftLeaderId::new(1, 1), index)
}

/// Opens a group of the folder.
fn open(dir: &Path) -> LogStore {
    let disk = RocksDisk::open(dir, Fsync::Always, |e| panic!("{e}")).expect("the folder is free");
    LogStore::open(Arc::new(disk), GroupId(2), Arc::default()).expect("readable")
}

/// Appends entries of `bytes` each, head included.
async fn append(log: &mut LogStore, indexes: std::ops::Range<u64>, bytes: usize) {
    let body = Body(vec![7; bytes - HEAD_BYTES].into());
    let entries = indexes.map(|index| Entry { log_id: id(index), payload: Payload::Normal(body.clone()) });
    log.append(entries.collect::<Vec<_>>(), IOFlushed::noop()).await.expect("appended");
}

/// The log's size, and what purging to leave these bytes would take away.
fn seen<const N: usize>(log: &LogStore, leaving: [u64; N]) -> (u64, [u64; N]) {
    (log.log_bytes(), leaving.map(|bytes| log.index_leaving(bytes)))
}

#[tokio::test]
async fn bytes_of_a_log_survive_restarts() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let reopened = |log: LogStore| {
        drop(log);
        open(dir.path())
    };
    let mut log = open(dir.path());
    assert_eq!(seen(&log, [0]), (0, [0]));
    append(&mut log, 0..10, 1000).await;
    append(&mut log, 10..11, 100_000).await;
    let expected = (110_000, [10, 9, 9, 8, 0]);
    assert_eq!(seen(&log, [0, 1, 100_000, 100_001, 200_000]), expected);
    let mut log = reopened(log);
    assert_eq!(seen(&log, [0, 1, 100_000, 100_001, 200_000]), expected);
    log.purge(id(4)).await.expect("purged");
    assert_eq!(seen(&log, [100_000, 105_000, 105_001]), (105_000, [9, 0, 0]));
    let mut log = reopened(log);
    assert_eq!(seen(&log, [100_000, 105_000, 105_001]), (105_000, [9, 0, 0]));
    // Nothing of this is in memory now.
    log.truncate_after(Some(id(7))).await.expect("cut off");
    assert_eq!(seen(&log, [0, 1000, 2000]), (3000, [7, 6, 5]));
    append(&mut log, 8..9, 500).await;
    let mut log = reopened(log);
    assert_eq!(seen(&log, [0, 500, 1500, 3500]), (3500, [8, 7, 6, 0]));
    log.purge(id(8)).await.expect("purged");
    assert_eq!(seen(&log, [0]), (0, [0]));
    append(&mut log, 9..10, 700).await;
    assert_eq!(seen(&log, [0, 1]), (700, [9, 0]));
    // A snapshot was installed that is ahead of the log.
    log.purge(id(50)).await.expect("purged");
    append(&mut log, 51..53, 100).await;
    assert_eq!(seen(&log, [0, 100]), (200, [52, 51]));
    assert_eq!(seen(&reopened(log), [0, 100]), (200, [52, 51]));
}
