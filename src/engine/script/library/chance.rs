//! math.random: numbers that the entry decides, unless the script gives a seed of its own.
//!
//! The generator is the 48-bit one of C's `lrand48`, as Redis has it.

use std::cell::Cell;

use mlua::{Lua, MultiValue, Result};

use super::number_at;
use crate::script::sandbox::words;

const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const INCREMENT: u64 = 0xB;
const MASK: u64 = (1 << 48) - 1;
const LARGEST: u64 = i32::MAX as u64;

/// math.randomseed
pub(in crate::script) fn seed(state: &Cell<u64>, seed: Option<f64>) -> Result<()> {
    state.set(u64::from(seed.unwrap_or(0.0) as i64 as u32) << 16 | 0x330E);
    Ok(())
}

/// The next number below one.
fn next(state: &Cell<u64>) -> f64 {
    state.set(state.get().wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT) & MASK);
    ((state.get() >> 17) % LARGEST) as f64 / LARGEST as f64
}

/// math.random
pub(in crate::script) fn random(lua: &Lua, state: &Cell<u64>, args: &MultiValue) -> Result<f64> {
    let drawn = next(state);
    let between = |low: f64, high: f64| (drawn * (high - low + 1.0)).floor() + low;
    let empty = |n: u8| Err(words(lua, &format!("bad argument #{n} to 'random' (interval is empty)")));
    match (args.len(), number_at(args, 0), number_at(args, 1)) {
        (0, ..) => Ok(drawn),
        (1, Some(high), _) if high >= 1.0 => Ok(between(1.0, high.floor())),
        (1, Some(_), _) => empty(1),
        (2, Some(low), Some(high)) if low <= high => Ok(between(low.floor(), high.floor())),
        (2, Some(_), Some(_)) => empty(2),
        _ => Err(words(lua, "wrong number of arguments")),
    }
}
