//! The command table: one row is the whole definition of a command.
//!
//! Dispatch, arity, flags, key positions, slot routing, ACL categories, COMMAND INFO/DOCS/GETKEYS and
//! the metrics label all derive from a row. Rows are constant slices at the foot of their family's
//! file; [`FAMILIES`] lists the families.

use quoris_resp::Argv;

use crate::{CommandResult, Keyspace, Rng};

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
