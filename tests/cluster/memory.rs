//! Memory that is short everywhere: leaders choose, all replicas agree, whoever dies meanwhile.

use std::time::{Duration, Instant};

use quoris_resp::{Argv, Reply};

use super::client::Client;
use super::process::{Cluster, Shape};

const WITHIN: Duration = Duration::from_secs(30);

fn call(cluster: &Cluster, at: usize, parts: &[&str]) -> Reply {
    super::client::call(cluster.nodes[at].port, parts)
}

fn field(cluster: &Cluster, at: usize, name: &str) -> u64 {
    let Reply::Bulk(text) = call(cluster, at, &["INFO", "everything"]) else { panic!("INFO is text") };
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("a field");
    line.trim().parse().expect("a number")
}

/// Writes through one node until so many writes were acknowledged.
fn fill(cluster: &Cluster, at: usize, name: &str, count: usize) {
    let (value, deadline) = ("v".repeat(8000), Instant::now() + WITHIN);
    let (mut done, mut next) = (0, 0);
    while done < count {
        assert!(Instant::now() < deadline, "{done} of {count} writes through node {}", at + 1);
        let Ok(mut client) = Client::connect(cluster.nodes[at].port) else { continue };
        let commands: Vec<Argv> =
            (next..next + 100).map(|i| Argv::from_parts(&["SET", &format!("{name}{i}"), &value])).collect();
        next += 100;
        if let Ok(replies) = client.pipeline(&commands) {
            done += replies.iter().filter(|reply| **reply == Reply::Ok).count();
        }
    }
}

#[test]
fn cluster_replicas_agree_on_what_gave_way() {
    let shape = Shape { nodes: 3, groups: 2, factor: 3, settings: &[] };
    let mut cluster = Cluster::start(shape);
    cluster.wait_until_ready();
    call(&cluster, 0, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
    for at in 0..3 {
        let used = field(&cluster, at, "used_memory").saturating_sub(field(&cluster, at, "mem_not_counted_for_evict"));
        let limit = used + (24 << 20);
        assert_eq!(call(&cluster, at, &["CONFIG", "SET", "maxmemory", &limit.to_string()]), Reply::Ok);
    }
    (0..3).for_each(|at| fill(&cluster, at, &format!("first{at}:"), 2500));
    let leader = cluster.leader_of(1);
    cluster.kill(&[leader]);
    fill(&cluster, (leader + 1) % 3, "second:", 2000);
    cluster.restart(leader);
    fill(&cluster, leader, "third:", 1500);
    cluster.wait_for_equal_digests(WITHIN);
    let evicted: u64 = (0..3).map(|at| field(&cluster, at, "evicted_keys")).sum();
    assert!(evicted > 1000, "{evicted} keys gave way");
    let Reply::Int(keys) = call(&cluster, 0, &["DBSIZE"]) else { panic!("DBSIZE is a number") };
    assert!((100..4000).contains(&keys), "{keys} keys are left");
}
