//! Client-side caching over several nodes: nothing that a client keeps is older than what was acknowledged when it
//! last got an answer, whatever leader dies.
//!
//! Writers count keys up. A client that tracks keeps what it reads until it hears of a change or
//! loses its connection. Behind each answer of a group everything that it keeps of this group must be at least as
//! new as what was acknowledged before it asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quoris_resp::{Argv, Reply};
use rustix::process::Signal;

use super::client::{Client, Outcome, REPLY_TIME_MAX};
use super::process::{Cluster, Shape};

const THREE_NODES: Shape = Shape { nodes: 3, groups: 1, factor: 3, settings: &[] };
const FIVE_NODES: Shape = Shape { nodes: 5, groups: 4, factor: 3, settings: &[] };
const KEYS: usize = 16;
const PAUSE: Duration = Duration::from_millis(5);
/// Between two deaths of a leader, at least.
const WRITES_PER_KILL: u64 = 500;
const WITHIN: Duration = Duration::from_secs(60);
/// Long enough for the others to elect somebody else.
const STOPPED: Duration = Duration::from_millis(1500);

#[derive(Default)]
struct Shared {
    /// The highest number of each key that was acknowledged.
    acknowledged: [AtomicU64; KEYS],
    done: AtomicBool,
    written: AtomicU64,
    answers: AtomicU64,
    /// Values that were still good at a later answer.
    hits: AtomicU64,
    /// Connections that were told to forget everything.
    forgotten: AtomicU64,
}

/// Each key has a neighbour in the same slot, which nobody writes: reading it is asking the group.
fn key(number: usize) -> String {
    format!("{{{number}}}:value")
}

fn neighbour(number: usize) -> String {
    format!("{{{number}}}:neighbour")
}

/// Counts its keys up over any node.
fn write(ports: Vec<u16>, own: usize, of: usize, shared: Arc<Shared>) {
    let (mut number, mut turn) = (0, own);
    while !shared.done.load(Ordering::Relaxed) {
        turn += 1;
        let Ok(mut client) = Client::connect(ports[turn % ports.len()]) else {
            std::thread::sleep(PAUSE);
            continue;
        };
        while !shared.done.load(Ordering::Relaxed) {
            number += 1;
            let at = (number * of + own) % KEYS;
            match client.call(&["INCR", &key(at)]) {
                Outcome::Done(Reply::Int(n)) => {
                    shared.acknowledged[at].fetch_max(n as u64, Ordering::SeqCst);
                    shared.written.fetch_add(1, Ordering::Relaxed);
                }
                Outcome::Lost(_) | Outcome::Unknown(_) => break,
                Outcome::Refused(_) => {}
                other => panic!("INCR: {other}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What a connection keeps.
struct Kept {
    client: Client,
    values: BTreeMap<usize, u64>,
}

impl Kept {
    fn open(port: u16, mode: &[&str]) -> Result<Kept, String> {
        let mut client = Client::connect(port).map_err(|e| e.to_string())?;
        for command in [&["HELLO", "3"][..], &[&["CLIENT", "TRACKING", "ON"], mode].concat()] {
            match client.call(command) {
                Outcome::Done(_) => {}
                other => return Err(other.to_string()),
            }
        }
        Ok(Kept { client, values: BTreeMap::new() })
    }

    /// The reply to a GET; what comes before it is taken to heart. Nothing when the command failed.
    fn get(&mut self, name: &str, shared: &Shared) -> Result<Option<Reply>, String> {
        self.client.send(Argv::from_parts(&["GET", name]).frame())?;
        let deadline = Instant::now() + REPLY_TIME_MAX;
        loop {
            match self.client.next(deadline)? {
                Reply::Push(parts) => match &parts[1] {
                    Reply::Array(names) => self.values.retain(|at, _| !names.contains(&Reply::bulk(key(*at)))),
                    _ => {
                        shared.forgotten.fetch_add(1, Ordering::Relaxed);
                        self.values.clear();
                    }
                },
                Reply::Error(_) => return Ok(None),
                other => return Ok(Some(other)),
            }
        }
    }
}

/// Reads, keeps and checks until the end.
fn track(port: u16, mode: &'static [&'static str], shared: Arc<Shared>) {
    let mut random = u64::from(port);
    while !shared.done.load(Ordering::Relaxed) {
        let Ok(mut kept) = Kept::open(port, mode) else {
            std::thread::sleep(PAUSE);
            continue;
        };
        while !shared.done.load(Ordering::Relaxed) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (random >> 33) as usize % KEYS;
            let floor = shared.acknowledged[at].load(Ordering::SeqCst);
            let asks = kept.values.contains_key(&at);
            let Ok(reply) = kept.get(&if asks { neighbour(at) } else { key(at) }, &shared) else { break };
            match reply {
                None => continue,
                Some(_) if asks => {
                    shared.hits.fetch_add(u64::from(kept.values.contains_key(&at)), Ordering::Relaxed);
                }
                Some(Reply::Bulk(text)) => {
                    let value = String::from_utf8_lossy(&text).parse().expect("a number");
                    kept.values.insert(at, value);
                }
                Some(_) => {}
            }
            if let Some(value) = kept.values.get(&at) {
                assert!(*value >= floor, "{}: {value} is kept on port {port}, {floor} was acknowledged", key(at));
            }
            shared.answers.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Takes leadership of a group from whoever has it, in one way or the other.
fn depose(cluster: &mut Cluster, group: u64, gently: bool) {
    let leader = cluster.leader_of(group);
    if gently {
        cluster.signal(leader, Signal::STOP);
        std::thread::sleep(STOPPED);
        cluster.signal(leader, Signal::CONT);
    } else {
        cluster.kill(&[leader]);
        cluster.leader_of(group);
        cluster.restart(leader);
    }
    cluster.wait_until_ready();
}

fn nothing_kept_is_older_than_the_last_answer(shape: Shape, kills: u64) {
    let mut cluster = Cluster::start(shape);
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    let shared = Arc::<Shared>::default();
    let mut threads = Vec::new();
    for own in 0..2 {
        let (ports, shared) = (ports.clone(), shared.clone());
        threads.push(std::thread::spawn(move || write(ports, own, 2, shared)));
    }
    for port in ports {
        for mode in [&[][..], &["BCAST"], &["NOLOOP"]] {
            let shared = shared.clone();
            threads.push(std::thread::spawn(move || track(port, mode, shared)));
        }
    }
    for kill in 0..=kills {
        let (before, deadline) = (shared.written.load(Ordering::Relaxed), Instant::now() + WITHIN);
        while shared.written.load(Ordering::Relaxed) < before + WRITES_PER_KILL {
            assert!(!threads.iter().any(|thread| thread.is_finished()), "a thread has failed");
            assert!(Instant::now() < deadline, "nothing is written");
            std::thread::sleep(PAUSE);
        }
        if kill < kills {
            depose(&mut cluster, 1 + kill % shape.groups as u64, kill % 3 == 2);
        }
    }
    shared.done.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().expect("nothing old was kept"));
    let counts = [&shared.written, &shared.answers, &shared.hits, &shared.forgotten];
    let [written, answers, hits, forgotten] = counts.map(|count| count.load(Ordering::Relaxed));
    println!("{written} writes, {answers} answers, {hits} values stayed good, {forgotten} times all was forgotten");
    assert!(hits > answers / 10, "caching is of use: {hits} of {answers}");
}

#[test]
fn cluster_of_three_invalidates_what_is_kept() {
    nothing_kept_is_older_than_the_last_answer(THREE_NODES, 6);
}

#[test]
fn cluster_of_five_invalidates_what_is_kept_where_the_group_has_no_replica() {
    nothing_kept_is_older_than_the_last_answer(FIVE_NODES, 4);
}
