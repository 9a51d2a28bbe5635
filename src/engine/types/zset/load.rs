//! Reading a sorted set in any of the forms that RDB has had.

use super::value::{Scored, SortedSet};
use crate::rdb::{RdbError, Source, packed};
use crate::types::collection::Typed;
use crate::{Settings, Value, double};

/// Scores as text.
const RDB_ZSET: u8 = 3;
/// Scores as eight bytes.
const RDB_ZSET_2: u8 = 5;
const RDB_ZIPLIST: u8 = 12;
const RDB_LISTPACK: u8 = 17;

/// A score as text: its length, or one of three marks.
fn text_score(source: &mut Source<'_>) -> Result<f64, RdbError> {
    let len = match source.byte()? {
        253 => return Ok(f64::NAN),
        254 => return Ok(f64::INFINITY),
        255 => return Ok(f64::NEG_INFINITY),
        len => len,
    };
    let text = (0..len).map(|_| source.byte()).collect::<Result<Vec<u8>, _>>()?;
    double::bound(&text).ok_or_else(|| source.malformed("a score that is not a number"))
}

impl SortedSet {
    /// Nothing when the type byte is not a sorted set's.
    ///
    /// # Errors
    /// When the data is damaged.
    pub(crate) fn read(source: &mut Source<'_>, kind: u8, settings: &Settings) -> Result<Option<Value>, RdbError> {
        let mut elements: Vec<(Vec<u8>, f64)> = Vec::new();
        match kind {
            RDB_ZSET => {
                for _ in 0..source.length()? {
                    elements.push((source.string()?, text_score(source)?));
                }
            }
            RDB_ZSET_2 => {
                for _ in 0..source.length()? {
                    elements.push((source.string()?, f64::from_le_bytes(source.array()?)));
                }
            }
            RDB_ZIPLIST | RDB_LISTPACK => {
                let decode = if kind == RDB_ZIPLIST { packed::ziplist } else { packed::listpack };
                let mut items = source.packed(decode)?.into_iter();
                while let Some(member) = items.next() {
                    let score = items.next().and_then(|text| double::bound(&text));
                    elements.push((member, score.ok_or_else(|| source.malformed("a member without a score"))?));
                }
            }
            _ => return Ok(None),
        }
        if elements.is_empty() {
            return Err(source.malformed("an empty sorted set"));
        }
        if elements.iter().any(|(_, score)| score.is_nan()) {
            return Err(source.malformed("a score that is NaN"));
        }
        let mut members: Vec<&[u8]> = elements.iter().map(|(member, _)| member.as_slice()).collect();
        members.sort_unstable();
        if members.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(source.malformed("a member twice"));
        }
        let elements: Vec<_> = elements.iter().map(|(member, score)| Scored { score: *score, member }).collect();
        Ok(Some(SortedSet::fitting(&elements, settings).into_value()))
    }
}
