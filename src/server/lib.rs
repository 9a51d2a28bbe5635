//! Client connections of a node: from decoded commands to replies. Steps 3 to 5 and 10 of a command's way.
//!
//! Invariants:
//! * Replies leave in the order of the commands, whatever ran where.
//! * A read never overtakes a write of the same connection to the same group.
//! * Every error says whether the write may still take effect, see `outcome.rs`.
//! * No lock and no read guard lives across an await.

mod account;
mod blocking;
mod chance;
mod checks;
mod client;
mod clients;
mod commands;
pub mod config;
mod dispatch;
mod fieldsets;
mod gate;
mod gather;
mod history;
mod hot_keys;
mod http;
mod latency;
pub mod log;
mod monitor;
mod multi;
mod outcome;
mod own_session;
mod pubsub;
mod saves;
mod sent_away;
mod server;
mod shutdown;
mod slowlog;
mod split;
mod start;
mod stats;
mod tracking;
mod users;
pub mod version;

pub use client::Client;
pub use server::Server;
pub use start::{Role, Running, StartError, start};
