//! How much is logged: one number that CONFIG SET loglevel changes and the program's filter reads.

use std::sync::atomic::{AtomicU8, Ordering};

use tracing::Level;

static LEVEL: AtomicU8 = AtomicU8::new(2);

/// Redis's level names: `notice` is info, `verbose` and `debug` are debug, `nothing` is silence.
pub fn set_level(name: &str) {
    let level = match name {
        "nothing" => 0,
        "warning" => 1,
        "verbose" | "debug" => 3,
        _ => 2,
    };
    LEVEL.store(level, Ordering::Relaxed);
}

/// Whether an event of `level` is logged now.
pub fn is_enabled(level: &Level) -> bool {
    match LEVEL.load(Ordering::Relaxed) {
        0 => false,
        1 => *level <= Level::WARN,
        2 => *level <= Level::INFO,
        _ => *level <= Level::DEBUG,
    }
}
