//! The events of one entry as bytes, for the store and for other nodes. The format is in `src/docs/formats.md`.
//!
//! Invariants:
//! * What was encoded decodes to the same events.
//! * Decoding allocates no more than a small multiple of the bytes that are there, whatever they say.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Class, Event, NAMES};
use crate::codec::{self, CodecError};
use crate::moves::Range;

/// The format that this code writes and reads.
const FORMAT: u8 = 1;

const MESSAGE: u8 = 0;
const SHARD_MESSAGE: u8 = 1;
const KEY: u8 = 2;
const MOVED: u8 = 3;
const ARRIVED: u8 = 4;
/// For the channel of the key: beside the class.
const KEYSPACE: u8 = 0x40;
/// For the channel of the event.
const KEYEVENT: u8 = 0x80;

/// The bytes are no batch of events, or one of a newer program.
#[derive(Debug, thiserror::Error)]
#[error("malformed events: {0}")]
pub struct MalformedEvents(String);

impl From<CodecError> for MalformedEvents {
    fn from(error: CodecError) -> MalformedEvents {
        MalformedEvents(error.to_string())
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u8,
    count: u32,
}

/// In front of the two texts of an event: channel and payload, or name and key.
#[derive(Serialize, Deserialize)]
struct EventHead {
    kind: u8,
    class: u8,
    database: u32,
    first_bytes: u32,
    second_bytes: u32,
}

/// A length; texts of clients are at most 512 MiB long.
fn length(text: &[u8]) -> u32 {
    u32::try_from(text.len()).expect("the longest text of a client is far below 4 GiB")
}

/// The bytes of the events of one entry.
///
/// # Panics
/// When there are more than 4 billion events.
pub fn encode(events: &[Event]) -> Vec<u8> {
    let count = u32::try_from(events.len()).expect("an entry has far fewer events");
    let mut out = codec::bytes(&Head { format: FORMAT, count });
    for event in events {
        let texts;
        let (kind, class, database, first, second) = match event {
            Event::Message { channel, payload, sharded } => {
                (if *sharded { SHARD_MESSAGE } else { MESSAGE }, 0, 0, &channel[..], payload)
            }
            Event::Key { class, keyspace, keyevent, name, database, key } => {
                let marks = [(*keyspace, KEYSPACE), (*keyevent, KEYEVENT)];
                let class = marks.iter().filter(|(on, _)| *on).fold(*class as u8, |byte, (_, mark)| byte | mark);
                (KEY, class, *database, name.as_bytes(), key)
            }
            Event::Moved { range, group, index } => {
                texts = slots(*range, *index);
                (MOVED, 0, *group, texts.0.as_bytes(), &texts.1)
            }
            Event::Arrived { range, index } => {
                texts = slots(*range, *index);
                (ARRIVED, 0, 0, texts.0.as_bytes(), &texts.1)
            }
        };
        let (first_bytes, second_bytes) = (length(first), length(second));
        codec::put(&EventHead { kind, class, database, first_bytes, second_bytes }, &mut out);
        out.extend_from_slice(first);
        out.extend_from_slice(second);
    }
    out
}

/// Reads what [`encode`] wrote; texts are slices of `bytes`.
///
/// # Errors
/// When the bytes are anything else.
pub fn decode(bytes: &Bytes) -> Result<Vec<Event>, MalformedEvents> {
    let (head, taken): (Head, usize) = codec::read(bytes, "events")?;
    if head.format != FORMAT {
        return Err(MalformedEvents(format!("format {}, known is {FORMAT}", head.format)));
    }
    let mut rest = bytes.slice(taken..);
    let mut events = Vec::new();
    for _ in 0..head.count {
        events.push(next(&mut rest)?);
    }
    if rest.is_empty() { Ok(events) } else { Err(MalformedEvents(format!("{} bytes behind the last", rest.len()))) }
}

fn next(rest: &mut Bytes) -> Result<Event, MalformedEvents> {
    let (head, taken): (EventHead, usize) = codec::read(rest, "event")?;
    *rest = rest.slice(taken..);
    let mut text = |len: u32| {
        let len = len as usize;
        if len > rest.len() {
            return Err(MalformedEvents(format!("a text of {len} bytes, {} left", rest.len())));
        }
        Ok(rest.split_to(len))
    };
    let (first, second) = (text(head.first_bytes)?, text(head.second_bytes)?);
    match head.kind {
        MESSAGE | SHARD_MESSAGE if head.class == 0 && head.database == 0 => {
            Ok(Event::Message { channel: first, payload: second, sharded: head.kind == SHARD_MESSAGE })
        }
        KEY => {
            let number = head.class & !(KEYSPACE | KEYEVENT);
            let class = Class::ALL.into_iter().find(|class| *class as u8 == number);
            let name = NAMES.iter().find(|name| name.as_bytes() == first);
            let (Some(class), Some(name)) = (class, name) else {
                return Err(MalformedEvents("an event of a class or name that is not known".into()));
            };
            let [keyspace, keyevent] = [KEYSPACE, KEYEVENT].map(|mark| head.class & mark != 0);
            Ok(Event::Key { class, keyspace, keyevent, name, database: head.database, key: second })
        }
        MOVED if head.class == 0 => {
            let (range, index) = moved(&first, &second)?;
            Ok(Event::Moved { range, group: head.database, index })
        }
        ARRIVED if head.class == 0 && head.database == 0 => {
            let (range, index) = moved(&first, &second)?;
            Ok(Event::Arrived { range, index })
        }
        kind => Err(MalformedEvents(format!("an event of kind {kind}"))),
    }
}

/// Slots and an index, as texts.
fn slots(range: Range, index: u64) -> (String, Bytes) {
    (format!("{}-{}", range.first, range.last), Bytes::from(index.to_string()))
}

fn moved(slots: &[u8], index: &[u8]) -> Result<(Range, u64), MalformedEvents> {
    let read = || {
        let (first, last) = std::str::from_utf8(slots).ok()?.split_once('-')?;
        let range = Range { first: first.parse().ok()?, last: last.parse().ok()? };
        Some((range, std::str::from_utf8(index).ok()?.parse().ok()?))
    };
    read().ok_or_else(|| MalformedEvents("slots that moved without saying where".into()))
}
