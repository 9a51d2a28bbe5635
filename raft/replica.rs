//! What the parts of one replica share: the engine behind its lock, the applied mark, the pending
//! entries, the clock and the disk.
//!
//! Invariant: the engine's lock is never held across an await, and a write lock only for one entry or
//! one step of a snapshot.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use quoris_engine::{Difference, Engine, Flaw, Garbage};
use tokio::sync::{Notify, watch};

use crate::changes::Watchers;
use crate::clock::GroupClock;
use crate::feed::{Counts, Feed};
use crate::lease::{ReadLease, VoteWindow};
use crate::propose::Pending;
use crate::retained::Retained;
use crate::seam::Seams;
use crate::types::{GroupId, LogId, NodeId, SnapshotMeta, StoredMembership};

/// One replica's shared state.
pub struct Replica {
    /// The group.
    pub group: GroupId,
    /// This replica's id, openraft's node id.
    pub id: u64,
    /// The keys.
    pub engine: Arc<RwLock<Engine>>,
    /// The last applied index; the log store reads it.
    pub applied: Arc<AtomicU64>,
    /// The same, to wait for.
    pub applied_watch: watch::Sender<u64>,
    /// Log id and membership that the engine stands at.
    pub position: Mutex<(Option<LogId>, StoredMembership)>,
    /// Entries of this node whose outcome is open.
    pub pending: Arc<Pending>,
    /// What the applied entries have told.
    pub feed: Feed,
    /// Counts what was told, over all groups.
    pub told: Arc<Counts>,
    /// Who wants to know which keys change.
    pub watchers: Arc<Watchers>,
    /// Messages wait in the outbox, as of the last entry.
    pub posted: Notify,
    /// What is kept of it on disk.
    pub retained: Retained,
    /// The group's clock as this node knows it.
    pub clock: Arc<GroupClock>,
    /// What this replica may answer as a leader.
    pub lease: ReadLease,
    /// When it may help to elect another.
    pub window: VoteWindow,
    /// The world.
    pub seams: Seams,
    /// The newest snapshot file.
    pub snapshot: Mutex<Option<SnapshotFile>>,
    /// This node leads and is the group's only voter: it can read without asking anybody.
    pub sole_leader: AtomicBool,
    /// There may soon be other voters.
    sole_barred: Mutex<bool>,
    /// The node that leads, as far as this replica knows.
    pub leader: watch::Sender<Option<NodeId>>,
    /// Counts installed snapshots; one that is being built belongs to the state before.
    pub installs: AtomicU64,
    /// When the last snapshot was finished.
    pub last_save_unix_s: AtomicU64,
    /// Why the last snapshot that could not be written could not.
    pub save_failed: watch::Sender<String>,
    /// How often a quorum was asked to confirm a read, or a lease for reads.
    pub read_rounds: AtomicU64,
    /// When a leader was last asked how far it is, by [`Clock::boottime`](crate::seam::Clock::boottime), and its answer.
    pub followed: Mutex<Option<(Duration, u64)>>,
    /// How often the replica was rebuilt since the process started.
    pub rebuilds: AtomicU64,
    /// The term whose leader is probably dead, because its connection was lost; 0 for none.
    pub doubted: AtomicU64,
    /// A failpoint: the next entry with commands cannot be applied.
    pub fail_apply: AtomicBool,
    /// Set once, when the state was found to be wrong: the replica is in quarantine until it is rebuilt.
    fault: watch::Sender<Option<Fault>>,
    /// What the engine counts of its data, for `raft/memory.rs`.
    pub bytes: Arc<AtomicU64>,
    quarantined: AtomicBool,
    /// Held by each piece of garbage that is being freed.
    discarding: Arc<()>,
}

/// Pieces of garbage that wait to be freed; with more of them memory is freed more slowly than it is given up.
const DISCARDS_MAX: usize = 64;

/// Why a replica cannot be trusted.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Fault {
    /// Its memory does not hold what was written to it.
    #[error("memory has changed: {0}")]
    Memory(Flaw),
    /// Its state is not that of a majority.
    #[error("{0}")]
    Astray(Difference),
}

/// A finished snapshot on disk.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    /// Its log id and membership.
    pub meta: SnapshotMeta,
    /// Its name on the node's disk.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
}

impl Replica {
    /// Frees what the engine gave up on another thread; here when too much waits for it.
    pub fn discard(&self, garbage: Option<Garbage>) {
        let Some(garbage) = garbage else { return };
        let held = self.discarding.clone();
        if Arc::strong_count(&held) <= DISCARDS_MAX {
            (self.seams.blocking)(Box::new(move || drop((garbage, held))));
        }
    }

    /// A replica whose state stands at `applied`.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn new(group: GroupId, id: u64, engine: Engine, applied: u64, seams: Seams) -> io::Result<Replica> {
        let retained = Retained::open(seams.disk.clone(), group, applied)?;
        Ok(Replica {
            group,
            id,
            engine: Arc::new(RwLock::new(engine)),
            applied: Arc::new(applied.into()),
            applied_watch: watch::channel(applied).0,
            position: Mutex::default(),
            pending: Arc::default(),
            feed: Feed::new(applied),
            told: Arc::default(),
            watchers: Arc::default(),
            posted: Notify::new(),
            retained,
            clock: Arc::new(GroupClock::new(seams.clock.clone())),
            lease: ReadLease::new(seams.clock.clone()),
            window: VoteWindow::new(seams.clock.clone()),
            seams,
            snapshot: Mutex::default(),
            sole_leader: AtomicBool::new(false),
            sole_barred: Mutex::default(),
            leader: watch::channel(None).0,
            installs: AtomicU64::new(0),
            last_save_unix_s: AtomicU64::new(0),
            save_failed: watch::Sender::default(),
            read_rounds: AtomicU64::new(0),
            followed: Mutex::default(),
            rebuilds: AtomicU64::new(0),
            doubted: AtomicU64::new(0),
            fail_apply: AtomicBool::new(false),
            fault: watch::channel(None).0,
            bytes: Arc::default(),
            quarantined: AtomicBool::new(false),
            discarding: Arc::default(),
        })
    }

    /// Whether this node leads and is the only voter, as far as Raft's core has said.
    pub(crate) fn set_sole(&self, sole: bool) {
        let barred = self.sole_barred.lock();
        self.sole_leader.store(sole && !*barred, Ordering::SeqCst);
    }

    /// While it is barred this node does not read as the only voter, whatever Raft's core has said: what it says
    /// comes late.
    pub(crate) fn bar_sole(&self, barred: bool) {
        let mut now = self.sole_barred.lock();
        *now = barred;
        if barred {
            self.sole_leader.store(false, Ordering::SeqCst);
        }
    }

    /// The state is wrong: from now on nobody gets anything of it.
    pub fn quarantine(&self, fault: Fault) {
        if self.quarantined.swap(true, Ordering::SeqCst) {
            return;
        }
        tracing::error!(
            group = self.group.0,
            applied = self.applied.load(Ordering::Acquire),
            "this replica is wrong and goes into quarantine, to be rebuilt: {fault}"
        );
        self.feed.end();
        self.watchers.tell_all(self.group);
        self.fault.send_replace(Some(fault));
    }

    /// Whether the state is known to be wrong.
    pub fn is_quarantined(&self) -> bool {
        self.quarantined.load(Ordering::SeqCst)
    }

    /// Waits until the state is found to be wrong.
    pub async fn wait_for_fault(&self) -> Fault {
        let mut watch = self.fault.subscribe();
        loop {
            if let Some(fault) = *watch.borrow_and_update() {
                return fault;
            }
            // The sender lives as long as the replica, so the wait cannot fail.
            let _ = watch.changed().await;
        }
    }

    /// Everything up to `index` is applied.
    pub fn publish_applied(&self, index: u64) {
        self.applied.store(index, Ordering::Release);
        self.applied_watch.send_replace(index);
    }

    /// Waits until `index` is applied here.
    pub async fn wait_applied(&self, index: u64) {
        if self.applied.load(Ordering::Acquire) >= index {
            return;
        }
        let mut watch = self.applied_watch.subscribe();
        // The sender lives as long as the replica, so the wait cannot fail.
        let _ = watch.wait_for(|applied| *applied >= index).await;
    }
}
