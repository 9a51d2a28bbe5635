//! The one writer of a node.
//!
//! Invariants: a batch holds operations in the order of their arrival; a callback runs after the fsync
//! that covers its operation; after an error every callback gets that error, and no flush and no mark
//! of what is durable is ever tried again.
//!
//! A node that has no peers and one group has nothing else to do than to wait for its disk: there the thread that
//! submits an operation writes it, which saves two switches between threads for every entry.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quoris_raft::seam::{DiskOp, Done};
use quoris_raft::types::GroupId;
use rocksdb::{DB, WriteBatch, WriteOptions};

use crate::durable::Marks;
use crate::operations;

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
    /// Something is due soon.
    Look,
    Stop,
}

/// The handle to the writer thread.
pub struct Writer {
    queue: Mutex<Sender<Job>>,
    /// Jobs that were queued and are not done.
    queued: Arc<AtomicUsize>,
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
        let (queue, jobs) = channel();
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
        let (run, queued) = (Arc::new(Mutex::new(run)), Arc::<AtomicUsize>::default());
        let (of_thread, done) = (run.clone(), queued.clone());
        let thread =
            std::thread::Builder::new().name("quoris-log".into()).spawn(move || serve(&of_thread, &done, &jobs))?;
        let at_once = AtomicBool::new(false);
        Ok(Writer { queue: Mutex::new(queue), queued, run, at_once, flushes, fail_next, thread: Some(thread) })
    }

    /// Whether the thread that submits an operation writes it, when nothing is queued.
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
        if self.at_once.load(Ordering::Relaxed) && !matches!(job, Job::Stop) {
            let mut run = self.run.lock();
            // What this thread queued before comes first.
            if self.queued.load(Ordering::Acquire) == 0 {
                let ended = run.batch(job, || None);
                let news = run.is_news();
                drop(run);
                if news {
                    let _ = self.queue.lock().send(Job::Look);
                }
                return ended.tell();
            }
        }
        self.queued.fetch_add(1, Ordering::AcqRel);
        if let Err(e) = self.queue.lock().send(job)
            && let Job::Op(_, _, Some(done)) | Job::Remove(_, done) = e.0
        {
            done(Err(io::Error::other("the log writer has stopped")));
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

/// A written batch.
struct Ended {
    waiting: Waiting,
    jobs: usize,
    result: Result<(), String>,
}

impl Ended {
    fn tell(self) {
        for done in self.waiting.done {
            done(self.result.clone().map_err(io::Error::other));
        }
    }
}

/// The thread: writes what is queued, and does what is due.
fn serve(run: &Mutex<Run>, queued: &AtomicUsize, jobs: &Receiver<Job>) {
    loop {
        let due_in = run.lock().wait_for();
        let first = match due_in.map_or_else(|| jobs.recv().map_err(Into::into), |left| jobs.recv_timeout(left)) {
            Ok(Job::Look) => continue,
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                run.lock().do_due();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let mut writing = run.lock();
        let ended = writing.batch(first, || jobs.try_recv().ok());
        queued.fetch_sub(ended.jobs, Ordering::AcqRel);
        let stop = ended.waiting.stop;
        if stop {
            writing.finish();
        }
        drop(writing);
        ended.tell();
        if stop {
            return;
        }
    }
}

impl Run {
    /// Writes a job, and those that wait behind it.
    fn batch(&mut self, first: Job, mut next: impl FnMut() -> Option<Job>) -> Ended {
        let (mut batch, mut waiting, mut jobs) = (WriteBatch::default(), Waiting::default(), 0);
        let mut job = Some(first);
        while let Some(this) = job {
            jobs += usize::from(!matches!(this, Job::Look));
            self.add(this, &mut batch, &mut waiting);
            job = if batch.size_in_bytes() < BATCH_BYTES && !waiting.stop { next() } else { None };
        }
        let result = self.write(batch, waiting.needs_flush);
        Ended { waiting, jobs, result }
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
            Job::Look => {}
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
