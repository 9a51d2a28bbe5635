//! Keys that somebody waits for, and which of them may have changed.
//!
//! The leader's side of blocking commands. It is no state: what a command does never depends on it, it is in no
//! snapshot and no digest, and on a replica where nobody waits there is none.

use std::collections::{BTreeMap, BTreeSet};

use super::Keyspace;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    keys: BTreeMap<u32, BTreeSet<Vec<u8>>>,
    changed: BTreeSet<(u32, Vec<u8>)>,
}

impl Awaited {
    /// A key is about to change or has changed.
    pub(super) fn touch(&mut self, database: u32, key: &[u8]) {
        if self.keys.get(&database).is_some_and(|keys| keys.contains(key)) {
            self.changed.insert((database, key.to_vec()));
        }
    }

    /// Databases are about to be emptied or exchanged.
    pub(super) fn touch_databases(&mut self, databases: &[u32]) {
        for database in databases {
            let keys = self.keys.get(database).into_iter().flatten();
            self.changed.extend(keys.map(|key| (*database, key.clone())));
        }
    }
}

impl Keyspace {
    pub(crate) fn await_key(&mut self, database: u32, key: &[u8]) {
        let keys = self.awaited.get_or_insert_default().keys.entry(database).or_default();
        if !keys.contains(key) {
            keys.insert(key.to_vec());
        }
    }

    pub(crate) fn forget_key(&mut self, database: u32, key: &[u8]) {
        let Some(awaited) = &mut self.awaited else { return };
        if let Some(keys) = awaited.keys.get_mut(&database) {
            keys.remove(key);
            if keys.is_empty() {
                awaited.keys.remove(&database);
            }
        }
        if awaited.keys.is_empty() && awaited.changed.is_empty() {
            self.awaited = None;
        }
    }

    pub(crate) fn take_changed(&mut self) -> BTreeSet<(u32, Vec<u8>)> {
        self.awaited.as_mut().map(|awaited| std::mem::take(&mut awaited.changed)).unwrap_or_default()
    }
}
