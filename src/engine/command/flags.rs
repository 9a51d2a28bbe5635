//! Sets of flags of a command row, as plain bit sets with constant combinators.
//!
//! Three sets: what a command does ([`Flags`]), which ACL categories name it ([`Categories`]) and what
//! it does to a key ([`KeyFlags`]). Names are Redis's, because COMMAND INFO and ACL CAT print them.

/// Properties of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags(u32);

/// No flag.
pub const NO_FLAGS: Flags = Flags(0);
/// May change the keyspace.
pub const WRITE: Flags = Flags(1);
/// Never changes the keyspace.
pub const READONLY: Flags = Flags(1 << 1);
/// May take memory, so it is refused when there is none left.
pub const DENYOOM: Flags = Flags(1 << 2);
/// For operators.
pub const ADMIN: Flags = Flags(1 << 3);
/// About channels and messages.
pub const PUBSUB: Flags = Flags(1 << 4);
/// Not for scripts.
pub const NOSCRIPT: Flags = Flags(1 << 5);
/// May make its client wait.
pub const BLOCKING: Flags = Flags(1 << 6);
/// Allowed while a node loads its state.
pub const LOADING: Flags = Flags(1 << 7);
/// Allowed on a replica that cannot vouch for its state.
pub const STALE: Flags = Flags(1 << 8);
/// Not shown by MONITOR.
pub const SKIP_MONITOR: Flags = Flags(1 << 9);
/// Not kept in the slow log.
pub const SKIP_SLOWLOG: Flags = Flags(1 << 10);
/// Allowed on a slot that is being imported, without a preceding ASKING.
pub const ASKING: Flags = Flags(1 << 11);
/// Takes constant or logarithmic time.
pub const FAST: Flags = Flags(1 << 12);
/// Allowed before authentication.
pub const NO_AUTH: Flags = Flags(1 << 13);
/// May publish or otherwise be seen on other nodes although it is no write. Not printed.
pub const MAY_REPLICATE: Flags = Flags(1 << 14);
/// Valid without any key, although it can take keys.
pub const NO_MANDATORY_KEYS: Flags = Flags(1 << 15);
/// Refused while a node loads its state in the background.
pub const NO_ASYNC_LOADING: Flags = Flags(1 << 16);
/// Not for transactions.
pub const NO_MULTI: Flags = Flags(1 << 17);
/// The first, last and step numbers do not describe all keys. Derived from the key specs as well.
pub const MOVABLEKEYS: Flags = Flags(1 << 18);
/// Allowed while a script runs for too long.
pub const ALLOW_BUSY: Flags = Flags(1 << 19);
/// Looks at keys that its arguments do not name.
pub const TOUCHES_ARBITRARY_KEYS: Flags = Flags(1 << 20);
/// The order of the reply has no meaning; scripts get it sorted. Not printed.
pub const SORT_FOR_SCRIPT: Flags = Flags(1 << 21);

const FLAG_NAMES: &[(Flags, &str)] = &[
    (WRITE, "write"),
    (READONLY, "readonly"),
    (DENYOOM, "denyoom"),
    (ADMIN, "admin"),
    (PUBSUB, "pubsub"),
    (NOSCRIPT, "noscript"),
    (BLOCKING, "blocking"),
    (LOADING, "loading"),
    (STALE, "stale"),
    (SKIP_MONITOR, "skip_monitor"),
    (SKIP_SLOWLOG, "skip_slowlog"),
    (ASKING, "asking"),
    (FAST, "fast"),
    (NO_AUTH, "no_auth"),
    (NO_MANDATORY_KEYS, "no_mandatory_keys"),
    (NO_ASYNC_LOADING, "no_async_loading"),
    (NO_MULTI, "no_multi"),
    (MOVABLEKEYS, "movablekeys"),
    (ALLOW_BUSY, "allow_busy"),
    (TOUCHES_ARBITRARY_KEYS, "touches_arbitrary_keys"),
];

impl Flags {
    /// Both sets.
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The printed names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        FLAG_NAMES.iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| *name)
    }
}

/// ACL categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Categories(u32);

/// Categories by their Redis names.
pub mod category {
    use super::Categories;

    /// No category beside those that the flags imply.
    pub const NONE: Categories = Categories(0);
    /// Works on keys of any type.
    pub const KEYSPACE: Categories = Categories(1);
    /// Reads values.
    pub const READ: Categories = Categories(1 << 1);
    /// Changes values.
    pub const WRITE: Categories = Categories(1 << 2);
    /// Sets.
    pub const SET: Categories = Categories(1 << 3);
    /// Sorted sets.
    pub const SORTEDSET: Categories = Categories(1 << 4);
    /// Lists.
    pub const LIST: Categories = Categories(1 << 5);
    /// Hashes.
    pub const HASH: Categories = Categories(1 << 6);
    /// Strings.
    pub const STRING: Categories = Categories(1 << 7);
    /// Bitmaps.
    pub const BITMAP: Categories = Categories(1 << 8);
    /// HyperLogLog.
    pub const HYPERLOGLOG: Categories = Categories(1 << 9);
    /// Geospatial indexes.
    pub const GEO: Categories = Categories(1 << 10);
    /// Streams.
    pub const STREAM: Categories = Categories(1 << 11);
    /// Channels and messages.
    pub const PUBSUB: Categories = Categories(1 << 12);
    /// For operators.
    pub const ADMIN: Categories = Categories(1 << 13);
    /// Constant or logarithmic time.
    pub const FAST: Categories = Categories(1 << 14);
    /// Everything that is not fast.
    pub const SLOW: Categories = Categories(1 << 15);
    /// May make the client wait.
    pub const BLOCKING: Categories = Categories(1 << 16);
    /// Deserves a second thought before a user may call it.
    pub const DANGEROUS: Categories = Categories(1 << 17);
    /// About the connection itself.
    pub const CONNECTION: Categories = Categories(1 << 18);
    /// MULTI and its kin.
    pub const TRANSACTION: Categories = Categories(1 << 19);
    /// Scripts and functions.
    pub const SCRIPTING: Categories = Categories(1 << 20);
}

/// Every category with its name, in the order in which ACL CAT and COMMAND INFO print them.
pub const CATEGORY_NAMES: &[(Categories, &str)] = &[
    (category::KEYSPACE, "keyspace"),
    (category::READ, "read"),
    (category::WRITE, "write"),
    (category::SET, "set"),
    (category::SORTEDSET, "sortedset"),
    (category::LIST, "list"),
    (category::HASH, "hash"),
    (category::STRING, "string"),
    (category::BITMAP, "bitmap"),
    (category::HYPERLOGLOG, "hyperloglog"),
    (category::GEO, "geo"),
    (category::STREAM, "stream"),
    (category::PUBSUB, "pubsub"),
    (category::ADMIN, "admin"),
    (category::FAST, "fast"),
    (category::SLOW, "slow"),
    (category::BLOCKING, "blocking"),
    (category::DANGEROUS, "dangerous"),
    (category::CONNECTION, "connection"),
    (category::TRANSACTION, "transaction"),
    (category::SCRIPTING, "scripting"),
];

impl Categories {
    /// Both sets.
    pub const fn with(self, other: Categories) -> Categories {
        Categories(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn has(self, other: Categories) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names, without the `@`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        CATEGORY_NAMES.iter().filter(move |(category, _)| self.has(*category)).map(|(_, name)| *name)
    }

    /// A category by its name, in any case and without the `@`.
    pub fn by_name(name: &[u8]) -> Option<Categories> {
        CATEGORY_NAMES
            .iter()
            .find(|(_, known)| known.as_bytes().eq_ignore_ascii_case(name))
            .map(|(category, _)| *category)
    }
}

/// What a command does to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct KeyFlags(u16);

/// Key flags by their Redis names.
pub mod key_flag {
    use super::KeyFlags;

    /// Reads the key.
    pub const RO: KeyFlags = KeyFlags(1);
    /// Reads and changes the key.
    pub const RW: KeyFlags = KeyFlags(1 << 1);
    /// Overwrites the key whatever it held.
    pub const OW: KeyFlags = KeyFlags(1 << 2);
    /// Removes the key.
    pub const RM: KeyFlags = KeyFlags(1 << 3);
    /// Gives back or copies user data.
    pub const ACCESS: KeyFlags = KeyFlags(1 << 4);
    /// Changes user data.
    pub const UPDATE: KeyFlags = KeyFlags(1 << 5);
    /// Adds user data, changes none.
    pub const INSERT: KeyFlags = KeyFlags(1 << 6);
    /// Removes user data.
    pub const DELETE: KeyFlags = KeyFlags(1 << 7);
    /// Hashes to a slot like a key but is none: a shard channel.
    pub const NOT_KEY: KeyFlags = KeyFlags(1 << 8);
    /// The spec does not find all keys.
    pub const INCOMPLETE: KeyFlags = KeyFlags(1 << 9);
    /// The arguments decide which of the flags hold.
    pub const VARIABLE: KeyFlags = KeyFlags(1 << 10);
}

const KEY_FLAG_NAMES: &[(KeyFlags, &str)] = &[
    (key_flag::RO, "RO"),
    (key_flag::RW, "RW"),
    (key_flag::OW, "OW"),
    (key_flag::RM, "RM"),
    (key_flag::ACCESS, "access"),
    (key_flag::UPDATE, "update"),
    (key_flag::INSERT, "insert"),
    (key_flag::DELETE, "delete"),
    (key_flag::NOT_KEY, "not_key"),
    (key_flag::INCOMPLETE, "incomplete"),
    (key_flag::VARIABLE, "variable_flags"),
];

impl KeyFlags {
    /// Both sets.
    pub const fn with(self, other: KeyFlags) -> KeyFlags {
        KeyFlags(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn has(self, other: KeyFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The printed names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        KEY_FLAG_NAMES.iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| *name)
    }
}
