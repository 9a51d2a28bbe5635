//! `QUORIS.EVICT`: keys that a leader has chosen to make room are removed, on every replica.
//!
//! The leader chooses by what it alone knows: which keys were not read for long, and how much memory its node
//! has. What it found goes through the log as keys with their versions, so replicas agree, and the log replays to
//! the same state. A key that is gone or was written since it was chosen stays as it is.

use quoris_resp::{Argv, Reply};

use crate::command::{ADMIN, Command, Handler, ROW, WRITE};
use crate::events::Class;
use crate::{ApplyContext, CommandResult, Error, Keyspace, Victim};

/// The name of the command in the log.
pub const NAME: &str = "QUORIS.EVICT";

/// Not in the table: a client that sends it is told that there is no such command.
pub static COMMAND: Command = Command {
    name: "quoris.evict",
    arity: -3,
    flags: WRITE.with(ADMIN),
    summary: "Removes keys that were chosen to make room, unless they were written since.",
    syntax: "key version [key version ...]",
    handler: Handler::Write(apply),
    ..ROW
};

/// The command for keys of one database; it replies how many were there and went.
pub fn to_argv(victims: &[Victim]) -> Argv {
    let mut parts = vec![NAME.as_bytes().to_vec()];
    for victim in victims {
        parts.push(victim.key.clone());
        parts.push(victim.version.to_string().into_bytes());
    }
    Argv::from_parts(&parts)
}

fn apply(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let version_at = |at: usize| std::str::from_utf8(argv.get(at)?).ok()?.parse::<u64>().ok();
    let pairs = (1..argv.len()).step_by(2).map(|at| Some((&argv[at], version_at(at + 1)?)));
    let pairs = pairs.collect::<Option<Vec<(&[u8], u64)>>>();
    let pairs = pairs.ok_or_else(|| Error::text("ERR a key to be evicted without its version"))?;
    let database = context.database;
    let evicted = pairs.iter().filter(|(key, version)| {
        let is_same = keyspace.entry(database, key).is_some_and(|entry| entry.version == *version);
        let goes = is_same && keyspace.delete(database, key);
        if goes {
            keyspace.notify(Class::Evicted, "evicted", database, key);
        }
        goes
    });
    Ok(Reply::Int(evicted.count() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SEED, run};
    use crate::{Engine, Victims};

    fn evict(engine: &mut Engine, victims: &[Victim]) -> Reply {
        let mut replies = Vec::new();
        let mut builder = crate::entry::EntryBuilder::default();
        builder.push(&crate::entry::CommandMeta::default(), &to_argv(victims));
        let index = engine.applied_index() + 1;
        let entry = builder.finish(1, index);
        engine.apply_entry(index, &entry, &mut |_, reply, _| replies.push(reply)).expect("own format");
        replies.remove(0)
    }

    fn filled(policy: &str) -> Engine {
        let mut engine = Engine::new(SEED);
        let mut settings = crate::Settings { version: 1, ..crate::Settings::default() };
        settings.set("maxmemory-policy", policy).expect("a policy");
        engine.keyspace.set_settings(settings);
        for i in 0..100 {
            run(&mut engine, 1, &format!("SET k{i} value"));
            if i % 2 == 0 {
                run(&mut engine, 1, &format!("PEXPIRE k{i} {}", 1_000_000 - i));
            }
        }
        engine
    }

    #[test]
    fn a_key_that_is_gone_or_was_written_since_is_left_alone() {
        let mut engine = filled("allkeys-lru");
        let victims = Victims::new(1).choose(engine.keyspace(), 5, u64::MAX, 3);
        assert_eq!(victims.len(), 3);
        let name = |at: usize| String::from_utf8(victims[at].key.clone()).expect("a name");
        run(&mut engine, 1, &format!("DEL {}", name(0)));
        run(&mut engine, 1, &format!("SET {} new", name(1)));
        let before = engine.digest();
        assert_eq!(evict(&mut engine, &victims[..2]), Reply::Int(0));
        assert_eq!(engine.digest(), before);
        assert_eq!(evict(&mut engine, &victims), Reply::Int(1));
        assert_eq!(evict(&mut engine, &victims), Reply::Int(0));
        assert_eq!(engine.stats().keys, 98);
    }

    #[test]
    fn every_policy_chooses_among_its_keys() {
        for (policy, expected) in [
            ("noeviction", 0),
            ("volatile-lru", 50),
            ("volatile-lfu", 50),
            ("volatile-random", 50),
            ("volatile-ttl", 50),
            ("allkeys-lru", 100),
            ("allkeys-lfu", 100),
            ("allkeys-random", 100),
        ] {
            let mut engine = filled(policy);
            let mut victims = Victims::new(7);
            loop {
                let some = victims.choose(engine.keyspace(), 5, 300, 10);
                if some.is_empty() {
                    break;
                }
                assert_eq!(evict(&mut engine, &some), Reply::Int(some.len() as i64), "{policy}");
            }
            assert_eq!(engine.stats().keys, 100 - expected, "{policy}");
        }
    }

    #[test]
    fn the_nearest_deadlines_and_the_longest_rest_go_first() {
        let engine = filled("volatile-ttl");
        let first = Victims::new(1).choose(engine.keyspace(), 5, 1, 10);
        assert_eq!((first.len(), &first[0].key[..]), (1, &b"k98"[..]));
        let engine = filled("allkeys-lru");
        engine.keyspace().set_access_clock(1_000_000);
        engine.keyspace().set_access_clock(1_050_000);
        for i in (0..100).filter(|i| i % 10 != 0) {
            engine.keyspace().value(0, format!("k{i}").as_bytes());
        }
        assert_eq!(engine.keyspace().idle(0, b"k10"), Some(50));
        assert_eq!(engine.keyspace().idle(0, b"k11"), Some(0));
        // So many looks at a hundred keys find most of the ten.
        let chosen = Victims::new(3).choose(engine.keyspace(), 64, u64::MAX, 5);
        assert!(chosen.iter().all(|victim| victim.key.ends_with(b"0")), "{chosen:?}");
    }

    #[test]
    fn few_keys_with_deadlines_are_found_among_many() {
        let mut engine = filled("volatile-lru");
        for i in 0..5000 {
            run(&mut engine, 1, &format!("SET other{i} value"));
        }
        let mut victims = Victims::new(5);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            seen.extend(victims.choose(engine.keyspace(), 5, 1, 1).into_iter().map(|victim| victim.key));
        }
        assert!(seen.len() > 25, "{} of 50 keys in 200 choices", seen.len());
    }

    #[test]
    fn damaged_words_are_an_error() {
        let mut engine = filled("allkeys-lru");
        for words in ["QUORIS.EVICT k1 x", "QUORIS.EVICT k1 1 k2"] {
            let before = engine.stats().keys;
            run(&mut engine, 1, words);
            assert_eq!(engine.stats().keys, before, "{words}");
        }
    }
}
