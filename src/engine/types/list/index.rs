//! The commands that go by index. Negative indexes count from the tail, -1 is the last element.

use quoris_resp::{Argv, Reply};

use super::value::List;
use crate::command::ReadContext;
use crate::events::Class;
use crate::number;
use crate::types::collection::{Collection, change, look, range};
use crate::{ApplyContext, CommandResult, Error, Keyspace};

fn integer(text: &[u8]) -> Result<i64, Error> {
    number::integer(text).ok_or(Error::NotAnInteger)
}

/// The place of an index in a list of `len` elements.
fn place(index: i64, len: u64) -> Option<u64> {
    let place = if index < 0 { len.checked_sub(index.unsigned_abs()) } else { Some(index.unsigned_abs()) };
    place.filter(|place| *place < len)
}

/// LINDEX
pub(super) fn lindex(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let Some(list) = look::<List>(keyspace, context.database, &argv[1])? else { return Ok(Reply::Null) };
    let place = place(integer(&argv[2])?, list.len());
    Ok(place.and_then(|place| list.get(place)).map_or(Reply::Null, Reply::bulk))
}

/// LSET
pub(super) fn lset(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (database, key) = (context.database, &argv[1]);
    let list = look::<List>(keyspace, database, key)?.ok_or(Error::NoSuchKey)?;
    let out_of_range = || Error::text("ERR index out of range");
    let place = place(integer(&argv[2])?, list.len()).ok_or_else(out_of_range)?;
    change(keyspace, database, key, "lset", |list: &mut List, settings| list.replace(place, &argv[3], settings))?;
    Ok(Reply::Ok)
}

/// LRANGE
pub(super) fn lrange(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let (start, stop) = (integer(&argv[2])?, integer(&argv[3])?);
    let Some(list) = look::<List>(keyspace, context.database, &argv[1])? else { return Ok(Reply::Array(vec![])) };
    let Some((first, count)) = range(start, stop, list.len()) else { return Ok(Reply::Array(vec![])) };
    Ok(Reply::Array(list.iter_from(first).take(count as usize).map(Reply::bulk).collect()))
}

/// LTRIM
pub(super) fn ltrim(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (start, stop) = (integer(&argv[2])?, integer(&argv[3])?);
    let (database, key) = (context.database, &argv[1]);
    let Some(list) = look::<List>(keyspace, database, key)? else { return Ok(Reply::Ok) };
    let len = list.len();
    match range(start, stop, len) {
        None => {
            keyspace.notify(Class::List, "ltrim", database, key);
            keyspace.delete_and_tell(database, key);
        }
        // Told all the same, as in Redis.
        Some((0, count)) if count == len => keyspace.notify(Class::List, "ltrim", database, key),
        Some((first, count)) => {
            change(keyspace, database, key, "ltrim", |list: &mut List, settings| {
                list.remove_range(first + count, len - first - count, settings);
                list.remove_range(0, first, settings);
            })?;
        }
    }
    Ok(Reply::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_count_from_both_ends() {
        assert_eq!((place(0, 3), place(2, 3), place(3, 3)), (Some(0), Some(2), None));
        assert_eq!((place(-1, 3), place(-3, 3), place(-4, 3), place(i64::MIN, 3)), (Some(2), Some(0), None, None));
        assert_eq!(range(0, -1, 3), Some((0, 3)));
        assert_eq!((range(-100, 1, 3), range(1, 100, 3)), (Some((0, 2)), Some((1, 2))));
        assert_eq!((range(2, 1, 3), range(3, 5, 3), range(0, i64::MIN, 3)), (None, None, None));
    }
}
