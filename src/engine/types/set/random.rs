//! The commands that pick members at random, every choice as likely as any other.

use quoris_resp::{Argv, Reply};

use super::value::Set;
use crate::command::ReadContext;
use crate::events::Class;
use crate::types::collection::{Collection, change, look, positive};
use crate::types::hashed::{self, Picks};
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// SPOP
pub(super) fn spop(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    if argv.len() > 3 {
        return Err(Error::Syntax);
    }
    let count = argv.get(2).map(positive).transpose()?;
    let (database, key) = (context.database, &argv[1]);
    let len = look::<Set>(keyspace, database, key)?.map_or(0, Set::len);
    let picked = hashed::distinct(&mut context.rng, count.unwrap_or(1), len);
    if picked.is_empty() {
        return Ok(if count.is_some() { Reply::Set(Vec::new()) } else { Reply::Null });
    }
    let set = look::<Set>(keyspace, database, key)?.ok_or(Error::NoSuchKey)?;
    let is_all = picked.len() as u64 == len;
    let mut members: Vec<Reply> = match is_all {
        true => set.members().map(Reply::bulk).collect(),
        false => picked.iter().filter_map(|place| set.get(*place)).map(Reply::bulk).collect(),
    };
    if is_all {
        keyspace.notify(Class::Set, "spop", database, key);
        keyspace.delete_and_tell(database, key);
    } else {
        change(keyspace, database, key, "spop", |set: &mut Set, _| set.remove_places(&picked))?;
    }
    Ok(match count {
        Some(_) => Reply::Set(members),
        None => members.pop().unwrap_or(Reply::Null),
    })
}

/// SRANDMEMBER
pub(super) fn srandmember(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let rng = &mut *context.rng.borrow_mut();
    let pick = |set: &Set, place| set.get(place).map_or(Reply::Null, Reply::bulk);
    let Some(count) = argv.get(2) else {
        let set = look::<Set>(keyspace, context.database, &argv[1])?;
        return Ok(set.map_or(Reply::Null, |set| pick(set, rng.below(set.len()))));
    };
    if argv.len() > 3 {
        return Err(Error::Syntax);
    }
    let picks = Picks::parse(count)?;
    let Some(set) = look::<Set>(keyspace, context.database, &argv[1])? else { return Ok(Reply::Array(vec![])) };
    Ok(Reply::Array(match picks {
        Picks::Distinct(count) if count >= set.len() => set.members().map(Reply::bulk).collect(),
        Picks::Distinct(count) => {
            hashed::distinct(rng, count, set.len()).into_iter().map(|place| pick(set, place)).collect()
        }
        Picks::Repeated(count) => (0..count).map(|_| pick(set, rng.below(set.len()))).collect(),
    }))
}
