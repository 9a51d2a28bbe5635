//! What must be equal everywhere, and what went wrong.
//!
//! The ledger sees every disk. Invariants that it watches: an entry of one index, term and leader has one
//! content; what one replica believes to be committed at an index is what every other believes; replicas
//! at one applied index have one digest; a replica's vote never goes back; and what [`crate::durable`] says.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use parking_lot::Mutex;
use quoris_raft::GroupId;

use crate::disk::GroupLog;
use crate::durable::Durable;

/// Term and replica of the leader that wrote an entry.
pub type Leader = (u64, u64);

#[derive(Default)]
struct Inner {
    contents: BTreeMap<(GroupId, u64, Leader), u64>,
    chosen: BTreeMap<(GroupId, u64), Leader>,
    digests: BTreeMap<(GroupId, u64), (usize, u64)>,
    durable: Durable,
    violations: Vec<String>,
}

/// Shared by all nodes of a run.
#[derive(Default)]
pub struct Ledger(Mutex<Inner>);

impl Ledger {
    /// Notes that a rule was broken.
    pub fn violation(&self, text: String) {
        self.0.lock().violations.push(text);
    }

    /// The first broken rule.
    pub fn first_violation(&self) -> Option<String> {
        self.0.lock().violations.first().cloned()
    }

    /// A disk took an entry.
    pub fn entry(&self, node: usize, group: GroupId, index: u64, leader: Leader, bytes: &Bytes) {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let content = hasher.finish();
        let mut inner = self.0.lock();
        let first = *inner.contents.entry((group, index, leader)).or_insert(content);
        if first != content {
            inner.violations.push(format!("{group}: node {node} stored another entry at {index} of leader {leader:?}"));
        }
    }

    /// A node believes that this entry is committed.
    pub fn committed(&self, node: usize, group: GroupId, index: u64, leader: Leader) {
        let mut inner = self.0.lock();
        let chosen = *inner.chosen.entry((group, index)).or_insert(leader);
        if chosen != leader {
            inner.violations.push(format!(
                "{group}: at {index} node {node} has committed the entry of leader {leader:?}, another that of {chosen:?}"
            ));
        }
    }

    /// A disk holds this of a group, come what may.
    pub fn durable(&self, node: usize, group: GroupId, log: &GroupLog) {
        self.0.lock().durable.note(node, group, log);
    }

    /// A disk takes a vote that says that a majority has given the same.
    pub fn elected(&self, group: GroupId, leader: Leader) {
        let mut inner = self.0.lock();
        let wrong = inner.durable.elected(group, leader).err();
        inner.violations.extend(wrong);
    }

    /// A disk takes a mark that says that everything up to here is committed.
    pub fn relied_on(&self, group: GroupId, leader: Leader, index: u64) {
        let mut inner = self.0.lock();
        let wrong = inner.durable.committed(group, leader, index).err();
        inner.violations.extend(wrong);
    }

    /// A replica's state at an applied index.
    pub fn digest(&self, node: usize, group: GroupId, applied: u64, digest: u64) {
        let mut inner = self.0.lock();
        let (other, first) = *inner.digests.entry((group, applied)).or_insert((node, digest));
        if first != digest {
            inner.violations.push(format!(
                "{group}: at applied index {applied} node {node} has digest {digest:x}, node {other} {first:x}"
            ));
        }
    }
}
