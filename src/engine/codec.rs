//! The one place that knows bincode.
//!
//! Everything of fixed shape that goes to disk or to a peer, beside argv, is serialised here: version 2
//! of bincode in its `legacy` configuration (fixed-width little-endian integers), whose bytes two other
//! maintained crates can read. Formats carry their own version in front; bincode describes nothing.

use serde::{Serialize, de::DeserializeOwned};

/// The bytes could not be read as what they should be.
#[derive(Debug, thiserror::Error)]
#[error("malformed {what}: {why}")]
pub struct CodecError {
    what: &'static str,
    why: String,
}

/// No decoded value may claim more than this, in bytes; frames and entries are bounded below it.
const BYTES_MAX: usize = 1 << 30;
/// A text is allocated as it is announced, so input of at most this many bytes may not announce more.
const SMALL_BYTES_MAX: usize = 1 << 20;

/// Appends `value` to `out`.
pub fn put<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    bincode::serde::encode_into_std_write(value, out, bincode::config::legacy())
        .expect("writing to memory does not fail");
}

/// The bytes of `value`.
pub fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    put(value, &mut out);
    out
}

/// Reads a value from the front of `bytes`; also gives the number of bytes it took.
///
/// # Errors
/// When the bytes end early or hold something else; `what` names it in the message.
pub fn read<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<(T, usize), CodecError> {
    let config = bincode::config::legacy();
    let result = if bytes.len() <= SMALL_BYTES_MAX {
        bincode::serde::decode_from_slice(bytes, config.with_limit::<SMALL_BYTES_MAX>())
    } else {
        bincode::serde::decode_from_slice(bytes, config.with_limit::<BYTES_MAX>())
    };
    result.map_err(|e| CodecError { what, why: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announced_length_is_refused_before_it_is_allocated() {
        let error = read::<String>(&[0, 0, 0, 0x20, 0, 0, 0, 0, b'x'], "text").expect_err("512 MiB in nine bytes");
        assert!(error.to_string().contains("LimitExceeded"), "{error}");
        let long = "x".repeat(SMALL_BYTES_MAX);
        assert_eq!(read::<String>(&bytes(&long), "text").expect("its own bytes").0, long);
    }
}
