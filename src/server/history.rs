//! Reading what groups have told, from a position on: as streams with reserved names, by XREAD and XRANGE, and by
//! subscriptions that begin there. `src/docs/events.md` shows the names and the positions.
//!
//! Events come from the nearest replica ([`quoris_raft::EventStream`]), however far back they lie; up to where a
//! reply has to reach, the leaders say.
//!
//! Invariants:
//! * A reply that ends the history holds everything that was acknowledged before the command was sent.
//! * Whoever goes on from the id of an entry gets what stands behind it, each event once.
//! * What is no longer kept is an error that names where the rest begins.

mod cursor;
mod pages;

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use quoris_engine::{events::Event, glob, slot};
use quoris_raft::GroupId;
use quoris_resp::{Reply, encode_message};
use tokio::task::JoinSet;

use crate::{clients::ClientInfo, pubsub::keyspace_channel, server::Server};

pub(crate) use cursor::{Cursor, Place};
pub(crate) use pages::{Page, news, oldest, read};

/// The names of streams of events begin so.
pub(crate) const PREFIX: &[u8] = b"quoris:events:";
/// A subscription that begins at a position: the position follows, and then the rest of a stream's name.
const FROM: &[u8] = b"from:";
/// Bytes that wait for a connection before more is read for it.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Between two looks whether it has taken them.
const PAUSE: Duration = Duration::from_millis(5);

/// Which events a stream is of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    /// The messages of a channel.
    Channel(Bytes),
    /// The messages of a shard channel.
    Shard(Bytes),
    /// The messages of channels that fit a pattern.
    Channels(Bytes),
    /// What happens to keys that fit a pattern.
    Keys(Bytes),
}

/// A stream of events.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    choice: Choice,
    /// The groups whose events these may be.
    pub groups: Vec<GroupId>,
    /// The database of the keys.
    database: u32,
}

impl Told {
    /// The stream with this name, without [`PREFIX`], as a connection sees it that selected a database.
    pub fn named(server: &Server, name: &[u8], database: u32) -> Result<Told, Reply> {
        let unknown = || {
            let kinds = "channel:NAME, shard:NAME, channels:PATTERN and keys:PATTERN";
            Reply::error(format!("ERR there are {kinds} behind {}", String::from_utf8_lossy(PREFIX)))
        };
        let colon = name.iter().position(|byte| *byte == b':').ok_or_else(unknown)?;
        let rest = Bytes::copy_from_slice(&name[colon + 1..]);
        let choice = match &name[..colon] {
            b"channel" => Choice::Channel(rest),
            b"shard" => Choice::Shard(rest),
            b"channels" => Choice::Channels(rest),
            b"keys" => Choice::Keys(rest),
            _ => return Err(unknown()),
        };
        let groups = match &choice {
            Choice::Channel(name) | Choice::Shard(name) => {
                let group = server.node.group_of(slot(name));
                vec![group.ok_or_else(|| crate::outcome::no_owner(slot(name)))?]
            }
            Choice::Channels(_) | Choice::Keys(_) => server.groups().to_vec(),
        };
        Ok(Told { choice, groups, database })
    }

    /// Whether an event belongs to it.
    fn has(&self, event: &Event) -> bool {
        match (&self.choice, event) {
            (Choice::Channel(name), Event::Message { channel, sharded: false, .. })
            | (Choice::Shard(name), Event::Message { channel, sharded: true, .. }) => name == channel,
            (Choice::Channels(pattern), Event::Message { channel, sharded: false, .. }) => {
                glob::matches(pattern, channel)
            }
            (Choice::Keys(pattern), Event::Key { database, key, .. }) => {
                *database == self.database && glob::matches(pattern, key)
            }
            _ => false,
        }
    }

    /// Where to begin: a cursor, `0` for the beginning of all, `-` for what is kept, `$` for now.
    pub async fn start(&self, server: &Server, text: &[u8]) -> Result<Cursor, Reply> {
        let places = match text {
            b"0" | b"0-0" => return Ok(self.groups.iter().map(|group| (*group, Place::default())).collect()),
            b"-" => oldest(server, self).await,
            b"$" => pages::now(server, self).await,
            _ => {
                let sole = if let [sole] = self.groups[..] { Some(sole) } else { None };
                let cursor = Cursor::parse(text, sole);
                let cursor =
                    cursor.ok_or_else(|| Reply::error("ERR Invalid stream ID specified as stream command argument"))?;
                if !self.groups.iter().any(|group| cursor.names(*group)) {
                    return Err(Reply::error(format!(
                        "ERR {cursor} is no position of these events: another group tells them"
                    )));
                }
                Ok(self.groups.iter().map(|group| (*group, cursor.of(*group))).collect())
            }
        };
        places.map_err(|failure| failure.reply())
    }
}

/// The entry of a stream that an event is.
pub(crate) fn entry(id: &Cursor, position: &Cursor, event: &Event) -> Reply {
    let text = |text: &'static str| Reply::Bulk(Bytes::from_static(text.as_bytes()));
    let bulk = |bytes: &Bytes| Reply::Bulk(bytes.clone());
    let mut fields = match event {
        Event::Message { channel, payload, .. } => vec![text("channel"), bulk(channel), text("message"), bulk(payload)],
        Event::Key { name, database, key, .. } => {
            vec![text("event"), text(name), text("key"), bulk(key), text("database"), Reply::bulk(database.to_string())]
        }
        // No choice has it.
        Event::Moved { .. } => Vec::new(),
    };
    fields.extend([text("position"), Reply::bulk(position.to_string())]);
    Reply::Array(vec![Reply::bulk(id.to_string()), Reply::Array(fields)])
}

/// Channel and payload of the message that an event is.
fn message(event: &Event) -> (Bytes, Bytes) {
    match event {
        Event::Message { channel, payload, .. } => (channel.clone(), payload.clone()),
        Event::Key { name, database, key, .. } => {
            (keyspace_channel(*database, key), Bytes::from_static(name.as_bytes()))
        }
        Event::Moved { .. } => Default::default(),
    }
}

/// A subscription that began at a position; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Subscription {
    _tasks: JoinSet<()>,
}

/// The stream and the place that such a subscription names; nothing when the name is an ordinary one.
pub(crate) async fn wanted(server: &Server, name: &[u8], database: u32) -> Result<Option<(Told, Cursor)>, Reply> {
    let Some(rest) = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix(FROM)) else { return Ok(None) };
    let end = rest.iter().position(|byte| !b"0123456789:,-$".contains(byte)).unwrap_or(rest.len());
    let (position, stream) = rest.split_at(end);
    let told = Told::named(server, stream, database)?;
    let from = told.start(server, position.strip_suffix(b":").unwrap_or(position)).await?;
    // It says what is wrong before anything is confirmed.
    read(server, &told, &from, None, 0).await.map_err(|failure| failure.reply())?;
    Ok(Some((told, from)))
}

/// Sends what is told behind a place to a connection, as messages of the pattern `name`. The channel of each is its
/// cursor, a blank, and the channel that it is of.
pub(crate) fn subscribe(
    server: &Arc<Server>,
    info: &Arc<ClientInfo>,
    name: Bytes,
    told: Told,
    from: Cursor,
) -> Subscription {
    let mut tasks = JoinSet::new();
    let shared = Arc::new(parking_lot::Mutex::new(from.clone()));
    for group in told.groups.clone() {
        let (server, info, name) = (server.clone(), info.clone(), name.clone());
        let (told, after, shared) = (told.clone(), from.of(group), shared.clone());
        tasks.spawn(async move {
            let mut stream = server.node.follow_events(group, after.behind());
            while let Ok(batch) = stream.next().await {
                for (event, number) in batch.events.iter().zip(1..) {
                    let place = Place { index: batch.index, number };
                    if place <= after || !told.has(event) {
                        continue;
                    }
                    while info.link.waiting() > WAITING_BYTES_MAX {
                        tokio::time::sleep(PAUSE).await;
                    }
                    let mut cursor = shared.lock();
                    cursor.set(group, place);
                    send(&server, &info, &name, &cursor, event);
                }
                shared.lock().set(group, Place::whole(batch.index));
            }
            tracing::warn!(group = group.0, "events are no longer kept: a subscriber is disconnected");
            info.link.close();
        });
    }
    Subscription { _tasks: tasks }
}

fn send(server: &Server, info: &ClientInfo, name: &Bytes, cursor: &Cursor, event: &Event) {
    let (channel, payload) = message(event);
    let place = Bytes::from([cursor.to_string().as_bytes(), b" ", &channel].concat());
    let mut bytes = BytesMut::new();
    encode_message("pmessage", &[name, &place, &payload], info.protocol(), &mut bytes);
    let sent = info.link.send(bytes.freeze(), &server.settings);
    server.pubsub.count_sent(sent);
}
