//! What commands tell of keys, on the engine and on a redis-server: the same events in the same order.

use quoris_engine::events::Event;
use quoris_resp::{Argv, Reply};

use super::InProcess;
use super::script::Target;
use super::script::remote::{Connection, RedisServer};

/// Every class but those of modules and of missed keys.
pub const CLASSES: &str = "KEAn";
/// The channel that says that all events before it have come.
const FENCE: &str = "fence";

/// A subscriber of all events of a redis-server.
pub struct Watched {
    subscriber: Connection,
    fences: u64,
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

impl Watched {
    /// Nothing when the server is not of version 7.0, whose events ours are.
    ///
    /// # Panics
    /// When the server does not listen.
    pub fn open(server: &RedisServer) -> Option<Watched> {
        if server.version != (7, 0) {
            return None;
        }
        let mut subscriber = Connection::open(&server.address, None).expect("it listens");
        subscriber.call(&Argv::from_parts(&["CONFIG", "SET", "notify-keyspace-events", CLASSES]));
        subscriber.call(&Argv::from_parts(&["PSUBSCRIBE", "__keyevent@*__:*"]));
        subscriber.call(&Argv::from_parts(&["SUBSCRIBE", FENCE]));
        Some(Watched { subscriber, fences: 0 })
    }

    /// The events of what a connection did since the last time, as `event database:key`.
    ///
    /// # Panics
    /// When the server says something else.
    pub fn theirs(&mut self, connection: &mut Connection) -> Vec<String> {
        self.fences += 1;
        let fence = self.fences.to_string();
        connection.call(&Argv::from_parts(&["PUBLISH", FENCE, &fence]));
        let mut events = Vec::new();
        loop {
            let Reply::Array(parts) = self.subscriber.next_reply() else { panic!("no message") };
            let parts: Vec<&[u8]> = parts.iter().map(bulk).collect();
            match parts[..] {
                [b"message", _, number] if number == fence.as_bytes() => return events,
                [b"pmessage", _, channel, key] => {
                    let channel = text(channel);
                    let (place, event) = channel.split_once("__:").expect("the channel of an event");
                    let database = place.trim_start_matches("__keyevent@");
                    events.push(format!("{event} {database}:{}", text(key)));
                }
                _ => panic!("{parts:?}"),
            }
        }
    }

    /// Compares what both sides told since the last time; `what` names the command.
    pub fn differ(
        &mut self,
        ours: &mut InProcess,
        theirs: &mut Connection,
        what: &dyn Fn() -> String,
    ) -> Option<String> {
        let (ours, theirs) = (told(ours), self.theirs(theirs));
        (ours != theirs).then(|| format!("{}\n  events {ours:?}, of Redis {theirs:?}", what()))
    }

    /// The same where one difference is too many.
    ///
    /// # Panics
    /// When they told different things.
    pub fn compare(&mut self, ours: &mut InProcess, theirs: &mut Connection, what: &dyn Fn() -> String) {
        let difference = self.differ(ours, theirs, what);
        assert!(difference.is_none(), "{}", difference.unwrap_or_default());
    }
}

fn bulk(reply: &Reply) -> &[u8] {
    if let Reply::Bulk(bytes) = reply { bytes } else { b"" }
}

/// The events of keys since the last time.
pub fn told(ours: &mut InProcess) -> Vec<String> {
    let line = |event| match event {
        Event::Key { name, database, key, .. } => Some(format!("{name} {database}:{}", text(&key))),
        Event::Message { .. } | Event::Moved { .. } | Event::Arrived { .. } => None,
    };
    ours.keyspace.take_events().into_iter().filter_map(line).collect()
}
