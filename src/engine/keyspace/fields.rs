//! Fields of hashes whose time has come.
//!
//! As with keys, a due field is gone for every reader at once, and is removed by a later entry. The index of
//! deadlines holds the earliest one of each hash that has any; it is kept where entries are counted in and
//! out, so no command has to know of it.

use super::Keyspace;
use crate::events::Class;

impl Keyspace {
    /// The earliest deadline of a field that is still there physically, due or not.
    pub(super) fn next_field_deadline(&self) -> Option<u64> {
        self.databases.iter().filter_map(|d| d.account.fields.first()).map(|(deadline, ..)| *deadline).min()
    }

    /// Whether any field of a hash has a deadline.
    pub(crate) fn has_expiring_fields(&self) -> bool {
        self.databases.iter().any(|d| !d.account.fields.is_empty())
    }

    /// Physically removes at most `limit` due fields, in the order (earliest deadline of the hash, database,
    /// slot, hash, key), within a hash in the order (deadline, field); returns how many. The key goes with its
    /// last field, and with all of them when all are due.
    pub(super) fn remove_due_fields(&mut self, limit: usize) -> usize {
        let mut removed = 0;
        while removed < limit {
            let firsts =
                self.databases.iter().zip(0u32..).filter_map(|(d, number)| Some((d.account.fields.first()?, number)));
            let first = firsts.map(|((deadline, place, key), number)| (*deadline, number, *place, key)).min();
            let Some((_, number, place, key)) = first.filter(|(deadline, ..)| *deadline <= self.now_ms) else { break };
            let (slot, key) = (place.slot(), key.clone());
            let database = &self.databases[number as usize];
            let index = database.find(place, key.bytes()).expect("the index of deadlines is exact");
            if database.at(slot, index).is_due(self.now_ms) {
                self.expire(number, slot, index);
                removed += 1;
                continue;
            }
            let (now_ms, left) = (self.now_ms, limit - removed);
            self.keep_copy(number, slot, index);
            self.touch(number, key.bytes());
            let version = self.versions.write(slot);
            let opened = self.databases[number as usize].open(slot, index, version);
            removed += opened.entry.value.remove_due(now_ms, left).max(1);
            drop(opened);
            self.notify(Class::Hash, "hexpired", number, key.bytes());
        }
        removed
    }
}
