//! The RDB format: version 10 as redis-server 7.0 writes it, and version 12 where fields of hashes expire,
//! which Redis can since 7.4.
//!
//! Snapshots of a group are RDB files with fields of our own in AUX, so redis-server loads them and
//! redis-check-rdb checks them; DUMP payloads are the same encoding of one value. What is read may come
//! from anywhere: no length is trusted, nothing is allocated for an announced size, checksums are
//! verified, and errors name the offset.
//!
//! Strings are written without LZF: compressing costs more processor time under the group's lock than
//! the disk space is worth (`COMPRESS_FROM` in `rdb/write.rs`). Compressed strings are read.

mod file;
mod foreign;
#[allow(dead_code, reason = "for hashes, sets, sorted sets and streams, which are not held yet")]
pub(crate) mod packed;
mod read;
mod skip;
mod source;
pub(crate) mod write;

pub use file::FileWriter;
pub use foreign::{Foreign, ForeignEntry, ForeignOptions, read_foreign};
pub use read::Uses;
pub(crate) use read::{Item, Parser, Strictness};

use crate::{Settings, Value};
pub(crate) use source::Source;

/// The version that is written where nothing needs a newer one.
pub const VERSION: u16 = 10;
/// The version that is written where fields of a hash expire.
pub const VERSION_EXPIRING_FIELDS: u16 = 12;
/// The newest version that is read: Redis 8 writes 12.
pub const VERSION_MAX: u16 = 12;

/// Codes in front of what is no key.
pub(crate) mod opcode {
    pub(crate) const SLOT_INFO: u8 = 0xf4;
    pub(crate) const FUNCTION2: u8 = 0xf5;
    pub(crate) const FUNCTION_PRE_GA: u8 = 0xf6;
    pub(crate) const MODULE_AUX: u8 = 0xf7;
    pub(crate) const IDLE: u8 = 0xf8;
    pub(crate) const FREQ: u8 = 0xf9;
    pub(crate) const AUX: u8 = 0xfa;
    pub(crate) const RESIZEDB: u8 = 0xfb;
    pub(crate) const EXPIRETIME_MS: u8 = 0xfc;
    pub(crate) const EXPIRETIME: u8 = 0xfd;
    pub(crate) const SELECTDB: u8 = 0xfe;
    pub(crate) const EOF: u8 = 0xff;
}

/// The type byte of a string.
pub(crate) const TYPE_STRING: u8 = 0;
/// The type byte of a hash whose fields expire.
pub(crate) const HASH_METADATA: u8 = 24;

/// Why something is no RDB that can be read here.
#[derive(Debug, thiserror::Error)]
pub enum RdbError {
    /// Reading failed.
    #[error("reading RDB at byte {at}: {error}")]
    Io {
        /// Offset from the beginning.
        at: u64,
        /// What the reader said.
        error: std::io::Error,
    },
    /// The bytes are damaged or not an RDB.
    #[error("malformed RDB at byte {at}: {why}")]
    Malformed {
        /// Offset from the beginning, of what is wrong or just behind it.
        at: u64,
        /// What is wrong.
        why: String,
    },
    /// The checksum at the end does not fit.
    #[error("RDB checksum is {stored:016x}, but {computed:016x} was computed up to byte {at}: the file is damaged")]
    Checksum {
        /// Offset of the checksum.
        at: u64,
        /// The checksum that the file has.
        stored: u64,
        /// The checksum of what was read.
        computed: u64,
    },
    /// A value of a type that this version cannot hold.
    #[error("key {key:?} at byte {at} holds a {kind}, which is not supported")]
    Unsupported {
        /// Offset of the value.
        at: u64,
        /// The name of the type.
        kind: &'static str,
        /// The key.
        key: String,
    },
    /// The receiver wanted no more.
    #[error("stopped at byte {at}")]
    Stopped {
        /// Offset from the beginning.
        at: u64,
    },
}

/// The CRC-64 that Redis uses (Jones), of some bytes.
pub fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Redis, bytes)
}

/// The payload of DUMP: type, value, version, checksum.
pub fn dump_value(value: &Value) -> Vec<u8> {
    let mut out = vec![write::type_byte(value)];
    write::value(value, &mut out);
    let version = if out[0] == HASH_METADATA { VERSION_EXPIRING_FIELDS } else { VERSION };
    sealed(out, version)
}

/// A payload with its version and its checksum behind it.
fn sealed(mut out: Vec<u8>, version: u16) -> Vec<u8> {
    out.extend_from_slice(&version.to_le_bytes());
    let checksum = crc64(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// What stands in front of version and checksum, if they are right.
fn unsealed(payload: &[u8]) -> Result<&[u8], RdbError> {
    let at = payload.len().saturating_sub(8) as u64;
    let Some((body, footer)) = payload.split_last_chunk::<10>() else {
        return Err(RdbError::Checksum { at, stored: 0, computed: 0 });
    };
    let version = u16::from_le_bytes([footer[0], footer[1]]);
    let stored = u64::from_le_bytes(footer[2..].try_into().expect("eight bytes"));
    let computed = crc64(&payload[..payload.len() - 8]);
    if stored != computed || version > VERSION_MAX {
        return Err(RdbError::Checksum { at, stored, computed });
    }
    Ok(body)
}

/// Reads the payload of DUMP, ours or Redis's. The settings decide the encoding.
///
/// # Errors
/// When the checksum or the version does not fit, or the value cannot be read. RESTORE answers
/// `ERR DUMP payload version or checksum are wrong` for [`RdbError::Checksum`], else `ERR Bad data format`.
pub fn restore_value(payload: &[u8], settings: &Settings) -> Result<Value, RdbError> {
    let body = unsealed(payload)?;
    let mut reader = body;
    let mut source = Source::of(&mut reader, body.len());
    let kind = source.byte()?;
    let Some(value) = read::value(&mut source, kind, settings)? else {
        let at = source.offset();
        let kind = skip::kind_name(kind).ok_or_else(|| source.malformed(format!("value type {kind}")))?;
        return Err(RdbError::Unsupported { at, kind, key: String::new() });
    };
    if source.offset() != body.len() as u64 {
        return Err(source.malformed("bytes behind the value"));
    }
    Ok(value)
}

/// The payload of FUNCTION DUMP: the texts of libraries, version, checksum.
pub(crate) fn dump_functions<'a>(codes: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    codes.for_each(|code| write::function(code, &mut out));
    sealed(out, VERSION)
}

/// Reads the payload of FUNCTION DUMP, ours or Redis's.
///
/// # Errors
/// As those of [`restore_value`]; the words of [`RdbError::Malformed`] are Redis's own.
pub(crate) fn restore_functions(payload: &[u8]) -> Result<Vec<Vec<u8>>, RdbError> {
    let body = unsealed(payload)?;
    let mut reader = body;
    let mut source = Source::new(&mut reader);
    let mut codes = Vec::new();
    while source.offset() < body.len() as u64 {
        let why = match source.byte()? {
            opcode::FUNCTION2 => {
                codes.push(
                    source
                        .string()
                        .map_err(|_| RdbError::Malformed { at: 0, why: "Failed loading library data".into() })?,
                );
                continue;
            }
            opcode::FUNCTION_PRE_GA => "Pre-GA function format not supported",
            _ => "given type is not a function",
        };
        return Err(RdbError::Malformed { at: source.offset(), why: why.into() });
    }
    Ok(codes)
}

#[cfg(test)]
mod tests;
