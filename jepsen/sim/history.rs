//! What clients asked and were told, the trace of a run, and the comparison at the end.
//!
//! Invariants checked while the run goes on: a counter's reply is larger than every reply that was given
//! before the command was sent, and no two are equal; a read is not older than what was known when it was
//! sent. At the end: what was acknowledged is there once, what certainly failed is not there.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use quoris_resp::Reply;

use crate::net::now;
use crate::queue::Queue;

/// What a client does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `INCR key`.
    Incr(String),
    /// `GET key` of a counter.
    Read(String),
    /// `APPEND key token`.
    Append(String, String),
    /// `SET key value`; a key has one writer.
    Set(String, String),
    /// `RPUSH key element`.
    Push(String, String),
    /// `BLPOP key`, for some milliseconds.
    Take(String, u64),
}

impl Action {
    /// The command.
    pub fn argv(&self) -> Vec<String> {
        let parts: &[&str] = match self {
            Action::Incr(key) => &["INCR", key],
            Action::Read(key) => &["GET", key],
            Action::Append(key, token) => &["APPEND", key, token],
            Action::Set(key, value) => &["SET", key, value],
            Action::Push(key, element) => &["RPUSH", key, element],
            Action::Take(key, _) => &["BLPOP", key, "0"],
        };
        parts.iter().map(ToString::to_string).collect()
    }
}

/// How a command ended.
#[derive(Debug)]
pub enum End {
    /// With a reply.
    Acknowledged(Reply),
    /// Certainly not executed.
    Failed,
    /// Nobody can tell; also what a crash of the client's own node leaves.
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Open,
    /// With the length of the string behind it, for APPEND.
    Acknowledged(i64),
    Failed,
}

#[derive(Default)]
struct Counter {
    begun: i64,
    failed: i64,
    replies: BTreeSet<i64>,
    /// The largest value that anybody was told.
    known: i64,
}

/// How many commands ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// With a reply.
    pub acknowledged: u64,
    /// Certainly not executed.
    pub failed: u64,
    /// Open for ever.
    pub unknown: u64,
}

#[derive(Default)]
struct Inner {
    counters: BTreeMap<String, Counter>,
    appends: BTreeMap<String, BTreeMap<String, Fate>>,
    sets: BTreeMap<String, Vec<(String, Fate)>>,
    queues: BTreeMap<String, Queue>,
    counts: Counts,
    trace: Vec<String>,
}

/// Shared by all clients of a run.
#[derive(Default)]
pub struct History(Mutex<Inner>);

impl History {
    /// Adds an event with its simulated time.
    pub fn trace(&self, event: String) {
        self.trace_at(now().as_micros(), event);
    }

    /// Adds an event from outside of the simulated nodes.
    pub fn trace_at(&self, micros: u128, event: String) {
        self.0.lock().trace.push(format!("{micros:>9} {event}"));
    }

    /// All events.
    pub fn events(&self) -> Vec<String> {
        self.0.lock().trace.clone()
    }

    /// How many commands ended how; those of crashed clients are not counted.
    pub fn counts(&self) -> Counts {
        self.0.lock().counts
    }

    /// A command is sent; what is returned goes to [`History::end`].
    pub fn begin(&self, action: &Action) -> i64 {
        let mut inner = self.0.lock();
        match action {
            Action::Incr(key) => {
                let counter = inner.counters.entry(key.clone()).or_default();
                counter.begun += 1;
                return counter.known;
            }
            Action::Read(key) => return inner.counters.entry(key.clone()).or_default().known,
            Action::Append(key, token) => {
                inner.appends.entry(key.clone()).or_default().insert(token.clone(), Fate::Open);
            }
            Action::Set(key, value) => inner.sets.entry(key.clone()).or_default().push((value.clone(), Fate::Open)),
            Action::Push(key, element) => inner.queues.entry(key.clone()).or_default().push(element),
            Action::Take(key, _) => inner.queues.entry(key.clone()).or_default().wait(),
        }
        0
    }

    /// A command has ended. `known` is what [`History::begin`] gave.
    ///
    /// # Errors
    /// When the reply breaks a rule.
    pub fn end(&self, client: &str, action: &Action, known: i64, end: &End) -> Result<(), String> {
        self.trace(format!("{client} {action:?} {end:?}"));
        let mut inner = self.0.lock();
        let reply = match end {
            End::Unknown => {
                inner.counts.unknown += 1;
                return Ok(());
            }
            End::Failed => {
                inner.counts.failed += 1;
                inner.set_fate(action, Fate::Failed);
                return Ok(());
            }
            End::Acknowledged(reply) => reply,
        };
        inner.counts.acknowledged += 1;
        let wrong = |why: &str| Err(format!("{client}: {action:?} answered {reply:?}: {why}"));
        match (action, reply) {
            (Action::Incr(key), Reply::Int(value)) => {
                let counter = inner.counters.entry(key.clone()).or_default();
                if *value <= known {
                    return wrong(&format!("{known} was known before"));
                }
                if !counter.replies.insert(*value) {
                    return wrong("somebody else got the same");
                }
                counter.known = counter.known.max(*value);
            }
            (Action::Read(key), Reply::Bulk(_) | Reply::Null) => {
                let value = number(reply);
                let counter = inner.counters.entry(key.clone()).or_default();
                if value < known || value > counter.begun {
                    return wrong(&format!("{known} was known before, {} increments were sent", counter.begun));
                }
                counter.known = counter.known.max(value);
            }
            (Action::Append(..), Reply::Int(length)) => inner.set_fate(action, Fate::Acknowledged(*length)),
            (Action::Push(..), Reply::Int(1..)) => inner.set_fate(action, Fate::Acknowledged(0)),
            (Action::Take(key, _), reply) => {
                let queue = inner.queues.entry(key.clone()).or_default();
                return queue.waited(Some(reply)).or_else(|why| wrong(&why));
            }
            (Action::Set(..), Reply::Ok) => inner.set_fate(action, Fate::Acknowledged(0)),
            _ => return wrong("that is no answer to it"),
        }
        Ok(())
    }

    /// All keys that were written, and the commands that show what they hold.
    pub fn keys(&self) -> Vec<(String, Vec<String>)> {
        let inner = self.0.lock();
        let texts = inner.counters.keys().chain(inner.appends.keys()).chain(inner.sets.keys());
        let texts = texts.map(|key| (key.clone(), vec!["GET".into(), key.clone()]));
        let lists = inner.queues.keys();
        let lists = lists.map(|key| (key.clone(), vec!["LRANGE".into(), key.clone(), "0".into(), "-1".into()]));
        texts.chain(lists).collect()
    }

    /// Compares what a key holds at the end with what clients were told.
    ///
    /// # Errors
    /// When something acknowledged is missing, or something is there that may not be.
    pub fn compare(&self, key: &str, reply: &Reply) -> Result<(), String> {
        let inner = self.0.lock();
        let text = match reply {
            Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        if let Some(counter) = inner.counters.get(key) {
            let (acknowledged, value) = (counter.replies.len() as i64, number(reply));
            let most = counter.begun - counter.failed;
            if value < acknowledged.max(counter.known) || value > most {
                return Err(format!(
                    "{key} is {value}: {acknowledged} acknowledged, {} told, {most} possible",
                    counter.known
                ));
            }
        }
        if let Some(queue) = inner.queues.get(key) {
            return queue.compare(reply).map_err(|why| format!("{key}: {why}"));
        }
        if let Some(tokens) = inner.appends.get(key) {
            compare_tokens(key, &text, tokens)?;
        }
        if let Some(values) = inner.sets.get(key) {
            let last = values.iter().rposition(|(_, fate)| matches!(fate, Fate::Acknowledged(_)));
            let possible = &values[last.unwrap_or(0)..];
            let nothing = text.is_empty() && last.is_none();
            if !nothing && !possible.iter().any(|(value, fate)| *value == text && *fate != Fate::Failed) {
                return Err(format!("{key} holds {text:?}; last acknowledged and later: {possible:?}"));
            }
        }
        Ok(())
    }
}

impl Inner {
    fn set_fate(&mut self, action: &Action, fate: Fate) {
        match action {
            Action::Incr(key) if fate == Fate::Failed => self.counters.entry(key.clone()).or_default().failed += 1,
            Action::Append(key, token) => {
                self.appends.entry(key.clone()).or_default().insert(token.clone(), fate);
            }
            Action::Set(key, _) => {
                if let Some((_, last)) = self.sets.get_mut(key).and_then(|v| v.last_mut()) {
                    *last = fate;
                }
            }
            Action::Push(key, element) => {
                self.queues.entry(key.clone()).or_default().pushed(element, fate != Fate::Failed);
            }
            Action::Take(key, _) if fate == Fate::Failed => {
                let told = self.queues.entry(key.clone()).or_default().waited(None);
                told.expect("no reply is no mistake");
            }
            Action::Incr(_) | Action::Read(_) | Action::Take(..) => {}
        }
    }
}

fn number(reply: &Reply) -> i64 {
    match reply {
        Reply::Bulk(bytes) => std::str::from_utf8(bytes).ok().and_then(|s| s.parse().ok()).unwrap_or(-1),
        Reply::Null => 0,
        _ => -1,
    }
}

fn compare_tokens(key: &str, text: &str, tokens: &BTreeMap<String, Fate>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for token in text.split_inclusive(';') {
        match tokens.get(token) {
            None | Some(Fate::Failed) => return Err(format!("{key} holds {token:?}, which may not be there")),
            Some(_) if !seen.insert(token) => return Err(format!("{key} holds {token:?} twice")),
            Some(_) => {}
        }
    }
    for (token, fate) in tokens {
        let Fate::Acknowledged(length) = fate else { continue };
        let there = text.get(..*length as usize).is_some_and(|head| head.ends_with(token.as_str()));
        if !there {
            return Err(format!("{key}: {token:?} was acknowledged as ending at {length}, and is not there: {text:?}"));
        }
    }
    Ok(())
}
