//! One node and its disk: damaged files, failing flushes, no room.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use quoris_resp::Reply;
use support::{Connection, Node, bulk, until};

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("readable");
    bytes[at] ^= 1;
    fs::write(file, bytes).expect("writable");
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).expect("readable").map(|file| file.expect("readable").path());
    files.filter(|file| file.extension().is_some_and(|e| e == ending)).collect()
}

/// The only snapshot of group 1.
fn snapshot(node: &Node) -> PathBuf {
    let mut found = files(&node.data().join("snapshots/group-1"), "rdb");
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

/// A field of group 1 in INFO raft.
fn group_field(c: &mut Connection, name: &str) -> u64 {
    let text = c.text(&["INFO", "raft"]);
    let line = text.lines().find_map(|line| line.strip_prefix("group1:")).expect("a line of group 1");
    let field = line.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    field.expect("the field").parse().expect("a number")
}

#[test]
fn a_flipped_bit_in_front_of_acknowledged_writes_is_refused() {
    let mut node = Node::start(&[]);
    let mut c = node.connect();
    for n in 0..300 {
        c.ok(&["SET", &format!("key:{n}"), &format!("the value of number {n:05}")]);
    }
    // The mark follows the last write by 10 ms at most.
    std::thread::sleep(std::time::Duration::from_millis(30));
    node.kill();
    let wanted = b"the value of number 00150";
    let found = files(&node.data().join("log"), "log").into_iter().find_map(|file| {
        let bytes = fs::read(&file).expect("readable");
        bytes.windows(wanted.len()).position(|w| w == wanted).map(|at| (file, at))
    });
    let (file, at) = found.expect("the write is in the log");
    flip(&file, at + 3);
    for _ in 0..2 {
        let dir = node.data();
        let dir = dir.to_str().expect("text");
        assert_says(&node.fail_to_start(), &[dir, "group 1 lacks the entries from index", "quoris admin node replace"]);
    }
    flip(&file, at + 3);
    node.restart();
    assert_eq!(node.connect().call(&["GET", "key:299"]), bulk("the value of number 00299"));
}

#[test]
fn a_snapshot_that_the_log_needs_must_be_there_and_whole() {
    let mut node = Node::start(&["--snapshot-log-bytes", "1mb"]);
    let mut c = node.connect();
    let value = "v".repeat(64 << 10);
    until("the log is cut", || {
        c.ok(&["SET", "key", &value]);
        group_field(&mut c, "purged") > 0
    });
    c.ok(&["SET", "last", "1"]);
    node.kill();
    let file = snapshot(&node);
    let name = file.file_name().and_then(|n| n.to_str()).expect("text").to_string();
    let advice = "quoris admin node replace";
    // In the keys, and in the fields in front of them.
    for at in [70, file.metadata().expect("there").len() as usize / 2] {
        flip(&file, at);
        assert_says(&node.fail_to_start(), &[&name, "snapshots/group-1", "damaged", advice]);
        flip(&file, at);
    }
    let away = node.data().join("away");
    fs::rename(&file, &away).expect("moved");
    assert_says(&node.fail_to_start(), &["there is no whole snapshot", "snapshots/group-1", "one is missing", advice]);
    fs::rename(&away, &file).expect("moved");
    node.restart();
    assert_eq!(node.connect().call(&["GET", "last"]), bulk("1"));
}

#[test]
fn a_damaged_snapshot_is_passed_over_where_the_log_reaches() {
    let mut node = Node::start(&[]);
    let mut c = node.connect();
    for n in 0..100 {
        c.ok(&["SET", &format!("key:{n}"), "v"]);
    }
    c.ok(&["SAVE"]);
    c.ok(&["SET", "last", "1"]);
    node.kill();
    flip(&snapshot(&node), 100);
    node.restart();
    let mut c = node.connect();
    assert_eq!((c.call(&["DBSIZE"]), c.call(&["GET", "last"])), (Reply::Int(101), bulk("1")));
    // The next one takes its place.
    c.ok(&["SAVE"]);
    node.crash_and_restart();
    assert_eq!(node.connect().call(&["DBSIZE"]), Reply::Int(101));
}

#[test]
fn a_snapshot_that_cannot_be_written_stops_nothing_and_no_log_goes_before_it() {
    let mut node = Node::start(&["--snapshot-log-bytes", "1mb"]);
    let mut c = node.connect();
    let value = "v".repeat(64 << 10);
    c.ok(&["SET", "first", "1"]);
    // A file where the folder should be.
    let folder = node.data().join("snapshots/group-1");
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("removed");
    }
    fs::write(&folder, "").expect("written");
    assert_says(&c.error(&["SAVE"]), &["group-1"]);
    let before = group_field(&mut c, "last");
    for _ in 0..100 {
        c.ok(&["SET", "key", &value]);
    }
    assert!(group_field(&mut c, "last") >= before + 100);
    assert_says(&c.error(&["SAVE"]), &["group-1"]);
    assert_eq!(group_field(&mut c, "purged"), 0, "log is gone that no snapshot holds");
    node.kill();
    fs::remove_file(&folder).expect("removed");
    node.restart();
    let mut c = node.connect();
    assert_eq!((c.call(&["GET", "first"]), c.call(&["DBSIZE"])), (bulk("1"), Reply::Int(2)));
    until("the log is cut", || group_field(&mut c, "purged") > 0);
    node.crash_and_restart();
    assert_eq!(node.connect().call(&["GET", "first"]), bulk("1"));
}

#[test]
fn after_a_failed_fsync_nothing_is_acknowledged_and_the_process_ends() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("text");
    let text = log.to_string_lossy().into_owned();
    let mut node = Node::start(&["--enable-debug-command", "yes", "--logfile", &text]);
    let (mut c, mut other) = (node.connect(), node.connect());
    c.ok(&["SET", "a", "1"]);
    c.ok(&["DEBUG", "FAIL-FSYNC"]);
    c.send(&["SET", "a", "2"]);
    assert_eq!(c.next(), None, "a write is acknowledged that is not on the disk");
    // Others that come now or are on their way fare no better.
    let _ = std::io::Write::write_all(&mut other.stream, b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n1\r\n");
    assert_eq!(other.next(), None);
    assert_eq!(node.exit_code(), None, "it ends by a signal, at once");
    assert_says(
        &fs::read_to_string(log).expect("a log"),
        &["writing the log failed", "nothing is acknowledged any more"],
    );
    node.restart();
    assert!([bulk("1"), bulk("2")].contains(&node.connect().call(&["GET", "a"])));
}

#[test]
fn a_group_whose_raft_core_fails_ends_the_process() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("text");
    let text = log.to_string_lossy().into_owned();
    let mut node = Node::start(&["--enable-debug-command", "yes", "--logfile", &text]);
    let mut c = node.connect();
    c.ok(&["SET", "k", "1"]);
    c.ok(&["DEBUG", "FAIL-APPLY", "k"]);
    c.send(&["SET", "k", "2"]);
    assert!(c.next().is_none_or(|reply| reply.is_error()), "a write is acknowledged that was not applied");
    assert_eq!(node.exit_code(), Some(1));
    assert_says(&fs::read_to_string(log).expect("a log"), &["Raft stopped", "group 1, index", "FAIL-APPLY"]);
    // What is in the log counts; the write had no answer, so it may have got there or not.
    node.restart();
    let mut c = node.connect();
    assert!([bulk("1"), bulk("2")].contains(&c.call(&["GET", "k"])));
    c.ok(&["SET", "k", "3"]);
}

#[test]
fn below_the_reserve_writes_are_refused_and_reads_go_on() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    c.ok(&["SET", "k", "1"]);
    c.ok(&["SET", "short", "1", "PX", "300"]);
    c.ok(&["CONFIG", "SET", "disk-reserve", "1000000000000000"]);
    let error = c.error(&["SET", "k", "2"]);
    assert_says(&error, &["MISCONF The disk", "disk-reserve (1000000000000000)"]);
    assert_eq!(c.call(&["GET", "k"]), bulk("1"));
    // In one pipeline each gets what is its own.
    c.raw(b"SET k 2\r\nGET k\r\nDEL k\r\nMGET k k\r\n");
    assert!(c.reply().is_error());
    assert_eq!(c.reply(), bulk("1"));
    assert!(c.reply().is_error());
    assert_eq!(c.reply(), support::bulks(&["1", "1"]));
    c.ok(&["MULTI"]);
    assert_eq!(c.call(&["INCR", "k"]), Reply::status("QUEUED"));
    assert_says(&c.error(&["EXEC"]), &["MISCONF"]);
    until("keys still expire", || c.call(&["EXISTS", "short"]) == Reply::Int(0));
    c.ok(&["SAVE"]);
    c.ok(&["CONFIG", "SET", "disk-reserve", "0"]);
    c.ok(&["SET", "k", "2"]);
}

/// A file system of its own that goes away with the test.
struct Mount(tempfile::TempDir);

impl Mount {
    /// In memory; nothing without root.
    fn new(megabytes: u32) -> Option<Mount> {
        let dir = tempfile::tempdir().expect("a folder");
        let size = format!("size={megabytes}m");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &size, "quoris-test"]).arg(dir.path());
        let mounted = command.stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success());
        mounted.then_some(Mount(dir))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let Some(mount) = Mount::new(600) else {
        println!("skipped: a file system of its own needs root");
        return;
    };
    let (data, filler) = (mount.0.path().join("data"), mount.0.path().join("filler"));
    let mut node = Node::start(&["--dir", data.to_str().expect("text"), "--disk-reserve", "128mb"]);
    let mut c = node.connect();
    fs::write(&filler, vec![1; 200 << 20]).expect("room for it");
    // Nothing that the log could compress.
    let mut seed = 1u64;
    let mut noise = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    };
    let value: Vec<u8> = (0..1 << 20).map(|_| noise()).collect();
    let mut written = 0;
    let error = loop {
        match c.call(&[b"SET".as_slice(), format!("key:{written}").as_bytes(), &value]) {
            Reply::Ok => written += 1,
            Reply::Error(text) => break String::from_utf8_lossy(&text).into_owned(),
            other => panic!("{other:?}"),
        }
        assert!(written < 600, "more was written than fits");
    };
    println!("{written} MiB were written, then: {error}");
    assert_says(&error, &["MISCONF"]);
    assert_eq!(c.call(&["DBSIZE"]), Reply::Int(written));
    assert_eq!(c.call(&["STRLEN", "key:0"]), Reply::Int(1 << 20));
    fs::remove_file(&filler).expect("removed");
    until("there is room again", || c.call(&["SET", "after", "1"]) == Reply::Ok);
    node.crash_and_restart();
    assert_eq!(node.connect().call(&["DBSIZE"]), Reply::Int(written + 1));
}
