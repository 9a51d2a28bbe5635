//! The deterministic state machine of a group: same log, same state.
//!
//! Step 8 of a command's way. A group's Raft log is a sequence of [`entry`] bodies; [`Engine`] applies
//! them in order, on every replica, and gives back replies. Nothing in this crate knows a file, a
//! socket, a clock or a random number: what a command may see of the world is in its context.
//!
//! Invariants:
//! * `apply` is total: whatever a client sent becomes a reply, never a panic.
//! * What a write can observe is a function of the log alone, and survives snapshot and restore.
//! * A row of the [`command`] table is the only definition of a command.

// The files of `tests/` that unit tests take in name the crate from outside.
#[cfg(test)]
extern crate self as quoris_engine;

pub mod codec;
pub mod command;
pub mod debug;
mod double;
mod effect;
mod engine;
pub mod entry;
mod error;
pub mod events;
pub mod evict;
mod extended;
pub mod glob;
mod keyspace;
pub mod moves;
pub mod number;
pub mod outcome;
mod payload;
pub mod rdb;
mod rng;
mod script;
mod sequence;
mod session;
pub mod settings;
mod snapshot;
#[cfg(test)]
#[path = "tests/support/testing.rs"]
mod testing;
mod types;
mod verify;

/// The Redis whose core commands are all here: clients and scripts switch features by it.
pub const REDIS_VERSION: &str = "8.10.0";

pub use command::{ApplyContext, ReadContext};
pub use effect::Effect;
pub use engine::{Engine, EngineSeed, REMOVALS_MAX, Stats};
pub use error::{CommandResult, Error};
pub use keyspace::{Changes, Edit, EntryRef, Flaw, Garbage, Keyspace, SLOTS, Scrub, Victim, Victims, WARM_MAX, slot};
pub use rng::Rng;
pub use script::script_has_read;
pub use session::REPLY_BYTES_MAX;
pub use settings::Settings;
pub use snapshot::{AlreadyRunning, Loaded, Summary};
pub use types::Value;
pub use types::stream::Reading;
pub use types::string::StringValue;
pub use verify::{Difference, Verify};
