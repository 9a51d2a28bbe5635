//! `quoris admin group skip`: a replica stops at what it cannot apply, and goes on when it is told to.

mod support;

use std::{path::Path, sync::mpsc};

use bytes::Bytes;
use quoris_log::{Fsync, RocksDisk};
use quoris_raft::{
    GroupId,
    record::HEAD_BYTES,
    seam::{Disk, DiskOp},
};
use quoris_resp::Reply;
use support::{Node, bulk, program};

const GROUP: GroupId = GroupId(1);

fn admin(words: &[&str], data: &Path, more: &[&str]) -> (bool, String) {
    let output = program().arg("admin").args(words).arg("--dir").arg(data).args(more).output();
    let output = output.expect("the program starts");
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.success(), text)
}

fn skip(data: &Path, index: u64) -> (bool, String) {
    let index = index.to_string();
    admin(&["group", "skip"], data, &["--group", "1", "--index", &index, "--reason", "a test"])
}

/// The index of the entry that holds a command.
fn index_of(data: &Path, command: &str) -> u64 {
    let (_, log) = admin(&["log", "dump"], data, &[]);
    let before = log.split_once(command).expect("the command is in the log").0;
    let index = before.rsplit_once("index ").and_then(|(_, rest)| rest.split(' ').next());
    index.and_then(|index| index.parse().ok()).expect("an entry has an index")
}

/// Rewrites the body of an entry on disk, as if it had been proposed like this.
fn rewrite(data: &Path, index: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let disk = RocksDisk::open(data, Fsync::Always, |why| panic!("{why}")).expect("the node is stopped");
    let entry = disk.read(GROUP, index, index + 1, 0).expect("readable").remove(0).1;
    let (head, mut body) = (entry[..HEAD_BYTES].to_vec(), entry[HEAD_BYTES..].to_vec());
    change(&mut body);
    let (done, written) = mpsc::channel();
    let op = DiskOp::Append(vec![(index, head, Bytes::from(body))]);
    disk.submit(GROUP, op, Some(Box::new(move |result| done.send(result).expect("somebody waits"))));
    written.recv().expect("an answer").expect("written");
}

#[test]
fn an_entry_that_cannot_be_applied_stops_the_node_until_it_is_skipped() {
    let mut node = Node::start(&[]);
    let log = node.data().join("node.log");
    let mut c = node.connect();
    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3")] {
        c.ok(&["SET", key, value]);
    }
    assert_eq!(node.stop(), Some(0));
    let data = node.data();
    let (unknown, cut) = (index_of(&data, "\"SET\" \"a\""), index_of(&data, "\"SET\" \"b\""));
    rewrite(&data, unknown, |body| body[0] = 9);
    rewrite(&data, cut, |body| body.truncate(body.len() - 1));

    for (index, why) in [(unknown, "entry of format 9"), (cut, "malformed entry")] {
        let said = node.fail_to_start();
        for part in
            [format!("group 1, index {index}: {why}"), format!("admin group skip --dir DIR --group 1 --index {index}")]
        {
            assert!(said.contains(&part), "{part:?} in {said}");
        }
        let (done, said) = skip(&data, index);
        assert!(done && said.contains(&format!("index {index} ")) && said.contains("only replica"), "{said}");
    }

    node.restart_with(&["--logfile", &log.to_string_lossy()]);
    let mut c = node.connect();
    assert_eq!(
        [c.call(&["GET", "a"]), c.call(&["GET", "b"]), c.call(&["GET", "c"])],
        [Reply::Null, Reply::Null, bulk("3")]
    );
    c.ok(&["SET", "a", "4"]);
    let text = std::fs::read_to_string(&log).expect("a log");
    for index in [unknown, cut] {
        let line = text.lines().find(|line| line.contains("passes over") && line.contains(&format!("index={index} ")));
        assert!(line.is_some_and(|line| line.contains("a test")), "{text}");
    }
    assert!(!skip(&data, cut).0, "the node runs");
    assert_eq!(node.stop(), Some(0));
    let (_, effects) = admin(&["log", "dump"], &data, &["--as-effects"]);
    assert!(effects.contains("$1\r\nc\r\n") && !effects.contains("$1\r\nb\r\n"), "{effects}");
}

#[test]
fn only_commands_that_are_not_applied_yet_can_be_skipped() {
    let mut node = Node::start(&[]);
    let mut c = node.connect();
    c.ok(&["SET", "a", "1"]);
    c.ok(&["SAVE"]);
    c.ok(&["SET", "b", "2"]);
    assert_eq!(node.stop(), Some(0));
    let data = node.data();
    let refused = |index, why: &str| {
        let (done, said) = skip(&data, index);
        assert!(!done && said.contains(why), "{why:?} in {said}");
    };
    refused(1_000_000, "group 1 has no entry 1000000: the log ends at ");
    refused(index_of(&data, "\"SET\" \"a\""), "is applied here already");
    let nowhere = tempfile::tempdir().expect("a folder");
    assert!(skip(nowhere.path(), 1).1.contains("is no data folder"));
    assert_eq!(std::fs::read_dir(nowhere.path()).expect("a folder").count(), 0, "nothing is made there");
    node.restart();
    node.connect().ok(&["SET", "c", "3"]);
}
