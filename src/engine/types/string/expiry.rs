//! Deadlines as SET, GETEX and their kin take them.

use crate::number;
use crate::{ApplyContext, Error};

/// Unit and origin of a time that a command was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// `EX`: seconds from now.
    Seconds,
    /// `PX`: milliseconds from now.
    Milliseconds,
    /// `EXAT`: Unix seconds.
    UnixSeconds,
    /// `PXAT`: Unix milliseconds.
    UnixMilliseconds,
}

impl Clock {
    /// The option word that stands before a time.
    pub(crate) fn by_option(word: &[u8]) -> Option<Clock> {
        let words: [(&[u8], Clock); 4] = [
            (b"EX", Clock::Seconds),
            (b"PX", Clock::Milliseconds),
            (b"EXAT", Clock::UnixSeconds),
            (b"PXAT", Clock::UnixMilliseconds),
        ];
        words.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, clock)| *clock)
    }

    /// Whether times are in seconds.
    pub(crate) fn in_seconds(self) -> bool {
        matches!(self, Clock::Seconds | Clock::UnixSeconds)
    }

    /// Whether times count from now.
    pub(crate) fn is_relative(self) -> bool {
        matches!(self, Clock::Seconds | Clock::Milliseconds)
    }
}

/// A time with its option, not read yet: Redis reports a bad number only after the syntax is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time<'a> {
    /// How to read it.
    pub clock: Clock,
    /// The number.
    pub text: &'a [u8],
}

impl Time<'_> {
    /// The deadline in Unix milliseconds of the group's clock.
    ///
    /// # Errors
    /// When it is no number, not positive, or beyond what 63 bits of milliseconds hold.
    pub(crate) fn deadline_ms(self, command: &str, context: &ApplyContext) -> Result<u64, Error> {
        let invalid = || invalid_expire(command);
        let time = number::integer(self.text).ok_or(Error::NotAnInteger)?;
        if time <= 0 {
            return Err(invalid());
        }
        let ms = if self.clock.in_seconds() { time.checked_mul(1000).ok_or_else(invalid)? } else { time };
        let now = if self.clock.is_relative() { context.now_ms as i64 } else { 0 };
        ms.checked_add(now).map(|at| at as u64).ok_or_else(invalid)
    }
}

/// `ERR invalid expire time in 'set' command`
pub(crate) fn invalid_expire(command: &str) -> Error {
    Error::text(format!("ERR invalid expire time in '{command}' command"))
}
