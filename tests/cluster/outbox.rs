//! What scripts publish for channels of other groups arrives once, whatever leader dies on the way.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use quoris_resp::Reply;

use super::client::{Client, Outcome};
use super::events::{listen, next_message};
use super::process::{Cluster, Shape};

const FIVE_NODES: Shape = Shape { nodes: 5, groups: 4, factor: 3, settings: &[] };
const WITHIN: Duration = Duration::from_secs(20);
const SCRIPT: &str = "redis.call('publish', ARGV[1], ARGV[2]) return redis.call('incr', KEYS[1])";
const ROUNDS: usize = 400;
const CHANNELS: usize = 7;

#[test]
fn cluster_hands_over_what_scripts_publish_exactly_once() {
    let mut cluster = Cluster::start(FIVE_NODES);
    let spared = 4;
    let port = cluster.nodes[spared].port;
    let mut listener = listen(port, "PSUBSCRIBE", "out:*").expect("it listens");
    let mut client = Client::connect(port).expect("the node is there");
    let mut dead = None;
    for round in 0..ROUNDS {
        if round % 100 == 50 {
            let leaders = (1..=4).map(|group| cluster.leader_of(group));
            let leader = leaders.into_iter().find(|leader| *leader != spared).expect("three others lead");
            cluster.kill(&[leader]);
            dead = Some(leader);
        } else if let Some(leader) = dead.take_if(|_| round % 100 == 90) {
            cluster.restart(leader);
            cluster.wait_until_ready();
        }
        let (key, channel) = (format!("key:{}", round % 11), format!("out:{}", round % CHANNELS));
        match client.call(&["EVAL", SCRIPT, "1", &key, &channel, &round.to_string()]) {
            Outcome::Done(Reply::Int(n)) => assert_eq!(n as usize, round / 11 + 1),
            other => panic!("round {round}: {other}"),
        }
    }
    let mut got = BTreeSet::new();
    for n in 0..ROUNDS {
        let message = next_message(&mut listener, Instant::now() + WITHIN);
        let (channel, payload) = message.unwrap_or_else(|why| panic!("message {n}: {why}"));
        let round: usize = payload.parse().expect("a number");
        assert_eq!(channel, format!("out:{}", round % CHANNELS));
        assert!(got.insert(round), "{round} came twice");
    }
    match client.call(&["PUBLISH", "out:end", "end"]) {
        Outcome::Done(Reply::Int(_)) => {}
        other => panic!("{other}"),
    }
    let last = next_message(&mut listener, Instant::now() + WITHIN).expect("a message");
    assert_eq!(last.1, "end", "nothing else comes");
    cluster.wait_for_equal_digests(WITHIN);
}
