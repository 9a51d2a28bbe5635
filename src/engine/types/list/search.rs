//! The commands that look for elements by value.

use quoris_resp::{Argv, Reply};

use super::value::List;
use crate::command::ReadContext;
use crate::number;
use crate::types::collection::{Collection, change, look};
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// LINSERT
pub(super) fn linsert(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let behind = match &argv[2].to_ascii_lowercase()[..] {
        b"before" => 0,
        b"after" => 1,
        _ => return Err(Error::Syntax),
    };
    let (database, key) = (context.database, &argv[1]);
    let Some(list) = look::<List>(keyspace, database, key)? else { return Ok(Reply::Int(0)) };
    let Some(pivot) = list.iter_from(0).position(|element| *element == argv[3]) else { return Ok(Reply::Int(-1)) };
    let len = change(keyspace, database, key, "linsert", |list: &mut List, settings| {
        list.insert(pivot as u64 + behind, &argv[4], settings);
        list.len()
    })?;
    Ok(Reply::Int(len.unwrap_or(0) as i64))
}

/// LREM: a negative count begins at the tail, zero means all.
pub(super) fn lrem(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let count = number::integer(&argv[2]).ok_or(Error::NotAnInteger)?;
    let (database, key) = (context.database, &argv[1]);
    let Some(list) = look::<List>(keyspace, database, key)? else { return Ok(Reply::Int(0)) };
    let most = if count == 0 { usize::MAX } else { usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX) };
    let len = list.len();
    let matches = |(_, element): &(u64, &[u8])| **element == argv[3];
    let mut places: Vec<u64> = if count < 0 {
        let from_tail = (0..len).rev().zip(list.iter_back_from(len));
        from_tail.filter(matches).map(|(place, _)| place).take(most).collect()
    } else {
        (0..len).zip(list.iter_from(0)).filter(matches).map(|(place, _)| place).take(most).collect()
    };
    if places.is_empty() {
        return Ok(Reply::Int(0));
    }
    places.sort_unstable();
    change(keyspace, database, key, "lrem", |list: &mut List, settings| {
        // From the tail on, so that the places in front stay what they are.
        places.iter().rev().for_each(|place| list.remove_range(*place, 1, settings));
    })?;
    Ok(Reply::Int(places.len() as i64))
}

/// What LPOS looks for.
struct Wanted {
    /// Which match is the first to count; negative from the tail.
    rank: i64,
    /// Matches at most, all for zero; one, not in a list, when nothing is said.
    count: Option<u64>,
    /// Elements to look at, all for zero.
    max_len: u64,
}

impl Wanted {
    fn parse(argv: &Argv) -> Result<Wanted, Error> {
        let mut wanted = Wanted { rank: 1, count: None, max_len: 0 };
        let mut at = 3;
        while let Some(word) = argv.get(at) {
            let value = argv.get(at + 1).ok_or(Error::Syntax)?;
            let number = number::integer(value).ok_or(Error::NotAnInteger);
            let natural = |what: &str| {
                let negative = || Error::text(format!("ERR {what} can't be negative"));
                number.clone().ok().and_then(|n| u64::try_from(n).ok()).ok_or_else(negative)
            };
            match &word.to_ascii_lowercase()[..] {
                b"rank" => wanted.rank = rank(number?)?,
                b"count" => wanted.count = Some(natural("COUNT")?),
                b"maxlen" => wanted.max_len = natural("MAXLEN")?,
                _ => return Err(Error::Syntax),
            }
            at += 2;
        }
        Ok(wanted)
    }
}

/// A rank, which is not 0 and has an opposite.
fn rank(rank: i64) -> Result<i64, Error> {
    match rank {
        0 => Err(Error::text(
            "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to \
             start from the end of the list",
        )),
        i64::MIN => Err(Error::text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        )),
        _ => Ok(rank),
    }
}

/// LPOS
pub(super) fn lpos(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let wanted = Wanted::parse(argv)?;
    let Some(list) = look::<List>(keyspace, context.database, &argv[1])? else {
        return Ok(if wanted.count.is_some() { Reply::Array(vec![]) } else { Reply::Null });
    };
    let len = list.len();
    let most = |n: u64| if n == 0 { usize::MAX } else { usize::try_from(n).unwrap_or(usize::MAX) };
    let (looked_at, skipped) = (most(wanted.max_len), most(wanted.rank.unsigned_abs() - 1));
    let skipped = if wanted.rank.unsigned_abs() == 1 { 0 } else { skipped };
    let matches = |(_, element): &(u64, &[u8])| **element == argv[2];
    let found: Box<dyn Iterator<Item = (u64, &[u8])>> = if wanted.rank < 0 {
        Box::new((0..len).rev().zip(list.iter_back_from(len)).take(looked_at).filter(matches))
    } else {
        Box::new((0..len).zip(list.iter_from(0)).take(looked_at).filter(matches))
    };
    let mut places = found.map(|(place, _)| Reply::Int(place as i64)).skip(skipped);
    Ok(match wanted.count {
        Some(count) => Reply::Array(places.take(most(count)).collect()),
        None => places.next().unwrap_or(Reply::Null),
    })
}
