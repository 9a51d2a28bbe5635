//! What apply tells beside replies: messages of channels, and notes that something happened to a key.
//!
//! Step 9 of a command's way. Commands emit events while they are applied, every replica the same ones in the same
//! order; [`crate::Engine::take_events`] hands over those of the last entry. Events are no state: they are in no
//! digest and no snapshot. What is published for the channel of another group waits in the outbox
//! (`events/outbox.rs`), which is.
//!
//! Invariants:
//! * The events of an entry are a function of the state in front of it and the entry.
//! * What a script did that was taken back is not told.
//! * Nothing is noted of a key unless its class and a kind of channel are turned on.

mod batch;
mod commands;
mod outbox;

pub use batch::{MalformedEvents, decode, encode};
pub(crate) use commands::COMMANDS;
pub use outbox::{DELIVERED, Outbox, OutboxPlace, Outgoing, delivered};

use bytes::Bytes;

use crate::moves::Range;
use crate::{Keyspace, Value};

/// Bytes of events from which on a script can do nothing more: what an entry emits is held in memory.
const SCRIPT_BYTES_MAX: usize = 64 << 20;
/// Channels `__keyspace@<db>__:<key>`: a bit of `notify-keyspace-events`.
const KEYSPACE: i64 = 1 << 10;
/// Channels `__keyevent@<db>__:<event>`.
const KEYEVENT: i64 = 1 << 11;

/// What kind of thing happened to a key: the number of its bit in `notify-keyspace-events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// `g`: to a key of any type.
    Generic = 0,
    /// `$`: to a string.
    String = 1,
    /// `l`: to a list.
    List = 2,
    /// `s`: to a set.
    Set = 3,
    /// `h`: to a hash.
    Hash = 4,
    /// `z`: to a sorted set.
    SortedSet = 5,
    /// `x`: its time had come.
    Expired = 6,
    /// `e`: it was removed to make room.
    Evicted = 7,
    /// `t`: to a stream.
    Stream = 8,
    /// `n`: it came into being.
    New = 13,
}

impl Class {
    /// Every class that events have.
    pub const ALL: [Class; 10] = [
        Class::Generic,
        Class::String,
        Class::List,
        Class::Set,
        Class::Hash,
        Class::SortedSet,
        Class::Expired,
        Class::Evicted,
        Class::Stream,
        Class::New,
    ];

    /// Its bit in `notify-keyspace-events`.
    pub const fn bit(self) -> i64 {
        1 << self as u8
    }

    /// Its name, for figures.
    pub const fn word(self) -> &'static str {
        match self {
            Class::Generic => "generic",
            Class::String => "string",
            Class::List => "list",
            Class::Set => "set",
            Class::Hash => "hash",
            Class::SortedSet => "zset",
            Class::Expired => "expired",
            Class::Evicted => "evicted",
            Class::Stream => "stream",
            Class::New => "new",
        }
    }

    /// Its letter there.
    pub fn letter(self) -> char {
        crate::settings::event_letters(self.bit()).chars().next().unwrap_or('?')
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// PUBLISH or SPUBLISH.
    Message {
        /// The channel.
        channel: Bytes,
        /// What was published.
        payload: Bytes,
        /// SPUBLISH: for those who subscribed with SSUBSCRIBE.
        sharded: bool,
    },
    /// Something happened to a key.
    Key {
        /// The kind of thing.
        class: Class,
        /// For the channel of the key: `K` was set at that time.
        keyspace: bool,
        /// For the channel of the event: `E` was set at that time.
        keyevent: bool,
        /// Redis's name of the event.
        name: &'static str,
        /// The numbered database.
        database: u32,
        /// The key.
        key: Bytes,
    },
    /// The channels of these slots are another group's from here on: what is published in them stands there, above
    /// an index.
    Moved {
        /// The slots.
        range: Range,
        /// The number of the group.
        group: u32,
        /// The index.
        index: u64,
    },
    /// The channels of these slots are this group's: what is published in them stands here above an index, and what
    /// was published before stands in the log of another group.
    Arrived {
        /// The slots.
        range: Range,
        /// The index.
        index: u64,
    },
}

impl Event {
    /// Bytes that came from clients.
    pub fn bytes(&self) -> usize {
        match self {
            Event::Message { channel, payload, .. } => channel.len() + payload.len(),
            Event::Key { key, .. } => key.len(),
            Event::Moved { .. } | Event::Arrived { .. } => 0,
        }
    }
}

/// The events of the entry that is being applied.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// The classes that are noted, none unless there is a channel for them.
    classes: i64,
    /// The kinds of channels.
    channels: i64,
    list: Vec<Event>,
    bytes: usize,
}

impl Events {
    /// Takes over `notify-keyspace-events`.
    pub(crate) fn set_classes(&mut self, setting: i64) {
        self.channels = setting & (KEYSPACE | KEYEVENT);
        self.classes = if self.channels == 0 { 0 } else { setting };
    }

    pub(crate) fn push(&mut self, event: Event) {
        self.bytes += event.bytes();
        self.list.push(event);
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Forgets the events behind the first `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.bytes -= self.list.drain(len..).map(|event| event.bytes()).sum::<usize>();
    }

    /// Whether a script has to stop telling.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes + self.list.len() * size_of::<Event>() > SCRIPT_BYTES_MAX
    }

    pub(crate) fn take(&mut self) -> Vec<Event> {
        self.bytes = 0;
        std::mem::take(&mut self.list)
    }

    /// Turns all classes off; gives what was on, for [`Events::hush`] again.
    pub(crate) fn hush(&mut self, classes: i64) -> i64 {
        std::mem::replace(&mut self.classes, classes)
    }
}

impl Keyspace {
    /// What was told since the last time, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.events_mut().take()
    }

    /// Something happened to a key: tells it if anybody may want to know. `name` must be in [`NAMES`].
    #[inline]
    pub(crate) fn notify(&mut self, class: Class, name: &'static str, database: u32, key: &[u8]) {
        if self.events().classes & class.bit() != 0 {
            self.note_event(class, name, database, key);
        }
    }

    /// Stores a value as DEL and a new key would: what was there is gone, and the key is told to be new.
    pub(crate) fn set_anew(&mut self, database: u32, key: &[u8], value: Value, expire_at_ms: Option<u64>) {
        if self.value(database, key).is_some() {
            self.set(database, key, value, expire_at_ms);
            self.notify(Class::New, "new", database, key);
        } else {
            self.set(database, key, value, expire_at_ms);
        }
    }

    /// Gives a key a deadline and tells it. Without one it has passed, and the key goes.
    pub(crate) fn expire_at(&mut self, database: u32, key: &[u8], at_ms: Option<u64>) {
        match at_ms {
            Some(_) if self.set_expire(database, key, at_ms) => {
                self.notify(Class::Generic, "expire", database, key);
            }
            Some(_) => {}
            None => drop(self.delete_and_tell(database, key)),
        }
    }

    /// Takes the deadline of a key away and tells it.
    pub(crate) fn persist(&mut self, database: u32, key: &[u8]) {
        if self.set_expire(database, key, None) {
            self.notify(Class::Generic, "persist", database, key);
        }
    }

    /// Removes a key and tells it: what nearly every command does that removes one.
    pub(crate) fn delete_and_tell(&mut self, database: u32, key: &[u8]) -> bool {
        let deleted = self.delete(database, key);
        if deleted {
            self.notify(Class::Generic, "del", database, key);
        }
        deleted
    }

    #[cold]
    fn note_event(&mut self, class: Class, name: &'static str, database: u32, key: &[u8]) {
        debug_assert!(NAMES.contains(&name), "{name} has a place in the list of names");
        let events = self.events_mut();
        let [keyspace, keyevent] = [KEYSPACE, KEYEVENT].map(|kind| events.channels & kind != 0);
        let key = Bytes::copy_from_slice(key);
        events.push(Event::Key { class, keyspace, keyevent, name, database, key });
    }
}

/// The names of all events of keys: a batch that names another one is of a newer program.
#[rustfmt::skip]
pub const NAMES: &[&str] = &[
    "append", "copy_to", "del", "evicted", "expire", "expired", "georadiusstore", "geosearchstore", "hdel", "hexpire",
    "hexpired", "hincrby", "hincrbyfloat", "hpersist", "hset", "incrby", "incrbyfloat", "linsert", "lpop", "lpush",
    "lrem", "lset", "ltrim", "move_from", "move_to", "new", "persist", "pfadd", "rename_from", "rename_to", "restore",
    "rpop", "rpush", "sadd", "sdiffstore", "set", "setbit", "setrange", "sinterstore", "sortstore", "spop", "srem", "sunionstore",
    "xadd", "xdel", "xgroup-create", "xgroup-createconsumer", "xgroup-delconsumer", "xgroup-destroy", "xgroup-setid",
    "xsetid", "xtrim", "zadd", "zdiffstore", "zincr", "zinterstore", "zpopmax", "zpopmin", "zrangestore", "zrem",
    "zremrangebylex", "zremrangebyrank", "zremrangebyscore", "zunionstore",
];

#[cfg(test)]
mod tests;
