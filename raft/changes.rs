//! Which keys have changed, for those on this node who keep copies of what they have read: CLIENT TRACKING.
//!
//! Step 9. Apply tells behind each command, before anybody can read the new state here. A group without a sound
//! replica on this node is followed over a stream from another's. What cannot be followed, because a snapshot took
//! the place of entries, a stream broke or this node is cut off, is told as "all of it may have changed": whoever
//! keeps copies may hear too much, never too little.
//!
//! Invariants:
//! * When an entry counts as applied here, or [`Node::hears_up_to`] says so of a group elsewhere, its changes have
//!   been told.
//! * Where nobody wants to know, an entry costs one look at a flag.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quoris_engine::entry::SessionId;
use quoris_engine::{Changes, Engine};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::events::{NEWS_EVERY, Remote, SILENCE_MAX, certain_leader};
use crate::node::Node;
use crate::runtime::random_u64;
use crate::types::{GroupId, NodeId};
use crate::wire::{self, Kind};

/// Between two attempts to follow a group from afar.
const PAUSE: Duration = Duration::from_millis(20);
/// For as long as a group cannot be followed it is said so often that all of it may have changed.
const REPEAT_EVERY: Duration = Duration::from_secs(1);
/// Commands whose changes wait for one stream; who lags further is told everything.
const STREAM_CHANGES_MAX: usize = 4096;

/// Takes what has changed: the group, the index of the entry. It may be called under a group's lock.
pub type Hear = Box<dyn Fn(GroupId, u64, &Changes) + Send + Sync>;

/// What one command changed, on its way to another node.
type Told = Arc<(u64, Changes)>;

/// What the other end of a stream says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Note {
    /// What a command of the entry with this index has changed.
    Changed { index: u64, all: bool, keys: Vec<(Vec<u8>, Option<SessionId>)> },
    /// Everything up to this index has been told; whether the replica has reason to believe that it is up to date.
    Upto(u64, bool),
}

/// See the module.
#[derive(Default)]
pub struct Watchers {
    hear: OnceLock<Hear>,
    /// Somebody here wants to know.
    hearing: AtomicBool,
    /// Somebody wants to know, here or elsewhere.
    wanted: AtomicBool,
    streams: Mutex<BTreeMap<GroupId, Vec<mpsc::Sender<Told>>>>,
    followed: Mutex<BTreeMap<GroupId, Followed>>,
}

/// How a group is followed.
struct Followed {
    /// Nothing is missed.
    whole: bool,
    /// When it began, or when it was said that all may have changed.
    said: Instant,
    /// It was said before.
    again: bool,
    /// The stream from another node, and up to where it has told.
    remote: Option<(tokio::task::AbortHandle, watch::Sender<u64>)>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        if let Some((task, _)) = &self.remote {
            task.abort();
        }
    }
}

impl Watchers {
    /// Whether apply has to note changes.
    pub fn are_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Tells what a command of an entry has changed; under the engine's lock.
    pub fn tell_of(&self, engine: &mut Engine, group: GroupId, index: u64) {
        if let Some(changes) = engine.take_changes() {
            self.tell(group, index, changes);
        }
    }

    /// All of a group may have changed.
    pub fn tell_all(&self, group: GroupId) {
        if self.are_wanted() {
            self.tell(group, u64::MAX, Changes { all: true, keys: Vec::new() });
        }
    }

    fn tell(&self, group: GroupId, index: u64, changes: Changes) {
        self.tell_here(group, index, &changes);
        let mut streams = self.streams.lock();
        if let Some(list) = streams.get_mut(&group) {
            let told = Arc::new((index, changes));
            // A stream that is full ends, and what follows from there is told everything.
            list.retain(|stream| stream.try_send(told.clone()).is_ok());
            if list.is_empty() {
                streams.remove(&group);
                self.weigh(&streams);
            }
        }
    }

    fn tell_here(&self, group: GroupId, index: u64, changes: &Changes) {
        if let Some(hear) = self.hear.get().filter(|_| self.hearing.load(Ordering::Acquire)) {
            hear(group, index, changes);
        }
    }

    fn weigh(&self, streams: &BTreeMap<GroupId, Vec<mpsc::Sender<Told>>>) {
        self.wanted.store(self.hearing.load(Ordering::Acquire) || !streams.is_empty(), Ordering::Release);
    }

    fn open(&self, group: GroupId) -> mpsc::Receiver<Told> {
        let (stream, told) = mpsc::channel(STREAM_CHANGES_MAX);
        let mut streams = self.streams.lock();
        streams.entry(group).or_default().push(stream);
        self.weigh(&streams);
        told
    }

    /// Notes whether a group is followed without a gap, and says so if it is not or was not.
    fn mark(&self, group: GroupId, whole: bool) {
        let say = {
            let mut followed = self.followed.lock();
            let new = || Followed { whole, said: Instant::now(), again: false, remote: None };
            let known = followed.entry(group).or_insert_with(new);
            let late = known.said.elapsed() >= REPEAT_EVERY;
            // Nobody relies on a group that is followed for the first time.
            let say = if whole { !known.whole && (known.again || late) } else { known.whole || late };
            known.whole = whole;
            if say {
                (known.said, known.again) = (Instant::now(), true);
            }
            say
        };
        if say {
            self.tell_here(group, u64::MAX, &Changes { all: true, keys: Vec::new() });
        }
    }
}

impl Node {
    /// Who is told of changes; set once.
    pub fn set_hear(&self, hear: Hear) {
        assert!(self.watchers().hear.set(hear).is_ok(), "set once");
    }

    fn watchers(&self) -> &Arc<Watchers> {
        &self.inner().health.watchers
    }

    /// Whether anybody here wants to hear of changes from now on.
    pub fn want_changes(&self, wanted: bool) {
        let watchers = self.watchers();
        let streams = watchers.streams.lock();
        watchers.hearing.store(wanted, Ordering::Release);
        watchers.weigh(&streams);
    }

    /// Looks whether all groups are followed, as far as anybody wants it; to be called ten times a second.
    pub fn look_after_changes(&self) {
        let watchers = self.watchers();
        if !watchers.hearing.load(Ordering::Acquire) {
            return watchers.followed.lock().clear();
        }
        for group in self.groups() {
            match self.sound_group(group) {
                Some(local) => {
                    if let Some(known) = watchers.followed.lock().get_mut(&group)
                        && let Some((task, _)) = known.remote.take()
                    {
                        task.abort();
                        (known.whole, known.again) = (false, true);
                    }
                    watchers.mark(group, certain_leader(&local).is_some());
                }
                None => self.follow_changes(group),
            }
        }
    }

    /// Begins to follow a group that has no sound replica here.
    fn follow_changes(&self, group: GroupId) {
        let mut followed = self.watchers().followed.lock();
        let known = followed.entry(group).or_insert_with(|| Followed {
            whole: false,
            said: Instant::now(),
            again: false,
            remote: None,
        });
        if known.remote.is_none() {
            known.again |= std::mem::take(&mut known.whole);
            let position = watch::channel(0).0;
            let task = tokio::spawn(follow(self.clone(), group, position.clone())).abort_handle();
            known.remote = Some((task, position));
        }
    }

    /// Whether no change of a group is missed here now.
    pub fn hears(&self, group: GroupId) -> bool {
        match self.watchers().followed.lock().get(&group) {
            Some(known) => known.whole,
            None => self.sound_group(group).is_some_and(|local| certain_leader(&local).is_some()),
        }
    }

    /// Waits until everything up to an index of a group has been told here; false when that takes too long or the
    /// group is not followed.
    pub async fn hears_up_to(&self, group: GroupId, index: u64) -> bool {
        let reached = match self.sound_group(group) {
            Some(local) => timeout(SILENCE_MAX, local.replica.wait_applied(index)).await.is_ok(),
            None => {
                let position = {
                    let followed = self.watchers().followed.lock();
                    followed.get(&group).and_then(|known| Some(known.remote.as_ref()?.1.subscribe()))
                };
                let Some(mut position) = position else { return false };
                matches!(timeout(SILENCE_MAX, position.wait_for(|upto| *upto >= index)).await, Ok(Ok(_)))
            }
        };
        reached && self.hears(group)
    }
}

/// Follows a group from afar until dropped.
async fn follow(node: Node, group: GroupId, position: watch::Sender<u64>) {
    loop {
        let Err(e) = follow_once(&node, group, &position).await;
        tracing::debug!(group = group.0, error = %e, "changes of a group are not followed");
        node.watchers().mark(group, false);
        sleep(PAUSE).await;
    }
}

async fn follow_once(
    node: &Node,
    group: GroupId,
    position: &watch::Sender<u64>,
) -> io::Result<std::convert::Infallible> {
    let gone = || io::Error::other("the stream has ended");
    let holder = holder(node, group).ok_or_else(|| io::Error::other("no other node has a replica"))?;
    let mut remote = Remote::open(node, holder, Kind::Changes, wire::part(&group)).await?;
    loop {
        let note = timeout(SILENCE_MAX, remote.next()).await?.ok_or_else(gone)?;
        match wire::message(&note)? {
            Note::Changed { index, all, keys } => {
                let keys = keys.into_iter().map(|(key, by)| (key.into(), by)).collect();
                node.watchers().tell_here(group, index, &Changes { all, keys });
            }
            Note::Upto(index, true) => {
                position.send_replace(index);
                node.watchers().mark(group, true);
            }
            Note::Upto(_, false) => return Err(io::Error::other("the other replica may lag")),
        }
    }
}

/// A node to follow a group from: its leader, if it is known.
fn holder(node: &Node, group: GroupId) -> Option<NodeId> {
    let own = node.id();
    if let Some(leader) = node.known_leader(group).filter(|leader| *leader != own) {
        return Some(leader);
    }
    let routes = node.routes();
    let holders: Vec<NodeId> =
        routes.topology.groups.get(&group)?.replicas.values().copied().filter(|node| *node != own).collect();
    holders.get(random_u64() as usize % holders.len().max(1)).copied()
}

/// The other end of a stream: tells what this node's replica changes, until the one who follows leaves or lags.
pub(crate) async fn serve(node: &Node, mut input: mpsc::Receiver<Bytes>, output: mpsc::Sender<Vec<Bytes>>) {
    let Some(Ok(id)) = input.recv().await.map(|first| wire::message::<GroupId>(&first)) else { return };
    let Some(group) = node.sound_group(id) else { return };
    let replica = &group.replica;
    let mut told = node.watchers().open(id);
    let mut applied = replica.applied_watch.subscribe();
    let mut ended = replica.feed.watch();
    while !*ended.borrow_and_update() {
        // Told before an entry counts as applied: everything up to here is in the queue.
        let upto = *applied.borrow_and_update();
        loop {
            let note = match told.try_recv() {
                Ok(told) => {
                    let keys = told.1.keys.iter().map(|(key, by)| (key.to_vec(), *by)).collect();
                    Note::Changed { index: told.0, all: told.1.all, keys }
                }
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => return,
            };
            if output.send(vec![wire::part(&note)]).await.is_err() {
                return;
            }
        }
        if output.send(vec![wire::part(&Note::Upto(upto, certain_leader(&group).is_some()))]).await.is_err() {
            return;
        }
        tokio::select! {
            biased;
            more = input.recv() => if more.is_none() { return },
            new = applied.changed() => if new.is_err() { return },
            _ = ended.changed() => {}
            () = sleep(NEWS_EVERY) => {}
        }
    }
}
