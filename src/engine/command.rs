//! The command table: one row is the whole definition of a command.
//!
//! Step 3 of a command's way. Dispatch, arity, flags, key positions, slot routing, ACL categories,
//! COMMAND INFO/DOCS/GETKEYS and the metrics label all derive from a row. Rows are constant slices at
//! the foot of their family's file; [`FAMILIES`] is the one list of families.
//!
//! Invariants:
//! * Names are lower case and unique; a subcommand's full name is `container|name`.
//! * A command without an implementation has no row: to a client it is unknown.
//! * A handler is called only after [`lookup`] has checked the arity.

mod flags;
pub mod introspect;
mod keys;
mod lookup;
mod rows;
mod syntax;
#[cfg(test)]
mod tests;
pub(crate) mod waits;

pub use flags::*;
pub use keys::*;
pub(crate) use lookup::quoted;
pub use lookup::{Found, by_name, count, logged, lookup, walk};
pub use waits::Waits;

use quoris_resp::Argv;

use crate::types::{bitmap, generic, geo, hash, hyperloglog, list, set, stream, string, zset};
use crate::{CommandResult, Keyspace, Rng};
use crate::{events, evict, moves, settings};

/// What a write may see beside the keyspace.
#[derive(Debug)]
pub struct ApplyContext {
    /// The selected database; SELECT inside a transaction changes it.
    pub database: u32,
    /// Log index of the entry.
    pub index: u64,
    /// The group's clock at this entry, Unix milliseconds.
    pub now_ms: u64,
    /// Seeded by the entry and the command's place in it.
    pub rng: Rng,
    /// The command waits already: a key that holds another type than it wants is as good as absent.
    pub waits: bool,
    /// Memory was short when the leader proposed it: commands that take some are refused.
    pub short: bool,
}

/// What a read may see beside the keyspace.
#[derive(Clone, Debug)]
pub struct ReadContext {
    /// The selected database.
    pub database: u32,
    /// The estimate of the group's clock for TTL replies; visibility goes by the applied clock.
    pub now_ms: u64,
    /// For RANDOMKEY and its kin.
    pub rng: std::cell::RefCell<Rng>,
}

/// How a command runs.
#[derive(Clone, Copy, Debug)]
pub enum Handler {
    /// Looks at the keyspace only.
    Read(fn(&Keyspace, &ReadContext, &Argv) -> CommandResult),
    /// Goes through the log.
    Write(fn(&mut Keyspace, &mut ApplyContext, &Argv) -> CommandResult),
    /// Belongs to the server: connection state, administration, introspection.
    Server,
    /// Only holds subcommands.
    Container,
}

/// The chapter of the manual that a command stands in; COMMAND DOCS prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Keys of any type.
    Generic,
    /// Strings.
    String,
    /// Lists.
    List,
    /// Sets.
    Set,
    /// Sorted sets.
    SortedSet,
    /// Hashes.
    Hash,
    /// Channels and messages.
    PubSub,
    /// MULTI and its kin.
    Transactions,
    /// The connection itself.
    Connection,
    /// Administration.
    Server,
    /// Scripts and functions.
    Scripting,
    /// HyperLogLog.
    HyperLogLog,
    /// Slots and nodes.
    Cluster,
    /// Geospatial indexes.
    Geo,
    /// Streams.
    Stream,
    /// Bitmaps.
    Bitmap,
}

impl Group {
    /// Its name in COMMAND DOCS.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Generic => "generic",
            Group::String => "string",
            Group::List => "list",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Hash => "hash",
            Group::PubSub => "pubsub",
            Group::Transactions => "transactions",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Scripting => "scripting",
            Group::HyperLogLog => "hyperloglog",
            Group::Cluster => "cluster",
            Group::Geo => "geo",
            Group::Stream => "stream",
            Group::Bitmap => "bitmap",
        }
    }

    /// The ACL category that commands of the group are in when their row says nothing else.
    const fn category(self) -> Categories {
        match self {
            Group::Generic => category::KEYSPACE,
            Group::String => category::STRING,
            Group::List => category::LIST,
            Group::Set => category::SET,
            Group::SortedSet => category::SORTEDSET,
            Group::Hash => category::HASH,
            Group::Transactions => category::TRANSACTION,
            Group::Connection => category::CONNECTION,
            Group::Scripting => category::SCRIPTING,
            Group::HyperLogLog => category::HYPERLOGLOG,
            Group::Geo => category::GEO,
            Group::Stream => category::STREAM,
            Group::Bitmap => category::BITMAP,
            Group::PubSub | Group::Server | Group::Cluster => category::NONE,
        }
    }
}

/// One row of the table. Fields that a row does not name come from [`ROW`].
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Lower case; of a subcommand only its own part.
    pub name: &'static str,
    /// The number of arguments, names included; negative when it is a minimum.
    pub arity: i32,
    /// What it does.
    pub flags: Flags,
    /// Its own ACL categories beside those that the flags imply; the group's when nothing is said.
    pub categories: Option<Categories>,
    /// Where its keys are.
    pub keys: &'static [KeySpec],
    /// Finds the keys instead, where the arguments decide what the specs cannot say.
    pub key_finder: Option<KeyFinder>,
    /// Its chapter.
    pub group: Group,
    /// The version of Redis (or Valkey) that brought it.
    pub since: &'static str,
    /// Its cost.
    pub complexity: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Its arguments behind the name: `[optional]`, `{choice | choice}`, `repeated ...`, WORDS as they are.
    pub syntax: &'static str,
    /// Hints for clients: `request_policy:…`, `response_policy:…`, `nondeterministic_output`.
    pub tips: &'static [&'static str],
    /// When it was superseded and by what.
    pub deprecated: Option<(&'static str, &'static str)>,
    /// The argument that is a channel: where no key decides, its slot does.
    pub channel: Option<usize>,
    /// For a command that can wait. Its handler never waits: it answers with a null that there is nothing.
    pub waits: Option<&'static Waits>,
    /// What runs.
    pub handler: Handler,
    /// Its subcommands.
    pub subcommands: &'static [Command],
}

/// Where rows take the fields from that they do not name.
pub const ROW: Command = Command {
    name: "",
    arity: -1,
    flags: NO_FLAGS,
    categories: None,
    keys: &[],
    key_finder: None,
    group: Group::Generic,
    since: "1.0.0",
    complexity: "O(1)",
    summary: "",
    syntax: "",
    tips: &[],
    deprecated: None,
    channel: None,
    waits: None,
    handler: Handler::Server,
    subcommands: &[],
};

impl Command {
    /// Whether it goes through the log.
    pub fn is_write(&self) -> bool {
        matches!(self.handler, Handler::Write(_)) || self.flags.has(WRITE)
    }

    /// How long a call may wait, in milliseconds, 0 for ever; nothing when it does not.
    pub fn patience(&self, argv: &Argv) -> Option<u64> {
        self.waits.and_then(|waits| (waits.patience)(argv))
    }

    /// EVAL, FCALL and their kin: which keys it uses of those that it names, the script decides.
    pub fn runs_script(&self) -> bool {
        self.group == Group::Scripting && !self.keys.is_empty()
    }

    /// Whether it only holds subcommands.
    pub fn is_container(&self) -> bool {
        matches!(self.handler, Handler::Container)
    }

    /// Whether an argv of `count` arguments, names included, fits.
    pub fn fits_arity(&self, count: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { count >= wanted } else { count == wanted }
    }

    /// The printed flags: the row's own and those that follow from the key specs.
    pub fn all_flags(&self) -> Flags {
        self.flags.with(self.legacy_range().1)
    }

    /// All ACL categories, derived as Redis derives them.
    pub fn all_categories(&self) -> Categories {
        let own = match self.categories {
            Some(own) => own,
            None if self.is_container() => category::NONE,
            None => self.group.category(),
        };
        let scripting = own.has(category::SCRIPTING);
        let implied = [
            (self.flags.has(WRITE), category::WRITE),
            (self.flags.has(READONLY) && !scripting, category::READ),
            (self.flags.has(ADMIN), category::ADMIN.with(category::DANGEROUS)),
            (self.flags.has(PUBSUB), category::PUBSUB),
            (self.flags.has(BLOCKING), category::BLOCKING),
            (true, if self.flags.has(FAST) { category::FAST } else { category::SLOW }),
        ];
        implied.iter().filter(|(holds, _)| *holds).fold(own, |all, (_, category)| all.with(*category))
    }
}

/// Every family of rows: the one list.
pub static FAMILIES: &[&[Command]] = &[
    string::COMMANDS,
    list::COMMANDS,
    set::COMMANDS,
    hash::COMMANDS,
    stream::COMMANDS,
    zset::COMMANDS,
    geo::COMMANDS,
    generic::COMMANDS,
    crate::script::COMMANDS,
    events::COMMANDS,
    bitmap::COMMANDS,
    hyperloglog::COMMANDS,
    rows::TRANSACTIONS,
    rows::CONNECTION,
    rows::SERVER,
    rows::ACL,
    rows::CLUSTER,
    rows::PUBSUB_ROWS,
];

/// Commands that nodes propose by themselves: they stand in logs and not in the table.
pub static INTERNAL: &[&Command] = &[&settings::COMMAND, &evict::COMMAND, &events::DELIVERED, &moves::COMMAND];
