//! Any client works through a proxy, and through several at once, whatever leader dies behind them.

use std::time::{Duration, Instant};

use quoris_resp::{Argv, Reply};
use rustix::process::Signal;

use super::check;
use super::client::{Client, Outcome, REPLY_TIME_MAX};
use super::events::{listen, next_message};
use super::kill::places;
use super::load::{Load, Place};
use super::process::{Cluster, Shape, program};
use super::proxies::Proxy;

const WITHIN: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);
const THREE_NODES: Shape = Shape { nodes: 3, groups: 4, factor: 3, settings: &[] };
const FIVE_NODES: Shape = Shape { nodes: 5, groups: 4, factor: 3, settings: &[] };

fn done<T: AsRef<[u8]> + std::fmt::Debug>(client: &mut Client, parts: &[T]) -> Reply {
    match client.call(parts) {
        Outcome::Done(reply) => reply,
        other => panic!("{parts:?}: {other}"),
    }
}

fn refused(client: &mut Client, parts: &[&str]) -> String {
    match client.call(parts) {
        Outcome::Refused(text) => text,
        other => panic!("{parts:?}: {other}"),
    }
}

fn until(what: &str, mut ask: impl FnMut() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !ask() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(PAUSE);
    }
}

fn texts(words: &[&str]) -> Reply {
    Reply::Array(words.iter().map(Reply::bulk).collect())
}

#[test]
fn clients_of_two_proxies_lose_nothing_and_see_no_error_while_leaders_die() {
    survive(&THREE_NODES);
}

#[test]
fn clients_of_two_proxies_of_five_nodes_lose_nothing_either() {
    survive(&FIVE_NODES);
}

/// Kills the leader of each group in turn, under load through proxies alone.
fn survive(shape: &Shape) {
    let mut cluster = Cluster::start(*shape);
    let mut all: Vec<Place> = places(&mut cluster, shape).concat();
    all.sort_by_key(|place| place.group);
    all.dedup_by_key(|place| place.group);
    // Each is told of another node, and must find the rest.
    let proxies = [Proxy::of(&cluster, 0), Proxy::of(&cluster, shape.nodes - 1)];
    let doors: Vec<_> = proxies.iter().zip(1..).map(|(proxy, number)| proxy.door(number, &all)).collect();
    let load = Load::through(&doors, 3);
    load.wait_for_progress(WITHIN);
    for group in 1..=shape.groups as u64 {
        let leader = cluster.leader_of(group);
        cluster.kill(&[leader]);
        load.wait_for_progress(WITHIN);
        cluster.restart(leader);
        cluster.wait_until_ready();
        load.wait_for_progress(WITHIN);
    }
    let record = load.stop();
    let (acknowledged, unknown) = record.totals();
    println!("{acknowledged} writes, {unknown} unknown, longest pause {} ms", record.pause_max.as_millis());
    assert_eq!(unknown, 0, "no proxy died");
    cluster.wait_for_equal_digests(WITHIN);
    let wrong = check::check(&record, &mut proxies[1].connect());
    assert!(wrong.is_empty(), "{} keys are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// A leader that stops without a word: its connections stay, and nothing comes.
#[test]
fn a_leader_that_falls_silent_is_not_waited_for() {
    let mut cluster = Cluster::start(THREE_NODES);
    let proxy = Proxy::of(&cluster, 0);
    let tags = places(&mut cluster, &THREE_NODES)[0].clone();
    let mut client = proxy.connect();
    for place in &tags {
        assert_eq!(done(&mut client, &["INCR", &place.tag]), Reply::Int(1));
    }
    let leader = cluster.leader_of(tags[0].group);
    cluster.signal(leader, Signal::STOP);
    let began = Instant::now();
    for place in &tags {
        assert_eq!(done(&mut client, &["INCR", &place.tag]), Reply::Int(2), "group {}", place.group);
    }
    cluster.signal(leader, Signal::CONT);
    println!("{} ms", began.elapsed().as_millis());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    for place in &tags {
        assert_eq!(done(&mut client, &["INCR", &place.tag]), Reply::Int(3), "once each, {}", place.tag);
    }
}

#[test]
fn commands_over_several_groups_are_split_and_joined() {
    let cluster = Cluster::start(THREE_NODES);
    let proxies = [Proxy::of(&cluster, 0), Proxy::of(&cluster, 1)];
    let [mut one, mut two] = [proxies[0].connect(), proxies[1].connect()];
    let keys: Vec<String> = (0..60).map(|n| format!("k:{n:02}")).collect();
    let with = |name: &str| -> Vec<String> { [vec![name.to_string()], keys.clone()].concat() };
    for key in &keys {
        assert_eq!(done(&mut one, &["SET", key, key]), Reply::Ok);
    }
    let values: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert_eq!(done(&mut two, &with("MGET")), texts(&values));
    assert_eq!(done(&mut two, &["DBSIZE"]), Reply::Int(60));
    let (mut cursor, mut seen) = ("0".to_string(), Vec::new());
    loop {
        let Reply::Array(page) = done(&mut one, &["SCAN", &cursor, "COUNT", "7"]) else { panic!("no page") };
        let [Reply::Bulk(next), Reply::Array(some)] = &page[..] else { panic!("{page:?}") };
        seen.extend(some.iter().map(|key| format!("{key:?}")));
        cursor = String::from_utf8_lossy(next).into_owned();
        if cursor == "0" {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 60);
    assert!(matches!(done(&mut one, &["KEYS", "k:1*"]), Reply::Array(some) if some.len() == 10));
    assert_eq!(done(&mut two, &["DEL", "k:00", "k:01", "k:02", "no"]), Reply::Int(3));
    assert_eq!(done(&mut one, &with("EXISTS")), Reply::Int(57));
    assert!(refused(&mut one, &["MSET", "a", "1", "b", "2", "c", "3", "d", "4"]).starts_with("CROSSSLOT"));
    let slot = match done(&mut one, &["CLUSTER", "KEYSLOT", "k:10"]) {
        Reply::Int(slot) => slot.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(done(&mut one, &["CLUSTER", "COUNTKEYSINSLOT", &slot]), Reply::Int(1));
    assert_eq!(done(&mut one, &["CLUSTER", "GETKEYSINSLOT", &slot, "10"]), texts(&["k:10"]));
    assert_eq!(done(&mut two, &["FLUSHALL"]), Reply::Ok);
    assert_eq!(done(&mut one, &["DBSIZE"]), Reply::Int(0));
}

#[test]
fn transactions_scripts_and_waiting_go_through_proxies() {
    let cluster = Cluster::start(THREE_NODES);
    let proxies = [Proxy::of(&cluster, 0), Proxy::of(&cluster, 1)];
    let [mut one, mut two] = [proxies[0].connect(), proxies[1].connect()];
    let queued = Reply::status("QUEUED");
    assert_eq!(done(&mut one, &["WATCH", "{t}a"]), Reply::Ok);
    assert_eq!(done(&mut one, &["MULTI"]), Reply::Ok);
    assert_eq!(done(&mut one, &["INCR", "{t}a"]), queued);
    assert_eq!(done(&mut one, &["GET", "{t}b"]), queued);
    assert_eq!(done(&mut one, &["EXEC"]), Reply::Array(vec![Reply::Int(1), Reply::Null]));
    assert_eq!(done(&mut one, &["WATCH", "{t}a"]), Reply::Ok);
    assert_eq!(done(&mut two, &["SET", "{t}a", "7"]), Reply::Ok);
    assert_eq!(done(&mut one, &["MULTI"]), Reply::Ok);
    assert_eq!(done(&mut one, &["INCR", "{t}a"]), queued);
    assert!(done(&mut one, &["EXEC"]).is_null(), "the other proxy's client was first");
    let script = "return redis.call('INCRBY', KEYS[1], ARGV[1])";
    assert_eq!(done(&mut one, &["EVAL", script, "1", "{t}a", "3"]), Reply::Int(10));
    let Reply::Bulk(sha) = done(&mut one, &["SCRIPT", "LOAD", "return KEYS[1]"]) else { panic!("no sha") };
    let sha = String::from_utf8_lossy(&sha).into_owned();
    assert_eq!(done(&mut two, &["EVALSHA", &sha, "1", "x"]), Reply::bulk("x"));
    // Who waits at one proxy is fed through the other, first come first served.
    for list in ["list:1", "list:2", "list:3", "list:4"] {
        one.send(Argv::from_parts(&["BLPOP", list, "0"]).frame()).expect("sent");
        until("the proxy waits", || {
            let info = two.text(&["INFO", "clients"], REPLY_TIME_MAX).expect("INFO").unwrap_or_default();
            let other = proxies[0].connect().text(&["INFO", "clients"], REPLY_TIME_MAX).expect("INFO");
            !info.contains("blocked_clients:1") && other.unwrap_or_default().contains("blocked_clients:1")
        });
        assert_eq!(done(&mut two, &["RPUSH", list, "v"]), Reply::Int(1));
        assert_eq!(one.next(Instant::now() + WITHIN), Ok(texts(&[list, "v"])));
    }
    assert!(done(&mut one, &["BLPOP", "list:1", "0.05"]).is_null());
}

#[test]
fn a_session_of_a_client_goes_on_at_another_proxy() {
    let cluster = Cluster::start(THREE_NODES);
    let mut proxies = vec![Proxy::of(&cluster, 0), Proxy::of(&cluster, 1)];
    let mut one = proxies[0].connect();
    let Reply::Bulk(ticket) = done(&mut one, &["CLIENT", "SESSION", "OPEN"]) else { panic!("no ticket") };
    let ticket = String::from_utf8_lossy(&ticket).into_owned();
    let run = |client: &mut Client| {
        let commands = [
            Argv::from_parts(&["CLIENT", "SESSION", "USE", &ticket, "1", "COUNT", "2"]),
            Argv::from_parts(&["INCR", "a"]),
            Argv::from_parts(&["INCR", "b"]),
        ];
        client.pipeline(&commands).expect("three replies").split_off(1)
    };
    assert_eq!(run(&mut one), [Reply::Int(1), Reply::Int(1)]);
    drop(proxies.remove(0));
    assert_eq!(run(&mut proxies[0].connect()), [Reply::Int(1), Reply::Int(1)], "sent again, executed once");
}

#[test]
fn messages_reach_whoever_listens_and_all_are_counted() {
    let mut cluster = Cluster::start(FIVE_NODES);
    let proxies = [Proxy::of(&cluster, 0), Proxy::of(&cluster, 1)];
    let ports = [proxies[0].port, proxies[1].port, cluster.nodes[4].port];
    let mut listeners = Vec::new();
    for port in ports {
        for (command, name) in [("SUBSCRIBE", "news"), ("PSUBSCRIBE", "n*"), ("SSUBSCRIBE", "shard")] {
            listeners.push(listen(port, command, name).expect("it listens"));
        }
    }
    let mut clients = ports.map(|port| Client::connect(port).expect("it is there"));
    let publish = |clients: &mut [Client; 3], n: usize, channel: &str| {
        let command = if channel == "shard" { "SPUBLISH" } else { "PUBLISH" };
        done(&mut clients[n % 3], &[command, channel, &n.to_string()])
    };
    // A count of other doors is a moment old.
    let counted = |clients: &mut [Client; 3], channel: &str, count: i64| {
        for n in 0..3 {
            until("all are counted", || publish(clients, n, channel) == Reply::Int(count));
        }
    };
    counted(&mut clients, "news", 6);
    counted(&mut clients, "shard", 3);
    for client in &mut clients {
        assert_eq!(done(client, &["PUBSUB", "CHANNELS"]), texts(&["news"]));
        assert_eq!(done(client, &["PUBSUB", "NUMPAT"]), Reply::Int(1));
    }
    // The nodes that told the proxies of each other may die.
    for at in 0..2 {
        cluster.kill(&[at]);
        cluster.restart(at);
        cluster.wait_until_ready();
    }
    counted(&mut clients, "news", 6);
    assert_eq!(publish(&mut clients, 0, "end"), Reply::Int(0));
    done(&mut clients[1], &["PUBLISH", "news", "last"]);
    let deadline = Instant::now() + WITHIN;
    let [mut first, mut second] = [listeners.remove(0), listeners.remove(2)];
    let all = |client: &mut Client| {
        let mut got = Vec::new();
        while got.last().is_none_or(|last| last != "last") {
            got.push(next_message(client, deadline).expect("a message").1);
        }
        got
    };
    assert_eq!(all(&mut first), all(&mut second), "one order, no gap and no repeat at either proxy");
    drop((listeners, first, second));
    counted(&mut clients, "news", 0);
}

#[test]
fn a_proxy_shows_itself_and_refuses_what_needs_data() {
    let cluster = Cluster::start(THREE_NODES);
    let proxy = Proxy::of(&cluster, 0);
    let mut client = proxy.connect();
    let Reply::Array(slots) = done(&mut client, &["CLUSTER", "SLOTS"]) else { panic!("no slots") };
    assert_eq!(slots.len(), 4);
    assert!(slots.iter().all(|range| format!("{range:?}").contains(&proxy.port.to_string())), "{slots:?}");
    let nodes = client.text(&["CLUSTER", "NODES"], REPLY_TIME_MAX).expect("nodes").unwrap_or_default();
    assert!(nodes.lines().count() == 1 && nodes.contains("myself,master"), "{nodes}");
    for refusal in [&["SAVE"][..], &["BGSAVE"], &["BGREWRITEAOF"], &["SHUTDOWN", "SAVE"], &["CLUSTER", "FAILOVER"]] {
        assert!(refused(&mut client, refusal).starts_with("ERR a proxy "), "{refusal:?}");
    }
    // Settings of the cluster are set through it and seen through the other.
    let other = Proxy::of(&cluster, 2);
    assert_eq!(done(&mut client, &["CONFIG", "SET", "hash-max-listpack-entries", "7"]), Reply::Ok);
    until("the other proxy knows", || {
        done(&mut other.connect(), &["CONFIG", "GET", "hash-max-listpack-entries"])
            == texts(&["hash-max-listpack-entries", "7"])
    });
    let mut status = std::process::Command::new(program());
    let status = status.args(["admin", "status", "--port", &proxy.port.to_string()]).output().expect("it runs");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(status.matches(" ready ").count(), 3, "the nodes are asked through it: {status}");
    assert!(matches!(client.call(&["SHUTDOWN"]), Outcome::Lost(_)));
}

#[test]
fn a_proxy_waits_for_its_cluster_and_serves_no_other() {
    let mut cluster = Cluster::prepare(THREE_NODES, &vec![String::new(); 3]);
    let nodes: Vec<String> = cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.peer_port)).collect();
    let mut proxy = Proxy::launch(&nodes.join(","), &[]);
    proxy.wait_for_words("waiting for a node of the cluster to answer");
    cluster.launch();
    proxy.wait_until_ready();
    assert_eq!(done(&mut proxy.connect(), &["SET", "k", "v"]), Reply::Ok);
    let mut stranger = Proxy::launch(&nodes.join(" "), &["--cluster-secret", "another"]);
    let said = stranger.wait_for_end();
    assert!(said.contains("every node refuses this proxy") && said.contains("another cluster-secret"), "{said}");
    cluster.kill(&[0, 1, 2]);
    for node in &cluster.nodes {
        std::fs::remove_dir_all(node.data()).expect("a folder of our own");
    }
    cluster.forget_digests();
    cluster.launch();
    let said = proxy.wait_for_end();
    assert!(said.contains("most nodes refuse this proxy now") && said.contains("belongs to cluster"), "{said}");
}
