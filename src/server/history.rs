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

mod channel;
mod cursor;
mod pages;
mod subscription;

use bytes::Bytes;
use quoris_engine::{events::Event, glob, slot};
use quoris_raft::GroupId;
use quoris_resp::Reply;

use crate::{pubsub::keyspace_channel, server::Server};

pub(crate) use cursor::{Cursor, Place};
pub(crate) use pages::{Page, news, oldest, read};
pub(crate) use subscription::{Subscription, subscribe, wanted};

/// The names of streams of events begin so.
pub(crate) const PREFIX: &[u8] = b"quoris:events:";

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
    /// The groups whose events these may be; of a channel the one that has it, as far as this node knows.
    groups: Vec<GroupId>,
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

    /// What a cursor says of these events.
    fn within(&self, cursor: &Cursor, all: &[GroupId]) -> Option<Cursor> {
        let named = self.groups.iter().any(|group| cursor.names(*group));
        match (self.channel(), cursor.first()) {
            // The slot may have been with another group then.
            (Some(_), Some((group, place))) if !named && cursor.places().count() == 1 => {
                all.contains(&group).then(|| [(group, place)].into_iter().collect())
            }
            _ => named.then(|| self.groups.iter().map(|group| (*group, cursor.of(*group))).collect()),
        }
    }

    /// Where to begin: a cursor, `0` for the beginning of all, `-` for what is kept, `$` for now.
    pub async fn start(&self, server: &Server, text: &[u8]) -> Result<Cursor, Reply> {
        let places = match text {
            b"0" | b"0-0" => return Ok(self.groups.iter().map(|group| (*group, Place::default())).collect()),
            b"-" => oldest(server, self).await,
            b"$" => pages::now(server, self).await,
            _ => {
                let cursor = Cursor::parse(text, server.sole_group());
                let cursor =
                    cursor.ok_or_else(|| Reply::error("ERR Invalid stream ID specified as stream command argument"))?;
                let stranger = || Reply::error(format!("ERR {cursor} is no position of these events"));
                return self.within(&cursor, &server.groups()).ok_or_else(stranger);
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
        // No choice has them.
        Event::Moved { .. } | Event::Arrived { .. } => Vec::new(),
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
        Event::Moved { .. } | Event::Arrived { .. } => Default::default(),
    }
}
