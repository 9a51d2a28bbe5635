//! Looking through a database: SCAN, KEYS, RANDOMKEY.

use quoris_resp::{Argv, Reply};

use crate::command::ReadContext;
use crate::glob;
use crate::number;
use crate::{CommandResult, Error, Keyspace};

/// Keys that one SCAN looks at when COUNT does not say, as in Redis.
const COUNT_DEFAULT: usize = 10;

/// The options of SCAN and its kin.
pub(crate) struct Scan<'a> {
    /// Only what matches is given.
    pub(crate) pattern: Option<&'a [u8]>,
    type_name: Option<&'a [u8]>,
    /// How much to look at, at least 1.
    pub(crate) count: usize,
    /// Whether the command's own word was there.
    pub(crate) flag: bool,
}

impl<'a> Scan<'a> {
    /// Reads the options from the argument `at` on; `flag` is a word of the command's own.
    ///
    /// # Errors
    /// When there are others, or a number is none.
    pub(crate) fn parse(argv: &'a Argv, mut at: usize, flag: &str) -> Result<Scan<'a>, Error> {
        let of_keys = at == 2;
        let mut options = Scan { pattern: None, type_name: None, count: COUNT_DEFAULT, flag: false };
        while let Some(word) = argv.get(at) {
            if word.eq_ignore_ascii_case(flag.as_bytes()) && !flag.is_empty() {
                (options.flag, at) = (true, at + 1);
                continue;
            }
            let next = argv.get(at + 1).ok_or(Error::Syntax)?;
            match &word.to_ascii_uppercase()[..] {
                b"COUNT" => {
                    let count = number::integer(next).ok_or(Error::NotAnInteger)?;
                    options.count = usize::try_from(count).ok().filter(|n| *n > 0).ok_or(Error::Syntax)?;
                }
                // `*` matches everything, so it costs nothing.
                b"MATCH" => options.pattern = (next != b"*").then_some(next),
                b"TYPE" if of_keys => options.type_name = Some(next),
                _ => return Err(Error::Syntax),
            }
            at += 2;
        }
        Ok(options)
    }
}

/// SCAN
pub(super) fn scan(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let cursor = number::cursor(&argv[1]).ok_or_else(|| Error::text("ERR invalid cursor"))?;
    let options = Scan::parse(argv, 2, "")?;
    let mut keys = Vec::new();
    let next = keyspace.scan(context.database, cursor, options.count, &mut |key, entry| {
        let named = options.pattern.is_none_or(|pattern| glob::matches(pattern, key));
        let typed = options.type_name.is_none_or(|name| name.eq_ignore_ascii_case(entry.value.type_name().as_bytes()));
        if named && typed {
            keys.push(Reply::bulk(key));
        }
    });
    Ok(Reply::Array(vec![Reply::bulk(next.to_string()), Reply::Array(keys)]))
}

/// KEYS
pub(super) fn keys(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let (pattern, all) = (&argv[1], &argv[1] == b"*");
    let mut keys = Vec::new();
    let mut cursor = 0;
    loop {
        cursor = keyspace.scan(context.database, cursor, 1024, &mut |key, _| {
            if all || glob::matches(pattern, key) {
                keys.push(Reply::bulk(key));
            }
        });
        if cursor == 0 {
            return Ok(Reply::Array(keys));
        }
    }
}

/// RANDOMKEY
pub(super) fn randomkey(keyspace: &Keyspace, context: &ReadContext, _argv: &Argv) -> CommandResult {
    let key = keyspace.random(context.database, &mut context.rng.borrow_mut());
    Ok(key.map_or(Reply::Null, Reply::bulk))
}
