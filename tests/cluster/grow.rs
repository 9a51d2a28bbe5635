//! A cluster whose nodes come and go, under load: one node becomes three and five, two dead ones are replaced, others
//! drain and leave, and somebody is killed at every step. The load is that of plain clients of nodes, then of plain
//! clients of proxies and of cluster clients as people use them.
//!
//! What was acknowledged is there once, and clients of nodes that live see no error.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quoris_resp::Reply;

use super::awaited::awaited;
use super::check;
use super::client::{Client, Outcome, REPLY_TIME_MAX};
use super::load::{Load, Place, Record};
use super::process::{Begin, Cluster, Shape, program};
use super::proxies::Proxy;
use super::workload::Workload;

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

    fn kill(mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("an own child");
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
    strikes: usize,
}

impl Killer {
    fn new() -> Killer {
        let own = u64::from(std::process::id()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let seed = std::env::var("QUORIS_SEED").map_or(own, |text| text.parse().expect("QUORIS_SEED is a number"));
        println!("QUORIS_SEED={seed}");
        Killer { seed, strikes: 0 }
    }

    fn strike(&mut self, cluster: &mut Cluster, which: &[usize]) {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let at = which[self.seed as usize % which.len()];
        println!("node {} is killed", at + 1);
        self.strikes += 1;
        cluster.kill(&[at]);
        cluster.restart(at);
    }
}

fn place() -> Vec<Place> {
    vec![Place { group: 1, tag: "{a}".into() }]
}

/// Who works meanwhile.
#[derive(Default)]
struct Crowd {
    loads: Vec<Load>,
    proxies: Vec<Proxy>,
    libraries: Vec<Workload>,
}

impl Crowd {
    fn wait_for_progress(&mut self) {
        self.loads.iter().for_each(|load| load.wait_for_progress(WITHIN));
        self.libraries.iter_mut().for_each(Workload::wait_for_progress);
    }

    /// Ends them, behind so many deaths.
    fn end(mut self, deaths: usize) -> Record {
        self.wait_for_progress();
        self.libraries.into_iter().for_each(|workload| workload.end(deaths));
        let mut record = Record::default();
        self.loads.into_iter().for_each(|load| record.merge(load.stop()));
        record
    }
}

/// How far a cluster has grown.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    One,
    Three,
    Five,
}

#[test]
fn nodes_come_and_go_under_load() {
    come_and_go(&[], |cluster, stage, crowd| match stage {
        Stage::One => crowd.loads.push(Load::start_on(cluster, &[0], "a", &vec![place(); 5], 3)),
        Stage::Three => crowd.loads.push(Load::start_on(cluster, &[1], "b", &vec![place(); 5], 2)),
        Stage::Five => {}
    });
}

/// The clients of proxies never see an error, whoever of the nodes dies. One of the proxies dies as well.
#[test]
fn nodes_come_and_go_under_proxies_and_cluster_clients() {
    come_and_go(&["--cluster-redirects", "yes"], |cluster, stage, crowd| match stage {
        Stage::One | Stage::Three => {
            let proxy = Proxy::of(cluster, crowd.proxies.len());
            let prefix = ["a", "b"][crowd.proxies.len()];
            crowd.loads.push(Load::through_named(&[proxy.door(crowd.proxies.len() + 1, &place())], prefix, 3));
            crowd.proxies.push(proxy);
            if stage == Stage::Three {
                let ports: Vec<u16> = cluster.nodes[..3].iter().map(|node| node.port).collect();
                let names = ["redis_py_workload.py", "ioredis_workload.mjs"];
                crowd.libraries.extend(names.map(|name| Workload::start(name, &ports, &[("QUORIS_PATIENT", "1")])));
            }
        }
        Stage::Five => crowd.proxies[1].crash(),
    });
}

/// One node becomes three and five, two are replaced, one is drained, and three are left.
fn come_and_go(settings: &'static [&'static str], join_in: fn(&Cluster, Stage, &mut Crowd)) {
    let shape = Shape { nodes: 5, groups: 1, factor: 3, settings };
    let began = Instant::now();
    let say = |text: &str| println!("{:6.2} s  {text}", began.elapsed().as_secs_f64());
    let (mut killer, mut crowd) = (Killer::new(), Crowd::default());
    let mut cluster = Cluster::prepare(shape, &vec![String::new(); 5]);
    cluster.nodes[0].begin = Begin::Alone;
    (1..5).for_each(|at| cluster.nodes[at].begin = Begin::Joins(cluster.nodes[(at - 1) / 2].peer_port));

    cluster.restart(0);
    cluster.wait_until_ready();
    join_in(&cluster, Stage::One, &mut crowd);
    crowd.wait_for_progress();
    (1..3).for_each(|at| join(&mut cluster, at));
    killer.strike(&mut cluster, &[0, 1, 2]);
    wait_for_nodes(&mut cluster, 0, &[(1, 2), (2, 2), (3, 2)]);
    say("one has become three");
    join_in(&cluster, Stage::Three, &mut crowd);
    crowd.wait_for_progress();

    (3..5).for_each(|at| join(&mut cluster, at));
    crowd.wait_for_progress();
    killer.strike(&mut cluster, &[0, 1, 2, 3, 4]);
    wait_for_nodes(&mut cluster, 1, &[(1, 2), (2, 2), (3, 2), (4, 1), (5, 1)]);
    join_in(&cluster, Stage::Five, &mut crowd);
    crowd.wait_for_progress();
    say("three have become five");

    replace(&mut cluster, &mut killer, &mut crowd, (2, &[1, 2, 4, 5, 6]));
    replace(&mut cluster, &mut killer, &mut crowd, (3, &[1, 2, 5, 6, 7]));
    say("two dead ones are replaced, and back as others");

    shrink(&mut cluster, &mut killer, &mut crowd);
    say("five have become three again");
    // Each strike, two that were lost and two that were removed.
    let record = crowd.end(killer.strikes + 4);
    assert_whole(&mut cluster, &record);
    say("every acknowledged write is there, none twice");
}

/// A node is lost with its disk, and comes back as another.
fn replace(cluster: &mut Cluster, killer: &mut Killer, crowd: &mut Crowd, (at, then): (usize, &[u64])) {
    let id = (at as u64 + 1).to_string();
    cluster.kill(&[at]);
    let (removed, said) = Admin::begin(cluster, 0, &["remove", &id]).end();
    let hint = format!("node replace {id}");
    assert!(!removed && said.contains(&hint), "a dead node is replaced, not removed: {said}");
    let killed = Admin::begin(cluster, 0, &["replace", &id]);
    wait_for_list(cluster, 1, "it is decided", |nodes| nodes.iter().any(|n| n.state == "replaced"));
    killed.kill();
    let again = Admin::begin(cluster, 1, &["replace", &id]);
    std::fs::remove_dir_all(cluster.nodes[at].data()).expect("the node has lost its disk");
    cluster.nodes[at].begin = Begin::Joins(cluster.nodes[1].peer_port);
    cluster.restart(at);
    crowd.wait_for_progress();
    killer.strike(cluster, &[0, 1]);
    again.succeed();
    wait_for_list(cluster, 1, "it is another", |nodes| nodes.iter().map(|n| n.id).eq(then.iter().copied()));
    cluster.wait_until_ready();
    crowd.wait_for_progress();
}

/// Nodes 7 and 5 leave, the one after it was drained.
fn shrink(cluster: &mut Cluster, killer: &mut Killer, crowd: &mut Crowd) {
    Admin::begin(cluster, 1, &["drain", "7"]).succeed();
    let drained = list(cluster.nodes[1].port).expect("node 2 answers");
    let drained = drained.iter().find(|node| node.id == 7).expect("it stays in the cluster");
    assert_eq!((drained.replicas, drained.state.as_str()), (0, "draining"));
    for (at, id) in [(3, 7), (4, 5)] {
        let before = cluster.nodes[at].log().len();
        cluster.wait_until_ready();
        crowd.wait_for_progress();
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
    println!("{:?} acknowledged and unknown writes, the longest pause {:?}", record.totals(), record.pause_max);
    cluster.wait_for_equal_digests(WITHIN);
    let mut proxy = None;
    let port = match Client::connect(cluster.nodes[0].port).expect("node 1 is there").call(&["GET", "{a}"]) {
        Outcome::Refused(_) => proxy.insert(Proxy::of(cluster, 0)).port,
        _ => cluster.nodes[0].port,
    };
    let wrong = check::check(record, &mut Client::connect(port).expect("somebody listens"));
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

/// The longest wait for a command that had no answer when the node at this port stopped.
fn longest_unanswered(port: u16, key: &str) -> Duration {
    let mut client = Client::connect(port).expect("the node lives");
    loop {
        let began = Instant::now();
        if !matches!(client.call(&["INCR", key]), Outcome::Done(_)) {
            return began.elapsed();
        }
        // As a client that has other things to do, too.
        std::thread::sleep(PAUSE);
    }
}

#[test]
fn a_node_that_stops_answers_what_it_was_asked() {
    let mut cluster = Cluster::start(Shape { nodes: 3, groups: 3, factor: 3, settings: &[] });
    let port = cluster.nodes[0].port;
    let clients: Vec<_> =
        (0..20).map(|at| std::thread::spawn(move || longest_unanswered(port, &format!("key:{at}")))).collect();
    let mut client = Client::connect(cluster.nodes[1].port).expect("node 2 lives");
    let deadline = Instant::now() + WITHIN;
    while !matches!(client.call(&["GET", "key:19"]), Outcome::Done(Reply::Bulk(_))) {
        assert!(Instant::now() < deadline, "nobody writes");
    }
    cluster.terminate(0);
    let waits: Vec<Duration> = clients.into_iter().map(|client| client.join().expect("no client panics")).collect();
    println!("{waits:?}");
    // Whoever asks on a connection that has ended is told so at once; whoever waits was heard.
    assert!(waits.iter().all(|wait| *wait < PAUSE), "{waits:?}");
}
