//! Time to live is agreed: neither wall clocks that jump by an hour, nor failovers, nor a cold start let a
//! key die early, come back, or live more than a second longer.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::client::{Client, REPLY_TIME_MAX};
use super::kill::places;
use super::load::{Load, Place};
use super::mortals::Mortals;
use super::process::{Cluster, Shape, program};
use super::view::NodeView;
use super::walls::{self, HOUR};

const WITHIN: Duration = Duration::from_secs(20);
/// Between two looks at what must not change.
const PAUSE: Duration = Duration::from_millis(50);
/// How far a cold start may find the group's clock from the right time: it was steered by one percent towards
/// clocks that were wrong for some twenty seconds.
const STEERED: Duration = Duration::from_millis(400);
const BUSY: u64 = 1;
const IDLE: u64 = 2;

/// Sets the clocks of all nodes.
fn jump(cluster: &Cluster, hours: [i64; 3]) {
    cluster.nodes.iter().zip(hours).for_each(|(node, hours)| walls::set(node, hours * HOUR));
}

/// The hash tag of a group.
fn tag(places: &[Vec<Place>], group: u64) -> String {
    places[0].iter().find(|place| place.group == group).expect("every node serves every group").tag.clone()
}

#[test]
fn cluster_keys_live_as_long_as_they_were_given() {
    let Some(library) = walls::library() else { return };
    let shape = Shape { nodes: 3, groups: 2, factor: 3, settings: &[] };
    let mut cluster = Cluster::start_prepared(shape, |node| walls::fake(node, &library));
    let places = places(&mut cluster, &shape);
    let tags = [tag(&places, BUSY), tag(&places, IDLE)];
    let busy = vec![vec![Place { group: BUSY, tag: tags[0].clone() }]; 3];
    let load = Load::start(&cluster, &busy, 1);
    let mut mortals = Mortals::watch(&cluster);
    let create = |mortals: &mut Mortals, cluster: &Cluster, times: &[u64], early_max| {
        for (tag, node) in tags.iter().zip(&cluster.nodes) {
            mortals.create(node.port, tag, times, early_max);
        }
    };

    create(&mut mortals, &cluster, &[200, 500, 1000, 1500, 2000, 2500], Duration::ZERO);
    for hours in [[1, -1, 1], [-1, 1, -1], [1, 1, 1], [-1, -1, -1]] {
        jump(&cluster, hours);
        load.wait_for_progress(WITHIN);
    }
    mortals.wait_until_gone("wall clocks jump");

    for (group, hours) in [(BUSY, [1, -1, 1]), (IDLE, [-1, 1, -1]), (IDLE, [1, 1, -1])] {
        create(&mut mortals, &cluster, &[300, 1000, 1500, 2000, 3000, 4000], Duration::ZERO);
        jump(&cluster, hours);
        let leader = cluster.leader_of(group);
        cluster.kill(&[leader]);
        cluster.leader_of(group);
        cluster.restart(leader);
        cluster.wait_until_ready();
        mortals.wait_until_gone(&format!("the leader of group {group} dies"));
    }

    for hours in [[1, 0, 0], [0, 0, -1], [0, 1, 0]] {
        create(&mut mortals, &cluster, &[300, 1000, 2000, 3000, 4000, 6000], STEERED);
        cluster.kill(&[0, 1, 2]);
        jump(&cluster, hours);
        (0..3).for_each(|at| cluster.restart(at));
        cluster.wait_until_ready();
        mortals.wait_until_gone("all nodes start with one wrong clock");
    }
    load.wait_for_progress(WITHIN);
    load.stop();
    cluster.wait_for_equal_digests(WITHIN);
}

/// Longer than a key may live beyond its time.
const STOPPED: Duration = Duration::from_millis(2500);

#[test]
fn cluster_keys_die_in_time_when_a_follower_leads_that_was_stopped() {
    let shape = Shape { nodes: 3, groups: 1, factor: 3, settings: &[] };
    let mut cluster = Cluster::start(shape);
    cluster.wait_until_ready();
    let mut mortals = Mortals::watch(&cluster);
    for _ in 0..3 {
        let leader = cluster.leader_of(BUSY);
        let (stopped, other) = ((leader + 1) % 3, (leader + 2) % 3);
        mortals.create(cluster.nodes[other].port, "", &[1000, 3000, 3500, 4000, 5000], Duration::ZERO);
        cluster.signal(stopped, Signal::STOP);
        std::thread::sleep(STOPPED);
        cluster.kill(&[leader]);
        cluster.signal(stopped, Signal::CONT);
        cluster.restart(leader);
        cluster.wait_until_ready();
        mortals.wait_until_gone("a follower was stopped and the leader dies");
    }
}

/// Whether every replica of every group says that its clock stands still.
fn wait_for_clocks(cluster: &mut Cluster, held: bool) {
    cluster.wait_for("clocks that are held, or run", WITHIN, |views: &[NodeView]| {
        let mut groups = views.iter().flat_map(|view| &view.groups);
        let settled = groups.all(|group| group.clock_held == held && group.leader.is_some());
        (settled && views.iter().all(|view| view.ready != held)).then_some(())
    });
}

fn restart_all(cluster: &mut Cluster, ahead_hours: i64) {
    cluster.kill(&[0, 1, 2]);
    jump(cluster, [ahead_hours; 3]);
    (0..3).for_each(|at| cluster.restart(at));
}

fn ask(cluster: &Cluster, at: usize, command: &[&str]) -> Option<String> {
    let mut client = Client::connect(cluster.nodes[at].port).expect("the node is there");
    client.text(command, REPLY_TIME_MAX).expect("an answer")
}

#[test]
fn cluster_expires_nothing_behind_a_large_step_until_an_operator_confirms_it() {
    let Some(library) = walls::library() else { return };
    let shape = Shape { nodes: 3, groups: 1, factor: 3, settings: &["--clock-step-max", "600"] };
    let mut cluster = Cluster::start_prepared(shape, |node| walls::fake(node, &library));
    ask(&cluster, 0, &["SET", "short", "x", "PX", "2000"]);
    let short_ends = Instant::now() + Duration::from_millis(2000);
    ask(&cluster, 1, &["SET", "long", "x", "PX", &(10 * HOUR * 1000).to_string()]);

    restart_all(&mut cluster, 2);
    wait_for_clocks(&mut cluster, true);
    while Instant::now() < short_ends + Duration::from_secs(2) {
        assert!(ask(&cluster, 0, &["GET", "short"]).is_some(), "nothing expires");
        std::thread::sleep(PAUSE);
    }
    assert_eq!(ask(&cluster, 2, &["SET", "new", "x"]), Some("OK".to_string()), "writes go on");
    let told = cluster.nodes.iter().filter(|node| node.log().contains("quoris admin clock confirm")).count();
    assert!(told > 0, "a leader says what to do");

    // Another leader stands where the first one stood.
    let leader = cluster.leader_of(1);
    cluster.kill(&[leader]);
    let other = (leader + 1) % 3;
    assert!(ask(&cluster, other, &["GET", "short"]).is_some());
    cluster.restart(leader);
    wait_for_clocks(&mut cluster, true);
    assert!(ask(&cluster, leader, &["GET", "short"]).is_some());

    let port = cluster.nodes[other].port.to_string();
    let confirm = Command::new(program()).args(["admin", "clock", "confirm", "--port", &port]).output();
    let confirm = confirm.expect("the program starts");
    assert_eq!(String::from_utf8_lossy(&confirm.stdout), "2 clocks confirmed\n", "{confirm:?}");
    wait_for_clocks(&mut cluster, false);
    assert_eq!(ask(&cluster, 0, &["GET", "short"]), None);
    let left = |cluster: &Cluster| ask(cluster, 0, &["TTL", "long"]).expect("a number").parse::<i64>();
    let hours = 8 * HOUR - 60..=8 * HOUR;
    assert!(left(&cluster).is_ok_and(|left| hours.contains(&left)), "{:?} seconds left", left(&cluster));

    // A step that nobody wanted is taken back where it was made.
    restart_all(&mut cluster, 4);
    wait_for_clocks(&mut cluster, true);
    jump(&cluster, [2; 3]);
    wait_for_clocks(&mut cluster, false);
    assert!(left(&cluster).is_ok_and(|left| hours.contains(&left)), "{:?} seconds left", left(&cluster));
}

/// A replica that is rebuilt inside its process has not forgotten the clock.
#[test]
fn cluster_of_one_keeps_its_clock_when_its_replica_is_rebuilt() {
    let Some(library) = walls::library() else { return };
    let shape = Shape { nodes: 1, groups: 1, factor: 1, settings: &["--enable-debug-command", "local"] };
    let mut cluster = Cluster::start_prepared(shape, |node| walls::fake(node, &library));
    ask(&cluster, 0, &["SET", "mortal", "x", "PX", "600000"]);
    ask(&cluster, 0, &["SET", "damaged", "some value"]);
    walls::set(&cluster.nodes[0], HOUR);
    ask(&cluster, 0, &["DEBUG", "FLIP-BIT", "damaged"]);
    cluster.wait_for("a rebuilt replica", WITHIN, |views| {
        views[0].group(1).filter(|group| group.rebuilds > 0 && views[0].ready).map(|_| ())
    });
    ask(&cluster, 0, &["SET", "tick", "x"]);
    let left = ask(&cluster, 0, &["PTTL", "mortal"]).expect("a number");
    assert!(left.parse::<i64>().is_ok_and(|left| (500_000..=600_000).contains(&left)), "{left} ms left");
}
