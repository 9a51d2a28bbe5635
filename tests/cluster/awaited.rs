//! What operators rely on: when CLUSTER NODE AWAITED names nothing, all that was decided before is carried out, so that
//! another node may go.

use quoris_resp::Reply;

use super::client::{Client, Outcome, until};
use super::process::{Cluster, Shape};

/// What the node at this port says; nothing when it does not answer.
pub fn awaited(port: u16) -> Option<Vec<String>> {
    match Client::connect(port).ok()?.call(&["CLUSTER", "NODE", "AWAITED"]) {
        Outcome::Done(Reply::Array(lines)) => Some(lines.iter().map(|line| format!("{line:?}")).collect()),
        _ => None,
    }
}

fn is_done(port: u16, command: &[&str]) -> bool {
    Client::connect(port).is_ok_and(|mut client| matches!(client.call(command), Outcome::Done(Reply::Ok)))
}

#[test]
fn where_nothing_is_awaited_any_node_may_be_lost() {
    let mut cluster = Cluster::start(Shape { nodes: 3, groups: 1, factor: 3, settings: &[] });
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    for round in 0..6 {
        // Whoever is asked is another one than the one that decided, and asked at once.
        let (decides, asked) = (ports[round % 3], ports[(round + 1) % 3]);
        let settles = |what: &str| until(what, || awaited(asked).is_some_and(|lines| lines.is_empty()));
        until("node 3 drains", || is_done(decides, &["CLUSTER", "NODE", "DRAIN", "3"]));
        if round < 4 {
            settles("it has drained");
        }
        assert!(is_done(decides, &["CLUSTER", "NODE", "SERVE", "3"]));
        settles("it serves again");
        let lost = round % 2;
        cluster.kill(&[lost]);
        until("the other two are a majority", || is_done(ports[2], &["SET", "key", &round.to_string()]));
        cluster.restart(lost);
        cluster.wait_until_ready();
    }
}
