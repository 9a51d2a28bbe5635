//! Groups that have no replica on this node: who leads them, and what their clocks say.
//!
//! Every answer of a leader tells. Beside that a node asks those that hold such groups twice a second what they lead
//! ([`Kind::Topology`]): so it knows where to go when nobody has asked for long, and hears of another leader when the
//! one before falls silent without a word. A guest, for which all groups are elsewhere, learns the topology in the
//! same breath.
//!
//! Invariants: what is known here is a hint, and who is asked wrongly names a better one; a leader of an earlier term
//! never replaces one of a later term.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::guest;
use crate::link::Lane;
use crate::node::Node;
use crate::runtime::random_u64;
use crate::topology::Topology;
use crate::types::{GroupId, NodeId};
use crate::wire::{self, Kind};

/// Between two questions to a node.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Who is silent for so long is not there.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(2);

/// What is known of groups elsewhere.
#[derive(Default)]
pub(crate) struct Elsewhere {
    groups: Mutex<BTreeMap<GroupId, Remote>>,
    /// When each node has answered last.
    heard: Mutex<BTreeMap<NodeId, Duration>>,
    /// Nodes have said what they lead.
    changed: watch::Sender<()>,
}

#[derive(Clone, Copy, Default)]
struct Remote {
    leader: Option<NodeId>,
    /// The latest term that a leader has named.
    term: u64,
    /// The clock and when it was heard.
    clock: Option<(u64, Duration)>,
}

/// What a node answers to one that asks around.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pulse {
    /// The topology, if it is newer than what the other knows.
    pub topology: Option<Topology>,
    led: Vec<Led>,
}

/// A group that the node leads.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Led {
    group: GroupId,
    term: u64,
    /// 0 while it is not known.
    clock_ms: u64,
}

impl Node {
    /// The node that leads a group, as far as is known; for a group without a sound replica here, one that
    /// holds a replica and can tell.
    pub fn leader_of(&self, group: GroupId) -> Option<NodeId> {
        let known = self.known_leader(group);
        if known.is_some() || self.sound_group(group).is_some() {
            return known;
        }
        let routes = self.routes();
        let holders: Vec<NodeId> = routes.topology.groups.get(&group)?.replicas.values().copied().collect();
        holders.get(random_u64() as usize % holders.len().max(1)).copied()
    }

    /// The same, when it is known.
    pub(crate) fn known_leader(&self, group: GroupId) -> Option<NodeId> {
        match self.sound_group(group) {
            Some(local) => local.leader(),
            None => self.inner().elsewhere.groups.lock().get(&group).and_then(|r| r.leader),
        }
    }

    /// A leader has answered.
    pub(crate) fn learn(&self, group: GroupId, leader: NodeId, clock_ms: u64) {
        if self.sound_group(group).is_none() {
            let clock = (clock_ms > 0).then(|| (clock_ms, self.inner().seams.clock.monotonic()));
            let mut groups = self.inner().elsewhere.groups.lock();
            let remote = groups.entry(group).or_default();
            (remote.leader, remote.clock) = (Some(leader), clock);
        }
    }

    /// Whether a leader elsewhere has told this node the clock of a group.
    pub(crate) fn has_heard_of(&self, group: GroupId) -> bool {
        self.inner().elsewhere.groups.lock().get(&group).is_some_and(|remote| remote.clock.is_some())
    }

    pub(crate) fn forget_leader(&self, group: GroupId, leader: NodeId) {
        if let Some(remote) = self.inner().elsewhere.groups.lock().get_mut(&group)
            && remote.leader == Some(leader)
        {
            remote.leader = None;
        }
    }

    /// The present estimate of a group's clock, in Unix milliseconds.
    pub fn clock_ms(&self, group: GroupId) -> u64 {
        if let Some(local) = self.group(group) {
            return local.replica.clock.now_ms();
        }
        let clock = &self.inner().seams.clock;
        match self.inner().elsewhere.groups.lock().get(&group).and_then(|r| r.clock) {
            Some((value, at)) => value + clock.monotonic().saturating_sub(at).as_millis() as u64,
            None => clock.wall_ms(),
        }
    }

    /// Resolves when another leader of a group is heard of.
    pub(crate) async fn leader_changes(&self, group: GroupId, known: Option<NodeId>) {
        if let Some(local) = self.group(group) {
            let mut leader = local.replica.leader.subscribe();
            while leader.changed().await.is_ok() {
                let leader = *leader.borrow_and_update();
                if leader.is_some() && leader != known {
                    return;
                }
            }
        }
        let mut changed = self.inner().elsewhere.changed.subscribe();
        while changed.changed().await.is_ok() {
            let leader = self.known_leader(group);
            if leader.is_some() && leader != known {
                return;
            }
        }
        std::future::pending().await
    }

    /// Whether a node has answered lately, of those that are asked.
    pub(crate) fn has_heard(&self, peer: NodeId) -> bool {
        let (heard, now) = (self.inner().elsewhere.heard.lock(), self.inner().seams.clock.monotonic());
        heard.get(&peer).is_some_and(|at| now.saturating_sub(*at) < SILENCE_MAX)
    }

    /// Those who have answered lately.
    pub(crate) fn heard(&self) -> Vec<NodeId> {
        let peers: Vec<NodeId> = self.inner().elsewhere.heard.lock().keys().copied().collect();
        peers.into_iter().filter(|peer| self.has_heard(*peer)).collect()
    }

    /// What this node answers to one that knows the topology up to an epoch.
    ///
    /// # Errors
    /// While it belongs to no cluster.
    pub(crate) fn pulse(&self, known: u64) -> io::Result<Pulse> {
        let routes = self.known_routes().ok_or_else(|| io::Error::other("no cluster yet"))?;
        let topology = (routes.topology.epoch > known).then(|| routes.topology.clone());
        let groups = self.inner().groups.load();
        let led = groups.iter().filter(|(_, group)| group.leads()).map(|(id, group)| Led {
            group: *id,
            term: group.metrics().current_term,
            clock_ms: group.replica.clock.told().stands_at().unwrap_or(0),
        });
        Ok(Pulse { topology, led: led.collect() })
    }

    fn take_pulse(&self, peer: NodeId, pulse: &Pulse) {
        let elsewhere = &self.inner().elsewhere;
        let now = self.inner().seams.clock.monotonic();
        elsewhere.heard.lock().insert(peer, now);
        let mut groups = elsewhere.groups.lock();
        for led in pulse.led.iter() {
            let remote = groups.entry(led.group).or_default();
            if led.term >= remote.term {
                (remote.leader, remote.term) = (Some(peer), led.term);
                remote.clock = if led.clock_ms > 0 { Some((led.clock_ms, now)) } else { remote.clock };
            }
        }
        let still = |id: &GroupId| pulse.led.iter().any(|led| led.group == *id);
        let lost = groups.iter_mut().filter(|(id, remote)| remote.leader == Some(peer) && !still(id));
        lost.for_each(|(_, remote)| remote.leader = None);
        drop(groups);
        elsewhere.changed.send_replace(());
    }

    /// The nodes that hold what this one does not.
    fn holders(&self) -> BTreeSet<NodeId> {
        let routes = self.routes();
        let missing = routes.topology.groups.iter().filter(|(id, _)| self.sound_group(**id).is_none());
        let holders = missing.flat_map(|(_, group)| group.replicas.values().copied());
        holders.filter(|peer| *peer != self.id()).collect()
    }
}

/// Asks around for as long as the node lives.
pub(crate) async fn follow(node: Node) {
    let mut tasks = tokio::task::JoinSet::new();
    let mut asked = BTreeSet::new();
    loop {
        for peer in node.holders() {
            if asked.insert(peer) {
                tasks.spawn(ask(node.clone(), peer));
            }
        }
        sleep(ASK_EVERY).await;
        if node.is_guest() && node.heard().is_empty() {
            guest::look_again(&node).await;
        }
    }
}

/// Asks one node; each has a task of its own, so that a silent one holds up no other.
async fn ask(node: Node, peer: NodeId) {
    loop {
        if node.holders().contains(&peer) {
            let question = async {
                let known = if node.is_guest() { node.routes().topology.epoch } else { u64::MAX };
                let connection = node.links().connection(peer, Lane::Control).await?;
                wire::message::<Pulse>(&connection.call(Kind::Topology, vec![wire::part(&known)]).await?)
            };
            match timeout(SILENCE_MAX, question).await.map_err(io::Error::other).flatten() {
                Ok(pulse) => {
                    node.take_pulse(peer, &pulse);
                    pulse.topology.into_iter().for_each(|topology| guest::take_topology(&node, topology));
                }
                Err(_) => {
                    let mut groups = node.inner().elsewhere.groups.lock();
                    let led = groups.values_mut().filter(|remote| remote.leader == Some(peer));
                    led.for_each(|remote| remote.leader = None);
                }
            }
        }
        sleep(ASK_EVERY).await;
    }
}
