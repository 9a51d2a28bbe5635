//! One node of a cluster cannot go on as the others do: its disk is short of room, its fsync or its Raft
//! core fails, or it has a large value to write.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quoris_resp::Reply;

use super::client::{Client, Outcome, WITHIN, until};
use super::process::{Cluster, Shape};
use super::quiet::undisturbed;

const GROUP: u64 = 1;
/// More than any disk has.
const ALL: &str = "1000000000000000";

fn set(client: &mut Client, key: &str) -> Outcome {
    client.call(&["SET", key, "v"])
}

fn reserve(cluster: &Cluster, at: usize, bytes: &str) {
    let mut client = Client::connect(cluster.nodes[at].port).expect("the node is there");
    assert!(matches!(client.call(&["CONFIG", "SET", "disk-reserve", bytes]), Outcome::Done(Reply::Ok)));
}

#[test]
fn cluster_with_a_full_disk_refuses_or_lags_and_recovers() {
    let mut cluster = Cluster::start(Shape { nodes: 3, groups: 1, factor: 3, settings: &[] });
    let leader = cluster.leader_of(GROUP);
    let (follower, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let mut through = Client::connect(cluster.nodes[other].port).expect("the node is there");
    assert!(matches!(set(&mut through, "before"), Outcome::Done(Reply::Ok)));

    // The leader's: a definite no, through every node, and reads go on.
    reserve(&cluster, leader, ALL);
    until("writes are refused", || match set(&mut through, "k") {
        Outcome::Refused(text) => {
            assert!(text.starts_with("MISCONF "), "{text}");
            true
        }
        Outcome::Done(_) => false,
        end => panic!("{end}"),
    });
    assert_eq!(through.text(&["GET", "before"], WITHIN), Ok(Some("v".to_string())));
    reserve(&cluster, leader, "0");
    until("writes go on", || matches!(set(&mut through, "k"), Outcome::Done(Reply::Ok)));

    // A follower's: the others go on, and it acknowledges nothing until it has room.
    reserve(&cluster, follower, ALL);
    until("the follower falls behind", || {
        assert!(matches!(set(&mut through, "k"), Outcome::Done(Reply::Ok)));
        through.text(&["WAIT", "2", "200"], WITHIN) == Ok(Some("1".to_string()))
    });
    for n in 0..200 {
        assert!(matches!(set(&mut through, &format!("key:{n}")), Outcome::Done(Reply::Ok)));
    }
    assert_eq!(through.text(&["WAIT", "2", "200"], WITHIN), Ok(Some("1".to_string())));
    assert_eq!(cluster.leader_of(GROUP), leader, "the leader has changed");
    reserve(&cluster, follower, "0");
    assert_eq!(through.text(&["WAIT", "2", "10000"], WITHIN), Ok(Some("2".to_string())));
    cluster.wait_for_equal_digests(WITHIN);
}

/// Values of 60 MiB through the leader and through another node, and small ones all the while. What of it was
/// not acknowledged.
fn write_large_beside_small(cluster: &Cluster, leader: usize) -> Vec<String> {
    let value = vec![b'v'; 60 << 20];
    let port = cluster.nodes[leader].port;
    let stop = AtomicBool::new(false);
    let mut failed = Vec::new();
    let (longest, written) = std::thread::scope(|scope| {
        let small = scope.spawn(|| {
            let mut client = Client::connect(port).expect("the leader is there");
            let (mut longest, mut written, mut failed) = (Duration::ZERO, 0, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                let end = set(&mut client, "small");
                failed.extend((!matches!(end, Outcome::Done(Reply::Ok))).then(|| end.to_string()));
                longest = longest.max(began.elapsed());
                written += 1;
            }
            (longest, written, failed)
        });
        for at in [leader, (leader + 1) % 3] {
            let mut client = Client::connect(cluster.nodes[at].port).expect("the node is there");
            for n in 0..3 {
                let began = Instant::now();
                let end = client.call(&[b"SET".as_slice(), format!("large:{n}").as_bytes(), &value]);
                failed.extend((!matches!(end, Outcome::Done(Reply::Ok))).then(|| end.to_string()));
                println!("60 MiB through node {} in {:?}", at + 1, began.elapsed());
            }
        }
        stop.store(true, Ordering::Relaxed);
        let (longest, written, more) = small.join().expect("it panics at nothing");
        failed.extend(more);
        (longest, written)
    });
    println!("{written} small writes meanwhile, the slowest took {longest:?}");
    failed
}

#[test]
fn cluster_takes_a_large_value_beside_small_ones() {
    let settings = &["--entry-bytes-max", "67108864"];
    let mut cluster = Cluster::start(Shape { nodes: 3, groups: 1, factor: 3, settings });
    let elections = |cluster: &mut Cluster| {
        cluster.wait_for("views", WITHIN, |views| Some(views.iter().map(|v| v.elections).collect::<Vec<_>>()))
    };
    undisturbed(|| {
        let (leader, before) = (cluster.leader_of(GROUP), elections(&mut cluster));
        let failed = write_large_beside_small(&cluster, leader);
        let now = elections(&mut cluster);
        let fine = now == before && failed.is_empty();
        if fine { Ok(()) } else { Err(format!("elections {before:?}, {now:?}; failed {failed:?}")) }
    });
    cluster.wait_for_equal_digests(WITHIN);
}

/// The process ends with a text, the others go on without it, and it comes back.
fn dies(debug: &[&str], says: &str) {
    let settings = &["--enable-debug-command", "yes"];
    let mut cluster = Cluster::start(Shape { nodes: 3, groups: 1, factor: 3, settings });
    let leader = cluster.leader_of(GROUP);
    let mut through = Client::connect(cluster.nodes[(leader + 1) % 3].port).expect("the node is there");
    assert!(matches!(set(&mut through, "before"), Outcome::Done(Reply::Ok)));
    let mut direct = Client::connect(cluster.nodes[leader].port).expect("the node is there");
    assert!(matches!(direct.call(debug), Outcome::Done(Reply::Ok)));
    let end = set(&mut direct, "k");
    let text = cluster.wait_for_end(leader, 0);
    assert!(text.contains(says), "{says:?} is not in: {text}");
    until("the others go on", || matches!(set(&mut through, "after"), Outcome::Done(Reply::Ok)));
    if matches!(end, Outcome::Done(_)) {
        // The others had it on their disks before this one failed.
        assert_eq!(through.text(&["GET", "k"], WITHIN), Ok(Some("v".to_string())));
    }
    cluster.restart(leader);
    cluster.wait_until_ready();
    cluster.wait_for_equal_digests(WITHIN);
}

#[test]
fn cluster_goes_on_without_a_node_whose_fsync_fails() {
    dies(&["DEBUG", "FAIL-FSYNC"], "nothing is acknowledged any more");
}

#[test]
fn cluster_goes_on_without_a_node_whose_raft_core_fails() {
    dies(&["DEBUG", "FAIL-APPLY", "k"], "this node cannot go on: group 1 stopped");
}
