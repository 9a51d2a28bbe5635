//! The data folder of a stopped node, for `quoris admin log dump` and `quoris admin group`.
//!
//! What a log entry did is not in the log: it is found by applying the entries to the state that they met.
//! That state is empty when the log was never purged, and else comes from a snapshot of the folder.
//!
//! Invariants: nothing is written but by [`GroupLog::skip`] and [`Folder::recover`]; entries are read and applied by the code that a
//! node at work runs.

use std::io;
use std::sync::Arc;

use quoris_engine::{Effect, Engine, EngineSeed, codec, events::Event};

use crate::founding::{self, Identity};
use crate::record::{self, LogIdRecord};
use crate::seam::Disk;
use crate::skip::{Skip, Skips};
use crate::snapshot;
use crate::types::{GroupId, META, NodeId, Payload};

/// Entries are read in pieces of about so many bytes.
const READ_BYTES: usize = 4 << 20;

/// A node's folder.
pub struct Folder {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) identity: Identity,
}

/// The log of one group in a folder.
pub struct GroupLog {
    /// The group.
    pub group: GroupId,
    /// The index up to which entries were purged.
    pub purged: Option<u64>,
    /// The first and the last entry.
    pub range: Option<(u64, u64)>,
    /// The last entry that is known to be committed; later ones may still be replaced by others.
    pub committed: u64,
    disk: Arc<dyn Disk>,
    seed: EngineSeed,
    slots: Vec<(u16, u16)>,
    whole: bool,
    skips: Skips,
    /// Indexes and names of the snapshots, oldest first.
    snapshots: Vec<(u64, String)>,
}

/// An entry as it lies in the log.
pub struct Logged {
    /// Its index.
    pub index: u64,
    /// Its id and payload, or why it cannot be read.
    pub record: io::Result<(LogIdRecord, Payload)>,
    /// Why it is passed over, when an operator said so.
    pub skipped: Option<String>,
}

/// From where to where effects can be told, and on what they are built.
pub struct Plan {
    /// The first entry.
    pub from: u64,
    /// The last entry.
    pub to: u64,
    /// The snapshot that holds the state in front of the first entry, or of an earlier one; nothing when the
    /// log goes back to the beginning.
    pub base: Option<(u64, String)>,
}

fn refused(text: String) -> io::Error {
    io::Error::other(text)
}

impl Folder {
    /// Reads whose folder it is.
    ///
    /// # Errors
    /// When the disk fails or no node has ever served from the folder.
    pub fn open(disk: Arc<dyn Disk>) -> io::Result<Folder> {
        let identity = founding::load(&*disk)?;
        let identity = identity.ok_or_else(|| refused("no node has served from this data folder yet".into()))?;
        Ok(Folder { disk, identity })
    }

    /// The node whose folder it is.
    pub fn node(&self) -> NodeId {
        self.identity.node
    }

    /// The data groups that have a replica here.
    pub fn groups(&self) -> Vec<GroupId> {
        let topology = &self.identity.topology;
        let here = |group: &GroupId| topology.replica_on(*group, self.identity.node).is_some();
        topology.groups.keys().copied().filter(|group| *group != META).filter(here).collect()
    }

    /// The nodes that hold a replica of a group, and their addresses for peers.
    pub fn holders(&self, group: GroupId) -> Vec<(NodeId, String)> {
        let topology = &self.identity.topology;
        topology.members(group).into_values().map(|member| (NodeId(member.node), member.addr)).collect()
    }

    /// Looks at a group's log.
    ///
    /// # Errors
    /// When the group has no replica here, the disk fails or its records are damaged.
    pub fn log(&self, group: GroupId) -> io::Result<GroupLog> {
        let topology = &self.identity.topology;
        let known = topology.groups.get(&group).filter(|_| topology.replica_on(group, self.identity.node).is_some());
        let known = known.ok_or_else(|| {
            let here: Vec<String> = self.groups().iter().map(|group| group.0.to_string()).collect();
            refused(format!("{group} has no replica in this folder; there are 0 (meta), {}", here.join(", ")))
        })?;
        let records = self.disk.load(group)?;
        let index = |bytes: Option<Vec<u8>>| {
            bytes.map(|bytes| codec::read::<LogIdRecord>(&bytes, "mark").map(|(id, _)| id.index)).transpose()
        };
        let purged = index(records.purged).map_err(io::Error::other)?;
        let committed = index(records.committed).map_err(io::Error::other)?.unwrap_or(0);
        let first = self.disk.read(group, purged.map_or(0, |purged| purged + 1), u64::MAX, 0)?;
        let range = first.first().map(|(first, _)| *first).zip(records.last.map(|(last, _)| last));
        let mut snapshots: Vec<_> = self.disk.snapshots(group)?.into_iter().map(snapshot::with_index).collect();
        snapshots.sort();
        // The only voter has nobody to wait for.
        let alone = known.replicas.len() == 1;
        let covered = snapshots.last().map_or(0, |(index, _)| *index);
        Ok(GroupLog {
            group,
            purged,
            range,
            committed: if alone { range.map_or(covered, |(_, last)| last) } else { committed.max(covered) },
            disk: self.disk.clone(),
            seed: EngineSeed { hash_seed: known.hash_seed, databases: topology.databases },
            slots: known.born_with.clone(),
            whole: topology.groups.len() == 2,
            skips: Skips::load(&*self.disk, group)?,
            snapshots,
        })
    }
}

/// Takes the index of an entry, what it did, and what it told.
pub type Visit<'a> = &'a mut dyn FnMut(u64, Vec<Effect>, Vec<Event>) -> io::Result<()>;

impl GroupLog {
    /// Shows the entries from an index up to and including another.
    ///
    /// # Errors
    /// When the disk fails, or those of `visit`. An entry that cannot be read is shown as such.
    pub fn entries(&self, from: u64, to: u64, visit: &mut dyn FnMut(Logged) -> io::Result<()>) -> io::Result<()> {
        let mut next = from.max(self.purged.map_or(0, |purged| purged + 1));
        while next <= to {
            let piece = self.disk.read(self.group, next, to.saturating_add(1), READ_BYTES)?;
            let Some((last, _)) = piece.last() else { break };
            next = last + 1;
            for (index, bytes) in piece {
                let entry = record::decode_entry(index, &bytes);
                let reason = |id| self.skips.reason(id).map(str::to_string);
                let skipped = entry.as_ref().ok().and_then(|entry| reason(&entry.log_id));
                visit(Logged { index, record: entry.map(|entry| (entry.log_id.into(), entry.payload)), skipped })?;
            }
        }
        Ok(())
    }

    /// Finds out from where to where effects can be told. Without `from` it is as far back as the folder
    /// allows, without `to` up to the last entry that is known to be committed.
    ///
    /// # Errors
    /// When the state that the entries met is not in the folder any more.
    pub fn plan(&self, from: Option<u64>, to: Option<u64>) -> io::Result<Plan> {
        let (first, last) = self.range.unwrap_or_else(|| {
            let end = self.purged.unwrap_or(0);
            (end + 1, end)
        });
        let to = to.unwrap_or(self.committed).min(last);
        // A snapshot that the log does not reach back to is no beginning.
        let mut bases = self.snapshots.iter().filter(|(index, _)| index + 1 >= first);
        if self.purged.is_none() && from.is_none_or(|from| bases.clone().all(|(index, _)| *index >= from)) {
            return Ok(Plan { from: from.unwrap_or(first), to, base: None });
        }
        let base = match from {
            None => bases.next(),
            Some(from) => bases.clone().rfind(|(index, _)| *index < from),
        };
        match base {
            Some(base) => Ok(Plan { from: from.unwrap_or(base.0 + 1), to, base: Some(base.clone()) }),
            None => Err(refused(match bases.next() {
                Some((index, _)) => format!(
                    "{}: entries were purged up to {}, and the state behind them is not kept; effects can be told \
                     from index {} on, where the oldest snapshot ends",
                    self.group,
                    first.saturating_sub(1),
                    index + 1
                ),
                None => format!("{}: there is no snapshot that the log begins at; the folder is damaged", self.group),
            })),
        }
    }

    /// The last entry; of an empty log the last one that was purged.
    pub(crate) fn last(&self) -> Option<u64> {
        self.range.map(|(_, last)| last).or(self.purged)
    }

    /// The index at which the newest snapshot stands.
    pub(crate) fn covered(&self) -> u64 {
        self.snapshots.last().map_or(0, |(index, _)| *index)
    }

    /// Shows what each entry of a plan did and told; gives the state behind them. Entries that did nothing are not
    /// shown.
    ///
    /// # Errors
    /// When the disk fails, an entry cannot be applied, or those of `visit`.
    pub fn replay(&self, plan: &Plan, visit: Visit<'_>) -> io::Result<Engine> {
        let (mut engine, next) = match &plan.base {
            None => (Engine::new(self.seed).owning(&self.slots), 0),
            Some((index, name)) => (snapshot::load(&*self.disk, self.group, name)?.engine, index + 1),
        };
        let mut told = false;
        self.entries(next, plan.to, &mut |entry| {
            if entry.index >= plan.from && !std::mem::replace(&mut told, true) {
                engine.keep_effects(self.whole);
            }
            let (_, payload) = entry.record?;
            match payload {
                Payload::Normal(body) if entry.skipped.is_none() => engine
                    .apply_entry(entry.index, &body.0, &mut |_, _, _| {})
                    .map_err(|e| refused(format!("{}, index {}: {e}", self.group, entry.index)))?,
                Payload::Normal(_) | Payload::Blank | Payload::Membership(_) => engine.note_index(entry.index),
            }
            let (effects, events) = (engine.take_effects(), engine.take_events());
            let nothing = entry.index < plan.from || effects.is_empty() && events.is_empty();
            if nothing { Ok(()) } else { visit(entry.index, effects, events) }
        })?;
        Ok(engine)
    }

    /// Gives the entry that an operator wants to pass over, and its id.
    ///
    /// # Errors
    /// When passing over it would be wrong or without effect; the text says why.
    pub fn skippable(&self, index: u64) -> io::Result<(LogIdRecord, Payload)> {
        let (group, purged) = (self.group, self.purged.unwrap_or(0));
        if self.purged.is_some() && index <= purged {
            return Err(refused(format!("{group}, index {index} is purged: the log begins behind {purged}")));
        }
        if let Some((covered, name)) = self.snapshots.last().filter(|(covered, _)| index <= *covered) {
            return Err(refused(format!(
                "{group}, index {index} is applied here already: snapshot {name} stands at {covered}"
            )));
        }
        let mut found = None;
        self.entries(index, index, &mut |entry| {
            found = Some(entry);
            Ok(())
        })?;
        let last = self.range.map_or(purged, |(_, last)| last);
        let found = found.ok_or_else(|| refused(format!("{group} has no entry {index}: the log ends at {last}")))?;
        match found.record {
            Ok((id, payload @ Payload::Normal(_))) => Ok((id, payload)),
            Ok((_, Payload::Blank | Payload::Membership(_))) => {
                Err(refused(format!("{group}, index {index} holds no commands; only those can be passed over")))
            }
            Err(e) => Err(refused(format!(
                "{group}, index {index} cannot be read from this disk ({e}); passing over it would make this replica \
                 differ from the others, which have it. Rebuild this replica instead"
            ))),
        }
    }

    /// Records that an entry is passed over when it is applied.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn skip(&mut self, id: LogIdRecord, reason: &str) -> io::Result<()> {
        self.skips.add(&*self.disk, self.group, Skip { id, reason: reason.to_string() })
    }
}
