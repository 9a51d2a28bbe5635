//! What an entry did to the keys, as commands that do the same on any redis-server at any time.
//!
//! An effect is a state, not a change: the value and the absolute deadline that a key has behind a command,
//! or that it is gone. So nothing here knows a command, and doing an effect twice does no harm. Only what
//! happens to whole databases is a change of its own.

use quoris_resp::Argv;

use crate::{Value, payload, rdb};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The key has this value and this deadline now.
    Set {
        /// Its database.
        database: u32,
        /// The key.
        key: Vec<u8>,
        /// Its value.
        value: Value,
        /// When it expires, in Unix milliseconds.
        expire_at_ms: Option<u64>,
    },
    /// The key is gone: removed, moved away, or expired.
    Gone {
        /// Its database.
        database: u32,
        /// The key.
        key: Vec<u8>,
    },
    /// All keys of a database are gone.
    Emptied {
        /// The database.
        database: u32,
    },
    /// Two databases have exchanged their keys.
    Exchanged {
        /// One of them.
        one: u32,
        /// The other.
        other: u32,
    },
}

impl Effect {
    /// The database that must be selected for [`Effect::argv`]; nothing when it does not matter.
    pub fn database(&self) -> Option<u32> {
        match self {
            Effect::Set { database, .. } | Effect::Gone { database, .. } | Effect::Emptied { database } => {
                Some(*database)
            }
            Effect::Exchanged { .. } => None,
        }
    }

    /// The command that has this effect, as redis-server 7.0 takes it.
    pub fn argv(&self) -> Argv {
        match self {
            Effect::Set { key, value, expire_at_ms, .. } => set(key, value, *expire_at_ms),
            Effect::Gone { key, .. } => Argv::from_parts(&[b"DEL", &key[..]]),
            Effect::Emptied { .. } => Argv::from_parts(&["FLUSHDB"]),
            Effect::Exchanged { one, other } => Argv::from_parts(&["SWAPDB", &one.to_string(), &other.to_string()]),
        }
    }
}

/// Strings as a person would write them, every other type as RESTORE takes it.
fn set(key: &[u8], value: &Value, expire_at_ms: Option<u64>) -> Argv {
    let deadline = expire_at_ms.unwrap_or(0).to_string();
    let deadline = deadline.as_bytes();
    match (value.as_string(), expire_at_ms) {
        (Ok(text), None) => Argv::from_parts(&[b"SET", key, &payload::string_bytes(text)]),
        (Ok(text), Some(_)) => Argv::from_parts(&[b"SET", key, &payload::string_bytes(text), b"PXAT", deadline]),
        (Err(_), _) => Argv::from_parts(&[b"RESTORE", key, deadline, &rdb::dump_value(value), b"ABSTTL", b"REPLACE"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{CommandMeta, Watch};
    use crate::testing::{SEED, apply, command, exec, for_seeds, random_entry, run, stamped};
    use crate::{Engine, EntryRef};

    /// A value as others see it: its encoding is no effect, and the order of a set or a hash neither.
    fn seen(entry: &EntryRef<'_>) -> (Vec<u8>, Option<u64>) {
        let large = rdb::restore_value(&rdb::dump_value(entry.value), &payload::encodings(2));
        (rdb::dump_value(&large.expect("own payload")), entry.expire_at_ms)
    }

    fn keys(engine: &Engine, database: u32) -> Vec<Vec<u8>> {
        let (mut keys, mut cursor) = (Vec::new(), 0);
        loop {
            cursor = engine.keyspace().scan(database, cursor, 1024, &mut |key, _| keys.push(key.to_vec()));
            if cursor == 0 {
                return keys;
            }
        }
    }

    #[test]
    fn effects_make_the_same_keys_in_an_engine_whose_clock_stands_still() {
        for_seeds(20, |rng| {
            let (mut engine, mut other) = (Engine::new(SEED), Engine::new(SEED));
            engine.keep_effects(rng.below(2) == 0);
            let (mut clock, mut sequence) = (1_000_000, 0);
            for index in 1..300 {
                let entry = random_entry(rng, &mut clock, &mut sequence);
                engine.apply_entry(index, &entry, &mut |_, _, _| {}).expect("own format");
                for effect in engine.take_effects() {
                    let meta = CommandMeta { database: effect.database().unwrap_or(0), ..CommandMeta::default() };
                    let replies = apply(&mut other, 1, &[(meta, effect.argv())]);
                    assert!(!replies[0].is_error(), "{effect:?}: {replies:?}");
                }
                if index % 8 != 0 {
                    continue;
                }
                let all = |database| keys(&engine, database).into_iter().chain(keys(&other, database));
                for (database, key) in (0..4).flat_map(|database| all(database).map(move |key| (database, key))) {
                    let ours = engine.keyspace().entry(database, &key).map(|e| seen(&e));
                    // A key that is due and waits for its removal has gone for nobody but us.
                    let now = engine.clock_ms();
                    let is_due = |e: &EntryRef<'_>| e.expire_at_ms.is_some_and(|at| at <= now) || e.value.is_gone(now);
                    let theirs = other.keyspace().entry(database, &key).filter(|e| !is_due(e)).map(|e| seen(&e));
                    assert_eq!(ours, theirs, "entry {index}, {database} {}", String::from_utf8_lossy(&key));
                }
            }
        });
    }

    fn effects(engine: &mut Engine, clock_ms: u64, commands: &[(CommandMeta, Argv)]) -> Vec<String> {
        apply(engine, clock_ms, commands);
        let words = |argv: &Argv| argv.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
        engine.take_effects().iter().map(|effect| words(&effect.argv())).collect()
    }

    #[test]
    fn what_changes_nothing_has_no_effect() {
        let mut engine = Engine::new(SEED);
        engine.keep_effects(true);
        let incr = stamped(1, 1, 1000, "INCR n");
        assert_eq!(effects(&mut engine, 1000, std::slice::from_ref(&incr)), ["SET n 1"]);
        assert!(effects(&mut engine, 1001, &[incr]).is_empty(), "a repeated command");
        run(&mut engine, 1002, "SET text x");
        engine.take_effects();
        let commands = ["SET n 5 NX", "DEL nosuch", "GET n", "FLUSHDB nonsense", "SWAPDB 2 3", "NOSUCH"];
        assert_eq!(effects(&mut engine, 1003, &commands.map(command)), Vec::<String>::new());
        let version = engine.keyspace().version(0, b"n");
        run(&mut engine, 1004, "INCR n");
        engine.take_effects();
        let watch = Watch { database: 0, key: b"n".to_vec(), version };
        assert!(effects(&mut engine, 1005, &[exec(vec![watch], &["SET n 9"])]).is_empty());
        assert!(effects(&mut engine, 1006, &[command("INCR text")]).is_empty(), "a command that failed");
    }

    #[test]
    fn deadlines_are_absolute_and_expired_keys_are_removed() {
        let mut engine = Engine::new(SEED);
        engine.keep_effects(true);
        assert_eq!(effects(&mut engine, 1000, &[command("SET k v PX 50")]), ["SET k v PXAT 1050"]);
        assert_eq!(effects(&mut engine, 1010, &[command("EXPIRE k 1")]), ["SET k v PXAT 2010"]);
        assert_eq!(effects(&mut engine, 1020, &[command("PERSIST k")]), ["SET k v"]);
        assert_eq!(effects(&mut engine, 1030, &[command("PEXPIRE k 5")]), ["SET k v PXAT 1035"]);
        assert_eq!(effects(&mut engine, 1035, &[]), ["DEL k"]);
    }

    #[test]
    fn whole_databases_are_told_in_order() {
        let mut engine = Engine::new(SEED);
        let commands = ["SET a 1", "SWAPDB 0 1", "SET a 2", "SELECT 1", "FLUSHDB", "SET b 3"];
        engine.keep_effects(true);
        let told = effects(&mut engine, 1000, &[exec(vec![], &commands)]);
        assert_eq!(told, ["SET a 1", "SWAPDB 0 1", "SET a 2", "FLUSHDB", "SET b 3"]);
        engine.keep_effects(false);
        assert_eq!(effects(&mut engine, 1001, &[command("FLUSHALL")]), ["DEL a", "DEL b"]);
    }
}
