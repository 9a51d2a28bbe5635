//! The body of a log entry: a header and a batch of commands.
//!
//! The format is described byte by byte in `src/docs/formats.md`; its first byte is a version, so that
//! it can change. The proposer packs everything that waits into one entry and stamps it with the
//! group's clock and a random seed; apply reads both and nothing else of the world.
//!
//! Invariants:
//! * Argument bytes are copied once, into the entry, and sliced from then on.
//! * A replica that meets a version it does not know stops; it never skips.
//! * A body that was built here always parses; one that does not is corruption, not input.

use bytes::Bytes;
use quoris_resp::Argv;
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::moves;

/// The format that this code writes.
pub const FORMAT: u8 = 1;
/// The feature level that this code understands; behaviour of apply changes only with it.
pub const FEATURE_LEVEL: u16 = 2;
/// The level of entries with nothing in them that a later one brought.
const FIRST_LEVEL: u16 = 1;
/// That of entries with steps of a move: parts of values came with it.
pub(crate) const MOVES_LEVEL: u16 = 2;

/// Longer bodies give back what they have not used, in bytes.
const SHRINK_BYTES: usize = 16 << 10;
/// Encoded size of [`Header`], in bytes.
const HEADER_BYTES: usize = 1 + 2 + 8 + 8 + 4;

/// What stands in front of the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the format, [`FORMAT`].
    pub format: u8,
    /// The feature level that the writer of the entry assumed.
    pub feature_level: u16,
    /// The group's clock, Unix milliseconds; never decreases along the log.
    pub clock_ms: u64,
    /// Seed for everything random that the commands do.
    pub seed: u64,
    /// The number of commands that follow.
    pub commands: u32,
}

/// Bits of the flags in a command's header.
pub mod flags {
    /// A [`super::SessionStamp`] follows: the reply is kept in the session's window.
    pub const SESSION: u8 = 1;
    /// Of the same session as the command in front of it, and the next in it; no stamp follows.
    pub const NEXT: u8 = 4;
    /// The argv is a transaction, see [`crate::entry::Transaction`].
    pub const TRANSACTION: u8 = 2;
    /// The argv is the group's own, see [`crate::Verify`].
    pub const VERIFY: u8 = 8;
    /// An attempt of a command that waits: that it found nothing is not recorded in its session.
    pub const ATTEMPT: u8 = 16;
    /// Not the first attempt.
    pub const AGAIN: u8 = 32;
    /// Memory was short when it was proposed: see [`crate::ApplyContext::short`].
    pub const SHORT: u8 = 64;
    /// All of them.
    pub const ALL: u8 = SESSION | NEXT | TRANSACTION | VERIFY | ATTEMPT | AGAIN | SHORT;
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct CommandHeader {
    flags: u8,
    database: u32,
    /// Number of the user in the group's table; 0 is the default user.
    user: u32,
    argv_bytes: u32,
}

/// Who sent a command for the how-manieth time: the key of exactly-once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId {
    /// The boot id of the node or proxy that forwards, which is odd; half of a client's own id, which is even.
    pub origin: u64,
    /// The connection's number there; the other half.
    pub connection: u64,
}

impl SessionId {
    /// A client's own session, from random bits; it is never that of a node's connection.
    pub fn of_client(bits: [u64; 2]) -> SessionId {
        SessionId { origin: bits[0] & !1, connection: bits[1] }
    }

    /// That in which a group publishes what waits in its outbox.
    pub fn of_group(group: u32) -> SessionId {
        SessionId { origin: u64::from(group) << 1 | 1, connection: group.into() }
    }

    /// Whether a group holds it; that of the cluster itself publishes nothing. No node's boot id is that small.
    pub fn is_groups(&self) -> bool {
        u32::try_from(self.connection).is_ok_and(|group| group > 0 && *self == SessionId::of_group(group))
    }

    /// Whether a client holds it.
    pub fn is_clients_own(&self) -> bool {
        self.origin & 1 == 0
    }
}

/// A session's mark on one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStamp {
    /// The session.
    pub session: SessionId,
    /// The command's number in the session, from 1 on.
    pub sequence: u64,
    /// Replies below this number have arrived and need not be kept.
    pub acknowledged_below: u64,
    /// When the command was sent first, in the group's clock.
    pub first_sent_ms: u64,
}

impl SessionStamp {
    /// The stamp of the command behind this one, when they were sent together.
    fn next(self) -> SessionStamp {
        SessionStamp { sequence: self.sequence.wrapping_add(1), ..self }
    }
}

/// What goes into the log of one command, beside its argv.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandMeta {
    /// The numbered database that was selected.
    pub database: u32,
    /// Number of the user; 0 is the default user.
    pub user: u32,
    /// Whether argv is a [`Transaction`].
    pub transaction: bool,
    /// Whether argv is a [`crate::Verify`], which gets no reply.
    pub verify: bool,
    /// Set for one of several attempts of a command that waits until it finds something.
    pub attempt: Option<Attempt>,
    /// Whether memory was short: commands that take some are refused.
    pub short: bool,
    /// The session, when the reply must be kept.
    pub session: Option<SessionStamp>,
}

/// An attempt of a command that waits. One that finds nothing has no effect and is not recorded in the session,
/// so another may follow under the same mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The command is refused when a key holds another type than it wants.
    First,
    /// The command waits already, and waits on for a key of the right type.
    Again,
}

/// One command of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedCommand {
    /// Database, user, session.
    pub meta: CommandMeta,
    /// The arguments, a slice of the entry.
    pub argv: Argv,
}

/// The body cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Written by a newer version: this node must be upgraded before it can go on.
    #[error(
        "entry of format {format}, feature level {feature_level}; this program understands up to {FORMAT} and {FEATURE_LEVEL}: upgrade this node"
    )]
    Unknown {
        /// The entry's format.
        format: u8,
        /// The entry's feature level.
        feature_level: u16,
    },
    /// Written by an older version, in a way that is not known any more.
    #[error(
        "keys of moving slots as a version before feature level {MOVES_LEVEL} sent them: let the replicas take a \
         snapshot (BGSAVE) with that version first"
    )]
    Outdated,
    /// The bytes are damaged.
    #[error("malformed entry: {0}")]
    Malformed(String),
}

impl From<CodecError> for EntryError {
    fn from(e: CodecError) -> EntryError {
        EntryError::Malformed(e.to_string())
    }
}

/// Packs commands into a body.
#[derive(Debug)]
pub struct EntryBuilder {
    body: Vec<u8>,
    commands: u32,
    level: u16,
    /// Of the command in front.
    session: Option<SessionStamp>,
}

impl Default for EntryBuilder {
    fn default() -> EntryBuilder {
        EntryBuilder { body: vec![0; HEADER_BYTES], commands: 0, level: FIRST_LEVEL, session: None }
    }
}

impl EntryBuilder {
    /// Adds a command; its argument bytes are copied here, once.
    pub fn push(&mut self, meta: &CommandMeta, argv: &Argv) {
        let mut bits = match meta.session {
            None => 0,
            next if next == self.session.map(SessionStamp::next) => flags::NEXT,
            Some(_) => flags::SESSION,
        };
        self.session = meta.session;
        if meta.transaction {
            bits |= flags::TRANSACTION;
        }
        if meta.verify {
            bits |= flags::VERIFY;
        }
        if meta.short {
            bits |= flags::SHORT;
        }
        bits |= match meta.attempt {
            None => 0,
            Some(Attempt::First) => flags::ATTEMPT,
            Some(Attempt::Again) => flags::ATTEMPT | flags::AGAIN,
        };
        let argv_bytes = u32::try_from(argv.frame().len()).expect("entry-bytes-max is far below 4 GiB");
        codec::put(
            &CommandHeader { flags: bits, database: meta.database, user: meta.user, argv_bytes },
            &mut self.body,
        );
        if let Some(stamp) = meta.session.filter(|_| bits & flags::SESSION != 0) {
            codec::put(&stamp, &mut self.body);
        }
        if argv.get(0).is_some_and(|name| name == moves::NAME.as_bytes()) {
            self.level = MOVES_LEVEL;
        }
        self.body.extend_from_slice(argv.frame());
        self.commands += 1;
    }

    /// The number of commands so far.
    pub fn commands(&self) -> u32 {
        self.commands
    }

    /// The size so far, in bytes.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Stamps the header. A body without commands is a tick: it only advances the clock.
    pub fn finish(mut self, clock_ms: u64, seed: u64) -> Bytes {
        let header = Header { format: FORMAT, feature_level: self.level, clock_ms, seed, commands: self.commands };
        let header = codec::bytes(&header);
        assert_eq!(header.len(), HEADER_BYTES, "the header has a fixed size");
        self.body[..HEADER_BYTES].copy_from_slice(&header);
        // A long one stays in memory for a while: without the room that it grew into.
        if self.body.len() > SHRINK_BYTES {
            self.body.shrink_to_fit();
        }
        Bytes::from(self.body)
    }
}

/// Reads a body: the header, then each command in order.
#[derive(Debug)]
pub struct EntryReader {
    header: Header,
    rest: Bytes,
    left: u32,
    /// Of the command in front.
    session: Option<SessionStamp>,
}

impl EntryReader {
    /// Reads the header.
    ///
    /// # Errors
    /// When the version is unknown or the bytes are damaged.
    pub fn new(body: &Bytes) -> Result<EntryReader, EntryError> {
        let (header, taken): (Header, usize) = codec::read(body, "entry header")?;
        if header.format != FORMAT || header.feature_level > FEATURE_LEVEL {
            return Err(EntryError::Unknown { format: header.format, feature_level: header.feature_level });
        }
        Ok(EntryReader { header, rest: body.slice(taken..), left: header.commands, session: None })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next command, or nothing behind the last one.
    ///
    /// # Errors
    /// When the bytes are damaged.
    pub fn next_command(&mut self) -> Result<Option<LoggedCommand>, EntryError> {
        if self.left == 0 {
            let clean = self.rest.is_empty();
            return if clean {
                Ok(None)
            } else {
                Err(EntryError::Malformed(format!("{} bytes behind the last command", self.rest.len())))
            };
        }
        self.left -= 1;
        let (header, taken): (CommandHeader, usize) = codec::read(&self.rest, "command header")?;
        self.rest = self.rest.slice(taken..);
        if header.flags & !flags::ALL != 0 {
            return Err(EntryError::Malformed(format!("command flags {:#04x}", header.flags)));
        }
        self.session = match header.flags & (flags::SESSION | flags::NEXT) {
            0 => None,
            flags::NEXT => {
                let before = self.session.ok_or_else(|| EntryError::Malformed("the next of no session".into()))?;
                Some(before.next())
            }
            _ => {
                let (stamp, taken): (SessionStamp, usize) = codec::read(&self.rest, "session stamp")?;
                self.rest = self.rest.slice(taken..);
                Some(stamp)
            }
        };
        let session = self.session;
        let len = header.argv_bytes as usize;
        if len > self.rest.len() {
            return Err(EntryError::Malformed(format!("argv of {len} bytes, {} left", self.rest.len())));
        }
        let argv = Argv::parse(self.rest.split_to(len)).map_err(|e| EntryError::Malformed(e.to_string()))?;
        let [transaction, verify, short] =
            [flags::TRANSACTION, flags::VERIFY, flags::SHORT].map(|bit| header.flags & bit != 0);
        let attempt = match header.flags & (flags::ATTEMPT | flags::AGAIN) {
            0 => None,
            flags::ATTEMPT => Some(Attempt::First),
            _ => Some(Attempt::Again),
        };
        let (database, user) = (header.database, header.user);
        let meta = CommandMeta { database, user, transaction, verify, attempt, short, session };
        Ok(Some(LoggedCommand { meta, argv }))
    }
}

/// A key that EXEC depends on, and the version it had at WATCH.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The numbered database.
    pub database: u32,
    /// The key.
    pub key: Vec<u8>,
    /// [`crate::Keyspace::version`] at WATCH time.
    pub version: u64,
}

/// The body of MULTI as one canonical argv: `EXEC <watches> <frame> <frame> …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Keys that must be unchanged.
    pub watches: Vec<Watch>,
    /// The queued commands, in order.
    pub commands: Vec<Argv>,
}

impl Transaction {
    /// Encodes the transaction; each queued command is one argument that holds its frame.
    pub fn to_argv(&self) -> Argv {
        let watches = codec::bytes(&self.watches);
        let mut parts: Vec<&[u8]> = vec![b"EXEC", &watches];
        parts.extend(self.commands.iter().map(|c| &c.frame()[..]));
        Argv::from_parts(&parts)
    }

    /// Reads it back; the commands are slices of the argv's frame.
    ///
    /// # Errors
    /// When the bytes are damaged.
    pub fn from_argv(argv: &Argv) -> Result<Transaction, EntryError> {
        let malformed = |what: &str| EntryError::Malformed(format!("transaction without {what}"));
        let (watches, _) = codec::read(argv.get(1).ok_or_else(|| malformed("watches"))?, "watches")?;
        let frames = (2..argv.len()).map(|i| argv.slice(i).ok_or_else(|| malformed("a frame")));
        let commands = frames
            .map(|frame| Argv::parse(frame?).map_err(|e| EntryError::Malformed(e.to_string())))
            .collect::<Result<_, _>>()?;
        Ok(Transaction { watches, commands })
    }
}

#[cfg(test)]
mod tests;
