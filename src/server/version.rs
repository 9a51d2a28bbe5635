//! Versions as clients see them.

/// The Redis that clients and suites switch features by; scripts see the same one.
pub const REDIS: &str = quoris_engine::REDIS_VERSION;
/// Our own.
pub const QUORIS: &str = env!("CARGO_PKG_VERSION");
