//! What every HyperLogLog begins with: 16 bytes.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0–3 | `HYLL` |
//! | 4 | the encoding: 0 dense, 1 sparse |
//! | 5–7 | not used |
//! | 8–15 | the last estimate, little endian; the highest bit says that it is outdated |

use super::dense;
use crate::Error;

/// Length of the header in bytes.
pub(super) const LEN: usize = 16;

const MAGIC: &[u8; 4] = b"HYLL";
const ENCODING: usize = 4;
const OUTDATED: usize = 15;
const OUTDATED_BIT: u8 = 0x80;

/// How the registers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Dense = 0,
    Sparse = 1,
}

impl Encoding {
    /// The encoding of a value, whose header is checked by that.
    ///
    /// # Errors
    /// When it is no HyperLogLog.
    pub(super) fn of(text: &[u8]) -> Result<Encoding, Error> {
        match text.get(ENCODING) {
            Some(0) if text.len() == LEN + dense::LEN && text.starts_with(MAGIC) => Ok(Encoding::Dense),
            Some(1) if text.len() >= LEN && text.starts_with(MAGIC) => Ok(Encoding::Sparse),
            _ => Err(Error::text("WRONGTYPE Key is not a valid HyperLogLog string value.")),
        }
    }

    /// Notes another encoding.
    pub(super) fn write(self, text: &mut [u8]) {
        text[ENCODING] = self as u8;
    }
}

/// A header with the estimate 0, and room for what comes behind it.
pub(super) fn new(encoding: Encoding) -> Vec<u8> {
    let mut text = vec![0; LEN];
    text[..MAGIC.len()].copy_from_slice(MAGIC);
    encoding.write(&mut text);
    text
}

/// The last estimate, unless registers have changed since.
pub(super) fn estimate(text: &[u8]) -> Option<i64> {
    let bytes = text[8..LEN].try_into().expect("eight bytes of a checked header");
    (text[OUTDATED] & OUTDATED_BIT == 0).then(|| i64::from_le_bytes(bytes))
}

/// Marks the last estimate as outdated.
pub(super) fn outdate(text: &mut [u8]) {
    text[OUTDATED] |= OUTDATED_BIT;
}
