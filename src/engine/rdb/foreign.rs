//! Reading a dump that Redis wrote: `quoris admin import`.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::ControlFlow;

use super::RdbError;
use super::read::{Item, Parser, Strictness, Uses};
use crate::Value;

/// A key of a dump.
#[derive(Debug, PartialEq)]
pub struct ForeignEntry {
    /// The numbered database.
    pub database: u64,
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Value,
    /// When it expires, Unix milliseconds; may have passed.
    pub expire_at_ms: Option<u64>,
    /// When and how often it was used, where the dump says so.
    pub uses: Uses,
}

/// How to read a dump.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForeignOptions {
    /// Pass over keys with values of a type that is not supported, instead of an error.
    pub skip_unsupported: bool,
}

/// What a dump held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// The RDB version.
    pub version: u16,
    /// Keys that were given out.
    pub keys: u64,
    /// Keys that were passed over, by type.
    pub skipped: BTreeMap<&'static str, u64>,
    /// The fields in front of the first key; of one that comes several times the first.
    pub fields: BTreeMap<String, Vec<u8>>,
    /// The texts of the function libraries.
    pub functions: Vec<Vec<u8>>,
    /// The size in bytes.
    pub bytes: u64,
}

/// Gives every key of a dump to `visit`, with the offset behind it, as it is read. The checksum stands at
/// the end of the file, so keys are given out before it is known to fit.
///
/// # Errors
/// When the data is damaged, when a value is of a type that is not supported and must not be skipped, or
/// when `visit` breaks off.
pub fn read_foreign(
    reader: &mut dyn Read,
    options: ForeignOptions,
    visit: &mut dyn FnMut(ForeignEntry, u64) -> ControlFlow<()>,
) -> Result<Foreign, RdbError> {
    let strictness = Strictness { skip_unsupported: options.skip_unsupported, checksum_required: false };
    let mut parser = Parser::new(reader, strictness)?;
    let mut foreign = Foreign { version: parser.version(), ..Foreign::default() };
    loop {
        match parser.next()? {
            Item::Aux(name, value) => {
                if let (0, Ok(name)) = (foreign.keys, String::from_utf8(name)) {
                    foreign.fields.entry(name).or_insert(value);
                }
            }
            Item::Function(code) => foreign.functions.push(code),
            Item::Skipped { kind } => *foreign.skipped.entry(kind).or_default() += 1,
            Item::Entry { database, key, value, expire_at_ms, uses } => {
                foreign.keys += 1;
                let at = parser.offset();
                if visit(ForeignEntry { database, key, value, expire_at_ms, uses }, at).is_break() {
                    return Err(RdbError::Stopped { at });
                }
            }
            Item::End => {
                foreign.bytes = parser.offset();
                return Ok(foreign);
            }
        }
    }
}
