//! The command that picks fields at random, every choice as likely as any other.

use quoris_resp::{Argv, Reply};

use super::value::Hash;
use crate::command::ReadContext;
use crate::types::collection::look;
use crate::types::hashed::{self, Picks};
use crate::{CommandResult, Error, Keyspace, Rng};

/// What can be picked: fields by their places, or those that are not due when others are.
enum Pool<'a> {
    All(&'a Hash, u64),
    Live(Vec<(&'a [u8], &'a [u8])>),
}

impl<'a> Pool<'a> {
    fn new(hash: &'a Hash, now_ms: u64) -> Pool<'a> {
        // Due fields are removed within a tick or a few, so they are rarely met here.
        let live = hash.live_len(now_ms);
        if hash.due(now_ms) == 0 { Pool::All(hash, live) } else { Pool::Live(hash.live(now_ms).collect()) }
    }

    fn len(&self) -> u64 {
        match self {
            Pool::All(_, len) => *len,
            Pool::Live(fields) => fields.len() as u64,
        }
    }

    fn get(&self, place: u64) -> (&'a [u8], &'a [u8]) {
        match self {
            Pool::All(hash, _) => hash.fields_from(place).next().unwrap_or_default(),
            Pool::Live(fields) => fields.get(place as usize).copied().unwrap_or_default(),
        }
    }

    fn pick(&self, picks: Picks, rng: &mut Rng) -> Vec<(&'a [u8], &'a [u8])> {
        match (picks, self) {
            (Picks::Distinct(count), Pool::All(hash, len)) if count >= *len => hash.fields().collect(),
            (Picks::Distinct(count), _) => {
                hashed::distinct(rng, count, self.len()).into_iter().map(|place| self.get(place)).collect()
            }
            (Picks::Repeated(count), _) => (0..count).map(|_| self.get(rng.below(self.len()))).collect(),
        }
    }
}

/// HRANDFIELD
pub(super) fn hrandfield(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let rng = &mut *context.rng.borrow_mut();
    let hash = || look::<Hash>(keyspace, context.database, &argv[1]);
    let Some(count) = argv.get(2) else {
        let pool = hash()?.map(|hash| Pool::new(hash, keyspace.now_ms()));
        return Ok(pool.map_or(Reply::Null, |pool| Reply::bulk(pool.get(rng.below(pool.len())).0)));
    };
    let picks = Picks::parse(count)?;
    let with_values = match argv.get(3) {
        None => false,
        Some(word) if argv.len() == 4 && word.eq_ignore_ascii_case(b"withvalues") => true,
        Some(_) => return Err(Error::Syntax),
    };
    if with_values && matches!(picks, Picks::Distinct(count) if count > i64::MAX.cast_unsigned() / 2) {
        return Err(Error::text("ERR value is out of range"));
    }
    let Some(hash) = hash()? else { return Ok(Reply::Array(vec![])) };
    let picked = Pool::new(hash, keyspace.now_ms()).pick(picks, rng).into_iter();
    Ok(match with_values {
        false => Reply::Array(picked.map(|(field, _)| Reply::bulk(field)).collect()),
        true => Reply::Pairs(picked.map(|(field, value)| (Reply::bulk(field), Reply::bulk(value))).collect()),
    })
}
