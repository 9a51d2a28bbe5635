//! Commands that wait for an element: BLPOP and its kin at the leader of their group.
//!
//! A command that waits is tried through the log like any write: an attempt that finds nothing has no effect, and
//! the command stays here until another attempt finds something. All waiting is outside of the state: replicas
//! know nothing of it, and whoever waits at a leader that no longer leads waits anew at the next one.
//!
//! * The first attempt goes into the next entry, once the command is registered here.
//! * When an entry is packed, attempts of those who wait for a key stand right behind a write that may feed it:
//!   nothing comes between a push and the one who waited for it, as in Redis.
//! * Not every feeding can be seen beforehand, so behind every entry the keys that changed are looked at, and
//!   those who wait for them are tried in the next one, as many as there are elements.
//!
//! Invariants:
//! * First come, first served for each key. At most one attempt of a command is on its way.
//! * One that may have taken something is never told that there was nothing, and one whose client left takes
//!   nothing unless the attempt was in the log by then.
//! * Where nobody waits, a write costs one look at an atomic.

mod lines;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use quoris_engine::Engine;
use quoris_engine::command;
use quoris_engine::entry::{CommandMeta, Transaction};
use quoris_resp::{Argv, Reply};
use tokio::sync::mpsc;

use crate::propose::{Operation, Submission};
use crate::types::LogId;
use lines::{Inner, Key, State, Waiter, keys_to_wait_for};

/// Commands that wait in one group at most; a connection has one.
const WAITERS_MAX: usize = 65_536;
/// Bytes of their arguments at most.
const BYTES_MAX: usize = 64 << 20;
/// What a waiting command is told.
#[derive(Debug)]
pub enum Told {
    /// There is nothing yet, it waits; how a read has to be asked again.
    Waits(Option<Argv>),
    /// How it ended.
    Ended(Ended),
}

/// How waiting ended.
#[derive(Debug)]
pub enum Ended {
    /// With this reply; where its write stands.
    Reply(Reply, Option<LogId>),
    /// It was told to stop before there was anything.
    Stopped,
    /// It has taken nothing, and this replica does not lead, or does not serve the key.
    NotLeader,
    /// It may have taken something.
    Unknown,
}

/// Why a command does not wait here; it has taken nothing.
pub enum Refused {
    /// This replica does not lead.
    NotLeader,
    /// It need not or may not wait: this is its reply.
    Answered(Reply),
}

/// An attempt to be packed.
pub struct TryNow {
    /// Whose.
    pub waiter: u64,
    /// The attempt itself.
    pub operation: Operation,
    /// As it goes into the log.
    pub meta: CommandMeta,
}

/// All commands that wait at one replica.
#[derive(Default)]
pub struct Waiters {
    /// False only when there is nothing at all to do here.
    busy: AtomicBool,
    inner: Mutex<Inner>,
    /// The proposer's queue, to wake it. Weak: it ends with those who propose.
    proposer: OnceLock<mpsc::WeakSender<Submission>>,
}

/// One waiting command, as the one who waits holds it. Dropping it is leaving.
pub struct Waiting {
    waiters: Arc<Waiters>,
    id: u64,
    armed: u64,
    told: mpsc::UnboundedReceiver<Told>,
}

impl Waiting {
    /// What happens next; after the end this waits for ever.
    pub async fn next(&mut self) -> Told {
        self.told.recv().await.unwrap_or(Told::Ended(Ended::Unknown))
    }

    /// Waits no longer, but is tried once if it was not; what came of it is still told.
    pub fn stop(&self) {
        self.waiters.leave(self, true);
    }

    /// Certainly nothing has been taken by `now_ms`: the command counts as first sent then. False when that is not
    /// certain now.
    pub fn renew(&self, now_ms: u64) -> bool {
        let mut inner = self.waiters.inner.lock();
        let certain = |w: &&mut Waiter| w.armed == self.armed && w.waits && w.state != State::Tried;
        let Some(waiter) = inner.waiters.get_mut(&self.id).filter(certain) else { return false };
        if let Some(own) = &mut waiter.operation.own {
            own.first_sent_ms = now_ms;
        }
        true
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waiters.leave(self, false);
    }
}

impl Waiters {
    /// From now on the proposer can be woken.
    pub fn connect(&self, proposer: &mpsc::Sender<Submission>) {
        let _ = self.proposer.set(proposer.downgrade());
    }

    /// The proposer shall make an entry. When its queue is full it is about to.
    fn wake(&self) {
        if let Some(proposer) = self.proposer.get().and_then(mpsc::WeakSender::upgrade) {
            let _ = proposer.try_send(Submission::tick());
        }
    }

    /// Registers a command and has it tried. One that comes again, under the same mark, takes its former place.
    ///
    /// # Errors
    /// With the reply, when too many wait.
    pub fn arm(self: &Arc<Waiters>, operation: Operation) -> Result<Waiting, Reply> {
        let waiting = self.register(operation, State::Due)?;
        self.wake();
        Ok(waiting)
    }

    /// Registers a read that found nothing in this state of the engine.
    ///
    /// # Errors
    /// With the reply, when too many wait.
    pub fn arm_read(self: &Arc<Waiters>, mut operation: Operation, engine: &mut Engine) -> Result<Waiting, Reply> {
        let again =
            operation.command.waits.and_then(|row| (row.again)(engine.keyspace(), operation.database, &operation.argv));
        operation.own = None;
        if let Some(again) = &again {
            operation.argv = again.clone();
        }
        let waiting = self.register(operation, State::Idle)?;
        let inner = self.inner.lock();
        if let Some(waiter) = inner.waiters.get(&waiting.id) {
            waiter.keys.iter().for_each(|(database, key)| engine.await_key(*database, key));
            let _ = waiter.told.send(Told::Waits(again));
        }
        drop(inner);
        Ok(waiting)
    }

    fn register(self: &Arc<Waiters>, operation: Operation, state: State) -> Result<Waiting, Reply> {
        // Unbounded in name only: that it waits, and how it ended, is all that is ever said.
        let (told, receiver) = mpsc::unbounded_channel();
        let keys = keys_to_wait_for(&operation);
        let line =
            operation.command.waits.map_or_else(Bytes::new, |row| Bytes::copy_from_slice((row.line)(&operation.argv)));
        let mut inner = self.inner.lock();
        inner.next += 1;
        let armed = inner.next;
        let waits = state == State::Idle;
        let mut waiter = Waiter { armed, operation, keys, line, state, waits, stopped: false, told };
        let before = waiter.mark().and_then(|mark| inner.marks.get(&mark).copied());
        let id = match before {
            Some(id) => {
                let old = inner.remove(id).expect("a mark belongs to a waiter");
                let _ = old.told.send(Told::Ended(Ended::Unknown));
                (waiter.state, waiter.waits) = (old.state, old.waits);
                if old.state == State::Idle {
                    let _ = waiter.told.send(Told::Waits(None));
                }
                id
            }
            None => {
                if inner.waiters.len() >= WAITERS_MAX || inner.bytes >= BYTES_MAX {
                    return Err(Reply::error("ERR too many commands wait for an element"));
                }
                armed
            }
        };
        inner.insert(id, waiter);
        self.busy.store(true, Ordering::Release);
        Ok(Waiting { waiters: self.clone(), id, armed, told: receiver })
    }

    fn leave(&self, waiting: &Waiting, after_a_try: bool) {
        let mut inner = self.inner.lock();
        let Some(waiter) = inner.waiters.get_mut(&waiting.id).filter(|w| w.armed == waiting.armed) else { return };
        waiter.stopped = true;
        if waiter.state == State::Tried || (after_a_try && !waiter.waits) {
            return;
        }
        let was_due = waiter.state == State::Due;
        inner.end(waiting.id, Ended::Stopped);
        drop(inner);
        if was_due {
            // What it was to be tried for may be for somebody else; that is looked at behind the next entry.
            self.wake();
        }
    }

    /// Nobody can be served here any more. Whose attempt is on its way hears what becomes of it.
    pub fn step_down(&self) {
        if !self.busy.load(Ordering::Acquire) {
            return;
        }
        let mut inner = self.inner.lock();
        let ids: Vec<u64> = inner.waiters.iter().filter(|(_, w)| w.state != State::Tried).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| inner.end(id, Ended::NotLeader));
    }

    /// Who waits for a key that this group does not serve any more has to wait elsewhere.
    pub fn send_elsewhere(&self, engine: &Engine) {
        if !self.busy.load(Ordering::Acquire) {
            return;
        }
        let mut inner = self.inner.lock();
        let serves = |w: &Waiter| engine.keyspace().serves_command(w.operation.command, &w.operation.argv);
        let gone = inner.waiters.iter().filter(|(_, w)| w.state != State::Tried && !serves(w));
        let ids: Vec<u64> = gone.map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| inner.end(id, Ended::NotLeader));
    }

    /// Everybody who is to be tried.
    pub fn take_due(&self, now_ms: u64) -> Vec<TryNow> {
        if !self.busy.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut inner = self.inner.lock();
        let due = std::mem::take(&mut inner.due);
        due.into_iter().filter_map(|id| inner.try_now(id, now_ms)).collect()
    }

    /// Who is to be tried right behind a write.
    pub fn behind(&self, operation: &Operation, now_ms: u64) -> Vec<TryNow> {
        if !self.busy.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut inner = self.inner.lock();
        let mut found = Vec::new();
        if !operation.transaction {
            inner.fed_by(operation.command, &operation.argv, operation.database, now_ms, &mut found);
        } else if let Ok(transaction) = Transaction::from_argv(&operation.argv) {
            for argv in &transaction.commands {
                if let Ok(row) = command::lookup(argv) {
                    inner.fed_by(row.command, argv, operation.database, now_ms, &mut found);
                }
            }
        }
        found
    }

    /// An attempt was applied.
    pub fn answered(&self, id: u64, reply: Reply, log_id: LogId, engine: &Engine) {
        let mut inner = self.inner.lock();
        let Some(waiter) = inner.waiters.get_mut(&id) else { return };
        waiter.state = State::Idle;
        if reply == Reply::Elsewhere {
            inner.end(id, Ended::NotLeader);
        } else if !reply.is_null() {
            inner.end(id, Ended::Reply(reply, Some(log_id)));
        } else if waiter.stopped {
            inner.end(id, Ended::Stopped);
        } else if !waiter.waits {
            waiter.waits = true;
            let _ = waiter.told.send(Told::Waits(None));
            let version = |(database, key): &Key| engine.keyspace().version(*database, key);
            let versions = waiter.keys.iter().map(version).collect();
            inner.begun.push((id, versions));
        }
    }

    /// An attempt certainly was not executed, because this replica does not lead.
    pub fn not_executed(&self, id: u64) {
        self.inner.lock().end(id, Ended::NotLeader);
    }

    /// What became of an attempt is not known.
    pub fn lost(&self, id: u64) {
        self.inner.lock().end(id, Ended::Unknown);
    }

    /// Behind an entry: whose keys have something now is to be tried.
    pub fn settle(&self, engine: &mut Engine, now_ms: u64) {
        if !self.busy.load(Ordering::Acquire) {
            return;
        }
        let mut inner = self.inner.lock();
        let changed = engine.take_changed().into_iter().map(|(database, key)| (database, Bytes::from(key)));
        let mut look = std::mem::take(&mut inner.look);
        look.extend(changed);
        for (id, versions) in std::mem::take(&mut inner.begun) {
            let Some(waiter) = inner.waiters.get(&id) else { continue };
            for (key, version) in waiter.keys.iter().zip(versions) {
                engine.await_key(key.0, &key.1);
                if engine.keyspace().version(key.0, &key.1) != version {
                    look.insert(key.clone());
                }
            }
        }
        for key in std::mem::take(&mut inner.left) {
            if !inner.keys.contains_key(&key) {
                engine.forget_key(key.0, &key.1);
            }
        }
        look.iter().for_each(|key| inner.look_at(engine, now_ms, key));
        let is_due = !inner.due.is_empty();
        if inner.waiters.is_empty() {
            inner.due.clear();
            self.busy.store(false, Ordering::Release);
        }
        drop(inner);
        if is_due {
            self.wake();
        }
    }
}

#[cfg(test)]
mod tests;
