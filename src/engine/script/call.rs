//! What a script can do to the world: redis.call.

use std::cell::Cell;

use quoris_resp::{Argv, Reply};

use super::run::note_read;
use crate::command::{self, Command, DENYOOM, Handler, NOSCRIPT, ReadContext};
use crate::{ApplyContext, CommandResult, Error, Keyspace, Rng, number, outcome, slot};

/// What a script may do.
pub(super) struct Permits {
    /// It must not write.
    pub(super) read_only: bool,
    /// It may use keys of several slots.
    pub(super) cross_slot: bool,
    /// The slot of its keys, as soon as there is one.
    pub(super) slot: Cell<Option<u16>>,
}

/// The keys as a script sees them.
pub(super) enum World<'a> {
    /// At apply.
    Write(&'a mut Keyspace, &'a mut ApplyContext),
    /// On a leader's state, outside the log.
    Read(&'a Keyspace, ReadContext),
}

impl World<'_> {
    /// The group's clock, Unix milliseconds.
    fn now_ms(&self) -> u64 {
        match self {
            World::Write(_, context) => context.now_ms,
            World::Read(_, context) => context.now_ms,
        }
    }

    /// The selected database.
    pub(super) fn database(&mut self) -> &mut u32 {
        match self {
            World::Write(_, context) => &mut context.database,
            World::Read(_, context) => &mut context.database,
        }
    }

    /// What the entry gives for chance.
    pub(super) fn random(&mut self) -> u64 {
        match self {
            World::Write(_, context) => context.rng.next_u64(),
            World::Read(_, context) => context.rng.borrow_mut().next_u64(),
        }
    }

    /// The keys, to look at.
    pub(super) fn keyspace(&self) -> &Keyspace {
        match self {
            World::Write(keyspace, _) => keyspace,
            World::Read(keyspace, _) => keyspace,
        }
    }

    /// Runs a command for a script.
    ///
    /// # Errors
    /// The command's own, and those of what scripts may not do.
    pub(super) fn call(&mut self, argv: &Argv, permits: &Permits) -> CommandResult {
        let found = command::lookup(argv).map_err(|error| match error {
            Error::Arity(_) => Error::text("ERR Wrong number of args calling Redis command from script"),
            _ => Error::text("ERR Unknown Redis command called from script"),
        })?;
        let row = found.command;
        if found.container.is_some_and(|container| container.name == "himport") {
            return Err(Error::text("ERR no such fieldset"));
        }
        if row.name == "debug" {
            return debug(argv);
        }
        if row.flags.has(NOSCRIPT) {
            return Err(not_allowed());
        }
        if row.is_write() && (permits.read_only || matches!(self, World::Read(..))) {
            return Err(Error::text("ERR Write commands are not allowed from read-only scripts."));
        }
        if self.keyspace().slots().is_some() || self.keyspace().is_frozen() {
            self.keep_to_slots(row, argv, permits)?;
        }
        match (row.handler, &mut *self) {
            (Handler::Write(_), World::Write(_, context)) if context.short && row.flags.has(DENYOOM) => {
                Err(Error::text(outcome::OUT_OF_MEMORY))
            }
            (Handler::Write(_), World::Write(keyspace, _)) if keyspace.events().is_full() => {
                Err(Error::text("ERR the script tells more events than a log entry may have"))
            }
            (Handler::Write(write), World::Write(keyspace, context)) => {
                // A script that has written something is not stopped half way, as in Redis.
                context.short = false;
                write(keyspace, context, argv)
            }
            (Handler::Read(read), World::Write(keyspace, context)) => {
                note_read();
                let rng = Rng::new(context.rng.next_u64()).into();
                let context = ReadContext { database: context.database, now_ms: context.now_ms, rng };
                read(keyspace, &context, argv)
            }
            (Handler::Read(read), World::Read(keyspace, context)) => {
                note_read();
                read(keyspace, context, argv)
            }
            _ => self.serve(row, argv),
        }
    }

    /// Where keys are spread over groups, a script may not use those of other groups, nor those of several slots
    /// unless it says so.
    fn keep_to_slots(&self, row: &Command, argv: &Argv, permits: &Permits) -> Result<(), Error> {
        // What is published for another group waits in the outbox.
        let keys = if row.channel.is_some() { Default::default() } else { row.keys(argv)? };
        for at in keys {
            if !self.keyspace().owns(&argv[at]) {
                return Err(Error::text("ERR Script attempted to access a non local key in a cluster node"));
            }
            let slot = slot(&argv[at]);
            let spread = self.keyspace().slots().is_some();
            if spread && !permits.cross_slot && permits.slot.replace(Some(slot)).is_some_and(|other| other != slot) {
                return Err(Error::text("ERR Script attempted to access keys that do not hash to the same slot"));
            }
        }
        Ok(())
    }

    /// The few commands of the server that mean something in a script.
    fn serve(&mut self, row: &Command, argv: &Argv) -> CommandResult {
        match (row.name, argv.len()) {
            ("ping", 1) => Ok(Reply::status("PONG")),
            ("ping" | "echo", 2) => Ok(Reply::bulk(&argv[1])),
            ("time", 1) => {
                let ms = self.now_ms();
                let part = |n: u64| Reply::bulk(n.to_string());
                Ok(Reply::Array(vec![part(ms / 1000), part(ms % 1000 * 1000)]))
            }
            ("select", 2) => {
                let databases = self.keyspace().databases();
                let number = number::integer(&argv[1]).ok_or(Error::NotAnInteger)?;
                let known = u32::try_from(number).ok().filter(|n| *n < databases);
                *self.database() = known.ok_or_else(|| Error::text("ERR DB index is out of range"))?;
                Ok(Reply::Ok)
            }
            _ => Err(not_allowed()),
        }
    }
}

/// DEBUG in a script: what depends on no node and does nothing to it. A script's time stands still, so to sleep is
/// to do nothing.
fn debug(argv: &Argv) -> CommandResult {
    let word =
        |at: usize| argv.get(at).map(|word| String::from_utf8_lossy(word).to_ascii_lowercase()).unwrap_or_default();
    match (&word(1)[..], argv.len()) {
        ("protocol", 3) => crate::debug::reply_of_kind(&word(2)).ok_or(Error::Syntax),
        ("sleep", 3) => Ok(Reply::Ok),
        _ => Err(not_allowed()),
    }
}

fn not_allowed() -> Error {
    Error::text("ERR This Redis command is not allowed from script")
}
