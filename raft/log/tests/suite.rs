//! openraft's own storage suite on the RocksDB store: a database for each group, and one for all.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use openraft::testing::log::{StoreBuilder, Suite};
use quoris_engine::{Engine, EngineSeed};
use quoris_log::{Fsync, RocksDisk};
use quoris_raft::seam::{
    Disk, DiskOp, Done, GroupRecords, Seams, SnapshotSink, SnapshotSource, SystemClock, TcpNet, blocking_threads,
};
use quoris_raft::store::LogStore;
use quoris_raft::types::{GroupId, TypeConfig};
use quoris_raft::{Machine, Replica};
use tempfile::TempDir;

/// All replicas of the suite hold one group, whatever group their log has.
const HELD: GroupId = GroupId(7);

/// A log of its own and snapshot files that all replicas share: between nodes the transport copies a
/// snapshot before openraft sees it, which the suite, that hands it over in memory, cannot do.
struct SharedFiles {
    log: Arc<RocksDisk>,
    files: Arc<RocksDisk>,
}

impl Disk for SharedFiles {
    fn submit(&self, group: GroupId, op: DiskOp, done: Option<Done>) {
        self.log.submit(group, op, done);
    }

    fn load(&self, group: GroupId) -> io::Result<GroupRecords> {
        self.log.load(group)
    }

    fn read(&self, group: GroupId, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<(u64, Bytes)>> {
        self.log.read(group, from, to, bytes_max)
    }

    fn events(&self, group: GroupId, after: u64, bytes_max: usize) -> io::Result<Vec<(u64, Bytes)>> {
        self.log.events(group, after, bytes_max)
    }

    fn events_floor(&self, group: GroupId) -> io::Result<Option<u64>> {
        self.log.events_floor(group)
    }

    fn remove(&self, group: GroupId, done: Done) {
        self.log.remove(group, done);
    }

    fn snapshots(&self, group: GroupId) -> io::Result<Vec<String>> {
        self.files.snapshots(group)
    }

    fn open_snapshot(&self, group: GroupId, name: &str) -> io::Result<(u64, Box<dyn SnapshotSource>)> {
        self.files.open_snapshot(group, name)
    }

    fn create_snapshot(&self, group: GroupId, name: &str) -> io::Result<Box<dyn SnapshotSink>> {
        self.files.create_snapshot(group, name)
    }

    fn remove_snapshot(&self, group: GroupId, name: &str) -> io::Result<()> {
        self.files.remove_snapshot(group, name)
    }

    fn flushes(&self) -> u64 {
        self.log.flushes()
    }

    fn write_record(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.log.write_record(name, bytes)
    }

    fn read_record(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.log.read_record(name)
    }
}

fn open(dir: &Path) -> Arc<RocksDisk> {
    Arc::new(RocksDisk::open(dir, Fsync::Always, |e| panic!("{e}")).expect("a new folder"))
}

fn store(log: Arc<RocksDisk>, files: Arc<RocksDisk>, log_group: GroupId) -> (LogStore, Machine) {
    let disk = Arc::new(SharedFiles { log, files });
    let clock = Arc::new(SystemClock::default());
    let seams = Seams { disk: disk.clone(), net: Arc::new(TcpNet), clock, blocking: blocking_threads };
    let engine = Engine::new(EngineSeed { hash_seed: [1, 2], databases: 16 });
    let replica = Arc::new(Replica::new(HELD, 0, engine, 0, seams).expect("a new disk"));
    let log = LogStore::open(disk, log_group, replica.applied.clone()).expect("a new group");
    (log, Machine::new(replica))
}

/// Every store in a database of its own.
struct Apart(Arc<RocksDisk>);

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Apart {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), openraft::StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (log, machine) = store(open(dir.path()), self.0.clone(), HELD);
        Ok((dir, log, machine))
    }
}

/// Every store a new group of one database.
struct Together {
    disk: Arc<RocksDisk>,
    next: AtomicU32,
}

impl StoreBuilder<TypeConfig, LogStore, Machine, ()> for Together {
    async fn build(&self) -> Result<((), LogStore, Machine), openraft::StorageError<TypeConfig>> {
        let group = GroupId(self.next.fetch_add(1, Ordering::Relaxed));
        let (log, machine) = store(self.disk.clone(), self.disk.clone(), group);
        Ok(((), log, machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_keeps_openrafts_contract_with_a_database_for_each_group() {
    let files = tempfile::tempdir().expect("a temporary folder");
    Suite::test_all(Apart(open(files.path()))).await.expect("the suite passes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_keeps_openrafts_contract_with_all_groups_in_one_database() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let together = Together { disk: open(dir.path()), next: AtomicU32::new(0) };
    Suite::test_all(together).await.expect("the suite passes");
}
