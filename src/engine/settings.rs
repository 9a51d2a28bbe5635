//! Settings that apply can see: state of the group, the same on every replica.
//!
//! Whatever a command's effect or reply depends on beside keys and entry stands here: a type that is
//! packed up to some size asks [`crate::Keyspace::settings`]. Nothing in this crate knows the
//! configuration of a node, so a node-local setting cannot be asked for. A group's log changes the
//! settings by [`COMMAND`], which nodes propose and no client can send. It names all values and a
//! version, and only a newer version than the applied one is taken: repeats are harmless, and nothing is
//! lost with a version that was passed over.
//!
//! Invariants:
//! * Settings are taken whole or not at all; they are in the digest and in the snapshot.
//! * They have one form as text, in the log, in snapshots and in the meta group.
//! * A new row changes what apply understands, so it comes with a new feature level.

use std::fmt;

use quoris_resp::{Argv, Reply};

use crate::command::{ADMIN, Command, Handler, ROW, WRITE};
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// The name of the command in the log.
pub const NAME: &str = "QUORIS.SETTINGS";

/// Not in the table: a client that sends it is told that there is no such command.
pub static COMMAND: Command = Command {
    name: "quoris.settings",
    arity: 2,
    flags: WRITE.with(ADMIN),
    summary: "Takes over the settings of the cluster, unless newer ones are here.",
    syntax: "settings",
    handler: Handler::Write(apply),
    ..ROW
};

/// What a value may be. All are kept as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number within bounds, ends included; of bytes too.
    Number {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// Classes of keyspace notifications, a bit for each: see [`events`].
    Events,
    /// One of several words, by its place.
    Choice(&'static [&'static str]),
}

/// One row: a setting that apply can see.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name, as in Redis.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What it is when nobody says anything.
    pub default: &'static str,
    field: fn(&mut Settings) -> &mut i64,
}

/// The values. Fields are named as their settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table of the server says what each setting does")]
pub struct Settings {
    /// Grows with every change; 0 where no change has arrived.
    pub version: u64,
    pub hash_max_listpack_entries: i64,
    pub hash_max_listpack_value: i64,
    pub list_max_listpack_size: i64,
    pub list_compress_depth: i64,
    pub set_max_intset_entries: i64,
    pub set_max_listpack_entries: i64,
    pub set_max_listpack_value: i64,
    pub zset_max_listpack_entries: i64,
    pub zset_max_listpack_value: i64,
    pub hll_sparse_max_bytes: i64,
    pub stream_node_max_bytes: i64,
    pub stream_node_max_entries: i64,
    pub notify_keyspace_events: i64,
    pub busy_reply_threshold: i64,
    pub maxmemory_policy: i64,
    pub lfu_log_factor: i64,
    pub lfu_decay_time: i64,
    pub session_ttl: i64,
    pub encoding_names: i64,
    pub event_retention_bytes: i64,
    pub event_retention_time: i64,
}

const fn row(name: &'static str, kind: Kind, default: &'static str, field: fn(&mut Settings) -> &mut i64) -> Setting {
    Setting { name, kind, default, field }
}

const LONG: Kind = Kind::Number { min: 0, max: i64::MAX };
const COUNT: Kind = Kind::Number { min: 0, max: i32::MAX as i64 };
const ANY: Kind = Kind::Number { min: i32::MIN as i64, max: i32::MAX as i64 };
const SECONDS: Kind = Kind::Number { min: 1, max: i32::MAX as i64 };
const POLICIES: Kind = Kind::Choice(&[
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
]);

/// Every setting: the one list.
#[rustfmt::skip]
pub static SETTINGS: &[Setting] = &[
    row("hash-max-listpack-entries", LONG, "512", |s| &mut s.hash_max_listpack_entries),
    row("hash-max-listpack-value", LONG, "64", |s| &mut s.hash_max_listpack_value),
    row("list-max-listpack-size", ANY, "-2", |s| &mut s.list_max_listpack_size),
    row("list-compress-depth", COUNT, "0", |s| &mut s.list_compress_depth),
    row("set-max-intset-entries", LONG, "512", |s| &mut s.set_max_intset_entries),
    row("set-max-listpack-entries", LONG, "128", |s| &mut s.set_max_listpack_entries),
    row("set-max-listpack-value", LONG, "64", |s| &mut s.set_max_listpack_value),
    row("zset-max-listpack-entries", LONG, "128", |s| &mut s.zset_max_listpack_entries),
    row("zset-max-listpack-value", LONG, "64", |s| &mut s.zset_max_listpack_value),
    row("hll-sparse-max-bytes", LONG, "3000", |s| &mut s.hll_sparse_max_bytes),
    row("stream-node-max-bytes", LONG, "4096", |s| &mut s.stream_node_max_bytes),
    row("stream-node-max-entries", LONG, "100", |s| &mut s.stream_node_max_entries),
    row("notify-keyspace-events", Kind::Events, "", |s| &mut s.notify_keyspace_events),
    row("busy-reply-threshold", LONG, "5000", |s| &mut s.busy_reply_threshold),
    row("maxmemory-policy", POLICIES, "noeviction", |s| &mut s.maxmemory_policy),
    row("lfu-log-factor", COUNT, "10", |s| &mut s.lfu_log_factor),
    row("lfu-decay-time", COUNT, "1", |s| &mut s.lfu_decay_time),
    row("session-ttl", SECONDS, "600", |s| &mut s.session_ttl),
    row("encoding-names", Kind::Choice(&["8", "7.0"]), "8", |s| &mut s.encoding_names),
    row("event-retention-bytes", LONG, "67108864", |s| &mut s.event_retention_bytes),
    row("event-retention-time", SECONDS, "3600", |s| &mut s.event_retention_time),
];

impl Settings {
    /// Bytes of events that a replica keeps.
    pub fn event_bytes_max(&self) -> u64 {
        self.event_retention_bytes.unsigned_abs()
    }

    /// How old events become before they are dropped, in milliseconds.
    pub fn event_age_ms_max(&self) -> u64 {
        self.event_retention_time.unsigned_abs().saturating_mul(1000)
    }
}

impl Default for Settings {
    fn default() -> Settings {
        let mut settings = Settings {
            version: 0,
            hash_max_listpack_entries: 0,
            hash_max_listpack_value: 0,
            list_max_listpack_size: 0,
            list_compress_depth: 0,
            set_max_intset_entries: 0,
            set_max_listpack_entries: 0,
            set_max_listpack_value: 0,
            zset_max_listpack_entries: 0,
            zset_max_listpack_value: 0,
            hll_sparse_max_bytes: 0,
            stream_node_max_bytes: 0,
            stream_node_max_entries: 0,
            notify_keyspace_events: 0,
            busy_reply_threshold: 0,
            maxmemory_policy: 0,
            lfu_log_factor: 0,
            lfu_decay_time: 0,
            session_ttl: 0,
            encoding_names: 0,
            event_retention_bytes: 0,
            event_retention_time: 0,
        };
        for setting in SETTINGS {
            settings.set(setting.name, setting.default).expect("defaults fit");
        }
        settings
    }
}

impl Settings {
    /// What the encoding of a value of this type is called: Redis 7.0 has no name of its own for small lists and
    /// small sets of strings.
    pub fn encoding_name(&self, type_name: &str, encoding: &'static str) -> &'static str {
        match (type_name, encoding) {
            ("list", "listpack") if self.encoding_names != 0 => "quicklist",
            ("set", "listpack") if self.encoding_names != 0 => "hashtable",
            _ => encoding,
        }
    }

    /// A setting's value, in its one spelling.
    pub fn text(&self, setting: &Setting) -> String {
        setting.kind.show(self.value(setting))
    }

    fn value(mut self, setting: &Setting) -> i64 {
        *(setting.field)(&mut self)
    }

    /// Changes a value; the version stays.
    ///
    /// # Errors
    /// When there is no such setting or the value does not fit; nothing is changed.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        let setting = SETTINGS.iter().find(|s| s.name == name).ok_or_else(|| format!("no setting '{name}'"))?;
        let value = setting.kind.read(text).ok_or_else(|| format!("'{text}' is no value of {name}"))?;
        *(setting.field)(self) = value;
        Ok(())
    }

    /// Reads what [`fmt::Display`] writes. What is not named has its default.
    ///
    /// # Errors
    /// With what is wrong: a newer program's settings are not known here.
    pub fn parse(text: &[u8]) -> Result<Settings, String> {
        let text = std::str::from_utf8(text).map_err(|_| "settings that are not text")?;
        let mut words = text.split(' ');
        let version = words.next().and_then(|word| word.parse::<u64>().ok()).filter(|n| *n < 1 << 63);
        let version = version.ok_or("settings without a version")?;
        let mut settings = Settings { version, ..Settings::default() };
        for word in words {
            let (name, value) = word.split_once('=').ok_or_else(|| format!("'{word}' is no setting"))?;
            settings.set(name, value)?;
        }
        Ok(settings)
    }

    /// The command that makes a group take these settings over.
    pub fn to_argv(&self) -> Argv {
        Argv::from_parts(&[NAME, &self.to_string()])
    }

    /// A hash of all values and the version.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        hasher.update(&self.version.to_le_bytes());
        SETTINGS.iter().for_each(|setting| hasher.update(&self.value(setting).to_le_bytes()));
        hasher.digest()
    }
}

/// The version, then `name=value` for each setting, with one blank between them.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.version)?;
        SETTINGS.iter().try_for_each(|setting| write!(f, " {}={}", setting.name, self.text(setting)))
    }
}

impl Kind {
    fn read(self, text: &str) -> Option<i64> {
        match self {
            Kind::Number { min, max } => text.parse().ok().filter(|n| (min..=max).contains(n)),
            Kind::Events => events(text),
            Kind::Choice(words) => words.iter().position(|word| *word == text).map(|at| at as i64),
        }
    }

    fn show(self, value: i64) -> String {
        match self {
            Kind::Number { .. } => value.to_string(),
            Kind::Events => event_letters(value),
            Kind::Choice(words) => words[value as usize].to_string(),
        }
    }
}

/// The classes that `A` stands for, then those that stand apart, in the order in which Redis prints them.
const EVENT_CLASSES: &str = "g$lshzxetdKEmn";
/// How many of them `A` stands for.
const EVENT_ALL: u32 = 10;

/// Classes of keyspace notifications from Redis's letters: a bit for each, in the order `g$lshzxetdKEmn`.
pub fn events(text: &str) -> Option<i64> {
    text.chars().try_fold(0, |classes, letter| match letter {
        'A' => Some(classes | ((1 << EVENT_ALL) - 1)),
        _ => EVENT_CLASSES.find(letter).map(|at| classes | 1 << at),
    })
}

/// The letters of classes, in Redis's order.
pub fn event_letters(classes: i64) -> String {
    let all = (1 << EVENT_ALL) - 1;
    let (first, rest) = if classes & all == all { ("A", classes & !all) } else { ("", classes) };
    let letters = EVENT_CLASSES.chars().enumerate().filter(|(at, _)| rest & 1 << at != 0);
    first.chars().chain(letters.map(|(_, letter)| letter)).collect()
}

/// QUORIS.SETTINGS: answers with the version that holds afterwards.
fn apply(keyspace: &mut Keyspace, _context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let settings = Settings::parse(&argv[1]).map_err(|why| Error::text(format!("ERR {why}")))?;
    if settings.version > keyspace.settings().version {
        keyspace.set_settings(settings);
    }
    Ok(Reply::Int(keyspace.settings().version.cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engine;
    use crate::command::{logged, lookup};
    use crate::testing::{SEED, apply, exec, run};

    fn changed(version: u64, changes: &[(&str, &str)]) -> Settings {
        let mut settings = Settings { version, ..Settings::default() };
        changes.iter().for_each(|(name, value)| settings.set(name, value).expect("a setting"));
        settings
    }

    fn propose(engine: &mut Engine, settings: &Settings) -> Reply {
        let command = (Default::default(), settings.to_argv());
        apply(engine, 1, &[command]).pop().expect("one reply")
    }

    #[test]
    fn settings_read_back_from_their_text() {
        let changes =
            [("notify-keyspace-events", "KEA"), ("maxmemory-policy", "allkeys-lfu"), ("hash-max-listpack-value", "9")];
        for settings in [Settings::default(), changed(7, &changes)] {
            assert_eq!(Settings::parse(settings.to_string().as_bytes()), Ok(settings));
        }
        for setting in SETTINGS {
            assert_eq!(Settings::default().text(setting), setting.default, "{}", setting.name);
        }
        for wrong in
            ["", "x", "1 ", "1 port=1", "1 maxmemory-policy=often", "1 list-compress-depth=-1", "9223372036854775808"]
        {
            assert!(Settings::parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        assert!(Settings::parse(b"1 \xff=2").is_err());
    }

    #[test]
    fn every_row_has_a_field_of_its_own() {
        for (at, setting) in SETTINGS.iter().enumerate() {
            let mut settings = Settings::default();
            *(setting.field)(&mut settings) += 1;
            let differ: Vec<usize> = (0..SETTINGS.len())
                .filter(|n| settings.value(&SETTINGS[*n]) != Settings::default().value(&SETTINGS[*n]))
                .collect();
            assert_eq!(differ, [at], "{}", setting.name);
            assert_ne!(settings.digest(), Settings::default().digest());
        }
    }

    #[test]
    fn only_newer_settings_are_taken_and_only_whole() {
        let mut engine = Engine::new(SEED);
        let (older, newer) =
            (changed(1, &[("busy-reply-threshold", "1")]), changed(3, &[("busy-reply-threshold", "3")]));
        assert_eq!(propose(&mut engine, &newer), Reply::Int(3));
        let digest = |engine: &mut Engine| engine.keyspace.digest();
        let before = digest(&mut engine);
        for repeat in [&older, &newer, &Settings { version: 3, ..older }] {
            assert_eq!(propose(&mut engine, repeat), Reply::Int(3));
        }
        let replies =
            ["QUORIS.SETTINGS 4 nosuch=1", "QUORIS.SETTINGS 4 stream-node-max-entries=7 nosuch=1", "QUORIS.SETTINGS"];
        assert!(replies.iter().all(|words| run(&mut engine, 1, words).is_error()));
        assert_eq!((*engine.keyspace().settings(), digest(&mut engine)), (newer, before));
    }

    #[test]
    fn settings_are_in_the_digest_and_survive_a_snapshot() {
        let mut engine = Engine::new(SEED);
        run(&mut engine, 1, "SET k v");
        let mut other = Engine::new(SEED);
        run(&mut other, 1, "SET k v");
        let settings = changed(5, &[("notify-keyspace-events", "g$K"), ("list-max-listpack-size", "-5")]);
        propose(&mut engine, &settings);
        propose(&mut other, &Settings { version: 5, ..Settings::default() });
        assert_ne!(engine.digest(), other.digest());
        let file = engine.snapshot(vec![]).expect("none is running");
        let mut again = Engine::load(&mut &file[..], &mut |_| {}).expect("own snapshot").engine;
        assert_eq!((*again.keyspace().settings(), again.digest()), (settings, engine.digest()));
        assert_eq!(again.snapshot(vec![]).expect("none is running"), file);
    }

    #[test]
    fn no_client_can_send_it() {
        let argv = Settings::default().to_argv();
        assert!(lookup(&argv).is_err_and(|e| e.to_string().starts_with("ERR unknown command")));
        assert_eq!(logged(&argv).expect("a command of the log").name, COMMAND.name);
        let mut engine = Engine::new(SEED);
        let reply = apply(&mut engine, 1, &[exec(vec![], &["QUORIS.SETTINGS 4"])]);
        assert!(matches!(&reply[..], [Reply::Array(replies)] if replies[0].is_error()), "{reply:?}");
        assert_eq!(engine.keyspace().settings().version, 0);
    }
}
