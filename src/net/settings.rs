//! Limits and socket options that can change while the server runs.
//!
//! Everything is an atomic, read once per batch or per connection: CONFIG SET takes effect without a
//! lock on the way of a command.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::OutputClass;

/// The bounds of what may wait to be written to one client. 0 means no bound.
#[derive(Debug, Default)]
pub struct OutputLimit {
    /// More than this closes the connection at once, in bytes.
    pub hard: AtomicU64,
    /// More than this for `soft_seconds` closes the connection, in bytes.
    pub soft: AtomicU64,
    /// How long the soft limit may be passed, in seconds.
    pub soft_seconds: AtomicU64,
}

impl OutputLimit {
    fn new(hard: u64, soft: u64, soft_seconds: u64) -> OutputLimit {
        OutputLimit { hard: hard.into(), soft: soft.into(), soft_seconds: soft_seconds.into() }
    }
}

/// What a listener and its connections obey. The defaults are Redis's.
#[derive(Debug)]
pub struct Settings {
    /// The longest argument, in bytes (`proto-max-bulk-len`).
    pub bulk_bytes_max: AtomicU64,
    /// The most that may wait in a query buffer, in bytes (`client-query-buffer-limit`).
    pub query_bytes_max: AtomicU64,
    /// The most connections (`maxclients`).
    pub clients_max: AtomicUsize,
    /// Idle time before a TCP keepalive probe, in seconds; 0 sends none (`tcp-keepalive`).
    pub keepalive_seconds: AtomicU64,
    /// A connection that is idle for longer is closed, in seconds; 0 never closes (`timeout`).
    pub idle_seconds_max: AtomicU64,
    /// `client-output-buffer-limit`, by class.
    output: [OutputLimit; 3],
}

impl Default for Settings {
    fn default() -> Settings {
        const MIB: u64 = 1024 * 1024;
        Settings {
            bulk_bytes_max: (512 * MIB).into(),
            query_bytes_max: (1024 * MIB).into(),
            clients_max: 10_000.into(),
            keepalive_seconds: 300.into(),
            idle_seconds_max: 0.into(),
            output: [
                OutputLimit::new(0, 0, 0),
                OutputLimit::new(256 * MIB, 64 * MIB, 60),
                OutputLimit::new(32 * MIB, 8 * MIB, 60),
            ],
        }
    }
}

impl Settings {
    /// The output limit of a class.
    pub fn output(&self, class: OutputClass) -> &OutputLimit {
        &self.output[class as usize]
    }
}

/// What went over all connections of a listener since it began.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes read.
    pub bytes_in: AtomicU64,
    /// Bytes written.
    pub bytes_out: AtomicU64,
    /// Reads that found something.
    pub reads: AtomicU64,
    /// Writes.
    pub writes: AtomicU64,
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections refused because there were too many.
    pub refused: AtomicU64,
    /// Connections open now.
    pub open: AtomicUsize,
    /// Connections closed because their query buffer passed its limit.
    pub query_limit_closed: AtomicU64,
    /// Connections closed because their output passed its limit.
    pub output_limit_closed: AtomicU64,
}

impl Traffic {
    /// Sets the counters back that `CONFIG RESETSTAT` clears.
    pub fn reset(&self) {
        let counters = [
            &self.bytes_in,
            &self.bytes_out,
            &self.reads,
            &self.writes,
            &self.accepted,
            &self.refused,
            &self.query_limit_closed,
            &self.output_limit_closed,
        ];
        counters.iter().for_each(|c| c.store(0, Relaxed));
    }
}
