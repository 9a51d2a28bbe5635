//! A cluster whose nodes come and go, under load: one node becomes three and five, a dead one is replaced, others drain
//! and leave, and somebody is killed at every step.
//!
//! What was acknowledged is there once, and clients of nodes that live see no error.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quoris_resp::Reply;

use super::check;
use super::client::{Client, Outcome, REPLY_TIME_MAX};
use super::load::{Load, Place, Record};
use super::process::{Begin, Cluster, Shape, program};

const WITHIN: Duration = Duration::from_secs(40);
const PAUSE: Duration = Duration::from_millis(20);

/// A node as CLUSTER NODE LIST shows it.
#[derive(Debug)]
struct Listed {
    id: u64,
    state: String,
    replicas: u64,
}

fn list(port: u16) -> Option<Vec<Listed>> {
    let mut client = Client::connect(port).ok()?;
    let text = client.text(&["CLUSTER", "NODE", "LIST"], REPLY_TIME_MAX).ok()??;
    let line = |line: &str| {
        let field = |name: &str| {
            let found = line.split(',').filter_map(|field| field.split_once('=')).find(|(key, _)| *key == name);
            found.unwrap_or_else(|| panic!("no {name} in {line}")).1.to_string()
        };
        let number = |name: &str| field(name).parse().expect("a number");
        Listed { id: number("id"), state: field("state"), replicas: number("replicas") }
    };
    Some(text.lines().map(line).collect())
}

fn awaited(port: u16) -> Option<Vec<String>> {
    match Client::connect(port).ok()?.call(&["CLUSTER", "NODE", "AWAITED"]) {
        Outcome::Done(Reply::Array(lines)) => Some(lines.iter().map(|line| format!("{line:?}")).collect()),
        _ => None,
    }
}

/// Waits until the cluster is what it should be: these nodes, with so many replicas each.
fn wait_for_nodes(cluster: &mut Cluster, at: usize, want: &[(u64, u64)]) {
    let port = cluster.nodes[at].port;
    let deadline = Instant::now() + WITHIN;
    loop {
        let (listed, awaited) = (list(port), awaited(port));
        let found: Option<Vec<(u64, u64)>> = listed.as_ref().map(|l| l.iter().map(|n| (n.id, n.replicas)).collect());
        if found.as_deref() == Some(want) && awaited.as_ref().is_some_and(Vec::is_empty) {
            return cluster.wait_until_ready();
        }
        cluster.views();
        assert!(Instant::now() < deadline, "{want:?}: not within {WITHIN:?}; {listed:?}, awaited {awaited:?}");
        std::thread::sleep(PAUSE);
    }
}

/// `quoris admin node` at work.
struct Admin {
    child: Child,
    what: String,
}

impl Admin {
    fn begin(cluster: &Cluster, at: usize, arguments: &[&str]) -> Admin {
        let mut command = Command::new(program());
        command.args(["admin", "node"]).args(arguments).args(["--port", &cluster.nodes[at].port.to_string()]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        Admin { child, what: format!("admin node {}", arguments.join(" ")) }
    }

    /// Whether it did what it was told, and what it has said.
    fn end(mut self) -> (bool, String) {
        let deadline = Instant::now() + WITHIN;
        let mut in_time = true;
        while in_time && self.child.try_wait().expect("an own child").is_none() {
            in_time = Instant::now() < deadline;
            std::thread::sleep(PAUSE);
        }
        let _ = self.child.kill();
        let output = self.child.wait_with_output().expect("an own child");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(in_time, "{} does not end: {said}", self.what);
        (output.status.success(), said)
    }

    fn succeed(self) {
        let what = self.what.clone();
        let (done, said) = self.end();
        assert!(done, "{what}: {said}");
    }
}

/// Waits until the nodes, as the one at `at` lists them, are so.
fn wait_for_list(cluster: &Cluster, at: usize, what: &str, ready: impl Fn(&[Listed]) -> bool) {
    let deadline = Instant::now() + WITHIN;
    loop {
        let listed = list(cluster.nodes[at].port);
        if listed.as_deref().is_some_and(&ready) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: not within {WITHIN:?}; {listed:?}");
        std::thread::sleep(PAUSE);
    }
}

/// Starts a node and waits until it belongs to the cluster, so that nodes have their ids in order.
fn join(cluster: &mut Cluster, at: usize) {
    cluster.restart(at);
    wait_for_list(cluster, 0, "a node joins", |nodes| nodes.len() == at + 1);
}

/// Kills one of these, without warning and without choice, and starts it again.
struct Killer {
    seed: u64,
}

impl Killer {
    fn new() -> Killer {
        let own = u64::from(std::process::id()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let seed = std::env::var("QUORIS_SEED").map_or(own, |text| text.parse().expect("QUORIS_SEED is a number"));
        println!("QUORIS_SEED={seed}");
        Killer { seed }
    }

    fn strike(&mut self, cluster: &mut Cluster, which: &[usize]) {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let at = which[self.seed as usize % which.len()];
        println!("node {} is killed", at + 1);
        cluster.kill(&[at]);
        cluster.restart(at);
    }
}

fn place() -> Vec<Vec<Place>> {
    vec![vec![Place { group: 1, tag: "{a}".into() }]; 5]
}

#[test]
fn nodes_come_and_go_under_load() {
    let shape = Shape { nodes: 5, groups: 1, factor: 3, settings: &[] };
    let began = Instant::now();
    let say = |text: &str| println!("{:6.2} s  {text}", began.elapsed().as_secs_f64());
    let mut killer = Killer::new();
    let mut cluster = Cluster::prepare(shape, &vec![String::new(); 5]);
    cluster.nodes[0].begin = Begin::Alone;
    (1..5).for_each(|at| cluster.nodes[at].begin = Begin::Joins(cluster.nodes[(at - 1) / 2].peer_port));

    cluster.restart(0);
    cluster.wait_until_ready();
    let first = Load::start_on(&cluster, &[0], "a", &place(), 3);
    first.wait_for_progress(WITHIN);
    (1..3).for_each(|at| join(&mut cluster, at));
    killer.strike(&mut cluster, &[0, 1, 2]);
    wait_for_nodes(&mut cluster, 0, &[(1, 2), (2, 2), (3, 2)]);
    say("one has become three");
    let second = Load::start_on(&cluster, &[1], "b", &place(), 2);

    (3..5).for_each(|at| join(&mut cluster, at));
    killer.strike(&mut cluster, &[0, 1, 2, 3, 4]);
    wait_for_nodes(&mut cluster, 1, &[(1, 2), (2, 2), (3, 2), (4, 1), (5, 1)]);
    [&first, &second].iter().for_each(|load| load.wait_for_progress(WITHIN));
    say("three have become five");

    cluster.kill(&[2]);
    let (removed, said) = Admin::begin(&cluster, 0, &["remove", "3"]).end();
    assert!(!removed && said.contains("node replace 3"), "a dead node is replaced, not removed: {said}");
    let replace = Admin::begin(&cluster, 0, &["replace", "3"]);
    wait_for_list(&cluster, 1, "it is decided", |nodes| nodes.iter().any(|n| n.state == "replaced"));
    std::fs::remove_dir_all(cluster.nodes[2].data()).expect("node 3 has lost its disk");
    cluster.nodes[2].begin = Begin::Joins(cluster.nodes[1].peer_port);
    cluster.restart(2);
    killer.strike(&mut cluster, &[0, 1, 3]);
    replace.succeed();
    wait_for_list(&cluster, 1, "node 3 is another", |n| n.iter().map(|n| n.id).eq([1, 2, 4, 5, 6]));
    cluster.wait_until_ready();
    say("the dead one is replaced, and back as another");

    shrink(&mut cluster, &mut killer);
    say("five have become three again");
    [&first, &second].iter().for_each(|load| load.wait_for_progress(WITHIN));
    let mut record = first.stop();
    record.merge(second.stop());
    assert_whole(&mut cluster, &record);
    say("every acknowledged write is there, none twice");
}

/// Nodes 4 and 5 leave, the one after it was drained.
fn shrink(cluster: &mut Cluster, killer: &mut Killer) {
    Admin::begin(cluster, 1, &["drain", "4"]).succeed();
    let drained = list(cluster.nodes[1].port).expect("node 2 answers");
    let drained = drained.iter().find(|node| node.id == 4).expect("it stays in the cluster");
    assert_eq!((drained.replicas, drained.state.as_str()), (0, "draining"));
    for at in [3, 4] {
        let before = cluster.nodes[at].log().len();
        cluster.wait_until_ready();
        let id = at as u64 + 1;
        let remove = Admin::begin(cluster, 1, &["remove", &id.to_string()]);
        let decided = |nodes: &[Listed]| nodes.iter().all(|node| node.id != id || node.state == "leaving");
        wait_for_list(cluster, 1, "it is decided", decided);
        killer.strike(cluster, &[0, 1, 2]);
        remove.succeed();
        let said = cluster.wait_for_end(at, before);
        assert!(said.contains("was removed"), "{said}");
    }
    assert!(cluster.refusal(3).contains("was removed"), "nor does it start again");
    wait_for_nodes(cluster, 1, &[(1, 2), (2, 2), (6, 2)]);
}

fn assert_whole(cluster: &mut Cluster, record: &Record) {
    println!("{:?} acknowledged and unknown writes", record.totals());
    cluster.wait_for_equal_digests(WITHIN);
    let mut client = Client::connect(cluster.nodes[0].port).expect("node 1 is there");
    let wrong = check::check(record, &mut client);
    assert!(wrong.is_empty(), "{} keys are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn leaders_are_handed_over_and_come_back() {
    let shape = Shape { nodes: 3, groups: 3, factor: 3, settings: &[] };
    let mut cluster = Cluster::start(shape);
    let places = super::kill::places(&mut cluster, &shape);
    let led = |cluster: &mut Cluster| (1..=3).map(|group| cluster.leader_of(group)).collect::<Vec<_>>();
    let wait_until_spread = |cluster: &mut Cluster| {
        let deadline = Instant::now() + WITHIN;
        while led(cluster) != [0, 1, 2] {
            assert!(Instant::now() < deadline, "each node leads one group: {:?}", led(cluster));
            std::thread::sleep(PAUSE);
        }
    };
    wait_until_spread(&mut cluster);
    // Its clients are those of the nodes that stay.
    let load = Load::start_on(&cluster, &[0, 2], "w", &places, 2);
    load.wait_for_progress(WITHIN);
    cluster.terminate(1);
    load.wait_for_progress(WITHIN);
    assert!(!led(&mut cluster).contains(&1));
    cluster.restart(1);
    cluster.wait_until_ready();
    wait_until_spread(&mut cluster);
    load.wait_for_progress(WITHIN);
    let record = load.stop();
    println!("the longest pause was {:?}", record.pause_max);
    assert_eq!(record.totals().1, 0, "no write is unknown");
    assert_whole(&mut cluster, &record);
}
