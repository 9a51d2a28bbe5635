//! Following what is told by the entries of a group: from this node's own replica, or over a stream from another's.
//!
//! Every replica applies the same entries in the same order, so it does not matter whose events are taken, and no
//! delivery depends on who leads. A follower holds the index up to which it has everything, and goes on behind it
//! wherever it goes on: that makes neither a gap nor a repeat. Only what no replica keeps any more is lost, and that
//! is an error.
//!
//! Invariant: batches come in the order of the log, each once; none is passed over in silence.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use openraft_rt::Instant as _;
use quoris_engine::codec;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::feed::{Batch, Floor};
use crate::group::Group;
use crate::link::{Connection, Lane};
use crate::node::Node;
use crate::runtime::random_u64;
use crate::session::{Error, gave_up};
use crate::types::{GroupId, NodeId};
use crate::wire::{self, Frame, Kind};

/// Between two attempts to find a replica to follow, or a leader.
const PAUSE: Duration = Duration::from_millis(20);
/// Whoever serves a stream says so often that there is nothing new.
pub(crate) const NEWS_EVERY: Duration = Duration::from_millis(500);
/// Who is silent for so long is not there any more; another replica is followed.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(2);
/// A replica that has heard no leader for so long may lag without knowing.
const LEADERLESS_MAX: Duration = Duration::from_secs(1);

/// What the other end of a stream says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Note {
    /// The events of the entry with this index and this clock follow.
    Batch(u64, u64),
    /// There is nothing more up to this index; who leads, if it is certain.
    Upto(u64, Option<NodeId>),
    /// The events up to here are no longer kept.
    Floor(u64),
}

/// Where events come from.
enum Source {
    Local(Arc<Group>, watch::Receiver<bool>),
    Remote(Remote),
}

pub(crate) struct Remote {
    node: NodeId,
    connection: Arc<Connection>,
    id: u64,
    notes: mpsc::UnboundedReceiver<Bytes>,
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.connection.close_stream(self.id);
    }
}

/// The events of a group in order, from an index on.
pub struct EventStream {
    node: Node,
    group: GroupId,
    /// Everything up to here has been given.
    last: u64,
    ready: VecDeque<Arc<Batch>>,
    source: Option<Source>,
    /// Who is to be tried first.
    preferred: Option<NodeId>,
    /// What nodes have said that they do not keep, since something was given.
    floors: BTreeMap<NodeId, u64>,
}

impl Node {
    /// Follows the events of a group behind an index.
    pub fn follow_events(&self, group: GroupId, after: u64) -> EventStream {
        let (ready, floors) = (VecDeque::new(), BTreeMap::new());
        EventStream { node: self.clone(), group, last: after, ready, source: None, preferred: None, floors }
    }

    /// An index at or above which nothing stands that was acknowledged before this call, and below which nothing
    /// stands that is published after it.
    ///
    /// # Errors
    /// When nobody leads the group for as long as a command would wait.
    pub async fn events_now(&self, group: GroupId) -> Result<u64, Error> {
        let deadline = Instant::now() + self.config().request_timeout;
        loop {
            let ask = async {
                if let Some(local) = self.group(group).filter(|g| g.leads()) {
                    return local.position_now().await.ok();
                }
                let leader = self.leader_of(group).filter(|leader| *leader != self.id())?;
                let now = self.ask_position(leader, group).await;
                if now.is_err() {
                    self.forget_leader(group, leader);
                }
                now.ok()
            };
            match timeout_at(deadline, ask).await {
                Ok(Some(index)) => return Ok(index),
                Ok(None) if Instant::now() < deadline => sleep(PAUSE).await,
                Ok(None) | Err(_) => return Err(gave_up(group, false)),
            }
        }
    }

    pub(crate) async fn ask_position(&self, leader: NodeId, group: GroupId) -> io::Result<u64> {
        let connection = self.links().connection(leader, Lane::Control).await?;
        let answer = connection.call(Kind::EventsNow, vec![wire::part(&group)]);
        wire::message(&timeout(SILENCE_MAX, answer).await??)
    }
}

impl Group {
    /// Everything that was acknowledged before this call stands at or below this index, applied here.
    ///
    /// # Errors
    /// When this replica does not lead.
    pub(crate) async fn position_now(&self) -> io::Result<u64> {
        let confirmed = self.read(&[]).await;
        confirmed.map_err(|_| io::Error::other(format!("{} is not led here", self.replica.group)))?;
        Ok(self.replica.applied.load(Ordering::Acquire))
    }
}

/// Batches behind `last` that are here; moves `last` over entries that have no events.
async fn news(group: &Arc<Group>, last: &mut u64) -> Result<Vec<Arc<Batch>>, Floor> {
    let replica = &group.replica;
    // Events are offered before their entry counts as applied, so all of them up to here are in the feed.
    let applied = replica.applied.load(Ordering::Acquire);
    match replica.feed.since(*last) {
        Ok(batches) => {
            *last = (*last).max(applied).max(batches.last().map_or(0, |batch| batch.index));
            Ok(batches)
        }
        Err(Floor(feed)) => {
            // Less may be kept on the disk than is here.
            let lowest = |Floor(kept): Floor| Floor(kept.min(feed));
            let mut batches = page(group, *last).await.map_err(lowest)?;
            if batches.is_empty() {
                // What lies between may still be on its way to the disk.
                replica.retained.settled().await.map_err(|_| Floor(feed))?;
                batches = page(group, *last).await.map_err(lowest)?;
            }
            *last = batches.last().map_or(feed.max(*last), |batch| batch.index);
            Ok(batches)
        }
    }
}

/// Kept batches behind an index.
async fn page(group: &Arc<Group>, after: u64) -> Result<Vec<Arc<Batch>>, Floor> {
    let of = group.clone();
    let read = group.replica.seams.blocking(move || of.replica.retained.read(after)).await;
    read.and_then(|page| page).unwrap_or_else(|e| {
        tracing::error!(group = group.replica.group.0, error = %e, "kept events cannot be read");
        Err(Floor(group.replica.feed.floor()))
    })
}

impl Group {
    /// Everything above this index is here.
    pub(crate) fn events_floor(&self) -> u64 {
        self.replica.feed.floor().min(self.replica.retained.floor())
    }
}

impl EventStream {
    /// The events of the next entry that has any.
    ///
    /// # Errors
    /// When no replica keeps what comes next.
    pub async fn next(&mut self) -> Result<Arc<Batch>, Floor> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            self.take(u64::MAX).await?;
        }
    }

    /// The same up to an index that the group has reached: nothing when no entry is left that has any.
    ///
    /// # Errors
    /// When no replica keeps what comes next.
    pub async fn next_upto(&mut self, upto: u64) -> Result<Option<Arc<Batch>>, Floor> {
        while self.ready.is_empty() && self.last < upto {
            self.take(upto).await?;
        }
        Ok(self.ready.pop_front_if(|batch| batch.index <= upto))
    }

    /// Takes what there is, or waits for more, but not for events where the replica reaches this index without any.
    async fn take(&mut self, upto: u64) -> Result<(), Floor> {
        match self.source.take() {
            None => {
                self.choose().await?;
                if self.source.is_none() {
                    sleep(PAUSE).await;
                }
            }
            Some(Source::Local(group, watch)) => self.take_here(group, watch, upto).await,
            Some(Source::Remote(remote)) => self.take_elsewhere(remote).await,
        }
        Ok(())
    }

    /// This node's replica, if it has what comes next.
    fn local(&self) -> Option<Source> {
        let group = self.node.sound_group(self.group)?;
        let watch = group.replica.feed.watch();
        let ended = *watch.borrow();
        (!ended && group.events_floor() <= self.last).then_some(Source::Local(group, watch))
    }

    async fn take_here(&mut self, group: Arc<Group>, mut watch: watch::Receiver<bool>, upto: u64) {
        if *watch.borrow_and_update() {
            return;
        }
        let before = self.last;
        // If it has installed a snapshot, what lies before is elsewhere.
        if let Ok(batches) = news(&group, &mut self.last).await {
            if batches.is_empty() && self.last == before {
                tokio::select! {
                    _ = watch.changed() => {}
                    () = group.replica.wait_applied(upto), if upto < u64::MAX => {}
                }
            } else {
                self.floors.clear();
                self.ready.extend(batches);
            }
            self.source = Some(Source::Local(group, watch));
        }
    }

    /// Finds a replica that has what comes next; none when none can be reached.
    async fn choose(&mut self) -> Result<(), Floor> {
        self.source = self.local();
        if self.source.is_some() {
            return Ok(());
        }
        let routes = self.node.routes();
        let Some(record) = routes.topology.groups.get(&self.group) else { return Ok(()) };
        let own = self.node.id();
        let mut holders: Vec<NodeId> = record.replicas.values().copied().filter(|node| *node != own).collect();
        if !holders.is_empty() {
            let turn = random_u64() as usize % holders.len();
            holders.rotate_left(turn);
        }
        let first = self.preferred.take().or_else(|| self.node.known_leader(self.group));
        holders.sort_by_key(|node| Some(*node) != first);
        if let Some(group) = self.node.sound_group(self.group) {
            self.floors.insert(own, group.events_floor());
        }
        for node in holders.iter().copied().filter(|node| !self.floors.contains_key(node)) {
            let first = wire::part(&(self.group, self.last));
            let open = Remote::open(&self.node, node, Kind::Events, first);
            if let Ok(Ok(remote)) = timeout(SILENCE_MAX, open).await {
                self.source = Some(Source::Remote(remote));
                return Ok(());
            }
        }
        // Those that cannot be reached may have it; but then nothing would be heard for as long as they are away.
        match self.floors.values().copied().min() {
            Some(lowest) if self.floors.len() > record.replicas.len() / 2 => {
                self.floors.clear();
                Err(Floor(lowest))
            }
            _ => Ok(()),
        }
    }

    async fn take_elsewhere(&mut self, mut remote: Remote) {
        let Ok(Some(note)) = timeout(SILENCE_MAX, remote.next()).await else { return };
        match read_note(self.group, note) {
            Ok((Note::Batch(..), Some(batch))) if batch.index > self.last => {
                self.last = batch.index;
                self.floors.clear();
                self.ready.push_back(Arc::new(batch));
            }
            Ok((Note::Batch(..), _)) => {}
            Ok((Note::Upto(index, leader), _)) => {
                self.last = self.last.max(index);
                self.floors.clear();
                if leader != Some(remote.node) {
                    // Another one is closer to what is committed.
                    self.preferred = leader;
                    return;
                }
            }
            Ok((Note::Floor(floor), _)) => {
                self.floors.insert(remote.node, floor);
                return;
            }
            Err(e) => return tracing::warn!(group = self.group.0, error = %e, "events of a peer cannot be read"),
        }
        // The own replica, once it has caught up, is closest.
        self.source = self.local().or(Some(Source::Remote(remote)));
    }
}

impl Remote {
    /// Opens a stream of this kind, which begins with these words.
    pub(crate) async fn open(node: &Node, peer: NodeId, kind: Kind, first: Bytes) -> io::Result<Remote> {
        let connection = node.links().connection(peer, Lane::Events).await?;
        // The peer sends no more than its queues hold until this end takes it from the connection, and whoever
        // follows takes at once.
        let (id, notes) = connection.open_stream()?;
        let remote = Remote { node: peer, connection, id, notes };
        remote.connection.send(Frame { kind, id, body: vec![first] }).await?;
        Ok(remote)
    }

    /// What comes next; nothing when it has ended.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.notes.recv().await
    }
}

pub(crate) fn read_note(group: GroupId, body: Bytes) -> io::Result<(Note, Option<Batch>)> {
    let (note, at): (Note, usize) = codec::read(&body, "note of events").map_err(io::Error::other)?;
    let batch = match note {
        Note::Batch(index, clock_ms) => {
            Some(Batch::decode(group, index, clock_ms, body.slice(at..)).map_err(io::Error::other)?)
        }
        Note::Upto(..) | Note::Floor(_) => None,
    };
    Ok((note, batch))
}

/// Who leads, if this replica has reason to believe that it is up to date.
pub(crate) fn certain_leader(group: &Group) -> Option<NodeId> {
    let heard = if group.replica.sole_leader.load(Ordering::SeqCst) {
        true
    } else if group.leads() {
        let since = group.metrics().last_quorum_acked.map(|at| at.elapsed());
        since.is_none_or(|since| since < LEADERLESS_MAX)
    } else {
        group.replica.window.silence() < LEADERLESS_MAX
    };
    group.leader().filter(|_| heard)
}

/// The other end of a stream: sends what this node's replica has, until the one who follows leaves.
pub(crate) async fn serve(node: &Node, mut input: mpsc::Receiver<Bytes>, output: mpsc::Sender<Vec<Bytes>>) {
    let Some(Ok((id, mut last))) = input.recv().await.map(|first| wire::message::<(GroupId, u64)>(&first)) else {
        return;
    };
    let Some(group) = node.sound_group(id) else { return };
    let mut watch = group.replica.feed.watch();
    let mut tell_at = Instant::now();
    while !*watch.borrow_and_update() {
        let before = last;
        let batches = match news(&group, &mut last).await {
            Ok(batches) => batches,
            Err(Floor(floor)) => {
                let _ = output.send(vec![wire::part(&Note::Floor(floor))]).await;
                return;
            }
        };
        for batch in batches {
            let parts = vec![wire::part(&Note::Batch(batch.index, batch.clock_ms)), batch.encoded().clone()];
            if output.send(parts).await.is_err() {
                return;
            }
        }
        if last > before && last < group.replica.feed.floor() {
            // There is more on the disk.
            continue;
        }
        if Instant::now() >= tell_at {
            tell_at = Instant::now() + NEWS_EVERY;
            if output.send(vec![wire::part(&Note::Upto(last, certain_leader(&group)))]).await.is_err() {
                return;
            }
        }
        tokio::select! {
            biased;
            more = input.recv() => if more.is_none() { return },
            ended = watch.changed() => if ended.is_err() { return },
            () = tokio::time::sleep_until(tell_at) => {}
        }
    }
}
