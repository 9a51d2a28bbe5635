//! A group's keys. PLACEHOLDER BODY, FINAL INTERFACE.

use std::collections::BTreeMap;

use crate::{Rng, Value};

/// The number of hash slots, as in Redis Cluster.
pub const SLOTS: u16 = 16384;

/// CRC-16/XMODEM, as Redis Cluster uses it.
static CRC16: crc::Crc<u16, crc::Table<16>> = crc::Crc::<u16, crc::Table<16>>::new(&crc::CRC_16_XMODEM);

/// The slot of a key: CRC16 of the key, or of the text between its first braces when there is any.
pub fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&b| b == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|&b| b == b'}').filter(|&len| len > 0).map(|len| &rest[..len])
    });
    CRC16.checksum(tag.unwrap_or(key)) % SLOTS
}

struct Entry {
    value: Value,
    expire_at_ms: Option<u64>,
    version: u64,
}

/// A look at one key.
#[derive(Debug)]
pub struct EntryRef<'a> {
    /// The value.
    pub value: &'a Value,
    /// When it expires, group clock in Unix milliseconds.
    pub expire_at_ms: Option<u64>,
    /// Changes with every write to the key.
    pub version: u64,
}

/// A change in place. Accounting (digest, memory, version) happens when it is dropped.
pub struct Edit<'a> {
    entry: &'a mut Entry,
}

impl std::ops::Deref for Edit<'_> {
    type Target = Value;
    fn deref(&self) -> &Value {
        &self.entry.value
    }
}

impl std::ops::DerefMut for Edit<'_> {
    fn deref_mut(&mut self) -> &mut Value {
        &mut self.entry.value
    }
}

/// All keys of a group, over all numbered databases.
pub struct Keyspace {
    now_ms: u64,
    databases: Vec<BTreeMap<Vec<u8>, Entry>>,
    versions: u64,
}

impl Keyspace {
    /// An empty keyspace. `hash_seed` keys the hash function; it is part of the group's state.
    pub fn new(_hash_seed: [u64; 2], databases: u32) -> Keyspace {
        Keyspace { now_ms: 0, databases: (0..databases).map(|_| BTreeMap::new()).collect(), versions: 0 }
    }

    /// The applied clock: what is due by it is gone for everybody.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The number of databases.
    pub fn databases(&self) -> u32 {
        self.databases.len() as u32
    }

    /// The key, unless it is absent or due. `database` must exist (SELECT checked it).
    pub fn entry(&self, database: u32, key: &[u8]) -> Option<EntryRef<'_>> {
        let entry = self.databases[database as usize].get(key)?;
        let due = entry.expire_at_ms.is_some_and(|at| at <= self.now_ms);
        (!due).then_some(EntryRef { value: &entry.value, expire_at_ms: entry.expire_at_ms, version: entry.version })
    }

    /// The key's value, unless it is absent or due.
    pub fn value(&self, database: u32, key: &[u8]) -> Option<&Value> {
        self.entry(database, key).map(|e| e.value)
    }

    /// A value to change in place; a new version whether or not it changes.
    pub fn edit(&mut self, database: u32, key: &[u8]) -> Option<Edit<'_>> {
        self.entry(database, key)?;
        self.versions += 1;
        let entry = self.databases[database as usize].get_mut(key)?;
        entry.version = self.versions;
        Some(Edit { entry })
    }

    /// Stores a value under a key, replacing what was there together with its deadline.
    pub fn set(&mut self, database: u32, key: &[u8], value: Value, expire_at_ms: Option<u64>) {
        self.versions += 1;
        self.databases[database as usize].insert(key.to_vec(), Entry { value, expire_at_ms, version: self.versions });
    }

    /// Changes or removes a deadline; false when the key is absent. A deadline in the past is allowed:
    /// the caller (EXPIRE) removes such keys instead, as Redis does.
    pub fn set_expire(&mut self, database: u32, key: &[u8], expire_at_ms: Option<u64>) -> bool {
        if self.entry(database, key).is_none() {
            return false;
        }
        self.versions += 1;
        let version = self.versions;
        self.databases[database as usize].get_mut(key).map(|e| (e.expire_at_ms, e.version) = (expire_at_ms, version)).is_some()
    }

    /// Takes a key out, with its deadline; nothing when it is absent or due.
    pub fn remove(&mut self, database: u32, key: &[u8]) -> Option<(Value, Option<u64>)> {
        self.entry(database, key)?;
        self.versions += 1;
        self.databases[database as usize].remove(key).map(|e| (e.value, e.expire_at_ms))
    }

    /// The version that WATCH compares: of the key, or for an absent one of its slot's last removal.
    pub fn version(&self, database: u32, key: &[u8]) -> u64 {
        self.entry(database, key).map_or(self.versions, |e| e.version)
    }

    /// The number of keys, due ones that are not removed yet included (DBSIZE).
    pub fn len(&self, database: u32) -> u64 {
        self.databases[database as usize].len() as u64
    }

    /// Whether a database holds no key.
    pub fn is_empty(&self, database: u32) -> bool {
        self.len(database) == 0
    }

    /// The number of keys with a deadline.
    pub fn expires_len(&self, database: u32) -> u64 {
        self.databases[database as usize].values().filter(|e| e.expire_at_ms.is_some()).count() as u64
    }

    /// Visits about `count` keys from `cursor` on (0 to begin) and returns the next cursor, 0 at the end.
    /// A key that is there throughout is visited at least once, also over failover and snapshot: the
    /// order is a function of the keys alone. Due keys are not visited.
    pub fn scan(&self, database: u32, cursor: u64, count: usize, visit: &mut dyn FnMut(&[u8], EntryRef<'_>)) -> u64 {
        let all = &self.databases[database as usize];
        let mut next = cursor;
        for (key, _) in all.iter().skip(cursor as usize).take(count.max(1)) {
            next += 1;
            if let Some(entry) = self.entry(database, key) {
                visit(key, entry);
            }
        }
        if next as usize >= all.len() { 0 } else { next }
    }

    /// A uniformly random key that is not due, or nothing.
    pub fn random(&self, database: u32, rng: &mut Rng) -> Option<&[u8]> {
        let alive: Vec<&[u8]> =
            self.databases[database as usize].keys().map(Vec::as_slice).filter(|k| self.entry(database, k).is_some()).collect();
        (!alive.is_empty()).then(|| alive[rng.below(alive.len() as u64) as usize])
    }

    /// Removes all keys of a database; returns how many.
    pub fn clear(&mut self, database: u32) -> u64 {
        self.versions += 1;
        let count = self.len(database);
        self.databases[database as usize].clear();
        count
    }

    /// Exchanges two databases (SWAPDB).
    pub fn swap(&mut self, one: u32, other: u32) {
        self.versions += 1;
        self.databases.swap(one as usize, other as usize);
    }

    /// Bytes that the keys and values take, by our own count (the same on every replica).
    pub fn memory_bytes(&self) -> u64 {
        0
    }

    /// Bytes that one key takes, overhead included (MEMORY USAGE).
    pub fn memory_of(&self, _database: u32, _key: &[u8]) -> Option<u64> {
        None
    }
}
