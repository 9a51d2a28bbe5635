//! Where a command's keys are: key specs, and finding the keys of one argv.
//!
//! Slot routing, the proxy's split, ACL key patterns, WATCH and COMMAND GETKEYS all go through
//! [`Command::keys`], so that there is one opinion about what a key is.
//!
//! Invariant: positions that are given out lie within the argv.

use quoris_resp::Argv;
use smallvec::SmallVec;

use super::Command;
use super::flags::{Flags, KeyFlags, MOVABLEKEYS, NO_FLAGS, key_flag};
use crate::Error;
use crate::number;

/// One rule that finds keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// What the command does to these keys.
    pub flags: KeyFlags,
    /// Where to begin.
    pub begin: Begin,
    /// Which arguments from there on are keys.
    pub find: Find,
}

/// Where a key spec begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Only the command's own function knows.
    Unknown,
    /// At this argument.
    Index(usize),
    /// Behind a keyword, searched from `start` on; negative starts count from the end and search backwards.
    Keyword {
        /// The word, in upper case.
        word: &'static str,
        /// The argument to start at.
        start: i32,
    },
}

/// Which arguments are keys, seen from where a spec begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Only the command's own function knows.
    Unknown,
    /// A range.
    Range {
        /// The last key: relative to the first, or to the number of arguments when negative.
        last: i32,
        /// Distance between keys.
        step: usize,
        /// With a negative `last`: only the first 1/limit of what follows counts; 0 and 1 mean all.
        limit: usize,
    },
    /// A number of keys, then the keys.
    Count {
        /// Position of the number.
        count_at: usize,
        /// Position of the first key.
        first: usize,
        /// Distance between keys.
        step: usize,
    },
}

/// One key of an argv.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// Its position.
    pub position: usize,
    /// What happens to it.
    pub flags: KeyFlags,
}

/// The keys of one argv.
pub type KeyUses = SmallVec<[KeyUse; 4]>;
/// The positions of the keys of one argv.
pub type KeyPositions = SmallVec<[usize; 4]>;

/// For commands whose arguments decide where the keys are or what happens to them.
pub type KeyFinder = fn(&Argv) -> Result<KeyUses, Error>;

/// Keys from argument `at` to `last`, which counts from there or from the end, `step` apart.
pub const fn range(flags: KeyFlags, at: usize, last: i32, step: usize) -> KeySpec {
    KeySpec { flags, begin: Begin::Index(at), find: Find::Range { last, step, limit: 0 } }
}

/// One key at argument `at`.
pub const fn one(flags: KeyFlags, at: usize) -> KeySpec {
    range(flags, at, 0, 1)
}

/// Keys from argument `at` to the last.
pub const fn rest(flags: KeyFlags, at: usize) -> KeySpec {
    range(flags, at, -1, 1)
}

/// A key and a value alternate from argument `at` to the last.
pub const fn pairs(flags: KeyFlags, at: usize) -> KeySpec {
    range(flags, at, -1, 2)
}

/// Two keys side by side from argument `at` on.
pub const fn two(flags: KeyFlags, at: usize) -> KeySpec {
    range(flags, at, 1, 1)
}

/// A number of keys at argument `at`, the keys behind it.
pub const fn counted(flags: KeyFlags, at: usize, step: usize) -> KeySpec {
    KeySpec { flags, begin: Begin::Index(at), find: Find::Count { count_at: 0, first: 1, step } }
}

/// Reads and gives back: GET, LRANGE.
pub const RO_ACCESS: KeyFlags = key_flag::RO.with(key_flag::ACCESS);
/// Reads, gives back and changes: INCR.
pub const RW_ACCESS_UPDATE: KeyFlags = key_flag::RW.with(key_flag::ACCESS).with(key_flag::UPDATE);
/// Reads, gives back and takes away: LPOP, RENAME.
pub const RW_ACCESS_DELETE: KeyFlags = key_flag::RW.with(key_flag::ACCESS).with(key_flag::DELETE);
/// Changes: EXPIRE, LSET.
pub const RW_UPDATE: KeyFlags = key_flag::RW.with(key_flag::UPDATE);
/// Adds: APPEND, LPUSH.
pub const RW_INSERT: KeyFlags = key_flag::RW.with(key_flag::INSERT);
/// Takes away: LREM.
pub const RW_DELETE: KeyFlags = key_flag::RW.with(key_flag::DELETE);
/// Overwrites: SETEX.
pub const OW_UPDATE: KeyFlags = key_flag::OW.with(key_flag::UPDATE);
/// Writes where nothing was: SETNX.
pub const OW_INSERT: KeyFlags = key_flag::OW.with(key_flag::INSERT);
/// Removes: DEL.
pub const RM_DELETE: KeyFlags = key_flag::RM.with(key_flag::DELETE);

/// One key that is read and given back.
pub const KEY_READ: &[KeySpec] = &[one(RO_ACCESS, 1)];
/// One key that is looked at: STRLEN, TYPE.
pub const KEY_LOOK: &[KeySpec] = &[one(key_flag::RO, 1)];
/// One key that is looked at, behind a subcommand: OBJECT ENCODING.
pub const KEY_LOOK_SUB: &[KeySpec] = &[one(key_flag::RO, 2)];
/// One key that is read and changed, its old content given back.
pub const KEY_CHANGE: &[KeySpec] = &[one(RW_ACCESS_UPDATE, 1)];
/// One key that is changed.
pub const KEY_UPDATE: &[KeySpec] = &[one(RW_UPDATE, 1)];
/// One key that is added to.
pub const KEY_INSERT: &[KeySpec] = &[one(RW_INSERT, 1)];
/// One key that something is removed from.
pub const KEY_DELETE: &[KeySpec] = &[one(RW_DELETE, 1)];
/// One key that something is taken from.
pub const KEY_TAKE: &[KeySpec] = &[one(RW_ACCESS_DELETE, 1)];
/// One key that is overwritten.
pub const KEY_OVERWRITE: &[KeySpec] = &[one(OW_UPDATE, 1)];

fn invalid() -> Error {
    Error::text("ERR Invalid arguments specified for command")
}

impl KeySpec {
    /// The argument that the spec begins at; nothing when its keyword is absent.
    fn begin(&self, argv: &Argv) -> Option<usize> {
        match self.begin {
            Begin::Unknown => None,
            Begin::Index(at) => Some(at),
            Begin::Keyword { word, start } => {
                let is_word = |i: &usize| argv.get(*i).is_some_and(|a| a.eq_ignore_ascii_case(word.as_bytes()));
                let found = match usize::try_from(start) {
                    Ok(start) => (start..argv.len()).find(is_word),
                    Err(_) => (1..=argv.len().saturating_sub(start.unsigned_abs() as usize)).rev().find(is_word),
                };
                found.map(|at| at + 1)
            }
        }
    }

    /// Appends the keys that the spec finds.
    fn collect(&self, argv: &Argv, found: &mut KeyUses) -> Result<(), Error> {
        let Some(begin) = self.begin(argv) else { return Ok(()) };
        let count = argv.len();
        let (first, end, step) = match self.find {
            Find::Unknown => return Ok(()),
            Find::Range { last, step, limit } => {
                let last = match usize::try_from(last) {
                    Ok(offset) => Some(begin + offset),
                    Err(_) if limit > 1 => {
                        (begin + count.saturating_sub(begin) / limit).checked_sub(last.unsigned_abs() as usize)
                    }
                    Err(_) => count.checked_sub(last.unsigned_abs() as usize),
                };
                (begin, last.ok_or_else(invalid)? + 1, step)
            }
            Find::Count { count_at, first, step } => {
                let keys = argv.get(begin + count_at).and_then(number::integer).ok_or_else(invalid)?;
                let keys = usize::try_from(keys).map_err(|_| invalid())?;
                let first = begin + first;
                if keys == 0 {
                    return Ok(());
                }
                let span = (keys - 1).checked_mul(step).and_then(|n| n.checked_add(first + 1));
                (first, span.ok_or_else(invalid)?, step)
            }
        };
        if first >= end || end > count {
            return Err(invalid());
        }
        found.extend((first..end).step_by(step.max(1)).map(|position| KeyUse { position, flags: self.flags }));
        Ok(())
    }
}

/// First, last and step of the keys as COMMAND printed them before there were key specs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LegacyRange {
    /// The first key, 0 when there is none.
    pub first: i32,
    /// The last key, counted from the end when negative.
    pub last: i32,
    /// Distance between keys.
    pub step: i32,
}

impl Command {
    /// The positions of all keys in `argv`, whose arity has been checked.
    ///
    /// # Errors
    /// When the arguments contradict themselves, such as a number of keys beyond the end. A router may
    /// take that as "no keys": the handler then names the mistake.
    pub fn keys(&self, argv: &Argv) -> Result<KeyPositions, Error> {
        if let [KeySpec { begin: Begin::Index(at), find: Find::Range { last: 0, .. }, .. }] = self.keys {
            let mut positions = KeyPositions::new();
            if *at >= argv.len() {
                return Err(invalid());
            }
            positions.push(*at);
            return Ok(positions);
        }
        Ok(self.key_uses(argv)?.iter().map(|key| key.position).collect())
    }

    /// The arguments whose slots decide which group a command goes to when it stands alone: its keys, or else its
    /// channel. In MULTI and in scripts a channel decides nothing.
    pub fn routed_by(&self, argv: &Argv) -> KeyPositions {
        let keys = self.keys(argv).unwrap_or_default();
        if keys.is_empty() { self.channel.into_iter().filter(|at| *at < argv.len()).collect() } else { keys }
    }

    /// All keys in `argv` with what happens to them.
    ///
    /// # Errors
    /// As [`Command::keys`].
    pub fn key_uses(&self, argv: &Argv) -> Result<KeyUses, Error> {
        if let Some(find) = self.key_finder {
            return find(argv);
        }
        let mut found = KeyUses::new();
        for spec in self.keys {
            spec.collect(argv, &mut found)?;
        }
        Ok(found)
    }

    /// The legacy range and whether it misses keys, derived from the key specs as Redis does it.
    pub fn legacy_range(&self) -> (LegacyRange, Flags) {
        let mut range = LegacyRange::default();
        let mut movable = false;
        let mut previous_last = 0;
        for spec in self.keys {
            let (Begin::Index(first), Find::Range { last, step, .. }) = (spec.begin, spec.find) else {
                movable = true;
                continue;
            };
            let first = first as i32;
            let consecutive = self.keys.len() == 1 || (step == 1 && (range.first == 0 || previous_last == first - 1));
            if !consecutive {
                movable = true;
                continue;
            }
            movable |= spec.flags.has(key_flag::INCOMPLETE);
            if range.first == 0 {
                range = LegacyRange { first, last: 0, step: step as i32 };
            }
            range.last = if last >= 0 { first + last } else { last };
            previous_last = range.last;
        }
        (range, if movable { MOVABLEKEYS } else { NO_FLAGS })
    }
}
