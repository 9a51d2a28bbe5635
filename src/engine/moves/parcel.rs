//! Keys on their way from one group to another, as bytes.
//!
//! A parcel is a mark, flags, and then either a list of keys of ordinary size with all that belongs to them, or a
//! part of one large value ([`super::part`]), in front of the first of which stands whose value it is.
//!
//! Invariants:
//! * A value that was read from its bytes has the same print as the one that was written.
//! * What comes may be anything: it is refused, or it is what it says.

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};

use super::part::{self, Cursor};
use super::source::{Picked, What};
use crate::types::collection::Collection;
use crate::types::growing::{self, Kind};
use crate::{Value, codec, payload, rdb};

/// What every parcel begins with. The first format had none, and begins with the number of its records.
const MARK: u8 = 0xf2;
/// Bytes and keys of one parcel, about.
const PARCEL_BYTES: usize = 128 * 1024;
const PARCEL_KEYS: usize = 512;
/// A payload that is no part is never longer: its value has less.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// A part of a large value follows.
const PART: u8 = 1;
/// In front of it stands whose.
const FIRST: u8 = 2;
/// The last one.
const LAST: u8 = 4;

/// A value of ordinary size with all that belongs to it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sent {
    /// As DUMP writes it.
    payload: Vec<u8>,
    origin: u8,
    beside: Option<Vec<u8>>,
    pub(super) expire_at_ms: Option<u64>,
    pub(super) version: u64,
}

impl Sent {
    pub(super) fn new(value: &Value, expire_at_ms: Option<u64>, version: u64) -> Sent {
        let beside = value.collection().and_then(Collection::beside);
        Sent { payload: rdb::dump_value(value), origin: payload::origin(value), beside, expire_at_ms, version }
    }

    /// Bytes of it, about.
    fn bytes(&self) -> usize {
        self.payload.len() + self.beside.as_ref().map_or(0, Vec::len) + size_of::<Sent>()
    }

    /// The value; nothing when it is none.
    pub(super) fn value(&self) -> Option<Value> {
        if self.payload.len() > PAYLOAD_BYTES_MAX {
            return None;
        }
        let value = rdb::restore_value(&self.payload, &payload::encodings(self.origin)).ok()?;
        let mut value = payload::with_origin(value, self.origin)?;
        match &self.beside {
            Some(text) if !value.collection_mut()?.restore_beside(text) => None,
            _ => Some(value),
        }
    }
}

/// A key is this now; nothing when it is gone.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) database: u32,
    pub(super) key: Vec<u8>,
    pub(super) sent: Option<Sent>,
}

/// Whose value comes in parts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Begin {
    pub(super) database: u32,
    pub(super) key: Vec<u8>,
    pub(super) kind: u8,
    pub(super) origin: u8,
    pub(super) expire_at_ms: Option<u64>,
    pub(super) version: u64,
}

impl Begin {
    /// Nothing for a value that has no parts.
    pub(super) fn new(
        database: u32,
        key: &[u8],
        value: &Value,
        expire_at_ms: Option<u64>,
        version: u64,
    ) -> Option<Begin> {
        let (kind, origin) = (growing::kind_of(value)? as u8, payload::origin(value));
        Some(Begin { database, key: key.to_vec(), kind, origin, expire_at_ms, version })
    }
}

/// What a parcel says.
#[derive(Debug)]
pub(super) enum Parcel {
    /// Keys.
    Records(Vec<Record>),
    /// Of the value that came last, or of this one; and whether it is the end.
    Part(Option<Begin>, Bytes, bool),
}

impl Parcel {
    /// Reads one; nothing when it is damaged or of another format.
    pub(super) fn read(mut bytes: Bytes) -> Option<Parcel> {
        let [MARK, flags] = *bytes.first_chunk()? else { return None };
        bytes.advance(2);
        if flags == 0 {
            let (records, len) = codec::read(&bytes, "parcel").ok()?;
            return (len == bytes.len()).then_some(Parcel::Records(records));
        }
        if flags & PART == 0 || flags > PART | FIRST | LAST {
            return None;
        }
        let begin = if flags & FIRST == 0 { None } else { Some(codec::read(&bytes, "parcel").ok()?) };
        bytes.advance(begin.as_ref().map_or(0, |(_, len)| *len));
        Some(Parcel::Part(begin.map(|(begin, _)| begin), bytes, flags & LAST != 0))
    }
}

/// A parcel of some keys.
pub(super) fn of_records(records: &[Record]) -> Vec<u8> {
    let mut out = vec![MARK, 0];
    codec::put(&records, &mut out);
    out
}

/// A parcel of a part; `write` appends it and tells whether it is the last.
pub(super) fn of_part(begin: Option<&Begin>, write: impl FnOnce(&mut Vec<u8>) -> bool) -> Vec<u8> {
    let mut out = vec![MARK, PART];
    if let Some(begin) = begin {
        out[1] |= FIRST;
        codec::put(begin, &mut out);
    }
    if write(&mut out) {
        out[1] |= LAST;
    }
    out
}

/// The next parcel of a large value, and whether it is the last; `write` appends the part at a cursor.
pub(super) fn next_part(
    begin: &Begin,
    at: &mut Option<Cursor>,
    write: impl FnOnce(&mut Cursor, &mut Vec<u8>) -> bool,
) -> (Vec<u8>, bool) {
    let first = at.is_none().then_some(begin);
    let (at, mut last) = (at.get_or_insert_default(), false);
    let parcel = of_part(first, |out| {
        last = write(at, out);
        last
    });
    (parcel, last)
}

/// Records until there are enough of them for a parcel.
#[derive(Default)]
pub(super) struct Packing {
    records: Vec<Record>,
    bytes: usize,
}

impl Packing {
    /// Adds a key; gives a parcel when there is enough.
    pub(super) fn add(&mut self, record: Record) -> Option<Vec<u8>> {
        self.bytes += record.key.len() + record.sent.as_ref().map_or(0, Sent::bytes);
        self.records.push(record);
        if self.bytes < PARCEL_BYTES && self.records.len() < PARCEL_KEYS { None } else { self.finish() }
    }

    /// What is left.
    pub(super) fn finish(&mut self) -> Option<Vec<u8>> {
        self.bytes = 0;
        let records = std::mem::take(&mut self.records);
        (!records.is_empty()).then(|| of_records(&records))
    }
}

/// Keys that were picked as a whole, as the bytes of parcels, in order.
pub fn parcels(picked: Vec<Picked>) -> Vec<Vec<u8>> {
    let (mut parcels, mut packing) = (Vec::new(), Packing::default());
    for Picked { database, key, what } in picked {
        let sent = match what {
            What::Gone => None,
            What::Value(value, expire_at_ms, version) => Some(Sent::new(&value, expire_at_ms, version)),
        };
        match sent {
            Some(sent) if sent.payload.len() > PAYLOAD_BYTES_MAX => {
                // One buffer, as the settings want it, and yet a long one.
                let Sent { payload, origin, expire_at_ms, version, .. } = sent;
                let begin = Begin { database, key, kind: Kind::Payload as u8, origin, expire_at_ms, version };
                parcels.extend(packing.finish());
                let mut at = None;
                loop {
                    let (parcel, last) = next_part(&begin, &mut at, |at, out| part::write_one(&payload, at, out));
                    parcels.push(parcel);
                    if last {
                        break;
                    }
                }
            }
            sent => parcels.extend(packing.add(Record { database, key, sent })),
        }
    }
    parcels.extend(packing.finish());
    parcels
}
