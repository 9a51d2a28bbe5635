//! A group's log as openraft wants it, over the node's [`Disk`].
//!
//! Step 7. Recent entries stay in memory: openraft reads every entry back once for each follower and
//! once to apply it. The disk is read for followers that lag and after a restart.
//!
//! Invariants:
//! * An entry is readable when `append` returns, before it is durable; it is reported durable only
//!   after the flush.
//! * Vote, entries, truncation, purge and the committed mark go through one queue in the order of the
//!   calls: a committed mark can never be ahead of the log on disk.
//! * An entry leaves memory only when it is durable and applied.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{Stream, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use quoris_engine::codec;

use crate::log_size::LogSize;
use crate::mutant::{self, Mutant};
use crate::record::{self, HEAD_BYTES, LogIdRecord, VoteRecord};
use crate::seam::{Disk, DiskOp};
use crate::types::{Entry, GroupId, LogId, Payload, TypeConfig, Vote};

/// Entries are handed to replication and apply in pieces of at most about this many bytes.
const READ_BYTES_MAX: usize = 4 << 20;
/// Memory for entries that are durable and applied, per group; they serve followers.
const TAIL_BYTES_MAX: u64 = 32 << 20;

/// A group's log. Clones share it.
#[derive(Clone)]
pub struct LogStore {
    shared: Arc<Shared>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    group: GroupId,
    state: Mutex<State>,
    /// The last index that is durable here.
    flushed: Arc<AtomicU64>,
    /// Counts truncations, so that a flush of what was cut off is not taken for one of its successor.
    truncations: Arc<AtomicU64>,
    /// The last index that the state machine has applied.
    applied: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    vote: Option<Vote>,
    committed: Option<LogId>,
    /// The mark goes to disk with the next entries: losing it costs nothing but a little time at a start.
    committed_waits: bool,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// Consecutive entries up to `last`.
    tail: VecDeque<Entry>,
    tail_bytes: Arc<AtomicU64>,
    size: LogSize,
}

fn entry_bytes(entry: &Entry) -> usize {
    HEAD_BYTES
        + match &entry.payload {
            Payload::Normal(body) => body.0.len(),
            Payload::Blank | Payload::Membership(_) => 64,
        }
}

fn read_record<T: serde::de::DeserializeOwned>(bytes: Option<Vec<u8>>, what: &'static str) -> io::Result<Option<T>> {
    bytes.map(|b| codec::read(&b, what).map(|(record, _)| record)).transpose().map_err(io::Error::other)
}

impl LogStore {
    /// Opens a group's log; `applied` is kept up to date by the state machine.
    ///
    /// # Errors
    /// When the disk fails or its records are damaged.
    pub fn open(disk: Arc<dyn Disk>, group: GroupId, applied: Arc<AtomicU64>) -> io::Result<LogStore> {
        let records = disk.load(group)?;
        let vote = read_record::<VoteRecord>(records.vote, "vote")?.map(Into::into);
        let committed = read_record::<LogIdRecord>(records.committed, "committed mark")?.map(Into::into);
        let purged: Option<LogId> = read_record::<LogIdRecord>(records.purged, "purge mark")?.map(Into::into);
        let last = match &records.last {
            Some((index, bytes)) => Some(record::decode_entry(*index, bytes)?.log_id),
            None => purged,
        };
        let flushed = Arc::new(AtomicU64::new(last.map_or(0, |id| id.index)));
        let state = State { vote, committed, purged, last, size: records.size, ..State::default() };
        Ok(LogStore {
            shared: Arc::new(Shared {
                disk,
                group,
                state: Mutex::new(state),
                flushed,
                truncations: Arc::default(),
                applied,
            }),
        })
    }

    /// Bytes of the entries that stay in memory.
    pub fn tail_bytes(&self) -> Arc<AtomicU64> {
        self.shared.state.lock().tail_bytes.clone()
    }

    /// Bytes of the log.
    pub fn log_bytes(&self) -> u64 {
        self.shared.state.lock().size.bytes()
    }

    /// The last index behind which there are still `bytes` of log or a little more; 0 if there is none.
    pub fn index_leaving(&self, bytes: u64) -> u64 {
        self.shared.state.lock().size.index_leaving(bytes)
    }

    /// The last index that is durable here.
    pub fn flushed(&self) -> u64 {
        self.shared.flushed.load(Ordering::Acquire)
    }

    /// The last index that was purged, if any was.
    pub fn purged(&self) -> Option<u64> {
        self.shared.state.lock().purged.map(|id| id.index)
    }

    /// Term and replica id of the last vote that is durable here.
    pub fn vote(&self) -> (u64, u64) {
        self.shared.state.lock().vote.map_or((0, 0), |v| (v.leader_id.term, v.leader_id.node_id))
    }

    fn submit(&self, op: DiskOp) {
        self.shared.disk.submit(self.shared.group, op, None);
    }

    fn submit_committed(&self) {
        let mut state = self.shared.state.lock();
        if !std::mem::take(&mut state.committed_waits) {
            return;
        }
        if let Some(id) = state.committed {
            self.submit(DiskOp::Committed(codec::bytes(&LogIdRecord::from(id))));
        }
    }

    fn remember(&self, entries: &[Entry]) {
        let mut state = self.shared.state.lock();
        for entry in entries {
            let bytes = entry_bytes(entry);
            if let Some(last) = state.tail.back() {
                assert_eq!(entry.log_id.index, last.log_id.index + 1, "gap in appended entries");
            }
            state.tail_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            state.size.append(entry.log_id.index, bytes as u64);
            state.last = Some(entry.log_id);
            state.tail.push_back(entry.clone());
        }
        let settled = self.flushed().min(self.shared.applied.load(Ordering::Acquire));
        while state.tail_bytes.load(Ordering::Relaxed) > TAIL_BYTES_MAX
            && state.tail.front().is_some_and(|e| e.log_id.index <= settled)
        {
            if let Some(entry) = state.tail.pop_front() {
                state.tail_bytes.fetch_sub(entry_bytes(&entry) as u64, Ordering::Relaxed);
            }
        }
    }

    /// Entries of `from..to` from memory, or from disk in front of it; at least one if there is one.
    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        // The disk may still hold what was cut off or purged a moment ago; the state says what counts.
        let (from, to) = {
            let state = self.shared.state.lock();
            (from.max(state.purged.map_or(0, |id| id.index + 1)), to.min(state.last.map_or(0, |id| id.index + 1)))
        };
        let mut out = Vec::new();
        let mut bytes = 0;
        if from >= to {
            return Ok(out);
        }
        let from_memory = |from: u64, out: &mut Vec<Entry>, bytes: &mut usize| {
            let state = self.shared.state.lock();
            let Some(first) = state.tail.front().map(|e| e.log_id.index) else { return Some(u64::MAX) };
            if from < first {
                return Some(first);
            }
            for entry in state.tail.iter().skip((from - first) as usize).take_while(|e| e.log_id.index < to) {
                if *bytes > bytes_max {
                    break;
                }
                *bytes += entry_bytes(entry);
                out.push(entry.clone());
            }
            None
        };
        if let Some(first) = from_memory(from, &mut out, &mut bytes) {
            for (index, record) in self.shared.disk.read(self.shared.group, from, to.min(first), bytes_max)? {
                bytes += record.len();
                out.push(record::decode_entry(index, &record)?);
            }
            // A log may begin behind `from`: then there is nothing on disk in front of `first`.
            let next = out.last().map_or(first, |e| e.log_id.index + 1);
            if next < to && next >= first && bytes <= bytes_max {
                from_memory(next, &mut out, &mut bytes);
            }
        }
        Ok(out)
    }
}

/// A range of indexes as `from..to`.
fn bounds<R: RangeBounds<u64>>(range: &R) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(&n) => n,
        Bound::Excluded(&n) => n + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(&n) => n + 1,
        Bound::Excluded(&n) => n,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        let (mut from, to) = bounds(&range);
        let mut out = Vec::new();
        while from < to {
            let piece = self.read(from, to, READ_BYTES_MAX)?;
            let Some(last) = piece.last() else { break };
            from = last.log_id.index + 1;
            out.extend(piece);
        }
        Ok(out)
    }

    async fn entries_stream<R>(&mut self, range: R) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let store = self.clone();
        let pieces = stream::unfold((store, from, to), |(store, from, to)| async move {
            if from >= to {
                return None;
            }
            match store.read(from, to, READ_BYTES_MAX) {
                Ok(piece) => {
                    let next = piece.last()?.log_id.index + 1;
                    Some((piece.into_iter().map(Ok).collect::<Vec<_>>(), (store, next, to)))
                }
                Err(e) => Some((vec![Err(e)], (store, to, to))),
            }
        });
        Box::pin(futures_util::StreamExt::flat_map(pieces, stream::iter))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_BYTES_MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.state.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.shared.state.lock();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let op = DiskOp::Vote(codec::bytes(&VoteRecord::from(*vote)));
        let done = Box::new(move |result| drop(tx.send(result)));
        if mutant::is(Mutant::VotesBeforeFsync) {
            self.submit(op);
            self.shared.state.lock().vote = Some(*vote);
            return Ok(());
        }
        self.shared.disk.submit(self.shared.group, op, Some(done));
        rx.await.map_err(|_| io::Error::other("the log writer is gone"))??;
        self.shared.state.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(id) = committed {
            let mut state = self.shared.state.lock();
            state.committed = Some(id);
            state.committed_waits = true;
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.state.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let Some(last) = entries.last().map(|e| e.log_id.index) else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        self.remember(&entries);
        self.submit_committed();
        let records = entries.iter().map(|e| {
            let (head, payload) = record::encode_entry(e);
            (e.log_id.index, head, payload)
        });
        let op = DiskOp::Append(records.collect());
        let (flushed, truncations) = (self.shared.flushed.clone(), self.shared.truncations.clone());
        let before = truncations.load(Ordering::Acquire);
        if mutant::is(Mutant::AcknowledgesBeforeFsync) {
            flushed.store(last, Ordering::Release);
            self.submit(op);
            callback.io_completed(Ok(()));
            return Ok(());
        }
        let done = Box::new(move |result: io::Result<()>| {
            if result.is_ok() && truncations.load(Ordering::Acquire) == before {
                flushed.store(last, Ordering::Release);
            }
            callback.io_completed(result);
        });
        self.shared.disk.submit(self.shared.group, op, Some(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let keep = last.map(|id| id.index);
        {
            let mut state = self.shared.state.lock();
            while state.tail.back().is_some_and(|e| keep.is_none_or(|k| e.log_id.index > k)) {
                if let Some(entry) = state.tail.pop_back() {
                    state.tail_bytes.fetch_sub(entry_bytes(&entry) as u64, Ordering::Relaxed);
                }
            }
            state.size.truncate_after(keep);
            if state.last.is_some_and(|l| keep.is_none_or(|k| l.index > k)) {
                state.last = last.or(state.purged);
            }
        }
        self.shared.truncations.fetch_add(1, Ordering::AcqRel);
        let flushed = self.flushed().min(keep.unwrap_or(0));
        self.shared.flushed.store(flushed, Ordering::Release);
        if !mutant::is(Mutant::CutsOffInMemoryOnly) {
            self.submit(DiskOp::TruncateAfter(keep));
        }
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        {
            let mut state = self.shared.state.lock();
            while state.tail.front().is_some_and(|e| e.log_id.index <= upto.index) {
                if let Some(entry) = state.tail.pop_front() {
                    state.tail_bytes.fetch_sub(entry_bytes(&entry) as u64, Ordering::Relaxed);
                }
            }
            state.size.purge(upto.index);
            state.purged = Some(upto);
            if state.last.is_none_or(|last| last.index <= upto.index) {
                state.last = Some(upto);
                state.tail.clear();
                state.tail_bytes.store(0, Ordering::Relaxed);
                state.size = LogSize::default();
            }
        }
        self.submit(DiskOp::Purge(upto.index, codec::bytes(&LogIdRecord::from(upto))));
        Ok(())
    }
}
