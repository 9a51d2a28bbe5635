//! Who on this node listens to what, and the handing over of messages. Step 9 of a command's way.
//!
//! For each group that somebody listens to, one task follows its events and gives each to the connections that want
//! it. It runs beside Raft, where events come from, and writes to a few sockets itself, so that a message need not wait
//! for another thread; the others are written to by their own tasks. A message is encoded once for each version of the
//! protocol and shared; a connection that does not take its messages is cut at its output limit and slows nobody down.
//!
//! Invariants:
//! * What was acknowledged before a SUBSCRIBE is not delivered, and nothing that is published behind its confirmation
//!   is missed: the group's position is asked in between, and the connection gets what stands above it.
//! * The confirmation of a SUBSCRIBE stands in front of its first message, that of an UNSUBSCRIBE behind the last.
//! * Where events are lost, those who listen to their group are cut: nobody gets messages with a gap in silence.

mod round;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use futures_util::future::try_join_all;
use parking_lot::{RwLock, RwLockWriteGuard};
use quoris_engine::{command, events::Event, glob, moves::Range, slot};
use quoris_raft::{
    Error, GroupId, Session,
    feed::{Batch, Floor},
    interest::Kin,
};
use quoris_resp::{Argv, Reply};
use smallvec::SmallVec;
use tokio::task::{AbortHandle, yield_now};

use crate::{clients::ClientInfo, server::Server};

pub(crate) use round::keyspace_channel;
use round::{RUN_BYTES_MAX, Round};

/// Channels of what happens to keys begin so: any group may speak there.
const KEY_CHANNELS: &[u8] = b"__key";

/// How many listened to a channel a moment ago: messages that are answered together are counted together.
pub(crate) type Counted = Option<(Kin, Bytes, i64)>;

/// From which index of which groups on somebody listens.
pub(crate) type From = SmallVec<[(GroupId, u64); 1]>;

/// See the module.
#[derive(Default)]
pub(crate) struct PubSub {
    state: RwLock<State>,
    /// Messages that clients of this node have published.
    pub published: AtomicU64,
    /// Messages that were handed to connections.
    pub delivered: AtomicU64,
    /// Messages for connections that were cut because they did not take them.
    pub dropped: AtomicU64,
}

/// Everything under the lock.
#[derive(Default)]
pub(crate) struct State {
    /// By kin and name, then by connection.
    listeners: [HashMap<Bytes, BTreeMap<u64, Listener>>; 3],
    followers: BTreeMap<GroupId, Follower>,
    /// Followers so far: one that was replaced may still hold a batch.
    started: u64,
}

struct Listener {
    info: Arc<ClientInfo>,
    from: From,
}

/// A group whose events are followed.
struct Follower {
    number: u64,
    /// Subscriptions that need it.
    users: usize,
    /// Everything up to here has been handed over.
    position: u64,
    task: AbortHandle,
}

impl Follower {
    fn start(server: &Arc<Server>, number: u64, users: usize, group: GroupId, after: u64) -> Follower {
        let task = server.node.spawn(follow(server.clone(), number, group, after));
        Follower { number, users, position: after, task }
    }
}

impl PubSub {
    /// While the guard lives nothing is delivered.
    pub fn lock(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write()
    }

    /// Sets the counters back.
    pub fn reset(&self) {
        [&self.published, &self.delivered, &self.dropped].iter().for_each(|c| c.store(0, Relaxed));
    }

    /// Names of a kin that connections of this node listen to.
    pub fn count(&self, kin: Kin) -> usize {
        self.state.read().listeners[kin as usize].len()
    }

    /// Counts a message that was handed to a connection, or not taken by it.
    pub fn count_sent(&self, sent: bool) {
        if sent { &self.delivered } else { &self.dropped }.fetch_add(1, Relaxed);
    }

    fn deliver(&self, server: &Arc<Server>, number: u64, batch: &Batch) {
        let mut state = self.lock();
        let follower = state.followers.get_mut(&batch.group).filter(|follower| follower.number == number);
        let Some(follower) = follower else { return };
        follower.position = batch.index;
        if !batch.events.iter().any(|event| matches!(event, Event::Moved { .. })) {
            // Who asks how many listen need not wait.
            let state = RwLockWriteGuard::downgrade(state);
            return Round::new(&state, server, batch).hand_over(&batch.events);
        }
        for part in batch.events.split_inclusive(|event| matches!(event, Event::Moved { .. })) {
            Round::new(&state, server, batch).hand_over(part);
            if let Some(Event::Moved { range, group, index }) = part.last() {
                state.go_along(server, batch.group, *range, (GroupId(*group), *index));
            }
        }
    }

    /// Cuts all who listen to a group.
    fn cut(&self, group: GroupId) {
        let state = self.state.read();
        let all = state.listeners.iter().flat_map(HashMap::values).flat_map(BTreeMap::values);
        for listener in all.filter(|listener| listener.from.iter().any(|(of, _)| *of == group)) {
            listener.info.link.close();
        }
    }
}

/// Follows a group for as long as somebody listens to it.
async fn follow(server: Arc<Server>, number: u64, group: GroupId, after: u64) {
    let mut stream = server.node.follow_events(group, after);
    let mut bytes = 0;
    loop {
        match stream.next().await {
            Ok(batch) => {
                server.pubsub.deliver(&server, number, &batch);
                // Raft runs on this thread: it comes first, from time to time.
                bytes += batch.events.iter().map(|event| event.bytes() + size_of::<Event>()).sum::<usize>();
                if bytes >= RUN_BYTES_MAX {
                    bytes = 0;
                    yield_now().await;
                }
            }
            Err(lost @ Floor(floor)) => {
                tracing::error!(group = group.0, "{lost}: those who listen to the group are disconnected");
                server.pubsub.cut(group);
                stream = server.node.follow_events(group, floor);
            }
        }
    }
}

impl State {
    /// Whoever listens to a channel of these slots follows them to another group, from an index on. Behind them
    /// nothing of these channels comes from the group that they leave.
    fn go_along(&mut self, server: &Arc<Server>, left: GroupId, range: Range, to: (GroupId, u64)) {
        let mut moved = Vec::new();
        for kin in [Kin::Channel, Kin::Shard] {
            let names = self.listeners[kin as usize].iter();
            for (name, all) in names.filter(|(name, _)| range.holds(slot(name)) && !name.starts_with(KEY_CHANNELS)) {
                let here = all.iter().filter(|(_, listener)| listener.from.iter().any(|(group, _)| *group == left));
                moved.extend(here.map(|(id, _)| (kin, name.clone(), *id)));
            }
        }
        for (kin, name, id) in moved {
            self.follow_from(server, to);
            let listeners = self.listeners[kin as usize].get_mut(&name);
            let Some(listener) = listeners.and_then(|all| all.get_mut(&id)) else { continue };
            let before = std::mem::replace(&mut listener.from, From::from_slice(&[to]));
            before.iter().for_each(|(group, _)| self.unfollow(*group));
        }
    }

    /// One more needs a group's events from an index on, some of which may have been handed over.
    fn follow_from(&mut self, server: &Arc<Server>, (group, index): (GroupId, u64)) {
        let mut users = 1;
        if let Some(follower) = self.followers.get_mut(&group) {
            if follower.position <= index {
                follower.users += 1;
                return;
            }
            users += follower.users;
            follower.task.abort();
            // The others have had those.
            let had = follower.position;
            let all = self.listeners.iter_mut().flat_map(HashMap::values_mut).flat_map(BTreeMap::values_mut);
            let of_group = all.flat_map(|listener| &mut listener.from).filter(|(of, _)| *of == group);
            of_group.for_each(|(_, at)| *at = had.max(*at));
        }
        self.started += 1;
        self.followers.insert(group, Follower::start(server, self.started, users, group, index));
    }

    /// A connection listens from now on to what stands above these positions.
    pub fn listen(&mut self, server: &Arc<Server>, info: &Arc<ClientInfo>, kin: Kin, name: &Bytes, from: &From) {
        let listeners = self.listeners[kin as usize].entry(name.clone()).or_default();
        if listeners.contains_key(&info.link.id) {
            return;
        }
        let mut from = from.clone();
        for (group, at) in &mut from {
            let follower = self.followers.entry(*group).or_insert_with(|| {
                self.started += 1;
                Follower::start(server, self.started, 0, *group, *at)
            });
            follower.users += 1;
            // What was handed over in between is published before the confirmation.
            *at = (*at).max(follower.position);
        }
        listeners.insert(info.link.id, Listener { info: info.clone(), from });
        server.node.interest().set(kin, name, listeners.len() as u64);
    }

    /// A connection listens no more.
    pub fn forget(&mut self, server: &Server, id: u64, kin: Kin, name: &Bytes) {
        let Some(listeners) = self.listeners[kin as usize].get_mut(name) else { return };
        let Some(listener) = listeners.remove(&id) else { return };
        server.node.interest().set(kin, name, listeners.len() as u64);
        if listeners.is_empty() {
            self.listeners[kin as usize].remove(name);
        }
        listener.from.iter().for_each(|(group, _)| self.unfollow(*group));
    }

    /// One less needs a group's events.
    fn unfollow(&mut self, group: GroupId) {
        if let Some(follower) = self.followers.get_mut(&group) {
            follower.users -= 1;
            if follower.users == 0 {
                follower.task.abort();
                self.followers.remove(&group);
            }
        }
    }

    /// How many connections of this node get a message of a channel.
    fn receivers(&self, kin: Kin, channel: &Bytes) -> usize {
        let direct = self.listeners[kin as usize].get(channel).map_or(0, BTreeMap::len);
        if kin == Kin::Shard {
            return direct;
        }
        let patterns = self.listeners[Kin::Pattern as usize].iter();
        direct + patterns.filter(|(pattern, _)| glob::matches(pattern, channel)).map(|(_, l)| l.len()).sum::<usize>()
    }
}

impl Server {
    /// What PUBLISH answers: how many listen to a channel in the whole cluster, as far as is known here.
    pub(crate) fn receivers(&self, kin: Kin, channel: &Bytes, counted: &mut Counted) -> Reply {
        self.pubsub.published.fetch_add(1, Relaxed);
        if let Some((_, _, count)) = counted.as_ref().filter(|(of, name, _)| *of == kin && name == channel) {
            return Reply::Int(*count);
        }
        let here = self.pubsub.state.read().receivers(kin, channel) as u64;
        let matches = |pattern: &[u8]| kin == Kin::Channel && glob::matches(pattern, channel);
        let count = (here + self.node.interest().elsewhere(kin, channel, matches)) as i64;
        *counted = Some((kin, channel.clone(), count));
        Reply::Int(count)
    }

    /// The positions from which on somebody listens who asks now.
    pub(crate) async fn positions(&self, session: &Session, kin: Kin, name: &[u8]) -> Result<From, Error> {
        if kin == Kin::Pattern || name.starts_with(KEY_CHANNELS) {
            let groups = self.groups();
            let positions = groups.iter().map(async |group| Ok((*group, self.node.events_now(*group).await?)));
            return Ok(try_join_all(positions).await?.into());
        }
        loop {
            let Some(group) = self.node.group_of(slot(name)) else { return Ok(From::new()) };
            let index = self.node.events_now(group).await?;
            // Behind the index stands where the slot went, if it did.
            if self.has_slot(session, group, name).await? {
                return Ok(From::from_slice(&[(group, index)]));
            }
        }
    }

    /// Whether a group has the slot of a channel still. If not, this node knows by now who has.
    async fn has_slot(&self, session: &Session, group: GroupId, name: &[u8]) -> Result<bool, Error> {
        let argv = Argv::from_parts(&[b"EXISTS", name]);
        let exists = command::lookup(&argv).expect("EXISTS has a row");
        let asked = session.execute(group, vec![self.operation(&exists, argv, 0)], true).await?;
        if asked.replies.iter().any(Reply::is_error) {
            return Err(Error::Unavailable("the channel's slot is on its way to another group".into()));
        }
        Ok(self.node.group_of(slot(name)) == Some(group))
    }

    /// Who has the slot of a channel at some moment of this call, however it moves; nothing when nobody has.
    pub(crate) async fn owner_now(&self, name: &[u8]) -> Result<Option<GroupId>, Error> {
        if let Some(sole) = self.sole_group() {
            return Ok(Some(sole));
        }
        let session = self.node.session();
        loop {
            let Some(group) = self.node.group_of(slot(name)) else { return Ok(None) };
            if self.has_slot(&session, group, name).await? {
                return Ok(Some(group));
            }
        }
    }
}
