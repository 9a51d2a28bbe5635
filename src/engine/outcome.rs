//! The errors that leave it open whether a write took effect; every other error, as those of memory here, says
//! that it did not and will not. `src/docs/sessions.md` has the whole map.

use std::fmt::Display;

/// Memory is above `maxmemory`, and the command would take more: it did not and will not take effect.
pub const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";
/// The same for a transaction.
pub const EXEC_OUT_OF_MEMORY: &str =
    "EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.";

/// Nothing of the command's session, or not enough, is kept any more.
pub const NOT_KEPT: &str = "the command may have been executed; its reply is not kept any more";
/// Executed, but longer than [`crate::REPLY_BYTES_MAX`].
pub const TOO_LARGE: &str = "executed, but its reply was too large to keep";

/// What may have happened is not known any more, and sending the command again will not tell.
pub fn unknown(why: impl Display) -> String {
    format!("UNKNOWN {why}")
}

/// What will have happened is not known yet; a command with a session may be sent again.
pub fn timeout(why: impl Display) -> String {
    format!("TIMEOUT {why}")
}
