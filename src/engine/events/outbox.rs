//! What was published in MULTI or in a script for a channel that is at home in another group.
//!
//! Such a message waits here, as state of the group, until the group's leader has handed it to the group of the
//! channel; then [`DELIVERED`] drops it. Its place, the index of its entry and a number, is what it is marked with
//! there, so it is delivered once however often it is handed over.
//!
//! Invariants:
//! * Places only grow, and none is used twice for what is not taken back.
//! * What waits is in the digest and in the snapshot, and its bytes are bounded.

use std::collections::BTreeMap;

use bytes::Bytes;
use quoris_resp::{Argv, Reply};

use crate::command::{ADMIN, Command, Handler, ROW, WRITE};
use crate::{ApplyContext, CommandResult, Error, Keyspace, codec, number};

/// Bytes that may wait. More is refused where it is published: another group cannot be reached for long.
const BYTES_MAX: u64 = 16 << 20;
/// What a message costs beside its own bytes.
const MESSAGE_BYTES: u64 = 64;

/// The index of the entry that published it, and its number there, counted from 1.
pub type OutboxPlace = (u64, u32);

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The channel.
    pub channel: Bytes,
    /// What was published.
    pub payload: Bytes,
    /// SPUBLISH.
    pub sharded: bool,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outbox {
    messages: BTreeMap<OutboxPlace, Outgoing>,
    bytes: u64,
    /// The sum of the prints.
    digest: u64,
}

/// A message in a snapshot: its place, whether it is sharded, channel and payload.
type Saved = (u64, u32, bool, Vec<u8>, Vec<u8>);

impl Outgoing {
    fn cost(&self) -> u64 {
        self.channel.len() as u64 + self.payload.len() as u64 + MESSAGE_BYTES
    }

    fn print(&self, (index, number): OutboxPlace) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        let head = [index, number.into(), self.sharded.into(), self.channel.len() as u64];
        head.iter().for_each(|n| hasher.update(&n.to_le_bytes()));
        hasher.update(&self.channel);
        hasher.update(&self.payload);
        hasher.digest()
    }

    /// As the command that publishes it where its channel is at home.
    pub fn to_argv(&self) -> Argv {
        let name: &[u8] = if self.sharded { b"SPUBLISH" } else { b"PUBLISH" };
        Argv::from_parts(&[name, &self.channel, &self.payload])
    }
}

impl Outbox {
    /// What waits, in the order in which it was published.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (OutboxPlace, &Outgoing)> + '_ {
        self.messages.iter().map(|(place, message)| (*place, message))
    }

    /// The number of messages that wait.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes of what waits, by our own count.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts a message at the next place of an entry.
    ///
    /// # Errors
    /// When too much waits already.
    pub(crate) fn post(&mut self, index: u64, message: Outgoing) -> Result<(), Error> {
        if self.bytes + message.cost() > BYTES_MAX {
            return Err(Error::text("ERR too many messages wait to be handed to the groups of their channels"));
        }
        let number = self.last().filter(|last| last.0 == index).map_or(1, |last| last.1 + 1);
        self.put((index, number), message);
        Ok(())
    }

    fn put(&mut self, place: OutboxPlace, message: Outgoing) {
        self.bytes += message.cost();
        self.digest = self.digest.wrapping_add(message.print(place));
        self.messages.insert(place, message);
    }

    fn remove(&mut self, place: OutboxPlace) {
        if let Some(message) = self.messages.remove(&place) {
            self.bytes -= message.cost();
            self.digest = self.digest.wrapping_sub(message.print(place));
        }
    }

    /// The last place that is taken.
    pub(crate) fn last(&self) -> Option<OutboxPlace> {
        self.messages.last_key_value().map(|(place, _)| *place)
    }

    /// Forgets what came behind a place.
    pub(crate) fn take_back(&mut self, last: Option<OutboxPlace>) {
        while let Some(place) = self.last().filter(|place| Some(*place) > last) {
            self.remove(place);
        }
    }

    /// A hash of all of it.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// All of it as bytes for a snapshot.
    pub(crate) fn saved(&self) -> Vec<u8> {
        let one = |((index, number), message): (OutboxPlace, &Outgoing)| -> Saved {
            (index, number, message.sharded, message.channel.to_vec(), message.payload.to_vec())
        };
        codec::bytes(&self.iter().map(one).collect::<Vec<_>>())
    }

    /// Restores what [`Outbox::saved`] gave.
    ///
    /// # Errors
    /// When the bytes are damaged.
    pub(crate) fn restore(bytes: &[u8]) -> Result<Outbox, String> {
        let (saved, end): (Vec<Saved>, usize) = codec::read(bytes, "outbox").map_err(|e| e.to_string())?;
        if end != bytes.len() {
            return Err("bytes behind the outbox".into());
        }
        let mut outbox = Outbox::default();
        for (index, number, sharded, channel, payload) in saved {
            if outbox.last() >= Some((index, number)) {
                return Err("an outbox without order".into());
            }
            outbox.put((index, number), Outgoing { channel: channel.into(), payload: payload.into(), sharded });
        }
        Ok(outbox)
    }
}

/// The name of the command in the log.
const NAME: &str = "QUORIS.DELIVERED";

/// Not in the table: only leaders propose it.
pub static DELIVERED: Command = Command {
    name: "quoris.delivered",
    arity: -3,
    flags: WRITE.with(ADMIN),
    summary: "Drops messages that were handed to the groups of their channels.",
    syntax: "{index number} ...",
    handler: Handler::Write(apply),
    ..ROW
};

/// The command that drops what was handed over.
pub fn delivered(places: &[OutboxPlace]) -> Argv {
    let numbers = places.iter().flat_map(|(index, number)| [*index, (*number).into()]);
    let words = std::iter::once(NAME.to_string()).chain(numbers.map(|n| n.to_string()));
    Argv::from_parts(&words.collect::<Vec<_>>())
}

/// QUORIS.DELIVERED: what is not there was dropped before. Answers with the number of messages that wait.
fn apply(keyspace: &mut Keyspace, _context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let number = |text: &[u8]| number::integer(text).and_then(|n| u64::try_from(n).ok()).ok_or(Error::NotAnInteger);
    let numbers = argv.iter().skip(1).map(number).collect::<Result<Vec<_>, _>>()?;
    for place in numbers.chunks(2) {
        let [index, number] = place[..] else { return Err(Error::Arity("quoris.delivered".into())) };
        keyspace.outbox_mut().remove((index, u32::try_from(number).map_err(|_| Error::NotAnInteger)?));
    }
    Ok(Reply::Int(keyspace.outbox().len() as i64))
}
