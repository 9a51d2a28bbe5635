//! openraft's own storage suite on the RocksDB store: a database for each group, and one for all.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use openraft::testing::log::{StoreBuilder, Suite};
use quoris_engine::{Engine, EngineSeed};
use quoris_log::{Fsync, RocksDisk};
use quoris_raft::seam::{Seams, SystemClock, TcpNet, blocking_threads};
use quoris_raft::store::LogStore;
use quoris_raft::types::{GroupId, TypeConfig};
use quoris_raft::{Machine, Replica};
use tempfile::TempDir;

fn seams(dir: &Path) -> Seams {
    let disk = RocksDisk::open(dir, Fsync::Always, |e| panic!("{e}")).expect("a new folder");
    Seams {
        disk: Arc::new(disk),
        net: Arc::new(TcpNet),
        clock: Arc::new(SystemClock::default()),
        blocking: blocking_threads,
    }
}

fn store(seams: &Seams, group: GroupId) -> (LogStore, Machine) {
    let engine = Engine::new(EngineSeed { hash_seed: [1, 2], databases: 16 });
    let replica = Arc::new(Replica::new(group, 0, engine, seams.clone()));
    let log = LogStore::open(seams.disk.clone(), group, replica.applied.clone()).expect("a new group");
    (log, Machine::new(replica))
}

/// Every store in a database of its own.
struct Apart;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Apart {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), openraft::StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (log, machine) = store(&seams(dir.path()), GroupId(7));
        Ok((dir, log, machine))
    }
}

/// Every store a new group of one database.
struct Together {
    seams: Seams,
    next: AtomicU32,
}

impl StoreBuilder<TypeConfig, LogStore, Machine, ()> for Together {
    async fn build(&self) -> Result<((), LogStore, Machine), openraft::StorageError<TypeConfig>> {
        let group = GroupId(self.next.fetch_add(1, Ordering::Relaxed));
        let (log, machine) = store(&self.seams, group);
        Ok(((), log, machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_keeps_openrafts_contract_with_a_database_for_each_group() {
    Suite::test_store(&Apart).await.expect("the suite passes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_keeps_openrafts_contract_with_all_groups_in_one_database() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let together = Together { seams: seams(dir.path()), next: AtomicU32::new(0) };
    Suite::test_store(&together).await.expect("the suite passes");
}

/// Two replicas of one group over one disk: a snapshot travels between nodes as a file, which the
/// transport copies before openraft sees it; here the file is simply already there.
struct Same(Seams);

impl StoreBuilder<TypeConfig, LogStore, Machine, ()> for Same {
    async fn build(&self) -> Result<((), LogStore, Machine), openraft::StorageError<TypeConfig>> {
        let (log, machine) = store(&self.0, GroupId(1));
        Ok(((), log, machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_one_replica_installs_on_another() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    Suite::transfer_snapshot(&Same(seams(dir.path()))).await.expect("the suite passes");
}
