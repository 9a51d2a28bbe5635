//! Queues over three nodes: who waits anywhere is served in the order of arrival, and whatever is killed, every
//! element that was pushed is taken exactly once or still there.
//!
//! Clients on nodes that live see no error. Three kinds of consumers are exact also when their own node dies:
//! BLMOVE, which leaves the element in a list, and BLPOP under the client's own session, which is sent again;
//! of a plain BLPOP at most the one element is lost that was on its way to the client.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quoris_resp::Reply;

use super::client::{Client, Outcome, PAUSE, REPLY_TIME_MAX, WITHIN, call, frame, until};
use super::process::{Cluster, Shape};

const ONE_GROUP: Shape = Shape { nodes: 3, groups: 1, factor: 3, settings: &[] };
/// Nobody waits longer for an element in these tests.
const ELEMENT_TIME_MAX: Duration = Duration::from_secs(60);
/// Leaders that die.
const KILLS: u64 = 4;
/// Elements between two of them, at least.
const ELEMENTS_PER_KILL: u64 = 800;
const CONSUMERS_PER_NODE_AND_KIND: usize = 5;

fn blocked(port: u16) -> u64 {
    let (Reply::Verbatim(_, text) | Reply::Bulk(text)) = call(port, &["INFO", "clients"]) else { panic!("no text") };
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("blocked_clients:")).expect("a count");
    line.parse().expect("a number")
}

fn deadline() -> Instant {
    Instant::now() + REPLY_TIME_MAX
}

#[test]
fn cluster_serves_who_waits_in_the_order_of_arrival_over_all_nodes() {
    let mut cluster = Cluster::start(ONE_GROUP);
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    let leader = cluster.leader_of(1);
    let mut waiting = Vec::new();
    for at in 0..9 {
        let port = ports[at % 3];
        let before = blocked(port);
        let mut client = Client::connect(port).expect("the node is there");
        client.send(&frame(&["BLPOP", "q", "0"])).expect("it reads");
        until("it waits", || blocked(port) == before + 1);
        waiting.push(client);
    }
    // One leaves, one is told to; nothing is taken for either.
    drop(waiting.remove(7));
    until("it has left", || blocked(ports[1]) == 2);
    let pushed: Vec<String> = (0..8).map(|n| n.to_string()).collect();
    for (at, element) in pushed.iter().enumerate() {
        assert_eq!(call(ports[at % 3], &["RPUSH", "q", element]), Reply::Int(1));
    }
    for (client, element) in waiting.iter_mut().zip(&pushed) {
        let reply = client.next(deadline()).expect("a reply");
        assert_eq!(reply, Reply::Array(vec![Reply::bulk("q"), Reply::bulk(element)]));
    }
    assert_eq!(call(ports[0], &["EXISTS", "q"]), Reply::Int(0));
    // Timeouts and CLIENT UNBLOCK reach whoever waits at another node's leader.
    let other = ports[(leader + 1) % 3];
    let mut client = Client::connect(other).expect("the node is there");
    let began = Instant::now();
    client.send(&frame(&["BLPOP", "q", "0.5"])).expect("it reads");
    assert_eq!(client.next(deadline()), Ok(Reply::NullArray));
    assert!((Duration::from_millis(500)..Duration::from_secs(2)).contains(&began.elapsed()), "{:?}", began.elapsed());
    let id = client.text(&["CLIENT", "ID"], REPLY_TIME_MAX).expect("an id").expect("a number");
    client.send(&frame(&["BLPOP", "q", "0"])).expect("it reads");
    until("it waits", || blocked(other) == 1);
    assert_eq!(call(other, &["CLIENT", "UNBLOCK", &id, "ERROR"]), Reply::Int(1));
    assert!(matches!(client.next(deadline()), Ok(Reply::Error(text)) if text.starts_with(b"UNBLOCKED ")));
    assert_eq!(call(other, &["RPUSH", "q", "x"]), Reply::Int(1));
    assert_eq!(call(other, &["LLEN", "q"]), Reply::Int(1));
    cluster.wait_for_equal_digests(WITHIN);
}

#[test]
fn cluster_keeps_who_waits_over_a_dead_leader_and_one_that_stops() {
    let mut cluster = Cluster::start(ONE_GROUP);
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    assert_eq!(call(ports[0], &["XADD", "s", "1-1", "f", "v"]), Reply::bulk("1-1"));
    for round in 0..2 {
        let leader = cluster.leader_of(1);
        let port = ports[(leader + 1) % 3];
        let connect = || Client::connect(port).expect("the node is there");
        let (mut one, mut reader) = (connect(), connect());
        one.send(&frame(&["BLPOP", "q", "0"])).expect("it reads");
        until("it waits", || blocked(port) == 1);
        reader.send(&frame(&["XREAD", "BLOCK", "0", "STREAMS", "s", "$"])).expect("it reads");
        until("both wait", || blocked(port) == 2);
        if round == 0 {
            cluster.kill(&[leader]);
        } else {
            cluster.terminate(leader);
        }
        let other = ports[(leader + 2) % 3];
        assert_eq!(call(other, &["RPUSH", "q", "a", "b"]), Reply::Int(2));
        assert_eq!(one.next(deadline()), Ok(Reply::Array(vec![Reply::bulk("q"), Reply::bulk("a")])));
        assert_eq!(call(other, &["LPOP", "q"]), Reply::bulk("b"));
        call(other, &["XADD", "s", "*", "f", "new"]);
        let entries = format!("{:?}", reader.next(deadline()).expect("entries"));
        assert_eq!(entries.matches("new").count(), 1, "{entries}");
        cluster.restart(leader);
        cluster.wait_until_ready();
        until("nobody waits", || ports.iter().all(|port| blocked(*port) == 0));
    }
    cluster.wait_for_equal_digests(WITHIN);
}

/// What all threads share.
#[derive(Default)]
struct Shared {
    /// No more is pushed.
    done: AtomicBool,
    /// Nobody needs to wait any longer.
    over: AtomicBool,
    pushed: AtomicU64,
}

/// A node as a thread sees it: a reply that fails counts as an error only where the node lives.
#[derive(Clone)]
struct Door {
    port: u16,
    kills: Arc<AtomicU64>,
}

impl Door {
    fn open(&self) -> Option<(Client, u64)> {
        let kills = self.kills.load(Ordering::SeqCst);
        let client = if kills.is_multiple_of(2) { Client::connect(self.port).ok() } else { None };
        if client.is_none() {
            std::thread::sleep(PAUSE);
        }
        Some((client?, kills))
    }

    /// The connection ended: nothing is wrong if the node did.
    fn lost(&self, kills: u64, why: &str) {
        let died = || self.kills.load(Ordering::SeqCst) != kills;
        until(&format!("port {}: {why}, and its node lives", self.port), died);
    }
}

/// Pushes numbered elements; gives those that were acknowledged, and those of which nobody knows.
fn produce(door: Door, name: usize, shared: Arc<Shared>) -> (Vec<String>, Vec<String>) {
    let (mut known, mut open) = (Vec::new(), Vec::new());
    let mut number = 0;
    while !shared.done.load(Ordering::Relaxed) {
        let Some((mut client, kills)) = door.open() else { continue };
        while !shared.done.load(Ordering::Relaxed) {
            number += 1;
            let element = format!("{name}:{number}");
            match client.call(&["RPUSH", "q", &element]) {
                Outcome::Done(Reply::Int(_)) => {
                    known.push(element);
                    shared.pushed.fetch_add(1, Ordering::Relaxed);
                }
                Outcome::Lost(why) => {
                    open.push(element);
                    door.lost(kills, &why);
                    break;
                }
                other => panic!("RPUSH {element}: {other}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    (known, open)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Plain,
    Move,
    Session,
}

/// What a consumer got, and how often its connection ended while it waited.
struct Got {
    kind: Kind,
    elements: Vec<String>,
    cuts: u64,
}

/// The element of a reply; nothing for a null.
fn element(reply: &Reply) -> Option<String> {
    let text = match reply {
        Reply::Array(pair) if pair.len() == 2 => &pair[1],
        other => other,
    };
    match text {
        Reply::Bulk(text) => Some(String::from_utf8_lossy(text).into_owned()),
        Reply::Null | Reply::NullArray => None,
        other => panic!("not an element: {other:?}"),
    }
}

fn consume(door: Door, kind: Kind, at: usize, shared: Arc<Shared>) -> Got {
    let mut got = Got { kind, elements: Vec::new(), cuts: 0 };
    let timeout = ["0", "0.05", "0.4"][at % 3];
    let taken = format!("taken:{at}");
    // A session's ticket, and the number of the command that has no reply yet.
    let (mut ticket, mut number) = (None, 1);
    loop {
        let Some((mut client, kills)) = door.open() else { continue };
        if kind == Kind::Session && ticket.is_none() {
            ticket = client.text(&["CLIENT", "SESSION", "OPEN"], REPLY_TIME_MAX).ok().flatten();
            if ticket.is_none() {
                continue;
            }
        }
        loop {
            if shared.over.load(Ordering::Relaxed) {
                return got;
            }
            let command = match kind {
                Kind::Move => frame(&["BLMOVE", "q", &taken, "LEFT", "RIGHT", timeout]),
                Kind::Plain | Kind::Session => frame(&["BLPOP", "q", timeout]),
            };
            let number_text = number.to_string();
            let use_session = ticket.as_ref().map(|ticket| frame(&["CLIENT", "SESSION", "USE", ticket, &number_text]));
            let sent = client.send(&[use_session.clone().unwrap_or_default(), command].concat());
            let deadline = Instant::now() + ELEMENT_TIME_MAX;
            let ticket_reply = sent.and_then(|()| use_session.map(|_| client.next(deadline)).transpose());
            match ticket_reply.and_then(|_| client.next(deadline)) {
                Ok(Reply::Error(text)) => panic!("{kind:?} {at}: {}", String::from_utf8_lossy(&text)),
                Ok(reply) => {
                    number += 1;
                    match element(&reply) {
                        Some(end) if end == "end" => return got,
                        Some(element) => got.elements.push(element),
                        None => assert_ne!(timeout, "0", "a null, and for ever is not over"),
                    }
                }
                Err(why) => {
                    got.cuts += 1;
                    door.lost(kills, &why);
                    break;
                }
            }
        }
    }
}

/// What was pushed, and perhaps pushed, against what was taken.
fn compare(port: u16, known: &[String], open: &[String], got: &[Got]) {
    let cuts = |kind| got.iter().filter(|got| got.kind == kind).map(|got| got.cuts).sum::<u64>();
    let mut taken: Vec<String> =
        got.iter().filter(|got| got.kind != Kind::Move).flat_map(|got| got.elements.clone()).collect();
    for (at, got) in got.iter().enumerate().filter(|(_, got)| got.kind == Kind::Move) {
        let Reply::Array(list) = call(port, &["LRANGE", &format!("taken:{at}"), "0", "-1"]) else { panic!("no list") };
        let list: Vec<String> = list.iter().filter_map(element).filter(|element| element != "end").collect();
        assert!(got.elements.iter().all(|element| list.contains(element)), "consumer {at}");
        taken.extend(list);
    }
    let once: BTreeSet<&String> = taken.iter().collect();
    assert_eq!(once.len(), taken.len(), "an element was taken twice");
    let missing: Vec<&String> = known.iter().filter(|element| !once.contains(element)).collect();
    println!(
        "{} elements pushed, {} perhaps, {} taken, {} missing; {} plain connections cut, {} others",
        known.len(),
        open.len(),
        taken.len(),
        missing.len(),
        cuts(Kind::Plain),
        cuts(Kind::Move) + cuts(Kind::Session)
    );
    assert!(missing.len() as u64 <= cuts(Kind::Plain), "{missing:?}");
    let allowed: BTreeSet<&String> = known.iter().chain(open).collect();
    assert!(once.iter().all(|element| allowed.contains(element)), "nothing comes from nowhere");
    assert!(cuts(Kind::Move) + cuts(Kind::Session) > 0, "nobody was cut off");
}

#[test]
fn cluster_takes_every_element_once_whatever_leader_dies() {
    let mut cluster = Cluster::start(ONE_GROUP);
    let doors: Vec<Door> =
        cluster.nodes.iter().map(|node| Door { port: node.port, kills: node.kills.clone() }).collect();
    let shared = Arc::<Shared>::default();
    let began = Instant::now();
    let producers: Vec<_> = (0..6)
        .map(|at| {
            let (door, shared) = (doors[at % 3].clone(), shared.clone());
            std::thread::spawn(move || produce(door, at, shared))
        })
        .collect();
    let kinds = [Kind::Plain, Kind::Move, Kind::Session];
    let consumers: Vec<_> = (0..3 * kinds.len() * CONSUMERS_PER_NODE_AND_KIND)
        .map(|at| {
            let (door, shared) = (doors[at % 3].clone(), shared.clone());
            std::thread::spawn(move || consume(door, kinds[at / 3 % 3], at, shared))
        })
        .collect();
    for kill in 1..=KILLS {
        while shared.pushed.load(Ordering::Relaxed) < kill * ELEMENTS_PER_KILL {
            assert!(!producers.iter().any(|p| p.is_finished()) && !consumers.iter().any(|c| c.is_finished()));
            std::thread::sleep(PAUSE);
        }
        let leader = cluster.leader_of(1);
        cluster.kill(&[leader]);
        let next = cluster.leader_of(1);
        println!("{:?}: leader {} is dead, {} leads", began.elapsed(), leader + 1, next + 1);
        cluster.restart(leader);
        cluster.wait_until_ready();
    }
    shared.done.store(true, Ordering::Relaxed);
    let (mut known, mut open) = (Vec::new(), Vec::new());
    for producer in producers {
        let (more_known, more_open) = producer.join().expect("no producer saw a wrong reply");
        known.extend(more_known);
        open.extend(more_open);
    }
    let port = doors[0].port;
    until("all is taken", || call(port, &["LLEN", "q"]) == Reply::Int(0));
    shared.over.store(true, Ordering::Relaxed);
    // Some still wait for ever.
    while !consumers.iter().all(|c| c.is_finished()) {
        if call(port, &["LLEN", "q"]) == Reply::Int(0) {
            call(port, &["RPUSH", "q", "end"]);
        }
        std::thread::sleep(PAUSE);
    }
    let got: Vec<Got> = consumers.into_iter().map(|c| c.join().expect("no consumer saw a wrong reply")).collect();
    println!("{:?} in all", began.elapsed());
    compare(port, &known, &open, &got);
    cluster.wait_for_equal_digests(WITHIN);
}
