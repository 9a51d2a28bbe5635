//! Reads under a lease stay linearizable, whatever happens to connections, processes and clocks.
//!
//! `QUORIS_LEASE_ROUNDS` says how often each fault happens; the gate has few.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::cables::Cables;
use super::client::{Client, REPLY_TIME_MAX};
use super::peer::Peer;
use super::process::{Cluster, Shape};
use super::quiet::undisturbed;
use super::registers::{Registers, Seen, check};

const SHAPE: Shape = Shape { nodes: 3, groups: 1, factor: 3, settings: &[] };
/// How long clients work before a fault and after it.
const CALM: Duration = Duration::from_millis(300);
/// Longer than three read leases, shorter than an election takes without a hint.
const SHORT_PAUSE: Duration = Duration::from_millis(300);
/// Long enough for another leader.
const LONG_PAUSE: Duration = Duration::from_millis(1600);
/// What raft/lease.rs says, as a promise to the others.
const VOTE_WINDOW: Duration = Duration::from_millis(120);
const MANY_READS: u64 = 2000;

fn rounds() -> usize {
    std::env::var("QUORIS_LEASE_ROUNDS").map_or(2, |text| text.parse().expect("QUORIS_LEASE_ROUNDS is a number"))
}

/// A fault of the group's leader: the cluster, the leader, the number of the round, the clients. It gives the time
/// right before a paused leader went on.
type Fault<'a> = &'a mut dyn FnMut(&mut Cluster, usize, usize, &Registers) -> Option<u64>;

/// Runs a fault under a register workload, `rounds` times.
fn rounds_of(cluster: &mut Cluster, name: &str, fault: Fault<'_>) {
    for round in 0..rounds() {
        cluster.wait_until_ready();
        let leader = cluster.leader_of(1);
        let registers = Registers::start(cluster, &format!("{name}{round}"));
        std::thread::sleep(CALM);
        let began = registers.now();
        let woke = fault(cluster, leader, round, &registers);
        let took = (registers.now() - began) / 1_000_000;
        std::thread::sleep(CALM);
        let history = registers.stop();
        let waits = |seen: &&Seen, woke: u64| {
            let around = seen.op.called < woke && seen.op.returned.is_some_and(|returned| returned >= woke);
            seen.node == leader && !seen.op.write && around
        };
        let waited = woke.map(|woke| history.iter().filter(|seen| waits(seen, woke)).count());
        println!("{name} {round}: leader {}, {took} ms, reads in its sockets: {waited:?}", leader + 1);
        assert_ne!(waited, Some(0), "no read waited for a paused leader");
        check(&history);
    }
}

/// Stops a node for some time; gives the time right before it went on.
fn pause(cluster: &Cluster, node: usize, time: Duration, registers: &Registers) -> Option<u64> {
    cluster.signal(node, Signal::STOP);
    std::thread::sleep(time);
    let woke = registers.now();
    cluster.signal(node, Signal::CONT);
    Some(woke)
}

fn term(cluster: &mut Cluster) -> u64 {
    cluster.wait_for("a term", REPLY_TIME_MAX, |views| views.iter().filter_map(|view| Some(view.group(1)?.term)).max())
}

fn read_rounds(cluster: &mut Cluster) -> u64 {
    cluster.wait_for("counted rounds", REPLY_TIME_MAX, |views| {
        Some(views.iter().filter_map(|view| view.group(1)).map(|group| group.read_rounds).sum())
    })
}

/// Reads one by one through the leader; gives how many rounds they took.
fn rounds_of_reads(settings: &'static [&'static str]) -> u64 {
    let mut cluster = Cluster::start(Shape { settings, ..SHAPE });
    let leader = cluster.leader_of(1);
    let mut client = Client::connect(cluster.nodes[leader].port).expect("the leader is there");
    let before = read_rounds(&mut cluster);
    for _ in 0..MANY_READS {
        client.text(&["GET", "nothing"], REPLY_TIME_MAX).expect("a read is answered");
    }
    read_rounds(&mut cluster) - before
}

#[test]
fn cluster_reads_cost_no_message_under_a_lease_and_a_round_without() {
    let rounds = rounds_of_reads(&[]);
    println!("{MANY_READS} reads took {rounds} rounds");
    assert!((1..MANY_READS / 10).contains(&rounds), "{rounds} rounds");
    let rounds = rounds_of_reads(&["--read-lease", "no"]);
    assert!(rounds >= MANY_READS, "{rounds} rounds without leases");
}

/// A live leader is rejected by all its peers. It must not answer from its lease when they have another.
#[test]
fn cluster_reads_are_linearizable_when_a_live_leader_is_cut_off() {
    undisturbed(|| {
        let mut cluster = Cluster::prepare(SHAPE, &vec![String::new(); SHAPE.nodes]);
        let cables = Cables::before(&mut cluster);
        cluster.launch();
        let mut terms = Vec::new();
        rounds_of(&mut cluster, "cut", &mut |cluster, leader, _, _| {
            let before = term(cluster);
            cables.cut_off(leader);
            std::thread::sleep(LONG_PAUSE);
            cables.mend();
            cluster.wait_until_ready();
            terms.push(term(cluster) - before);
            None
        });
        println!("terms per cut: {terms:?}");
        let once = terms.iter().all(|terms| *terms <= 1);
        if once { Ok(()) } else { Err(format!("a cut costs at most one election: {terms:?}")) }
    });
}

/// A leader sleeps longer than its lease, and wakes with reads in its sockets.
#[test]
fn cluster_reads_are_linearizable_when_a_leader_is_paused() {
    let mut cluster = Cluster::start(SHAPE);
    rounds_of(&mut cluster, "pause", &mut |cluster, leader, round, registers| {
        let time = if round.is_multiple_of(2) { LONG_PAUSE } else { SHORT_PAUSE };
        pause(cluster, leader, time, registers)
    });
}

/// A voter may have helped a leader to a lease just before its process ended.
#[test]
fn cluster_follower_does_not_vote_right_after_its_start() {
    let mut cluster = Cluster::start(SHAPE);
    let leader = cluster.leader_of(1);
    let (follower, other) = ((leader + 1) % SHAPE.nodes, (leader + 2) % SHAPE.nodes);
    let hello = Peer::connect(&cluster, other).and_then(|mut peer| peer.next()).expect("a node introduces itself");
    cluster.kill(&[0, 1, 2]);
    cluster.restart(follower);
    let deadline = Instant::now() + REPLY_TIME_MAX;
    let mut too_early = None;
    let waited = loop {
        let asked = Instant::now();
        assert!(asked < deadline, "no vote within {REPLY_TIME_MAX:?}");
        match Peer::connect(&cluster, follower).and_then(|peer| peer.ask_vote(&hello, follower)) {
            Some(true) => break too_early.map(|at: Instant| at.elapsed()),
            Some(false) => panic!("a vote of a much higher term is refused"),
            None => too_early = Some(asked),
        }
    };
    let waited = waited.expect("it was asked before its replica ran");
    println!("a vote {} ms after the replica had not run", waited.as_millis());
    // The window begins when the replica runs, which is after it was asked in vain.
    assert!(waited >= VOTE_WINDOW, "{waited:?} after its start");
}

/// The library that stands in for the clocks; nothing where it is not installed.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    if found.is_none() {
        println!("skipped: libfaketime is not installed (./dev deps)");
    }
    found
}

/// Wall clocks jump an hour ahead and back, on one node after the other, while leaders pause.
#[test]
fn cluster_reads_are_linearizable_when_wall_clocks_jump() {
    let Some(library) = faketime() else { return };
    let mut cluster = Cluster::prepare(SHAPE, &vec![String::new(); SHAPE.nodes]);
    let offset = |cluster: &Cluster, at: usize, text: &str| {
        let path = cluster.nodes[at].data().with_extension("time");
        // Whole, or not at all: the node looks at it whenever it wants.
        std::fs::write(path.with_extension("next"), text).expect("a file for the clock");
        std::fs::rename(path.with_extension("next"), path).expect("a file for the clock");
    };
    for at in 0..SHAPE.nodes {
        offset(&cluster, at, "+0");
        let path = cluster.nodes[at].data().with_extension("time").display().to_string();
        cluster.nodes[at].environment = vec![
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", path),
            ("FAKETIME_NO_CACHE", "1".to_string()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_string()),
        ];
    }
    cluster.launch();
    rounds_of(&mut cluster, "jump", &mut |cluster, leader, round, registers| {
        let other = (leader + 1) % SHAPE.nodes;
        offset(cluster, leader, if round.is_multiple_of(2) { "+3600" } else { "-3600" });
        std::thread::sleep(CALM);
        offset(cluster, other, if round.is_multiple_of(2) { "-3600" } else { "+3600" });
        let woke = pause(cluster, leader, LONG_PAUSE, registers);
        let wall = wall_clock(cluster, other);
        let ahead = wall.abs_diff(wall_clock(cluster, (other + 1) % SHAPE.nodes));
        assert!(ahead > 3000, "the clocks of two nodes are {ahead} s apart");
        (0..SHAPE.nodes).for_each(|at| offset(cluster, at, "+0"));
        woke
    });
}

/// One node's clocks, all of them, run three times as fast as the others'.
#[test]
fn cluster_reads_are_linearizable_when_clocks_drift_apart_by_three() {
    let Some(library) = faketime() else { return };
    let mut cluster = Cluster::prepare(SHAPE, &vec![String::new(); SHAPE.nodes]);
    for at in 0..SHAPE.nodes {
        let factor = if at == 0 { "+0 x3" } else { "+0 x1" };
        cluster.nodes[at].environment =
            vec![("LD_PRELOAD", library.display().to_string()), ("FAKETIME", factor.to_string())];
    }
    cluster.launch();
    rounds_of(&mut cluster, "drift", &mut |cluster, leader, _, registers| {
        pause(cluster, leader, LONG_PAUSE, registers)
    });
    let up = |at: usize| info(&cluster, at, "uptime_in_seconds");
    let (fast, slow) = (up(0), up(1));
    assert!(fast >= slow * 2, "the first node is up for {fast} s of its own, the second for {slow}");
}

fn wall_clock(cluster: &Cluster, at: usize) -> u64 {
    info(cluster, at, "server_time_usec") / 1_000_000
}

fn info(cluster: &Cluster, at: usize, name: &str) -> u64 {
    let mut client = Client::connect(cluster.nodes[at].port).expect("a living node");
    let text = client.text(&["INFO", "server"], REPLY_TIME_MAX).expect("a reply").expect("a text");
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    value.expect("a line of INFO").parse().expect("a number")
}
