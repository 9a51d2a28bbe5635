//! Random numbers from the system: passwords, ids, seeds of reads.

use rand::{TryRng, rngs::SysRng};

/// 64 random bits.
pub(crate) fn bits() -> u64 {
    SysRng.try_next_u64().expect("the system has random numbers")
}
