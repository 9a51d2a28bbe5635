//! BITOP: strings combined bit by bit. Shorter ones count as padded with zeros.
//!
//! The loops are over bytes without a branch: the compiler makes vectors of them.

use std::borrow::Cow;

use quoris_resp::{Argv, Reply};

use crate::events::Class;
use crate::types::string;
use crate::types::string::StringValue;
use crate::{ApplyContext, CommandResult, Error, Keyspace, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    And,
    Or,
    Xor,
    Not,
    /// In the first, in none of the others.
    Diff,
    /// In any of the others, not in the first.
    Diff1,
    /// In the first and in any of the others.
    AndOr,
    /// In exactly one.
    One,
}

/// All operators with their least number of sources.
const OPERATORS: [(&str, Operator, usize); 8] = [
    ("AND", Operator::And, 1),
    ("OR", Operator::Or, 1),
    ("XOR", Operator::Xor, 1),
    ("NOT", Operator::Not, 1),
    ("DIFF", Operator::Diff, 2),
    ("DIFF1", Operator::Diff1, 2),
    ("ANDOR", Operator::AndOr, 2),
    ("ONE", Operator::One, 1),
];

/// Changes each byte of `result` by the one of `other`, as far as that reaches.
fn fold(result: &mut [u8], other: &[u8], change: impl Fn(u8, u8) -> u8) {
    result.iter_mut().zip(other).for_each(|(byte, other)| *byte = change(*byte, *other));
}

/// The same with zeros behind `other`.
fn fold_padded(result: &mut [u8], other: &[u8], change: impl Fn(u8, u8) -> u8) {
    let (within, behind) = result.split_at_mut(other.len());
    fold(within, other, &change);
    behind.iter_mut().for_each(|byte| *byte = change(*byte, 0));
}

/// A text of `len` bytes that begins as `source`.
fn padded(source: &[u8], len: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(len);
    text.extend_from_slice(source);
    text.resize(len, 0);
    text
}

/// The bits that are in any of the sources.
fn any<S: AsRef<[u8]>>(sources: &[S], len: usize) -> Vec<u8> {
    let mut result = padded(sources[0].as_ref(), len);
    sources[1..].iter().for_each(|source| fold(&mut result, source.as_ref(), |a, b| a | b));
    result
}

/// As long as the longest of the sources, of which there is at least one.
fn combine<S: AsRef<[u8]>>(operator: Operator, sources: &[S]) -> Vec<u8> {
    let len = sources.iter().map(|source| source.as_ref().len()).max().unwrap_or(0);
    let (first, others) = (sources[0].as_ref(), &sources[1..]);
    let mut result = match operator {
        Operator::Or => return any(sources, len),
        Operator::Diff1 | Operator::AndOr => any(others, len),
        _ => padded(first, len),
    };
    match operator {
        Operator::Or => {}
        Operator::And => others.iter().for_each(|other| fold_padded(&mut result, other.as_ref(), |a, b| a & b)),
        Operator::Xor => others.iter().for_each(|other| fold(&mut result, other.as_ref(), |a, b| a ^ b)),
        Operator::Not => result.iter_mut().for_each(|byte| *byte = !*byte),
        Operator::Diff => others.iter().for_each(|other| fold(&mut result, other.as_ref(), |a, b| a & !b)),
        Operator::Diff1 => fold(&mut result, first, |any, first| any & !first),
        Operator::AndOr => fold_padded(&mut result, first, |any, first| any & first),
        Operator::One => {
            let mut several = vec![0; len];
            for other in others.iter().map(AsRef::as_ref) {
                let both = result.iter_mut().zip(&mut several).zip(other);
                both.for_each(|((one, several), other)| {
                    *several |= *one & other;
                    *one |= other;
                });
            }
            fold(&mut result, &several, |one, several| one & !several);
        }
    }
    result
}

/// BITOP
pub(super) fn bitop(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (word, target) = (&argv[1], &argv[2]);
    let found = OPERATORS.into_iter().find(|(name, _, _)| word.eq_ignore_ascii_case(name.as_bytes()));
    let (name, operator, least) = found.ok_or(Error::Syntax)?;
    if operator == Operator::Not && argv.len() != 4 {
        return Err(Error::text("ERR BITOP NOT must be called with a single source key."));
    }
    if argv.len() - 3 < least {
        return Err(Error::text(format!("ERR BITOP {name} must be called with at least two source keys.")));
    }
    let sources = argv.iter().skip(3).map(|key| string::text(keyspace, context.database, key));
    let sources: Vec<Cow<'_, [u8]>> =
        sources.map(|text| Ok(text?.unwrap_or_default())).collect::<Result<_, Error>>()?;
    let result = combine(operator, &sources);
    let len = result.len();
    if len == 0 {
        keyspace.delete_and_tell(context.database, target);
    } else {
        keyspace.set(context.database, target, Value::String(StringValue::grown(result)), None);
        keyspace.notify(Class::String, "set", context.database, target);
    }
    Ok(Reply::Int(len as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    /// One bit of the result, from the bits of the sources.
    fn bit(operator: Operator, sources: &[bool]) -> bool {
        let (first, others) = (sources[0], sources[1..].contains(&true));
        let set = sources.iter().filter(|bit| **bit).count();
        match operator {
            Operator::And => set == sources.len(),
            Operator::Or => set > 0,
            Operator::Xor => set % 2 == 1,
            Operator::Not => !first,
            Operator::Diff => first && !others,
            Operator::Diff1 => !first && others,
            Operator::AndOr => first && others,
            Operator::One => set == 1,
        }
    }

    #[test]
    fn operators_combine_bit_by_bit() {
        let mut rng = Rng::new(2);
        for _ in 0..300 {
            for (name, operator, least) in OPERATORS {
                let count = if operator == Operator::Not { 1 } else { least as u64 + rng.below(4) };
                let source = |rng: &mut Rng| (0..rng.below(40)).map(|_| rng.below(256) as u8).collect();
                let sources: Vec<Vec<u8>> = (0..count).map(|_| source(&mut rng)).collect();
                let result = combine(operator, &sources);
                assert_eq!(Some(result.len()), sources.iter().map(Vec::len).max());
                for at in 0..result.len() * 8 {
                    let is_set = |text: &[u8]| text.get(at / 8).is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0);
                    let bits: Vec<bool> = sources.iter().map(|source| is_set(source)).collect();
                    assert_eq!(is_set(&result), bit(operator, &bits), "{name} of {sources:?}, bit {at}");
                }
            }
        }
    }
}
