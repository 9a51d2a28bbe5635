//! The state of one group, and what a log entry does to it.
//!
//! Step 8 of a command's way. [`Engine::apply_entry`] is a pure function of the state and the entry, and
//! it is total: whatever a client sent becomes a reply. It fails only when the entry itself is of an
//! unknown format or damaged; then the group must stop.
//!
//! An entry first advances the clock, then a bounded number of due keys is removed, then its commands
//! run in order. A command with a session's mark is looked up first and recorded afterwards.
//!
//! Invariants:
//! * Nothing of an entry takes effect unless all of it can be read.
//! * Two engines that were given the same entries have equal digests and byte-equal snapshots, also when
//!   one of them was restored from a snapshot in between.

mod connection;

use std::collections::BTreeSet;

use bytes::Bytes;
use quoris_resp::{Argv, Reply};

use crate::command::{self, ApplyContext, Command, DENYOOM, Handler, ReadContext};
use crate::entry::{
    Attempt, CommandMeta, EntryError, EntryReader, LoggedCommand, MOVES_LEVEL, SessionStamp, Transaction,
};
use crate::events::{Event, Outbox};
use crate::session::{self, Homes, Known, Sessions};
use crate::snapshot::Snapshot;
use crate::verify::{Verified, Verify};
use crate::{Changes, Effect, Error, Garbage, Keyspace, Rng, WARM_MAX, moves, outcome};

/// Due keys that one entry removes at most, so that no command pays for a million deadlines.
pub const REMOVALS_MAX: usize = 256;
/// Keys that one entry frees at most of what FLUSHALL left.
const GARBAGE_MAX: usize = 1024;

/// What a group is made from. All replicas must be given the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineSeed {
    /// Keys the hash function of the keyspace; random, so that clients cannot make keys collide.
    pub hash_seed: [u64; 2],
    /// The number of databases (SELECT).
    pub databases: u32,
}

/// Counts for INFO and the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Keys in all databases, due ones that are not removed yet included.
    pub keys: u64,
    /// Keys with a deadline.
    pub expires: u64,
    /// Bytes of keys and values by our own count, the same on every replica.
    pub memory_bytes: u64,
    /// Keys that were removed because they were due, since the group exists.
    pub expired: u64,
    /// Session windows.
    pub sessions: u64,
    /// Bytes of the session windows.
    pub session_bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Engine {
    pub(crate) keyspace: Keyspace,
    pub(crate) sessions: Sessions,
    pub(crate) applied_index: u64,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) verified: Verified,
}

/// A command of an entry, wholly read.
enum Work {
    One(Argv),
    Transaction(Transaction),
}

impl Work {
    /// The key that is probably the first to be used.
    fn first_key(&self) -> Option<&[u8]> {
        match self {
            Work::One(argv) => argv.get(1),
            Work::Transaction(transaction) => transaction.commands.first()?.get(1),
        }
    }
}

impl Engine {
    /// An empty state.
    pub fn new(seed: EngineSeed) -> Engine {
        let keyspace = Keyspace::new(seed.hash_seed, seed.databases);
        Engine {
            keyspace,
            sessions: Sessions::default(),
            applied_index: 0,
            snapshot: None,
            verified: Verified::default(),
        }
    }

    /// The same state for a group that owns only some slots, given as inclusive ranges: a script there may not use
    /// other keys.
    #[must_use]
    pub fn owning(mut self, slots: &[(u16, u16)]) -> Engine {
        let all = slots == [(0, crate::SLOTS - 1)];
        self.keyspace.set_slots((!all).then(|| slots.into()));
        self
    }

    /// Applies the body of one log entry. `on_reply` gets each command's place in the entry and its reply,
    /// and sees the state right behind the command.
    ///
    /// # Errors
    /// When the format is unknown or the bytes are damaged; nothing has taken effect, and the group must
    /// stop.
    ///
    /// # Panics
    /// When `index` is not above the applied index: entries are applied once and in order.
    pub fn apply_entry(
        &mut self,
        index: u64,
        body: &Bytes,
        on_reply: &mut dyn FnMut(usize, Reply, &mut Engine),
    ) -> Result<(), EntryError> {
        assert!(index > self.applied_index, "entry {index} behind {}", self.applied_index);
        let mut reader = EntryReader::new(body)?;
        let header = *reader.header();
        let mut commands = Vec::new();
        let mut verify = None;
        while let Some(LoggedCommand { meta, argv }) = reader.next_command()? {
            if meta.verify {
                verify = Some(Verify::from_argv(&argv)?);
                continue;
            }
            if header.feature_level < MOVES_LEVEL && moves::is_load(&argv) {
                return Err(EntryError::Outdated);
            }
            let work =
                if meta.transaction { Work::Transaction(Transaction::from_argv(&argv)?) } else { Work::One(argv) };
            commands.push((meta, work));
        }
        self.applied_index = index;
        self.keyspace.events_mut().take();
        self.keyspace.advance(header.clock_ms);
        self.keyspace.remove_due(REMOVALS_MAX);
        self.keyspace.settle_journal();
        self.keyspace.collect_garbage(GARBAGE_MAX);
        let now_ms = self.keyspace.now_ms();
        self.sessions.sweep(now_ms, self.keyspace.settings().session_ttl.unsigned_abs().saturating_mul(1000));
        for (place, (meta, work)) in commands.iter().enumerate() {
            if place % WARM_MAX == 0 && commands.len() > place + 1 {
                self.keyspace.warm(meta.database, commands[place..].iter().filter_map(|(_, work)| work.first_key()));
            }
            let rng = Rng::new(Rng::new(header.seed.wrapping_add(place as u64)).next_u64());
            let waits = meta.attempt == Some(Attempt::Again);
            let mut context = ApplyContext { database: meta.database, index, now_ms, rng, waits, short: meta.short };
            self.keyspace.set_author(meta.session.map(|stamp| stamp.session));
            let reply = match &meta.session {
                Some(stamp) => self.run_once(&mut context, meta, stamp, work),
                None => self.run(&mut context, work),
            };
            on_reply(place, reply, self);
        }
        self.keyspace.set_author(None);
        if let Some(verify) = verify {
            self.verify(index, verify);
        }
        Ok(())
    }

    /// Notes an entry that holds nothing for the engine: a membership change, a leader's blank entry.
    ///
    /// # Panics
    /// When `index` is not above the applied index. A group's first entry, its membership, has index 0.
    pub fn note_index(&mut self, index: u64) {
        assert!(index > self.applied_index || index == 0, "entry {index} behind {}", self.applied_index);
        self.applied_index = index;
    }

    /// Runs a command unless it was executed before.
    fn run_once(&mut self, context: &mut ApplyContext, meta: &CommandMeta, stamp: &SessionStamp, work: &Work) -> Reply {
        match self.sessions.look(stamp, context.now_ms) {
            Known::Refused(_) if self.is_elsewhere(work) => Reply::Elsewhere,
            Known::Answer(reply) | Known::Refused(reply) => {
                crate::script::note_read();
                self.sessions.touch(stamp, context.now_ms);
                reply
            }
            Known::New => {
                let reply = self.run(context, work);
                // What waits on, or belongs elsewhere, has not been answered.
                if reply != Reply::Elsewhere && (meta.attempt.is_none() || !reply.is_null()) {
                    self.sessions.record(homes(work), stamp, context.now_ms, &reply);
                }
                reply
            }
        }
    }

    fn run(&mut self, context: &mut ApplyContext, work: &Work) -> Reply {
        if context.database >= self.keyspace.databases() {
            return Error::text("ERR DB index is out of range").into();
        }
        if self.is_elsewhere(work) {
            return Reply::Elsewhere;
        }
        self.keyspace.set_applying(true);
        let reply = match work {
            Work::One(argv) => self.execute(context, command::logged(argv), argv),
            Work::Transaction(transaction) => self.run_transaction(context, transaction),
        };
        self.keyspace.set_applying(false);
        reply
    }

    /// Whether this group does not serve the slots of a command; then it has no effect.
    fn is_elsewhere(&self, work: &Work) -> bool {
        if !self.keyspace.is_guarded() {
            return false;
        }
        match work {
            Work::One(argv) if argv[0].eq_ignore_ascii_case(moves::NAME.as_bytes()) => false,
            Work::One(_) => !self.keyspace.serves(&homes(work)),
            Work::Transaction(transaction) => !self.keyspace.serves(&moves::slots_of_transaction(transaction)),
        }
    }

    /// EXEC: nothing when a watched key has changed, else every command in turn. An error of one command
    /// does not stop the others, as in Redis.
    fn run_transaction(&mut self, context: &mut ApplyContext, transaction: &Transaction) -> Reply {
        let databases = self.keyspace.databases();
        let changed = transaction.watches.iter().any(|watch| {
            watch.database >= databases || self.keyspace.version(watch.database, &watch.key) != watch.version
        });
        if changed {
            return Reply::NullArray;
        }
        let takes_memory = |argv| command::lookup(argv).is_ok_and(|found| found.command.flags.has(DENYOOM));
        if context.short && transaction.commands.iter().any(takes_memory) {
            return Reply::error(outcome::EXEC_OUT_OF_MEMORY);
        }
        let run = |argv: &Argv| match argv[0].to_ascii_lowercase().as_slice() {
            b"select" => self.select(context, argv).unwrap_or_else(Reply::from),
            b"ping" => connection::pong(argv).unwrap_or_else(Reply::from),
            _ => self.execute(context, command::lookup(argv).map(|found| found.command), argv),
        };
        Reply::Array(transaction.commands.iter().map(run).collect())
    }

    fn execute(&mut self, context: &mut ApplyContext, command: Result<&'static Command, Error>, argv: &Argv) -> Reply {
        let command = match command {
            Ok(command) => command,
            Err(error) => return error.into(),
        };
        if context.short && command.flags.has(DENYOOM) {
            return Reply::error(outcome::OUT_OF_MEMORY);
        }
        let result = match command.handler {
            Handler::Write(write) => {
                let result = write(&mut self.keyspace, context, argv);
                self.keyspace.settle_journal();
                result
            }
            Handler::Read(read) => {
                let rng = Rng::new(context.rng.next_u64());
                let context = ReadContext { database: context.database, now_ms: context.now_ms, rng: rng.into() };
                read(&self.keyspace, &context, argv)
            }
            Handler::Server if command.name == moves::COMMAND.name => self.move_slots(context, argv),
            Handler::Server | Handler::Container => {
                let name = String::from_utf8_lossy(&argv[0]).to_lowercase();
                Err(Error::text(format!("ERR '{name}' cannot run in the log or inside a transaction")))
            }
        };
        result.unwrap_or_else(Reply::from)
    }

    /// Runs a read command outside the log. The arity must have been checked.
    pub fn read(&self, command: &'static Command, context: &ReadContext, argv: &Argv) -> Reply {
        if context.database >= self.keyspace.databases() {
            return Error::text("ERR DB index is out of range").into();
        }
        if !self.keyspace.serves_command(command, argv) {
            return Reply::Elsewhere;
        }
        match command.handler {
            Handler::Read(read) => read(&self.keyspace, context, argv).unwrap_or_else(Reply::from),
            Handler::Write(_) | Handler::Server | Handler::Container => Reply::error("ERR not a read command"),
        }
    }

    /// From now on notes what entries do, for [`Engine::take_effects`]. With `whole` this group owns all
    /// slots, and a database that is emptied or exchanged is one effect instead of one for each key.
    pub fn keep_effects(&mut self, whole: bool) {
        self.keyspace.keep_journal(whole);
    }

    /// What entries did since the last time, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        self.keyspace.take_effects()
    }

    /// What the last entry told, in order: the n-th event, counted from 1, stands at `<group>:<index>-<n>`.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.keyspace.take_events()
    }

    /// What was published for channels of other groups and waits for the leader to hand it to them.
    pub fn outbox(&self) -> &Outbox {
        self.keyspace.outbox()
    }

    /// Somebody waits for a key: from now on [`Engine::take_changed`] names it when it may have changed. Which keys
    /// are waited for is no part of the state.
    pub fn await_key(&mut self, database: u32, key: &[u8]) {
        self.keyspace.await_key(database, key);
    }

    /// Nobody waits for a key any more.
    pub fn forget_key(&mut self, database: u32, key: &[u8]) {
        self.keyspace.forget_key(database, key);
    }

    /// The keys that are waited for and may have changed since the last time.
    pub fn take_changed(&mut self) -> BTreeSet<(u32, Vec<u8>)> {
        self.keyspace.take_changed()
    }

    /// Whether from now on [`Engine::take_changes`] is to know what changes. This is no part of the state.
    pub fn note_changes(&mut self, wanted: bool) {
        self.keyspace.note_changes(wanted);
    }

    /// What has changed since the last time, if anything has: behind each command, what it changed.
    pub fn take_changes(&mut self) -> Option<Changes> {
        self.keyspace.take_changes()
    }

    /// The keys.
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// Index of the last entry that was applied or noted.
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// The applied clock, Unix milliseconds.
    pub fn clock_ms(&self) -> u64 {
        self.keyspace.now_ms()
    }

    /// A hash of all that apply can see. Equal on replicas at the same index.
    pub fn digest(&mut self) -> u64 {
        let (keys, sessions) = (self.keyspace.digest(), self.sessions.digest());
        xxhash_rust::xxh3::xxh3_64_with_seed(&keys.to_le_bytes(), sessions)
    }

    /// Counts for INFO and the metrics.
    pub fn stats(&self) -> Stats {
        let databases = 0..self.keyspace.databases();
        Stats {
            keys: databases.clone().map(|d| self.keyspace.len(d)).sum(),
            expires: databases.map(|d| self.keyspace.expires_len(d)).sum(),
            memory_bytes: self.keyspace.memory_bytes(),
            expired: self.keyspace.expired(),
            sessions: self.sessions.len() as u64,
            session_bytes: self.sessions.bytes(),
        }
    }

    /// Hands over what takes time to free, to be dropped on another thread: what FLUSHALL left, large values that are
    /// gone, keys that came of slots and are not wanted. Without this the next entries free it bit by bit.
    pub fn take_garbage(&mut self) -> Option<Garbage> {
        self.keyspace.take_garbage()
    }
}

/// The slots that a command is recorded in.
fn homes(work: &Work) -> Homes {
    let one = std::slice::from_ref;
    let commands = match work {
        Work::One(argv) => one(argv),
        Work::Transaction(transaction) => &transaction.commands,
    };
    session::homes(commands.iter().flat_map(|argv| {
        let found = command::lookup(argv);
        found.map(|found| moves::slots_of(found.command, argv)).unwrap_or_default()
    }))
}

#[cfg(test)]
mod tests;
