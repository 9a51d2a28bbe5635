//! What the clients of each node listen to, as far as the nodes have told each other.
//!
//! It answers how many receivers a message has in the cluster. Each node tells every other one the counts of its own
//! clients when they change, on a stream of its own; what a node has told is forgotten when its stream ends, and
//! told again as a whole on the next one. So a count is exact for this node's clients, and a moment old for others.
//!
//! A guest tells every node as well. Nobody dials a guest, so it asks one node to tell it what all others have said,
//! and another one when that is gone.
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
use tokio::time::{sleep, timeout};

use crate::link::Lane;
use crate::node::Node;
use crate::runtime::random_u64;
use crate::types::NodeId;
use crate::wire::{self, Frame, Kind};

/// Counts in one frame.
const COUNTS_PER_FRAME: usize = 4096;
/// Between two attempts to reach a peer, and between two looks for new peers.
const PAUSE: Duration = Duration::from_millis(200);
/// How often a guest looks whether the node that tells it what others listen to is still there.
const LISTEN_STEP: Duration = Duration::from_millis(500);

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
    state: Mutex<State>,
    /// This node's own counts have changed.
    changed: watch::Sender<()>,
    /// Any count has changed.
    news: watch::Sender<()>,
    streams: AtomicU64,
}

#[derive(Default)]
struct State {
    own: Counts,
    /// What others have told, each on its latest stream.
    elsewhere: BTreeMap<NodeId, (u64, Counts)>,
    /// What has not been told yet on each stream to a peer.
    untold: BTreeMap<(NodeId, u64), BTreeSet<Name>>,
}

impl State {
    /// A count has changed, this node's own or one that somebody has told. Guests hear of both: they are told by one
    /// node what all others say. Nobody hears what he has told himself.
    fn note(&mut self, name: &Name, told_by: Option<NodeId>) {
        let concerned = |to: NodeId| told_by.is_none() || (to.is_guest() && told_by != Some(to));
        for (_, names) in self.untold.iter_mut().filter(|((to, _), _)| concerned(*to)) {
            names.insert(name.clone());
        }
    }

    /// Where the counts stand that concern a peer.
    fn concerning(&self, peer: NodeId) -> impl Iterator<Item = &Counts> {
        let others = self.elsewhere.iter().filter(move |(by, _)| peer.is_guest() && **by != peer);
        std::iter::once(&self.own).chain(others.map(|(_, (_, counts))| counts))
    }
}

impl Default for Interest {
    fn default() -> Interest {
        let (changed, news) = (watch::channel(()).0, watch::channel(()).0);
        Interest { state: Mutex::default(), changed, news, streams: AtomicU64::new(0) }
    }
}

impl Interest {
    /// So many clients of this node listen now.
    pub fn set(&self, kin: Kin, name: &Bytes, count: u64) {
        let name = (kin, name.clone());
        let mut state = self.state.lock();
        state.note(&name, None);
        if count > 0 {
            state.own.insert(name, count)
        } else {
            state.own.remove(&name)
        };
        drop(state);
        self.changed.send_modify(|()| {});
        self.news.send_modify(|()| {});
    }

    /// How many clients of other nodes listen to a channel, with a pattern for which `matches` says yes, too.
    pub fn elsewhere(&self, kin: Kin, name: &Bytes, matches: impl Fn(&[u8]) -> bool) -> u64 {
        let state = self.state.lock();
        let count = |counts: &Counts| {
            let direct = counts.get(&(kin, name.clone())).copied().unwrap_or(0);
            let patterns = counts.range((Kin::Pattern, Bytes::new())..(Kin::Shard, Bytes::new()));
            direct + patterns.filter(|((_, pattern), _)| matches(pattern)).map(|(_, n)| n).sum::<u64>()
        };
        state.elsewhere.values().map(|(_, counts)| count(counts)).sum()
    }

    /// Everything of a kind that clients of any node listen to, and how many.
    pub fn everywhere(&self, kin: Kin) -> BTreeMap<Bytes, u64> {
        let mut all = BTreeMap::new();
        let mut add = |counts: &Counts| {
            for ((_, name), n) in counts.iter().filter(|((of, _), _)| *of == kin) {
                *all.entry(name.clone()).or_default() += n;
            }
        };
        let state = self.state.lock();
        add(&state.own);
        state.elsewhere.values().for_each(|(_, counts)| add(counts));
        all
    }

    /// Takes what a peer tells until its stream ends.
    pub(crate) async fn hear(&self, peer: NodeId, mut input: mpsc::Receiver<Bytes>) {
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        self.forget(peer, None);
        self.state.lock().elsewhere.insert(peer, (stream, Counts::new()));
        while let Some(body) = input.recv().await {
            let Ok(told) = wire::message::<Vec<Count>>(&body) else { break };
            let mut state = self.state.lock();
            for (kin, name, n) in told {
                let name = (kin, Bytes::from(name));
                state.note(&name, Some(peer));
                let known = state.elsewhere.get_mut(&peer).filter(|(known, _)| *known == stream);
                let Some((_, counts)) = known else { return };
                if n > 0 {
                    counts.insert(name, n)
                } else {
                    counts.remove(&name)
                };
            }
            drop(state);
            self.news.send_modify(|()| {});
        }
        self.forget(peer, Some(stream));
    }

    /// What a peer has told counts no longer; of this stream only, if it is named.
    fn forget(&self, peer: NodeId, stream: Option<u64>) {
        let mut state = self.state.lock();
        let is_meant = |(known, _): &(u64, Counts)| stream.is_none_or(|stream| *known == stream);
        if !state.elsewhere.get(&peer).is_some_and(is_meant) {
            return;
        }
        let (_, counts) = state.elsewhere.remove(&peer).expect("it was there");
        counts.keys().for_each(|name| state.note(name, Some(peer)));
        drop(state);
        self.news.send_modify(|()| {});
    }

    /// A new stream to this peer knows nothing yet.
    fn begin(&self, peer: NodeId, stream: u64) {
        let mut state = self.state.lock();
        let all = state.concerning(peer).flat_map(BTreeMap::keys).cloned().collect();
        state.untold.insert((peer, stream), all);
    }

    /// What has not been told yet on a stream, some of it.
    fn untold(&self, peer: NodeId, stream: u64) -> Vec<Count> {
        let mut state = self.state.lock();
        let Some(names) = state.untold.get_mut(&(peer, stream)) else { return Vec::new() };
        let some: Vec<Name> = std::iter::from_fn(|| names.pop_first()).take(COUNTS_PER_FRAME).collect();
        let count = |name: &Name| -> u64 { state.concerning(peer).filter_map(|counts| counts.get(name)).sum() };
        some.iter().map(|name| (name.0, name.1.to_vec(), count(name))).collect()
    }

    /// Tells a guest what all others listen to, until it leaves.
    pub(crate) async fn relay(&self, guest: NodeId, input: mpsc::Receiver<Bytes>, output: mpsc::Sender<Vec<Bytes>>) {
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        self.begin(guest, stream);
        self.relay_on(guest, stream, input, output).await;
        self.state.lock().untold.remove(&(guest, stream));
    }

    async fn relay_on(
        &self,
        guest: NodeId,
        stream: u64,
        mut input: mpsc::Receiver<Bytes>,
        output: mpsc::Sender<Vec<Bytes>>,
    ) {
        let mut news = self.news.subscribe();
        loop {
            news.borrow_and_update();
            loop {
                let some = self.untold(guest, stream);
                if some.is_empty() {
                    break;
                }
                if output.send(vec![wire::part(&some)]).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                biased;
                said = input.recv() => if said.is_none() { return },
                news = news.changed() => if news.is_err() { return },
            }
        }
    }
}

/// A guest has one node tell it what all others listen to, and the next one when that is gone.
pub(crate) async fn listen(node: Node) {
    loop {
        let heard = node.heard();
        let peer = heard.get(random_u64() as usize % heard.len().max(1)).copied();
        if let Some(peer) = peer
            && let Err(e) = listen_to(&node, peer).await
        {
            tracing::debug!(peer = peer.0, error = %e, "a peer does not tell what clients listen to");
        }
        sleep(PAUSE).await;
    }
}

async fn listen_to(node: &Node, peer: NodeId) -> io::Result<()> {
    let connection = node.links().connection(peer, Lane::Events).await?;
    let (id, mut said) = connection.open_stream()?;
    connection.send(Frame { kind: Kind::Listeners, id, body: Vec::new() }).await?;
    let (counts, input) = mpsc::channel(1);
    let pump = async move {
        loop {
            match timeout(LISTEN_STEP, said.recv()).await {
                Ok(Some(body)) => match counts.send(body).await {
                    Ok(()) => {}
                    Err(_) => return,
                },
                Err(_) if node.has_heard(peer) => {}
                Ok(None) | Err(_) => return,
            }
        }
    };
    futures_util::future::join(node.interest().hear(peer, input), pump).await;
    connection.close_stream(id);
    Ok(())
}

/// Tells every node what this one's clients listen to.
pub(crate) async fn tell(node: Node) {
    let mut told = BTreeSet::new();
    let mut changed = node.interest().changed.subscribe();
    let mut epochs = node.inner().epoch.subscribe();
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        // A node that is new has to be told as well.
        let (news, of_topology) = tokio::select! {
            news = changed.changed() => (news, false),
            news = epochs.changed() => (news, true),
        };
        if news.is_err() {
            return;
        }
        if of_topology && node.interest().state.lock().own.is_empty() {
            continue;
        }
        let own = node.id();
        for peer in node.routes().topology.nodes.keys().copied().filter(|peer| *peer != own) {
            if told.insert(peer) {
                tasks.spawn(tell_peer(node.clone(), peer));
            }
        }
    }
}

async fn tell_peer(node: Node, peer: NodeId) {
    while node.routes().topology.nodes.contains_key(&peer) {
        if let Err(e) = stream(&node, peer).await {
            tracing::debug!(peer = peer.0, error = %e, "a peer does not hear what clients listen to");
        }
        sleep(PAUSE).await;
    }
}

async fn stream(node: &Node, peer: NodeId) -> io::Result<()> {
    let mut changed = node.interest().changed.subscribe();
    let connection = node.links().connection(peer, Lane::Events).await?;
    let (id, mut end) = connection.open_stream()?;
    node.interest().begin(peer, 0);
    loop {
        changed.borrow_and_update();
        loop {
            let some = node.interest().untold(peer, 0);
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
