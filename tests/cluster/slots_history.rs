//! Readers of a channel while its slot moves: from whatever position, through whatever node, they get every message
//! once and in order, or are told what they miss.

use std::time::Instant;

use quoris_resp::Reply;

use super::client::{Client, Outcome, REPLY_TIME_MAX, call, frame};
use super::history::{PREFIX, end, entries};
use super::process::Cluster;
use super::slots::{SHAPE, around, begin, owner, slot_of, wait_until_moved};

const CHANNEL: &str = "news";
/// Messages between two moves.
const SOME: usize = 20;

fn list(reply: &Reply) -> Vec<Reply> {
    match reply {
        Reply::Array(list) => list.clone(),
        Reply::NullArray => Vec::new(),
        other => panic!("an array, not {other:?}"),
    }
}

/// What stands behind a cursor, with the cursor of each.
fn behind(port: u16, cursor: &str) -> Vec<(String, String)> {
    let reply = call(port, &["XREAD", "STREAMS", &format!("{PREFIX}channel:{CHANNEL}"), cursor]);
    let found = list(&reply);
    let all = found.iter().flat_map(|stream| entries(&list(stream)[1]));
    all.map(|(id, mut fields)| (id, fields.remove("message").expect("a message"))).collect()
}

fn texts(found: &[(String, String)]) -> Vec<&str> {
    found.iter().map(|(_, text)| &text[..]).collect()
}

/// The cursor behind which the rest is, where the beginning is not.
fn rest(port: u16, cursor: &str) -> String {
    let mut client = Client::connect(port).expect("a node");
    let stream = format!("{PREFIX}channel:{CHANNEL}");
    let Outcome::Refused(said) = client.call(&["XREAD", "STREAMS", &stream, cursor]) else {
        panic!("{cursor} is no position of the channel's")
    };
    assert!(said.starts_with("BELOWFLOOR"), "{said}");
    said.rsplit(' ').next().expect("it ends with a cursor").to_string()
}

struct Told {
    ports: Vec<u16>,
    messages: Vec<String>,
}

impl Told {
    fn publish(&mut self) {
        for _ in 0..SOME {
            let (number, text) = (self.messages.len(), format!("message {}", self.messages.len()));
            call(self.ports[number % self.ports.len()], &["PUBLISH", CHANNEL, &text]);
            self.messages.push(text);
        }
    }
}

#[test]
fn cluster_readers_of_a_channel_go_along_wherever_its_slot_moves() {
    let mut cluster = Cluster::start(SHAPE);
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    let slot = slot_of(ports[0], CHANNEL);
    let first = owner(&mut cluster, slot);
    let mut told = Told { ports: ports.clone(), messages: Vec::new() };
    let start = end(ports[0], &format!("channel:{CHANNEL}"));
    let of_all = end(ports[0], "channels:*");
    let mut listener = Client::connect(ports[1]).expect("a node");
    let name = format!("{PREFIX}from:{start}:channel:{CHANNEL}");
    listener.send(&frame(&["PSUBSCRIBE", &name])).expect("it is sent");
    let mut waiting = Client::connect(ports[2]).expect("a node");
    told.publish();
    // There, further, and back.
    for target in [first % 4 + 1, (first + 1) % 4 + 1, first] {
        let last = behind(ports[0], &start).pop().expect("all of them").0;
        let stream = format!("{PREFIX}channel:{CHANNEL}");
        waiting.send(&frame(&["XREAD", "BLOCK", "0", "STREAMS", &stream, &last])).expect("it is sent");
        begin(&cluster, 0, around(slot), target);
        wait_until_moved(&mut cluster, slot, target);
        told.publish();
        let woken = waiting.next(Instant::now() + REPLY_TIME_MAX).expect("a message has come");
        let woken = entries(&list(&list(&woken)[0])[1]);
        assert_eq!(woken[0].1["message"], told.messages[told.messages.len() - SOME]);
        for port in &ports {
            let all = behind(*port, &start);
            assert_eq!(texts(&all), told.messages, "from the beginning at port {port}");
            // From each position, whoever told it.
            for at in (0..all.len()).step_by(7) {
                assert_eq!(behind(*port, &all[at].0), all[at + 1..], "behind {}", all[at].0);
            }
            let range = ["XRANGE", &stream[..], &all[3].0, &all[all.len() - 3].0];
            let range: Vec<String> = entries(&call(*port, &range)).into_iter().map(|(id, _)| id).collect();
            let ids: Vec<String> = all[3..=all.len() - 3].iter().map(|(id, _)| id.clone()).collect();
            assert_eq!(range, ids, "up to a position in another group");
        }
        if target != first {
            // It has told nothing of what was before: whoever has no position is told so.
            for cursor in ["0", &of_all] {
                let rest = rest(ports[1], cursor);
                assert!(rest.starts_with(&format!("{target}:")), "{rest} is in group {target}");
                assert_eq!(texts(&behind(ports[1], &rest)), told.messages[told.messages.len() - SOME..]);
            }
            assert_eq!(texts(&behind(ports[1], "-")), told.messages[told.messages.len() - SOME..]);
        }
    }
    assert_eq!(texts(&behind(ports[0], "0")), told.messages, "the group that it was with at first");
    let mut heard = Vec::new();
    while heard.len() < told.messages.len() {
        let parts = list(&listener.next(Instant::now() + REPLY_TIME_MAX).expect("the subscription goes on"));
        if let [_, _, _, Reply::Bulk(text)] = &parts[..] {
            heard.push(String::from_utf8_lossy(text).into_owned());
        }
    }
    assert_eq!(heard, told.messages);
}
