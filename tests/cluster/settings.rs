//! Settings that apply can see belong to the cluster, whatever the files of its nodes say.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use quoris_engine::settings::{Kind, SETTINGS, Setting};
use quoris_resp::Reply;

use super::check;
use super::client::{Client, Outcome, REPLY_TIME_MAX};
use super::kill::places;
use super::load::Load;
use super::process::{Cluster, Shape};

const WITHIN: Duration = Duration::from_secs(20);
/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(20);

/// A value of a setting, in its one spelling; another for each salt below 7.
fn value(setting: &Setting, salt: usize) -> String {
    match setting.kind {
        Kind::Number { .. } => (1000 + salt).to_string(),
        Kind::Events => ["gK", "$E", "AKE", "xKE", "lshz", "tm", "dn"][salt % 7].to_string(),
        Kind::Choice(words) => words[salt % words.len().min(7)].to_string(),
    }
}

/// What a node says about the replicated settings.
fn shown(cluster: &Cluster, at: usize) -> BTreeMap<String, String> {
    let names: Vec<&str> = ["CONFIG", "GET"].into_iter().chain(SETTINGS.iter().map(|s| s.name)).collect();
    let mut client = Client::connect(cluster.nodes[at].port).expect("the node is there");
    let Outcome::Done(Reply::Array(parts)) = client.call(&names) else { panic!("a list of settings") };
    let text = |part: &Reply| match part {
        Reply::Bulk(text) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("a text, not {other:?}"),
    };
    parts.chunks(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

fn wait_for_shown(cluster: &Cluster, want: &BTreeMap<String, String>) {
    let deadline = Instant::now() + WITHIN;
    for at in 0..cluster.nodes.len() {
        while shown(cluster, at) != *want {
            assert!(Instant::now() < deadline, "node {} shows {:?}, not {want:?}", at + 1, shown(cluster, at));
            std::thread::sleep(PAUSE);
        }
    }
}

/// Every replica of every data group has applied this version.
fn wait_for_version(cluster: &mut Cluster, version: u64) {
    cluster.wait_for("the newest settings in every group", WITHIN, |views| {
        let mut groups = views.iter().flat_map(|view| &view.groups).filter(|group| group.id != 0 && group.is_local());
        groups.all(|group| group.settings == version).then_some(())
    });
}

fn set(cluster: &Cluster, at: usize, pairs: &[&str]) -> Outcome {
    let mut client = Client::connect(cluster.nodes[at].port).expect("the node is there");
    client.call(&[&["CONFIG", "SET"], pairs].concat())
}

fn set_ok(cluster: &Cluster, at: usize, pairs: &[&str]) {
    match set(cluster, at, pairs) {
        Outcome::Done(Reply::Ok) => {}
        other => panic!("CONFIG SET {pairs:?} on node {}: {other}", at + 1),
    }
}

fn get(cluster: &Cluster, at: usize, name: &str) -> String {
    let mut client = Client::connect(cluster.nodes[at].port).expect("the node is there");
    match client.call(&["CONFIG", "GET", name]) {
        Outcome::Done(Reply::Array(pair)) => format!("{:?}", pair[1]),
        other => panic!("CONFIG GET {name}: {other}"),
    }
}

fn file(node: usize) -> String {
    let lines = SETTINGS.iter().map(|setting| format!("{} {}\n", setting.name, value(setting, node)));
    format!("# of node {node}\n{}maxclients 100{node}\n", lines.collect::<String>())
}

/// Nodes name the settings of their files that do not hold, so many each.
fn assert_told(cluster: &Cluster, lines: [usize; 3]) {
    for (node, said) in cluster.nodes.iter().zip(lines) {
        let lines = || node.log().lines().filter(|line| line.contains("the configuration says")).count();
        let deadline = Instant::now() + WITHIN;
        while lines() != said {
            assert!(Instant::now() < deadline, "a node names {} settings, not {said}", lines());
            std::thread::sleep(PAUSE);
        }
    }
}

/// Kills the leader of one group and gives the node.
fn kill_leader(cluster: &mut Cluster, group: u64) -> usize {
    let leader = cluster.leader_of(group);
    cluster.kill(&[leader]);
    leader
}

#[test]
fn cluster_nodes_with_different_files_have_equal_states() {
    let shape = Shape { nodes: 3, groups: 2, factor: 3, settings: &[] };
    let mut cluster = Cluster::start_with_files(shape, &[file(0), file(1), file(2)]);
    let of_founder = SETTINGS.iter().map(|setting| (setting.name.to_string(), value(setting, 0)));
    let mut want: BTreeMap<String, String> = of_founder.collect();
    wait_for_shown(&cluster, &want);
    wait_for_version(&mut cluster, 1);
    let differing = |node| SETTINGS.iter().filter(|setting| value(setting, node) != value(setting, 0)).count();
    assert_told(&cluster, [0, differing(1), differing(2)]);

    let places = places(&mut cluster, &shape);
    let load = Load::start(&cluster, &places, 1);
    load.wait_for_progress(WITHIN);
    let mut dead = None;
    for (n, setting) in SETTINGS.iter().enumerate() {
        // The leader of the meta group dies, later that of a group.
        if n == 4 || n == 10 {
            dead = Some(kill_leader(&mut cluster, if n == 4 { 0 } else { 1 }));
        } else if let (7, Some(at)) | (13, Some(at)) = (n, dead) {
            cluster.restart(at);
            cluster.wait_until_ready();
            dead = None;
        }
        let at = (n..).map(|n| n % 3).find(|at| Some(*at) != dead).expect("two are alive");
        let value = (3 + n % 4..).map(|salt| value(setting, salt)).find(|value| want[setting.name] != *value);
        let value = value.expect("there is another value");
        set_ok(&cluster, at, &[setting.name, &value]);
        want.insert(setting.name.to_string(), value);
        assert_eq!(shown(&cluster, at), want, "a node shows at once what was set through it");
    }
    load.wait_for_progress(WITHIN);

    // A setting of the node and one of the cluster.
    set_ok(&cluster, 1, &["slowlog-max-len", "7", "list-compress-depth", "3"]);
    want.insert("list-compress-depth".to_string(), "3".to_string());
    assert_eq!(get(&cluster, 1, "slowlog-max-len"), format!("{:?}", Reply::bulk("7")));
    assert_eq!(get(&cluster, 2, "slowlog-max-len"), format!("{:?}", Reply::bulk("128")));
    let versions = 2 + SETTINGS.len() as u64;
    wait_for_version(&mut cluster, versions);
    wait_for_shown(&cluster, &want);

    // All nodes come back from a snapshot and the log behind it.
    for node in &cluster.nodes {
        let mut client = Client::connect(node.port).expect("the node is there");
        assert_eq!(client.text(&["SAVE"], REPLY_TIME_MAX), Ok(Some("OK".to_string())));
    }
    set_ok(&cluster, 2, &["notify-keyspace-events", "Eg"]);
    want.insert("notify-keyspace-events".to_string(), "gE".to_string());
    load.wait_for_progress(WITHIN);
    let record = load.stop();
    let before = cluster.wait_for_equal_digests(WITHIN);
    cluster.kill(&[0, 1, 2]);
    (0..3).for_each(|at| cluster.restart(at));
    cluster.wait_until_ready();
    wait_for_version(&mut cluster, versions + 1);
    wait_for_shown(&cluster, &want);
    let after = cluster.wait_for_equal_digests(WITHIN);
    println!("digests {before:?}, after a restart {after:?}");
    let covered = |views: &[super::view::NodeView]| {
        views.iter().flat_map(|view| &view.groups).all(|group| group.snapshot > 0).then_some(())
    };
    cluster.wait_for("snapshots that were loaded", WITHIN, covered);
    let mut client = Client::connect(cluster.nodes[0].port).expect("node 1 is there");
    let wrong = check::check(&record, &mut client);
    assert!(wrong.is_empty(), "{} keys are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Each group has one replica, so a dead node takes a group with it and leaves the meta group.
#[test]
fn cluster_settings_reach_a_group_when_it_is_back() {
    let settings = &["--request-timeout-ms", "1500"];
    let mut cluster = Cluster::start(Shape { nodes: 3, groups: 3, factor: 1, settings });
    wait_for_version(&mut cluster, 1);
    let dead = kill_leader(&mut cluster, 0);
    let (one, other) = ((dead + 1) % 3, (dead + 2) % 3);
    cluster.leader_of(0);
    let lost = dead + 1;
    match set(&cluster, one, &["maxmemory-policy", "allkeys-lru", "timeout", "9"]) {
        Outcome::Unknown(text) => {
            assert_eq!(text, format!("TIMEOUT settings version 2 is decided but not applied yet by group {lost}"),)
        }
        other => panic!("{other}"),
    }
    let bulk = |text: &str| format!("{:?}", Reply::bulk(text));
    for (name, value) in [("maxmemory-policy", "allkeys-lru"), ("timeout", "9")] {
        assert_eq!(get(&cluster, one, name), bulk(value), "what was decided holds");
    }
    cluster.kill(&[other]);
    match set(&cluster, one, &["maxmemory-policy", "volatile-ttl", "timeout", "8"]) {
        Outcome::Refused(text) => assert!(text.starts_with("CLUSTERDOWN the settings of the cluster cannot"), "{text}"),
        other => panic!("{other}"),
    }
    for (name, value) in [("maxmemory-policy", "allkeys-lru"), ("timeout", "9")] {
        assert_eq!(get(&cluster, one, name), bulk(value), "all or nothing");
    }
    cluster.restart(dead);
    cluster.restart(other);
    // Nobody asks again: the leader of the meta group finds the group that has come back.
    wait_for_version(&mut cluster, 2);
    cluster.wait_until_ready();
    assert_eq!(get(&cluster, dead, "maxmemory-policy"), bulk("allkeys-lru"));
}
