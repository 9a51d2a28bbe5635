//! Clients that write without a pause and keep a record of what they were told.
//!
//! Each thread stays with one node and has one command in flight. When its node is killed, that command
//! counts as unknown and the thread knocks until the node is back. Any error from a node that was not
//! killed is a fault.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quoris_resp::Reply;

use super::client::{Client, Outcome};
use super::process::Cluster;

/// Between two attempts to connect to a node that is down.
const KNOCK_PAUSE: Duration = Duration::from_millis(20);
/// Counters per group, shared by all threads.
const COUNTERS: u64 = 2;
/// Tokens in one string; then the next one begins, so that checking stays cheap.
const TOKENS_PER_STRING: u64 = 400;
/// Writes of every thread that count as progress.
const PROGRESS: u64 = 20;

/// A group, and a hash tag whose keys it holds.
#[derive(Clone, Debug)]
pub struct Place {
    /// The group's id.
    pub group: u64,
    /// The tag, with its braces.
    pub tag: String,
}

/// What is known about one counter.
#[derive(Debug, Default)]
pub struct Counter {
    /// Every acknowledged increment's reply.
    pub replies: Vec<i64>,
    /// Increments whose end is unknown.
    pub unknown: u64,
}

/// One write of a unique value.
#[derive(Clone, Debug)]
pub struct Write {
    /// The value or token.
    pub value: String,
    /// False when nobody knows.
    pub acknowledged: bool,
}

/// Everything that was written, by key; registers and strings have one writer each.
#[derive(Debug, Default)]
pub struct Record {
    /// INCR.
    pub counters: BTreeMap<String, Counter>,
    /// SET, in order.
    pub registers: BTreeMap<String, Vec<Write>>,
    /// APPEND, in order.
    pub strings: BTreeMap<String, Vec<Write>>,
    /// The longest that one acknowledged command took.
    pub pause_max: Duration,
}

impl Record {
    /// Takes in what others have written.
    pub fn merge(&mut self, other: Record) {
        for (key, counter) in other.counters {
            let own = self.counters.entry(key).or_default();
            own.replies.extend(counter.replies);
            own.unknown += counter.unknown;
        }
        self.registers.extend(other.registers);
        self.strings.extend(other.strings);
        self.pause_max = self.pause_max.max(other.pause_max);
    }

    /// Acknowledged and unknown writes.
    pub fn totals(&self) -> (usize, usize) {
        let writes = || self.registers.values().chain(self.strings.values()).flatten();
        let acknowledged: usize = self.counters.values().map(|counter| counter.replies.len()).sum();
        let unknown: u64 = self.counters.values().map(|counter| counter.unknown).sum();
        (
            acknowledged + writes().filter(|write| write.acknowledged).count(),
            unknown as usize + writes().filter(|write| !write.acknowledged).count(),
        )
    }
}

/// Where clients come in: a node, or a proxy.
pub struct Door {
    /// For messages.
    pub number: usize,
    /// Where they connect.
    pub port: u16,
    /// As of a node.
    pub kills: Arc<AtomicU64>,
    /// Where they write.
    pub places: Vec<Place>,
}

/// Threads that write until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    forgiving: Arc<AtomicBool>,
    faults: Arc<Mutex<Vec<String>>>,
    progress: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<Record>>,
}

impl Load {
    /// `places[n]` is where the clients of node `n` write; each node gets `per_node` of them.
    pub fn start(cluster: &Cluster, places: &[Vec<Place>], per_node: usize) -> Load {
        Load::start_on(cluster, &Vec::from_iter(0..cluster.nodes.len()), "w", places, per_node)
    }

    /// The same on some nodes only; no two loads at a time have the same prefix of their writers' names.
    pub fn start_on(cluster: &Cluster, which: &[usize], prefix: &str, places: &[Vec<Place>], per_node: usize) -> Load {
        let doors = which.iter().map(|at| Door {
            number: at + 1,
            port: cluster.nodes[*at].port,
            kills: cluster.nodes[*at].kills.clone(),
            places: places[*at].clone(),
        });
        Load::through_named(&doors.collect::<Vec<_>>(), prefix, per_node)
    }

    /// The same through any doors.
    pub fn through(doors: &[Door], per_door: usize) -> Load {
        Load::through_named(doors, "w", per_door)
    }

    /// The same; no two loads at a time have the same prefix.
    pub fn through_named(doors: &[Door], prefix: &str, per_door: usize) -> Load {
        let (stop, faults) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<String>>>::default());
        let forgiving = Arc::default();
        let mut load = Load { stop, forgiving, faults, progress: Vec::new(), threads: Vec::new() };
        for thread in 0..doors.len() * per_door {
            let door = &doors[thread % doors.len()];
            let progress = Arc::<AtomicU64>::default();
            let writer = Writer {
                name: format!("{prefix}{thread}"),
                node: door.number,
                port: door.port,
                kills: door.kills.clone(),
                places: door.places.clone(),
                stop: load.stop.clone(),
                forgiving: load.forgiving.clone(),
                faults: load.faults.clone(),
                progress: progress.clone(),
                record: Record::default(),
            };
            load.progress.push(progress);
            load.threads.push(std::thread::spawn(move || writer.run()));
        }
        load
    }

    /// Waits until every thread has written some more.
    pub fn wait_for_progress(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let goals: Vec<u64> = self.progress.iter().map(|done| done.load(Ordering::Relaxed) + PROGRESS).collect();
        while let Some(slow) =
            goals.iter().zip(&self.progress).position(|(goal, at)| at.load(Ordering::Relaxed) < *goal)
        {
            self.assert_no_fault();
            assert!(Instant::now() < deadline, "writer w{slow} does not get on within {within:?}");
            std::thread::sleep(KNOCK_PAUSE);
        }
        self.assert_no_fault();
    }

    /// From now on a write may end unknown without a kill: a leader that finds itself to be wrong says nothing
    /// more.
    pub fn forgive_unknown(&self) {
        self.forgiving.store(true, Ordering::SeqCst);
    }

    /// Fails if a client saw an error that no kill of its own node explains.
    pub fn assert_no_fault(&self) {
        let faults = self.faults.lock().expect("no writer panics").clone();
        assert!(faults.is_empty(), "clients of living nodes saw errors:\n{}", faults.join("\n"));
    }

    /// Writes of all threads that were acknowledged until now.
    pub fn written(&self) -> u64 {
        self.progress.iter().map(|done| done.load(Ordering::Relaxed)).sum()
    }

    /// Ends the threads after their current command.
    pub fn stop(mut self) -> Record {
        self.stop.store(true, Ordering::Relaxed);
        let mut record = Record::default();
        for thread in self.threads.drain(..) {
            record.merge(thread.join().expect("no writer panics"));
        }
        self.assert_no_fault();
        record
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // A failed test must not leave threads that knock at dead nodes.
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Writer {
    name: String,
    node: usize,
    port: u16,
    kills: Arc<AtomicU64>,
    places: Vec<Place>,
    stop: Arc<AtomicBool>,
    forgiving: Arc<AtomicBool>,
    faults: Arc<Mutex<Vec<String>>>,
    progress: Arc<AtomicU64>,
    record: Record,
}

impl Writer {
    fn run(mut self) -> Record {
        let mut client = None;
        for sequence in 0.. {
            while client.is_none() && !self.stop.load(Ordering::Relaxed) {
                let kills = self.kills.load(Ordering::SeqCst);
                client = Client::connect(self.port).ok().map(|client| (client, kills));
                if client.is_none() {
                    std::thread::sleep(KNOCK_PAUSE);
                }
            }
            let Some((connection, kills)) = &mut client else { break };
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let kills = *kills;
            if !self.write(connection, kills, sequence) {
                client = None;
            }
        }
        self.record
    }

    /// One write; false when the connection is lost.
    fn write(&mut self, client: &mut Client, kills: u64, sequence: u64) -> bool {
        let kinds = 3;
        let round = sequence / kinds;
        let places = self.places.len() as u64;
        let tag = self.places[(round % places) as usize].tag.clone();
        let count = round / places;
        let value = format!("{}.{sequence}", self.name);
        let began = Instant::now();
        let (outcome, key) = match sequence % kinds {
            0 => {
                let key = format!("counter:{tag}:{}", count % COUNTERS);
                (client.call(&["INCR", &key]), key)
            }
            1 => {
                let key = format!("register:{tag}:{}", self.name);
                (client.call(&["SET", &key, &value]), key)
            }
            _ => {
                let key = format!("string:{tag}:{}:{}", self.name, count / TOKENS_PER_STRING);
                (client.call(&["APPEND", &key, &format!("{value};")]), key)
            }
        };
        let (lost, acknowledged) = match &outcome {
            Outcome::Done(_) => (false, Some(true)),
            Outcome::Refused(_) => (false, None),
            Outcome::Unknown(_) => (false, Some(false)),
            Outcome::Lost(_) => (true, Some(false)),
        };
        if acknowledged == Some(true) {
            self.progress.fetch_add(1, Ordering::Relaxed);
            self.record.pause_max = self.record.pause_max.max(began.elapsed());
        } else if matches!(outcome, Outcome::Unknown(_)) && self.forgiving.load(Ordering::SeqCst) {
            // As its kind says.
        } else if !lost || (kills.is_multiple_of(2) && self.kills.load(Ordering::SeqCst) == kills) {
            let fault = format!("{} on node {}, {key}, after {:?}: {outcome}", self.name, self.node, began.elapsed());
            self.faults.lock().expect("no writer panics").push(fault);
        }
        if let Some(acknowledged) = acknowledged {
            self.remember(sequence % kinds, key, value, acknowledged, &outcome);
        }
        !lost
    }

    fn remember(&mut self, kind: u64, key: String, value: String, acknowledged: bool, outcome: &Outcome) {
        match kind {
            0 => {
                let counter = self.record.counters.entry(key).or_default();
                match outcome {
                    Outcome::Done(Reply::Int(n)) => counter.replies.push(*n),
                    Outcome::Done(other) => panic!("INCR is answered with {other:?}"),
                    _ => counter.unknown += 1,
                }
            }
            1 => self.record.registers.entry(key).or_default().push(Write { value, acknowledged }),
            _ => self.record.strings.entry(key).or_default().push(Write { value, acknowledged }),
        }
    }
}
