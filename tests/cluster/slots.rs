//! Slots move back and forth under load while leaders die: nothing acknowledged is lost and nothing happens twice,
//! and whoever waits or listens goes along.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use quoris_resp::Reply;

use super::check;
use super::client::{Client, Outcome, REPLY_TIME_MAX, call, frame};
use super::events::{listen, next_message};
use super::kill::places;
use super::load::Load;
use super::process::{Cluster, Shape};

pub(super) const SHAPE: Shape = Shape { nodes: 3, groups: 4, factor: 3, settings: &["--enable-debug-command", "yes"] };
pub(super) const WITHIN: Duration = Duration::from_secs(60);
pub(super) const PAUSE: Duration = Duration::from_millis(20);
/// Every step at which the leader of the source can die.
pub(super) const STEPS: [&str; 8] = ["begun", "taken", "copied", "frozen", "sealed", "switched", "owned", "dropped"];

pub(super) fn slot_of(port: u16, key: &str) -> u16 {
    match call(port, &["CLUSTER", "KEYSLOT", key]) {
        Reply::Int(slot) => slot as u16,
        other => panic!("{other:?}"),
    }
}

/// The group that owns a slot, when all nodes say the same and nothing is on its way.
pub(super) fn owner(cluster: &mut Cluster, slot: u16) -> u64 {
    cluster.wait_for("one owner", WITHIN, |views| {
        let of = |view: &super::view::NodeView| {
            let holds = |group: &&super::view::GroupView| group.slots.iter().any(|(f, l)| (*f..=*l).contains(&slot));
            view.groups.iter().find(holds).map(|group| group.id)
        };
        let first = of(views.first()?)?;
        views.iter().all(|view| of(view) == Some(first)).then_some(first)
    })
}

pub(super) fn begin(cluster: &Cluster, at: usize, slots: (u16, u16), target: u64) {
    let range = format!("{}-{}", slots.0, slots.1);
    let reply = call(cluster.nodes[at].port, &["CLUSTER", "MOVE-SLOTS", &range, &target.to_string()]);
    assert_eq!(reply, Reply::Ok, "{range} to {target}");
}

/// Waits until the slots have their new owner and both groups know.
pub(super) fn wait_until_moved(cluster: &mut Cluster, slot: u16, target: u64) {
    let deadline = Instant::now() + WITHIN;
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    let moves = |port: &u16| {
        let asked = Client::connect(*port).ok().map(|mut client| client.call(&["CLUSTER", "MOVES"]));
        matches!(asked, Some(Outcome::Done(Reply::Null)))
    };
    while !ports.iter().all(moves) {
        assert!(Instant::now() < deadline, "the slots do not move: {:?}", call(ports[0], &["CLUSTER", "MOVES"]));
        std::thread::sleep(PAUSE);
    }
    assert_eq!(owner(cluster, slot), target);
}

/// What load leaves behind must be there; `wrong` names what is not.
pub(super) fn check_all(cluster: &mut Cluster, load: Load) {
    let record = load.stop();
    let (acknowledged, unknown) = record.totals();
    println!("{acknowledged} acknowledged, {unknown} unknown, longest pause {} ms", record.pause_max.as_millis());
    cluster.wait_for_equal_digests(WITHIN);
    let mut client = Client::connect(cluster.nodes[0].port).expect("node 1 is there");
    let wrong = check::check(&record, &mut client);
    assert!(wrong.is_empty(), "{} keys are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The slots of a group's tag and many around it.
pub(super) fn around(slot: u16) -> (u16, u16) {
    (slot / 512 * 512, slot / 512 * 512 + 511)
}

#[test]
fn cluster_moves_slots_whatever_step_the_leader_of_the_source_dies_at() {
    let mut cluster = Cluster::start(SHAPE);
    let places = places(&mut cluster, &SHAPE);
    let load = Load::start(&cluster, &places, 2);
    load.wait_for_progress(WITHIN);
    let slot = slot_of(cluster.nodes[0].port, &places[0][0].tag);
    for (round, step) in STEPS.iter().enumerate() {
        let source = owner(&mut cluster, slot);
        let target = 1 + (source + round as u64 % 3) % 4;
        let leader = cluster.leader_of(source);
        let node = &cluster.nodes[leader];
        assert_eq!(call(node.port, &["DEBUG", "DIE-AT", step, "1"]), Reply::Ok);
        // Odd while it may die.
        node.kills.fetch_add(1, Ordering::SeqCst);
        let before = node.log().len();
        begin(&cluster, (leader + 1) % 3, around(slot), target);
        cluster.wait_for_end(leader, before);
        cluster.nodes[leader].kills.fetch_add(1, Ordering::SeqCst);
        cluster.restart(leader);
        cluster.wait_until_ready();
        wait_until_moved(&mut cluster, slot, target);
        load.wait_for_progress(WITHIN);
        println!("slot {slot} from {source} to {target}, dead at {step}");
    }
    check_all(&mut cluster, load);
}

#[test]
fn cluster_moves_slots_while_leaders_of_all_kinds_die() {
    let mut cluster = Cluster::start(SHAPE);
    let places = places(&mut cluster, &SHAPE);
    let load = Load::start(&cluster, &places, 2);
    load.wait_for_progress(WITHIN);
    let slots: Vec<u16> = places[0].iter().map(|place| slot_of(cluster.nodes[0].port, &place.tag)).collect();
    for round in 0..6 {
        let slot = slots[round % slots.len()];
        let source = owner(&mut cluster, slot);
        let target = 1 + (source + round as u64 % 3) % 4;
        // The leader of the target, of the cluster itself, and nobody.
        let victim = [Some(target), Some(0), None][round % 3].map(|group| cluster.leader_of(group));
        begin(&cluster, 0, around(slot), target);
        if let Some(victim) = victim {
            cluster.kill(&[victim]);
            cluster.restart(victim);
            cluster.wait_until_ready();
        }
        wait_until_moved(&mut cluster, slot, target);
        load.wait_for_progress(WITHIN);
        println!("slot {slot} from {source} to {target}, killed {victim:?}");
    }
    check_all(&mut cluster, load);
}

#[test]
fn cluster_takes_those_along_who_wait_watch_and_listen() {
    let mut cluster = Cluster::start(SHAPE);
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    let slot = slot_of(ports[0], "{x}");
    let mut waiting = Client::connect(ports[1]).expect("a node");
    waiting.send(&frame(&["BLPOP", "{x}list", "0"])).expect("it is sent");
    let mut listeners: Vec<Client> = ports
        .iter()
        .flat_map(|port| [("SUBSCRIBE", "{x}news"), ("PSUBSCRIBE", "{x}n*")].map(|(word, name)| (*port, word, name)))
        .map(|(port, word, name)| listen(port, word, name).expect("it listens"))
        .collect();
    let mut watching = Client::connect(ports[2]).expect("a node");
    let mut ask = |parts: &[&str]| match watching.call(parts) {
        Outcome::Done(reply) => reply,
        other => panic!("{parts:?}: {other}"),
    };
    assert_eq!(call(ports[0], &["SET", "{x}", "1", "PX", "3600000"]), Reply::Ok);
    assert_eq!(ask(&["WATCH", "{x}"]), Reply::Ok);
    let mut said = 0;
    for _ in 0..6 {
        let source = owner(&mut cluster, slot);
        let target = 1 + source % 4;
        let publish = |said: &mut usize| {
            for port in &ports {
                assert!(matches!(call(*port, &["PUBLISH", "{x}news", &said.to_string()]), Reply::Int(_)));
                *said += 1;
            }
        };
        publish(&mut said);
        begin(&cluster, 1, around(slot), target);
        (0..20).for_each(|_| publish(&mut said));
        wait_until_moved(&mut cluster, slot, target);
        publish(&mut said);
    }
    for listener in &mut listeners {
        for n in 0..said {
            let message = next_message(listener, Instant::now() + REPLY_TIME_MAX).expect("a message");
            assert_eq!(message, ("{x}news".into(), n.to_string()));
        }
    }
    assert_eq!(ask(&["MULTI"]), Reply::Ok);
    ask(&["INCR", "{x}"]);
    assert_eq!(ask(&["EXEC"]), Reply::Array(vec![Reply::Int(2)]), "nobody has changed it");
    assert!(matches!(ask(&["PTTL", "{x}"]), Reply::Int(1..=3_600_000)));
    assert_eq!(call(ports[0], &["RPUSH", "{x}list", "element"]), Reply::Int(1));
    let element = waiting.next(Instant::now() + REPLY_TIME_MAX).expect("it is served");
    assert_eq!(element, Reply::Array(vec![Reply::bulk("{x}list"), Reply::bulk("element")]));
    cluster.wait_for_equal_digests(WITHIN);
}
