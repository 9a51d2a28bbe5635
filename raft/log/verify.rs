//! Looks at a data folder before it is used: is the log complete?
//!
//! The folder is only read here, so that one that is refused can still be examined, or be read by a disk
//! that has recovered.

use std::io;
use std::path::Path;

use quoris_raft::seam::BROKEN_FOLDER;
use quoris_raft::types::GroupId;
use rocksdb::{ColumnFamilyDescriptor, DB, IteratorMode, Options, ReadOptions};

use crate::durable::{self, Mark};
use crate::keys::{self, LOG};

/// Refuses a folder whose log ends in front of what was durable.
///
/// # Errors
/// When it does, or the folder cannot be read. The text names the folder and says what to do.
pub fn verify(dir: &Path, options: &Options, families: impl Iterator<Item = ColumnFamilyDescriptor>) -> io::Result<()> {
    let log = dir.join("log");
    let mark = durable::read(dir)?;
    if !log.join("CURRENT").exists() {
        return match mark {
            None => Ok(()),
            Some(_) => Err(io::Error::other(format!(
                "the log in {} is missing, but this folder had one: {}. {BROKEN_FOLDER}",
                log.display(),
                ends(&mark.unwrap_or_default(), |_| None)
            ))),
        };
    }
    let Some(mark) = mark else { return Ok(()) };
    let db =
        DB::open_cf_descriptors_read_only(options, &log, families, false).map_err(|e| crate::cannot_open(dir, &e))?;
    let found = db.latest_sequence_number();
    if found >= mark.sequence {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "the log in {} is damaged: its write-ahead log can be read up to record {found} only, but {} was durable ({}). \
         Starting with less than was acknowledged would lose it. {BROKEN_FOLDER}",
        log.display(),
        mark.sequence,
        ends(&mark, |group| last_index(&db, group)),
    )))
}

/// Which entries are missing, as far as that is known.
fn ends(mark: &Mark, found: impl Fn(GroupId) -> Option<u64>) -> String {
    let missing = mark.groups.iter().filter_map(|(group, last)| match found(*group) {
        Some(found) if found >= *last => None,
        Some(found) => Some(format!("{group} lacks the entries from index {} to {last}", found + 1)),
        None => Some(format!("{group} lacks its entries up to index {last}")),
    });
    let missing: Vec<String> = missing.collect();
    if missing.is_empty() { "a vote or a mark is missing".to_string() } else { missing.join(", ") }
}

fn last_index(db: &DB, group: GroupId) -> Option<u64> {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(keys::entry(group, 0).to_vec());
    options.set_iterate_upper_bound(keys::entry(group, u64::MAX).to_vec());
    let last = db.iterator_cf_opt(keys::family(db, LOG), options, IteratorMode::End).next()?.ok()?;
    keys::index(&last.0).ok()
}
