//! Commands that mean something, chosen by bytes: rows of the table, arguments that fit most of the time.

use std::sync::OnceLock;

use quoris_engine::command::{Handler, walk};
use quoris_engine::{StringValue, Value, rdb};
use quoris_resp::Argv;

use crate::feed::Feed;

/// Few, so that commands meet; two share a slot.
pub(crate) const KEYS: &[&str] = &["a", "b", "c", "{a}2", "many:1", "a key that is longer than what is kept in place"];

const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "10",
    "007",
    "1.5",
    "-0",
    "1e400",
    "inf",
    "nan",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "1700000000",
    "1700000060000",
    "4102444800",
    "ohmytext",
    "mynewtext",
    "a value that is longer than the forty-four bytes of an embedded one",
    "\0\u{5}hello\n\0cr",
    "*",
    "[^a-c]*",
    "a*",
    "\\",
    "(1",
    "[b",
    "+",
    "-inf",
    "km",
    "string",
];

/// Offsets that are near the limits, or make a value of a size that matters.
const OFFSETS: &[&str] = &["0", "1", "44", "3000", "140000", "-1", "536870912", "9223372036854775807"];

/// The same for bits.
const BIT_OFFSETS: &[&str] = &["0", "7", "8", "100", "25000", "1200000", "#3", "-1", "4294967296"];

const BITFIELD_TYPES: &[&str] = &["i1", "u1", "i8", "u8", "i33", "u63", "i64", "u64"];

/// A row and the words of its syntax.
struct Row {
    parts: Vec<&'static str>,
    arity: i32,
    words: Vec<&'static str>,
}

/// The rows that apply runs, and some that it refuses.
fn rows() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let own = walk().filter(|f| {
            let own = matches!(f.command.handler, Handler::Read(_) | Handler::Write(_));
            own || matches!(f.command.name, "ping" | "select" | "multi")
        });
        let rows = own.map(|found| {
            let words = found.command.syntax.split(|c: char| !c.is_ascii_alphanumeric());
            let words = words.filter(|w| w.starts_with(|c: char| c.is_ascii_uppercase())).collect();
            let parts = found.container.iter().map(|c| c.name).chain([found.command.name]).collect();
            Row { parts, arity: found.command.arity, words }
        });
        rows.collect()
    })
}

/// A command.
pub(crate) fn argv(feed: &mut Feed<'_>) -> Argv {
    let rows = rows();
    let row = &rows[feed.below(rows.len())];
    let fitting = row.arity.unsigned_abs() as usize;
    let more = match (row.arity < 0, feed.chance(32)) {
        (true, _) => feed.below(5),
        (false, unfit) => usize::from(unfit),
    };
    let mut parts: Vec<Vec<u8>> = row.parts.iter().map(|part| part.as_bytes().to_vec()).collect();
    while parts.len() < fitting + more {
        let at = parts.len() - row.parts.len();
        parts.push(argument(row, at, feed));
    }
    Argv::from_parts(&parts)
}

fn argument(row: &Row, at: usize, feed: &mut Feed<'_>) -> Vec<u8> {
    let name = row.parts[row.parts.len() - 1];
    if at == 0 && !feed.chance(16) {
        return feed.pick(KEYS).as_bytes().to_vec();
    }
    match (name, at) {
        // An offset makes as long a value as it says.
        ("setrange", 1) => return feed.pick(OFFSETS).as_bytes().to_vec(),
        ("setbit", 1) | ("bitfield" | "bitfield_ro", 3) => return feed.pick(BIT_OFFSETS).as_bytes().to_vec(),
        ("bitfield" | "bitfield_ro", 1) => return feed.pick(&row.words).as_bytes().to_vec(),
        ("bitfield" | "bitfield_ro", 2) => return feed.pick(BITFIELD_TYPES).as_bytes().to_vec(),
        ("restore", 2) => return payload(feed),
        _ => {}
    }
    match feed.below(8) {
        0 | 1 => feed.pick(KEYS).as_bytes().to_vec(),
        2 | 3 if !row.words.is_empty() => feed.pick(&row.words).as_bytes().to_vec(),
        2..=4 => feed.pick(VALUES).as_bytes().to_vec(),
        5 => (i64::from(feed.word()) - 100).to_string().into_bytes(),
        6 => vec![feed.byte(); 3 * feed.byte() as usize],
        _ => feed.bytes(24).to_vec(),
    }
}

/// A payload as DUMP gives it, now and then a damaged one.
fn payload(feed: &mut Feed<'_>) -> Vec<u8> {
    let value = Value::String(StringValue::new(feed.pick(VALUES).as_bytes()));
    let mut bytes = rdb::dump_value(&value);
    if feed.chance(4) {
        let at = feed.below(bytes.len());
        bytes[at] ^= feed.byte();
    }
    bytes
}
