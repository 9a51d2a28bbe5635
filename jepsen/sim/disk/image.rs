//! What lies on a disk, and how an operation changes it.

use std::collections::BTreeMap;

use bytes::Bytes;
use quoris_raft::GroupId;
use quoris_raft::seam::DiskOp;

/// One group's log at one moment.
#[derive(Clone, Default)]
pub struct GroupLog {
    /// The last vote, as it rests.
    pub vote: Option<Vec<u8>>,
    /// Up to where the replica knew entries to be committed.
    pub committed: Option<Vec<u8>>,
    /// The last entry that was purged.
    pub purged: Option<(u64, Vec<u8>)>,
    /// What lies behind it.
    pub entries: BTreeMap<u64, Bytes>,
    /// Events by the index of their entry.
    pub events: BTreeMap<u64, Bytes>,
    /// Events up to here are gone.
    pub events_floor: Option<u64>,
}

/// An accepted operation, with its entries as they rest.
pub enum Change {
    Append(Vec<(u64, Bytes)>),
    TruncateAfter(Option<u64>),
    Purge(u64, Vec<u8>),
    Vote(Vec<u8>),
    Committed(Vec<u8>),
    Events(Vec<(u64, Bytes)>),
    DropEvents(u64, u64),
    Nothing,
    Remove,
}

/// The logs of all groups.
pub type Image = BTreeMap<GroupId, GroupLog>;

impl Change {
    /// An operation as it rests.
    pub fn of(op: DiskOp) -> Change {
        match op {
            DiskOp::Append(entries) => {
                let joined =
                    entries.into_iter().map(|(i, head, payload)| (i, Bytes::from([&head[..], &payload].concat())));
                Change::Append(joined.collect())
            }
            DiskOp::TruncateAfter(keep) => Change::TruncateAfter(keep),
            DiskOp::Purge(upto, mark) => Change::Purge(upto, mark),
            DiskOp::Vote(vote) => Change::Vote(vote),
            DiskOp::Committed(mark) => Change::Committed(mark),
            DiskOp::Events(batches) => Change::Events(batches),
            DiskOp::DropEvents { upto, floor } => Change::DropEvents(upto, floor),
            DiskOp::Barrier => Change::Nothing,
        }
    }
}

/// Changes an image.
pub fn apply(image: &mut Image, group: GroupId, change: &Change) {
    let log = image.entry(group).or_default();
    match change {
        Change::Append(entries) => log.entries.extend(entries.iter().cloned()),
        Change::TruncateAfter(keep) => {
            log.entries.split_off(&keep.map_or(0, |k| k + 1));
        }
        Change::Purge(upto, mark) => {
            log.entries = log.entries.split_off(&(upto + 1));
            log.purged = Some((*upto, mark.clone()));
        }
        Change::Vote(vote) => log.vote = Some(vote.clone()),
        Change::Committed(mark) => log.committed = Some(mark.clone()),
        Change::Events(batches) => log.events.extend(batches.iter().cloned()),
        Change::DropEvents(upto, floor) => {
            log.events = log.events.split_off(&(upto + 1));
            log.events_floor = Some(*floor);
        }
        Change::Nothing => {}
        Change::Remove => *log = GroupLog::default(),
    }
}
