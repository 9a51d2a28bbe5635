//! Messages over several nodes: whoever stays connected gets every acknowledged one exactly once, all in one order
//! for each channel, whatever leader dies; and what happens to keys is told alike everywhere.
//!
//! One node is never killed: what its subscribers got is the order that all others are held against. A subscriber
//! whose node dies subscribes again when it is back; between two such cuts it must have a part without a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quoris_resp::Reply;
use rustix::process::Signal;

use super::client::{Client, Outcome, PAUSE, REPLY_TIME_MAX, WITHIN, call, frame, until};
use super::history::{self, How};
use super::process::{Cluster, Shape};

pub const THREE_NODES: Shape = Shape { nodes: 3, groups: 1, factor: 3, settings: &[] };
pub const FIVE_NODES: Shape = Shape { nodes: 5, groups: 4, factor: 3, settings: &[] };
/// No message keeps anybody waiting for longer.
const MESSAGE_TIME_MAX: Duration = Duration::from_secs(60);
const CHANNELS: usize = 10;
pub const PUBLISHERS: usize = 20;
/// Messages between two deaths of a leader, at least.
const MESSAGES_PER_KILL: u64 = 800;
/// Long enough for the others to elect somebody else.
const STOPPED: Duration = Duration::from_millis(1500);
/// A publisher rests so long behind a message.
const BETWEEN: Duration = Duration::from_millis(15);
pub const END: &str = "end";

/// A connection that listens by now.
pub fn listen(port: u16, command: &str, name: &str) -> Result<Client, String> {
    let mut client = Client::connect(port).map_err(|e| e.to_string())?;
    client.send(&frame(&[command, name]))?;
    match client.next(Instant::now() + REPLY_TIME_MAX)? {
        Reply::Array(parts) if parts.len() == 3 => Ok(client),
        other => Err(format!("{command} {name}: {other:?}")),
    }
}

/// Channel and payload of the next message.
pub fn next_message(client: &mut Client, deadline: Instant) -> Result<(String, String), String> {
    let reply = client.next(deadline)?;
    let Reply::Array(parts) = &reply else { return Err(format!("no message: {reply:?}")) };
    match &parts[parts.len() - 2..] {
        [Reply::Bulk(channel), Reply::Bulk(payload)] => {
            Ok((String::from_utf8_lossy(channel).into_owned(), String::from_utf8_lossy(payload).into_owned()))
        }
        _ => Err(format!("no message: {reply:?}")),
    }
}

/// What all threads share.
#[derive(Default)]
pub struct Shared {
    /// Nothing more is to be published or written.
    pub done: AtomicBool,
    over: AtomicBool,
    /// What was acknowledged so far.
    pub acknowledged: AtomicU64,
}

#[derive(Clone)]
pub struct Door {
    pub port: u16,
    kills: Arc<AtomicU64>,
}

impl Door {
    pub fn lives(&self) -> bool {
        self.kills.load(Ordering::SeqCst).is_multiple_of(2)
    }
}

/// Where the nodes of a cluster are, and whether they live.
pub fn doors(cluster: &Cluster) -> Vec<Door> {
    cluster.nodes.iter().map(|node| Door { port: node.port, kills: node.kills.clone() }).collect()
}

fn channel(number: usize) -> String {
    format!("channel:{number}")
}

/// Acts until it is done, with a rest in between: at one node until a reply is lost there, then at the next one that
/// lives. Each act has another number, and says whether there was a reply.
pub fn keep_on(doors: &[Door], name: usize, shared: &Shared, mut act: impl FnMut(&mut Client, usize) -> bool) {
    let (mut number, mut turn) = (0, name);
    while !shared.done.load(Ordering::Relaxed) {
        turn += 1;
        let door = &doors[turn % doors.len()];
        let Some(mut client) = door.lives().then(|| Client::connect(door.port).ok()).flatten() else {
            std::thread::sleep(PAUSE);
            continue;
        };
        let mut answered = true;
        while answered && !shared.done.load(Ordering::Relaxed) {
            number += 1;
            answered = act(&mut client, number);
            std::thread::sleep(BETWEEN);
        }
    }
}

/// Publishes numbered messages; gives those that were acknowledged, and those of which nobody knows.
fn publish(doors: &[Door], name: usize, shared: &Shared) -> [BTreeSet<(String, String)>; 2] {
    let mut messages = [BTreeSet::new(), BTreeSet::new()];
    keep_on(doors, name, shared, |client, number| {
        let message = (channel((name + number) % CHANNELS), format!("{name}:{number}"));
        match client.call(&["PUBLISH", &message.0, &message.1]) {
            Outcome::Done(Reply::Int(_)) => {
                shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                messages[0].insert(message)
            }
            Outcome::Lost(_) => !messages[1].insert(message),
            other => panic!("PUBLISH {message:?}: {other}"),
        }
    });
    messages
}

/// What came over one connection, in order.
pub type Sitting = Vec<(String, String)>;

/// The messages of each channel, or what happened to each key.
pub fn by_name(sitting: &[(String, String)]) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    sitting.iter().for_each(|(name, what)| all.entry(name.clone()).or_default().push(what.clone()));
    all
}

/// Listens until the end, again whenever its node dies; gives what came over each connection.
fn subscribe(
    door: Door,
    command: &'static str,
    name: String,
    ready: Arc<AtomicU64>,
    shared: Arc<Shared>,
) -> Vec<Sitting> {
    let mut sittings = Vec::new();
    while !shared.over.load(Ordering::Relaxed) {
        let Some(mut client) = door.lives().then(|| listen(door.port, command, &name).ok()).flatten() else {
            std::thread::sleep(PAUSE);
            continue;
        };
        ready.fetch_add(1, Ordering::SeqCst);
        let kills = door.kills.load(Ordering::SeqCst);
        let mut sitting = Sitting::new();
        let lost = loop {
            match next_message(&mut client, Instant::now() + MESSAGE_TIME_MAX) {
                Ok((_, payload)) if payload == END => break None,
                Ok(message) => sitting.push(message),
                Err(why) => break Some(why),
            }
        };
        sittings.push(sitting);
        let Some(why) = lost else { return sittings };
        let died = || kills % 2 == 1 || door.kills.load(Ordering::SeqCst) != kills;
        until(&format!("{command} {name} on port {}: {why}, and its node lives", door.port), died);
    }
    sittings
}

/// Takes leadership of a group from whoever has it: kills the node, or stops it for a while if it must stay.
pub fn depose(cluster: &mut Cluster, group: u64, spared: usize) {
    let leader = cluster.leader_of(group);
    if leader == spared {
        cluster.signal(leader, Signal::STOP);
        std::thread::sleep(STOPPED);
        cluster.signal(leader, Signal::CONT);
        cluster.wait_until_ready();
    } else {
        cluster.kill(&[leader]);
        cluster.leader_of(group);
        cluster.restart(leader);
        cluster.wait_until_ready();
    }
}

/// The messages of each channel in the one order that these have seen.
fn one_order(sittings: &[Sitting]) -> BTreeMap<String, Vec<String>> {
    let mut order: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for sitting in sittings {
        for (channel, payloads) in by_name(sitting) {
            let known = order.entry(channel.clone()).or_insert_with(|| payloads.clone());
            assert_eq!(*known, payloads, "{channel}: one order for all who stayed");
        }
    }
    order
}

/// Whether a cut sitting is a part of the order without a gap.
fn check_part(sitting: &Sitting, order: &BTreeMap<String, Vec<String>>) {
    for (channel, payloads) in by_name(sitting) {
        let all = &order[&channel];
        let first = all.iter().position(|payload| *payload == payloads[0]).expect("nothing comes from nowhere");
        let part = &all[first..(first + payloads.len()).min(all.len())];
        assert_eq!(part, payloads, "{channel}: a gap or a repeat");
    }
}

fn start_subscribers(doors: &[Door], shared: &Arc<Shared>) -> Vec<(usize, JoinHandle<Vec<Sitting>>)> {
    let ready = Arc::<AtomicU64>::default();
    let mut threads = Vec::new();
    for (at, door) in doors.iter().enumerate() {
        let names = (0..CHANNELS).map(|number| ("SUBSCRIBE", channel(number)));
        for (command, name) in names.chain([("PSUBSCRIBE", "channel:*".to_string())]) {
            let (door, ready, shared) = (door.clone(), ready.clone(), shared.clone());
            threads.push((at, std::thread::spawn(move || subscribe(door, command, name, ready, shared))));
        }
    }
    until("everybody listens", || ready.load(Ordering::SeqCst) == threads.len() as u64);
    threads
}

/// Those who read a stream and go on behind their last cursor whenever their node was killed, until so many names of it
/// have ended.
pub fn start_readers(
    doors: &[Door],
    stream: &'static str,
    ends: usize,
    cut: &Arc<AtomicU64>,
) -> Vec<JoinHandle<Sitting>> {
    let each = if doors.len() > 3 { 1 } else { 3 };
    let ways = [How::Read, How::Subscribe].repeat(each);
    let starts = doors.iter().flat_map(|door| ways.iter().map(move |how| (door.clone(), *how)));
    let start = |(door, how): (Door, How)| {
        let (cursor, cut) = (history::end(door.port, stream), cut.clone());
        std::thread::spawn(move || history::resume(&door, how, stream, cursor, ends, &cut))
    };
    starts.map(start).collect()
}

/// A number of leaders to kill, another one if `QUORIS_KILLS` says so: 20 in a long run.
pub fn kills(usual: u64) -> u64 {
    std::env::var("QUORIS_KILLS").map_or(usual, |text| text.parse().expect("QUORIS_KILLS is a number"))
}

fn everybody_gets_everything_once(shape: Shape, kills: u64) {
    let mut cluster = Cluster::start(shape);
    // The lowest replica that is left leads first, so the last node leads seldom.
    let spared = shape.nodes - 1;
    let doors = doors(&cluster);
    let shared = Arc::<Shared>::default();
    let cut_readers = Arc::<AtomicU64>::default();
    let readers = start_readers(&doors, history::ALL, CHANNELS, &cut_readers);
    let subscribers = start_subscribers(&doors, &shared);
    let receivers = 2 * shape.nodes as i64;
    until("all nodes know who listens", || {
        doors.iter().all(|door| call(door.port, &["PUBLISH", &channel(0), "first"]) == Reply::Int(receivers))
    });
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|name| {
            let (doors, shared) = (doors.clone(), shared.clone());
            std::thread::spawn(move || publish(&doors, name, &shared))
        })
        .collect();
    for kill in 1..=kills {
        until("messages are published", || {
            assert!(!publishers.iter().any(|p| p.is_finished()) && !subscribers.iter().any(|(_, s)| s.is_finished()));
            shared.acknowledged.load(Ordering::Relaxed) >= kill * MESSAGES_PER_KILL
        });
        depose(&mut cluster, 1 + kill % shape.groups as u64, spared);
    }
    shared.done.store(true, Ordering::Relaxed);
    let (mut known, mut open) = (BTreeSet::new(), BTreeSet::new());
    for publisher in publishers {
        let [acknowledged, perhaps] = publisher.join().expect("no publisher saw a wrong reply");
        known.extend(acknowledged);
        open.extend(perhaps);
    }
    shared.over.store(true, Ordering::Relaxed);
    while !subscribers.iter().all(|(_, s)| s.is_finished()) || !readers.iter().all(JoinHandle::is_finished) {
        (0..CHANNELS).for_each(|number| drop(call(doors[0].port, &["PUBLISH", &channel(number), END])));
        std::thread::sleep(PAUSE);
    }
    let (mut stayed, mut cut) = (Vec::new(), Vec::new());
    for (at, thread) in subscribers {
        let sittings = thread.join().expect("no subscriber saw a wrong message");
        if at == spared { stayed.extend(sittings) } else { cut.extend(sittings) }
    }
    assert_eq!(stayed.len(), CHANNELS + 1, "whose node lives stays connected");
    // The pattern ends with the first end of any channel: it has a part of the others.
    let (whole, by_pattern) = stayed.split_at(CHANNELS);
    let order = one_order(whole);
    by_pattern.iter().chain(&cut).for_each(|sitting| check_part(sitting, &order));
    for reader in readers {
        let read = reader.join().expect("no reader saw a wrong message");
        assert!(by_name(&read) == order, "who came back with his cursor has something else than who stayed");
    }
    let all: Vec<(&String, &String)> = order.iter().flat_map(|(c, all)| all.iter().map(move |p| (c, p))).collect();
    let numbered: Vec<_> = all.iter().filter(|(_, payload)| *payload != "first").collect();
    let once: BTreeSet<(String, String)> = numbered.iter().map(|(c, p)| ((*c).clone(), (*p).clone())).collect();
    assert_eq!(once.len(), numbered.len(), "a message came twice");
    let missing: Vec<_> = known.difference(&once).collect();
    assert!(missing.is_empty(), "{} of {} are missing: {missing:?}", missing.len(), known.len());
    assert!(once.iter().all(|message| known.contains(message) || open.contains(message)), "nothing from nowhere");
    let cut_readers = cut_readers.load(Ordering::Relaxed);
    println!("{} messages, {} perhaps, {} sittings cut, {cut_readers} resumed", known.len(), open.len(), cut.len());
    assert!(cut_readers > 0, "somebody came back");
    cluster.wait_for_equal_digests(WITHIN);
}

#[test]
fn cluster_of_three_delivers_every_message_once_in_one_order() {
    everybody_gets_everything_once(THREE_NODES, kills(8));
}

#[test]
fn cluster_of_five_delivers_every_message_once_in_one_order() {
    everybody_gets_everything_once(FIVE_NODES, kills(3));
}

#[test]
fn cluster_delivers_what_is_published_behind_the_confirmation_and_nothing_before() {
    let cluster = Cluster::start(FIVE_NODES);
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    let mut publishers: Vec<Client> =
        ports.iter().map(|port| Client::connect(*port).expect("the node is there")).collect();
    for round in 0..100 {
        let name = channel(round % 7);
        let mut publish = |at: usize, text: &str| match publishers[at % 5].call(&["PUBLISH", &name, text]) {
            Outcome::Done(Reply::Int(_)) => {}
            other => panic!("round {round}: {other}"),
        };
        publish(round, "before");
        let mut client = listen(ports[(round / 5) % 5], "SUBSCRIBE", &name).expect("it listens");
        publish(round + 1, "behind");
        let message = next_message(&mut client, Instant::now() + REPLY_TIME_MAX).expect("a message");
        assert_eq!(message, (name.clone(), "behind".to_string()), "round {round}");
    }
}

#[test]
fn cluster_tells_everywhere_alike_what_happens_to_keys() {
    const KEYS: usize = 200;
    const PATTERN: &str = "__keyspace@0__:*";
    let mut cluster = Cluster::start(FIVE_NODES);
    let spared = 4;
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    assert_eq!(call(ports[0], &["CONFIG", "SET", "notify-keyspace-events", "KEA"]), Reply::Ok);
    let mut listening: Vec<(usize, Client)> =
        (0..5).map(|at| (at, listen(ports[at], "PSUBSCRIBE", PATTERN).expect("it listens"))).collect();
    for key in 0..KEYS {
        let time = (50 + key * 7).to_string();
        assert_eq!(call(ports[spared], &["SET", &format!("key:{key}"), "v", "PX", &time]), Reply::Ok);
    }
    let leader = (1..=4).map(|group| cluster.leader_of(group)).find(|leader| *leader != spared).expect("three others");
    cluster.kill(&[leader]);
    listening.retain(|(at, _)| *at != leader);
    let mut told = Vec::new();
    for (at, client) in &mut listening {
        let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for n in 0..3 * KEYS {
            let (channel, event) = next_message(client, Instant::now() + WITHIN)
                .unwrap_or_else(|why| panic!("node {}, message {n}: {why}", *at + 1));
            by_key.entry(channel).or_default().push(event);
        }
        client.send(&frame(&["PUNSUBSCRIBE"])).expect("it reads");
        let Ok(Reply::Array(last)) = client.next(Instant::now() + WITHIN) else { panic!("an array") };
        assert_eq!(last[0], Reply::bulk("punsubscribe"), "no message is left");
        told.push(by_key);
    }
    assert!(told[0].values().all(|events| events == &["set", "expire", "expired"]), "{:?}", told[0]);
    assert!(told.iter().all(|by_key| by_key == &told[0]), "nodes differ");
}
