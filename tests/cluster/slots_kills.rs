//! While slots move back and forth under load, the leader of the target and that of the cluster itself die at each step
//! of the procedure; in `slots.rs` it is the leader of the source.
//!
//! At each epoch all nodes name the same owner of every slot, what nobody writes stays as it is, and what is written is
//! there once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use quoris_resp::{Argv, Reply};

use super::client::{Client, call};
use super::kill::places;
use super::load::Load;
use super::process::Cluster;
use super::slots::{PAUSE, SHAPE, STEPS, WITHIN, around, begin, check_all, owner, slot_of, wait_until_moved};
use super::view::NodeView;

/// Whose leader dies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Target,
    Cluster,
}

/// Slots, inclusive.
type Ranges = Vec<(u16, u16)>;

/// Asks all nodes again and again who owns what.
struct Owners {
    over: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Owners {
    fn watch(cluster: &Cluster) -> Owners {
        let over = Arc::<AtomicBool>::default();
        let (stop, ports) = (over.clone(), cluster.nodes.iter().map(|node| node.port).collect::<Vec<_>>());
        let thread = std::thread::spawn(move || {
            let mut seen: BTreeMap<u64, Vec<(u64, Ranges)>> = BTreeMap::new();
            while !stop.load(Ordering::SeqCst) {
                for view in ports.iter().filter_map(|port| NodeView::ask(*port)) {
                    let owners: Vec<_> = view.groups.into_iter().map(|group| (group.id, group.slots)).collect();
                    let mut all: Vec<_> = owners.iter().flat_map(|(_, ranges)| ranges.clone()).collect();
                    all.sort_unstable();
                    let whole = all[0].0 == 0 && all[all.len() - 1].1 == 16383;
                    let each_once = all.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0);
                    assert!(whole && each_once, "epoch {}: {all:?}", view.epoch);
                    let first = seen.entry(view.epoch).or_insert_with(|| owners.clone());
                    assert_eq!(*first, owners, "node {} at epoch {}", view.id, view.epoch);
                }
                std::thread::sleep(PAUSE);
            }
            seen.len()
        });
        Owners { over, thread }
    }

    /// How many epochs were seen.
    fn end(self) -> usize {
        self.over.store(true, Ordering::SeqCst);
        self.thread.join().expect("one owner at each epoch")
    }
}

/// Keys of several types around some tags, which nobody changes afterwards.
struct Still {
    keys: Vec<String>,
    was: Vec<Reply>,
}

impl Still {
    fn write(port: u16, tags: &[String]) -> Still {
        let mut still = Still { keys: Vec::new(), was: Vec::new() };
        let mut client = Client::connect(port).expect("the node is there");
        let mut commands = Vec::new();
        for (n, tag) in (0..40).flat_map(|n| tags.iter().map(move |tag| (n, tag))) {
            let keys = ["s", "l", "h", "z"].map(|kind| format!("still:{kind}:{n}:{tag}"));
            let text = n.to_string();
            commands.push(Argv::from_parts(&["SET", &keys[0], &text, "PX", "99999999"]));
            commands.push(Argv::from_parts(&["RPUSH", &keys[1], "a", &text, "b"]));
            commands.push(Argv::from_parts(&["HSET", &keys[2], "f", &text, "g", "1"]));
            commands.push(Argv::from_parts(&["ZADD", &keys[3], &text, "m", "2", "n"]));
            still.keys.extend(keys);
        }
        let replies = client.pipeline(&commands).expect("replies");
        assert!(!replies.iter().any(Reply::is_error), "{replies:?}");
        still.was = still.read(port);
        still
    }

    fn read(&self, port: u16) -> Vec<Reply> {
        let asks = |key: &String| ["DUMP", "PEXPIRETIME"].map(|word| Argv::from_parts(&[word, key]));
        let commands: Vec<Argv> = self.keys.iter().flat_map(asks).collect();
        Client::connect(port).expect("the node is there").pipeline(&commands).expect("replies")
    }

    fn check(&self, port: u16) {
        for (n, (now, was)) in self.read(port).iter().zip(&self.was).enumerate() {
            assert_eq!(now, was, "{}", self.keys[n / 2]);
        }
    }
}

fn hold(cluster: &Cluster, at: usize, step: &str) {
    assert_eq!(call(cluster.nodes[at].port, &["DEBUG", "HOLD-AT", step]), Reply::Ok);
}

/// Waits until one of the nodes rests at its step.
fn wait_for_rest(cluster: &Cluster, before: &[usize]) -> usize {
    let deadline = Instant::now() + WITHIN;
    loop {
        let rests = |at: &usize| cluster.nodes[*at].log()[before[*at]..].contains("DEBUG HOLD-AT asked for a rest");
        if let Some(at) = (0..cluster.nodes.len()).find(rests) {
            return at;
        }
        assert!(Instant::now() < deadline, "no move rests: {:?}", call(cluster.nodes[0].port, &["CLUSTER", "MOVES"]));
        std::thread::sleep(PAUSE);
    }
}

/// A slot and a group for it, so that the one to die does not lead the source as well, if that can be.
fn choose(cluster: &mut Cluster, slots: &[u16], victim: Victim, round: usize) -> (u16, u64, u64) {
    let mut choices = Vec::new();
    for slot in slots {
        let source = owner(cluster, *slot);
        let leads = cluster.leader_of(source);
        for target in (1..=4).filter(|target| *target != source) {
            let dies = cluster.leader_of(if victim == Victim::Target { target } else { 0 });
            choices.push((dies == leads, (*slot, source, target)));
        }
    }
    let apart: Vec<_> = choices.iter().filter(|(same, _)| !same).map(|(_, choice)| *choice).collect();
    apart.get(round % apart.len().max(1)).copied().unwrap_or(choices[0].1)
}

#[test]
fn cluster_moves_slots_whatever_step_the_other_leaders_die_at() {
    let mut cluster = Cluster::start(SHAPE);
    let places = places(&mut cluster, &SHAPE);
    let tags: Vec<String> = places[0].iter().map(|place| place.tag.clone()).collect();
    let port = cluster.nodes[0].port;
    let slots: Vec<u16> = tags.iter().map(|tag| slot_of(port, tag)).collect();
    let still = Still::write(port, &tags);
    let owners = Owners::watch(&cluster);
    let load = Load::start(&cluster, &places, 2);
    load.wait_for_progress(WITHIN);
    let rounds = STEPS.iter().flat_map(|step| [Victim::Target, Victim::Cluster].map(|victim| (*step, victim)));
    for (round, (step, victim)) in rounds.enumerate() {
        let (slot, source, target) = choose(&mut cluster, &slots, victim, round);
        let before: Vec<usize> = cluster.nodes.iter().map(|node| node.log().len()).collect();
        (0..3).for_each(|at| hold(&cluster, at, step));
        begin(&cluster, round % 3, around(slot), target);
        let rests = wait_for_rest(&cluster, &before);
        let dies = cluster.leader_of(if victim == Victim::Target { target } else { 0 });
        cluster.kill(&[dies]);
        (0..3).filter(|at| *at != dies).for_each(|at| hold(&cluster, at, "none"));
        cluster.restart(dies);
        cluster.wait_until_ready();
        wait_until_moved(&mut cluster, slot, target);
        load.wait_for_progress(WITHIN);
        still.check(cluster.nodes[round % 3].port);
        let driver = if dies == rests { "the driver itself".to_string() } else { format!("driven by {}", rests + 1) };
        println!("slot {slot} from {source} to {target}, node {} ({victim:?}) dead at {step}, {driver}", dies + 1);
    }
    check_all(&mut cluster, load);
    still.check(cluster.nodes[1].port);
    println!("one owner in {} epochs", owners.end());
}
