//! The state machine that openraft drives: step 8, on every replica.
//!
//! A committed entry is applied to the engine under its lock; if it was proposed here its replies are
//! delivered at once, from here. Errors of commands are replies. The only errors returned to openraft
//! are those that must stop the replica: an entry of an unknown version, damage, a failing disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftStateMachine};
use quoris_engine::entry::{EntryError, EntryReader};

use crate::aside::aside_if_large;
use crate::feed::Batch;
use crate::mutant::{self, Mutant};
use crate::replica::{Fault, Replica, SnapshotFile};
use crate::skip::Skips;
use crate::snapshot::{self, Builder};
use crate::types::{Body, LogId, Payload, SnapshotMeta, StoredMembership, TypeConfig};

/// A replica's state machine.
pub struct Machine {
    replica: Arc<Replica>,
    skips: Skips,
}

impl Machine {
    /// Drives this replica's engine.
    pub fn new(replica: Arc<Replica>) -> Machine {
        Machine { replica, skips: Skips::default() }
    }

    /// Passes over what an operator has named.
    #[must_use]
    pub fn skipping(mut self, skips: Skips) -> Machine {
        self.skips = skips;
        self
    }

    fn apply_normal(&self, log_id: LogId, body: &Body) -> io::Result<()> {
        let group = self.replica.group;
        if let Some(reason) = self.skips.reason(&log_id) {
            tracing::warn!(group = group.0, index = log_id.index, reason, "entry passed over, as an operator told");
            self.apply_blank(log_id);
            return Ok(());
        }
        if self.replica.fail_apply.load(Ordering::Relaxed) {
            let index = log_id.index;
            return Err(io::Error::other(format!("{group}, index {index}: DEBUG FAIL-APPLY asked for a failure")));
        }
        self.apply_commands(log_id, body).map_err(|e| {
            io::Error::other(format!(
                "{group}, index {index}: {e}. Nothing of the entry has taken effect, and this replica does not go on \
                 without it. An entry that no version of the program can apply is passed over when every replica of \
                 the group is told so: quoris admin group skip --dir DIR --group {number} --index {index} --reason TEXT",
                index = log_id.index,
                number = group.0,
            ))
        })
    }

    fn apply_commands(&self, log_id: LogId, body: &Body) -> Result<(), EntryError> {
        let replica = &self.replica;
        if self.is_left_out(log_id) {
            self.apply_blank(log_id);
            return Ok(());
        }
        let with_own_time = self.timed(body);
        let body = with_own_time.as_ref().unwrap_or(body);
        let header = *EntryReader::new(&body.0)?.header();
        replica.clock.committed(header.clock_ms);
        // Replies of a state that is known to be wrong are dropped: then the outcome is unknown.
        let delivery = replica.pending.delivery(header.seed, log_id);
        let mut delivery = delivery.filter(|_| !replica.is_quarantined());
        let now_ms = header.clock_ms;
        let (watchers, group) = (&replica.watchers, replica.group);
        let mut engine = replica.engine.write();
        engine.note_changes(watchers.are_wanted());
        let frozen = engine.frozen();
        let result = engine.apply_entry(log_id.index, &body.0, &mut |place, reply, engine| {
            // Whoever keeps a copy hears of it before anybody hears that it is done.
            watchers.tell_of(engine, group, log_id.index);
            if let Some(delivery) = &mut delivery {
                delivery.reply(place, reply, engine, now_ms);
            }
        });
        watchers.tell_of(&mut engine, group, log_id.index);
        replica.pending.waiters.settle(&mut engine, now_ms);
        if engine.frozen() != frozen {
            replica.pending.waiters.send_elsewhere(&engine);
        }
        // With slots of another group comes its clock.
        replica.clock.committed(engine.clock_ms());
        replica.position.lock().0 = Some(log_id);
        replica.note_bytes(engine.keyspace().memory_bytes());
        if let Some(difference) = engine.difference().filter(|_| !mutant::is(Mutant::DigestIgnored)) {
            replica.quarantine(Fault::Astray(difference));
        }
        let events = engine.take_events();
        if !engine.outbox().is_empty() {
            replica.posted.notify_one();
        }
        let settings = (!events.is_empty()).then(|| *engine.keyspace().settings());
        let garbage = engine.take_garbage();
        drop(engine);
        replica.discard(garbage);
        result?;
        if let Some(settings) = settings.filter(|_| !replica.is_quarantined()) {
            replica.told.add(&events);
            let batch = Arc::new(Batch::new(replica.group, log_id.index, now_ms, events));
            // Who listens does not wait for the disk; whoever needs the disk needs what lies further back.
            replica.feed.offer(batch.clone(), body.0.len());
            replica.retained.put(&batch, settings.event_bytes_max(), settings.event_age_ms_max());
        }
        if let Some(delivery) = delivery {
            delivery.end();
        }
        Ok(())
    }

    /// For mutants alone: an entry that this replica does not apply.
    fn is_left_out(&self, log_id: LogId) -> bool {
        let replica = &self.replica;
        let covered = || replica.snapshot.lock().as_ref().and_then(|file| file.meta.last_log_id).map(|id| id.index);
        (mutant::is(Mutant::EntryBehindSnapshot) && covered().is_some_and(|index| index + 1 == log_id.index))
            || (mutant::is(Mutant::DigestIgnored) && replica.id.is_multiple_of(3) && log_id.index.is_multiple_of(64))
    }

    /// For mutants alone: an entry with another time.
    fn timed(&self, body: &Body) -> Option<Body> {
        if !mutant::is(Mutant::LocalClockInApply) {
            return None;
        }
        let now_ms = self.replica.seams.clock.wall_ms().max(self.replica.engine.read().clock_ms());
        let mut bytes = body.0.to_vec();
        // Behind the format and the feature level.
        bytes[3..11].copy_from_slice(&now_ms.to_le_bytes());
        Some(Body(bytes.into()))
    }

    fn apply_blank(&self, log_id: LogId) {
        let mut engine = self.replica.engine.write();
        engine.note_index(log_id.index);
        self.replica.position.lock().0 = Some(log_id);
    }

    fn apply_membership(&self, log_id: LogId, membership: openraft::Membership<u64, crate::types::Member>) {
        if membership.voter_ids().count() > 1 {
            // From the next entry on others may be elected: no more reads without asking.
            self.replica.sole_leader.store(false, Ordering::SeqCst);
        }
        let mut engine = self.replica.engine.write();
        engine.note_index(log_id.index);
        *self.replica.position.lock() = (Some(log_id), StoredMembership::new(Some(log_id), membership));
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok(self.replica.position.lock().clone())
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let log_id = entry.log_id;
            match entry.payload {
                Payload::Blank => self.apply_blank(log_id),
                Payload::Normal(body) => aside_if_large(body.0.len(), || self.apply_normal(log_id, &body))?,
                Payload::Membership(membership) => self.apply_membership(log_id, membership),
            }
            self.replica.pending.applied_leader((log_id.leader_id.term, log_id.leader_id.node_id));
            self.replica.publish_applied(log_id.index);
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder::new(self.replica.clone())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, file: SnapshotFile) -> io::Result<()> {
        snapshot::install(&self.replica, meta, file).await
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<
        Option<
            openraft::Snapshot<
                openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>,
                u64,
                crate::types::Member,
                SnapshotFile,
            >,
        >,
    > {
        let current = self.replica.snapshot.lock().clone();
        Ok(current.map(|file| openraft::Snapshot { meta: file.meta.clone(), snapshot: file }))
    }
}
