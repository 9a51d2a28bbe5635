//! Nothing acknowledged is lost and nothing happens twice, whoever is killed.
//!
//! Real processes, real files, SIGKILL: the leader of every group in turn, then all nodes at once, all
//! under load through every node.

use std::time::{Duration, Instant};

use super::check;
use super::client::{Client, Outcome, REPLY_TIME_MAX};
use super::load::{Load, Place};
use super::process::{Cluster, Shape};

/// The promised median from a leader's death to the next acknowledged write of its group.
const FIRST_WRITE_MEDIAN_MAX: Duration = Duration::from_millis(400);
const PROGRESS_TIME_MAX: Duration = Duration::from_secs(20);
const EQUAL_DIGESTS_TIME_MAX: Duration = Duration::from_secs(20);
/// Dead peers are tried again with pauses; a node that spins says so ten thousand times a second.
const LOG_LINES_PER_KILL_MAX: usize = 1000;

/// How often the leader of the one group is killed: `QUORIS_KILLS`, or a few times in the gate.
fn kills() -> usize {
    std::env::var("QUORIS_KILLS").map_or(5, |text| text.parse().expect("QUORIS_KILLS is a number"))
}

#[test]
fn cluster_of_three_with_one_group_survives_kills() {
    survive(&Shape { nodes: 3, groups: 1, factor: 3, settings: &[] }, kills(), 3);
}

#[test]
fn cluster_of_three_with_four_groups_survives_kills() {
    survive(&Shape { nodes: 3, groups: 4, factor: 3, settings: &[] }, 2, 3);
}

/// No client talks to a node that holds a replica of its keys.
#[test]
fn cluster_of_five_with_strangers_as_clients_survives_kills() {
    survive(&Shape { nodes: 5, groups: 4, factor: 3, settings: &[] }, 2, 2);
}

/// Of five copies three are a majority: what two leave behind goes on.
#[test]
fn cluster_of_five_copies_survives_two_deaths_at_a_time() {
    let shape = Shape { nodes: 5, groups: 2, factor: 5, settings: &[] };
    let mut cluster = Cluster::start(shape);
    let places = places(&mut cluster, &shape);
    let load = Load::start(&cluster, &places, 2);
    load.wait_for_progress(PROGRESS_TIME_MAX);
    for round in 0..4 {
        let leader = cluster.leader_of(1 + round % 2);
        let dead = [leader, (leader + 1 + round as usize) % 5];
        cluster.kill(&dead);
        let survivor = (0..5).find(|at| !dead.contains(at)).expect("three live");
        let mut client = Client::connect(cluster.nodes[survivor].port).expect("a survivor is there");
        for place in &places[survivor] {
            let outcome = client.call(&["INCR", &format!("probe:{}", place.tag)]);
            assert!(matches!(outcome, Outcome::Done(_)), "group {} without {dead:?}: {outcome}", place.group);
        }
        dead.iter().for_each(|at| cluster.restart(*at));
        cluster.wait_until_ready();
        load.wait_for_progress(PROGRESS_TIME_MAX);
    }
    let record = load.stop();
    println!("{:?} acknowledged and unknown, longest pause {:?}", record.totals(), record.pause_max);
    cluster.wait_for_equal_digests(EQUAL_DIGESTS_TIME_MAX);
    let wrong = check::check(&record, &mut Client::connect(cluster.nodes[0].port).expect("node 1 is there"));
    assert!(wrong.is_empty(), "{} keys are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Kills each group's leader `rounds` times and then everybody, with `per_node` clients on each node.
fn survive(shape: &Shape, rounds: usize, per_node: usize) {
    let began = Instant::now();
    let say = |text: &str| println!("{:6.2} s  {text}", began.elapsed().as_secs_f64());
    let mut cluster = Cluster::start(*shape);
    say(&format!("{shape:?} is ready"));
    let places = places(&mut cluster, shape);
    let load = Load::start(&cluster, &places, per_node);
    load.wait_for_progress(PROGRESS_TIME_MAX);
    let mut times = Vec::new();
    for round in 0..rounds {
        for group in 1..=shape.groups as u64 {
            let (leader, time) = kill_leader(&mut cluster, &places, group, round);
            times.push(time);
            say(&format!("group {group}: leader {} killed, first write after {} ms", leader + 1, time.as_millis()));
            cluster.restart(leader);
            cluster.wait_until_ready();
            load.wait_for_progress(PROGRESS_TIME_MAX);
        }
    }
    say(&format!("{} writes; all nodes are killed", load.written()));
    let all: Vec<usize> = (0..shape.nodes).collect();
    cluster.kill(&all);
    all.iter().for_each(|at| cluster.restart(*at));
    cluster.wait_until_ready();
    say("all are ready again");
    load.wait_for_progress(PROGRESS_TIME_MAX);
    let record = load.stop();
    let (acknowledged, unknown) = record.totals();
    say(&format!(
        "{acknowledged} writes acknowledged, {unknown} unknown, longest pause {} ms",
        record.pause_max.as_millis()
    ));
    let digests = cluster.wait_for_equal_digests(EQUAL_DIGESTS_TIME_MAX);
    say(&format!("equal digests at {digests:?}"));
    let mut client = Client::connect(cluster.nodes[0].port).expect("node 1 is there");
    let wrong = check::check(&record, &mut client);
    assert!(wrong.is_empty(), "{} keys are wrong:\n{}", wrong.len(), wrong.join("\n"));
    say("every acknowledged write is there, none twice");
    say(&format!("{} lines in the longest log", cluster.log_lines()));
    assert!(cluster.log_lines() <= LOG_LINES_PER_KILL_MAX * (times.len() + 1), "a log is flooded");
    assert_fast(times);
}

/// Where the clients of each node write: everywhere, or only in groups that have no replica there when
/// the groups do not cover all nodes.
pub fn places(cluster: &mut Cluster, shape: &Shape) -> Vec<Vec<Place>> {
    let view = cluster.wait_for("a view", PROGRESS_TIME_MAX, |views| views.first().cloned());
    let mut client = Client::connect(cluster.nodes[0].port).expect("node 1 is there");
    let mut places: Vec<Vec<Place>> = vec![Vec::new(); shape.nodes];
    for group in view.groups.iter().filter(|group| group.id != 0) {
        let mut tags = (0..).map(|n| format!("{{g{}n{n}}}", group.id));
        let tag = tags.find(|tag| {
            let slot = client.text(&["CLUSTER", "KEYSLOT", tag], REPLY_TIME_MAX).expect("a slot").expect("a number");
            let slot: u16 = slot.parse().expect("a slot is a number");
            group.slots.iter().any(|(from, to)| (*from..=*to).contains(&slot))
        });
        let tag = tag.expect("tags do not end");
        for (at, places) in places.iter_mut().enumerate() {
            if shape.factor == shape.nodes || !group.replicas.contains(&(at as u64 + 1)) {
                places.push(Place { group: group.id, tag: tag.clone() });
            }
        }
    }
    assert!(places.iter().all(|places| !places.is_empty()), "a node is left without clients: {places:?}");
    places
}

/// Kills the leader and measures until another node acknowledges a write of the group.
fn kill_leader(cluster: &mut Cluster, places: &[Vec<Place>], group: u64, round: usize) -> (usize, Duration) {
    let leader = cluster.leader_of(group);
    let others = (0..cluster.nodes.len()).map(|at| (leader + 1 + round + at) % cluster.nodes.len());
    let found =
        others.filter(|at| *at != leader).find_map(|at| Some((at, places[at].iter().find(|p| p.group == group)?)));
    let (survivor, place) = found.expect("each group has clients on another node");
    let mut client = Client::connect(cluster.nodes[survivor].port).expect("a survivor is there");
    let killed = Instant::now();
    cluster.kill(&[leader]);
    match client.call(&["INCR", &format!("probe:{}", place.tag)]) {
        Outcome::Done(_) => (leader, killed.elapsed()),
        other => panic!(
            "group {group} through node {}, {:?} after the leader's death: {other}",
            survivor + 1,
            killed.elapsed()
        ),
    }
}

fn assert_fast(mut times: Vec<Duration>) {
    times.sort();
    let (min, median, max) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    let ms = |time: Duration| time.as_millis();
    println!(
        "first write after a leader's death, {} kills: median {} ms, min {}, max {}",
        times.len(),
        ms(median),
        ms(min),
        ms(max)
    );
    assert!(median <= FIRST_WRITE_MEDIAN_MAX, "median {median:?} is above {FIRST_WRITE_MEDIAN_MAX:?}");
}
