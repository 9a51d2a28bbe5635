//! An RDB file as a sequence of items.

use std::io::Read;

use super::source::Source;
use super::{RdbError, TYPE_STRING, VERSION_MAX, opcode, skip};
use crate::types::hash::Hash;
use crate::types::list::List;
use crate::types::set::Set;
use crate::types::stream::Stream;
use crate::types::zset::SortedSet;
use crate::{Settings, Value, payload};

/// What a file holds, item by item.
#[derive(Debug)]
pub(crate) enum Item {
    /// A field beside the keys.
    Aux(Vec<u8>, Vec<u8>),
    /// The text of a function library.
    Function(Vec<u8>),
    /// A key with a value.
    Entry { database: u64, key: Vec<u8>, value: Value, expire_at_ms: Option<u64>, uses: Uses },
    /// A key whose value cannot be held; it was passed over.
    Skipped { kind: &'static str },
    /// The end; the checksum was right.
    End,
}

/// When and how often a key was used. Redis writes one of them, or none, depending on its policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Seconds since the last use.
    pub idle_s: Option<u64>,
    /// The logarithmic counter of uses.
    pub frequency: Option<u8>,
}

/// How strict a file is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strictness {
    /// Keys with values that cannot be held are passed over instead of an error.
    pub(crate) skip_unsupported: bool,
    /// A checksum of zero, which Redis writes with `rdbchecksum no`, is an error.
    pub(crate) checksum_required: bool,
}

/// Reads the value behind a type byte; nothing was read when values of the type cannot be held.
///
/// # Errors
/// When the data is damaged.
pub(super) fn value(source: &mut Source<'_>, kind: u8, settings: &Settings) -> Result<Option<Value>, RdbError> {
    if kind == TYPE_STRING {
        return Ok(Some(payload::from_bytes(source.string()?)));
    }
    for read in [List::read, Set::read, Hash::read, SortedSet::read] {
        if let Some(value) = read(source, kind, settings)? {
            return Ok(Some(value));
        }
    }
    Stream::read(source, kind)
}

/// Reads a file from its beginning.
pub(crate) struct Parser<'a> {
    source: Source<'a>,
    strictness: Strictness,
    version: u16,
    database: u64,
    settings: Settings,
}

impl<'a> Parser<'a> {
    /// Reads the first bytes.
    ///
    /// # Errors
    /// When they are not those of an RDB file of a version that is known.
    pub(crate) fn new(reader: &'a mut dyn Read, strictness: Strictness) -> Result<Parser<'a>, RdbError> {
        let mut source = Source::new(reader);
        let magic: [u8; 9] = source.array()?;
        let digits = magic.strip_prefix(b"REDIS").filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let Some(digits) = digits else {
            return Err(RdbError::Malformed { at: 0, why: "this is not an RDB file".into() });
        };
        let version = digits.iter().fold(0u16, |n, digit| n * 10 + u16::from(digit - b'0'));
        if !(1..=VERSION_MAX).contains(&version) {
            return Err(RdbError::Malformed {
                at: 5,
                why: format!("RDB version {version}, known are 1 to {VERSION_MAX}"),
            });
        }
        Ok(Parser { source, strictness, version, database: 0, settings: Settings::default() })
    }

    /// The file's RDB version.
    pub(crate) fn version(&self) -> u16 {
        self.version
    }

    /// The settings that decide the encodings of the values to come.
    pub(crate) fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Offset of what comes next.
    pub(crate) fn offset(&self) -> u64 {
        self.source.offset()
    }

    /// An error at the present offset.
    pub(crate) fn malformed(&self, why: impl Into<String>) -> RdbError {
        self.source.malformed(why)
    }

    /// The next item. Behind [`Item::End`] there is none.
    ///
    /// # Errors
    /// When the data is damaged, or holds a value that cannot be held and must not be skipped.
    pub(crate) fn next(&mut self) -> Result<Item, RdbError> {
        let (mut expire_at_ms, mut uses) = (None, Uses::default());
        loop {
            let source = &mut self.source;
            match source.byte()? {
                opcode::AUX => return Ok(Item::Aux(source.string()?, source.string()?)),
                opcode::FUNCTION2 => return Ok(Item::Function(source.string()?)),
                opcode::FUNCTION_PRE_GA => {
                    return Err(source.malformed("a function in the format of a release candidate"));
                }
                opcode::MODULE_AUX => {
                    source.length()?;
                    skip::module(source)?;
                }
                opcode::SLOT_INFO => {
                    (0..3).try_for_each(|_| source.length().map(drop))?;
                }
                opcode::IDLE => uses.idle_s = Some(source.length()?),
                opcode::FREQ => uses.frequency = Some(source.byte()?),
                opcode::RESIZEDB => {
                    source.length()?;
                    source.length()?;
                }
                opcode::SELECTDB => self.database = source.length()?,
                opcode::EXPIRETIME => {
                    let seconds = i32::from_le_bytes(source.array()?);
                    expire_at_ms = Some(u64::try_from(seconds).unwrap_or(0) * 1000);
                }
                opcode::EXPIRETIME_MS => {
                    let ms = i64::from_le_bytes(source.array()?);
                    expire_at_ms = Some(u64::try_from(ms).unwrap_or(0));
                }
                opcode::EOF => return self.end(),
                kind => return self.entry(kind, expire_at_ms, uses),
            }
        }
    }

    fn entry(&mut self, kind: u8, expire_at_ms: Option<u64>, uses: Uses) -> Result<Item, RdbError> {
        let source = &mut self.source;
        let Some(name) = skip::kind_name(kind) else {
            return Err(source.malformed(format!("{kind:#04x} is neither an opcode nor a value type")));
        };
        let key = source.string()?;
        if let Some(value) = value(source, kind, &self.settings)? {
            return Ok(Item::Entry { database: self.database, key, value, expire_at_ms, uses });
        }
        if !self.strictness.skip_unsupported {
            let key = String::from_utf8_lossy(&key).into_owned();
            return Err(RdbError::Unsupported { at: source.offset(), kind: name, key });
        }
        skip::value(source, kind)?;
        Ok(Item::Skipped { kind: name })
    }

    fn end(&mut self) -> Result<Item, RdbError> {
        if self.version < 5 {
            return Ok(Item::End);
        }
        let computed = self.source.checksum();
        let at = self.source.offset();
        let stored = u64::from_le_bytes(self.source.array()?);
        if stored == computed || (stored == 0 && !self.strictness.checksum_required) {
            return Ok(Item::End);
        }
        Err(RdbError::Checksum { at, stored, computed })
    }
}
