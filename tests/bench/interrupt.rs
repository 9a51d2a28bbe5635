//! Ctrl-C and SIGTERM: the harness stops its servers before it goes.
//!
//! A signal only sets a flag; every loop of the harness looks at it and returns an error, and the
//! servers are stopped as their handles are dropped. A second signal ends the process at once.

use anyhow::{Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::{Arc, OnceLock, atomic::AtomicBool, atomic::Ordering};

static REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Begins to listen for signals.
pub fn install() -> Result<()> {
    let flag = REQUESTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        // The order matters: the shutdown is armed by a flag that an earlier signal has set.
        signal_hook::flag::register_conditional_shutdown(signal, 2, Arc::clone(flag))?;
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// Whether a signal asked the harness to end.
pub fn requested() -> bool {
    REQUESTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// An error when a signal asked the harness to end.
pub fn check() -> Result<()> {
    if requested() {
        bail!("interrupted");
    }
    Ok(())
}
