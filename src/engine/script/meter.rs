//! What a script may use up: instructions, and steps of native functions that can take long.
//!
//! Lua counts its own instructions by a hook. A native function whose cost is not bounded by the instruction that
//! calls it charges its steps here too, so that no single call can hold a group up. Both are the same on every
//! replica: a script that passes its budget ends at the same place everywhere.

use std::cell::Cell;
use std::rc::Rc;

use mlua::{Error, HookTriggers, Lua, Result};

/// The budget is looked at so often, in instructions.
const STEP: u32 = 1000;
/// Instructions for a millisecond of `busy-reply-threshold`: about what an old machine runs.
const INSTRUCTIONS_PER_MS: u64 = 20_000;
/// The threshold is believed up to here; 0, which means for ever in Redis, is this too.
const THRESHOLD_MS_MAX: u64 = 60_000;
/// Bytes that are copied in the time of one instruction.
const BYTES_PER_STEP: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Meter {
    used: Cell<u64>,
    max: Cell<u64>,
    /// The state's memory ran out, so the run says nothing.
    starved: Cell<bool>,
}

impl Meter {
    /// Fills it for a script that should take so long at most, and has the instructions of `lua` counted from here.
    pub(super) fn start(self: &Rc<Self>, lua: &Lua, threshold_ms: i64) -> Result<()> {
        let ms = threshold_ms.unsigned_abs();
        let ms = if threshold_ms <= 0 || ms > THRESHOLD_MS_MAX { THRESHOLD_MS_MAX } else { ms };
        self.used.set(0);
        self.max.set(ms * INSTRUCTIONS_PER_MS);
        self.starved.set(false);
        let meter = self.clone();
        lua.set_hook(HookTriggers::new().every_nth_instruction(STEP), move |lua, _| {
            meter.charge(lua, u64::from(STEP)).map(|()| mlua::VmState::Continue)
        })
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.used.get() >= self.max.get()
    }

    /// Whether the memory of the state ran out.
    pub(super) fn is_starved(&self) -> bool {
        self.starved.get()
    }

    /// Steps that are left.
    pub(super) fn left(&self) -> u64 {
        self.max.get().saturating_sub(self.used.get())
    }

    /// Takes steps away.
    ///
    /// # Errors
    /// When nothing is left. A script may catch that one, but from then on every instruction ends it, wherever it
    /// stands.
    pub(super) fn charge(&self, lua: &Lua, steps: u64) -> Result<()> {
        self.used.set(self.used.get().saturating_add(steps));
        if self.is_empty() { end(lua) } else { Ok(()) }
    }

    /// Notes that the memory of the state ran out, and ends the script.
    pub(super) fn starve(&self, lua: &Lua) -> Result<()> {
        self.starved.set(true);
        end(lua)
    }
}

fn end(lua: &Lua) -> Result<()> {
    lua.set_hook(HookTriggers::new().every_nth_instruction(1), |_, _| Err(over()))?;
    Err(over())
}

fn over() -> Error {
    Error::RuntimeError("the script's budget is used up".into())
}

/// Takes steps away from the script that runs in a state.
///
/// # Errors
/// When nothing is left.
pub(super) fn charge(lua: &Lua, steps: u64) -> Result<()> {
    let meter = lua.app_data_ref::<Rc<Meter>>().map(|meter| meter.clone());
    meter.map_or(Ok(()), |meter| meter.charge(lua, steps))
}

/// Takes steps away for bytes that are copied or made.
///
/// # Errors
/// When nothing is left.
pub(super) fn charge_bytes(lua: &Lua, bytes: usize) -> Result<()> {
    charge(lua, (bytes / BYTES_PER_STEP) as u64)
}
