//! How often each node of the cluster has started, as far as this one knows.
//!
//! Every start of a node is a *life*: a count that its data folder keeps, and a random number of the
//! process. Nodes tell each other what they know whenever they connect, and keep it. A folder that was
//! put back from an older copy has a smaller count than others have seen, or the same count with another
//! process: since then it has acknowledged entries and votes that it no longer has, so nobody talks to
//! it, and it stops.
//!
//! Invariants: a life is durable before anybody hears of it; what is known of a node only grows.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use quoris_engine::codec;
use serde::{Deserialize, Serialize};

use crate::seam::Disk;
use crate::types::NodeId;

/// The record that holds them.
const RECORD: &str = "lives";

/// One start of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Starts of this folder, this one included.
    pub count: u64,
    /// New with every start of the process.
    pub boot: u64,
}

impl Life {
    /// Whether a node that was seen in this life cannot be in the other one now.
    fn rules_out(self, other: Life) -> bool {
        other.count < self.count || (other.count == self.count && other.boot != self.boot)
    }
}

/// The count of a node that was given up: no life of it is as late as that.
const GIVEN_UP: u64 = u64::MAX;

/// What this node knows of all.
pub struct Lives {
    disk: Arc<dyn Disk>,
    known: Mutex<BTreeMap<NodeId, Life>>,
}

impl Lives {
    /// Reads what the folder has.
    ///
    /// # Errors
    /// When the disk fails or the record is damaged.
    pub fn load(disk: Arc<dyn Disk>) -> io::Result<Lives> {
        let known = match disk.read_record(RECORD)? {
            Some(bytes) => codec::read(&bytes, "lives").map_err(io::Error::other)?.0,
            None => BTreeMap::new(),
        };
        Ok(Lives { disk, known: Mutex::new(known) })
    }

    /// The next life of this node begins; a second call in the same process changes nothing.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn begin(&self, own: NodeId, boot: u64) -> io::Result<()> {
        let mut known = self.known.lock();
        let before = known.get(&own).copied().unwrap_or(Life { count: 0, boot: 0 });
        if before.boot == boot {
            return Ok(());
        }
        known.insert(own, Life { count: before.count + 1, boot });
        self.disk.write_record(RECORD, &codec::bytes(&*known))
    }

    /// Whatever these nodes do from now on, they are too old.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn give_up(&self, nodes: impl Iterator<Item = NodeId>) -> io::Result<()> {
        let mut known = self.known.lock();
        known.extend(nodes.map(|node| (node, Life { count: GIVEN_UP, boot: 0 })));
        self.disk.write_record(RECORD, &codec::bytes(&*known))
    }

    /// Everything, to be told to a peer.
    pub fn known(&self) -> BTreeMap<NodeId, Life> {
        self.known.lock().clone()
    }

    /// A peer of the same cluster says what it knows, its own life included. Keeps what is newer, durably.
    ///
    /// # Errors
    /// When what it says of itself was overtaken, or the disk fails.
    pub fn hear(&self, own: NodeId, peer: NodeId, theirs: &BTreeMap<NodeId, Life>) -> io::Result<Heard> {
        let mut known = self.known.lock();
        if let (Some(before), Some(now)) = (known.get(&peer), theirs.get(&peer))
            && before.rules_out(*now)
        {
            return Ok(Heard::PeerIsOld { starts: now.count, seen: before.count });
        }
        if let (Some(now), Some(seen)) = (known.get(&own), theirs.get(&own))
            && seen.rules_out(*now)
        {
            return Ok(Heard::OwnIsOld { starts: now.count, seen: seen.count });
        }
        let mut news = false;
        for (node, life) in theirs.iter().filter(|(node, _)| **node != own) {
            if known.get(node).is_none_or(|before| before.count < life.count) {
                known.insert(*node, *life);
                news = true;
            }
        }
        if news {
            self.disk.write_record(RECORD, &codec::bytes(&*known))?;
        }
        Ok(Heard::Well)
    }
}

/// Whether a node that was seen in this start was given up.
pub(crate) fn is_given_up(seen: u64) -> bool {
    seen == GIVEN_UP
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Both are who they were.
    Well,
    /// The peer's folder is an older copy.
    PeerIsOld {
        /// What it says.
        starts: u64,
        /// What was seen.
        seen: u64,
    },
    /// This node's own folder is an older copy.
    OwnIsOld {
        /// What the folder says.
        starts: u64,
        /// What the peer has seen.
        seen: u64,
    },
}
