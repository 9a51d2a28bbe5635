//! SET and all its relatives: the commands that store whole strings.

use quoris_resp::{Argv, Reply};
use smallvec::SmallVec;

use super::expiry::{Clock, Time};
use super::value::INLINE_MAX;
use super::{StringValue, digest};
use crate::command::{KeyUse, KeyUses, OW_UPDATE, RM_DELETE, RW_ACCESS_UPDATE, RW_DELETE, RW_UPDATE};
use crate::events::Class;
use crate::number;
use crate::{ApplyContext, CommandResult, Error, Keyspace, Value};

/// When a write may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition<'a> {
    /// NX: the key is absent.
    Absent,
    /// XX: the key is there.
    Present,
    /// IFEQ: it holds this text.
    Equal(&'a [u8]),
    /// IFNE: it does not hold this text.
    Unequal(&'a [u8]),
    /// IFDEQ: the digest of what it holds is this one.
    DigestEqual(&'a [u8]),
    /// IFDNE: the digest of what it holds is not this one.
    DigestUnequal(&'a [u8]),
}

impl<'a> Condition<'a> {
    /// A condition from its option word and, where it takes one, the argument behind it.
    pub(super) fn by_option(word: &[u8], next: Option<&'a [u8]>) -> Option<(Condition<'a>, usize)> {
        let is = |known: &[u8]| word.eq_ignore_ascii_case(known);
        match next {
            _ if is(b"NX") => Some((Condition::Absent, 1)),
            _ if is(b"XX") => Some((Condition::Present, 1)),
            Some(text) if is(b"IFEQ") => Some((Condition::Equal(text), 2)),
            Some(text) if is(b"IFNE") => Some((Condition::Unequal(text), 2)),
            Some(text) if is(b"IFDEQ") => Some((Condition::DigestEqual(text), 2)),
            Some(text) if is(b"IFDNE") => Some((Condition::DigestUnequal(text), 2)),
            _ => None,
        }
    }

    /// Whether it compares what the key holds.
    pub(super) fn compares(self) -> bool {
        !matches!(self, Condition::Absent | Condition::Present)
    }

    /// Whether it holds for what is at the key. An absent key differs from every text.
    ///
    /// # Errors
    /// When it compares and the key holds another type, or the digest is not one.
    pub(super) fn holds(self, old: Option<&Value>) -> Result<bool, Error> {
        if let Condition::DigestEqual(hex) | Condition::DigestUnequal(hex) = self {
            digest::check(hex)?;
        }
        let text = match (self.compares(), old) {
            (true, Some(value)) => Some(value.as_string()?),
            _ => None,
        };
        let mut digits = itoa::Buffer::new();
        let text = text.map(|t| t.bytes(&mut digits));
        Ok(match self {
            Condition::Absent => old.is_none(),
            Condition::Present => old.is_some(),
            Condition::Equal(wanted) => text == Some(wanted),
            Condition::Unequal(wanted) => text != Some(wanted),
            Condition::DigestEqual(hex) => text.is_some_and(|t| digest::matches(t, hex)),
            Condition::DigestUnequal(hex) => !text.is_some_and(|t| digest::matches(t, hex)),
        })
    }
}

/// What becomes of a key's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry<'a> {
    /// Nothing was said.
    Unsaid,
    /// KEEPTTL.
    Keep,
    /// PERSIST.
    Persist,
    /// EX, PX, EXAT, PXAT.
    At(Time<'a>),
}

impl<'a> Expiry<'a> {
    /// Takes one more option into account; nothing when it is none, contradicts or lacks its number.
    pub(super) fn take(&mut self, word: &[u8], next: Option<&'a [u8]>) -> Option<usize> {
        let (new, taken) = match Clock::by_option(word) {
            Some(clock) => (Expiry::At(Time { clock, text: next? }), 2),
            None if word.eq_ignore_ascii_case(b"KEEPTTL") => (Expiry::Keep, 1),
            None if word.eq_ignore_ascii_case(b"PERSIST") => (Expiry::Persist, 1),
            None => return None,
        };
        let compatible = match (*self, new) {
            (Expiry::Unsaid, _) => true,
            (Expiry::At(old), Expiry::At(new)) => old.clock == new.clock,
            (old, new) => old == new,
        };
        *self = new;
        compatible.then_some(taken)
    }
}

/// The options of SET.
struct Options<'a> {
    condition: Option<Condition<'a>>,
    expiry: Expiry<'a>,
    get: bool,
}

impl<'a> Options<'a> {
    fn parse(argv: &'a Argv) -> Result<Options<'a>, Error> {
        let mut options = Options { condition: None, expiry: Expiry::Unsaid, get: false };
        let mut at = 3;
        while let Some(word) = argv.get(at) {
            let next = argv.get(at + 1);
            if word.eq_ignore_ascii_case(b"GET") {
                options.get = true;
                at += 1;
            } else if let Some((condition, taken)) = Condition::by_option(word, next) {
                let same = |old: Condition| std::mem::discriminant(&old) == std::mem::discriminant(&condition);
                if !options.condition.is_none_or(same) {
                    return Err(Error::Syntax);
                }
                options.condition = Some(condition);
                at += taken;
            } else {
                at += options.expiry.take(word, next).ok_or(Error::Syntax)?;
            }
        }
        if options.expiry == Expiry::Persist { Err(Error::Syntax) } else { Ok(options) }
    }
}

/// The deadline of a string that is stored.
#[derive(Clone, Copy)]
enum Until {
    /// That which the key had.
    Kept(Option<u64>),
    Given(u64),
}

const FOREVER: Until = Until::Kept(None);

/// Stores `text`; a deadline that has passed removes the key instead, as Redis does.
fn store(keyspace: &mut Keyspace, context: &ApplyContext, key: &[u8], text: &[u8], until: Until) {
    let database = context.database;
    let expire_at_ms = match until {
        Until::Kept(at) => at,
        Until::Given(at) => Some(at),
    };
    if expire_at_ms.is_some_and(|at| at <= context.now_ms) {
        keyspace.delete_and_tell(database, key);
        return;
    }
    put(keyspace, database, key, text, expire_at_ms);
    keyspace.notify(Class::String, "set", database, key);
    if matches!(until, Until::Given(_)) {
        keyspace.notify(Class::Generic, "expire", database, key);
    }
}

/// Stores `text`.
fn put(keyspace: &mut Keyspace, database: u32, key: &[u8], text: &[u8], expire_at_ms: Option<u64>) {
    // A short text takes no allocation, so there is none to use again.
    let reusable = text.len() > INLINE_MAX
        && keyspace.entry(database, key).is_some_and(|old| {
            old.expire_at_ms == expire_at_ms && old.value.as_string().is_ok_and(|old| old.fits(text.len()))
        });
    if reusable
        && let Some(mut edit) = keyspace.edit(database, key)
        && let Ok(old) = edit.as_string_mut()
    {
        old.overwrite(text);
        return;
    }
    keyspace.set(database, key, Value::String(StringValue::new(text)), expire_at_ms);
}

/// SET
pub(super) fn set(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (key, text) = (&argv[1], &argv[2]);
    if argv.len() == 3 {
        store(keyspace, context, key, text, FOREVER);
        return Ok(Reply::Ok);
    }
    let options = Options::parse(argv)?;
    let old = keyspace.entry(context.database, key);
    let until = match options.expiry {
        Expiry::At(time) => Until::Given(time.deadline_ms("set", context)?),
        Expiry::Keep => Until::Kept(old.as_ref().and_then(|entry| entry.expire_at_ms)),
        Expiry::Unsaid | Expiry::Persist => FOREVER,
    };
    let old = old.map(|entry| entry.value);
    let before = match (options.get, old) {
        (true, Some(value)) => Some(Reply::Bulk(value.as_string()?.to_bytes())),
        _ => None,
    };
    let done = match options.condition {
        Some(condition) => condition.holds(old)?,
        None => true,
    };
    if done {
        store(keyspace, context, key, text, until);
    }
    Ok(match before {
        Some(before) => before,
        None if done && !options.get => Reply::Ok,
        None => Reply::Null,
    })
}

/// SET gives back what was there only with GET, and reads it only for a comparison.
pub(super) fn set_keys(argv: &Argv) -> Result<KeyUses, Error> {
    let options = Options::parse(argv);
    let flags = match options {
        Ok(Options { get: true, .. }) => RW_ACCESS_UPDATE,
        Ok(Options { condition: Some(condition), .. }) if condition.compares() => RW_UPDATE,
        _ => OW_UPDATE,
    };
    Ok(SmallVec::from_slice(&[KeyUse { position: 1, flags }]))
}

/// SETNX
pub(super) fn setnx(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let absent = keyspace.value(context.database, &argv[1]).is_none();
    if absent {
        store(keyspace, context, &argv[1], &argv[2], FOREVER);
    }
    Ok(Reply::Int(i64::from(absent)))
}

/// SETEX
pub(super) fn setex(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let at = Time { clock: Clock::Seconds, text: &argv[2] }.deadline_ms("setex", context)?;
    store(keyspace, context, &argv[1], &argv[3], Until::Given(at));
    Ok(Reply::Ok)
}

/// PSETEX
pub(super) fn psetex(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let at = Time { clock: Clock::Milliseconds, text: &argv[2] }.deadline_ms("psetex", context)?;
    store(keyspace, context, &argv[1], &argv[3], Until::Given(at));
    Ok(Reply::Ok)
}

/// GETSET
pub(super) fn getset(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let old = match keyspace.value(context.database, &argv[1]) {
        Some(value) => Reply::Bulk(value.as_string()?.to_bytes()),
        None => Reply::Null,
    };
    store(keyspace, context, &argv[1], &argv[2], FOREVER);
    Ok(old)
}

/// GETDEL
pub(super) fn getdel(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let old = match keyspace.value(context.database, &argv[1]) {
        Some(value) => Reply::Bulk(value.as_string()?.to_bytes()),
        None => return Ok(Reply::Null),
    };
    keyspace.delete_and_tell(context.database, &argv[1]);
    Ok(old)
}

/// GETEX
pub(super) fn getex(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let mut expiry = Expiry::Unsaid;
    let mut at = 2;
    while let Some(word) = argv.get(at) {
        at += expiry.take(word, argv.get(at + 1)).ok_or(Error::Syntax)?;
    }
    if expiry == Expiry::Keep {
        return Err(Error::Syntax);
    }
    let Some(entry) = keyspace.entry(context.database, &argv[1]) else { return Ok(Reply::Null) };
    let reply = Reply::Bulk(entry.value.as_string()?.to_bytes());
    match expiry {
        Expiry::At(time) => {
            let at = time.deadline_ms("getex", context)?;
            keyspace.expire_at(context.database, &argv[1], Some(at).filter(|at| *at > context.now_ms));
        }
        Expiry::Persist if entry.expire_at_ms.is_some() => {
            keyspace.persist(context.database, &argv[1]);
        }
        Expiry::Persist | Expiry::Keep | Expiry::Unsaid => {}
    }
    Ok(reply)
}

/// MSET
pub(super) fn mset(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    if argv.len().is_multiple_of(2) {
        return Err(Error::Arity("mset".into()));
    }
    for at in (1..argv.len()).step_by(2) {
        store(keyspace, context, &argv[at], &argv[at + 1], FOREVER);
    }
    Ok(Reply::Ok)
}

/// MSETNX
pub(super) fn msetnx(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    if argv.len().is_multiple_of(2) {
        return Err(Error::Arity("msetnx".into()));
    }
    let mut keys = (1..argv.len()).step_by(2);
    if keys.any(|at| keyspace.value(context.database, &argv[at]).is_some()) {
        return Ok(Reply::Int(0));
    }
    mset(keyspace, context, argv).map(|_| Reply::Int(1))
}

/// MSETEX
pub(super) fn msetex(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let pairs =
        number::integer(&argv[1]).and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=i32::MAX as usize).contains(n));
    let pairs = pairs.ok_or_else(|| Error::text("ERR invalid numkeys value"))?;
    let options_at = 2 + 2 * pairs;
    if options_at > argv.len() {
        return Err(Error::text("ERR wrong number of key-value pairs"));
    }
    let (mut condition, mut expiry, mut at) = (None, Expiry::Unsaid, options_at);
    while let Some(word) = argv.get(at) {
        match Condition::by_option(word, None) {
            Some((new, taken)) if condition.is_none_or(|old| old == new) => {
                condition = Some(new);
                at += taken;
            }
            Some(_) => return Err(Error::Syntax),
            None => at += expiry.take(word, argv.get(at + 1)).ok_or(Error::Syntax)?,
        }
    }
    let given = match expiry {
        Expiry::At(time) => Some(Until::Given(time.deadline_ms("msetex", context)?)),
        Expiry::Persist => return Err(Error::Syntax),
        Expiry::Keep | Expiry::Unsaid => None,
    };
    let wanted = |present: bool| condition.is_none_or(|c| (c == Condition::Present) == present);
    let mut keys = (2..options_at).step_by(2);
    if !keys.all(|at| wanted(keyspace.value(context.database, &argv[at]).is_some())) {
        return Ok(Reply::Int(0));
    }
    for at in (2..options_at).step_by(2) {
        let kept = keyspace.entry(context.database, &argv[at]).and_then(|entry| entry.expire_at_ms);
        let kept = Until::Kept(kept.filter(|_| expiry == Expiry::Keep));
        store(keyspace, context, &argv[at], &argv[at + 1], given.unwrap_or(kept));
    }
    Ok(Reply::Int(1))
}

/// DELEX
pub(super) fn delex(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    if argv.len() == 2 {
        return Ok(Reply::Int(i64::from(keyspace.delete_and_tell(context.database, &argv[1]))));
    }
    let condition = match Condition::by_option(&argv[2], argv.get(3)) {
        Some((condition, 2)) if argv.len() == 4 => condition,
        _ => return Err(Error::Syntax),
    };
    let old = keyspace.value(context.database, &argv[1]);
    let done = condition.holds(old)? && old.is_some();
    if done {
        keyspace.delete_and_tell(context.database, &argv[1]);
    }
    Ok(Reply::Int(i64::from(done)))
}

/// DELEX reads only for a comparison.
pub(super) fn delex_keys(argv: &Argv) -> Result<KeyUses, Error> {
    let flags = if argv.len() == 2 { RM_DELETE } else { RW_DELETE };
    Ok(SmallVec::from_slice(&[KeyUse { position: 1, flags }]))
}

/// DELIFEQ
pub(super) fn delifeq(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let old = keyspace.value(context.database, &argv[1]);
    let done = Condition::Equal(&argv[2]).holds(old)?;
    if done {
        keyspace.delete_and_tell(context.database, &argv[1]);
    }
    Ok(Reply::Int(i64::from(done)))
}
