//! A disk that forgets what was not flushed.
//!
//! Operations are accepted in order, become durable in that order, several per flush, after a delay from
//! the seed; their callbacks run after that. A crash keeps what is durable and some more from the front
//! of the queue, down to a part of an append: a contract that is weaker than a real write batch's.
//! Operations that need no flush stay in the queue until one that does comes by.
//!
//! Invariants: reading shows what was accepted in this life; the disk outlives its node's crashes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quoris_engine::codec;
use quoris_engine::entry::EntryReader;
use quoris_raft::GroupId;
use quoris_raft::log_size::LogSize;
use quoris_raft::record::{LogIdRecord, decode_entry};
use quoris_raft::seam::{Disk, DiskOp, Done, GroupRecords, SnapshotSink, SnapshotSource};
use quoris_raft::types::Payload;

mod image;

pub use image::GroupLog;
use image::{Change, Image, apply};

use crate::dice::Dice;
use crate::durable::vote_of;
use crate::ledger::{Leader, Ledger};

type SnapshotFiles = BTreeMap<(GroupId, String), Arc<Vec<u8>>>;

struct Queued {
    group: GroupId,
    change: Change,
    done: Option<Done>,
    needs_flush: bool,
}

struct State {
    durable: Image,
    accepted: Image,
    queue: VecDeque<Queued>,
    flushing: bool,
    /// Up to where a group's committed entries have been compared.
    compared: BTreeMap<GroupId, u64>,
    snapshots: SnapshotFiles,
    records: BTreeMap<String, Vec<u8>>,
    flushes: u64,
    counts: DiskCounts,
    dice: Dice,
}

/// What happened to a disk over all lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Operations that crashes took away.
    pub lost: u64,
    /// Snapshot files that were finished.
    pub snapshots: u64,
    /// Purges of a log.
    pub purges: u64,
    /// Cut-off tails of a log.
    pub truncations: u64,
}

/// The disk of one node.
#[derive(Clone)]
pub struct SimDisk {
    node: usize,
    state: Arc<Mutex<State>>,
    ledger: Arc<Ledger>,
}

fn leader_of(index: u64, bytes: &Bytes) -> Option<Leader> {
    decode_entry(index, bytes).ok().map(|e| (e.log_id.leader_id.term, e.log_id.leader_id.node_id))
}

fn clock_of(index: u64, bytes: &Bytes) -> Option<u64> {
    match decode_entry(index, bytes).ok()?.payload {
        Payload::Normal(body) => Some(EntryReader::new(&body.0).ok()?.header().clock_ms),
        _ => None,
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new(node: usize, dice: Dice, ledger: Arc<Ledger>) -> SimDisk {
        let state = State {
            durable: Image::new(),
            accepted: Image::new(),
            queue: VecDeque::new(),
            flushing: false,
            compared: BTreeMap::new(),
            snapshots: SnapshotFiles::new(),
            records: BTreeMap::new(),
            flushes: 0,
            counts: DiskCounts::default(),
            dice,
        };
        SimDisk { node, state: Arc::new(Mutex::new(state)), ledger }
    }

    /// The node is gone: keeps what is durable and, by chance, some of what was on its way.
    /// Says how many operations are lost.
    pub fn crash(&self) -> usize {
        let mut state = self.state.lock();
        let queue = std::mem::take(&mut state.queue);
        let survive = match state.dice.below(3) {
            0 => 0,
            1 => queue.len(),
            _ => state.dice.below(queue.len() as u64 + 1) as usize,
        };
        for queued in queue.iter().take(survive) {
            apply(&mut state.durable, queued.group, &queued.change);
        }
        if let Some(Queued { group, change: Change::Append(entries), .. }) = queue.get(survive) {
            let kept = state.dice.below(entries.len() as u64) as usize;
            apply(&mut state.durable, *group, &Change::Append(entries[..kept].to_vec()));
        }
        state.durable.iter().for_each(|(group, log)| self.ledger.durable(self.node, *group, log));
        let lost = queue.len() - survive;
        state.counts.lost += lost as u64;
        state.accepted = state.durable.clone();
        state.flushing = false;
        state.compared.clear();
        drop(state);
        // Callbacks of lost operations go away unheard, outside of the lock.
        drop(queue);
        lost
    }

    /// What happened so far.
    pub fn counts(&self) -> DiskCounts {
        self.state.lock().counts
    }

    fn enqueue(&self, group: GroupId, change: Change, done: Option<Done>) {
        let mut state = self.state.lock();
        self.check(&state, group, &change);
        apply(&mut state.accepted, group, &change);
        self.note(&mut state, group, &change);
        let needs_flush = done.is_some() || matches!(change, Change::Append(_) | Change::Vote(_));
        state.queue.push_back(Queued { group, change, done, needs_flush });
        if needs_flush && !state.flushing && tokio::runtime::Handle::try_current().is_ok() {
            state.flushing = true;
            tokio::spawn(flush(self.clone()));
        }
    }

    /// The rules of the seam.
    fn check(&self, state: &State, group: GroupId, change: &Change) {
        let log = state.accepted.get(&group);
        let who = format!("{group} on node {}", self.node);
        match change {
            Change::Append(entries) => {
                let last = log.and_then(|l| l.entries.keys().last().copied());
                let purged = log.and_then(|l| l.purged.as_ref()).map(|(index, _)| *index);
                let mut next = last.max(purged).map_or(0, |index| index + 1);
                let clocks =
                    log.and_then(|l| l.entries.iter().rev().find_map(|(index, bytes)| clock_of(*index, bytes)));
                let mut clock = clocks.unwrap_or(0);
                for (index, bytes) in entries {
                    let own = clock_of(*index, bytes).unwrap_or(clock);
                    if own < clock {
                        self.ledger.violation(format!("{who}: the clock goes back to {own} at {index}, from {clock}"));
                    }
                    clock = own;
                    if *index != next {
                        self.ledger.violation(format!("{who}: an append at {index} where {next} is next"));
                    }
                    next = index + 1;
                    match leader_of(*index, bytes) {
                        Some(leader) => self.ledger.entry(self.node, group, *index, leader, bytes),
                        None => self.ledger.violation(format!("{who}: the entry at {index} cannot be read")),
                    }
                }
            }
            Change::Vote(new) => {
                let before = log.and_then(|l| l.vote.as_deref()).and_then(vote_of);
                if vote_of(new) < before {
                    self.ledger.violation(format!("{who}: the vote went back from {before:?} to {:?}", vote_of(new)));
                }
                if let Some((leader, true)) = vote_of(new) {
                    self.ledger.elected(group, leader);
                }
            }
            Change::TruncateAfter(keep) => {
                let compared = state.compared.get(&group).copied();
                if compared.is_some_and(|c| keep.is_none_or(|k| k < c)) {
                    self.ledger.violation(format!("{who}: committed up to {compared:?}, but cut off after {keep:?}"));
                }
            }
            Change::Purge(..)
            | Change::Committed(_)
            | Change::Events(_)
            | Change::DropEvents(..)
            | Change::Nothing
            | Change::Remove => {}
        }
    }

    fn note(&self, state: &mut State, group: GroupId, change: &Change) {
        match change {
            Change::Purge(..) => state.counts.purges += 1,
            Change::TruncateAfter(_) => state.counts.truncations += 1,
            Change::Committed(mark) => {
                let Ok((id, _)) = codec::read::<LogIdRecord>(mark, "committed mark") else { return };
                let from = state.compared.get(&group).map_or(0, |c| c + 1);
                let log = state.accepted.entry(group).or_default();
                for (index, bytes) in log.entries.range(from..(id.index + 1).max(from)) {
                    if let Some(leader) = leader_of(*index, bytes) {
                        self.ledger.committed(self.node, group, *index, leader);
                    }
                }
                self.ledger.committed(self.node, group, id.index, (id.term, id.leader));
                self.ledger.relied_on(group, (id.term, id.leader), id.index);
                state.compared.insert(group, id.index);
            }
            _ => {}
        }
    }
}

/// Flushes what is queued until nothing needs it any more; ends with its host.
async fn flush(disk: SimDisk) {
    loop {
        let (count, delay) = {
            let mut state = disk.state.lock();
            if !state.queue.iter().any(|q| q.needs_flush) {
                state.flushing = false;
                return;
            }
            let slow = state.dice.percent(2);
            let delay = if slow { state.dice.between(20_000, 120_000) } else { state.dice.between(200, 4_000) };
            (state.queue.len(), Duration::from_micros(delay))
        };
        tokio::time::sleep(delay).await;
        let flushed: Vec<Queued> = {
            let mut state = disk.state.lock();
            state.flushes += 1;
            let flushed: Vec<Queued> = state.queue.drain(..count).collect();
            for queued in &flushed {
                apply(&mut state.durable, queued.group, &queued.change);
            }
            let groups: BTreeSet<GroupId> = flushed.iter().map(|queued| queued.group).collect();
            for (group, log) in state.durable.iter().filter(|(group, _)| groups.contains(group)) {
                disk.ledger.durable(disk.node, *group, log);
            }
            flushed
        };
        for done in flushed.into_iter().filter_map(|q| q.done) {
            done(Ok(()));
        }
    }
}

impl Disk for SimDisk {
    fn submit(&self, group: GroupId, op: DiskOp, done: Option<Done>) {
        self.enqueue(group, Change::of(op), done);
    }

    fn load(&self, group: GroupId) -> io::Result<GroupRecords> {
        let state = self.state.lock();
        let log = state.accepted.get(&group).cloned().unwrap_or_default();
        let mut size = LogSize::default();
        log.entries.iter().for_each(|(index, bytes)| size.append(*index, bytes.len() as u64));
        Ok(GroupRecords {
            vote: log.vote,
            committed: log.committed,
            purged: log.purged.map(|(_, mark)| mark),
            size,
            last: log.entries.into_iter().next_back(),
        })
    }

    fn read(&self, group: GroupId, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<(u64, Bytes)>> {
        let state = self.state.lock();
        let mut out = Vec::new();
        let mut bytes = 0;
        for (index, entry) in
            state.accepted.get(&group).into_iter().flat_map(|log| log.entries.range(from..to.max(from)))
        {
            bytes += entry.len();
            out.push((*index, entry.clone()));
            if bytes > bytes_max {
                break;
            }
        }
        Ok(out)
    }

    fn events(&self, group: GroupId, after: u64, bytes_max: usize) -> io::Result<Vec<(u64, Bytes)>> {
        let state = self.state.lock();
        let (mut out, mut bytes) = (Vec::new(), 0);
        for (index, events) in state.accepted.get(&group).into_iter().flat_map(|log| log.events.range(after + 1..)) {
            bytes += events.len();
            out.push((*index, events.clone()));
            if bytes > bytes_max {
                break;
            }
        }
        Ok(out)
    }

    fn events_floor(&self, group: GroupId) -> io::Result<Option<u64>> {
        Ok(self.state.lock().accepted.get(&group).and_then(|log| log.events_floor))
    }

    fn remove(&self, group: GroupId, done: Done) {
        self.enqueue(group, Change::Remove, Some(done));
    }

    fn snapshots(&self, group: GroupId) -> io::Result<Vec<String>> {
        Ok(self.state.lock().snapshots.keys().filter(|(g, _)| *g == group).map(|(_, name)| name.clone()).collect())
    }

    fn open_snapshot(&self, group: GroupId, name: &str) -> io::Result<(u64, Box<dyn SnapshotSource>)> {
        let file = self.state.lock().snapshots.get(&(group, name.to_string())).cloned();
        let file = file.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no snapshot {name}")))?;
        Ok((file.len() as u64, Box::new(io::Cursor::new(SharedFile(file)))))
    }

    fn create_snapshot(&self, group: GroupId, name: &str) -> io::Result<Box<dyn SnapshotSink>> {
        Ok(Box::new(Sink { disk: self.clone(), key: (group, name.to_string()), bytes: Vec::new() }))
    }

    fn remove_snapshot(&self, group: GroupId, name: &str) -> io::Result<()> {
        self.state.lock().snapshots.remove(&(group, name.to_string()));
        Ok(())
    }

    fn flushes(&self) -> u64 {
        self.state.lock().flushes
    }

    fn write_record(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.state.lock().records.insert(name.to_string(), bytes.to_vec());
        Ok(())
    }

    fn read_record(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.state.lock().records.get(name).cloned())
    }
}

struct SharedFile(Arc<Vec<u8>>);

impl AsRef<[u8]> for SharedFile {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A snapshot file on its way; a crash takes it away.
struct Sink {
    disk: SimDisk,
    key: (GroupId, String),
    bytes: Vec<u8>,
}

impl SnapshotSink for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.counts.snapshots += 1;
        state.snapshots.insert(self.key, Arc::new(self.bytes));
        Ok(())
    }
}
