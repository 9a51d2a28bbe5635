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

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use quoris_engine::Engine;
use quoris_engine::command::{self, Command, key_flag};
use quoris_engine::entry::{Attempt, CommandMeta, SessionId, SessionStamp, Transaction};
use quoris_resp::{Argv, Reply};
use tokio::sync::mpsc;

use crate::propose::{Operation, Submission};
use crate::types::LogId;

/// Commands that wait in one group at most; a connection has one.
const WAITERS_MAX: usize = 65_536;
/// Bytes of their arguments at most.
const BYTES_MAX: usize = 64 << 20;
/// Attempts behind a write of which it cannot be seen how much it brings; the rest follow in the next entry.
const UNSEEN_MAX: usize = 16;

/// A key of a database.
type Key = (u32, Bytes);

/// What a waiting command is told.
#[derive(Debug)]
pub enum Told {
    /// There is nothing yet, it waits.
    Waits,
    /// How it ended.
    Ended(Ended),
}

/// How waiting ended.
#[derive(Debug)]
pub enum Ended {
    /// With this reply.
    Reply(Reply, LogId),
    /// It was told to stop before there was anything.
    Stopped,
    /// It has taken nothing, and this replica does not lead.
    NotLeader,
    /// It may have taken something.
    Unknown,
}

/// Why a command cannot wait here; it has taken nothing.
pub enum Refused {
    /// This replica does not lead.
    NotLeader,
    /// Too many wait; the reply that says so.
    TooMany(Reply),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// To be tried in the next entry.
    Due,
    /// An attempt is on its way.
    Tried,
    /// Nothing was there.
    Idle,
}

struct Waiter {
    /// Which [`Waiting`] it belongs to, when a command was armed more than once.
    armed: u64,
    operation: Operation,
    keys: Vec<Key>,
    state: State,
    /// An attempt has found nothing.
    waits: bool,
    /// Nobody wants to wait any longer: the attempt that is on its way is the last.
    stopped: bool,
    told: mpsc::UnboundedSender<Told>,
}

impl Waiter {
    fn mark(&self) -> Option<(SessionId, u64)> {
        self.operation.own.map(|own| (own.session, own.sequence))
    }

    fn chapter(&self) -> &'static str {
        self.operation.command.group.name()
    }
}

#[derive(Default)]
struct Inner {
    /// By arrival.
    waiters: BTreeMap<u64, Waiter>,
    next: u64,
    /// Who waits for a key, by the chapter of the command: its type, as it were.
    keys: BTreeMap<Key, BTreeMap<&'static str, BTreeSet<u64>>>,
    marks: BTreeMap<(SessionId, u64), u64>,
    bytes: usize,
    /// May hold some that are gone or tried meanwhile.
    due: VecDeque<u64>,
    /// They wait since the entry that is being applied; their keys' versions at that point of it.
    begun: Vec<(u64, Vec<u64>)>,
    /// Somebody left who may have been about to take from these.
    look: BTreeSet<Key>,
    /// Nobody may wait for these any more.
    left: Vec<Key>,
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
        let (told, receiver) = mpsc::unbounded_channel();
        let keys = keys_to_wait_for(&operation);
        let mut inner = self.inner.lock();
        inner.next += 1;
        let armed = inner.next;
        let mut waiter = Waiter { armed, operation, keys, state: State::Due, waits: false, stopped: false, told };
        let before = waiter.mark().and_then(|mark| inner.marks.get(&mark).copied());
        let id = match before {
            Some(id) => {
                let old = inner.remove(id).expect("a mark belongs to a waiter");
                let _ = old.told.send(Told::Ended(Ended::Unknown));
                (waiter.state, waiter.waits) = (old.state, old.waits);
                if old.state == State::Idle {
                    let _ = waiter.told.send(Told::Waits);
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
        drop(inner);
        self.wake();
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
        if !reply.is_null() {
            inner.end(id, Ended::Reply(reply, log_id));
        } else if waiter.stopped {
            inner.end(id, Ended::Stopped);
        } else if !waiter.waits {
            waiter.waits = true;
            let _ = waiter.told.send(Told::Waits);
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
    pub fn settle(&self, engine: &mut Engine) {
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
        look.iter().for_each(|key| inner.make_due(engine, key));
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

impl Inner {
    fn insert(&mut self, id: u64, waiter: Waiter) {
        self.bytes += waiter.operation.argv.frame().len();
        for key in &waiter.keys {
            self.keys.entry(key.clone()).or_default().entry(waiter.chapter()).or_default().insert(id);
        }
        if let Some(mark) = waiter.mark() {
            self.marks.insert(mark, id);
        }
        if waiter.state == State::Due {
            self.due.push_back(id);
        }
        self.waiters.insert(id, waiter);
    }

    fn remove(&mut self, id: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&id)?;
        self.bytes -= waiter.operation.argv.frame().len();
        for key in &waiter.keys {
            let Some(line) = self.keys.get_mut(key) else { continue };
            if let Some(ids) = line.get_mut(waiter.chapter()) {
                ids.remove(&id);
            }
            line.retain(|_, ids| !ids.is_empty());
            if line.is_empty() {
                self.keys.remove(key);
                self.left.push(key.clone());
            }
        }
        if let Some(mark) = waiter.mark() {
            self.marks.remove(&mark);
        }
        Some(waiter)
    }

    fn end(&mut self, id: u64, how: Ended) {
        if let Some(waiter) = self.remove(id) {
            // It may have been meant to take what it did not.
            self.look.extend(waiter.keys.iter().filter(|key| self.keys.contains_key(*key)).cloned());
            let _ = waiter.told.send(Told::Ended(how));
        }
    }

    /// The next attempt, unless one is on its way.
    fn try_now(&mut self, id: u64, now_ms: u64) -> Option<TryNow> {
        let waiter = self.waiters.get_mut(&id).filter(|waiter| waiter.state != State::Tried)?;
        waiter.state = State::Tried;
        let attempt = if waiter.waits { Attempt::Again } else { Attempt::First };
        // Every attempt up to now took nothing, so the window need not reach back further.
        let session = waiter
            .operation
            .own
            .map(|own| if waiter.waits { SessionStamp { first_sent_ms: now_ms, ..own } } else { own });
        let operation = waiter.operation.clone();
        let meta = CommandMeta {
            database: operation.database,
            user: operation.user,
            attempt: Some(attempt),
            session,
            ..CommandMeta::default()
        };
        Some(TryNow { waiter: id, operation, meta })
    }

    /// Those who wait for what a command may bring.
    fn fed_by(&mut self, command: &Command, argv: &Argv, database: u32, now_ms: u64, found: &mut Vec<TryNow>) {
        for key in command.key_uses(argv).unwrap_or_default() {
            let inserts = key.flags.has(key_flag::INSERT);
            if !inserts && !key.flags.has(key_flag::UPDATE) && !key.flags.has(key_flag::OW) {
                continue;
            }
            let most = if inserts { (argv.len() - key.position - 1).max(1) } else { UNSEEN_MAX };
            let Some(line) = argv.slice(key.position).and_then(|key| self.keys.get(&(database, key))) else { continue };
            let idle = |id: &&u64| self.waiters.get(*id).is_some_and(|w| w.state == State::Idle);
            let ids: Vec<u64> = line.values().flat_map(|ids| ids.iter().filter(idle).take(most)).copied().collect();
            found.extend(ids.into_iter().filter_map(|id| self.try_now(id, now_ms)));
        }
    }

    /// As many as a key's value may serve are to be tried.
    fn make_due(&mut self, engine: &Engine, key: &Key) {
        let Some(line) = self.keys.get(key) else { return };
        for ids in line.values() {
            let mut left = None;
            for id in ids {
                let Some(waiter) = self.waiters.get_mut(id).filter(|w| w.state == State::Idle) else { continue };
                let chapter = waiter.operation.command.group;
                let left = left.get_or_insert_with(|| engine.keyspace().serves(key.0, &key.1, chapter));
                if *left == 0 {
                    break;
                }
                *left -= 1;
                waiter.state = State::Due;
                self.due.push_back(*id);
            }
        }
    }
}

/// The keys that a command wants to take from; not those that it puts into.
fn keys_to_wait_for(operation: &Operation) -> Vec<Key> {
    let uses = operation.command.key_uses(&operation.argv).unwrap_or_default();
    let wanted = uses.iter().filter(|key| !key.flags.has(key_flag::INSERT));
    let keys: BTreeSet<Bytes> = wanted.filter_map(|key| operation.argv.slice(key.position)).collect();
    keys.into_iter().map(|key| (operation.database, key)).collect()
}
