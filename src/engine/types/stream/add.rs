//! What changes the entries of a stream: XADD, XTRIM, XDEL and their kin, XSETID.

use std::borrow::Cow;

use quoris_resp::{Argv, Reply};

use super::id::{self, Id, Wanted};
use super::options::{Options, References};
use super::value::Stream;
use crate::command::ReadContext;
use crate::events::Class;
use crate::number;
use crate::types::collection::{Collection, change, change_or_make, look};
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// An entry has fewer bytes, as in Redis.
const ENTRY_BYTES_MAX: usize = 1 << 30;

/// XADD
pub(super) fn xadd(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let options = Options::parse(argv, true)?;
    let fields = argv.len().saturating_sub(options.end);
    if fields < 2 || fields % 2 == 1 {
        return Err(Error::Arity("xadd".into()));
    }
    if options.id == Wanted::Exactly(Id::MIN) {
        return Err(Error::text("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let stream = look::<Stream>(keyspace, context.database, &argv[1])?;
    if stream.is_none() && options.only_existing {
        return Ok(Reply::Null);
    }
    let names = options.names(argv);
    let produced = stream.and_then(Stream::produced);
    let known = |(producer, message): &(&[u8], Cow<'_, [u8]>)| produced?.find(producer, message, context.now_ms);
    if let Some(id) = names.as_ref().and_then(known) {
        change(keyspace, context.database, &argv[1], None, |stream: &mut Stream, _| {
            stream.change_produced(|produced| produced.duplicates += 1);
        })?;
        return Ok(id::reply(id));
    }
    let last = stream.map_or(Id::MIN, Stream::last);
    if last == Id::MAX {
        let why = "ERR The stream has exhausted the last possible ID, unable to add more items";
        return Err(Error::text(why));
    }
    let too_small = "ERR The ID specified in XADD is equal or smaller than the target stream top item";
    let id = options.id.after(last, context.now_ms).ok_or_else(|| Error::text(too_small))?;
    if argv.iter().skip(options.end).map(<[u8]>::len).sum::<usize>() > ENTRY_BYTES_MAX {
        return Err(Error::text("ERR Elements are too large to be stored"));
    }
    let trimmed = change_or_make(keyspace, context.database, &argv[1], "xadd", |stream: &mut Stream, settings| {
        stream.append(id, argv.iter().skip(options.end));
        if let Some((producer, message)) = &names {
            stream.change_produced(|produced| {
                produced.forget_old(context.now_ms);
                produced.record(producer, message, id);
                produced.added += 1;
            });
        }
        options.trim(stream, settings)
    })?;
    tell_trim(keyspace, context, &argv[1], trimmed);
    Ok(id::reply(id))
}

fn tell_trim(keyspace: &mut Keyspace, context: &ApplyContext, key: &[u8], trimmed: u64) {
    if trimmed > 0 {
        keyspace.notify(Class::Stream, "xtrim", context.database, key);
    }
}

/// XTRIM
pub(super) fn xtrim(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let options = Options::parse(argv, false)?;
    let (database, key) = (context.database, &argv[1]);
    let Some(stream) = look::<Stream>(keyspace, database, key)? else { return Ok(Reply::Int(0)) };
    if !options.would_trim(stream, keyspace.settings()) {
        return Ok(Reply::Int(0));
    }
    let trimmed = change(keyspace, database, key, None, |stream, settings| options.trim(stream, settings))?;
    let trimmed = trimmed.unwrap_or(0);
    tell_trim(keyspace, context, key, trimmed);
    Ok(Reply::Int(trimmed as i64))
}

/// XLEN
pub(super) fn xlen(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    Ok(Reply::Int(look::<Stream>(keyspace, context.database, &argv[1])?.map_or(0, |stream| stream.len() as i64)))
}

/// XDEL
pub(super) fn xdel(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (database, key) = (context.database, &argv[1]);
    let Some(stream) = look::<Stream>(keyspace, database, key)? else { return Ok(Reply::Int(0)) };
    let ids = id::all(argv.iter().skip(2))?;
    if !ids.iter().any(|id| stream.find(*id).is_some()) {
        return Ok(Reply::Int(0));
    }
    let removed = change(keyspace, database, key, "xdel", |stream: &mut Stream, _| {
        ids.iter().filter(|id| stream.remove(**id)).count() as i64
    })?;
    Ok(Reply::Int(removed.unwrap_or(0)))
}

/// XSETID
pub(super) fn xsetid(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let smaller = |than: &str| Error::text(format!("ERR The ID specified in XSETID is smaller than {than}"));
    let last = Id::parse(&argv[2], 0)?;
    let (mut added, mut max_deleted, mut at) = (None, Id::MIN, 3);
    while let Some(word) = argv.get(at) {
        let value = argv.get(at + 1).ok_or(Error::Syntax)?;
        match &word.to_ascii_lowercase()[..] {
            b"entriesadded" => {
                let n = number::integer(value).ok_or(Error::NotAnInteger)?;
                added = Some(u64::try_from(n).map_err(|_| Error::text("ERR entries_added must be positive"))?);
            }
            b"maxdeletedid" => {
                max_deleted = Id::parse(value, 0)?;
                if last < max_deleted {
                    return Err(smaller("the provided max_deleted_entry_id"));
                }
            }
            _ => return Err(Error::Syntax),
        }
        at += 2;
    }
    let (database, key) = (context.database, &argv[1]);
    let stream = look::<Stream>(keyspace, database, key)?.ok_or(Error::NoSuchKey)?;
    if last < stream.max_deleted() {
        return Err(smaller("current max_deleted_entry_id"));
    }
    if stream.last_id().is_some_and(|top| last < top) {
        return Err(smaller("the target stream top item"));
    }
    if stream.len() > 0 && added.is_some_and(|added| added < stream.len()) {
        let why = "ERR The entries_added specified in XSETID is smaller than the target stream length";
        return Err(Error::text(why));
    }
    change(keyspace, database, key, "xsetid", |stream: &mut Stream, _| {
        let max_deleted = if max_deleted == Id::MIN { stream.max_deleted() } else { max_deleted };
        stream.set_counters(last, max_deleted, added.unwrap_or(stream.added()));
    })?;
    Ok(Reply::Ok)
}

/// The policy and the ids of XDELEX and XACKDEL, from argument `at` on.
///
/// # Errors
/// As Redis words them.
fn policy_and_ids(argv: &Argv, mut at: usize) -> Result<(References, Vec<Id>), Error> {
    let (mut references, mut ids) = (None, None);
    while let Some(word) = argv.get(at) {
        match References::parse(word) {
            Some(policy) if references.is_none() => references = Some(policy),
            None if ids.is_none() && word.eq_ignore_ascii_case(b"ids") => {
                let (some, behind) = id::counted(argv, at + 1)?;
                (ids, at) = (Some(some), behind - 1);
            }
            _ => return Err(Error::Syntax),
        }
        at += 1;
    }
    Ok((references.unwrap_or(References::Keep), ids.ok_or(Error::Syntax)?))
}

/// Removes an entry as a policy wants it; false when it has to stay.
fn remove_by(stream: &mut Stream, id: Id, references: References) -> bool {
    match references {
        References::Acknowledged if stream.is_wanted(id) => return false,
        References::Delete => stream.forget_deliveries(id),
        References::Acknowledged | References::Keep => {}
    }
    stream.remove(id);
    true
}

/// Says of each id -1 when it is not there, 1 when it is removed, 2 when it has to stay.
fn results(results: impl Iterator<Item = i64>) -> Reply {
    Reply::Array(results.map(Reply::Int).collect())
}

/// Changes a stream, and tells it when entries went.
fn change_telling(
    keyspace: &mut Keyspace,
    context: &ApplyContext,
    key: &[u8],
    remove: impl FnOnce(&mut Stream) -> Reply,
) -> Result<Option<Reply>, Error> {
    let done = change(keyspace, context.database, key, None, |stream: &mut Stream, _| {
        let before = stream.len();
        let reply = remove(stream);
        (reply, stream.len() < before)
    })?;
    let Some((reply, has_removed)) = done else { return Ok(None) };
    if has_removed {
        keyspace.notify(Class::Stream, "xdel", context.database, key);
    }
    Ok(Some(reply))
}

/// XDELEX
pub(super) fn xdelex(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (references, ids) = policy_and_ids(argv, 2)?;
    let (database, key) = (context.database, &argv[1]);
    let nothing = || results(ids.iter().map(|_| -1));
    let Some(stream) = look::<Stream>(keyspace, database, key)? else { return Ok(nothing()) };
    let dangling = |id: Id| references == References::Delete && stream.groups().any(|(_, group)| group.is_pending(id));
    if !ids.iter().any(|id| stream.find(*id).is_some() || dangling(*id)) {
        return Ok(nothing());
    }
    let done = change_telling(keyspace, context, key, |stream| {
        let one = |id: &Id| {
            let is_there = stream.find(*id).is_some();
            if !is_there && references != References::Delete {
                return -1;
            }
            match remove_by(stream, *id, references) {
                _ if !is_there => -1,
                true => 1,
                false => 2,
            }
        };
        results(ids.iter().map(one))
    })?;
    Ok(done.unwrap_or_else(nothing))
}

/// XACKDEL
pub(super) fn xackdel(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (references, ids) = policy_and_ids(argv, 3)?;
    let (database, key, name) = (context.database, &argv[1], &argv[2]);
    let nothing = || results(ids.iter().map(|_| -1));
    let group = look::<Stream>(keyspace, database, key)?.and_then(|stream| stream.group(name));
    if !group.is_some_and(|group| ids.iter().any(|id| group.is_pending(*id))) {
        return Ok(nothing());
    }
    let done = change_telling(keyspace, context, key, |stream| {
        let one = |id: &Id| {
            let acknowledged = stream.change_group(name, |_, group| group.take(*id)).flatten();
            match acknowledged {
                None => -1,
                Some(_) if remove_by(stream, *id, references) => 1,
                Some(_) => 2,
            }
        };
        results(ids.iter().map(one))
    })?;
    Ok(done.unwrap_or_else(nothing))
}
