//! The commands that read, take or set fields and change their deadlines at once: HGETEX, HGETDEL, HSETEX.

use quoris_resp::{Argv, Reply};

use super::expire::{NOT_POSITIVE, deadline, fields, put_deadline, told};
use super::read::bulk;
use super::value::Hash;
use crate::command::quoted;
use crate::number;
use crate::types::collection::{change, change_or_make, look};
use crate::types::string::expiry::Clock;
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// What becomes of the deadline of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    Unsaid,
    Persist,
    Keep,
    At(u64),
}

/// HGETDEL
pub(super) fn hgetdel(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (database, key, now_ms) = (context.database, &argv[1], keyspace.now_ms());
    let hash = look::<Hash>(keyspace, database, key)?;
    let fields = fields(argv, 2, NOT_POSITIVE)?;
    if !hash.is_some_and(|hash| fields.iter().any(|field| hash.get(field, now_ms).is_some())) {
        return Ok(Reply::Array(vec![Reply::Null; fields.len()]));
    }
    let replies = change(keyspace, database, key, "hdel", |hash: &mut Hash, _| {
        let one = |field: &&[u8]| {
            let value = bulk(hash.get(field, now_ms));
            if value != Reply::Null {
                hash.remove(field);
            }
            value
        };
        fields.iter().map(one).collect()
    })?;
    Ok(Reply::Array(replies.unwrap_or_default()))
}

/// HGETEX
pub(super) fn hgetex(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (database, key, now_ms) = (context.database, &argv[1], keyspace.now_ms());
    look::<Hash>(keyspace, database, key)?;
    let (expiry, first) = match Clock::by_option(&argv[2]) {
        Some(clock) => (Expiry::At(deadline("hgetex", clock, &argv[3], context.now_ms)?), 4),
        None if argv[2].eq_ignore_ascii_case(b"persist") => (Expiry::Persist, 3),
        None => (Expiry::Unsaid, 2),
    };
    let fields = fields(argv, first, NOT_POSITIVE)?;
    let hash = look::<Hash>(keyspace, database, key)?;
    let changes = |hash: &Hash, field: &[u8]| match expiry {
        Expiry::Unsaid | Expiry::Keep => false,
        Expiry::Persist => hash.get(field, now_ms).is_some() && hash.deadline(field).is_some(),
        Expiry::At(_) => hash.get(field, now_ms).is_some(),
    };
    if !hash.is_some_and(|hash| fields.iter().any(|field| changes(hash, field))) {
        let get = |field: &&[u8]| bulk(hash.and_then(|hash| hash.get(field, now_ms)));
        return Ok(Reply::Array(fields.iter().map(get).collect()));
    }
    let name = match expiry {
        Expiry::At(at) => told(at, now_ms),
        _ => "hpersist",
    };
    let replies = change(keyspace, database, key, name, |hash: &mut Hash, _| {
        let one = |field: &&[u8]| {
            let value = bulk(hash.get(field, now_ms));
            if changes(hash, field) {
                match expiry {
                    Expiry::At(at) => put_deadline(hash, field, at, now_ms),
                    _ => hash.forget_deadline(field),
                };
            }
            value
        };
        fields.iter().map(one).collect()
    })?;
    Ok(Reply::Array(replies.unwrap_or_default()))
}

/// The options of HSETEX.
struct Options {
    expiry: Expiry,
    /// FXX: all fields must be there; FNX: none of them may be.
    present: Option<bool>,
    /// The first field.
    first: usize,
}

impl Options {
    fn parse(argv: &Argv, context: &ApplyContext) -> Result<Options, Error> {
        let arity = || Error::Arity("hsetex".into());
        let mut options = Options { expiry: Expiry::Unsaid, present: None, first: 0 };
        let mut at = 2;
        while let Some(word) = argv.get(at) {
            let expiry = Clock::by_option(word);
            if word.eq_ignore_ascii_case(b"fields") {
                if at + 3 >= argv.len() {
                    return Err(arity());
                }
                let count = number::integer(&argv[at + 1]).filter(|count| (1..=i64::from(i32::MAX)).contains(count));
                let count = count.ok_or_else(|| Error::text("ERR invalid number of fields"))?;
                options.first = at + 2;
                let texts = argv.len() - options.first;
                return if texts as i64 == 2 * count { Ok(options) } else { Err(arity()) };
            }
            if expiry.is_some() || word.eq_ignore_ascii_case(b"keepttl") {
                if options.expiry != Expiry::Unsaid {
                    let text = "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified";
                    return Err(Error::text(text));
                }
                options.expiry = Expiry::Keep;
                if let Some(clock) = expiry {
                    at += 1;
                    let time = argv.get(at).ok_or_else(|| Error::text("ERR missing expire time"))?;
                    options.expiry = Expiry::At(deadline("hsetex", clock, time, context.now_ms)?);
                }
            } else if word.eq_ignore_ascii_case(b"fxx") || word.eq_ignore_ascii_case(b"fnx") {
                if options.present.is_some() {
                    return Err(Error::text("ERR Only one of FXX or FNX arguments can be specified"));
                }
                options.present = Some(word.eq_ignore_ascii_case(b"fxx"));
            } else {
                return Err(Error::quoting(&[b"ERR unknown argument: ", quoted(word, word.len())]));
            }
            at += 1;
        }
        Err(arity())
    }
}

/// HSETEX
pub(super) fn hsetex(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let options = Options::parse(argv, context)?;
    let (database, key, now_ms) = (context.database, &argv[1], keyspace.now_ms());
    let pairs = || (options.first..argv.len()).step_by(2).map(|at| (&argv[at], &argv[at + 1]));
    let hash = look::<Hash>(keyspace, database, key)?;
    let is_there = |field: &[u8]| hash.is_some_and(|hash| hash.get(field, now_ms).is_some());
    if options.present.is_some_and(|wanted| pairs().any(|(field, _)| is_there(field) != wanted)) {
        return Ok(Reply::Int(0));
    }
    change_or_make(keyspace, database, key, "hset", |hash: &mut Hash, settings| {
        let longest = pairs().map(|(field, value)| field.len().max(value.len())).max().unwrap_or(0);
        hash.prepare(pairs().count() as u64, longest, settings);
        for (field, value) in pairs() {
            hash.set(field, value, options.expiry == Expiry::Keep, now_ms, settings);
        }
    })?;
    if let Expiry::At(at) = options.expiry {
        change(keyspace, database, key, told(at, now_ms), |hash: &mut Hash, _| {
            for (field, _) in pairs() {
                put_deadline(hash, field, at, now_ms);
            }
        })?;
    }
    Ok(Reply::Int(1))
}
