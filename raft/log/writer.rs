//! The one writer of a node.
//!
//! Invariants: a batch holds operations in the order of their arrival; a callback runs after the fsync
//! that covers its operation; after an error every callback gets that error, and no flush and no mark
//! of what is durable is ever tried again.
//!
//! A node that has no peers and one group has nothing else to do than to wait for its disk: there the thread that
//! submits an operation writes it, which saves two switches between threads for every entry. Events and the mark of
//! what is committed, for which nobody waits, are written with the next entry.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quoris_raft::seam::{DiskOp, Done};
use quoris_raft::types::GroupId;
use rocksdb::{DB, WriteBatch, WriteOptions};

use crate::durable::Marks;
use crate::operations;
use crate::queue::{Queue, Woken};

/// A batch is closed at about this many bytes; one larger operation still fits.
const BATCH_BYTES: usize = 8 << 20;
/// How often `everysec` flushes.
const SECOND: Duration = Duration::from_secs(1);

/// When the log is flushed, as in Redis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fsync {
    /// Before anything is acknowledged. The default, and the only one that survives a power failure.
    Always,
    /// About once a second: a power failure of a majority loses up to that much of what was acknowledged.
    EverySecond,
    /// When the operating system likes.
    No,
}

enum Job {
    Op(GroupId, DiskOp, Option<Done>),
    Remove(GroupId, Done),
    Stop,
}

/// The handle to the writer thread.
pub struct Writer {
    /// Jobs are taken by who holds the run, so they are written in order.
    queue: Arc<Queue<Job>>,
    run: Arc<Mutex<Run>>,
    /// Whether who submits writes.
    at_once: AtomicBool,
    flushes: Arc<AtomicU64>,
    fail_next: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub fn start(
        db: Arc<DB>,
        fsync: Fsync,
        marks: Marks,
        failed: Box<dyn FnOnce(String) + Send>,
    ) -> io::Result<Writer> {
        let (flushes, fail_next) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let run = Run {
            db,
            fsync,
            marks,
            flushes: flushes.clone(),
            fail_next: fail_next.clone(),
            failed: Some(failed),
            error: None,
            unflushed: false,
            flushed_at: Instant::now(),
            awaited: false,
        };
        let (run, queue) = (Arc::new(Mutex::new(run)), Arc::<Queue<Job>>::default());
        let (of_thread, jobs) = (run.clone(), queue.clone());
        let thread = std::thread::Builder::new().name("quoris-log".into()).spawn(move || serve(&of_thread, &jobs))?;
        let at_once = AtomicBool::new(false);
        Ok(Writer { queue, run, at_once, flushes, fail_next, thread: Some(thread) })
    }

    /// Whether the thread that submits an operation writes it.
    pub fn write_at_once(&self, yes: bool) {
        self.at_once.store(yes, Ordering::Relaxed);
    }

    /// Queues an operation. The queue is bounded by what the groups have in flight.
    pub fn submit(&self, group: GroupId, op: DiskOp, done: Option<Done>) {
        self.send(Job::Op(group, op, done));
    }

    /// Queues the removal of a whole group.
    pub fn remove(&self, group: GroupId, done: Done) {
        self.send(Job::Remove(group, done));
    }

    /// The number of fsyncs so far.
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    /// The next fsync fails, as a disk's would: for tests.
    pub fn fail_next_flush(&self) {
        self.fail_next.store(true, Ordering::SeqCst);
    }

    fn send(&self, job: Job) {
        if matches!(&job, Job::Op(_, DiskOp::Events(_) | DiskOp::Committed(_), None)) {
            self.queue.put(job);
        } else if self.at_once.load(Ordering::Relaxed) && !matches!(job, Job::Stop) {
            self.queue.put(job);
            let news = write_all(&self.run, &self.queue).news;
            if news {
                self.queue.look();
            }
        } else {
            self.queue.push(job);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.send(Job::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Run {
    db: Arc<DB>,
    fsync: Fsync,
    marks: Marks,
    flushes: Arc<AtomicU64>,
    fail_next: Arc<AtomicBool>,
    failed: Option<Box<dyn FnOnce(String) + Send>>,
    /// The first error; nothing is written after it.
    error: Option<String>,
    unflushed: bool,
    flushed_at: Instant,
    /// The thread knows that something will be due.
    awaited: bool,
}

/// What a batch holds, beside its bytes.
#[derive(Default)]
struct Waiting {
    done: Vec<Done>,
    needs_flush: bool,
    stop: bool,
}

/// What came of writing.
struct Written {
    /// Something will be due of which the thread does not know.
    news: bool,
    stop: bool,
}

/// Writes what is queued, in batches.
fn write_all(run: &Mutex<Run>, queue: &Queue<Job>) -> Written {
    loop {
        let mut writing = run.lock();
        let (waiting, result, is_full) = writing.batch(queue);
        if waiting.stop {
            writing.finish();
        }
        let news = writing.is_news();
        drop(writing);
        for done in waiting.done {
            done(result.clone().map_err(io::Error::other));
        }
        if waiting.stop || !is_full {
            return Written { news, stop: waiting.stop };
        }
    }
}

/// The thread: writes what is queued, and does what is due.
fn serve(run: &Mutex<Run>, queue: &Queue<Job>) {
    loop {
        let due_in = run.lock().wait_for();
        match queue.wait(due_in) {
            Woken::Jobs if write_all(run, queue).stop => return,
            Woken::Jobs => {}
            Woken::Look => {}
            Woken::Due => run.lock().do_due(),
        }
    }
}

impl Run {
    /// Writes what is queued, as far as it fits into one batch; says who waits for it, what came of it, and whether
    /// there may be more.
    fn batch(&mut self, queue: &Queue<Job>) -> (Waiting, Result<(), String>, bool) {
        let (mut batch, mut waiting) = (WriteBatch::default(), Waiting::default());
        let is_full = loop {
            if batch.size_in_bytes() >= BATCH_BYTES || waiting.stop {
                break true;
            }
            let Some(job) = queue.pop() else { break false };
            self.add(job, &mut batch, &mut waiting);
        };
        let is_empty = batch.is_empty() && waiting.done.is_empty();
        let result = if is_empty { Ok(()) } else { self.write(batch, waiting.needs_flush) };
        (waiting, result, is_full)
    }

    /// The last flush.
    fn finish(&mut self) {
        if self.error.is_none() && self.db.flush_wal(true).is_ok() {
            self.marks.flushed(self.db.latest_sequence_number());
            self.marks.write();
        }
    }

    fn flushes_each_second(&self) -> bool {
        self.fsync == Fsync::EverySecond && self.unflushed
    }

    /// How long nothing is due; nothing when nothing will be.
    fn due_in(&self) -> Option<Duration> {
        let flush_in = self.flushes_each_second().then(|| SECOND.saturating_sub(self.flushed_at.elapsed()));
        flush_in.into_iter().chain(self.marks.due_in()).min()
    }

    /// The same, for the thread: it will then know.
    fn wait_for(&mut self) -> Option<Duration> {
        let due_in = self.due_in();
        self.awaited = due_in.is_some();
        due_in
    }

    /// Something will be due, and the thread may not know it; true once until it is done.
    fn is_news(&mut self) -> bool {
        self.due_in().is_some() && !std::mem::replace(&mut self.awaited, true)
    }

    fn do_due(&mut self) {
        self.marks.write();
        if self.flushes_each_second() && self.flushed_at.elapsed() >= SECOND {
            let flushed = self.flush();
            // A failure is latched; every later callback gets it.
            let _ = self.note(flushed);
        }
    }

    fn flush(&self) -> Result<(), String> {
        self.injected().and_then(|()| self.db.flush_wal(true).map_err(|e| e.to_string()))
    }

    /// The failure that a test has asked for.
    fn injected(&self) -> Result<(), String> {
        match self.fail_next.swap(false, Ordering::SeqCst) {
            true => Err("an fsync failed because DEBUG FAIL-FSYNC asked for it".to_string()),
            false => Ok(()),
        }
    }

    fn add(&mut self, job: Job, batch: &mut WriteBatch, waiting: &mut Waiting) {
        match job {
            Job::Stop => waiting.stop = true,
            Job::Remove(group, done) => {
                self.marks.forget(group);
                operations::remove(&self.db, group, batch);
                waiting.needs_flush = true;
                waiting.done.push(done);
            }
            Job::Op(group, op, done) => {
                match &op {
                    DiskOp::Append(entries) => {
                        if let Some((last, _, _)) = entries.last() {
                            self.marks.ends(group, *last);
                        }
                    }
                    DiskOp::TruncateAfter(last) => self.marks.cut(group, last.unwrap_or(0)),
                    DiskOp::Purge(..)
                    | DiskOp::Vote(_)
                    | DiskOp::Committed(_)
                    | DiskOp::Events(_)
                    | DiskOp::DropEvents { .. }
                    | DiskOp::Barrier => {}
                }
                waiting.needs_flush |= operations::add(&self.db, group, op, batch);
                waiting.done.extend(done);
            }
        }
    }

    fn write(&mut self, batch: WriteBatch, needs_flush: bool) -> Result<(), String> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let sync = needs_flush && self.fsync == Fsync::Always;
        let injected = if sync { self.injected() } else { Ok(()) };
        let mut options = WriteOptions::default();
        options.set_sync(sync && injected.is_ok());
        let result = self.db.write_opt(batch, &options).map_err(|e| e.to_string()).and(injected);
        self.unflushed |= !sync;
        if sync {
            self.flushes.fetch_add(1, Ordering::Relaxed);
            if result.is_ok() {
                self.marks.flushed(self.db.latest_sequence_number());
            }
        }
        if self.fsync != Fsync::EverySecond || self.flushed_at.elapsed() < SECOND {
            return self.latch(result);
        }
        let result = result.and_then(|()| self.flush());
        self.note(result)
    }

    /// A flush beside the batches has ended.
    fn note(&mut self, flushed: Result<(), String>) -> Result<(), String> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.unflushed = false;
        self.flushed_at = Instant::now();
        if flushed.is_ok() {
            self.marks.flushed(self.db.latest_sequence_number());
        }
        self.latch(flushed)
    }

    /// Keeps the first error for ever and reports it.
    fn latch(&mut self, result: Result<(), String>) -> Result<(), String> {
        if let Err(e) = &result
            && self.error.is_none()
        {
            let text = format!("writing the log failed: {e}; nothing is acknowledged any more");
            tracing::error!("{text}");
            self.error = Some(text.clone());
            if let Some(failed) = self.failed.take() {
                failed(text);
            }
        }
        result
    }
}
