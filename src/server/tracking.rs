//! Which connections of this node keep copies of which keys, and the messages that a copy is no longer good.
//!
//! Step 9 of a command's way. The Raft layer tells which keys have changed before anybody can read the new state here
//! ([`quoris_raft::Hear`]), and each connection is told in its own order of messages.
//!
//! Invariants:
//! * Whoever has got a reply hears of every change behind the state that the reply shows, and hears it behind the
//!   reply. He may hear of more.
//! * A read that runs elsewhere, or in the log, is *under way*: a change meanwhile does not end the interest in the
//!   key. When the reply is there, it is known which changes it shows; if there was another one, the message follows.
//! * The table's lock may be taken under a group's lock, never the other way round.

mod connection;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use quoris_engine::{Changes, entry::SessionId};
use quoris_resp::{Protocol, Reply, encode};

use crate::{
    clients::{ClientInfo, flag},
    server::Server,
};

pub(crate) use connection::{Choice, Tracks};

/// Where connections of RESP2 that others redirect to get their messages.
const CHANNEL: &str = "__redis__:invalidate";

/// See the module.
#[derive(Default)]
pub(crate) struct Tracking {
    table: Mutex<Table>,
    /// `tracking-table-max-keys`.
    keys_max: AtomicUsize,
}

/// A connection that is told.
pub(crate) struct Tracker {
    pub info: Arc<ClientInfo>,
    /// Who is named as the author of what it changes, if it does not want to hear of that.
    pub silent_for: Option<SessionId>,
    /// The connection that gets its messages.
    pub redirect: Option<u64>,
    /// It hears of all keys with these beginnings, whatever it has read.
    pub prefixes: Option<BTreeSet<Bytes>>,
    /// Keys of reads that are under way.
    pub under_way: BTreeMap<Bytes, UnderWay>,
}

/// What is known of a key that is being read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnderWay {
    /// The index of the last change since the read began.
    last: u64,
    /// The connection may keep an older copy, of whose end it has not been told.
    older: bool,
}

/// How a read ended that was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Landed {
    /// Its reply shows all changes up to this index.
    Seen(u64),
    /// It read nothing: a script that did not look.
    Unread,
    /// It is not known which changes would be heard of.
    Deaf,
}

/// What INFO shows.
pub(crate) struct Counts {
    pub clients: usize,
    pub keys: usize,
    pub items: usize,
    pub prefixes: usize,
}

/// Everything under the lock.
#[derive(Default)]
struct Table {
    trackers: BTreeMap<u64, Tracker>,
    keys: HashMap<Bytes, Interested>,
    /// Keys in the order in which they came.
    ages: BTreeMap<u64, Bytes>,
    /// Keys that ever came.
    came: u64,
    /// Pairs of a key and a connection.
    items: usize,
    prefixes: BTreeMap<Bytes, BTreeSet<u64>>,
}

/// Who has read a key. Those who are gone may still be here.
struct Interested {
    age: u64,
    clients: BTreeSet<u64>,
}

impl Tracking {
    /// Tells who has to know.
    pub fn hear(&self, server: &Server, index: u64, changes: &Changes) {
        let table = &mut *self.table.lock();
        if changes.all {
            return table.tell_all(server);
        }
        for (key, by) in &changes.keys {
            table.changed(server, index, key, *by);
        }
        table.broadcast(server, index, &changes.keys);
    }

    /// A connection is told from now on.
    pub fn add(&self, server: &Server, tracker: Tracker) {
        let table = &mut *self.table.lock();
        let id = tracker.info.link.id;
        for prefix in tracker.prefixes.iter().flatten() {
            table.prefixes.entry(prefix.clone()).or_default().insert(id);
        }
        table.trackers.insert(id, tracker);
        server.node.want_changes(true);
    }

    /// A connection is told no more.
    pub fn remove(&self, server: &Server, id: u64) {
        let table = &mut *self.table.lock();
        let Some(tracker) = table.trackers.remove(&id) else { return };
        for prefix in tracker.prefixes.iter().flatten() {
            if let Some(clients) = table.prefixes.get_mut(prefix) {
                clients.remove(&id);
                if clients.is_empty() {
                    table.prefixes.remove(prefix);
                }
            }
        }
        if table.trackers.is_empty() {
            *table = Table::default();
            server.node.want_changes(false);
        }
    }

    /// A connection gets a reply that shows the state of this moment of these keys; under the group's lock.
    pub fn has_read<'a>(&self, server: &Server, id: u64, keys: impl Iterator<Item = &'a [u8]>) {
        let table = &mut *self.table.lock();
        for key in keys {
            table.insert(key, id);
        }
        table.evict(server, self.keys_max.load(Relaxed));
    }

    /// Reads of these keys are under way.
    pub fn begin(&self, server: &Server, id: u64, keys: &[Bytes]) {
        let table = &mut *self.table.lock();
        let by_key = table.trackers.get(&id).is_some_and(|tracker| tracker.prefixes.is_none());
        for key in keys {
            let older = by_key && !table.insert(key, id);
            let Some(tracker) = table.trackers.get_mut(&id) else { return };
            tracker.under_way.entry(key.clone()).or_insert(UnderWay { last: 0, older });
        }
        table.evict(server, self.keys_max.load(Relaxed));
    }

    /// Replies are about to be written that show changes of these keys: older copies are said to be no good before.
    pub fn outdate<'a>(&self, server: &Server, id: u64, keys: impl Iterator<Item = &'a Bytes>) {
        let table = &mut *self.table.lock();
        let Some(tracker) = table.trackers.get_mut(&id) else { return };
        for key in keys {
            let changed = tracker.under_way.get_mut(key).filter(|known| known.older && known.last > 0);
            if let Some(known) = changed {
                known.older = false;
                tell(server, tracker, Some(std::slice::from_ref(key)), &mut Encoded::default());
            }
        }
    }

    /// They have their replies.
    pub fn land(&self, server: &Server, id: u64, keys: impl Iterator<Item = (Bytes, Landed)>) {
        let table = &mut *self.table.lock();
        for (key, landed) in keys {
            let Some(tracker) = table.trackers.get_mut(&id) else { return };
            let known = tracker.under_way.remove(&key);
            let (good, stays) = match (landed, known) {
                (Landed::Seen(seen), Some(UnderWay { last, older })) => {
                    let good = last <= seen && (last == 0 || !older);
                    (good, good)
                }
                // What it may keep is from before.
                (Landed::Unread, Some(UnderWay { last, older })) => (last == 0 || !older, last == 0 && older),
                (Landed::Deaf, _) | (_, None) => (false, false),
            };
            if !good {
                tell(server, tracker, Some(std::slice::from_ref(&key)), &mut Encoded::default());
            }
            if !stays {
                table.leave(&key, id);
            }
        }
    }

    /// A connection got a reply about keys and is told at once that it is not to be kept.
    pub fn refuse(&self, server: &Server, id: u64, keys: &[Bytes]) {
        if let Some(tracker) = self.table.lock().trackers.get(&id) {
            keys.iter().for_each(|key| {
                tell(server, tracker, Some(std::slice::from_ref(key)), &mut Encoded::default());
            });
        }
    }

    /// Takes over `tracking-table-max-keys`.
    pub fn set_keys_max(&self, server: &Server, keys_max: usize) {
        self.keys_max.store(keys_max, Relaxed);
        self.table.lock().evict(server, keys_max);
    }

    pub fn counts(&self) -> Counts {
        let table = self.table.lock();
        let (clients, prefixes) = (table.trackers.len(), table.prefixes.len());
        Counts { clients, keys: table.keys.len(), items: table.items, prefixes }
    }
}

impl Table {
    /// Whether the connection was not interested before.
    fn insert(&mut self, key: &[u8], id: u64) -> bool {
        let interested = match self.keys.get_mut(key) {
            Some(interested) => interested,
            None => {
                // It may be kept for long: it must not pin a read buffer.
                let key = Bytes::copy_from_slice(key);
                self.came += 1;
                self.ages.insert(self.came, key.clone());
                self.keys.entry(key).or_insert(Interested { age: self.came, clients: BTreeSet::new() })
            }
        };
        let new = interested.clients.insert(id);
        self.items += usize::from(new);
        new
    }

    fn leave(&mut self, key: &Bytes, id: u64) {
        let Some(interested) = self.keys.get_mut(key) else { return };
        self.items -= usize::from(interested.clients.remove(&id));
        if interested.clients.is_empty() {
            self.ages.remove(&interested.age);
            self.keys.remove(key);
        }
    }

    fn changed(&mut self, server: &Server, index: u64, key: &Bytes, by: Option<SessionId>) {
        let Table { trackers, keys, ages, items, .. } = self;
        let Some(interested) = keys.get_mut(key) else { return };
        let (before, mut encoded) = (interested.clients.len(), Encoded::default());
        interested.clients.retain(|id| {
            let Some(tracker) = trackers.get_mut(id).filter(|tracker| tracker.prefixes.is_none()) else { return false };
            if by.is_some() && tracker.silent_for == by {
                return true;
            }
            if let Some(known) = tracker.under_way.get_mut(key) {
                known.last = known.last.max(index);
                return true;
            }
            tell(server, tracker, Some(std::slice::from_ref(key)), &mut encoded);
            false
        });
        *items -= before - interested.clients.len();
        if interested.clients.is_empty() {
            ages.remove(&interested.age);
            keys.remove(key);
        }
    }

    fn broadcast(&mut self, server: &Server, index: u64, changed: &[(Bytes, Option<SessionId>)]) {
        let Table { trackers, prefixes, .. } = self;
        for (prefix, clients) in prefixes {
            let fitting: Vec<_> = changed.iter().filter(|(key, _)| key.starts_with(prefix)).collect();
            let all: Vec<Bytes> = fitting.iter().map(|(key, _)| key.clone()).collect();
            let mut encoded = Encoded::default();
            for tracker in clients.iter().filter_map(|id| if all.is_empty() { None } else { Some(*id) }) {
                let Some(tracker) = trackers.get_mut(&tracker) else { continue };
                let foreign = |by: Option<SessionId>| by.is_none() || by != tracker.silent_for;
                let heard: Vec<Bytes> = fitting.iter().filter(|(_, by)| foreign(*by)).map(|(k, _)| k.clone()).collect();
                // On another connection no message stands behind a reply: once is enough.
                for key in heard.iter().filter(|_| tracker.redirect.is_none()) {
                    if let Some(known) = tracker.under_way.get_mut(key) {
                        known.last = known.last.max(index);
                    }
                }
                if heard.len() == all.len() {
                    tell(server, tracker, Some(&all), &mut encoded);
                } else if !heard.is_empty() {
                    tell(server, tracker, Some(&heard), &mut Encoded::default());
                }
            }
        }
    }

    /// All keys may have changed.
    fn tell_all(&mut self, server: &Server) {
        (self.keys, self.ages, self.items) = Default::default();
        let mut encoded = Encoded::default();
        for tracker in self.trackers.values_mut() {
            tracker.under_way.values_mut().for_each(|known| known.last = u64::MAX);
            tell(server, tracker, None, &mut encoded);
        }
    }

    /// Forgets the oldest keys until there are no more than `keys_max`, 0 for any number.
    fn evict(&mut self, server: &Server, keys_max: usize) {
        while keys_max > 0 && self.keys.len() > keys_max {
            let Some((_, key)) = self.ages.pop_first() else { return };
            let Some(interested) = self.keys.remove(&key) else { continue };
            self.items -= interested.clients.len();
            let mut encoded = Encoded::default();
            for id in interested.clients {
                let Some(tracker) = self.trackers.get_mut(&id) else { continue };
                match tracker.under_way.get_mut(&key) {
                    Some(known) => known.last = u64::MAX,
                    None => tell(server, tracker, Some(std::slice::from_ref(&key)), &mut encoded),
                }
            }
        }
    }
}

/// A message in the two forms that it may have, each made once.
#[derive(Default)]
struct Encoded([Option<Bytes>; 2]);

/// Tells a connection, or the one that it redirects to, that copies of these keys are no longer good; without keys,
/// that none is.
fn tell(server: &Server, tracker: &Tracker, keys: Option<&[Bytes]>, encoded: &mut Encoded) {
    let to = match tracker.redirect {
        None => tracker.info.clone(),
        Some(id) => match server.clients.get(id) {
            Some(to) => to,
            None => return redirection_is_gone(server, tracker, id),
        },
    };
    let protocol = to.protocol();
    let listens = to.subscriptions.iter().any(|count| count.load(Relaxed) > 0);
    if protocol == Protocol::Resp2 && (tracker.redirect.is_none() || !listens) {
        // There is no way to say it.
        return;
    }
    let message = encoded.0[usize::from(protocol == Protocol::Resp3)].get_or_insert_with(|| {
        let keys = keys.map_or(Reply::Null, |keys| Reply::Array(keys.iter().cloned().map(Reply::Bulk).collect()));
        let parts = match protocol {
            Protocol::Resp2 => vec![Reply::bulk("message"), Reply::bulk(CHANNEL), keys],
            _ => vec![Reply::bulk("invalidate"), keys],
        };
        encoded_as(&Reply::Push(parts), protocol)
    });
    to.link.send(message.clone(), &server.settings);
}

fn redirection_is_gone(server: &Server, tracker: &Tracker, id: u64) {
    tracker.info.set(flag::BROKEN_REDIRECT, true);
    if tracker.info.protocol() == Protocol::Resp3 {
        let push = Reply::Push(vec![Reply::bulk("tracking-redir-broken"), Reply::Int(id as i64)]);
        tracker.info.link.send(encoded_as(&push, Protocol::Resp3), &server.settings);
    }
}

fn encoded_as(reply: &Reply, protocol: Protocol) -> Bytes {
    let mut bytes = BytesMut::new();
    encode(reply, protocol, &mut bytes);
    bytes.freeze()
}
