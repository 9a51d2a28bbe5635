//! What happens to keys, told while leaders die: whoever stays connected and whoever goes on behind his last cursor has
//! each event once and in its order, `expired` included, and all of it is what replaying the log gives.
//!
//! The oracle is the log of each node, replayed when the node has stopped. Events of one group are held against it as
//! a whole, those of several groups, which have no common order, key by key.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quoris_resp::Reply;

use super::client::{Client, Outcome, call, until};
use super::events::{
    Door, END, FIVE_NODES, PUBLISHERS, Shared, Sitting, THREE_NODES, by_name, depose, doors, keep_on, kills, listen,
    next_message, start_readers,
};
use super::history::{OF_KEYS, PREFIX, entries};
use super::process::{Cluster, Shape, program};

/// Everything that is told of keys.
const ALL: &str = "keys:*";
const OF_EVENTS: &str = "__keyevent@0__:";
/// Connections that listen or read.
const SUBSCRIBERS: usize = 50;
/// Writes between two deaths of a leader, at least.
const WRITES_PER_KILL: u64 = 400;
/// The last keys: enough that there are some in every group.
const ENDS: usize = 32;
const EVENT_TIME_MAX: Duration = Duration::from_secs(120);

/// What was told of keys, by group, index and number: the key and the event.
type Told = BTreeMap<(u64, u64, u64), (String, String)>;

fn place(text: &str) -> (u64, u64, u64) {
    let numbers: Vec<u64> = text.split([':', '-']).map(|n| n.parse().expect("a number")).collect();
    (numbers[0], numbers[1], numbers[2])
}

/// Adds what a node tells behind a cursor, and moves the cursor.
fn read_on(port: u16, told: &mut Told, cursor: &mut String) {
    let stream = format!("{PREFIX}{ALL}");
    loop {
        let found = entries(&call(port, &["XRANGE", &stream, cursor, "+", "COUNT", "5000"]));
        let Some((last, _)) = found.last() else { return };
        *cursor = format!("({last}");
        for (_, mut fields) in found {
            let mut field = |name: &str| fields.remove(name).expect("every event has it");
            let event = (field("key"), field("event"));
            assert_eq!(told.insert(place(&field("position")), event), None, "an event came twice");
        }
    }
}

/// What the log of a stopped node tells when it is replayed.
fn replayed(cluster: &Cluster, groups: u64, at: usize) -> Told {
    let mut told = Told::new();
    for group in 1..=groups {
        let dir = cluster.nodes[at].data();
        let mut command = Command::new(program());
        command.args(["admin", "log", "dump", "--as-events", "--group", &group.to_string(), "--to", "9999999"]);
        let output = command.arg(dir).output().expect("the program starts");
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [position, event, "db", "0", key] = words[..] else { panic!("{line}") };
            told.insert(place(position), (key.trim_matches('"').to_string(), event.to_string()));
        }
    }
    told
}

/// What keys and events came to a connection that stays until so many keys have ended.
fn stay(port: u16, by_event: bool) -> JoinHandle<Sitting> {
    let prefix = if by_event { OF_EVENTS } else { OF_KEYS };
    let mut client = listen(port, "PSUBSCRIBE", &format!("{prefix}*")).expect("it listens");
    std::thread::spawn(move || {
        let (mut sitting, mut ended) = (Sitting::new(), BTreeSet::new());
        while ended.len() < ENDS {
            let message = next_message(&mut client, Instant::now() + EVENT_TIME_MAX);
            let (channel, payload) = message.unwrap_or_else(|why| panic!("{prefix}* after {}: {why}", sitting.len()));
            let name = channel.strip_prefix(prefix).expect("it begins so").to_string();
            let (key, event) = if by_event { (payload, name) } else { (name, payload) };
            if key.starts_with(END) {
                ended.insert(key);
            } else {
                sitting.push((key, event));
            }
        }
        sitting
    })
}

/// Writes keys that live for a moment, and lists; gives the keys that were acknowledged.
fn write(doors: &[Door], name: usize, shared: &Shared) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    keep_on(doors, name, shared, |client: &mut Client, number| {
        let key = format!("key:{name}:{number}");
        let (time, list) = ((50 + number * 37 % 1500).to_string(), format!("list:{}", number % 7));
        let volatile = number % 4 > 0;
        let command = if volatile { vec!["SET", &key, "v", "PX", &time] } else { vec!["LPUSH", &list, "v"] };
        match client.call(&command) {
            Outcome::Done(_) => {
                shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                if volatile {
                    known.insert(key);
                }
                true
            }
            Outcome::Lost(_) => false,
            other => panic!("{command:?}: {other}"),
        }
    });
    known
}

/// How many keys have been written and how many have expired.
fn written_and_expired(told: &Told) -> [usize; 2] {
    let count = |what: &str| told.values().filter(|(key, event)| key.starts_with("key:") && event == what).count();
    [count("set"), count("expired")]
}

/// All that nodes tell is what their logs give; stops the cluster.
fn check_against_logs(cluster: &mut Cluster, shape: Shape, all: &Told) {
    for node in &cluster.nodes {
        let mut told = Told::new();
        read_on(node.port, &mut told, &mut "-".to_string());
        assert!(told == *all, "the node at {} tells something else", node.port);
    }
    (0..shape.nodes).for_each(|at| cluster.terminate(at));
    let groups = |told: &Told| told.keys().map(|(group, ..)| *group).collect::<BTreeSet<u64>>();
    let mut seen = BTreeSet::new();
    for at in 0..shape.nodes {
        let replayed = replayed(cluster, shape.groups as u64, at);
        let here = groups(&replayed);
        let told: Told =
            all.iter().filter(|((group, ..), _)| here.contains(group)).map(|(k, v)| (*k, v.clone())).collect();
        assert!(told == replayed, "node {}: {} events told, {} replayed", at + 1, told.len(), replayed.len());
        seen.extend(here);
    }
    assert_eq!(seen, (1..=shape.groups as u64).collect());
}

fn keys_are_told_as_the_log_has_it(shape: Shape, kills: u64) {
    let mut cluster = Cluster::start(shape);
    let (spared, doors) = (shape.nodes - 1, doors(&cluster));
    let port = doors[spared].port;
    assert_eq!(call(port, &["CONFIG", "SET", "notify-keyspace-events", "KEA"]), Reply::Ok);
    let cut = Arc::<AtomicU64>::default();
    let mut listening = start_readers(&doors, ALL, ENDS, &cut);
    let staying = SUBSCRIBERS - listening.len();
    listening.extend((0..staying).map(|number| stay(port, number % 2 == 0)));
    let shared = Arc::<Shared>::default();
    let start = |name| {
        let (doors, shared) = (doors.clone(), shared.clone());
        std::thread::spawn(move || write(&doors, name, &shared))
    };
    let writers: Vec<_> = (0..PUBLISHERS).map(start).collect();
    for kill in 1..=kills {
        until("keys are written", || {
            assert!(!writers.iter().any(JoinHandle::is_finished) && !listening.iter().any(JoinHandle::is_finished));
            shared.acknowledged.load(Ordering::Relaxed) >= kill * WRITES_PER_KILL
        });
        depose(&mut cluster, 1 + kill % shape.groups as u64, spared);
    }
    shared.done.store(true, Ordering::Relaxed);
    let known: Vec<BTreeSet<String>> = writers.into_iter().map(|w| w.join().expect("no wrong reply")).collect();

    let (mut all, mut cursor) = (Told::new(), "-".to_string());
    until("everything has expired", || {
        read_on(port, &mut all, &mut cursor);
        let [written, expired] = written_and_expired(&all);
        written == expired
    });
    let told = Sitting::from_iter(all.values().cloned());
    let of_keys = by_name(&told);
    let life = ["set", "expire", "expired"];
    assert!(of_keys.iter().all(|(key, events)| key.starts_with("list:") || events == &life), "each once, and in order");
    assert!(known.iter().flatten().all(|key| of_keys.contains_key(key)), "what was acknowledged is told");
    for end in 0..ENDS {
        assert_eq!(call(port, &["SET", &format!("{END}:{end}"), "v"]), Reply::Ok);
    }
    let acknowledged = shared.acknowledged.load(Ordering::Relaxed);
    println!("{acknowledged} writes, {} events, {SUBSCRIBERS} subscribers, {staying} stay", told.len());
    for thread in listening {
        let heard = thread.join().expect("no wrong event");
        assert!(by_name(&heard) == of_keys, "somebody heard something else: {} of {}", heard.len(), told.len());
        assert!(shape.groups > 1 || heard == told, "another order");
    }
    println!("{} resumed", cut.load(Ordering::Relaxed));
    assert!(cut.load(Ordering::Relaxed) > 0, "somebody came back");
    read_on(port, &mut all, &mut cursor);
    check_against_logs(&mut cluster, shape, &all);
}

#[test]
fn cluster_of_three_tells_of_keys_what_replaying_the_log_gives() {
    keys_are_told_as_the_log_has_it(THREE_NODES, kills(4));
}

#[test]
fn cluster_of_five_tells_of_keys_what_replaying_the_log_gives() {
    keys_are_told_as_the_log_has_it(FIVE_NODES, kills(3));
}
