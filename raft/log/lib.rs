//! The log of a node: RocksDB, one writer thread, one fsync for everything that waits.
//!
//! Step 7. All groups of a node append to one queue. The writer takes all that waits, in order, into one
//! batch, writes it with one fsync, and reports every operation durable. While it waits for the disk the
//! next batch grows; there is no timer.
//!
//! The only crate that links RocksDB. The RocksDB write-ahead log is the append-only file of the store.
//!
//! Invariants:
//! * Operations reach the disk in the order in which they were submitted.
//! * After a failed write nothing is ever reported durable again, and the process is told to stop: what
//!   an fsync that failed has left behind cannot be known.
//! * A folder whose log ends in front of what was durable is refused (durable.rs, verify.rs).

mod durable;
mod keys;
mod operations;
mod prime;
mod queue;
mod read_only;
mod snapshots;
mod verify;
mod writer;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use quoris_raft::aside::aside;
use quoris_raft::seam::{BROKEN_FOLDER, Disk, DiskOp, Done, GroupRecords, SnapshotSink, SnapshotSource};
use quoris_raft::types::GroupId;
use rocksdb::{ColumnFamilyDescriptor, DB, DBCompressionType, Direction, IteratorMode, Options, ReadOptions};

use durable::Marks;
pub use writer::Fsync;
use writer::Writer;

use crate::keys::{EVENTS, LOG, STATE};

/// Memory for entries that are not yet in a file of their own, in bytes, per column family.
const MEMTABLE_BYTES: usize = 32 << 20;

/// A node's data folder.
pub struct RocksDisk {
    db: Arc<DB>,
    writer: Writer,
    dir: PathBuf,
    snapshots: PathBuf,
    /// Keeps a node from starting while its folder is only read.
    _lock: Option<File>,
}

impl RocksDisk {
    /// Opens the folder, creating it when it is not there. `failed` is called once, from the writer,
    /// when the disk has failed: the process must stop.
    ///
    /// # Errors
    /// When the folder cannot be used, is in use by another process, or its files are damaged.
    pub fn open(dir: &Path, fsync: Fsync, failed: impl FnOnce(String) + Send + 'static) -> io::Result<RocksDisk> {
        let snapshots = dir.join("snapshots");
        std::fs::create_dir_all(&snapshots)?;
        snapshots::remove_unfinished(&snapshots)?;
        let families = || keys::FAMILIES.into_iter().map(|name| ColumnFamilyDescriptor::new(name, family_options()));
        verify::verify(dir, &database_options(), families())?;
        let db = DB::open_cf_descriptors(&database_options(), dir.join("log"), families())
            .map_err(|e| cannot_open(dir, &e))?;
        prime::prime(&db)?;
        let db = Arc::new(db);
        let writer = Writer::start(db.clone(), fsync, Marks::open(dir)?, Box::new(failed))?;
        Ok(RocksDisk { db, writer, dir: dir.to_path_buf(), snapshots, _lock: None })
    }

    /// Opens the folder of a stopped node to read it; every write is refused. While it is open the node
    /// cannot start.
    ///
    /// # Errors
    /// When there is no such folder, when a node is using it, or when its files are damaged.
    pub fn open_read_only(dir: &Path) -> io::Result<RocksDisk> {
        let lock = read_only::lock(dir)?;
        let path = dir.join("log");
        let known = DB::list_cf(&database_options(), &path).map_err(|e| cannot_open(dir, &e))?;
        // Folders from before events were kept have no family of them.
        let families = keys::FAMILIES.into_iter().filter(|name| known.iter().any(|k| k == name));
        let families = families.map(|name| ColumnFamilyDescriptor::new(name, family_options()));
        let db = DB::open_cf_descriptors_read_only(&database_options(), path, families, false);
        let db = Arc::new(db.map_err(|e| cannot_open(dir, &e))?);
        let writer = Writer::start(db.clone(), Fsync::No, Marks::unused(), Box::new(|_| {}))?;
        Ok(RocksDisk { db, writer, dir: dir.to_path_buf(), snapshots: dir.join("snapshots"), _lock: Some(lock) })
    }

    fn state(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let value = self.db.get_cf(keys::family(&self.db, STATE), key);
        value.map_err(|e| self.damaged(&format!("the record {}: {e}", String::from_utf8_lossy(key))))
    }

    /// What a reader of the log is told when it cannot be read.
    fn damaged(&self, what: &str) -> io::Error {
        let log = self.dir.join("log");
        io::Error::other(format!("the log in {} is damaged: {what}. {BROKEN_FOLDER}", log.display()))
    }

    /// Entries of a group from an index on, as an iterator over index and bytes.
    fn entries(&self, group: GroupId, from: u64, to: u64) -> impl Iterator<Item = io::Result<(u64, Box<[u8]>)>> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(keys::entry(group, to).to_vec());
        let start = keys::entry(group, from);
        let mode = IteratorMode::From(&start, Direction::Forward);
        let iterator = self.db.iterator_cf_opt(keys::family(&self.db, LOG), options, mode);
        let mut next = from;
        iterator.map(move |item| {
            let (key, value) = item.map_err(|e| self.damaged(&format!("{group} from index {next} on: {e}")))?;
            let index = keys::index(&key)?;
            next = index + 1;
            Ok((index, value))
        })
    }

    fn read_entries(&self, group: GroupId, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<(u64, Bytes)>> {
        let mut out = Vec::new();
        let mut bytes = 0;
        for item in self.entries(group, from, to) {
            let (index, entry) = item?;
            if let Some((last, _)) = out.last().filter(|(last, _)| last + 1 != index) {
                return Err(self.damaged(&format!("{group} jumps from index {last} to {index}")));
            }
            bytes += entry.len();
            out.push((index, Bytes::from(entry.into_vec())));
            if bytes > bytes_max {
                break;
            }
        }
        Ok(out)
    }

    fn read_events(&self, group: GroupId, after: u64, bytes_max: usize) -> io::Result<Vec<(u64, Bytes)>> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(keys::entry(group, u64::MAX).to_vec());
        let start = keys::entry(group, after.saturating_add(1));
        let mode = IteratorMode::From(&start, Direction::Forward);
        let (mut out, mut bytes) = (Vec::new(), 0);
        for item in self.db.iterator_cf_opt(keys::family(&self.db, EVENTS), options, mode) {
            let (key, value) = item.map_err(|e| self.damaged(&format!("the events of {group} behind {after}: {e}")))?;
            bytes += value.len();
            out.push((keys::index(&key)?, Bytes::from(value.into_vec())));
            if bytes > bytes_max {
                break;
            }
        }
        Ok(out)
    }
}

fn describe_write(e: rocksdb::Error) -> io::Error {
    io::Error::other(format!("the log cannot be written: {e}"))
}

fn cannot_open(dir: &Path, e: &rocksdb::Error) -> io::Error {
    let text = e.to_string();
    let hint =
        if text.contains("/LOCK") { "Another process uses this data folder; stop it first" } else { BROKEN_FOLDER };
    io::Error::other(format!("the log in {} cannot be opened: {text}. {hint}", dir.join("log").display()))
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // Both families leave memory together: then no file of the write-ahead log is kept for a rarely written
    // one, and it can be used again (prime.rs).
    options.set_atomic_flush(true);
    options.set_recycle_log_file_num(4);
    options.set_max_total_wal_size(prime::FILE_BYTES as u64);
    options.set_keep_log_file_num(4);
    options.set_max_background_jobs(2);
    options.set_max_open_files(256);
    options.set_wal_recovery_mode(rocksdb::DBRecoveryMode::PointInTime);
    options
}

fn family_options() -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_max_write_buffer_number(3);
    options.set_compression_type(DBCompressionType::Lz4);
    options
}

impl Disk for RocksDisk {
    fn submit(&self, group: GroupId, op: DiskOp, done: Option<Done>) {
        self.writer.submit(group, op, done);
    }

    fn submit_may_block(&self, yes: bool) {
        self.writer.write_at_once(yes);
    }

    fn load(&self, group: GroupId) -> io::Result<GroupRecords> {
        let mut records = GroupRecords {
            vote: self.state(&keys::state(group, keys::VOTE))?,
            committed: self.state(&keys::state(group, keys::COMMITTED))?,
            purged: self.state(&keys::state(group, keys::PURGED))?,
            ..GroupRecords::default()
        };
        // Reads the whole log, to count it and to find gaps. A GiB of it takes 0.2 s in entries of 1 MiB,
        // 0.4 s in entries of 16 KiB and 1.5 s in entries of 256 bytes, or 0.7, 1.2 and 2.2 s when nothing of
        // it is cached: little beside the replay of the entries behind the snapshot, so it stays simple.
        let mut previous: Option<u64> = None;
        for item in self.entries(group, 0, u64::MAX) {
            let (index, bytes) = item?;
            if let Some(gap) = previous.filter(|p| p + 1 != index) {
                return Err(self.damaged(&format!("{group} jumps from index {gap} to {index}")));
            }
            previous = Some(index);
            records.size.append(index, bytes.len() as u64);
            records.last = Some((index, Bytes::from(bytes.into_vec())));
        }
        Ok(records)
    }

    fn read(&self, group: GroupId, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<(u64, Bytes)>> {
        aside(|| self.read_entries(group, from, to, bytes_max))
    }

    fn events(&self, group: GroupId, after: u64, bytes_max: usize) -> io::Result<Vec<(u64, Bytes)>> {
        aside(|| self.read_events(group, after, bytes_max))
    }

    fn events_floor(&self, group: GroupId) -> io::Result<Option<u64>> {
        let Some(bytes) = self.state(&keys::state(group, keys::EVENTS_FLOOR))? else { return Ok(None) };
        let floor = bytes.as_slice().try_into().map(u64::from_be_bytes);
        floor.map(Some).map_err(|_| self.damaged(&format!("the floor of the events of {group}")))
    }

    fn remove(&self, group: GroupId, done: Done) {
        self.writer.remove(group, done);
    }

    fn snapshots(&self, group: GroupId) -> io::Result<Vec<String>> {
        aside(|| snapshots::list(&self.snapshots, group))
    }

    fn open_snapshot(&self, group: GroupId, name: &str) -> io::Result<(u64, Box<dyn SnapshotSource>)> {
        aside(|| snapshots::open(&self.snapshots, group, name))
    }

    fn create_snapshot(&self, group: GroupId, name: &str) -> io::Result<Box<dyn SnapshotSink>> {
        aside(|| snapshots::create(&self.snapshots, group, name))
    }

    fn remove_snapshot(&self, group: GroupId, name: &str) -> io::Result<()> {
        aside(|| snapshots::remove(&self.snapshots, group, name))
    }

    fn flushes(&self) -> u64 {
        self.writer.flushes()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn fail_next_flush(&self) {
        self.writer.fail_next_flush();
    }

    fn write_record(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut options = rocksdb::WriteOptions::default();
        options.set_sync(true);
        let key = keys::record(name);
        aside(|| self.db.put_cf_opt(keys::family(&self.db, STATE), key, bytes, &options)).map_err(io::Error::other)
    }

    fn read_record(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.state(&keys::record(name))
    }
}
