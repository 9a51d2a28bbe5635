//! `quoris admin group recover`: two of three folders are lost for good, and the cluster goes on from the third. The
//! lost ones come back all the same, and are sent away.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use quoris_resp::Reply;

use super::awaited::awaited;
use super::client::{Client, REPLY_TIME_MAX, call, until};
use super::process::{Begin, Cluster, Shape, program};

const SHAPE: Shape = Shape { nodes: 3, groups: 2, factor: 3, settings: &[] };
const WITHIN: Duration = Duration::from_secs(40);

fn recover(data: &Path, lost: &str, more: &[&str]) -> (bool, String) {
    let mut command = Command::new(program());
    command.args(["admin", "group", "recover", "--lost", lost, "--dir"]).arg(data).args(more);
    let output = command.output().expect("the program starts");
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.success(), text)
}

fn aside(cluster: &Cluster, at: usize) -> PathBuf {
    cluster.nodes[at].data().with_extension("aside")
}

fn put_aside(cluster: &Cluster, at: usize) {
    fs::rename(cluster.nodes[at].data(), aside(cluster, at)).expect("moved");
}

fn put_back(cluster: &Cluster, at: usize) {
    let _ = fs::remove_dir_all(cluster.nodes[at].data());
    fs::rename(aside(cluster, at), cluster.nodes[at].data()).expect("moved");
}

fn write(port: u16, from: u64, to: u64) {
    for n in from..to {
        assert_eq!(call(port, &["SET", &format!("key:{n}"), &n.to_string()]), Reply::Ok);
    }
}

fn check(port: u16, to: u64) {
    let mut client = Client::connect(port).expect("the node is there");
    for n in 0..to {
        let found = client.text(&["GET", &format!("key:{n}")], REPLY_TIME_MAX);
        assert_eq!(found, Ok(Some(n.to_string())), "key:{n}");
    }
}

fn listed(port: u16) -> String {
    let asked = Client::connect(port).map(|mut client| client.text(&["CLUSTER", "NODE", "LIST"], REPLY_TIME_MAX));
    asked.ok().and_then(Result::ok).flatten().unwrap_or_default()
}

/// Waits until the cluster has these nodes, and nothing is awaited.
fn wait_for_nodes(port: u16, ids: &[u64]) {
    until(&format!("nodes {ids:?}"), || {
        let listed = listed(port);
        let found = listed.lines().map(|line| line.split(',').next().unwrap_or_default().to_string());
        found.eq(ids.iter().map(|id| format!("id={id}"))) && awaited(port).is_some_and(|lines| lines.is_empty())
    });
}

/// Nodes 2 and 3 come back with their old folders, one by one and together.
fn assert_lost_ones_are_sent_away(cluster: &mut Cluster) {
    for at in [1, 2, 1] {
        if aside(cluster, at).exists() {
            put_back(cluster, at);
        }
        let said = cluster.refusal(at);
        assert!(said.contains("was given up") && said.contains("group recover"), "{said}");
    }
    // Both together are a majority of what they know; they end as well.
    let before = [1, 2].map(|at| cluster.nodes[at].log().len());
    [1, 2].iter().for_each(|at| cluster.restart(*at));
    for (at, before) in [1, 2].into_iter().zip(before) {
        assert!(cluster.wait_for_end(at, before).contains("was given up"));
    }
}

#[test]
fn a_cluster_goes_on_from_one_folder_of_three() {
    let mut cluster = Cluster::start(SHAPE);
    let port = cluster.nodes[0].port;
    write(cluster.nodes[1].port, 0, 100);
    assert_eq!(call(port, &["CONFIG", "SET", "hash-max-listpack-entries", "77"]), Reply::Ok);
    // With replicas that stand still, all three hold what was acknowledged.
    cluster.wait_for_equal_digests(WITHIN);
    cluster.kill(&[0, 1, 2]);
    let data = cluster.nodes[0].data();
    let refused = |lost: &str, why: &str| {
        let (done, said) = recover(&data, lost, &["--accept-data-loss"]);
        assert!(!done && said.contains(why), "{why:?} is not in: {said}");
    };
    refused("2", "quoris admin node replace");
    refused("1,2", "is the node that this folder belongs to");
    refused("2,9", "there is no node 9; there are 1, 2, 3");
    [1, 2].iter().for_each(|at| put_aside(&cluster, *at));

    let (done, said) = recover(&data, "2,3", &[]);
    assert!(done && said.contains("Nothing was changed") && said.contains("1 of 3"), "{said}");
    let (done, said) = recover(&data, "2,3", &["--accept-data-loss"]);
    println!("{said}");
    assert!(done && said.contains("0 (meta)") && said.contains("are lost") && said.contains("Done."), "{said}");
    refused("2,3", "every group has a majority without these nodes");

    cluster.restart(0);
    wait_for_nodes(port, &[1]);
    check(port, 100);
    write(port, 100, 120);
    let Reply::Array(pair) = call(port, &["CONFIG", "GET", "hash-max-listpack-entries"]) else { panic!("a pair") };
    assert_eq!(pair[1], Reply::bulk("77"), "the settings are those of before");

    assert_lost_ones_are_sent_away(&mut cluster);
    check(port, 120);
    cluster.kill(&[0]);
    cluster.restart(0);
    wait_for_nodes(port, &[1]);
    check(port, 120);

    for at in [1, 2] {
        fs::remove_dir_all(cluster.nodes[at].data()).expect("removed");
        cluster.nodes[at].begin = Begin::Joins(cluster.nodes[0].peer_port);
        cluster.restart(at);
        until("it joins", || listed(port).lines().count() == at + 1);
    }
    wait_for_nodes(port, &[1, 4, 5]);
    cluster.forget_digests();
    cluster.wait_until_ready();
    cluster.wait_for_equal_digests(WITHIN);
    cluster.kill(&[0]);
    check(cluster.nodes[1].port, 120);
    write(cluster.nodes[2].port, 120, 130);
    check(cluster.nodes[1].port, 130);
}

#[test]
fn others_that_are_left_follow_the_one() {
    let mut cluster = Cluster::start(Shape { nodes: 5, groups: 1, ..SHAPE });
    write(cluster.nodes[4].port, 0, 50);
    cluster.wait_for_equal_digests(WITHIN);
    cluster.kill(&[0, 1, 2, 3, 4]);
    [1, 2].iter().for_each(|at| put_aside(&cluster, *at));
    // The meta group would have a majority; that it goes on from this node is decided all the same.
    let (done, said) = recover(&cluster.nodes[0].data(), "2,3", &["--accept-data-loss"]);
    assert!(done && said.contains("0 (meta)  1 of 5"), "{said}");
    [3, 4, 0].iter().for_each(|at| cluster.restart(*at));
    wait_for_nodes(cluster.nodes[4].port, &[1, 4, 5]);
    check(cluster.nodes[4].port, 50);
    write(cluster.nodes[3].port, 50, 60);
    cluster.forget_digests();
    cluster.wait_until_ready();
    cluster.wait_for_equal_digests(WITHIN);
    // The others know as well who was given up.
    cluster.kill(&[0]);
    put_back(&cluster, 1);
    let said = cluster.refusal(1);
    assert!(said.contains("was given up"), "{said}");
    check(cluster.nodes[3].port, 60);
    write(cluster.nodes[4].port, 60, 70);
}
