//! The kept events of a group on a real disk: what is dropped, what survives a restart, what a leader gives back.

use std::path::Path;
use std::sync::Arc;

use quoris_engine::events::Event;
use quoris_log::{Fsync, RocksDisk};
use quoris_raft::GroupId;
use quoris_raft::feed::{Batch, Floor};
use quoris_raft::retained::Retained;
use quoris_raft::seam::{Disk, DiskOp};

const GROUP: GroupId = GroupId(3);
const MANY: u64 = 64 << 20;
const LONG_MS: u64 = 3_600_000;
const PAYLOAD_BYTES: usize = 400_000;

fn open(dir: &Path, applied: u64) -> Retained {
    let disk = RocksDisk::open(dir, Fsync::Always, |e| panic!("{e}")).expect("the folder is free");
    Retained::open(Arc::new(disk), GROUP, applied).expect("readable")
}

fn batch(index: u64, clock_ms: u64) -> Batch {
    let payload = vec![index as u8; PAYLOAD_BYTES].into();
    Batch::new(GROUP, index, clock_ms, vec![Event::Message { channel: "c".into(), payload, sharded: false }])
}

async fn indexes(kept: &Retained, mut after: u64) -> Result<Vec<u64>, Floor> {
    kept.settled().await.expect("the disk works");
    let mut all = Vec::new();
    loop {
        let page = kept.read(after).expect("readable")?;
        let Some(last) = page.last() else { return Ok(all) };
        after = last.index;
        all.extend(page.iter().map(|batch| batch.index));
    }
}

#[tokio::test]
async fn events_survive_a_restart_and_are_dropped_from_the_oldest_on() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let kept = open(dir.path(), 5);
    assert_eq!(kept.floor(), 5, "nothing is known of what was before");
    for index in 6..16 {
        kept.put(&batch(index, 1000 + index), MANY, LONG_MS);
    }
    assert_eq!(indexes(&kept, 5).await, Ok((6..16).collect()));
    assert_eq!(indexes(&kept, 4).await, Err(Floor(5)));
    let page = kept.read(9).expect("readable").expect("above the floor");
    assert_eq!((page[0].events.clone(), page[0].clock_ms), (batch(10, 0).events, 1010));
    drop(kept);
    let kept = open(dir.path(), 0);
    assert_eq!((kept.floor(), indexes(&kept, 5).await), (5, Ok((6..16).collect())));
    // An entry that is applied again is not counted again.
    let bytes = kept.figures().bytes;
    kept.put(&batch(15, 1015), MANY, LONG_MS);
    assert_eq!(kept.figures().bytes, bytes);
    kept.put(&batch(20, 1020), 6 * PAYLOAD_BYTES as u64, LONG_MS);
    let floor = kept.floor();
    assert!(floor > 5 && kept.figures().bytes <= 6 * PAYLOAD_BYTES as u64, "{:?}", kept.figures());
    assert_eq!(indexes(&kept, floor).await, Ok((floor + 1..16).chain([20]).collect()));
    kept.tidy(MANY, 1000, 3000);
    assert_eq!((kept.floor(), indexes(&kept, 20).await), (20, Ok(vec![])));
    drop(kept);
    assert_eq!(open(dir.path(), 0).floor(), 20);
}

#[tokio::test]
async fn what_a_snapshot_passed_over_comes_back_from_the_leader() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let kept = open(dir.path(), 0);
    kept.put(&batch(3, 3), MANY, LONG_MS);
    kept.reset(50);
    kept.put(&batch(60, 60), MANY, LONG_MS);
    assert_eq!((indexes(&kept, 0).await, indexes(&kept, 50).await), (Err(Floor(50)), Ok(vec![60])));
    let given: Vec<Arc<Batch>> = [20, 40].map(|index| Arc::new(batch(index, index))).into();
    assert!(!kept.backfill(49, 10, &given).await.expect("the disk works"), "it does not fit");
    assert!(kept.backfill(50, 10, &given).await.expect("the disk works"));
    // At once: what is not there yet must not be passed over.
    let page = kept.read(10).expect("readable").expect("above the floor");
    assert_eq!(page.first().map(|batch| batch.index), Some(20));
    assert_eq!(indexes(&kept, 10).await, Ok(vec![20, 40, 60]));
    assert_eq!(indexes(&kept, 9).await, Err(Floor(10)));
    drop(kept);
    let kept = open(dir.path(), 0);
    assert_eq!(indexes(&kept, 10).await, Ok(vec![20, 40, 60]));
}

#[tokio::test]
async fn nothing_is_kept_where_nothing_shall_be() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let kept = open(dir.path(), 0);
    kept.put(&batch(3, 3), 0, LONG_MS);
    assert_eq!((kept.floor(), indexes(&kept, 3).await), (3, Ok(vec![])));
}

/// The longest file of the write-ahead log.
fn longest(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir.join("log")).expect("a folder").map(|file| file.expect("a file"));
    let logs = files.filter(|file| file.path().extension().is_some_and(|end| end == "log"));
    // One may have become another since it was listed.
    logs.filter_map(|file| file.metadata().ok()).map(|data| data.len()).max().unwrap_or(0)
}

#[test]
fn entries_and_events_together_make_no_file_longer_than_those_that_were_filled() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let disk = RocksDisk::open(dir.path(), Fsync::Always, |e| panic!("{e}")).expect("the folder is free");
    let filled = longest(dir.path());
    assert!(filled > 16 << 20, "{filled} bytes were filled");
    for index in 1..200 {
        let bytes = bytes::Bytes::from(vec![index as u8; PAYLOAD_BYTES]);
        disk.submit(GROUP, DiskOp::Events(vec![(index, bytes.clone())]), None);
        let (done, is_done) = std::sync::mpsc::channel();
        let done = Box::new(move |result| done.send(result).expect("it is waited for"));
        disk.submit(GROUP, DiskOp::Append(vec![(index, vec![0], bytes)]), Some(done));
        is_done.recv().expect("an answer").expect("the disk works");
        assert!(longest(dir.path()) <= filled, "after {index} entries");
    }
}

#[test]
fn what_nobody_waits_for_is_there_in_a_moment() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let disk = RocksDisk::open(dir.path(), Fsync::Always, |e| panic!("{e}")).expect("the folder is free");
    for yes in [false, true] {
        disk.submit_may_block(yes);
        let index = 1 + u64::from(yes);
        disk.submit(GROUP, DiskOp::Events(vec![(index, b"event".as_slice().into())]), None);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while disk.events(GROUP, index - 1, 1).expect("readable").is_empty() {
            assert!(std::time::Instant::now() < deadline, "event {index} is written");
            std::thread::yield_now();
        }
    }
}
