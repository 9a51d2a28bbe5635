//! A replica that is not what was written, or not what the others are, is found, rebuilt and equal again.
//!
//! DEBUG FLIP-BIT damages one value of one replica beside the log: as failing memory does, or counted, as a
//! program would that computes something else than the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quoris_resp::Argv;

use super::check;
use super::client::{Client, Outcome, REPLY_TIME_MAX};
use super::load::{Load, Place};
use super::process::{Cluster, Shape};
use super::view::{GroupView, NodeView};

/// The promise.
const FOUND_TIME_MAX: Duration = Duration::from_secs(10);
const PROGRESS_TIME_MAX: Duration = Duration::from_secs(20);
const KEYS: u64 = 50_000;
/// Commands of one pipeline.
const PIPELINE: u64 = 500;
/// Between two looks or reads.
const PAUSE: Duration = Duration::from_millis(5);
const GROUP: u64 = 1;
const VICTIM: &str = "key:4711";
const RIGHT: &str = "value 4711";
/// With its first bit flipped.
const WRONG: &str = "walue 4711";

#[test]
fn cluster_finds_and_rebuilds_a_replica_with_a_flipped_bit() {
    let settings = &["--enable-debug-command", "local"];
    let mut cluster = Cluster::start(Shape { nodes: 3, groups: 1, factor: 3, settings });
    fill(&cluster);
    let places = vec![vec![Place { group: GROUP, tag: "{load}".to_string() }]; 3];
    let load = Load::start(&cluster, &places, 2);
    load.wait_for_progress(PROGRESS_TIME_MAX);
    for (counted, at_leader) in [(false, false), (true, false), (false, true), (true, true)] {
        if at_leader {
            load.forgive_unknown();
        }
        round(&mut cluster, counted, at_leader);
        load.wait_for_progress(PROGRESS_TIME_MAX);
    }
    let record = load.stop();
    let (acknowledged, unknown) = record.totals();
    println!("{acknowledged} writes acknowledged, {unknown} unknown, longest {:?}", record.pause_max);
    println!("equal digests at {:?}", cluster.wait_for_equal_digests(PROGRESS_TIME_MAX));
    let mut client = Client::connect(cluster.nodes[0].port).expect("node 1 is there");
    let wrong = check::check(&record, &mut client);
    assert!(wrong.is_empty(), "{} keys are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// There is nobody to compare with, and what is on disk is all there is.
#[test]
fn cluster_of_one_rebuilds_itself_from_its_own_disk() {
    let settings = &["--enable-debug-command", "local"];
    let mut cluster = Cluster::start(Shape { nodes: 1, groups: 1, factor: 1, settings });
    fill(&cluster);
    let mut client = Client::connect(cluster.nodes[0].port).expect("the node is there");
    assert_eq!(client.text(&["SAVE"], REPLY_TIME_MAX), Ok(Some("OK".to_string())));
    assert_eq!(client.text(&["SET", "behind", "the snapshot"], REPLY_TIME_MAX), Ok(Some("OK".to_string())));
    round(&mut cluster, false, true);
    assert_eq!(client.text(&["GET", "behind"], REPLY_TIME_MAX), Ok(Some("the snapshot".to_string())));
    assert_eq!(client.text(&["DBSIZE"], REPLY_TIME_MAX), Ok(Some((KEYS + 1).to_string())));
}

/// Damages a replica and waits until it is well again.
fn round(cluster: &mut Cluster, counted: bool, at_leader: bool) {
    cluster.wait_until_ready();
    let leader = cluster.leader_of(GROUP);
    let at = if at_leader { leader } else { (leader + 1) % cluster.nodes.len() };
    let port = cluster.nodes[at].port;
    let before = group(port).rebuilds;
    let readers: Vec<Reader> = cluster.nodes.iter().map(|node| Reader::start(node.port)).collect();
    let mut client = Client::connect(port).expect("the node is there");
    let began = Instant::now();
    let flip = &["DEBUG", "FLIP-BIT", VICTIM, "COUNTED"][..if counted { 4 } else { 3 }];
    assert_eq!(client.text(flip, REPLY_TIME_MAX), Ok(Some("OK".to_string())));
    if counted {
        // Its own snapshot is now wrong as well, unless it was found out already.
        drop(client.call(&["SAVE"]));
    }
    // Not through the cluster's views: there a digest that differs fails the test.
    while group(port).rebuilds == before {
        assert!(began.elapsed() < FOUND_TIME_MAX, "not found and rebuilt within {FOUND_TIME_MAX:?}");
        std::thread::sleep(PAUSE);
    }
    let rebuilt = began.elapsed();
    let seen: Vec<Seen> = readers.into_iter().map(Reader::stop).collect();
    cluster.wait_until_ready();
    let replicas = cluster.nodes.len();
    if replicas > 1 {
        let goal = group(port).applied;
        cluster.wait_for("a verdict on the rebuilt replica", FOUND_TIME_MAX, |views| {
            let replicas = views.iter().filter_map(|view| view.group(GROUP));
            replicas.clone().all(|group| group.verified > goal && !group.quarantined).then_some(())
        });
    }
    let wrong: u64 = seen.iter().map(|s| s.wrong).sum();
    println!("counted {counted}, at leader {at_leader}: rebuilt after {rebuilt:?}, {wrong} wrong reads, {seen:?}");
    assert_eq!(wrong > 0, at_leader, "wrong values come from the leader, until it is found out: {seen:?}");
    assert!(seen.iter().all(|s| s.right > 0 && !s.relapsed), "no wrong value once it was found out: {seen:?}");
    let digests: Vec<String> = cluster.nodes.iter().map(|node| stored(node.port)).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

fn group(port: u16) -> GroupView {
    NodeView::ask(port).expect("the node answers").group(GROUP).expect("it knows the group").clone()
}

/// What this node's own replica holds.
fn stored(port: u16) -> String {
    let mut client = Client::connect(port).expect("the node is there");
    match client.call(&["DEBUG", "DIGEST-VALUE", VICTIM]) {
        Outcome::Done(reply) => format!("{reply:?}"),
        other => panic!("{other}"),
    }
}

fn fill(cluster: &Cluster) {
    let mut client = Client::connect(cluster.nodes[0].port).expect("node 1 is there");
    for first in (0..KEYS).step_by(PIPELINE as usize) {
        let set = |n: u64| Argv::from_parts(&["SET", &format!("key:{n}"), &format!("value {n}")]);
        let commands: Vec<Argv> = (first..first + PIPELINE).map(set).collect();
        let replies = client.pipeline(&commands).expect("the node lives");
        assert!(replies.iter().all(|reply| !reply.is_error()), "{replies:?}");
    }
}

/// What a reader saw.
#[derive(Debug, Default)]
struct Seen {
    right: u64,
    wrong: u64,
    /// A wrong value behind a right one that came behind a wrong one.
    relapsed: bool,
}

/// Reads the damaged key through one node for as long as it lives.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Seen>>,
}

impl Reader {
    fn start(port: u16) -> Reader {
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut client = Client::connect(port).expect("the node is there");
            let (mut seen, mut healed) = (Seen::default(), false);
            while !stopped.load(Ordering::SeqCst) {
                match client.text(&["GET", VICTIM], REPLY_TIME_MAX) {
                    Ok(Some(value)) if value == RIGHT => {
                        seen.right += 1;
                        healed |= seen.wrong > 0;
                    }
                    Ok(Some(value)) if value == WRONG => {
                        seen.wrong += 1;
                        seen.relapsed |= healed;
                    }
                    other => panic!("GET says {other:?}"),
                }
                std::thread::sleep(PAUSE);
            }
            seen
        });
        Reader { stop, thread: Some(thread) }
    }

    fn stop(mut self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().expect("stopped once").join().expect("a reader sees right or wrong values")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}
