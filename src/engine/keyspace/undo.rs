//! Taking writes back: what a script that is stopped leaves behind is nothing.
//!
//! Between begin and end each key is noted as it was before its first change. Values are copied on write, so
//! the note of a large collection costs next to nothing.

use std::collections::BTreeMap;

use super::Keyspace;
use crate::Value;
use crate::events::OutboxPlace;

/// A value and its deadline, or that there was none.
type Before = Option<(Value, Option<u64>)>;

/// The keys as they were.
#[derive(Debug, Default)]
pub(super) struct Undo {
    keys: BTreeMap<(u32, Vec<u8>), Before>,
    /// The number of events at the beginning.
    events: usize,
    /// The last message that waited then.
    outbox: Option<OutboxPlace>,
    /// Keys that were found to be due: taking writes back does not bring them back.
    expired: Vec<(u32, Vec<u8>, bool)>,
}

impl Keyspace {
    /// From now on changes can be taken back.
    pub(crate) fn begin_undo(&mut self) {
        self.undo = Some(Box::new(Undo { events: self.events.len(), outbox: self.outbox.last(), ..Undo::default() }));
    }

    /// The changes stay.
    pub(crate) fn end_undo(&mut self) {
        self.undo = None;
    }

    /// Takes every change since the beginning back, and what was told of it. The keys get new versions.
    pub(crate) fn roll_back(&mut self) {
        let Some(undo) = self.undo.take() else { return };
        self.events.truncate(undo.events);
        self.outbox.take_back(undo.outbox);
        for (database, key, by_fields) in undo.expired {
            self.tell_expiry(database, &key, by_fields);
        }
        let classes = self.events.hush(0);
        for ((database, key), before) in undo.keys {
            match before {
                Some((value, expire_at_ms)) => self.set(database, &key, value, expire_at_ms),
                None => {
                    self.delete(database, &key);
                }
            }
        }
        self.events.hush(classes);
    }

    /// A key is about to be removed because its time has come.
    pub(super) fn note_expiry(&mut self, database: u32, key: &[u8], by_fields: bool) {
        if let Some(undo) = &mut self.undo {
            let key = (database, key.to_vec());
            if !undo.keys.contains_key(&key) {
                undo.expired.push((key.0, key.1, by_fields));
            }
        }
    }

    /// A key is about to change.
    pub(super) fn note_before(&mut self, database: u32, key: &[u8]) {
        let Some(mut undo) = self.undo.take() else { return };
        undo.keys
            .entry((database, key.to_vec()))
            .or_insert_with(|| self.entry(database, key).map(|entry| (entry.value.clone(), entry.expire_at_ms)));
        self.undo = Some(undo);
    }

    /// Every key of some databases is about to change, and those of one of them may become keys of another.
    pub(super) fn note_all_before(&mut self, databases: &[u32]) {
        if self.undo.is_none() {
            return;
        }
        let mut keys = Vec::new();
        for from in databases {
            self.databases[*from as usize].for_each(&mut |entry| {
                keys.extend(databases.iter().map(|database| (*database, entry.key.bytes().to_vec())));
            });
        }
        keys.iter().for_each(|(database, key)| self.note_before(*database, key));
    }
}
