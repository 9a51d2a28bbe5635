//! One replica at work: Raft's handle, the way in, and the tasks that keep it healthy.
//!
//! Invariants: a replica whose Raft core or state machine died is reported at once and takes the process
//! down; it never lives on in silence.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::{Config, RaftMetrics, ServerState, SnapshotPolicy};
use parking_lot::{ArcRwLockReadGuard, RawRwLock};
use quoris_engine::{Engine, WARM_MAX};
use tokio::sync::watch;

use crate::changes::Watchers;
use crate::clock::GroupClock;
use crate::deliver::{reads, run_read};
use crate::evict::Evictor;
use crate::feed::Counts;
use crate::link::Links;
use crate::machine::Machine;
use crate::maintain::maintain;
use crate::memory::Memory;
use crate::mutant::{self, Mutant};
use crate::network::Factory;
use crate::propose::{Operation, Outcome, Proposer, Stamp};
use crate::read::{NotLeading, ReadRounds};
use crate::receive::Receiving;
use crate::replica::Replica;
use crate::room::Room;
use crate::runtime;
use crate::seam::Seams;
use crate::skip::Skips;
use crate::snapshot;
use crate::store::LogStore;
use crate::timekeeper::Timekeeper;
use crate::types::{GroupId, META, Member, NodeId, Raft, TypeConfig};
use crate::verify::{Verifier, scrub};

/// Timing and limits of Raft.
#[derive(Clone, Debug)]
pub struct Timing {
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// Shortest wait for a leader before an election.
    pub election_min: Duration,
    /// Longest wait.
    pub election_max: Duration,
    /// Whether a leader reads without asking for a short time after a quorum confirmed it.
    pub read_lease: bool,
    /// A snapshot is taken when the log is longer than this and than the dataset, in bytes.
    pub snapshot_log_bytes: u64,
    /// The largest step that a group's clock takes at a start without being confirmed.
    pub clock_step_max: Duration,
}

/// Where a replica reports to.
#[derive(Clone, Default)]
pub struct Health {
    /// Set once, with a text, when a group has died.
    pub failed: watch::Sender<Option<String>>,
    /// Counts new terms over all groups.
    pub elections: Arc<AtomicU64>,
    /// What is left on the disk.
    pub room: Arc<Room>,
    /// What is left of the memory.
    pub memory: Arc<Memory>,
    /// Who wants to know which keys change.
    pub watchers: Arc<Watchers>,
    /// What was told.
    pub told: Arc<Counts>,
}

/// What a replica is started with.
pub struct GroupSeed {
    /// The group.
    pub group: GroupId,
    /// The own replica's id.
    pub replica: u64,
    /// A new engine, for a replica without a snapshot.
    pub engine: Engine,
    /// Timing and limits.
    pub timing: Timing,
    /// The clock of the replica that this one replaces, within one process.
    pub clock: Option<Arc<GroupClock>>,
}

/// Shared access to a group's state. It holds the lock: never keep it across an await.
pub type ReadGuard = ArcRwLockReadGuard<RawRwLock, Engine>;

/// A running replica.
pub struct Group {
    /// What its parts share.
    pub replica: Arc<Replica>,
    /// openraft's handle.
    pub raft: Raft,
    /// Its log.
    pub log: LogStore,
    /// The snapshot that is arriving.
    pub receiving: Receiving,
    pub(crate) timekeeper: Arc<Timekeeper>,
    /// What is left on the disk.
    pub room: Arc<Room>,
    pub(crate) evictor: Arc<Evictor>,
    proposer: Proposer,
    reads: ReadRounds,
    tasks: Vec<tokio::task::AbortHandle>,
}

fn raft_config(timing: &Timing) -> io::Result<Config> {
    let ms = |d: Duration| d.as_millis() as u64;
    let config = Config {
        cluster_name: "quoris".into(),
        heartbeat_interval: ms(timing.heartbeat),
        heartbeat_min_interval: Some(ms(timing.heartbeat) / 2),
        election_timeout_min: ms(timing.election_min),
        election_timeout_max: ms(timing.election_max),
        enable_pre_vote: Some(true),
        // A restarted leader must not resume without an election: its commit mark may be old.
        enable_leader_restore: Some(false),
        quorum_loss_probe_interval: Some((ms(timing.election_max) * 5 / 2).max(1500)),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        max_payload_entries: 64,
        max_append_entries: Some(512),
        replication_lag_threshold: 32,
        install_snapshot_timeout: 600_000,
        api_channel_size: Some(1024),
        state_machine_channel_size: Some(256),
        ..Config::default()
    };
    config.validate().map_err(io::Error::other)
}

impl Group {
    /// Loads the newest snapshot, opens the log, applies what is known to be committed and joins in.
    ///
    /// # Errors
    /// When disk or snapshot cannot be used; the text says which.
    pub async fn start(seed: GroupSeed, seams: Seams, links: Arc<Links>, health: Health) -> io::Result<Arc<Group>> {
        let GroupSeed { group, replica: id, engine, timing, clock } = seed;
        let disk = seams.disk.clone();
        let (loaded, broken) = seams.blocking(move || snapshot::load_newest(&*disk, group)).await??;
        let covered = loaded.as_ref().map(|l| l.file.meta.last_log_id.map_or(0, |id| id.index));
        let mut replica = match loaded {
            None => Replica::new(group, id, engine, 0, seams.clone())?,
            Some(loaded) => {
                let meta = loaded.file.meta.clone();
                let applied = meta.last_log_id.map_or(0, |id| id.index);
                let replica = Replica::new(group, id, loaded.engine, applied, seams.clone())?;
                *replica.position.lock() = (meta.last_log_id, meta.last_membership);
                *replica.snapshot.lock() = Some(loaded.file);
                replica
            }
        };
        replica.clock = clock.unwrap_or(replica.clock);
        // The group of the cluster itself is small and never gives way.
        let memory = if group == META { Arc::default() } else { health.memory.clone() };
        replica.told = health.told.clone();
        replica.watchers = if group == META { Arc::default() } else { health.watchers.clone() };
        replica.bytes = memory.register();
        replica.note_bytes(replica.engine.read().keyspace().memory_bytes());
        replica.clock.committed(replica.engine.read().clock_ms());
        let replica = Arc::new(replica);
        let skips = Skips::load(&*seams.disk, group)?;
        skips.announce(group);
        let machine = Machine::new(replica.clone()).skipping(skips);
        let (disk, applied) = (seams.disk.clone(), replica.applied.clone());
        let log = seams.blocking(move || LogStore::open(disk, group, applied)).await??;
        health.memory.leave_out(&log.tail_bytes());
        snapshot::check_reach(group, covered, log.purged(), &broken)?;
        let factory = Factory { replica: replica.clone(), links: links.clone() };
        runtime::tick_with_heartbeats_of(timing.heartbeat);
        let config = Arc::new(raft_config(&timing)?);
        let raft = Raft::new(id, config, factory, log.clone(), machine).await;
        let raft = raft.map_err(|e| io::Error::other(format!("{group} cannot start: {e}")))?;
        let for_vote = log.clone();
        let timekeeper = Timekeeper::new(raft.clone(), replica.clone(), links.clone(), timing.clock_step_max);
        let timekeeper = Arc::new(timekeeper);
        let proposer =
            Proposer::start(raft.clone(), replica.pending.clone(), timekeeper.clone(), move || for_vote.vote());
        let room = health.room.clone();
        let reads = ReadRounds::start(raft.clone(), replica.clone(), timing.read_lease);
        let verifier = Verifier {
            raft: raft.clone(),
            replica: replica.clone(),
            proposer: proposer.clone(),
            links,
            health: health.clone(),
        };
        let evictor = Evictor::new(raft.clone(), replica.clone(), proposer.clone(), memory);
        let evictor = Arc::new(evictor);
        let tasks = vec![
            tokio::spawn(evictor.clone().run()).abort_handle(),
            tokio::spawn(verifier.run()).abort_handle(),
            tokio::spawn(scrub(replica.clone())).abort_handle(),
            tokio::spawn(supervise(raft.clone(), replica.clone(), health)).abort_handle(),
            tokio::spawn(timekeeper.clone().run(proposer.clone())).abort_handle(),
            tokio::spawn(maintain(raft.clone(), replica.clone(), log.clone(), timing.snapshot_log_bytes))
                .abort_handle(),
        ];
        // Until here no peer could reach it, so this is its start.
        replica.window.hear();
        let receiving = Receiving::default();
        Ok(Arc::new(Group { replica, raft, log, receiving, timekeeper, room, evictor, proposer, reads, tasks }))
    }

    /// Forms the group; once in its life, on one replica.
    ///
    /// # Errors
    /// When Raft refuses.
    pub async fn initialize(&self, members: BTreeMap<u64, Member>) -> io::Result<()> {
        if self.raft.is_initialized().await.map_err(io::Error::other)? {
            return Ok(());
        }
        self.raft.initialize(members).await.map_err(io::Error::other)
    }

    /// A copy of Raft's metrics.
    pub fn metrics(&self) -> RaftMetrics<TypeConfig> {
        // The borrow blocks Raft's core, so it lasts no longer than the copy.
        self.raft.metrics().borrow_watched().clone()
    }

    /// Whether this replica believes that it leads, and may.
    pub fn leads(&self) -> bool {
        self.raft.as_leader().is_ok() && !self.replica.is_quarantined()
    }

    /// The node that leads, as far as this replica knows.
    pub fn leader(&self) -> Option<NodeId> {
        leader_in(&self.raft.metrics().borrow_watched())
    }

    /// Proposes operations, the first of which is a write. When memory is `short`, what takes some is refused in
    /// the log.
    pub async fn propose(&self, operations: Vec<Operation>, stamp: Option<Stamp>, short: bool) -> Outcome {
        if self.replica.is_quarantined() {
            return Outcome::NotExecuted(operations);
        }
        self.proposer.submit(operations, stamp, short).await
    }

    /// Read access without a message, when this replica may give it now.
    pub fn try_read(&self) -> Option<ReadGuard> {
        let from = self.reads_from()?;
        let engine = self.replica.engine.read_arc();
        (engine.applied_index() >= from && !self.is_due(&engine) && !self.replica.is_quarantined()).then_some(engine)
    }

    /// The index that reads need which have arrived by now, if this replica may answer them without asking.
    fn reads_from(&self) -> Option<u64> {
        if self.replica.sole_leader.load(Ordering::SeqCst) { Some(0) } else { self.replica.lease.covers_from() }
    }

    /// The applied state of this replica, however old: for figures, never for a client's read.
    pub fn peek(&self) -> ReadGuard {
        self.replica.engine.read_arc()
    }

    /// Runs reads on the state of this moment or later; at which index it stands comes with the replies, or
    /// [`u64::MAX`] if nothing was read: that of scripts depends.
    ///
    /// # Errors
    /// When this replica does not lead.
    pub async fn read(&self, operations: &[Operation]) -> Result<(Vec<quoris_resp::Reply>, u64), NotLeading> {
        self.confirm(operations).await?;
        let now_ms = self.replica.clock.now_ms();
        let engine = self.replica.engine.read();
        if self.replica.is_quarantined() {
            return Err(NotLeading);
        }
        let mut seen = u64::MAX;
        let replies = operations.iter().enumerate().map(|(at, operation)| {
            if operations.len() > 1 && at.is_multiple_of(WARM_MAX) {
                // Most commands have their key first; a wrong guess costs little.
                let keys = operations[at..].iter().filter_map(|o| o.argv.get(1));
                engine.keyspace().warm(operation.database, keys);
            }
            let reply = run_read(&engine, operation, now_ms);
            if reads(operation) {
                seen = engine.applied_index();
            }
            reply
        });
        Ok((replies.collect(), seen))
    }

    /// Returns once the applied state is that of this moment or later, for these reads.
    pub(crate) async fn confirm(&self, operations: &[Operation]) -> Result<(), NotLeading> {
        match self.reads_from() {
            Some(index) => self.replica.wait_applied(index).await,
            None if mutant::is(Mutant::ReadsWithoutIndex) && self.leads() => {}
            None => self.reads.confirm().await?,
        }
        let meets = {
            let engine = self.replica.engine.read();
            self.is_due(&engine) && operations.iter().any(|operation| self.meets_due(&engine, operation))
        };
        if meets {
            // A key whose time has come would be seen: let the clock pass it first.
            match self.proposer.submit(Vec::new(), None, false).await {
                Outcome::Applied(..) => {}
                Outcome::NotExecuted(_) | Outcome::Unknown(_) => return Err(NotLeading),
            }
        }
        Ok(())
    }

    /// A deadline has passed that the applied clock does not show yet.
    fn is_due(&self, engine: &Engine) -> bool {
        engine.keyspace().next_to_come().is_some_and(|at| at <= self.replica.clock.horizon_ms())
    }

    /// The read may see a key of which that is true; one that names no key may see any.
    fn meets_due(&self, engine: &Engine, read: &Operation) -> bool {
        let keys = if read.transaction { Ok(Default::default()) } else { read.command.keys(&read.argv) };
        let keys = keys.unwrap_or_default();
        let horizon = self.replica.clock.horizon_ms();
        let is_due = |at: &usize| {
            let known = read.database < engine.keyspace().databases();
            let entry = known.then(|| engine.keyspace().entry(read.database, &read.argv[*at])).flatten();
            entry.and_then(|entry| entry.next_deadline_ms()).is_some_and(|deadline| deadline <= horizon)
        };
        keys.is_empty() || keys.iter().any(is_due)
    }

    /// Stops the replica; nothing more is applied or answered.
    pub async fn stop(&self) {
        self.tasks.iter().for_each(tokio::task::AbortHandle::abort);
        self.replica.pending.waiters.step_down();
        let _ = self.raft.shutdown().await;
        self.replica.feed.end();
    }
}

fn leader_in(metrics: &RaftMetrics<TypeConfig>) -> Option<NodeId> {
    let leader = metrics.current_leader?;
    metrics.membership_config.membership().get_node(&leader).map(|m| NodeId(m.node))
}

/// What Raft's core says of this replica, for those who do not ask it.
fn heed(now: &RaftMetrics<TypeConfig>, term: &mut u64, replica: &Replica, health: &Health) {
    if now.current_term > *term {
        *term = now.current_term;
        health.elections.fetch_add(1, Ordering::Relaxed);
    }
    if now.state != ServerState::Leader {
        replica.pending.waiters.step_down();
    }
    let leader = leader_in(now);
    replica.leader.send_if_modified(|known| *known != leader && std::mem::replace(known, leader) != leader);
    let alone = now.membership_config.voter_ids().eq([replica.id]);
    let own_term = now.last_applied.is_some_and(|id| id.leader_id == now.vote.leader_id);
    replica.set_sole(alone && own_term && now.state == ServerState::Leader);
}

/// Watches Raft's core: keeps the fast read path honest and reports death.
async fn supervise(raft: Raft, replica: Arc<Replica>, health: Health) {
    let mut metrics = raft.metrics();
    let mut term = 0;
    loop {
        // Every heartbeat brings news, so they are looked at in place.
        if let Err(e) = &metrics.borrow_watched().running_state {
            let text = format!("{} stopped: {e}", replica.group);
            tracing::error!(group = replica.group.0, error = %e, "Raft stopped");
            health.failed.send_if_modified(|f| f.is_none() && f.replace(text).is_none());
            return;
        }
        heed(&metrics.borrow_watched(), &mut term, &replica, &health);
        if metrics.changed().await.is_err() {
            health
                .failed
                .send_if_modified(|f| f.is_none() && f.replace(format!("{} stopped", replica.group)).is_none());
            return;
        }
    }
}
