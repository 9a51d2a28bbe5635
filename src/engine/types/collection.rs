//! What all types beside strings have in common.
//!
//! [`Collection`] is what digest, memory count, snapshots and generic commands need of a type; [`Typed`] and
//! [`change`] are how its own commands reach a value.

use quoris_resp::Argv;

use crate::events::Class;
use crate::{ApplyContext, Error, Keyspace, Settings, Value, number};

/// A value of many elements.
pub(crate) trait Collection {
    /// The type's name as TYPE says it.
    fn type_name(&self) -> &'static str;

    /// What OBJECT ENCODING says.
    fn encoding(&self) -> &'static str;

    /// The number of elements.
    fn len(&self) -> u64;

    /// Whether the key goes when the value is like this: when it is empty, but for streams.
    fn is_gone(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the elements by our own count, the same whatever the history was.
    fn bytes(&self) -> u64;

    /// A hash of all that a command can see, from what was remembered; with `anew` from the bytes alone.
    fn hash(&self, anew: bool) -> u64;

    /// Flips one bit, as broken memory would; false when there is none.
    fn flip_bit(&mut self) -> bool;

    /// What of the value its elements do not tell, mostly the encoding: a snapshot keeps these two bits. Not 0.
    fn origin(&self) -> u8;

    /// Makes it what [`Collection::origin`] said, after loading; false for an origin that this type has not.
    fn restore_origin(&mut self, origin: u8) -> bool;

    /// The type byte of its form in RDB.
    fn rdb_type(&self) -> u8;

    /// Writes what stands in front of the elements.
    fn write_head(&self, out: &mut Vec<u8>);

    /// Writes elements from the one at `from` on until `out` is `end` bytes long or longer, at least one, and
    /// gives the place to go on; nothing when the last one was written.
    fn write_part(&self, from: u64, end: usize, out: &mut Vec<u8>) -> Option<u64>;

    /// Whether [`Collection::units`] gives all of it: not for what is one buffer.
    fn has_units(&self) -> bool;

    /// Gives its units from one on, until `visit` says that it has not taken one; see [`super::growing`].
    fn units(&self, from: u64, visit: &mut dyn FnMut(&[u8]) -> bool);

    /// What a snapshot keeps beside the form in RDB, as printable text.
    fn beside(&self) -> Option<Vec<u8>> {
        None
    }

    /// Takes over what [`Collection::beside`] gave, after loading; false when it does not fit.
    fn restore_beside(&mut self, _text: &[u8]) -> bool {
        false
    }
}

/// A type of collection, as its commands see it.
pub(crate) trait Typed: Collection + Default {
    /// The class of the events of its own commands.
    const CLASS: Class;

    /// The value as this type.
    fn of(value: &Value) -> Option<&Self>;

    /// The value as this type, to change it.
    fn of_mut(value: &mut Value) -> Option<&mut Self>;

    /// The collection as a value.
    fn into_value(self) -> Value;
}

/// The first element between two indexes, both included and negative ones counted from the end, and the number
/// of elements; nothing when there is none.
pub(crate) fn range(start: i64, stop: i64, len: u64) -> Option<(u64, u64)> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_end = |n: i64| if n < 0 { n.saturating_add(len) } else { n };
    let (start, stop) = (from_end(start).max(0), from_end(stop).min(len - 1));
    (start <= stop).then(|| (start.cast_unsigned(), (stop - start + 1).cast_unsigned()))
}

/// The collection at a key.
///
/// # Errors
/// When the key holds another type.
pub(crate) fn look<'a, C: Typed>(keyspace: &'a Keyspace, database: u32, key: &[u8]) -> Result<Option<&'a C>, Error> {
    match keyspace.value(database, key) {
        Some(value) => C::of(value).map(Some).ok_or(Error::WrongType),
        None => Ok(None),
    }
}

/// The collection at a key, from which a command wants to take; one that waits already passes over other types.
///
/// # Errors
/// When the key holds another type.
pub(crate) fn to_take<'a, C: Typed>(
    keyspace: &'a Keyspace,
    context: &ApplyContext,
    key: &[u8],
) -> Result<Option<&'a C>, Error> {
    look::<C>(keyspace, context.database, key).or_else(|error| if context.waits { Ok(None) } else { Err(error) })
}

/// How many commands that each wait for one element the collection at a key may serve.
pub(crate) fn len<C: Typed>(keyspace: &Keyspace, database: u32, key: &[u8], _: &Argv) -> u64 {
    look::<C>(keyspace, database, key).ok().flatten().map_or(0, Collection::len)
}

/// Changes the collection at a key, and removes the key when nothing is left in it. The key gets a new version,
/// so a command looks first whether there is something to change. The change is told by a name, unless the caller
/// does that.
///
/// Nothing when there is no such key.
///
/// # Errors
/// When the key holds another type.
pub(crate) fn change<C: Typed, R>(
    keyspace: &mut Keyspace,
    database: u32,
    key: &[u8],
    name: impl Into<Option<&'static str>>,
    change: impl FnOnce(&mut C, &Settings) -> R,
) -> Result<Option<R>, Error> {
    if look::<C>(keyspace, database, key)?.is_none() {
        return Ok(None);
    }
    let settings = *keyspace.settings();
    let Some(mut edit) = keyspace.edit(database, key) else { return Ok(None) };
    let collection = C::of_mut(&mut edit).ok_or(Error::WrongType)?;
    let result = change(collection, &settings);
    let is_gone = collection.is_gone();
    drop(edit);
    if let Some(name) = name.into() {
        keyspace.notify(C::CLASS, name, database, key);
    }
    if is_gone {
        keyspace.delete_and_tell(database, key);
    }
    Ok(Some(result))
}

/// [`change`], with a new collection where there is no key.
///
/// # Errors
/// When the key holds another type.
pub(crate) fn change_or_make<C: Typed, R>(
    keyspace: &mut Keyspace,
    database: u32,
    key: &[u8],
    name: impl Into<Option<&'static str>>,
    first: impl FnOnce(&mut C, &Settings) -> R,
) -> Result<R, Error> {
    if look::<C>(keyspace, database, key)?.is_some() {
        let result = change(keyspace, database, key, name, first)?;
        return result.ok_or(Error::NoSuchKey);
    }
    let mut collection = C::default();
    let result = first(&mut collection, keyspace.settings());
    if !collection.is_gone() {
        keyspace.set(database, key, collection.into_value(), None);
        if let Some(name) = name.into() {
            keyspace.notify(C::CLASS, name, database, key);
        }
    }
    Ok(result)
}

/// A count that must not be negative.
///
/// # Errors
/// When it is, or is no number.
pub(crate) fn positive(text: &[u8]) -> Result<u64, Error> {
    let count = number::integer(text).and_then(|n| u64::try_from(n).ok());
    count.ok_or_else(|| Error::text("ERR value is out of range, must be positive"))
}
