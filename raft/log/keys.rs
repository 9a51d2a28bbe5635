//! The keys in RocksDB. `src/docs/formats.md` shows them byte by byte.
//!
//! Numbers are big-endian, so that entries of a group lie in the order of their indexes.

use std::io;

use quoris_raft::types::GroupId;
use rocksdb::{ColumnFamily, DB};

/// Column family of the entries.
pub const LOG: &str = "log";
/// Column family of votes, marks and the node's own records.
pub const STATE: &str = "state";

/// Column family of the events of entries, with the keys of the entries.
pub const EVENTS: &str = "events";
/// All of them.
pub const FAMILIES: [&str; 3] = [LOG, STATE, EVENTS];

/// Kinds of state of a group.
pub const VOTE: u8 = b'v';
/// The committed mark.
pub const COMMITTED: u8 = b'c';
/// The purge mark.
pub const PURGED: u8 = b'p';
/// Up to where no events are kept.
pub const EVENTS_FLOOR: u8 = b'e';

/// A column family that was opened with the database.
pub fn family<'a>(db: &'a DB, name: &str) -> &'a ColumnFamily {
    db.cf_handle(name).expect("opened with the database")
}

/// The key of an entry: group, index.
pub fn entry(group: GroupId, index: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&group.0.to_be_bytes());
    key[4..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The index in an entry's key.
pub fn index(key: &[u8]) -> io::Result<u64> {
    let digits = key.get(4..12).and_then(|b| b.try_into().ok());
    digits.map(u64::from_be_bytes).ok_or_else(|| io::Error::other(format!("a log key of {} bytes", key.len())))
}

/// The key of a group's state: group, kind.
pub fn state(group: GroupId, kind: u8) -> [u8; 6] {
    let mut key = [b'g', 0, 0, 0, 0, kind];
    key[1..5].copy_from_slice(&group.0.to_be_bytes());
    key
}

/// The key of a record of the node itself.
pub fn record(name: &str) -> Vec<u8> {
    [b"n".as_slice(), name.as_bytes()].concat()
}
