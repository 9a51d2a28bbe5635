//! Versions as clients see them.

/// The newest Redis whose core commands are all here: clients and suites switch features by it.
pub const REDIS: &str = "7.0.15";
/// Our own.
pub const QUORIS: &str = env!("CARGO_PKG_VERSION");
