//! Keys whose time has come.
//!
//! A due key is gone for every reader as soon as the clock has passed it; taking it out of the tables is
//! work, and is spread over entries. What is removed when is a function of the state and the entry, so
//! all replicas have the same keys at the same index.

use super::Keyspace;
use super::table::Pos;
use crate::events::Class;

impl Keyspace {
    /// Advances the applied clock; it never goes back. What is due by then is gone at once for readers.
    pub fn advance(&mut self, clock_ms: u64) {
        self.now_ms = self.now_ms.max(clock_ms);
    }

    /// The earliest deadline of a key, or of a field, that is still there physically, due or not.
    pub fn next_deadline(&self) -> Option<u64> {
        if self.is_frozen() {
            // What is due stays for a moment: a tick for it would remove nothing.
            return self.next_to_come();
        }
        let keys = self.databases.iter().filter_map(|d| d.first_deadline()).map(|(deadline, _)| deadline);
        keys.chain(self.next_field_deadline()).min()
    }

    /// The earliest deadline that the applied clock has not reached. Of hashes the earliest of their fields, also
    /// while it is still being removed: it hides the next one.
    pub fn next_to_come(&self) -> Option<u64> {
        let keys = match self.databases.iter().filter_map(|d| d.first_deadline()).map(|(deadline, _)| deadline).min() {
            // What has come is still being removed.
            Some(first) if first <= self.now_ms => {
                self.databases.iter().filter_map(|d| d.deadline_behind(self.now_ms)).min()
            }
            first => first,
        };
        keys.into_iter().chain(self.next_field_deadline()).min()
    }

    /// Physically removes at most `limit` due keys, in the order (deadline, database, slot, hash, key), then
    /// due fields of hashes; returns how many of both. None while slots are frozen, which is for a moment: what is
    /// due in them may be for another group to tell.
    pub fn remove_due(&mut self, limit: usize) -> usize {
        if self.is_frozen() {
            return 0;
        }
        for removed in 0..limit {
            let firsts =
                self.databases.iter().zip(0u32..).filter_map(|(d, number)| Some((d.first_deadline()?, number)));
            let first = firsts.map(|((deadline, place), number)| (deadline, number, place)).min();
            let Some((deadline, number, place)) = first.filter(|(deadline, ..)| *deadline <= self.now_ms) else {
                return removed + self.remove_due_fields(limit - removed);
            };
            let index =
                self.databases[number as usize].first_with(deadline, place).expect("the index of deadlines is exact");
            self.expire(number, place.slot(), index);
        }
        limit
    }

    /// Physically removes a key that is due.
    pub(super) fn expire(&mut self, database: u32, slot: u16, index: Pos) {
        self.expired += 1;
        let entry = self.databases[database as usize].at(slot, index);
        let (key, by_fields) = (entry.key.clone(), entry.expire_at_ms > self.now_ms);
        self.note_expiry(database, key.bytes(), by_fields);
        if let Some(changing) = &mut self.changing {
            changing.touch_due(key.bytes());
        }
        self.discard(database, slot, index);
        self.tell_expiry(database, key.bytes(), by_fields);
    }

    /// A key is gone because its time had come, or that of the last fields of its hash.
    pub(super) fn tell_expiry(&mut self, database: u32, key: &[u8], by_fields: bool) {
        if by_fields {
            self.notify(Class::Hash, "hexpired", database, key);
            self.notify(Class::Generic, "del", database, key);
        } else {
            self.notify(Class::Expired, "expired", database, key);
        }
    }
}
