//! The events that a replica keeps on its disk, for those who come back later.
//!
//! Apply hands over the events of each entry; they go through the one queue of the node without a flush of their
//! own. What a crash takes is applied again, because it stands above the newest snapshot: before a snapshot gets its
//! name everything up to it is durable here. Old events are dropped in pieces when there are too many or they are
//! too old, by the settings of the group, each replica for itself. A replica that got a snapshot lacks what lies
//! before it until the leader has told it.
//!
//! Invariants: everything above [`Retained::floor`] that was applied here can be read here; the floor on disk is
//! never below that; the lock is held while operations are queued, so they stand in the order of the changes.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::feed::{Batch, Floor};
use crate::seam::{Disk, DiskOp};
use crate::types::GroupId;

/// Events are dropped in pieces of about so many bytes, or so much time.
const SEGMENT_BYTES: u64 = 1 << 20;
const SEGMENT_MS: u64 = 60_000;
/// What is read at a time.
pub const PAGE_BYTES: usize = 1 << 20;
/// The clock in front of the events.
const HEAD_BYTES: usize = 8;

/// See the module.
pub struct Retained {
    disk: Arc<dyn Disk>,
    group: GroupId,
    state: Mutex<State>,
    lacks: Notify,
    /// A snapshot passed over what should be kept, and the leader has not told it yet.
    short: AtomicBool,
}

struct State {
    floor: u64,
    segments: VecDeque<Segment>,
    bytes: u64,
}

/// Consecutive batches.
struct Segment {
    first_ms: u64,
    last_ms: u64,
    last: u64,
    bytes: u64,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Everything above this index is there.
    pub floor: u64,
    /// Bytes.
    pub bytes: u64,
}

impl State {
    fn add(&mut self, index: u64, clock_ms: u64, bytes: u64) {
        if self.segments.back().is_some_and(|segment| segment.last >= index) {
            // An entry that is applied again.
            return;
        }
        self.bytes += bytes;
        match self.segments.back_mut() {
            Some(open) if open.bytes < SEGMENT_BYTES && clock_ms < open.first_ms + SEGMENT_MS => {
                (open.last_ms, open.last, open.bytes) = (clock_ms, index, open.bytes + bytes);
            }
            _ => self.segments.push_back(Segment { first_ms: clock_ms, last_ms: clock_ms, last: index, bytes }),
        }
    }
}

/// A batch as it is stored.
fn stored(batch: &Batch) -> Bytes {
    let events = batch.encoded();
    let mut value = BytesMut::with_capacity(HEAD_BYTES + events.len());
    value.put_u64_le(batch.clock_ms);
    value.put_slice(events);
    value.freeze()
}

fn read_stored(group: GroupId, index: u64, value: &Bytes) -> io::Result<Batch> {
    let clock_ms = value.first_chunk().map(|head| u64::from_le_bytes(*head));
    let clock_ms = clock_ms.ok_or_else(|| io::Error::other("stored events without a clock"))?;
    Batch::decode(group, index, clock_ms, value.slice(HEAD_BYTES..)).map_err(io::Error::other)
}

impl Retained {
    /// What a group has on disk; `applied` is where its state stands.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn open(disk: Arc<dyn Disk>, group: GroupId, applied: u64) -> io::Result<Retained> {
        let floor = disk.events_floor(group)?;
        let state = State { floor: floor.unwrap_or(applied), segments: VecDeque::new(), bytes: 0 };
        let (state, short) = (Mutex::new(state), AtomicBool::new(false));
        let retained = Retained { disk, group, state, lacks: Notify::new(), short };
        retained.lacks.notify_one();
        {
            let mut state = retained.state.lock();
            if floor.is_none() {
                retained.drop_upto(&mut state, applied);
            }
            let mut after = state.floor;
            loop {
                let page = retained.disk.events(group, after, PAGE_BYTES)?;
                let Some((last, _)) = page.last() else { break };
                after = *last;
                for (index, value) in &page {
                    let clock_ms = value.first_chunk().map_or(0, |head| u64::from_le_bytes(*head));
                    state.add(*index, clock_ms, value.len() as u64);
                }
            }
        }
        Ok(retained)
    }

    /// Keeps the events of an entry, which is the last one, and drops what is too much.
    pub fn put(&self, batch: &Batch, bytes_max: u64, age_ms_max: u64) {
        let mut state = self.state.lock();
        if bytes_max == 0 {
            return self.drop_upto(&mut state, batch.index);
        }
        let value = stored(batch);
        state.add(batch.index, batch.clock_ms, value.len() as u64);
        self.disk.submit(self.group, DiskOp::Events(vec![(batch.index, value)]), None);
        self.trim(&mut state, bytes_max, age_ms_max, batch.clock_ms);
    }

    /// Drops what is too much or too old.
    pub fn tidy(&self, bytes_max: u64, age_ms_max: u64, now_ms: u64) {
        self.trim(&mut self.state.lock(), bytes_max, age_ms_max, now_ms);
    }

    fn trim(&self, state: &mut State, bytes_max: u64, age_ms_max: u64, now_ms: u64) {
        let mut upto = None;
        while let Some(oldest) = state.segments.front() {
            if state.bytes <= bytes_max && oldest.last_ms.saturating_add(age_ms_max) >= now_ms {
                break;
            }
            upto = Some(oldest.last);
            state.bytes -= oldest.bytes;
            state.segments.pop_front();
        }
        if let Some(upto) = upto {
            self.drop_upto(state, upto);
        }
    }

    fn drop_upto(&self, state: &mut State, upto: u64) {
        state.floor = state.floor.max(upto);
        self.disk.submit(self.group, DiskOp::DropEvents { upto, floor: state.floor }, None);
    }

    /// The state was replaced by one that stands at `index`: nothing of before is here.
    pub fn reset(&self, index: u64) {
        let mut state = self.state.lock();
        *state = State { floor: index, segments: VecDeque::new(), bytes: 0 };
        self.disk.submit(self.group, DiskOp::DropEvents { upto: u64::MAX - 1, floor: index }, None);
        self.short.store(true, Ordering::Release);
        self.lacks.notify_one();
    }

    /// Waits until there may be something missing that the leader has.
    pub async fn lacks(&self) {
        self.lacks.notified().await;
    }

    /// Whether others keep more than this replica.
    pub fn is_short(&self) -> bool {
        self.short.load(Ordering::Acquire)
    }

    /// Nothing is missing that the leader has.
    pub fn filled(&self) {
        self.short.store(false, Ordering::Release);
    }

    /// Something is still missing.
    pub fn ask_again(&self) {
        self.lacks.notify_one();
    }

    /// Puts what the leader still has in front of the rest: everything above `floor` up to `missing`. False when what
    /// is kept no longer begins there.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn backfill(&self, missing: u64, floor: u64, batches: &[Arc<Batch>]) -> io::Result<bool> {
        let values: Vec<(u64, Bytes)> = batches.iter().map(|batch| (batch.index, stored(batch))).collect();
        let sizes: Vec<u64> = values.iter().map(|(_, value)| value.len() as u64).collect();
        {
            let state = self.state.lock();
            if state.floor != missing {
                return Ok(false);
            }
            // Whatever raises the floor from here on takes this along.
            self.disk.submit(self.group, DiskOp::Events(values), None);
        }
        // Whoever reads finds what the floor promises: without this he would get what stands behind it.
        self.settled().await?;
        let mut state = self.state.lock();
        if state.floor != missing {
            return Ok(false);
        }
        let behind = std::mem::take(&mut state.segments);
        (state.floor, state.bytes) = (floor, 0);
        for (batch, bytes) in batches.iter().zip(sizes) {
            state.add(batch.index, batch.clock_ms, bytes);
        }
        state.bytes += behind.iter().map(|segment| segment.bytes).sum::<u64>();
        state.segments.extend(behind);
        self.disk.submit(self.group, DiskOp::DropEvents { upto: floor, floor }, None);
        Ok(true)
    }

    /// Resolves when everything handed over by now is durable.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn settled(&self) -> io::Result<()> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result| drop(tx.send(result)));
        self.disk.submit(self.group, DiskOp::Barrier, Some(done));
        rx.await.map_err(|_| io::Error::other("the disk has stopped"))?
    }

    /// Batches behind `after`, one page at most; empty when there is none. Blocks on the disk. What was handed over a
    /// moment ago may not be there yet.
    ///
    /// # Errors
    /// With the floor when it lies above `after`.
    pub fn read(&self, after: u64) -> io::Result<Result<Vec<Arc<Batch>>, Floor>> {
        if after < self.floor() {
            return Ok(Err(Floor(self.floor())));
        }
        let page = self.disk.events(self.group, after, PAGE_BYTES)?;
        // Dropped while it was read?
        if after < self.floor() {
            return Ok(Err(Floor(self.floor())));
        }
        let batches = page.iter().map(|(index, value)| read_stored(self.group, *index, value).map(Arc::new));
        batches.collect::<io::Result<Vec<_>>>().map(Ok)
    }

    /// Everything above this index can be read.
    pub fn floor(&self) -> u64 {
        self.state.lock().floor
    }

    /// For INFO.
    pub fn figures(&self) -> Figures {
        let state = self.state.lock();
        Figures { floor: state.floor, bytes: state.bytes }
    }
}
