//! Who waits for what, in what order, and who is to be tried.
//!
//! Invariant: a command is in the line of each of its keys, under its arrival, from [`Inner::insert`] to
//! [`Inner::remove`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use quoris_engine::Engine;
use quoris_engine::command::{Command, Group, Waits, key_flag};
use quoris_engine::entry::{Attempt, CommandMeta, SessionId, SessionStamp};
use quoris_resp::Argv;
use tokio::sync::mpsc;

use super::{Ended, Told, TryNow};
use crate::deliver::run_read;
use crate::propose::Operation;

/// Attempts behind a write of which it cannot be seen how much it brings; the rest follow in the next entry.
const UNSEEN_MAX: usize = 16;

/// A key of a database.
pub(super) type Key = (u32, Bytes);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// To be tried in the next entry.
    Due,
    /// An attempt is on its way.
    Tried,
    /// Nothing was there.
    Idle,
}

/// One command.
pub(super) struct Waiter {
    /// Which [`Waiting`] it belongs to, when a command was armed more than once.
    pub(super) armed: u64,
    pub(super) operation: Operation,
    pub(super) keys: Vec<Key>,
    pub(super) line: Bytes,
    pub(super) state: State,
    /// An attempt has found nothing.
    pub(super) waits: bool,
    /// Nobody wants to wait any longer: the attempt that is on its way is the last.
    pub(super) stopped: bool,
    pub(super) told: mpsc::UnboundedSender<Told>,
}

impl Waiter {
    pub(super) fn mark(&self) -> Option<(SessionId, u64)> {
        self.operation.own.map(|own| (own.session, own.sequence))
    }

    pub(super) fn row(&self) -> &'static Waits {
        self.operation.command.waits.expect("only commands that can wait are armed")
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Inner {
    /// By arrival.
    pub(super) waiters: BTreeMap<u64, Waiter>,
    pub(super) next: u64,
    /// Who waits for a key, line by line.
    pub(super) keys: BTreeMap<Key, BTreeMap<Bytes, BTreeSet<u64>>>,
    pub(super) marks: BTreeMap<(SessionId, u64), u64>,
    pub(super) bytes: usize,
    /// May hold some that are gone or tried meanwhile.
    pub(super) due: VecDeque<u64>,
    /// They wait since the entry that is being applied; their keys' versions at that point of it.
    pub(super) begun: Vec<(u64, Vec<u64>)>,
    /// Somebody left who may have been about to take from these.
    pub(super) look: BTreeSet<Key>,
    /// Nobody may wait for these any more.
    pub(super) left: Vec<Key>,
}

impl Inner {
    pub(super) fn insert(&mut self, id: u64, waiter: Waiter) {
        self.bytes += waiter.operation.argv.frame().len();
        for key in &waiter.keys {
            self.keys.entry(key.clone()).or_default().entry(waiter.line.clone()).or_default().insert(id);
        }
        if let Some(mark) = waiter.mark() {
            self.marks.insert(mark, id);
        }
        if waiter.state == State::Due {
            self.due.push_back(id);
        }
        self.waiters.insert(id, waiter);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&id)?;
        self.bytes -= waiter.operation.argv.frame().len();
        for key in &waiter.keys {
            let Some(lines) = self.keys.get_mut(key) else { continue };
            if let Some(ids) = lines.get_mut(&waiter.line) {
                ids.remove(&id);
            }
            lines.retain(|_, ids| !ids.is_empty());
            if lines.is_empty() {
                self.keys.remove(key);
                self.left.push(key.clone());
            }
        }
        if let Some(mark) = waiter.mark() {
            self.marks.remove(&mark);
        }
        Some(waiter)
    }

    pub(super) fn end(&mut self, id: u64, how: Ended) {
        if let Some(waiter) = self.remove(id) {
            // It may have been meant to take what it did not.
            self.look.extend(waiter.keys.iter().filter(|key| self.keys.contains_key(*key)).cloned());
            let _ = waiter.told.send(Told::Ended(how));
        }
    }

    /// The next attempt, unless one is on its way.
    pub(super) fn try_now(&mut self, id: u64, now_ms: u64) -> Option<TryNow> {
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
    pub(super) fn fed_by(
        &mut self,
        command: &Command,
        argv: &Argv,
        database: u32,
        now_ms: u64,
        found: &mut Vec<TryNow>,
    ) {
        for key in command.key_uses(argv).unwrap_or_default() {
            let inserts = key.flags.has(key_flag::INSERT);
            if !inserts && !key.flags.has(key_flag::UPDATE) && !key.flags.has(key_flag::OW) {
                continue;
            }
            let rest = argv.len() - key.position - 1;
            let most = match command.group {
                Group::Stream => 1,
                // Scores and members.
                Group::SortedSet if !key.flags.has(key_flag::OW) => (rest / 2).max(1),
                _ if inserts => rest.max(1),
                _ => UNSEEN_MAX,
            };
            let Some(lines) = argv.slice(key.position).and_then(|key| self.keys.get(&(database, key))) else {
                continue;
            };
            let idle = |id: &&u64| self.waiters.get(*id).is_some_and(|w| w.state == State::Idle && w.operation.write);
            let ids: Vec<u64> = lines.values().flat_map(|ids| ids.iter().filter(idle).take(most)).copied().collect();
            found.extend(ids.into_iter().filter_map(|id| self.try_now(id, now_ms)));
        }
    }

    /// As many as what is at a key may serve are to be tried; reads are run at once.
    pub(super) fn look_at(&mut self, engine: &Engine, now_ms: u64, key: &Key) {
        let Some(lines) = self.keys.get(key) else { return };
        let mut read = Vec::new();
        let is_stream = || engine.keyspace().value(key.0, &key.1).is_some_and(|value| value.type_name() == "stream");
        for ids in lines.values() {
            let mut left = None;
            for id in ids {
                let Some(waiter) = self.waiters.get_mut(id).filter(|w| w.state == State::Idle) else { continue };
                if !waiter.operation.write {
                    let reply = run_read(engine, &waiter.operation, now_ms);
                    // A key that became no stream says nothing yet; with an entry in another comes the error.
                    let says = if reply.is_error() { is_stream() } else { !reply.is_null() };
                    read.extend(says.then_some((*id, reply)));
                    continue;
                }
                let serves = || (waiter.row().serves)(engine.keyspace(), key.0, &key.1, &waiter.operation.argv);
                let left = left.get_or_insert_with(serves);
                if *left == 0 {
                    break;
                }
                *left -= 1;
                waiter.state = State::Due;
                self.due.push_back(*id);
            }
        }
        for (id, reply) in read {
            self.end(id, Ended::Reply(reply, None));
        }
    }
}

/// The keys that a command wants to take from; not those that it puts into.
pub(super) fn keys_to_wait_for(operation: &Operation) -> Vec<Key> {
    let uses = operation.command.key_uses(&operation.argv).unwrap_or_default();
    let wanted = uses.iter().filter(|key| !key.flags.has(key_flag::INSERT));
    let keys: BTreeSet<Bytes> = wanted.filter_map(|key| operation.argv.slice(key.position)).collect();
    keys.into_iter().map(|key| (operation.database, key)).collect()
}
