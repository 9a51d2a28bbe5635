//! Who on this node listens to what, and the handing over of messages. Step 9 of a command's way.
//!
//! For each group that somebody listens to, one task follows its events and gives each to the connections that want
//! it. A message is encoded once for each version of the protocol and shared; a connection that does not take its
//! messages is cut at its output limit and slows nobody down.
//!
//! Invariants:
//! * What was acknowledged before a SUBSCRIBE is not delivered, and nothing that is published behind its confirmation
//!   is missed: the group's position is asked in between, and the connection gets what stands above it.
//! * The confirmation of a SUBSCRIBE stands in front of its first message, that of an UNSUBSCRIBE behind the last.
//! * Where events are lost, those who listen to their group are cut: nobody gets messages with a gap in silence.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::{Bytes, BytesMut};
use futures_util::future::try_join_all;
use parking_lot::{Mutex, MutexGuard};
use quoris_engine::{command, events::Event, glob, moves::Range, slot};
use quoris_raft::{
    Error, GroupId, Session,
    feed::{Batch, Floor},
    interest::Kin,
};
use quoris_resp::{Argv, Protocol, Reply, encode};
use smallvec::SmallVec;
use tokio::{runtime::Handle, task::AbortHandle};

use crate::{clients::ClientInfo, server::Server};

/// Channels of what happens to keys begin so: any group may speak there.
const KEY_CHANNELS: &[u8] = b"__key";

/// Messages that are handed over together have about so many bytes.
const RUN_BYTES_MAX: usize = 64 << 10;

/// From which index of which groups on somebody listens.
pub(crate) type From = SmallVec<[(GroupId, u64); 1]>;

/// See the module.
pub(crate) struct PubSub {
    state: Mutex<State>,
    /// Where the tasks run that follow groups.
    runtime: Handle,
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

impl PubSub {
    /// Nobody listens; tasks will run where this is called.
    pub fn new() -> PubSub {
        let (published, delivered, dropped) = Default::default();
        PubSub { state: Mutex::default(), runtime: Handle::current(), published, delivered, dropped }
    }

    /// While the guard lives nothing is delivered.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Sets the counters back.
    pub fn reset(&self) {
        [&self.published, &self.delivered, &self.dropped].iter().for_each(|c| c.store(0, Relaxed));
    }

    /// Names of a kin that connections of this node listen to.
    pub fn count(&self, kin: Kin) -> usize {
        self.lock().listeners[kin as usize].len()
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
        for part in batch.events.split_inclusive(|event| matches!(event, Event::Moved { .. })) {
            let round = Round { state: &state, server, group: batch.group, index: batch.index, run: None };
            round.hand_over(part);
            if let Some(Event::Moved { range, group, index }) = part.last() {
                state.go_along(server, batch.group, *range, (GroupId(*group), *index));
            }
        }
    }

    /// Cuts all who listen to a group.
    fn cut(&self, group: GroupId) {
        let state = self.lock();
        let all = state.listeners.iter().flat_map(HashMap::values).flat_map(BTreeMap::values);
        for listener in all.filter(|listener| listener.from.iter().any(|(of, _)| *of == group)) {
            listener.info.link.close();
        }
    }
}

/// Follows a group for as long as somebody listens to it.
async fn follow(server: Arc<Server>, number: u64, group: GroupId, after: u64) {
    let mut stream = server.node.follow_events(group, after);
    loop {
        match stream.next().await {
            Ok(batch) => server.pubsub.deliver(&server, number, &batch),
            Err(lost @ Floor(floor)) => {
                tracing::error!(group = group.0, "{lost}: those who listen to the group are disconnected");
                server.pubsub.cut(group);
                stream = server.node.follow_events(group, floor);
            }
        }
    }
}

/// One batch on its way to the connections.
struct Round<'a> {
    state: &'a State,
    server: &'a Server,
    group: GroupId,
    index: u64,
    run: Option<Run<'a>>,
}

/// Messages for the same connections, one behind the other: handed over together, so that each is woken once.
struct Run<'a> {
    kin: Kin,
    name: Bytes,
    listeners: &'a BTreeMap<u64, Listener>,
    messages: Vec<Reply>,
    bytes: usize,
}

impl<'a> Round<'a> {
    fn hand_over(mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Moved { .. } => {}
                Event::Message { channel, payload, sharded: true } => {
                    self.tell(Kin::Shard, channel, payload);
                }
                Event::Message { channel, payload, sharded: false } => self.tell_all(channel, payload),
                Event::Key { keyspace, keyevent, name, database, key, .. } => {
                    if *keyspace {
                        self.tell_all(&keyspace_channel(*database, key), &Bytes::from_static(name.as_bytes()));
                    }
                    if *keyevent {
                        self.tell_all(&format!("__keyevent@{database}__:{name}").into(), key);
                    }
                }
            }
        }
        self.flush();
    }

    fn tell_all(&mut self, channel: &Bytes, payload: &Bytes) {
        self.tell(Kin::Channel, channel, payload);
        let state = self.state;
        for (pattern, listeners) in &state.listeners[Kin::Pattern as usize] {
            if glob::matches(pattern, channel) {
                let message = pushed(&[&Bytes::from_static(b"pmessage"), pattern, channel, payload]);
                self.add(Kin::Pattern, pattern, listeners, message);
            }
        }
    }

    fn tell(&mut self, kin: Kin, channel: &Bytes, payload: &Bytes) {
        let state = self.state;
        if let Some(listeners) = state.listeners[kin as usize].get(channel) {
            let kind: &[u8] = if kin == Kin::Shard { b"smessage" } else { b"message" };
            self.add(kin, channel, listeners, pushed(&[&Bytes::from_static(kind), channel, payload]));
        }
    }

    fn add(&mut self, kin: Kin, name: &Bytes, listeners: &'a BTreeMap<u64, Listener>, message: Reply) {
        let fits = |run: &Run<'_>| run.kin == kin && run.name == *name && run.bytes < RUN_BYTES_MAX;
        if !self.run.as_ref().is_some_and(fits) {
            self.flush();
        }
        let new = || Run { kin, name: name.clone(), listeners, messages: Vec::new(), bytes: 0 };
        let run = self.run.get_or_insert_with(new);
        run.bytes += message.size();
        run.messages.push(message);
    }

    /// Hands over what was added.
    fn flush(&mut self) {
        let Some(run) = self.run.take() else { return };
        let mut encoded: [Option<Bytes>; 2] = [None, None];
        let (mut delivered, mut dropped) = (0, 0);
        for listener in run.listeners.values() {
            if listener.from.iter().any(|(group, at)| *group == self.group && self.index <= *at) {
                continue;
            }
            let protocol = listener.info.protocol();
            let messages = encoded[usize::from(protocol == Protocol::Resp3)].get_or_insert_with(|| {
                let mut bytes = BytesMut::with_capacity(run.bytes);
                run.messages.iter().for_each(|message| encode(message, protocol, &mut bytes));
                bytes.freeze()
            });
            let link = &listener.info.link;
            let open = !link.is_closing();
            if link.send(messages.clone(), &self.server.settings) {
                delivered += run.messages.len() as u64;
            } else {
                dropped += run.messages.len() as u64;
                self.server.traffic.output_limit_closed.fetch_add(u64::from(open), Relaxed);
            }
        }
        self.server.pubsub.delivered.fetch_add(delivered, Relaxed);
        self.server.pubsub.dropped.fetch_add(dropped, Relaxed);
    }
}

/// Where it is told what happens to a key.
pub(crate) fn keyspace_channel(database: u32, key: &[u8]) -> Bytes {
    [format!("__keyspace@{database}__:").as_bytes(), key].concat().into()
}

/// A message of these parts.
pub(crate) fn pushed(parts: &[&Bytes]) -> Reply {
    Reply::Push(parts.iter().map(|part| Reply::Bulk((*part).clone())).collect())
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
        let task = server.pubsub.runtime.spawn(follow(server.clone(), self.started, group, index)).abort_handle();
        self.followers.insert(group, Follower { number: self.started, users, position: index, task });
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
                let task = follow(server.clone(), self.started, *group, *at);
                let task = server.pubsub.runtime.spawn(task).abort_handle();
                Follower { number: self.started, users: 0, position: *at, task }
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
    pub(crate) fn receivers(&self, kin: Kin, channel: &Bytes) -> Reply {
        self.pubsub.published.fetch_add(1, Relaxed);
        let here = self.pubsub.lock().receivers(kin, channel) as u64;
        let matches = |pattern: &[u8]| kin == Kin::Channel && glob::matches(pattern, channel);
        Reply::Int((here + self.node.interest().elsewhere(kin, channel, matches)) as i64)
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
            // It has the slot still, or somebody knows who has: behind the index stands where it went.
            let argv = Argv::from_parts(&[b"EXISTS", name]);
            let exists = command::lookup(&argv).expect("EXISTS has a row");
            let asked = session.execute(group, vec![self.operation(&exists, argv, 0)], true).await?;
            if asked.replies.iter().any(Reply::is_error) {
                return Err(Error::Unavailable("the channel's slot is on its way to another group".into()));
            }
            if self.node.group_of(slot(name)) == Some(group) {
                return Ok(From::from_slice(&[(group, index)]));
            }
        }
    }
}
