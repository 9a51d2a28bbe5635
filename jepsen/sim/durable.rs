//! What a majority of disks must hold before anybody may rely on it.
//!
//! Invariants that it watches, from the disks alone: a leader was given the votes of a majority, and they outlive a
//! crash; what somebody believes to be committed outlives it on a majority. Every replica of a simulated group votes,
//! on all nodes.

use std::collections::BTreeMap;

use bytes::Bytes;
use quoris_engine::codec;
use quoris_raft::GroupId;
use quoris_raft::record::{LogIdRecord, VoteRecord, decode_entry};
use quoris_raft::types::Vote;

use crate::NODES;
use crate::disk::GroupLog;
use crate::ledger::Leader;

/// A vote: for whom, and whether a majority is known to have given the same.
pub fn vote_of(bytes: &[u8]) -> Option<(Leader, bool)> {
    let (record, _) = codec::read::<VoteRecord>(bytes, "vote").ok()?;
    let vote = Vote::from(record);
    Some(((vote.leader_id.term, vote.leader_id.node_id), vote.committed))
}

/// What one disk holds of a group, come what may.
#[derive(Clone, Copy, Default)]
struct Held {
    vote: Option<Leader>,
    /// The last entry, in the log or in a snapshot.
    last: Option<(Leader, u64)>,
}

/// What all disks hold of all groups.
#[derive(Default)]
pub struct Durable(BTreeMap<(GroupId, usize), Held>);

impl Durable {
    /// A disk has flushed, or what was not flushed is gone.
    pub fn note(&mut self, node: usize, group: GroupId, log: &GroupLog) {
        let entry = |(index, bytes): (&u64, &Bytes)| {
            let id = decode_entry(*index, bytes).ok()?.log_id;
            Some(((id.leader_id.term, id.leader_id.node_id), *index))
        };
        let mark = |(_, mark): &(u64, Vec<u8>)| {
            let (id, _) = codec::read::<LogIdRecord>(mark, "purged mark").ok()?;
            Some(((id.term, id.leader), id.index))
        };
        let held = Held {
            vote: log.vote.as_deref().and_then(vote_of).map(|(leader, _)| leader),
            last: log.entries.last_key_value().and_then(entry).max(log.purged.as_ref().and_then(mark)),
        };
        self.0.insert((group, node), held);
    }

    /// Somebody learns that this one leads.
    ///
    /// # Errors
    /// When no majority would know of it after a crash of all nodes.
    pub fn elected(&self, group: GroupId, leader: Leader) -> Result<(), String> {
        let holds = |held: &Held| held.vote >= Some(leader);
        self.majority(group, holds).map_err(|count| format!("{group}: {leader:?} leads by {count} durable votes"))
    }

    /// Somebody learns that an entry is committed.
    ///
    /// # Errors
    /// When no majority would have it after a crash of all nodes.
    pub fn committed(&self, group: GroupId, leader: Leader, index: u64) -> Result<(), String> {
        let holds = |held: &Held| held.last.is_some_and(|(by, last)| by >= leader && last >= index);
        let told = |count| format!("{group}: {index} of {leader:?} is committed and durable on {count} disks");
        self.majority(group, holds).map_err(told)
    }

    /// Whether more than half of the disks hold it; otherwise how many do.
    fn majority(&self, group: GroupId, holds: impl Fn(&Held) -> bool) -> Result<(), usize> {
        let count = (0..NODES).filter(|node| self.0.get(&(group, *node)).is_some_and(&holds)).count();
        if count * 2 > NODES { Ok(()) } else { Err(count) }
    }
}
