//! Snapshots: an RDB file of a group's keys, with the group's own state in AUX fields.
//!
//! A snapshot is written beside the writes: the engine serialises a piece under its lock, the lock is
//! given back, the piece goes to disk, and so on; keys that change meanwhile are saved by the engine
//! before their change. The file gets its name only when all of it is durable.
//!
//! Invariants: a file under its final name is complete and durable; the newest one is never deleted;
//! it is written from keys that a scrub found sound afterwards; openraft purges log only behind a finished
//! snapshot. A build that fails for a passing reason reports
//! the previous snapshot as its result, so that a full disk does not stop the group.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::RaftSnapshotBuilder;
use quoris_engine::{Engine, codec};

use crate::group::Group;
use crate::record::{LogIdRecord, MembershipRecord};
use crate::replica::{Fault, Replica, SnapshotFile};
use crate::seam::{BROKEN_FOLDER, Disk, Seams};
use crate::types::{GroupId, LogId, Member, Raft, SnapshotMeta, TypeConfig};
use crate::verify::scrub_now;

/// Bytes that the engine serialises per step under its lock.
const STEP_BYTES: usize = 64 << 10;
/// How long one may take.
const TIME_MAX: Duration = Duration::from_secs(600);
/// AUX fields of this layer.
const AUX_LOG_ID: &str = "quoris-log-id";
const AUX_MEMBERSHIP: &str = "quoris-membership";
const AUX_GROUP: &str = "quoris-group";

/// A snapshot as openraft hands it around.
pub type Snapshot =
    openraft::Snapshot<openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>, u64, Member, SnapshotFile>;

/// Builds one snapshot of a replica.
pub struct Builder {
    replica: Arc<Replica>,
}

impl Builder {
    /// A builder for this replica.
    pub fn new(replica: Arc<Replica>) -> Builder {
        Builder { replica }
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let started = self.replica.seams.clock.monotonic();
        match build(&self.replica).await {
            Ok(file) => {
                let took = self.replica.seams.clock.monotonic().saturating_sub(started);
                tracing::info!(
                    group = self.replica.group.0,
                    name = file.name,
                    bytes = file.bytes,
                    took_ms = took.as_millis() as u64,
                    "snapshot written"
                );
                Ok(Snapshot { meta: file.meta.clone(), snapshot: file })
            }
            Err(e) => {
                tracing::error!(group = self.replica.group.0, error = %e, "snapshot failed; the log is kept until one succeeds");
                self.replica.save_failed.send_replace(e.to_string());
                let previous = self.replica.snapshot.lock().clone();
                let meta = previous.as_ref().map_or_else(SnapshotMeta::default, |f| f.meta.clone());
                let file = previous.unwrap_or(SnapshotFile { meta: meta.clone(), name: String::new(), bytes: 0 });
                Ok(Snapshot { meta, snapshot: file })
            }
        }
    }
}

/// A name that sorts by index.
fn name(log_id: &LogId) -> String {
    format!("{:020}-{}-{}.rdb", log_id.index, log_id.leader_id.term, log_id.leader_id.node_id)
}

/// The index that a snapshot stands at, from its name; 0 for a name that is none.
pub fn with_index(name: String) -> (u64, String) {
    let index = name.split('-').next().and_then(|digits| digits.parse().ok());
    (index.unwrap_or(0), name)
}

async fn build(replica: &Arc<Replica>) -> io::Result<SnapshotFile> {
    let (meta, installs) = {
        // The engine's lock is taken first, so position and engine cannot move apart.
        let mut engine = replica.engine.write();
        let (log_id, membership) = replica.position.lock().clone();
        let log_id = log_id.ok_or_else(|| io::Error::other("nothing is applied yet"))?;
        let aux = vec![
            (AUX_GROUP.to_string(), codec::bytes(&replica.group)),
            (AUX_LOG_ID.to_string(), codec::bytes(&LogIdRecord::from(log_id))),
            (AUX_MEMBERSHIP.to_string(), codec::bytes(&MembershipRecord::from(&membership))),
        ];
        engine.begin_snapshot(aux).map_err(|_| io::Error::other("a snapshot is already running"))?;
        (
            SnapshotMeta { last_log_id: Some(log_id), last_membership: membership },
            replica.installs.load(Ordering::SeqCst),
        )
    };
    let result = write_out(replica, meta, installs).await;
    if result.is_err() {
        replica.engine.write().abort_snapshot();
    }
    let file = result?;
    keep_newest(&*replica.seams.disk, replica.group, &file.name);
    *replica.snapshot.lock() = Some(file.clone());
    replica.last_save_unix_s.store(replica.seams.clock.wall_ms() / 1000, Ordering::Relaxed);
    Ok(file)
}

async fn write_out(replica: &Arc<Replica>, meta: SnapshotMeta, installs: u64) -> io::Result<SnapshotFile> {
    let name = name(meta.last_log_id.as_ref().expect("build took it from the position"));
    let mut sink = replica.seams.disk.create_snapshot(replica.group, &name)?;
    let mut bytes = 0;
    loop {
        let mut piece = Vec::with_capacity(STEP_BYTES * 2);
        let done = {
            let mut engine = replica.engine.write();
            if replica.installs.load(Ordering::SeqCst) != installs {
                return Err(io::Error::other("a received snapshot replaced the state"));
            }
            engine.step_snapshot(&mut piece, STEP_BYTES)
        };
        bytes += piece.len() as u64;
        sink = replica.seams.blocking(move || sink.write(&piece).map(|()| sink)).await??;
        if done {
            break;
        }
    }
    // What was written must be what was in the keys: a bit that had flipped in memory by then shows now.
    if let Err(flaw) = scrub_now(replica).await {
        replica.quarantine(Fault::Memory(flaw));
        return Err(io::Error::other(flaw));
    }
    // What it covers is not applied again.
    replica.retained.settled().await?;
    replica.seams.blocking(move || sink.finish()).await??;
    Ok(SnapshotFile { meta, name, bytes })
}

fn keep_newest(disk: &dyn Disk, group: GroupId, newest: &str) {
    for old in disk.snapshots(group).unwrap_or_default().into_iter().filter(|n| n.as_str() < newest) {
        if let Err(e) = disk.remove_snapshot(group, &old) {
            tracing::warn!(group = group.0, name = old, error = %e, "an old snapshot could not be deleted");
        }
    }
}

/// A snapshot that was read from disk.
pub struct Loaded {
    /// The keys.
    pub engine: Engine,
    /// Where they stand.
    pub file: SnapshotFile,
}

/// Reads one snapshot file and checks that it belongs to the group.
///
/// # Errors
/// When the file is damaged or of another group.
pub fn load(disk: &dyn Disk, group: GroupId, name: &str) -> io::Result<Loaded> {
    let (bytes, mut source) = disk.open_snapshot(group, name)?;
    let mut reader = io::BufReader::with_capacity(1 << 20, &mut source);
    let reader: &mut dyn Read = &mut reader;
    let loaded = Engine::load(reader, &mut |_| {}).map_err(|e| io::Error::other(format!("snapshot {name}: {e}")))?;
    let field =
        |aux: &str| loaded.aux.get(aux).ok_or_else(|| io::Error::other(format!("snapshot {name} has no field {aux}")));
    let (of, _): (GroupId, usize) = codec::read(field(AUX_GROUP)?, "group").map_err(io::Error::other)?;
    if of != group {
        return Err(io::Error::other(format!("snapshot {name} is of {of}, not of {group}")));
    }
    let (log_id, _): (LogIdRecord, usize) = codec::read(field(AUX_LOG_ID)?, "log id").map_err(io::Error::other)?;
    let (membership, _): (MembershipRecord, usize) =
        codec::read(field(AUX_MEMBERSHIP)?, "membership").map_err(io::Error::other)?;
    let meta = SnapshotMeta { last_log_id: Some(log_id.into()), last_membership: membership.stored()? };
    Ok(Loaded { engine: loaded.engine, file: SnapshotFile { meta, name: name.to_string(), bytes } })
}

/// Reads the newest snapshot that is whole, and says what is wrong with those that are newer.
///
/// # Errors
/// When the disk fails.
pub fn load_newest(disk: &dyn Disk, group: GroupId) -> io::Result<(Option<Loaded>, Vec<String>)> {
    let mut names = disk.snapshots(group)?;
    names.sort();
    let mut broken = Vec::new();
    for name in names.iter().rev() {
        match load(disk, group, name) {
            Ok(loaded) => return Ok((Some(loaded), broken)),
            Err(e) => {
                tracing::error!(group = group.0, name, error = %e, "snapshot refused");
                broken.push(e.to_string());
            }
        }
    }
    Ok((None, broken))
}

/// Checks that a log that was purged up to `purged` goes on from a snapshot up to `index`, if there is one.
///
/// # Errors
/// When entries lie between them: neither holds them any more.
pub fn check_reach(group: GroupId, index: Option<u64>, purged: Option<u64>, broken: &[String]) -> io::Result<()> {
    let Some(purged) = purged.filter(|purged| index.is_none_or(|index| index < *purged)) else { return Ok(()) };
    let found = match index {
        Some(index) => format!("the newest whole snapshot ends at index {index}"),
        None => "there is no whole snapshot".to_string(),
    };
    let why = match broken {
        [] => "one is missing".to_string(),
        damaged => format!("damaged: {}", damaged.join("; ")),
    };
    Err(io::Error::other(format!(
        "{group}: the log begins at index {}, but {found} in the folder snapshots/group-{} ({why}). {BROKEN_FOLDER}",
        purged + 1,
        group.0
    )))
}

/// Replaces a replica's state by a received snapshot, whose file is already durable.
///
/// # Errors
/// When the file cannot be read; the old state stays.
pub async fn install(replica: &Arc<Replica>, meta: &SnapshotMeta, file: SnapshotFile) -> io::Result<()> {
    let (seams, group, name): (Seams, _, _) = (replica.seams.clone(), replica.group, file.name.clone());
    let loaded = seams.clone().blocking(move || load(&*seams.disk, group, &name)).await??;
    if loaded.file.meta.last_log_id != meta.last_log_id {
        return Err(io::Error::other(format!("snapshot {} holds another state than was announced", file.name)));
    }
    let index = meta.last_log_id.map_or(0, |id| id.index);
    replica.clock.committed(loaded.engine.clock_ms());
    {
        let mut engine = replica.engine.write();
        *engine = loaded.engine;
        replica.watchers.tell_all(group);
        replica.note_bytes(engine.keyspace().memory_bytes());
        replica.installs.fetch_add(1, Ordering::SeqCst);
        *replica.position.lock() = (meta.last_log_id, meta.last_membership.clone());
    }
    replica.pending.snapshot_installed();
    keep_newest(&*replica.seams.disk, group, &loaded.file.name);
    *replica.snapshot.lock() = Some(loaded.file);
    replica.retained.reset(index);
    replica.feed.jump(index);
    replica.publish_applied(index);
    tracing::info!(group = group.0, index, "snapshot installed");
    Ok(())
}

/// Has a snapshot written and waits until its index is as wanted.
///
/// # Errors
/// When it could not be written.
pub(crate) async fn trigger(
    raft: &Raft,
    replica: &Replica,
    is_wanted: impl Fn(u64) -> bool + Send + Sync,
) -> io::Result<()> {
    let mut failed = replica.save_failed.subscribe();
    raft.trigger().snapshot().await.map_err(io::Error::other)?;
    let wait = raft.wait(Some(TIME_MAX));
    tokio::select! {
        done = wait.metrics(|m| m.snapshot.as_ref().is_some_and(|s| is_wanted(s.index)), "snapshot") => {
            done.map(drop).map_err(io::Error::other)
        }
        _ = failed.changed() => Err(io::Error::other(failed.borrow().clone())),
    }
}

impl Group {
    /// Writes a snapshot of everything applied by now, and waits for it.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn take_snapshot(&self) -> io::Result<()> {
        let applied = self.replica.applied.load(Ordering::Acquire);
        let covered =
            |r: &Replica| r.snapshot.lock().as_ref().and_then(|f| f.meta.last_log_id).map_or(0, |id| id.index);
        if applied == 0 {
            return Ok(());
        }
        for _ in 0..2 {
            if covered(&self.replica) >= applied {
                return Ok(());
            }
            let before = covered(&self.replica);
            trigger(&self.raft, &self.replica, |index| index > before || index >= applied).await?;
        }
        Ok(())
    }
}
