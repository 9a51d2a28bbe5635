//! What INFO counts of messages, through the death of a leader. With P publishers of a channel and C subscriptions that
//! it fits, one message from each publisher is P × C deliveries, and all channels together are the sum of that: over
//! channels, shard channels and patterns, on any node, with connections that listen in two ways, and with channels
//! that nobody listens to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quoris_resp::Reply;

use super::client::{Client, Outcome, REPLY_TIME_MAX, call, frame, until};
use super::events::{listen, next_message};
use super::process::{Cluster, Shape};

const LIMIT: [&str; 2] = ["--client-output-buffer-limit", "pubsub 1mb 0 0"];
const SHAPE: Shape = Shape { nodes: 5, groups: 4, factor: 3, settings: &LIMIT };
/// Publishers of each channel. The last is a shard channel, and nobody listens to the one in front of it.
const PUBLISHERS: [usize; 7] = [1, 2, 3, 2, 1, 2, 3];
const SHARDED: usize = 6;
/// Messages of each publisher.
const ROUNDS: usize = 150;
/// No message keeps anybody waiting for longer.
const MESSAGE_TIME_MAX: Duration = Duration::from_secs(60);

/// What each connection listens to, and the channels whose messages it gets, each as often as it gets them.
type Listener = (&'static [[&'static str; 2]], &'static [usize]);
const LISTENERS: [Listener; 11] = [
    (&[["SUBSCRIBE", "count:0"]], &[0]),
    (&[["SUBSCRIBE", "count:0"]], &[0]),
    (&[["SUBSCRIBE", "count:1"]], &[1]),
    (&[["SUBSCRIBE", "count:2"]], &[2]),
    (&[["PSUBSCRIBE", "count:?"]], &[0, 1, 2, 3, 4]),
    (&[["PSUBSCRIBE", "c*:[12]"]], &[1, 2]),
    (&[["PSUBSCRIBE", "count:*"]], &[0, 1, 2, 3, 4]),
    (&[["SUBSCRIBE", "count:3"], ["PSUBSCRIBE", "*:3"]], &[3, 3]),
    (&[["SUBSCRIBE", "count:4"], ["SUBSCRIBE", "count:0"]], &[4, 0]),
    (&[["SSUBSCRIBE", "count:6"]], &[SHARDED]),
    (&[["SSUBSCRIBE", "count:6"], ["SUBSCRIBE", "count:1"]], &[SHARDED, 1]),
];

fn channel(number: usize) -> String {
    let kind = if number == 5 { "silent" } else { "count" };
    format!("{kind}:{number}")
}

/// What nodes count together.
fn counted(ports: &[u16], field: &str) -> usize {
    let count = |port: &u16| {
        let mut client = Client::connect(*port).expect("the node is there");
        let text = client.text(&["INFO", "stats"], REPLY_TIME_MAX).expect("an answer").expect("a text");
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.parse::<usize>().ok());
        line.unwrap_or_else(|| panic!("{field} is a number"))
    };
    ports.iter().map(count).sum()
}

/// Publishes its messages, each of which has to be acknowledged.
fn publish(port: u16, to: usize, name: usize, published: &AtomicUsize) {
    let mut client = Client::connect(port).expect("the node is there");
    let command = if to == SHARDED { "SPUBLISH" } else { "PUBLISH" };
    for round in 0..ROUNDS {
        match client.call(&[command, &channel(to), &format!("{name}:{round}")]) {
            Outcome::Done(Reply::Int(_)) => published.fetch_add(1, Ordering::Relaxed),
            other => panic!("{command}, round {round}: {other}"),
        };
    }
}

/// Takes every message that is to come and sees that there is no other; gives back the connection.
fn receive(mut client: Client, fits: &[usize]) -> Client {
    let mut awaited: BTreeMap<(String, String), usize> = BTreeMap::new();
    for to in fits {
        for message in (0..PUBLISHERS[*to]).flat_map(|name| (0..ROUNDS).map(move |round| format!("{name}:{round}"))) {
            *awaited.entry((channel(*to), message)).or_default() += 1;
        }
    }
    while !awaited.is_empty() {
        let message = next_message(&mut client, Instant::now() + MESSAGE_TIME_MAX);
        let message = message.unwrap_or_else(|why| panic!("{fits:?}: {why}; {} are missing", awaited.len()));
        let left = awaited.get_mut(&message).unwrap_or_else(|| panic!("{fits:?}: {message:?} was not to come"));
        *left -= 1;
        if *left == 0 {
            awaited.remove(&message);
        }
    }
    client.send(&frame(&["PING"])).expect("it is connected");
    let last = next_message(&mut client, Instant::now() + REPLY_TIME_MAX).expect("an answer");
    assert_eq!(last, ("pong".to_string(), String::new()), "{fits:?}: nothing else comes");
    client
}

fn open(port: u16, names: &[[&str; 2]]) -> Client {
    let mut client = listen(port, names[0][0], names[0][1]).expect("it listens");
    for name in &names[1..] {
        client.send(&frame(name)).expect("it is connected");
        client.next(Instant::now() + REPLY_TIME_MAX).expect("it listens");
    }
    client
}

fn start_publishers(ports: &[u16], published: &Arc<AtomicUsize>) -> Vec<JoinHandle<()>> {
    let all = PUBLISHERS.iter().enumerate().flat_map(|(to, count)| (0..*count).map(move |name| (to, name)));
    let start = |(at, (to, name)): (usize, (usize, usize))| {
        let (port, published) = (ports[at % ports.len()], published.clone());
        std::thread::spawn(move || publish(port, to, name, &published))
    };
    all.enumerate().map(start).collect()
}

#[test]
fn cluster_counts_the_product_of_publishers_and_subscribers() {
    let mut cluster = Cluster::start(SHAPE);
    let victim = cluster.leader_of(1);
    let living = cluster.nodes.iter().enumerate().filter(|(at, _)| *at != victim);
    let ports: Vec<u16> = living.map(|(_, node)| node.port).collect();
    let listening: Vec<_> = LISTENERS
        .iter()
        .enumerate()
        .map(|(at, (names, fits))| {
            let client = open(ports[at % ports.len()], names);
            std::thread::spawn(move || receive(client, fits))
        })
        .collect();
    let published = Arc::<AtomicUsize>::default();
    let publishers = start_publishers(&ports, &published);
    let total = ROUNDS * PUBLISHERS.iter().sum::<usize>();
    until("a third is published", || published.load(Ordering::Relaxed) > total / 3);
    cluster.kill(&[victim]);
    publishers.into_iter().for_each(|publisher| publisher.join().expect("every message was acknowledged"));
    let clients = listening.into_iter().map(|thread| thread.join().expect("every message came"));
    // They stay connected: what came too often would be counted.
    let clients: Vec<Client> = clients.collect();

    let product = LISTENERS.iter().flat_map(|(_, fits)| *fits).map(|to| PUBLISHERS[*to] * ROUNDS).sum::<usize>();
    until("all deliveries are counted", || counted(&ports, "pubsub_messages_delivered") >= product);
    let fields = ["pubsub_messages_published", "pubsub_messages_delivered", "pubsub_messages_dropped"];
    assert_eq!(fields.map(|field| counted(&ports, field)), [total, product, 0]);
    drop(clients);

    // Who does not read is cut, and what it lacks is counted where it was connected.
    let slow = listen(ports[0], "SUBSCRIBE", "slow").expect("it listens");
    let (payload, deadline, mut sent) = ("p".repeat(64 << 10), Instant::now() + MESSAGE_TIME_MAX, 0);
    while counted(&ports[..1], "pubsub_messages_dropped") == 0 {
        assert!(Instant::now() < deadline, "{sent} messages, and nobody is cut");
        assert!(matches!(call(ports[1], &["PUBLISH", "slow", &payload]), Reply::Int(_)));
        sent += 1;
    }
    drop(slow);
    let all = counted(&ports, "pubsub_messages_delivered") + counted(&ports, "pubsub_messages_dropped") - product;
    assert!(all <= sent, "{all} of {sent} are counted");
    let elsewhere = counted(&ports[1..], "pubsub_messages_dropped");
    assert_eq!((counted(&ports, "pubsub_messages_published"), elsewhere), (total + sent, 0));
}
