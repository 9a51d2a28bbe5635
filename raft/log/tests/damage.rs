//! Damaged logs: a torn end recovers, everything else is refused with a text that helps.
//!
//! A crash is a copy of the folder while it is in use: what the writes left in the files, without the
//! calls that an orderly end makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use bytes::Bytes;
use quoris_log::{Fsync, RocksDisk};
use quoris_raft::seam::{Disk, DiskOp};
use quoris_raft::types::GroupId;
use tempfile::TempDir;

const GROUP: GroupId = GroupId(3);
const ENTRY_BYTES: usize = 1000;

fn open(dir: &Path) -> std::io::Result<RocksDisk> {
    RocksDisk::open(dir, Fsync::Always, |e| panic!("{e}"))
}

/// Appends entries and waits until they are durable.
fn append(disk: &RocksDisk, indexes: std::ops::Range<u64>) {
    let entries = indexes.map(|index| (index, vec![index as u8], Bytes::from(vec![7; ENTRY_BYTES]))).collect();
    let (tx, rx) = mpsc::channel();
    disk.submit(GROUP, DiskOp::Append(entries), Some(Box::new(move |result| tx.send(result).expect("we wait"))));
    rx.recv().expect("an answer").expect("durable");
}

/// Waits until the mark in the file speaks of everything up to here.
fn wait_for_mark(dir: &Path, last: u64) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let wanted = last.to_le_bytes();
    while !fs::read(dir.join("durable")).expect("the mark").windows(8).any(|w| w == wanted) {
        assert!(std::time::Instant::now() < deadline, "no mark of index {last}");
        std::thread::yield_now();
    }
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().expect("a temporary folder");
    for folder in ["", "log", "snapshots"] {
        fs::create_dir_all(to.path().join(folder)).expect("writable");
        for file in fs::read_dir(from.join(folder)).expect("readable").map(|f| f.expect("readable").path()) {
            if file.is_file() {
                let name = file.file_name().expect("a file has a name");
                fs::copy(&file, to.path().join(folder).join(name)).expect("copied");
            }
        }
    }
    to
}

fn with_ending(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("log")).expect("readable").map(|f| f.expect("readable").path());
    files.filter(|f| f.extension().is_some_and(|e| e == ending)).collect()
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("readable");
    bytes[at] ^= 1;
    fs::write(file, bytes).expect("writable");
}

/// The file of the write-ahead log that holds the entries, and where they lie in it.
fn live_log(dir: &Path) -> (PathBuf, usize, usize) {
    let entry = vec![7u8; 100];
    let files = with_ending(dir, "log").into_iter();
    let mut found = files.filter_map(|file| {
        let bytes = fs::read(&file).expect("readable");
        let first = bytes.windows(entry.len()).position(|w| w == entry)?;
        let last = bytes.windows(entry.len()).rposition(|w| w == entry)?;
        Some((file, first, last + entry.len()))
    });
    found.next_back().expect("the entries are in the log")
}

/// The last index, if the log is whole.
fn last(dir: &Path) -> std::io::Result<Option<u64>> {
    let disk = open(dir)?;
    let records = disk.load(GROUP)?;
    Ok(records.last.map(|(index, _)| index))
}

#[test]
fn a_torn_end_recovers_and_a_flip_in_the_middle_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let disk = open(dir.path()).expect("a new folder");
    for from in (0..200).step_by(10) {
        append(&disk, from..from + 10);
    }
    wait_for_mark(dir.path(), 199);
    let before = copy(dir.path());
    append(&disk, 200..220);
    let crashed = copy(dir.path());
    drop(disk);
    // The power failed while the last append was on its way: it is torn, and the mark is the one before.
    fs::copy(before.path().join("durable"), crashed.path().join("durable")).expect("copied");
    let (file, first, end) = live_log(crashed.path());
    flip(&file, end - 5);
    assert_eq!(last(crashed.path()).expect("a torn end is no damage"), Some(199));
    // What was recovered is what the next crash leaves.
    assert_eq!(last(crashed.path()).expect("again"), Some(199));

    let (live, _, end_before) = live_log(before.path());
    assert_eq!(live.file_name(), file.file_name());
    for step in 0..8 {
        let at = first + (end_before - first) / 8 * step + 17;
        let damaged = copy(before.path());
        let (file, _, _) = live_log(damaged.path());
        flip(&file, at);
        for _ in 0..2 {
            let refusal = last(damaged.path()).expect_err("a flip in front of what was acknowledged").to_string();
            for part in [damaged.path().to_str().expect("text"), "group 3 lacks", "199", "quoris admin node replace"] {
                assert!(refusal.contains(part), "{part} is not in: {refusal}");
            }
        }
        // Nothing was changed by the refusals: the disk may be mended.
        flip(&file, at);
        assert_eq!(last(damaged.path()).expect("mended"), Some(199));
    }
}

#[test]
fn a_missing_file_of_the_log_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let disk = open(dir.path()).expect("a new folder");
    append(&disk, 0..50);
    wait_for_mark(dir.path(), 49);
    let crashed = copy(dir.path());
    let (file, _, _) = live_log(crashed.path());
    fs::remove_file(file).expect("removed");
    let refusal = last(crashed.path()).expect_err("the newest entries are gone").to_string();
    assert!(refusal.contains("group 3 lacks its entries up to index 49"), "{refusal}");
    let emptied = copy(dir.path());
    fs::remove_dir_all(emptied.path().join("log")).expect("removed");
    let refusal = last(emptied.path()).expect_err("the whole log is gone").to_string();
    assert!(refusal.contains("is missing, but this folder had one"), "{refusal}");
}

#[test]
fn a_mark_that_is_torn_in_both_places_does_not_stop_a_start() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let disk = open(dir.path()).expect("a new folder");
    append(&disk, 0..50);
    wait_for_mark(dir.path(), 49);
    let crashed = copy(dir.path());
    fs::write(crashed.path().join("durable"), [1; 300]).expect("writable");
    assert_eq!(last(crashed.path()).expect("the log itself is whole"), Some(49));
}

#[test]
fn a_log_may_shrink_by_what_a_leader_cut_off() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let disk = open(dir.path()).expect("a new folder");
    append(&disk, 0..50);
    wait_for_mark(dir.path(), 49);
    disk.submit(GROUP, DiskOp::TruncateAfter(Some(29)), None);
    append(&disk, 30..31);
    assert_eq!(last(copy(dir.path()).path()).expect("whole"), Some(30));
}

#[test]
fn a_flip_in_a_table_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    append(&open(dir.path()).expect("a new folder"), 0..200);
    // The recovery at a start moves the entries into a table.
    assert_eq!(last(dir.path()).expect("whole"), Some(199));
    let tables = with_ending(dir.path(), "sst");
    let large = tables.iter().find(|t| t.metadata().expect("there").len() > 2000).expect("a table with the entries");
    flip(large, 100);
    let refusal = last(dir.path()).expect_err("a block is damaged").to_string();
    let name = large.file_name().and_then(|n| n.to_str()).expect("text");
    for part in [name, "group 3", "quoris admin node replace"] {
        assert!(refusal.contains(part), "{part} is not in: {refusal}");
    }
}

/// Whether the log's thread writes or the one that submits changes nothing: not the order, not the mark.
#[test]
fn operations_are_written_in_order_by_whichever_thread() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let disk = open(dir.path()).expect("a new folder");
    let (tx, rx) = mpsc::channel();
    for index in 0..300_u64 {
        disk.submit_may_block(index % 7 < 4);
        let entries = vec![(index, vec![index as u8], Bytes::from(vec![7; ENTRY_BYTES]))];
        let tx = tx.clone();
        let done = move |result: std::io::Result<()>| tx.send((index, result.is_ok())).expect("we wait");
        disk.submit(GROUP, DiskOp::Append(entries), Some(Box::new(done)));
        if index % 100 == 99 {
            disk.submit(GROUP, DiskOp::TruncateAfter(Some(index)), None);
        }
    }
    let ended: Vec<(u64, bool)> = rx.iter().take(300).collect();
    assert_eq!(ended, (0..300).map(|index| (index, true)).collect::<Vec<_>>());
    disk.submit_may_block(true);
    append(&disk, 300..301);
    wait_for_mark(dir.path(), 300);
    drop(disk);
    assert_eq!(last(dir.path()).expect("whole"), Some(300));
}
