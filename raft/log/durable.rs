//! How far the log was durable, kept outside of the log.
//!
//! RocksDB ends the recovery of its write-ahead log at the first record that it cannot read. A power
//! failure leaves such a record at the very end, where nothing was acknowledged yet; a flipped bit in the
//! middle looks the same and would take all that follows with it. So the writer notes in the file
//! `durable` the sequence number of RocksDB up to which everything was flushed. A log that ends in front
//! of it has lost what this node had promised to keep.
//!
//! Invariants:
//! * A mark is written only after the flush that it speaks of, and is not flushed itself: it may be old,
//!   after a power failure also torn, but it is never ahead of the log.
//! * There are two places, written in turn, each with a checksum: one of them is whole.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use quoris_raft::types::GroupId;

/// The file in the data folder.
pub const FILE: &str = "durable";
/// First bytes of a mark: what it is, and its version.
const MAGIC: &[u8; 8] = b"QUORDUR\x01";
/// Bytes of one of the two places.
const PLACE_BYTES: usize = 64 << 10;
/// Magic, checksum, round, sequence, number of groups.
const HEAD_BYTES: usize = 8 + 4 + 8 + 8 + 4;
/// A group and its last index.
const GROUP_BYTES: usize = 4 + 8;
/// Between two writes. What was acknowledged later than this before a crash is not covered.
const PAUSE: Duration = Duration::from_millis(10);

/// What a mark says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The log was durable up to this sequence number.
    pub sequence: u64,
    /// The last index of each group at about that time, for the message to people.
    pub groups: BTreeMap<GroupId, u64>,
}

impl Mark {
    fn encode(&self, round: u64) -> Vec<u8> {
        let room = (PLACE_BYTES - HEAD_BYTES) / GROUP_BYTES;
        let mut body = Vec::with_capacity(HEAD_BYTES + self.groups.len().min(room) * GROUP_BYTES);
        body.extend_from_slice(&round.to_le_bytes());
        body.extend_from_slice(&self.sequence.to_le_bytes());
        body.extend_from_slice(&(self.groups.len().min(room) as u32).to_le_bytes());
        for (group, last) in self.groups.iter().take(room) {
            body.extend_from_slice(&group.0.to_le_bytes());
            body.extend_from_slice(&last.to_le_bytes());
        }
        [MAGIC.as_slice(), &checksum(&body).to_le_bytes(), &body].concat()
    }

    /// The round and the mark in one of the places; nothing when it is not whole.
    fn decode(place: &[u8]) -> Option<(u64, Mark)> {
        let rest = place.strip_prefix(MAGIC.as_slice())?;
        let (sum, body) = rest.split_first_chunk::<4>()?;
        let (round, rest) = body.split_first_chunk::<8>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let bytes = (u32::from_le_bytes(*count) as usize).checked_mul(GROUP_BYTES)?;
        let groups = rest.get(..bytes)?;
        let length = body.len() - rest.len() + bytes;
        if checksum(&body[..length]) != u32::from_le_bytes(*sum) {
            return None;
        }
        let group = |bytes: &[u8]| {
            let (id, last) = bytes.split_first_chunk::<4>()?;
            Some((GroupId(u32::from_le_bytes(*id)), u64::from_le_bytes(last.try_into().ok()?)))
        };
        let groups = groups.chunks(GROUP_BYTES).filter_map(group).collect();
        Some((u64::from_le_bytes(*round), Mark { sequence: u64::from_le_bytes(*sequence), groups }))
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// The newest whole mark with its round.
fn newest(bytes: &[u8]) -> Option<(u64, Mark)> {
    bytes.chunks(PLACE_BYTES).filter_map(Mark::decode).max_by_key(|(round, _)| *round)
}

/// The newest mark of a data folder. Nothing in a new folder, and when a power failure tore both places.
///
/// # Errors
/// When the disk fails.
pub fn read(dir: &Path) -> io::Result<Option<Mark>> {
    let bytes = match std::fs::read(dir.join(FILE)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mark = newest(&bytes).map(|(_, mark)| mark);
    if mark.is_none() && bytes.iter().any(|b| *b != 0) {
        tracing::warn!(
            file = %dir.join(FILE).display(),
            "the mark of what is durable is damaged: this start cannot tell whether the log is complete"
        );
    }
    Ok(mark)
}

/// The writer's side.
pub struct Marks {
    file: Option<File>,
    round: u64,
    mark: Mark,
    waits: bool,
    written_at: Instant,
}

impl Marks {
    /// Opens the folder's file and goes on from its newest mark.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn open(dir: &Path) -> io::Result<Marks> {
        let path = dir.join(FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        if file.metadata()?.len() < 2 * PLACE_BYTES as u64 {
            // Blocks of its own, so that a full disk does not stop it.
            file.write_all_at(&vec![0; 2 * PLACE_BYTES], 0)?;
            file.sync_all()?;
        }
        let (round, mark) = newest(&std::fs::read(&path)?).unwrap_or_default();
        Ok(Marks { file: Some(file), round, mark, ..Marks::unused() })
    }

    /// Marks of a folder that is only read: nothing is ever written.
    pub fn unused() -> Marks {
        Marks { file: None, round: 0, mark: Mark::default(), waits: false, written_at: Instant::now() }
    }

    /// A group's log now ends at `last`.
    pub fn ends(&mut self, group: GroupId, last: u64) {
        self.mark.groups.insert(group, last);
    }

    /// A group's log now ends at `last` or before.
    pub fn cut(&mut self, group: GroupId, last: u64) {
        if let Some(known) = self.mark.groups.get_mut(&group) {
            *known = last.min(*known);
        }
    }

    /// The group is gone.
    pub fn forget(&mut self, group: GroupId) {
        self.mark.groups.remove(&group);
    }

    /// Everything up to `sequence` is flushed.
    pub fn flushed(&mut self, sequence: u64) {
        self.mark.sequence = sequence;
        self.waits = true;
        if self.written_at.elapsed() >= PAUSE {
            self.write();
        }
    }

    /// When the mark has to be written, if it does.
    pub fn due_in(&self) -> Option<Duration> {
        self.waits.then(|| PAUSE.saturating_sub(self.written_at.elapsed()))
    }

    /// Writes the mark if it has changed.
    pub fn write(&mut self) {
        let waits = std::mem::take(&mut self.waits);
        let Some(file) = self.file.as_ref().filter(|_| waits) else { return };
        self.round += 1;
        let at = (self.round % 2) * PLACE_BYTES as u64;
        if let Err(e) = file.write_all_at(&self.mark.encode(self.round), at) {
            // Nothing is lost by it; the log itself will fail next if the disk does.
            tracing::warn!(error = %e, "the mark of what is durable could not be written");
        }
        self.written_at = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_of_two_places_counts_and_a_torn_one_does_not() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(read(dir.path()).expect("readable"), None);
        let mut marks = Marks::open(dir.path()).expect("writable");
        assert_eq!(read(dir.path()).expect("readable"), None, "zeros are no mark");
        for sequence in [5, 9] {
            marks.ends(GroupId(1), sequence + 100);
            marks.flushed(sequence);
            marks.write();
        }
        let want = Mark { sequence: 9, groups: BTreeMap::from([(GroupId(1), 109)]) };
        assert_eq!(read(dir.path()).expect("readable"), Some(want.clone()));
        assert_eq!(Marks::open(dir.path()).expect("again").mark, want);
        for (place, left) in [(0, Some(5)), (1, None)] {
            let file = marks.file.as_ref().expect("a file");
            file.write_all_at(b"torn", (place * PLACE_BYTES + HEAD_BYTES) as u64).expect("writable");
            assert_eq!(read(dir.path()).expect("readable").map(|m| m.sequence), left);
        }
    }
}
