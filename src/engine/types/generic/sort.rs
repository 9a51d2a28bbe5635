//! SORT and SORT_RO: the elements of a list, a set or a sorted set in the order of weights.
//!
//! A weight is the element itself or what lies at a key that a pattern makes of it; `key->field` looks into a
//! hash. Patterns may name any key, so where a group owns only some slots they are held to Redis Cluster's
//! rule: the braces of a pattern must lead to the slot of the key that is sorted.
//!
//! Invariants:
//! * The order is total but for texts that are equal, which keep the order of the elements. Bytes are compared,
//!   whatever the locale, so that replicas agree.
//! * A set in the order of nothing is given in the order of its members' bytes, as Redis does for scripts and
//!   STORE.

use std::borrow::Cow;
use std::cmp::Ordering;

use quoris_resp::{Argv, Reply};

use crate::command::{KeyUse, KeyUses, OW_UPDATE, RO_ACCESS, ReadContext};
use crate::double;
use crate::events::Class;
use crate::keyspace::slot;
use crate::number;
use crate::types::collection::{Collection, Typed};
use crate::types::list::List;
use crate::{ApplyContext, CommandResult, Error, Keyspace, Value};

/// What stands behind the key.
#[derive(Default)]
struct Options<'a> {
    by: Option<&'a [u8]>,
    get: Vec<&'a [u8]>,
    limit: Option<(i64, i64)>,
    alpha: bool,
    descending: bool,
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(keyspace: &Keyspace, argv: &'a Argv, may_store: bool) -> Result<Options<'a>, Error> {
        let mut options = Options::default();
        let mut at = 2;
        while let Some(word) = argv.get(at) {
            let next = argv.get(at + 1);
            at += match (&word.to_ascii_uppercase()[..], next) {
                (b"ASC", _) => {
                    options.descending = false;
                    1
                }
                (b"DESC", _) => {
                    options.descending = true;
                    1
                }
                (b"ALPHA", _) => {
                    options.alpha = true;
                    1
                }
                (b"LIMIT", Some(offset)) if at + 2 < argv.len() => {
                    let number = |text| number::integer(text).ok_or(Error::NotAnInteger);
                    options.limit = Some((number(offset)?, number(&argv[at + 2])?));
                    3
                }
                (b"STORE", Some(key)) if may_store => {
                    options.store = Some(key);
                    2
                }
                (b"BY", Some(pattern)) => {
                    if pattern.contains(&b'*') && !is_local(keyspace, &argv[1], pattern) {
                        return Err(denied("BY"));
                    }
                    options.by = Some(pattern);
                    2
                }
                (b"GET", Some(pattern)) => {
                    if pattern != b"#" && !is_local(keyspace, &argv[1], pattern) {
                        return Err(denied("GET"));
                    }
                    options.get.push(pattern);
                    2
                }
                _ => return Err(Error::Syntax),
            };
        }
        Ok(options)
    }

    /// Whether the elements stay in the order that they have: a pattern without a star is no weight.
    fn keeps_order(&self) -> bool {
        self.by.is_some_and(|pattern| !pattern.contains(&b'*'))
    }

    /// The places of the elements that are given, of so many.
    fn window(&self, len: usize) -> std::ops::Range<usize> {
        let Some((offset, count)) = self.limit else { return 0..len };
        let start = usize::try_from(offset.max(0)).unwrap_or(usize::MAX).min(len);
        let count = if count < 0 { len } else { usize::try_from(count).unwrap_or(usize::MAX) };
        start..start.saturating_add(count).min(len)
    }
}

fn denied(option: &str) -> Error {
    Error::text(format!(
        "ERR {option} option of SORT denied in cluster mode when keys formed by the pattern may be in different slots."
    ))
}

/// Whether all keys that a pattern can make are surely in the slot of `key`, or the group owns all slots.
fn is_local(keyspace: &Keyspace, key: &[u8], pattern: &[u8]) -> bool {
    if keyspace.slots().is_none() {
        return true;
    }
    let star = pattern.iter().position(|byte| *byte == b'*').unwrap_or(pattern.len());
    let tag = pattern[..star].iter().position(|byte| *byte == b'{').and_then(|open| {
        let close = pattern[open..star].iter().position(|byte| *byte == b'}')?;
        (close > 1).then(|| &pattern[..=open + close])
    });
    let fixed = if star == pattern.len() { Some(pattern) } else { tag };
    fixed.is_some_and(|fixed| slot(fixed) == slot(key))
}

/// What a pattern makes of an element: the element itself, a string, a field of a hash, or nothing.
fn look_up<'a>(keyspace: &'a Keyspace, database: u32, pattern: &[u8], element: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    if pattern == b"#" {
        return Some(Cow::Borrowed(element));
    }
    let star = pattern.iter().position(|byte| *byte == b'*')?;
    let (before, behind) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = behind.windows(2).position(|pair| pair == b"->").filter(|at| at + 2 < behind.len());
    let (behind, field) = arrow.map_or((behind, None), |at| (&behind[..at], Some(&behind[at + 2..])));
    let value = keyspace.value(database, &[before, element, behind].concat())?;
    match (value, field) {
        (Value::String(text), None) => Some(Cow::Owned(text.to_bytes().into())),
        (Value::Hash(hash), Some(field)) => hash.get(field, keyspace.now_ms()).map(Cow::Borrowed),
        _ => None,
    }
}

/// The elements in the order that they have, which for sets says nothing.
fn elements<'a>(keyspace: &'a Keyspace, database: u32, key: &[u8]) -> Result<Vec<Cow<'a, [u8]>>, Error> {
    Ok(match keyspace.value(database, key) {
        None => Vec::new(),
        Some(Value::List(list)) => list.iter_from(0).map(Cow::Borrowed).collect(),
        Some(Value::Set(set)) => set.members().collect(),
        Some(Value::SortedSet(set)) => set.iter_from(0).map(|scored| Cow::Borrowed(scored.member)).collect(),
        Some(Value::String(_) | Value::Hash(_) | Value::Stream(_)) => return Err(Error::WrongType),
    })
}

/// An element's weight.
enum Weight<'a> {
    Number(f64),
    Text(Option<Cow<'a, [u8]>>),
    /// The element itself.
    Own,
}

fn weight<'a>(
    keyspace: &'a Keyspace,
    database: u32,
    options: &Options<'_>,
    element: &'a [u8],
) -> Result<Weight<'a>, Error> {
    let looked_up = options.by.map(|pattern| look_up(keyspace, database, pattern, element));
    Ok(match (options.alpha, looked_up) {
        (true, None) => Weight::Own,
        (true, Some(text)) => Weight::Text(text),
        (false, None) => Weight::Number(score(element)?),
        (false, Some(None)) => Weight::Number(0.0),
        (false, Some(Some(text))) => Weight::Number(score(&text)?),
    })
}

fn score(text: &[u8]) -> Result<f64, Error> {
    double::weight(text).ok_or_else(|| Error::text("ERR One or more scores can't be converted into double"))
}

fn compare(one: &(Weight<'_>, &[u8]), other: &(Weight<'_>, &[u8])) -> Ordering {
    match (&one.0, &other.0) {
        (Weight::Number(a), Weight::Number(b)) => {
            a.partial_cmp(b).unwrap_or(Ordering::Equal).then_with(|| one.1.cmp(other.1))
        }
        (Weight::Text(a), Weight::Text(b)) => a.cmp(b),
        _ => one.1.cmp(other.1),
    }
}

/// The elements of the window, in their order.
fn sorted<'a>(
    keyspace: &Keyspace,
    database: u32,
    key: &[u8],
    options: &Options<'_>,
    elements: &'a [Cow<'_, [u8]>],
) -> Result<Vec<&'a [u8]>, Error> {
    let window = options.window(elements.len());
    let is_set = matches!(keyspace.value(database, key), Some(Value::Set(_)));
    let plain = elements.iter().map(|element| &**element);
    if options.keeps_order() && !is_set {
        let (skip, take) = (window.start, window.len());
        return Ok(match options.descending {
            true => plain.rev().skip(skip).take(take).collect(),
            false => plain.skip(skip).take(take).collect(),
        });
    }
    let weigh = |element| match options.keeps_order() {
        true => Ok((Weight::Own, element)),
        false => Ok((weight(keyspace, database, options, element)?, element)),
    };
    let mut weighed: Vec<(Weight<'_>, &[u8])> = plain.map(weigh).collect::<Result<_, Error>>()?;
    match options.descending {
        true => weighed.sort_by(|one, other| compare(other, one)),
        false => weighed.sort_by(compare),
    }
    Ok(weighed[window].iter().map(|(_, element)| *element).collect())
}

/// What is given for the elements: themselves, or what the GET patterns make of each.
fn results<'a>(
    keyspace: &'a Keyspace,
    database: u32,
    options: &Options<'_>,
    sorted: Vec<&'a [u8]>,
) -> Vec<Option<Cow<'a, [u8]>>> {
    if options.get.is_empty() {
        return sorted.into_iter().map(|element| Some(Cow::Borrowed(element))).collect();
    }
    let each = |element| options.get.iter().map(move |pattern| look_up(keyspace, database, pattern, element));
    sorted.into_iter().flat_map(each).collect()
}

/// What the command gives, before it is a reply or a list.
fn run<T>(
    keyspace: &Keyspace,
    database: u32,
    argv: &Argv,
    options: &Options<'_>,
    one: impl Fn(Option<Cow<'_, [u8]>>) -> T,
) -> Result<Vec<T>, Error> {
    let elements = elements(keyspace, database, &argv[1])?;
    let sorted = sorted(keyspace, database, &argv[1], options, &elements)?;
    Ok(results(keyspace, database, options, sorted).into_iter().map(one).collect())
}

fn bulk(text: Option<Cow<'_, [u8]>>) -> Reply {
    text.map_or(Reply::Null, Reply::bulk)
}

/// SORT
pub(super) fn sort(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let options = Options::parse(keyspace, argv, true)?;
    let database = context.database;
    let Some(destination) = options.store else {
        return run(keyspace, database, argv, &options, bulk).map(Reply::Array);
    };
    let texts = run(keyspace, database, argv, &options, |text| text.unwrap_or_default().into_owned())?;
    let list = List::of(texts.iter().map(|text| &text[..]), keyspace.settings());
    if list.len() == 0 {
        keyspace.delete_and_tell(database, destination);
    } else {
        keyspace.set(database, destination, list.into_value(), None);
        keyspace.notify(Class::List, "sortstore", database, destination);
    }
    Ok(Reply::Int(texts.len() as i64))
}

/// SORT_RO
pub(super) fn sort_ro(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let options = Options::parse(keyspace, argv, false)?;
    run(keyspace, context.database, argv, &options, bulk).map(Reply::Array)
}

fn source() -> KeyUse {
    KeyUse { position: 1, flags: RO_ACCESS }
}

/// The keys of SORT: of several destinations the last one counts. Those of BY and GET are not looked for.
///
/// # Errors
/// None.
pub(super) fn keys(argv: &Argv) -> Result<KeyUses, Error> {
    let mut destination = None;
    let mut at = 2;
    while let Some(word) = argv.get(at) {
        match &word.to_ascii_uppercase()[..] {
            b"LIMIT" => at += 2,
            b"BY" | b"GET" => at += 1,
            b"STORE" if at + 1 < argv.len() => {
                destination = Some(KeyUse { position: at + 1, flags: OW_UPDATE });
            }
            _ => {}
        }
        at += 1;
    }
    Ok(std::iter::once(source()).chain(destination).collect())
}

/// The key of SORT_RO.
///
/// # Errors
/// None.
pub(super) fn key_ro(_argv: &Argv) -> Result<KeyUses, Error> {
    Ok(std::iter::once(source()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn reply(keyspace: &Keyspace, parts: &[&str]) -> Result<Reply, String> {
        let context = ReadContext { database: 0, now_ms: 0, rng: Rng::new(1).into() };
        sort_ro(keyspace, &context, &Argv::from_parts(parts)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_group_of_some_slots_reads_no_key_of_another() {
        let mut keyspace = Keyspace::new([1, 2], 1);
        let list = List::of([&b"1"[..]].into_iter(), keyspace.settings());
        keyspace.set(0, b"{t}l", list.into_value(), None);
        assert!(reply(&keyspace, &["SORT_RO", "{t}l", "BY", "w_*", "GET", "x_*"]).is_ok());
        keyspace.set_slots(Some(Box::new([(slot(b"t"), slot(b"t"))])));
        for pattern in ["w_{t}_*", "{t}*->f", "x{t}"] {
            for option in ["BY", "GET"] {
                assert!(reply(&keyspace, &["SORT_RO", "{t}l", option, pattern]).is_ok(), "{option} {pattern}");
            }
        }
        for pattern in ["w_*", "*{t}", "{*t}", "{}*{t}", "w_{other}*", "{t*}", "{t"] {
            let by = reply(&keyspace, &["SORT_RO", "{t}l", "BY", pattern]);
            let get = reply(&keyspace, &["SORT_RO", "{t}l", "GET", pattern]);
            let named = pattern.contains('*');
            assert_eq!(by.is_err(), named, "BY {pattern}");
            assert!(get.is_err_and(|text| text.starts_with("ERR GET option of SORT denied")), "GET {pattern}");
        }
        assert_eq!(
            reply(&keyspace, &["SORT_RO", "{t}l", "BY", "nosort", "GET", "#"]),
            Ok(Reply::Array(vec![Reply::bulk("1")]))
        );
    }
}
