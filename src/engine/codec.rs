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
    let config = bincode::config::legacy().with_limit::<BYTES_MAX>();
    bincode::serde::decode_from_slice(bytes, config).map_err(|e| CodecError { what, why: e.to_string() })
}
