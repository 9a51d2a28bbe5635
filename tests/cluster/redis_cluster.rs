//! What cluster clients and tools ask: CLUSTER, READONLY, and how a node is told to lead.

use std::time::{Duration, Instant};

use quoris_resp::Reply;

use super::client::{Client, Outcome, REPLY_TIME_MAX};
use super::process::{Cluster, Shape};

const WITHIN: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);

fn connect(cluster: &Cluster, node: usize) -> Client {
    Client::connect(cluster.nodes[node].port).expect("the node is there")
}

fn done(client: &mut Client, parts: &[&str]) -> Reply {
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

fn text(client: &mut Client, parts: &[&str]) -> String {
    client.text(parts, REPLY_TIME_MAX).expect("an answer").expect("a text")
}

fn until(what: &str, mut ask: impl FnMut() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !ask() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(PAUSE);
    }
}

#[test]
fn every_node_names_the_same_leaders_and_knows_the_keys_of_every_slot() {
    let cluster = Cluster::start(Shape { nodes: 5, groups: 4, factor: 3, settings: &[] });
    let mut clients: Vec<Client> = (0..5).map(|node| connect(&cluster, node)).collect();
    until("all name the same leaders", || {
        let leaders = |client: &mut Client| match done(client, &["CLUSTER", "SLOTS"]) {
            Reply::Array(ranges) => ranges
                .into_iter()
                .map(|range| if let Reply::Array(parts) = range { parts[..3].to_vec() } else { panic!("no range") })
                .collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let first = leaders(&mut clients[0]);
        first.len() == 4 && clients.iter_mut().all(|client| leaders(client) == first)
    });
    for n in 0..20 {
        let (key, tagged) = (format!("k:{n}"), format!("{{k:{n}}}:2"));
        done(&mut clients[0], &["SET", &key, "v"]);
        done(&mut clients[1], &["SET", &tagged, "v"]);
        let slot = text(&mut clients[0], &["CLUSTER", "KEYSLOT", &key]);
        for client in &mut clients {
            assert_eq!(done(client, &["CLUSTER", "COUNTKEYSINSLOT", &slot]), Reply::Int(2));
            let Reply::Array(keys) = done(client, &["CLUSTER", "GETKEYSINSLOT", &slot, "10"]) else {
                panic!("no keys")
            };
            assert!(keys.len() == 2 && keys.contains(&Reply::bulk(&key)) && keys.contains(&Reply::bulk(&tagged)));
            assert_eq!(done(client, &["CLUSTER", "GETKEYSINSLOT", &slot, "0"]), Reply::Array(Vec::new()));
        }
    }
    assert_eq!(refused(&mut clients[0], &["CLUSTER", "COUNTKEYSINSLOT", "16384"]), "ERR Invalid slot");
    assert_eq!(
        refused(&mut clients[0], &["CLUSTER", "GETKEYSINSLOT", "0", "-1"]),
        "ERR Invalid slot or number of keys"
    );
}

#[test]
fn a_replica_that_is_told_to_leads() {
    let mut cluster = Cluster::start(Shape { nodes: 3, groups: 1, factor: 3, settings: &[] });
    for (option, round) in ["", "FORCE", "TAKEOVER"].iter().zip(1..) {
        let leader = cluster.leader_of(1);
        let (mut master, mut replica) = (connect(&cluster, leader), connect(&cluster, (leader + 1) % 3));
        assert_eq!(done(&mut master, &["INCR", "n"]), Reply::Int(2 * round - 1));
        let text = refused(&mut master, &["CLUSTER", "FAILOVER"]);
        assert_eq!(text, "ERR You should send CLUSTER FAILOVER to a replica");
        let command: Vec<&str> = ["CLUSTER", "FAILOVER", option].into_iter().filter(|word| !word.is_empty()).collect();
        assert_eq!(done(&mut replica, &command), Reply::Ok);
        assert_eq!(cluster.leader_of(1), (leader + 1) % 3);
        assert_eq!(done(&mut master, &["INCR", "n"]), Reply::Int(2 * round));
    }
    assert!(refused(&mut connect(&cluster, 0), &["CLUSTER", "FAILOVER", "NOW"]).contains("syntax error"));
}

#[test]
fn replicas_answer_reads_as_new_as_the_leader_does() {
    let mut cluster =
        Cluster::start(Shape { nodes: 3, groups: 1, factor: 3, settings: &["--cluster-redirects", "yes"] });
    let leader = cluster.leader_of(1);
    let (mut master, mut replica) = (connect(&cluster, leader), connect(&cluster, (leader + 1) % 3));
    assert!(refused(&mut connect(&cluster, (leader + 1) % 3), &["GET", "k"]).starts_with("MOVED "));
    assert_eq!(done(&mut replica, &["READONLY"]), Reply::Ok);
    for n in 0..200 {
        let n = n.to_string();
        assert_eq!(done(&mut master, &["SET", "k", &n]), Reply::Ok);
        assert_eq!(done(&mut replica, &["GET", "k"]), Reply::bulk(&n));
    }
    let queued = Reply::status("QUEUED");
    for (write, transaction) in [(false, ["GET", "k"]), (true, ["INCR", "k"])] {
        assert_eq!(done(&mut replica, &["MULTI"]), Reply::Ok);
        assert_eq!(done(&mut replica, &transaction), queued);
        assert_eq!(done(&mut replica, &["STRLEN", "k"]), queued);
        if write {
            assert!(refused(&mut replica, &["EXEC"]).starts_with("MOVED "));
        } else {
            assert_eq!(done(&mut replica, &["EXEC"]), Reply::Array(vec![Reply::bulk("199"), Reply::Int(3)]));
        }
    }
    assert!(refused(&mut replica, &["SET", "other", "v"]).starts_with("MOVED "));
    assert_eq!(done(&mut replica, &["READWRITE"]), Reply::Ok);
    assert!(refused(&mut replica, &["GET", "another"]).starts_with("MOVED "));
}

#[test]
fn replicas_answer_reads_as_old_as_the_setting_allows() {
    const AGE: Duration = Duration::from_millis(60);
    let settings = &["--cluster-redirects", "yes", "--request-timeout-ms", "1000"];
    let mut cluster = Cluster::start(Shape { nodes: 3, groups: 1, factor: 3, settings });
    let leader = cluster.leader_of(1);
    let (mut master, mut replica) = (connect(&cluster, leader), connect(&cluster, (leader + 1) % 3));
    let age = |replica: &mut Client, ms: &str| {
        assert_eq!(done(replica, &["CONFIG", "SET", "replica-read-age-ms", ms]), Reply::Ok);
    };
    assert_eq!(done(&mut replica, &["READONLY"]), Reply::Ok);
    age(&mut replica, "60");
    let (mut acknowledged, mut behind) = (Vec::new(), 0);
    for n in 0..300 {
        assert_eq!(done(&mut master, &["SET", "k", &n.to_string()]), Reply::Ok);
        acknowledged.push(Instant::now());
        let asked = Instant::now();
        let read: usize = text(&mut replica, &["GET", "k"]).parse().expect("a number");
        let oldest = acknowledged.iter().rposition(|at| *at + AGE <= asked).unwrap_or(0);
        assert!((oldest..=n).contains(&read), "{read} at {n}: {oldest} was acknowledged {AGE:?} before");
        behind += usize::from(read < n);
    }
    println!("{behind} of 300 reads were behind");
    assert!(behind > 0, "the leader was asked every time");

    // Without a majority only what is old enough can be had. The replica may lack the last write until it asks.
    age(&mut replica, "0");
    assert_eq!(text(&mut replica, &["GET", "k"]), "299");
    age(&mut replica, "600000");
    cluster.kill(&[leader, (leader + 2) % 3]);
    assert_eq!(text(&mut replica, &["GET", "k"]), "299", "asked less than ten minutes ago");
    for ms in ["1", "0"] {
        age(&mut replica, ms);
        let text = refused(&mut replica, &["GET", "k"]);
        assert!(text.starts_with("CLUSTERDOWN"), "{text}");
    }
    age(&mut replica, "-1");
    assert_eq!(text(&mut replica, &["GET", "k"]), "299");
    assert!(!matches!(replica.call(&["SET", "k", "v"]), Outcome::Done(_)));
    [leader, (leader + 2) % 3].iter().for_each(|at| cluster.restart(*at));
    age(&mut replica, "0");
    cluster.wait_until_ready();
    assert_eq!(text(&mut replica, &["GET", "k"]), "299");
}

#[test]
fn what_redis_builds_clusters_with_is_refused_with_what_does_it_here() {
    let mut cluster = Cluster::start(Shape { nodes: 3, groups: 1, factor: 3, settings: &[] });
    let mut client = connect(&cluster, 0);
    for (command, does) in [
        ("MEET 127.0.0.1 7000", "quoris admin node add"),
        ("FORGET x", "quoris admin node remove"),
        ("RESET HARD", "quoris admin node drain"),
        ("REPLICATE x", "quoris admin node add"),
        ("ADDSLOTS 1", "quoris admin slots move"),
        ("ADDSLOTSRANGE 1 2", "quoris admin slots move"),
        ("DELSLOTS 1", "quoris admin slots rebalance"),
        ("DELSLOTSRANGE 1 2", "quoris admin slots move"),
        ("FLUSHSLOTS", "quoris admin slots move"),
        ("SETSLOT 1 STABLE", "quoris admin slots move"),
        ("MIGRATION IMPORT 1 2", "quoris admin slots move"),
        ("SAVECONFIG", "quoris admin status"),
        ("SET-CONFIG-EPOCH 7", "quoris admin"),
    ] {
        let words: Vec<&str> = std::iter::once("CLUSTER").chain(command.split(' ')).collect();
        let text = refused(&mut client, &words);
        assert!(text.starts_with("ERR ") && text.contains(does), "{command}: {text}");
    }
    let own = text(&mut client, &["CLUSTER", "MYID"]);
    assert_eq!(done(&mut client, &["CLUSTER", "COUNT-FAILURE-REPORTS", &own]), Reply::Int(0));
    assert!(refused(&mut client, &["CLUSTER", "COUNT-FAILURE-REPORTS", "x"]).starts_with("ERR Unknown node"));
    assert_eq!(text(&mut client, &["CLUSTER", "BUMPEPOCH"]), "STILL 1");
    done(&mut client, &["MSET", "{a}1", "v", "{a}2", "v", "b", "v"]);
    let leader = cluster.leader_of(1);
    let mut master = connect(&cluster, leader);
    let Reply::Array(stats) = done(&mut master, &["CLUSTER", "SLOT-STATS", "ORDERBY", "key-count", "LIMIT", "2"])
    else {
        panic!("no stats")
    };
    let stat = |slot, keys| {
        Reply::Array(vec![Reply::Int(slot), Reply::Array(vec![Reply::bulk("key-count"), Reply::Int(keys)])])
    };
    assert_eq!(stats, [stat(15495, 2), stat(3300, 1)]);
    assert_eq!(
        done(&mut master, &["CLUSTER", "SLOT-STATS", "SLOTSRANGE", "3300", "3300"]),
        Reply::Array(vec![stat(3300, 1)])
    );
    let text = refused(&mut master, &["CLUSTER", "SLOT-STATS", "SLOTSRANGE", "2", "1"]);
    assert!(text.contains("greater than end slot"), "{text}");
}
