//! What a command that waits is ready to wait for, and for how long.

use quoris_resp::Argv;

use crate::extended::Extended;
use crate::{Error, Keyspace};

/// How a command waits.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// How long a call may wait, in milliseconds, 0 for ever. Nothing when it does not wait or is wrong, which the
    /// handler says.
    pub patience: fn(&Argv) -> Option<u64>,
    /// Names those who take from a key what the others of them then do not get: a type, a consumer group.
    pub line: fn(&Argv) -> &[u8],
    /// How many calls of a line may be served now by what is at a key, if not more.
    pub serves: fn(&Keyspace, u32, &[u8], &Argv) -> u64,
    /// For a read: the call as it has to be asked again, with what it says about now made absolute.
    pub again: fn(&Keyspace, u32, &Argv) -> Option<Argv>,
}

/// Seconds, with a fraction, as milliseconds; 0 is for ever. It must end within what a clock can say.
///
/// # Errors
/// As Redis words them.
pub(crate) fn seconds(text: &[u8], now_ms: u64) -> Result<u64, Error> {
    let seconds = Extended::parse(text);
    let seconds = seconds.ok_or_else(|| Error::text("ERR timeout is not a float or out of range"))?;
    let negative = || Error::text("ERR timeout is negative");
    let out_of_range = || Error::text("ERR timeout is out of range");
    let millis = match seconds.thousandfold() {
        Some(millis) => u64::try_from(millis).map_err(|_| negative())?,
        None if seconds.is_negative() => return Err(negative()),
        None => return Err(out_of_range()),
    };
    let ends = millis.checked_add(now_ms).filter(|at| i64::try_from(*at).is_ok());
    ends.map(|_| millis).ok_or_else(out_of_range)
}

/// Seconds as the last argument.
pub(crate) fn last_seconds(argv: &Argv) -> Option<u64> {
    seconds(argv.iter().next_back()?, 0).ok()
}

/// Seconds as the first argument.
pub(crate) fn first_seconds(argv: &Argv) -> Option<u64> {
    seconds(argv.get(1)?, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_floats_and_round_up() {
        let read = |text: &str| seconds(text.as_bytes(), 1_000_000).map_err(|e| e.to_string());
        for (text, millis) in [("0", 0), ("1", 1000), ("0.001", 1), ("0.0001", 1), ("1e-9", 1), ("-0.0001", 0)] {
            assert_eq!(read(text), Ok(millis), "{text}");
        }
        assert_eq!((read("0x10"), read("+2.5")), (Ok(16_000), Ok(2500)));
        for text in ["", " 1", "1 ", "x", "nan", "0x10x"] {
            assert_eq!(read(text), Err("ERR timeout is not a float or out of range".into()), "{text:?}");
        }
        for text in ["-1", "-0.5", "-inf", "-1e30"] {
            assert_eq!(read(text), Err("ERR timeout is negative".into()), "{text}");
        }
        for text in ["1e16", "inf", "0x7FFFFFFFFFFFFF", "9223372036854775.8"] {
            assert_eq!(read(text), Err("ERR timeout is out of range".into()), "{text}");
        }
    }
}
