//! Random commands, biased towards arguments that mean something.

use proptest::prelude::*;
use quoris_engine::command::{Found, walk};
use quoris_resp::Argv;

/// Words that mean something to some command. Offsets stay below what would really allocate 512 MiB.
const WORDS: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "2",
    "10",
    "16",
    "100",
    "-0",
    "+1",
    "007",
    "1.5",
    "1e400",
    "1e4932",
    "-1e-4950",
    "0x1p-3",
    "inf",
    "nan",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "536870912",
    "4102444800",
    "NX",
    "XX",
    "GT",
    "LT",
    "GET",
    "EX",
    "PX",
    "EXAT",
    "PXAT",
    "KEEPTTL",
    "PERSIST",
    "IFEQ",
    "IFNE",
    "IFDEQ",
    "IFDNE",
    "2d06800538d394c2",
    "REPLACE",
    "ABSTTL",
    "IDLETIME",
    "FREQ",
    "DB",
    "ASYNC",
    "SYNC",
    "MATCH",
    "COUNT",
    "TYPE",
    "string",
    "LEN",
    "IDX",
    "MINMATCHLEN",
    "WITHMATCHLEN",
    "FILTERBY",
    "PATTERN",
    "ACLCAT",
    "MODULE",
    "(1",
    "[b",
    "+",
    "-",
    "BYSCORE",
    "BYLEX",
    "REV",
    "LIMIT",
    "WITHSCORES",
    "WEIGHTS",
    "AGGREGATE",
    "MIN",
    "INCR",
    "km",
    "ASC",
    "STORE",
    "*",
    "[^a-",
    "a*[b-",
    "\\",
    "ENCODING",
    "HELP",
    "STREAMS",
    "KEYS",
    "\0\u{5}hello\n\0cr",
    "value that is longer than what fits in place",
    "ohmytext",
    "mynewtext",
    "BIT",
    "BYTE",
    "AND",
    "OR",
    "NOT",
    "ANDOR",
    "ONE",
    "SET",
    "INCRBY",
    "OVERFLOW",
    "SAT",
    "FAIL",
    "i8",
    "u63",
    "#3",
    "GETREG",
    "TODENSE",
    "HYLL\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\x7f??",
];

/// The offsets of these make long values: a bit's number is not that of a byte.
const LONG_OFFSETS: &[&str] = &["536870912", "4102444800"];

fn argument() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (0..4u8).prop_map(|n| vec![b'a' + n]),
        6 => proptest::sample::select(WORDS).prop_map(|word| word.as_bytes().to_vec()),
        1 => any::<i64>().prop_map(|n| (n % 1_000_000).to_string().into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..60),
    ]
}

/// A command of one of the chosen rows, with arguments that may or may not fit.
pub fn command(choose: impl Fn(&Found) -> bool) -> impl Strategy<Value = Argv> {
    let names: Vec<String> = walk().filter(choose).map(|found| found.full_name()).collect();
    (proptest::sample::select(names), proptest::collection::vec(argument(), 0..9)).prop_map(|(name, arguments)| {
        let mut parts: Vec<Vec<u8>> = name.split('|').map(|part| part.as_bytes().to_vec()).collect();
        let is_bits = name == "setbit" || name == "bitfield";
        parts.extend(arguments.into_iter().filter(|a| !(is_bits && LONG_OFFSETS.iter().any(|o| o.as_bytes() == a))));
        Argv::from_parts(&parts)
    })
}
