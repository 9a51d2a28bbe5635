//! Keys that commands have changed, and by whom: for those who keep copies of what they have read.
//!
//! It is no state: what a command does never depends on it, it is in no snapshot and no digest. Where nobody wants
//! to know there is none, and a change costs one look.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Keyspace;
use crate::entry::SessionId;

/// What changed between two times that somebody asked. More may be named than has changed, never less.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Any key may have changed.
    pub all: bool,
    /// The keys, in the order of their first change, and the session whose commands alone changed it, if one did.
    pub keys: Vec<(Bytes, Option<SessionId>)>,
}

impl Changes {
    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        !self.all && self.keys.is_empty()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Changing {
    changes: Changes,
    places: BTreeMap<Bytes, usize>,
    /// The session of the command that runs.
    author: Option<SessionId>,
}

impl Changing {
    /// A key is about to change or has changed. The database does not matter: as in Redis, those who keep copies go
    /// by the name alone.
    pub(super) fn touch(&mut self, key: &[u8]) {
        self.add(key, self.author);
    }

    /// The same, but no command did it.
    pub(super) fn touch_due(&mut self, key: &[u8]) {
        self.add(key, None);
    }

    fn add(&mut self, key: &[u8], by: Option<SessionId>) {
        match self.places.get(key) {
            Some(place) => {
                let author = &mut self.changes.keys[*place].1;
                *author = author.filter(|_| *author == by);
            }
            None => {
                let key = Bytes::copy_from_slice(key);
                self.places.insert(key.clone(), self.changes.keys.len());
                self.changes.keys.push((key, by));
            }
        }
    }

    /// Databases are about to be emptied or exchanged.
    pub(super) fn touch_all(&mut self) {
        self.changes.all = true;
    }
}

impl Keyspace {
    /// Begins or ceases to note changes.
    pub(crate) fn note_changes(&mut self, wanted: bool) {
        if wanted != self.changing.is_some() {
            self.changing = wanted.then(Box::default);
        }
    }

    /// Whose command runs from now on.
    pub(crate) fn set_author(&mut self, author: Option<SessionId>) {
        if let Some(changing) = &mut self.changing {
            changing.author = author;
        }
    }

    /// What has changed since the last time; nothing when nothing has.
    pub(crate) fn take_changes(&mut self) -> Option<Changes> {
        let changing = self.changing.as_mut().filter(|changing| !changing.changes.is_empty())?;
        changing.places.clear();
        Some(std::mem::take(&mut changing.changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;

    fn session(connection: u64) -> Option<SessionId> {
        Some(SessionId { origin: 1, connection })
    }

    fn keyspace() -> Keyspace {
        let mut keyspace = Keyspace::new([1, 2], 2);
        keyspace.note_changes(true);
        keyspace
    }

    fn set(keyspace: &mut Keyspace, key: &str, at_ms: Option<u64>) {
        keyspace.set(0, key.as_bytes(), Value::String(crate::StringValue::text(b"v")), at_ms);
    }

    fn taken(keyspace: &mut Keyspace) -> Vec<(String, Option<SessionId>)> {
        let keys = keyspace.take_changes().map(|changes| changes.keys).unwrap_or_default();
        keys.into_iter().map(|(key, by)| (String::from_utf8_lossy(&key).into_owned(), by)).collect()
    }

    #[test]
    fn keys_are_named_once_in_order_and_with_the_one_who_changed_them() {
        let mut keyspace = keyspace();
        keyspace.set_author(session(7));
        set(&mut keyspace, "b", None);
        set(&mut keyspace, "a", None);
        set(&mut keyspace, "b", None);
        assert_eq!(taken(&mut keyspace), [("b".into(), session(7)), ("a".into(), session(7))]);
        assert_eq!(keyspace.take_changes(), None);
        keyspace.delete(0, b"a");
        keyspace.delete(0, b"not there");
        keyspace.set_author(session(8));
        set(&mut keyspace, "a", None);
        assert_eq!(taken(&mut keyspace), [("a".into(), None)], "two have changed it");
    }

    #[test]
    fn what_time_removes_nobody_did() {
        let mut keyspace = keyspace();
        set(&mut keyspace, "due", Some(10));
        taken(&mut keyspace);
        keyspace.advance(20);
        keyspace.set_author(session(7));
        set(&mut keyspace, "due", None);
        assert_eq!(taken(&mut keyspace), [("due".into(), None)]);
    }

    #[test]
    fn an_emptied_database_is_everything() {
        let mut keyspace = keyspace();
        keyspace.clear(1);
        assert!(keyspace.take_changes().is_some_and(|changes| changes.all));
        keyspace.swap(0, 1);
        assert!(keyspace.take_changes().is_some_and(|changes| changes.all));
        keyspace.note_changes(false);
        keyspace.clear(1);
        assert_eq!(keyspace.take_changes(), None);
    }
}
