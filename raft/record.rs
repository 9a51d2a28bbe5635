//! Votes, log ids and entries as bytes, on disk and on the wire. `src/docs/formats.md` shows them.
//!
//! An entry is a fixed head and a payload; the payload of a command entry is its body as it was built
//! by the proposer, so it travels and rests without being touched.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use openraft::vote::RaftLeaderId;
use quoris_engine::codec;
use serde::{Deserialize, Serialize};

use crate::types::{Body, Entry, LogId, Member, Membership, Payload, StoredMembership, Vote};

/// Version of the records below.
const FORMAT: u8 = 1;
/// Bytes in front of an entry's payload: format, kind, term, leader.
pub const HEAD_BYTES: usize = 1 + 1 + 8 + 8;

const BLANK: u8 = 0;
const COMMANDS: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// What stands in front of an entry's payload.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Head {
    format: u8,
    kind: u8,
    term: u64,
    leader: u64,
}

/// A log id of fixed shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogIdRecord {
    /// The leader's term.
    pub term: u64,
    /// The leader's replica id.
    pub leader: u64,
    /// The index.
    pub index: u64,
}

impl From<LogId> for LogIdRecord {
    fn from(id: LogId) -> LogIdRecord {
        LogIdRecord { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
    }
}

impl From<LogIdRecord> for LogId {
    fn from(r: LogIdRecord) -> LogId {
        LogId::new(RaftLeaderId::new(r.term, r.leader), r.index)
    }
}

/// A vote of fixed shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteRecord {
    term: u64,
    leader: u64,
    committed: bool,
}

impl VoteRecord {
    /// The vote of a candidate, for itself.
    pub fn of(term: u64, leader: u64) -> VoteRecord {
        VoteRecord { term, leader, committed: false }
    }

    /// Term and replica of the candidate or leader.
    pub fn leader(&self) -> (u64, u64) {
        (self.term, self.leader)
    }
}

impl From<Vote> for VoteRecord {
    fn from(v: Vote) -> VoteRecord {
        VoteRecord { term: v.leader_id.term, leader: v.leader_id.node_id, committed: v.committed }
    }
}

impl From<VoteRecord> for Vote {
    fn from(r: VoteRecord) -> Vote {
        Vote { leader_id: RaftLeaderId::new(r.term, r.leader), committed: r.committed }
    }
}

/// A membership of fixed shape: joint sets of voters, then all members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipRecord {
    log_id: Option<LogIdRecord>,
    configs: Vec<BTreeSet<u64>>,
    members: BTreeMap<u64, Member>,
}

impl From<&StoredMembership> for MembershipRecord {
    fn from(m: &StoredMembership) -> MembershipRecord {
        MembershipRecord { log_id: m.log_id().map(Into::into), ..MembershipRecord::from(m.membership()) }
    }
}

impl From<&Membership> for MembershipRecord {
    fn from(m: &Membership) -> MembershipRecord {
        let members = m.nodes().map(|(id, member)| (*id, member.clone())).collect();
        MembershipRecord { log_id: None, configs: m.get_joint_config().clone(), members }
    }
}

impl MembershipRecord {
    /// The membership without its place in the log.
    ///
    /// # Errors
    /// When a voter is not among the members.
    pub fn membership(self) -> io::Result<Membership> {
        if self.configs.is_empty() && self.members.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(self.configs, self.members).map_err(io::Error::other)
    }

    /// The membership with its place in the log.
    ///
    /// # Errors
    /// When a voter is not among the members.
    pub fn stored(self) -> io::Result<StoredMembership> {
        let log_id = self.log_id.map(Into::into);
        Ok(StoredMembership::new(log_id, self.membership()?))
    }
}

/// An entry as head and payload; the payload of a command entry is not copied.
pub fn encode_entry(entry: &Entry) -> (Vec<u8>, Bytes) {
    let (kind, payload) = match &entry.payload {
        Payload::Blank => (BLANK, Bytes::new()),
        Payload::Normal(body) => (COMMANDS, body.0.clone()),
        Payload::Membership(m) => (MEMBERSHIP, Bytes::from(codec::bytes(&MembershipRecord::from(m)))),
    };
    let leader = entry.log_id.leader_id;
    let head = Head { format: FORMAT, kind, term: leader.term, leader: leader.node_id };
    (codec::bytes(&head), payload)
}

/// Reads an entry; the payload stays a slice of `bytes`.
///
/// # Errors
/// When the bytes are damaged or of another version.
pub fn decode_entry(index: u64, bytes: &Bytes) -> io::Result<Entry> {
    let (head, taken): (Head, usize) = codec::read(bytes, "entry head").map_err(io::Error::other)?;
    if head.format != FORMAT {
        return Err(io::Error::other(format!("log record of format {}, this program knows {FORMAT}", head.format)));
    }
    let payload = match head.kind {
        BLANK => Payload::Blank,
        COMMANDS => Payload::Normal(Body(bytes.slice(taken..))),
        MEMBERSHIP => {
            let (record, _): (MembershipRecord, usize) =
                codec::read(&bytes[taken..], "membership").map_err(io::Error::other)?;
            Payload::Membership(record.membership()?)
        }
        other => return Err(io::Error::other(format!("log record of kind {other}"))),
    };
    Ok(Entry { log_id: LogIdRecord { term: head.term, leader: head.leader, index }.into(), payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back() {
        let id = LogIdRecord { term: 3, leader: 2, index: 7 }.into();
        let member = Member { node: 1, addr: "127.0.0.1:1".into() };
        let membership = Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, member)])).expect("valid");
        for payload in
            [Payload::Blank, Payload::Normal(Body(Bytes::from_static(b"body"))), Payload::Membership(membership)]
        {
            let entry = Entry { log_id: id, payload };
            let (head, payload) = encode_entry(&entry);
            assert_eq!(head.len(), HEAD_BYTES);
            let bytes = Bytes::from([&head[..], &payload[..]].concat());
            assert_eq!(decode_entry(7, &bytes).expect("own format"), entry);
        }
        assert!(decode_entry(7, &Bytes::from_static(b"\x09")).is_err());
    }
}
