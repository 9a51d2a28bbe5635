//! Entries that an operator has told this node to pass over: `quoris admin group skip`.
//!
//! A replica that cannot apply an entry stops, and by design never passes over it by itself. When no version
//! of the program can apply the entry, an operator writes a record into the folder of every replica; apply
//! then takes the entry for a blank one.
//!
//! Invariants: an entry is passed over only when term, leader and index are those of the record; what is
//! passed over is said at every start.

use std::io;

use quoris_engine::codec;
use serde::{Deserialize, Serialize};

use crate::record::LogIdRecord;
use crate::seam::Disk;
use crate::types::{GroupId, LogId};

/// Version of the record.
const FORMAT: u8 = 1;

/// An entry that is passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// Which one.
    pub id: LogIdRecord,
    /// The operator's reason.
    pub reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u8,
    skips: Vec<Skip>,
}

/// What one replica passes over.
#[derive(Clone, Debug, Default)]
pub struct Skips(Vec<Skip>);

fn name(group: GroupId) -> String {
    format!("skip-{}", group.0)
}

impl Skips {
    /// Reads a group's record; an absent one is an empty one.
    ///
    /// # Errors
    /// When the disk fails or the record is damaged or of another version.
    pub fn load(disk: &dyn Disk, group: GroupId) -> io::Result<Skips> {
        let Some(bytes) = disk.read_record(&name(group))? else { return Ok(Skips::default()) };
        let what = "record of skipped entries";
        if bytes.first() != Some(&FORMAT) {
            return Err(io::Error::other(format!("{group}: a {what} of another version: upgrade this node")));
        }
        let (record, _): (Record, usize) = codec::read(&bytes, what).map_err(io::Error::other)?;
        Ok(Skips(record.skips))
    }

    /// Adds an entry and makes the record durable.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn add(&mut self, disk: &dyn Disk, group: GroupId, skip: Skip) -> io::Result<()> {
        self.0.retain(|other| other.id != skip.id);
        self.0.push(skip);
        disk.write_record(&name(group), &codec::bytes(&Record { format: FORMAT, skips: self.0.clone() }))
    }

    /// Why the entry is passed over, if it is.
    pub fn reason(&self, id: &LogId) -> Option<&str> {
        let skip = self.0.iter().find(|skip| skip.id == (*id).into());
        skip.map(|skip| skip.reason.as_str())
    }

    /// Says what is passed over.
    pub fn announce(&self, group: GroupId) {
        for Skip { id, reason } in &self.0 {
            tracing::warn!(
                group = group.0,
                index = id.index,
                term = id.term,
                reason,
                "this replica passes over an entry, as an operator told it"
            );
        }
    }
}
