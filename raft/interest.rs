//! What the clients of each node listen to, as far as the nodes have told each other.
//!
//! It answers how many receivers a message has in the cluster. Each node tells every other one the counts of its own
//! clients when they change, on a stream of its own; what a node has told is forgotten when its stream ends, and
//! told again as a whole on the next one. So a count is exact for this node's clients, and a moment old for others.
//!
//! Invariant: nothing is told, and no connection made, before there is something to tell.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::link::Lane;
use crate::node::Node;
use crate::types::NodeId;
use crate::wire::{self, Frame, Kind};

/// Counts in one frame.
const COUNTS_PER_FRAME: usize = 4096;
/// Between two attempts to reach a peer, and between two looks for new peers.
const PAUSE: Duration = Duration::from_millis(200);

/// What is listened to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Kin {
    /// A channel.
    Channel,
    /// All channels of a pattern.
    Pattern,
    /// A channel of SPUBLISH.
    Shard,
}

/// A channel or a pattern.
pub type Name = (Kin, Bytes);

/// So many listen to this, on the wire.
pub(crate) type Count = (Kin, Vec<u8>, u64);

/// Clients that listen, by what they listen to.
type Counts = BTreeMap<Name, u64>;

/// See the module.
pub struct Interest {
    own: Mutex<Own>,
    changed: watch::Sender<()>,
    elsewhere: Mutex<BTreeMap<NodeId, (u64, Counts)>>,
    streams: AtomicU64,
}

#[derive(Default)]
struct Own {
    counts: Counts,
    /// What each peer has not been told yet.
    untold: BTreeMap<NodeId, BTreeSet<Name>>,
}

impl Default for Interest {
    fn default() -> Interest {
        let (changed, streams) = (watch::channel(()).0, AtomicU64::new(0));
        Interest { own: Mutex::default(), changed, elsewhere: Mutex::default(), streams }
    }
}

impl Interest {
    /// So many clients of this node listen now.
    pub fn set(&self, kin: Kin, name: &Bytes, count: u64) {
        let name = (kin, name.clone());
        let mut own = self.own.lock();
        own.untold.values_mut().for_each(|names| {
            names.insert(name.clone());
        });
        if count > 0 {
            own.counts.insert(name, count)
        } else {
            own.counts.remove(&name)
        };
        drop(own);
        self.changed.send_modify(|()| {});
    }

    /// How many clients of other nodes listen to a channel, with a pattern for which `matches` says yes, too.
    pub fn elsewhere(&self, kin: Kin, name: &Bytes, matches: impl Fn(&[u8]) -> bool) -> u64 {
        let elsewhere = self.elsewhere.lock();
        let count = |counts: &Counts| {
            let direct = counts.get(&(kin, name.clone())).copied().unwrap_or(0);
            let patterns = counts.range((Kin::Pattern, Bytes::new())..(Kin::Shard, Bytes::new()));
            direct + patterns.filter(|((_, pattern), _)| matches(pattern)).map(|(_, n)| n).sum::<u64>()
        };
        elsewhere.values().map(|(_, counts)| count(counts)).sum()
    }

    /// Everything of a kind that clients of any node listen to, and how many.
    pub fn everywhere(&self, kin: Kin) -> BTreeMap<Bytes, u64> {
        let mut all = BTreeMap::new();
        let mut add = |counts: &Counts| {
            for ((_, name), n) in counts.iter().filter(|((of, _), _)| *of == kin) {
                *all.entry(name.clone()).or_default() += n;
            }
        };
        add(&self.own.lock().counts);
        self.elsewhere.lock().values().for_each(|(_, counts)| add(counts));
        all
    }

    /// Whether clients of other nodes listen to anything.
    pub fn is_anybody_elsewhere(&self) -> bool {
        self.elsewhere.lock().values().any(|(_, counts)| !counts.is_empty())
    }

    /// Takes what a peer tells until its stream ends.
    pub(crate) async fn hear(&self, peer: NodeId, mut input: mpsc::Receiver<Bytes>) {
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        self.elsewhere.lock().insert(peer, (stream, Counts::new()));
        while let Some(body) = input.recv().await {
            let Ok(told) = wire::message::<Vec<Count>>(&body) else { break };
            let mut elsewhere = self.elsewhere.lock();
            let Some((_, counts)) = elsewhere.get_mut(&peer).filter(|(known, _)| *known == stream) else { return };
            for (kin, name, n) in told {
                let name = (kin, Bytes::from(name));
                if n > 0 {
                    counts.insert(name, n)
                } else {
                    counts.remove(&name)
                };
            }
        }
        let mut elsewhere = self.elsewhere.lock();
        if elsewhere.get(&peer).is_some_and(|(known, _)| *known == stream) {
            elsewhere.remove(&peer);
        }
    }

    /// A new stream to this peer knows nothing yet.
    fn begin(&self, peer: NodeId) {
        let mut own = self.own.lock();
        let all = own.counts.keys().cloned().collect();
        own.untold.insert(peer, all);
    }

    /// What a peer has not been told yet, some of it.
    fn untold(&self, peer: NodeId) -> Vec<Count> {
        let mut own = self.own.lock();
        let Own { counts, untold } = &mut *own;
        let Some(names) = untold.get_mut(&peer) else { return Vec::new() };
        let some = std::iter::from_fn(|| names.pop_first()).take(COUNTS_PER_FRAME);
        some.map(|name| (name.0, name.1.to_vec(), counts.get(&name).copied().unwrap_or(0))).collect()
    }
}

/// Tells every other node what this one's clients listen to.
pub(crate) async fn tell(node: Node) {
    let mut told = BTreeSet::new();
    let mut changed = node.interest().changed.subscribe();
    let mut tasks = tokio::task::JoinSet::new();
    while changed.changed().await.is_ok() {
        let own = node.id();
        for peer in node.routes().topology.nodes.keys().copied().filter(|peer| *peer != own) {
            if told.insert(peer) {
                tasks.spawn(tell_peer(node.clone(), peer));
            }
        }
    }
}

async fn tell_peer(node: Node, peer: NodeId) {
    loop {
        if let Err(e) = stream(&node, peer).await {
            tracing::debug!(peer = peer.0, error = %e, "a peer does not hear what clients listen to");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn stream(node: &Node, peer: NodeId) -> io::Result<()> {
    let mut changed = node.interest().changed.subscribe();
    let connection = node.links().connection(peer, Lane::Events).await?;
    let (id, mut end) = connection.open_stream()?;
    node.interest().begin(peer);
    loop {
        changed.borrow_and_update();
        loop {
            let some = node.interest().untold(peer);
            if some.is_empty() {
                break;
            }
            connection.send(Frame { kind: Kind::Interest, id, body: vec![wire::part(&some)] }).await?;
        }
        tokio::select! {
            biased;
            _ = end.recv() => return Ok(()),
            changed = changed.changed() => changed.map_err(io::Error::other)?,
        }
    }
}
