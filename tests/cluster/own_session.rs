//! Clients that hold their own sessions are exactly-once across connections, nodes and their deaths.
//!
//! A client here behaves as `src/docs/sessions.md` says: what has no reply is sent again under its number
//! and with the ticket that it was first sent with, through whatever node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quoris_resp::{Argv, Reply};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::client::{Client, Outcome, REPLY_TIME_MAX};
use super::kill::places;
use super::process::{Cluster, Shape};

const WITHIN: Duration = Duration::from_secs(20);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(5);
const CLIENTS: u64 = 4;
const INCREMENTS: u64 = 25_000;
const PIPELINE_MAX: u64 = 250;
/// Leaders that die meanwhile.
const KILLS: u64 = 6;

fn argv(words: &str) -> Argv {
    Argv::from_parts(&words.split_whitespace().collect::<Vec<_>>())
}

fn open(port: u16) -> String {
    let mut client = Client::connect(port).expect("the node is there");
    client.text(&["CLIENT", "SESSION", "OPEN"], REPLY_TIME_MAX).expect("a session").expect("a ticket")
}

/// One command under a number of a session.
fn send(port: u16, ticket: &str, number: u64, command: &str) -> Reply {
    let mut client = Client::connect(port).expect("the node is there");
    let commands = [argv(&format!("CLIENT SESSION USE {ticket} {number}")), argv(command)];
    client.pipeline(&commands).expect("two replies").pop().expect("the second")
}

/// A client with one counter.
struct Walker {
    ports: Vec<u16>,
    key: String,
    ticket: String,
    /// Increments whose reply has arrived.
    done: u64,
    /// Increments that were sent, under their numbers, with `ticket`.
    sent: u64,
    cuts: u64,
    progress: Arc<AtomicU64>,
    rng: Pcg64Mcg,
}

impl Walker {
    fn run(mut self) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(100);
        for turn in 0.. {
            assert!(Instant::now() < deadline, "{}: {} of {INCREMENTS} are done", self.key, self.done);
            if let Ok(client) = Client::connect(self.ports[turn % self.ports.len()]) {
                self.cuts += u64::from(self.talk(client).is_none());
            } else {
                std::thread::sleep(PAUSE);
            }
            if self.done == INCREMENTS {
                break;
            }
        }
        self.cuts
    }

    /// Pipelines over one connection, until it is cut: by the client itself, sooner or later.
    fn talk(&mut self, mut client: Client) -> Option<()> {
        for _ in 0..self.rng.random_range(1..12) {
            let count = self.rng.random_range(1..=PIPELINE_MAX).min(INCREMENTS - self.done);
            if count == 0 {
                return Some(());
            }
            let mut bytes = Vec::new();
            let head = format!("CLIENT SESSION USE {} {} COUNT {count}", self.ticket, self.done + 1);
            bytes.extend_from_slice(argv(&head).frame());
            let incr = argv(&format!("INCR {}", self.key));
            (0..count).for_each(|_| bytes.extend_from_slice(incr.frame()));
            self.sent = self.sent.max(self.done + count);
            if self.rng.random_bool(0.1) {
                let cut = self.rng.random_range(0..bytes.len());
                client.send(&bytes[..cut]).ok()?;
                return None;
            }
            client.send(&bytes).ok()?;
            let leave_after = if self.rng.random_bool(0.2) { self.rng.random_range(0..count) } else { count };
            let deadline = Instant::now() + REPLY_TIME_MAX;
            let next = client.next(deadline).ok()?;
            for _ in 0..leave_after {
                match client.next(deadline).ok()? {
                    Reply::Int(n) => assert_eq!(n.unsigned_abs(), self.done + 1, "{}", self.key),
                    Reply::Error(text) if text.starts_with(b"TIMEOUT ") || text.starts_with(b"CLUSTERDOWN ") => {
                        return None;
                    }
                    other => panic!("{} {} is answered with {other:?}", self.key, self.done + 1),
                }
                self.done += 1;
                self.progress.fetch_add(1, Ordering::Relaxed);
            }
            if leave_after < count {
                return None;
            }
            if let (true, Reply::Bulk(ticket)) = (self.done == self.sent, next) {
                self.ticket = String::from_utf8(ticket.to_vec()).expect("a ticket is text");
            }
        }
        None
    }
}

#[test]
fn cluster_own_sessions_count_exactly_over_cut_connections_and_dead_leaders() {
    let seed: u64 =
        std::env::var("QUORIS_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("QUORIS_TEST_SEED={seed}");
    let shape = Shape { nodes: 3, groups: 2, factor: 3, settings: &[] };
    let mut cluster = Cluster::start(shape);
    let places = places(&mut cluster, &shape);
    let progress = Arc::<AtomicU64>::default();
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    let walkers = (0..CLIENTS).map(|n| {
        let tag = &places[0][n as usize % 2].tag;
        let mut rng = Pcg64Mcg::seed_from_u64(seed + n);
        let ticket = open(ports[rng.random_range(0..3)]);
        let (ports, progress) = (ports.clone(), progress.clone());
        Walker { ports, key: format!("own:{tag}:{n}"), ticket, done: 0, sent: 0, cuts: 0, progress, rng }
    });
    let walkers: Vec<Walker> = walkers.collect();
    let keys: Vec<String> = walkers.iter().map(|walker| walker.key.clone()).collect();
    let began = Instant::now();
    let threads: Vec<_> = walkers.into_iter().map(|walker| std::thread::spawn(|| walker.run())).collect();
    for kill in 1..=KILLS {
        let goal = CLIENTS * INCREMENTS * kill / (KILLS + 2);
        while progress.load(Ordering::Relaxed) < goal && !threads.iter().all(|thread| thread.is_finished()) {
            std::thread::sleep(PAUSE);
        }
        let leader = cluster.leader_of(1 + kill % 2);
        cluster.kill(&[leader]);
        cluster.restart(leader);
        cluster.wait_until_ready();
        println!("{:?}: leader {} was killed behind {goal}", began.elapsed(), leader + 1);
    }
    let cuts: u64 = threads.into_iter().map(|thread| thread.join().expect("no client saw a wrong reply")).sum();
    println!("{:?}: {} increments, {cuts} connections were cut", began.elapsed(), CLIENTS * INCREMENTS);
    let mut client = Client::connect(ports[0]).expect("node 1 is there");
    for key in keys {
        assert_eq!(client.text(&["GET", &key], REPLY_TIME_MAX), Ok(Some(INCREMENTS.to_string())), "{key}");
    }
    cluster.wait_for_equal_digests(WITHIN);
}

/// Waits until the group's clock has passed a time by so many seconds.
fn wait_for_clock(port: u16, since: u64, seconds: u64) {
    let deadline = Instant::now() + WITHIN;
    while clock(port) <= since + seconds {
        assert!(Instant::now() < deadline, "the clock stands still");
        std::thread::sleep(PAUSE);
    }
}

fn clock(port: u16) -> u64 {
    let mut client = Client::connect(port).expect("the node is there");
    match client.call(&["TIME"]) {
        Outcome::Done(Reply::Array(parts)) => match &parts[0] {
            Reply::Bulk(seconds) => String::from_utf8_lossy(seconds).parse().expect("a number"),
            other => panic!("TIME gives {other:?}"),
        },
        other => panic!("TIME: {other}"),
    }
}

fn set_ttl(port: u16, seconds: u64) {
    let mut client = Client::connect(port).expect("the node is there");
    let set = client.text(&["CONFIG", "SET", "session-ttl", &seconds.to_string()], REPLY_TIME_MAX);
    assert_eq!(set, Ok(Some("OK".to_string())));
}

fn assert_unknown(reply: &Reply) {
    let text = format!("{reply:?}");
    assert!(matches!(reply, Reply::Error(text) if text.starts_with(b"UNKNOWN ")), "{text}");
}

#[test]
fn cluster_own_session_that_ended_is_unknown_and_runs_nothing_twice() {
    let mut cluster = Cluster::start(Shape { nodes: 3, groups: 1, factor: 3, settings: &["--session-ttl", "1"] });
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    let ended = open(ports[0]);
    assert_eq!(send(ports[0], &ended, 1, "INCR n"), Reply::Int(1));
    let used = clock(ports[0]);
    wait_for_clock(ports[0], used, 3);
    for port in &ports {
        assert_unknown(&send(*port, &ended, 1, "INCR n"));
    }
    // A longer time brings nothing back, and keeps what comes now.
    set_ttl(ports[1], 600);
    assert_unknown(&send(ports[1], &ended, 1, "INCR n"));
    let kept = open(ports[2]);
    assert_eq!(send(ports[2], &kept, 1, "INCR n"), Reply::Int(2));
    assert_eq!(send(ports[2], &kept, 2, "INCR n"), Reply::Int(3));
    for port in &ports {
        let mut client = Client::connect(*port).expect("the node is there");
        assert_eq!(client.text(&["SAVE"], REPLY_TIME_MAX), Ok(Some("OK".to_string())));
    }
    cluster.kill(&[0, 1, 2]);
    (0..3).for_each(|at| cluster.restart(at));
    cluster.wait_until_ready();
    cluster.wait_for("snapshots that were loaded", WITHIN, |views| {
        views.iter().flat_map(|view| &view.groups).all(|group| group.snapshot > 0).then_some(())
    });
    for port in &ports {
        assert_unknown(&send(*port, &ended, 1, "INCR n"));
        assert_unknown(&send(*port, &kept, 1, "INCR n"));
        assert_eq!(send(*port, &kept, 2, "INCR n"), Reply::Int(3));
    }
    assert_eq!(send(ports[0], &kept, 3, "INCR n"), Reply::Int(4), "nothing was executed twice");
    cluster.wait_for_equal_digests(WITHIN);
}

/// The node that a MOVED names.
fn moved_to(reply: &Reply, ports: &[u16]) -> Option<usize> {
    let Reply::Error(text) = reply else { return None };
    let text = String::from_utf8_lossy(text);
    let port = text.strip_prefix("MOVED ")?.rsplit_once(':')?.1.parse::<u16>().ok()?;
    ports.iter().position(|known| *known == port)
}

/// As a client of Redis Cluster: where MOVED points to, the same bytes.
fn send_moved(ports: &[u16], first: usize, ticket: &str, number: u64, command: &str) -> (usize, Reply) {
    let deadline = Instant::now() + WITHIN;
    let mut at = first;
    loop {
        let reply = send(ports[at], ticket, number, command);
        match moved_to(&reply, ports) {
            Some(next) => at = next,
            None => return (at, reply),
        }
        assert!(Instant::now() < deadline, "{reply:?} has no end");
    }
}

#[test]
fn cluster_own_session_keeps_its_numbers_through_moved() {
    let shape = Shape { nodes: 3, groups: 2, factor: 3, settings: &["--cluster-redirects", "yes"] };
    let mut cluster = Cluster::start(shape);
    let tags: Vec<String> = places(&mut cluster, &shape)[0].iter().map(|place| place.tag.clone()).collect();
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    let ticket = open(ports[0]);
    let incr = |tag: usize| format!("INCR n{}", tags[tag]);
    let mut led = [0; 2];
    // One row of numbers over both groups; where a number is not used is no mistake.
    for (number, group, value) in [(1, 0, 1), (2, 1, 1), (5, 0, 2), (6, 1, 2)] {
        for first in 0..3 {
            let (at, reply) = send_moved(&ports, first, &ticket, number, &incr(group));
            assert_eq!(reply, Reply::Int(value), "{number} from node {}", first + 1);
            led[group] = at;
        }
    }
    let dead = led[0];
    cluster.kill(&[dead]);
    let alive: Vec<u16> = ports.iter().copied().filter(|port| *port != ports[dead]).collect();
    let deadline = Instant::now() + WITHIN;
    let again = loop {
        // Until the others have elected, a redirection may still name the dead one.
        let reply = send(alive[0], &ticket, 5, &incr(0));
        let reply =
            if moved_to(&reply, &alive).is_some() { send_moved(&alive, 0, &ticket, 5, &incr(0)).1 } else { reply };
        if !reply.is_error() {
            break reply;
        }
        assert!(Instant::now() < deadline, "{reply:?}");
        std::thread::sleep(PAUSE);
    };
    assert_eq!(again, Reply::Int(2), "the next leader knows it");
}

#[test]
fn cluster_own_session_keeps_its_numbers_through_forwarding() {
    let shape = Shape { nodes: 3, groups: 2, factor: 3, settings: &[] };
    let mut cluster = Cluster::start(shape);
    let tags: Vec<String> = places(&mut cluster, &shape)[0].iter().map(|place| place.tag.clone()).collect();
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    let ticket = open(ports[1]);
    let commands = [
        format!("INCR n{}", tags[0]),
        format!("INCR n{}", tags[1]),
        format!("DEL n{} n{}", tags[0], tags[1]),
        format!("INCR n{}", tags[0]),
        "FLUSHALL".to_string(),
        format!("APPEND n{} x", tags[1]),
    ];
    let whole = |port: u16| {
        let head = argv(&format!("CLIENT SESSION USE {ticket} 1 COUNT {}", commands.len()));
        let all: Vec<Argv> = std::iter::once(head).chain(commands.iter().map(|command| argv(command))).collect();
        let replies = Client::connect(port).expect("the node is there").pipeline(&all).expect("all replies");
        replies[1..].to_vec()
    };
    let first = whole(ports[0]);
    assert_eq!(first, [Reply::Int(1), Reply::Int(1), Reply::Int(2), Reply::Int(1), Reply::Ok, Reply::Int(1)]);
    let leader = cluster.leader_of(1);
    (0..3).for_each(|at| assert_eq!(whole(ports[at]), first, "again through node {}", at + 1));
    cluster.kill(&[leader]);
    (0..3).filter(|at| *at != leader).for_each(|at| assert_eq!(whole(ports[at]), first, "again, node {}", at + 1));
    let mut client = Client::connect(ports[(leader + 1) % 3]).expect("the node is there");
    assert_eq!(client.text(&["GET", &format!("n{}", tags[1])], REPLY_TIME_MAX), Ok(Some("x".to_string())));
    assert_eq!(client.text(&["GET", &format!("n{}", tags[0])], REPLY_TIME_MAX), Ok(None));
}
