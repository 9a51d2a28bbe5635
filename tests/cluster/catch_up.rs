//! A follower that was dead while the others went on and cut their logs gets a snapshot, under load.
//!
//! What it has then leaves as an RDB file that redis-server loads, and comes back as one that
//! redis-server wrote.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quoris_resp::{Argv, Reply};

use super::client::{Client, REPLY_TIME_MAX};
use super::process::{Cluster, Node, Shape, program};
use super::redis::{Redis, check_rdb};
use super::view::{GroupView, NodeView};

/// Writes that the follower misses.
const MISSED: u64 = 300_000;
/// Keys of each kind: 51,000 together.
const KEYS: u64 = 17_000;
/// Keys that go away during the test.
const SHORT_LIVED: u64 = 1000;
/// Commands of one pipeline.
const PIPELINE: u64 = 100;
const CLIENTS_PER_NODE: usize = 2;
const WRITES_TIME_MAX: Duration = Duration::from_secs(60);
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(30);
/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(20);
const GROUP: u64 = 1;

#[test]
fn cluster_follower_catches_up_by_snapshot_under_load() {
    let began = Instant::now();
    let say = |text: &str| println!("{:6.2} s  {text}", began.elapsed().as_secs_f64());
    let settings = &["--snapshot-log-bytes", "1048576"];
    let mut cluster = Cluster::start(Shape { nodes: 3, groups: 1, factor: 3, settings });
    let leaders = [0, GROUP].map(|group| cluster.leader_of(group));
    let follower = (0..3).find(|at| !leaders.contains(at)).expect("two groups have at most two leaders");
    let others: Vec<usize> = (0..3).filter(|at| *at != follower).collect();
    let terms = terms(&mut cluster, &others);
    say(&format!("leaders are nodes {:?}, node {} will die", leaders.map(|at| at + 1), follower + 1));

    let load = Load::start(others.iter().map(|at| &cluster.nodes[*at]));
    load.wait_for(MISSED / 10);
    cluster.kill(&[follower]);
    let has = cluster.wait_for("a leader", REPLY_TIME_MAX, |views| Some(group(views, leaders[1])?.last));
    let written = load.written();
    load.wait_for(written + MISSED);
    let purged = |views: &[NodeView]| {
        let groups: Vec<&GroupView> = others.iter().filter_map(|at| group(views, *at)).collect();
        groups.iter().all(|group| group.purged > has).then(|| groups.into_iter().map(describe).collect::<Vec<_>>())
    };
    let groups = cluster.wait_for("logs that begin behind the dead follower's end", REPLY_TIME_MAX, purged);
    let writes = load.written() - written;
    say(&format!("node {} ends at {has} or before; {writes} writes later: {}", follower + 1, groups.join("; ")));

    cluster.restart(follower);
    let written = load.written();
    let goal = cluster.wait_for("a snapshot that is installed", CATCH_UP_TIME_MAX, |views| {
        (group(views, follower)?.snapshots_installed > 0).then(|| group(views, leaders[1]).map(|g| g.applied))?
    });
    say(&format!("the follower has a snapshot, the leader is at {goal}"));
    cluster.wait_for("a follower that goes on from there", CATCH_UP_TIME_MAX, |views| {
        (group(views, follower)?.applied >= goal).then_some(())
    });
    let during = load.written() - written;
    assert!(during > 0, "nothing was written while the follower caught up");
    say(&format!("it has passed that, with {during} writes meanwhile"));
    load.stop();
    let digests = cluster.wait_for_equal_digests(CATCH_UP_TIME_MAX);
    let now = cluster.wait_for("a view", REPLY_TIME_MAX, |views| group(views, follower).cloned());
    say(&format!("equal digests at {digests:?}; {}", describe(&now)));
    assert!(now.snapshot > has, "its snapshot is at {}", now.snapshot);
    assert_eq!(self::terms(&mut cluster, &others), terms, "terms and elections of nodes that were never killed");

    dump_travels(&mut cluster, follower);
    say("the dump went to redis-server and back");
}

fn group(views: &[NodeView], at: usize) -> Option<&GroupView> {
    views.iter().find(|view| view.id == at as u64 + 1)?.group(GROUP)
}

fn describe(group: &GroupView) -> String {
    let GroupView { role, log_bytes, snapshot, purged, last, .. } = group;
    format!("{role} with a log from {purged} to {last}, {log_bytes} bytes, snapshot at {snapshot}")
}

/// Of these nodes: elections, and the terms of all groups.
fn terms(cluster: &mut Cluster, nodes: &[usize]) -> Vec<(u64, Vec<u64>)> {
    cluster.wait_for("views", REPLY_TIME_MAX, |views| {
        let views = nodes.iter().map(|at| views.iter().find(|view| view.id == *at as u64 + 1));
        views.map(|view| view.map(|v| (v.elections, v.groups.iter().map(|g| g.term).collect()))).collect()
    })
}

/// Threads that write through given nodes, many commands at a time, until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start<'a>(nodes: impl Iterator<Item = &'a Node>) -> Load {
        let mut load = Load { stop: Arc::default(), written: Arc::default(), threads: Vec::new() };
        for node in nodes {
            for _ in 0..CLIENTS_PER_NODE {
                let (stop, written, port, first) =
                    (load.stop.clone(), load.written.clone(), node.port, load.threads.len() as u64 * 1_000_000_000);
                load.threads.push(std::thread::spawn(move || {
                    let mut client = Client::connect(port).expect("the node is there");
                    for at in (first..).step_by(PIPELINE as usize) {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let commands: Vec<Argv> = (at..at + PIPELINE).map(write).collect();
                        let replies = client.pipeline(&commands).expect("the node lives");
                        let wrong = replies.iter().find(|reply| !matches!(reply, Reply::Ok | Reply::Int(_)));
                        assert!(wrong.is_none(), "{wrong:?}");
                        written.fetch_add(PIPELINE, Ordering::Relaxed);
                    }
                }));
            }
        }
        load
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn wait_for(&self, written: u64) {
        let deadline = Instant::now() + WRITES_TIME_MAX;
        while self.written() < written {
            assert!(Instant::now() < deadline, "{} of {written} writes in {WRITES_TIME_MAX:?}", self.written());
            assert!(!self.threads.iter().any(JoinHandle::is_finished), "a client has ended");
            std::thread::sleep(PAUSE);
        }
    }

    fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("no client saw an error"));
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // When the test has failed, the clients must not outlive their nodes.
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// The nth write: keys in no order, of four kinds.
fn write(n: u64) -> Argv {
    let key = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    match n % 4 {
        0 => Argv::from_parts(&["SET", &format!("s:{}", key % KEYS), &format!("value {n}"), "EX", "100000"]),
        1 => Argv::from_parts(&["INCR", &format!("n:{}", key % KEYS)]),
        2 => Argv::from_parts(&["APPEND", &format!("a:{}", key % KEYS), &format!("{n};")]),
        _ => Argv::from_parts(&["SET", &format!("soon:{}", key % SHORT_LIVED), "x", "PX", "300"]),
    }
}

/// SAVE on one node, load in redis-server, SAVE there, import here.
fn dump_travels(cluster: &mut Cluster, at: usize) {
    let node = &cluster.nodes[at];
    let mut here = Client::connect(node.port).expect("the node is there");
    let soon: Vec<String> = (0..SHORT_LIVED).map(|n| format!("soon:{n}")).collect();
    let exists = [&["EXISTS".to_string()], &soon[..]].concat();
    let deadline = Instant::now() + REPLY_TIME_MAX;
    while ask(&mut here, &exists) != "0" {
        assert!(Instant::now() < deadline, "keys outlive their time");
        std::thread::sleep(PAUSE);
    }
    assert_eq!(ask(&mut here, &["SAVE"]), "OK");
    let folder = tempfile::tempdir().expect("a folder for redis-server");
    let path = folder.path().join("dump.rdb");
    std::fs::copy(node.data().join("dump.rdb"), &path).expect("SAVE has written it");
    check_rdb(&path);
    let redis = Redis::start(folder.path());
    let mut there = redis.connect();
    assert_same_keys(&mut here, &mut there);

    let long = "long and easy to compress ".repeat(1000);
    ask(&mut there, &["SET", "long", &long]);
    ask(&mut there, &["PEXPIREAT", "n:1", "4102444800000"]);
    ask(&mut there, &["DEL", "n:2", "s:3"]);
    ask(&mut there, &["SETRANGE", "a:4", "100", "\u{1}\u{7f}"]);
    assert_eq!(ask(&mut there, &["SAVE"]), "OK");
    assert_eq!(ask(&mut here, &["FLUSHALL"]), "OK");
    import(&path, node.port);
    assert_same_keys(&mut here, &mut there);
    assert_eq!(ask(&mut here, &["GET", "long"]), long);
    assert_eq!(ask(&mut here, &["PEXPIRETIME", "n:1"]), "4102444800000");
}

fn ask<T: AsRef<[u8]>>(client: &mut Client, parts: &[T]) -> String {
    client.text(parts, REPLY_TIME_MAX).expect("a reply").unwrap_or_else(|| "(nil)".to_string())
}

/// As many keys, and some of each kind with the same values and deadlines.
fn assert_same_keys(here: &mut Client, there: &mut Client) {
    let keys: u64 = ask(here, &["DBSIZE"]).parse().expect("a number");
    assert!(keys > KEYS * 2, "{keys} keys are few");
    assert_eq!(ask(there, &["DBSIZE"]), keys.to_string());
    for key in (0..KEYS).step_by(97).flat_map(|n| ["s", "n", "a"].map(|kind| format!("{kind}:{n}"))) {
        for command in ["GET", "PEXPIRETIME"] {
            assert_eq!(ask(here, &[command, &key]), ask(there, &[command, &key]), "{command} {key}");
        }
    }
}

fn import(path: &Path, port: u16) {
    let mut command = Command::new(program());
    command.args(["admin", "import"]).arg(path).args(["--port", &port.to_string()]);
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{output:?}");
}
