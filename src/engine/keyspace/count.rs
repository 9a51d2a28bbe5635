//! How much there is: keys and bytes, without a walk.

use super::Keyspace;
use super::entry::Entry;

impl Keyspace {
    /// The number of keys, due ones that are not removed yet included (DBSIZE).
    pub fn len(&self, database: u32) -> u64 {
        self.databases[database as usize].len()
    }

    /// Whether a database holds no key.
    pub fn is_empty(&self, database: u32) -> bool {
        self.len(database) == 0
    }

    /// The number of keys with a deadline.
    pub fn expires_len(&self, database: u32) -> u64 {
        self.databases[database as usize].expires()
    }

    /// The number of keys of a slot, over all databases (CLUSTER COUNTKEYSINSLOT).
    pub fn slot_len(&self, slot: u16) -> u64 {
        self.databases.iter().filter_map(|d| d.table(slot)).map(|t| t.len() as u64).sum()
    }

    /// The number of keys that were removed because they were due.
    pub fn expired(&self) -> u64 {
        self.expired
    }

    /// Bytes that the keys and values take, by our own count (the same on every replica).
    pub fn memory_bytes(&self) -> u64 {
        self.databases.iter().map(|d| d.account.memory_bytes).sum()
    }

    /// How often a key was written or removed, since the group was founded.
    pub fn writes(&self) -> u64 {
        self.versions.counters().iter().sum()
    }

    /// Bytes that one key takes, overhead included (MEMORY USAGE).
    pub fn memory_of(&self, database: u32, key: &[u8]) -> Option<u64> {
        self.find(database, key).filter(|entry| !entry.is_due(self.now_ms)).map(Entry::memory_bytes)
    }
}
