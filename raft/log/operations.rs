//! What an operation changes in RocksDB.

use quoris_raft::seam::DiskOp;
use quoris_raft::types::GroupId;
use rocksdb::{DB, WriteBatch};

use crate::keys::{self, EVENTS, LOG, STATE};

/// Puts an operation into the batch; tells whether it has to be flushed.
pub fn add(db: &DB, group: GroupId, op: DiskOp, batch: &mut WriteBatch) -> bool {
    let (log, state) = (keys::family(db, LOG), keys::family(db, STATE));
    match op {
        DiskOp::Append(entries) => {
            let mut value = Vec::new();
            for (index, head, payload) in entries {
                value.clear();
                value.extend_from_slice(&head);
                value.extend_from_slice(&payload);
                batch.put_cf(log, keys::entry(group, index), &value);
            }
            true
        }
        DiskOp::TruncateAfter(last) => {
            let from = last.map_or(0, |last| last + 1);
            batch.delete_range_cf(log, keys::entry(group, from), keys::entry(group, u64::MAX));
            false
        }
        DiskOp::Purge(upto, mark) => {
            batch.delete_range_cf(log, keys::entry(group, 0), keys::entry(group, upto + 1));
            batch.put_cf(state, keys::state(group, keys::PURGED), mark);
            false
        }
        DiskOp::Vote(vote) => {
            batch.put_cf(state, keys::state(group, keys::VOTE), vote);
            true
        }
        DiskOp::Committed(mark) => {
            batch.put_cf(state, keys::state(group, keys::COMMITTED), mark);
            false
        }
        DiskOp::Events(batches) => {
            for (index, events) in batches {
                batch.put_cf(keys::family(db, EVENTS), keys::entry(group, index), &events);
            }
            false
        }
        DiskOp::DropEvents { upto, floor } => {
            let events = keys::family(db, EVENTS);
            batch.delete_range_cf(events, keys::entry(group, 0), keys::entry(group, upto + 1));
            batch.put_cf(state, keys::state(group, keys::EVENTS_FLOOR), floor.to_be_bytes());
            false
        }
        DiskOp::Barrier => true,
    }
}

/// Removes everything of a group.
pub fn remove(db: &DB, group: GroupId, batch: &mut WriteBatch) {
    batch.delete_range_cf(keys::family(db, LOG), keys::entry(group, 0), keys::entry(group, u64::MAX));
    let events = keys::family(db, EVENTS);
    batch.delete_range_cf(events, keys::entry(group, 0), keys::entry(group, u64::MAX));
    for kind in [keys::VOTE, keys::COMMITTED, keys::PURGED, keys::EVENTS_FLOOR] {
        batch.delete_cf(keys::family(db, STATE), keys::state(group, kind));
    }
}
