//! What clients asked and were told: events as JSON lines, and the operations that they make.
//!
//! One line is one event: `{"process":3,"type":"invoke","f":"write","key":1,"value":7,"time":81234}`. Invariants:
//! a process has one operation at a time; one whose operation ended as *info* never acts again, because its
//! operation may still be under way; times are nanoseconds on one monotonic clock, taken before the bytes are
//! sent and after the reply was read.

use std::collections::HashMap;
use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The operation begins.
    Invoke,
    /// It took effect, and this was the answer.
    Ok,
    /// It had no effect and never will.
    Fail,
    /// Nobody knows.
    Info,
}

/// What was asked for; each workload uses a few of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum F {
    /// Gives what is there.
    Read,
    /// Puts a value; with expiry, `[value, milliseconds]`.
    Write,
    /// Puts a value in place of one that was seen: asked as `new`, answered as `[old, new]`, 0 for nothing.
    Cas,
    /// Adds to a counter (answered with the sum) or to a set.
    Add,
    /// Several appends and reads at once.
    Txn,
    /// Puts an element at the end of a queue.
    Enqueue,
    /// Takes one from its front; null when there was none.
    Dequeue,
    /// Takes a lock for some milliseconds; answered with a fencing number.
    Acquire,
    /// Gives back the lock with that number.
    Release,
    /// Moves money: `[from, to, sum]`.
    Transfer,
    /// Says something in a channel: `[message, how]`.
    Publish,
    /// Listens to one; answered with what was heard.
    Listen,
}

/// An argument or an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Nothing is there, or nothing is known.
    #[default]
    Null,
    /// A number.
    Int(i64),
    /// Several.
    Ints(Vec<i64>),
    /// The steps of a transaction.
    Txn(Vec<Mop>),
}

impl Value {
    /// The number, 0 for nothing.
    pub fn int(&self) -> i64 {
        if let Value::Int(n) = self { *n } else { 0 }
    }

    /// The numbers, none for anything else.
    pub fn ints(&self) -> &[i64] {
        if let Value::Ints(list) = self { list } else { &[] }
    }

    /// The steps, none for anything else.
    pub fn steps(&self) -> &[Mop] {
        if let Value::Txn(steps) = self { steps } else { &[] }
    }
}

/// One step of a transaction, as Jepsen writes it: `["append", key, element]` or `["r", key, elements]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mop(pub Micro, pub i64, pub Value);

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Micro {
    /// Appends one element.
    #[serde(rename = "append")]
    Append,
    /// Reads all of them; null before there is an answer.
    #[serde(rename = "r")]
    Read,
    /// Puts one value in place of what is there.
    #[serde(rename = "w")]
    Write,
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Who.
    pub process: u64,
    /// Begins or ends how.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What.
    pub f: F,
    /// On what; transactions name their keys in the steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<i64>,
    /// With what, or what came of it.
    #[serde(default)]
    pub value: Value,
    /// Nanoseconds since the run began.
    pub time: u64,
    /// The node that it went through, from 1 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u64>,
    /// Why it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Group, term and index in the log, where the reply told them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<[u64; 3]>,
}

/// How an operation ended, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It took effect before this time.
    Ok(u64),
    /// It had no effect.
    Fail,
    /// It may take effect at any time after its call.
    Info,
}

/// An operation: its invocation and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Who.
    pub process: u64,
    /// What.
    pub f: F,
    /// On what.
    pub key: i64,
    /// With what.
    pub asked: Value,
    /// What came of it.
    pub answered: Value,
    /// When it was sent.
    pub call: u64,
    /// What became of it.
    pub end: End,
}

impl Op {
    /// When its answer was there.
    pub fn returned(&self) -> Option<u64> {
        if let End::Ok(time) = self.end { Some(time) } else { None }
    }

    /// It certainly took effect.
    pub fn is_ok(&self) -> bool {
        self.returned().is_some()
    }

    /// It may have taken effect.
    pub fn is_possible(&self) -> bool {
        self.end != End::Fail
    }

    /// It happened, if it did, after the other had ended.
    pub fn is_after(&self, other: &Op) -> bool {
        other.returned().is_some_and(|returned| returned < self.call)
    }
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let json = |value: &Value| serde_json::to_string(value).unwrap_or_default();
        let ms = |time: u64| time as f64 / 1e6;
        let name = format!("{:?}", self.f).to_lowercase();
        write!(f, "process {} {name} key {} {}", self.process, self.key, json(&self.asked))?;
        match self.end {
            End::Ok(time) => {
                write!(f, " -> {} [{:.3} ms to {:.3} ms]", json(&self.answered), ms(self.call), ms(time))
            }
            End::Fail => write!(f, " failed [from {:.3} ms]", ms(self.call)),
            End::Info => write!(f, " -> unknown {} [from {:.3} ms]", json(&self.answered), ms(self.call)),
        }
    }
}

/// Writes events as lines.
///
/// # Errors
/// When the file cannot be written.
pub fn write_event(out: &mut impl Write, event: &Event) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, event)?;
    out.write_all(b"\n")
}

/// Reads the lines of a history.
///
/// # Errors
/// With the number of the line that is none.
pub fn read_events(input: impl BufRead) -> anyhow::Result<Vec<Event>> {
    let mut events = Vec::new();
    for (number, line) in input.lines().enumerate() {
        let event = serde_json::from_str(&line?);
        events.push(event.map_err(|why| anyhow::anyhow!("line {}: {why}", number + 1))?);
    }
    Ok(events)
}

/// Pairs invocations with their ends, in order of the calls. What never ended is of unknown outcome.
///
/// # Errors
/// When the events cannot be a history: the harness is wrong then, not what it looks at.
pub fn operations(events: &[Event]) -> anyhow::Result<Vec<Op>> {
    let mut open: HashMap<u64, usize> = HashMap::new();
    let mut crashed: HashMap<u64, usize> = HashMap::new();
    let mut ops: Vec<Op> = Vec::with_capacity(events.len() / 2);
    for (line, event) in events.iter().enumerate() {
        let place = || format!("line {}, process {}", line + 1, event.process);
        if event.kind == Kind::Invoke {
            anyhow::ensure!(!crashed.contains_key(&event.process), "{}: acts after an unknown outcome", place());
            let before = open.insert(event.process, ops.len());
            anyhow::ensure!(before.is_none(), "{}: a second operation before the first one's end", place());
            ops.push(Op {
                process: event.process,
                f: event.f,
                key: event.key.unwrap_or_default(),
                asked: event.value.clone(),
                answered: Value::Null,
                call: event.time,
                end: End::Info,
            });
            continue;
        }
        let Some(at) = open.remove(&event.process) else { anyhow::bail!("{}: an end without a beginning", place()) };
        let op = &mut ops[at];
        anyhow::ensure!(op.f == event.f && op.call <= event.time, "{}: not the end of what it began", place());
        op.answered = event.value.clone();
        op.end = match event.kind {
            Kind::Ok => End::Ok(event.time),
            Kind::Fail => End::Fail,
            Kind::Info | Kind::Invoke => End::Info,
        };
        if op.end == End::Info {
            crashed.insert(event.process, line);
        }
    }
    ops.sort_by_key(|op| op.call);
    Ok(ops)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(process: u64, kind: Kind, time: u64) -> Event {
        let value = Value::Int(1);
        Event { process, kind, f: F::Add, key: Some(2), value, time, node: None, error: None, position: None }
    }

    #[test]
    fn a_history_survives_its_file() {
        let steps = vec![Mop(Micro::Append, 3, Value::Int(4)), Mop(Micro::Read, 3, Value::Ints(vec![1, 4]))];
        let values = [Value::Null, Value::Int(-3), Value::Ints(vec![]), Value::Ints(vec![1, 2]), Value::Txn(steps)];
        let events: Vec<Event> = values.into_iter().map(|value| Event { value, ..event(1, Kind::Ok, 9) }).collect();
        let mut file = Vec::new();
        events.iter().for_each(|event| write_event(&mut file, event).unwrap());
        assert_eq!(read_events(&file[..]).unwrap(), events);
        let text = String::from_utf8(file).unwrap();
        assert!(text.ends_with("\"value\":[[\"append\",3,4],[\"r\",3,[1,4]]],\"time\":9}\n"), "{text}");
    }

    #[test]
    fn ends_find_their_beginnings() {
        let events = [
            event(1, Kind::Invoke, 1),
            event(2, Kind::Invoke, 2),
            event(2, Kind::Ok, 3),
            event(2, Kind::Invoke, 4),
            event(1, Kind::Fail, 5),
            event(2, Kind::Info, 6),
            event(3, Kind::Invoke, 7),
        ];
        let ends: Vec<End> = operations(&events).unwrap().into_iter().map(|op| op.end).collect();
        assert_eq!(ends, [End::Fail, End::Ok(3), End::Info, End::Info]);
    }

    #[test]
    fn what_cannot_have_happened_is_the_harness_s_fault() {
        let wrong = [
            vec![event(1, Kind::Ok, 1)],
            vec![event(1, Kind::Invoke, 1), event(1, Kind::Invoke, 2)],
            vec![event(1, Kind::Invoke, 2), event(1, Kind::Ok, 1)],
            vec![event(1, Kind::Invoke, 1), event(1, Kind::Info, 2), event(1, Kind::Invoke, 3)],
        ];
        assert!(wrong.iter().all(|events| operations(events).is_err()));
    }
}
