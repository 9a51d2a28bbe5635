//! Histories as EDN, the form in which Jepsen, Elle and Knossos read them.
//!
//! One map a line: `{:index 0, :time 12, :process 3, :type :invoke, :f :txn, :value [[:append 3 7] [:r 3 nil]]}`.
//! Of operations on one key the value is `[key value]`, as Jepsen's independent histories have it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::history::{Event, Micro, Mop, Value, read_events};
use crate::judge::read_json;
use crate::run::Settings;

/// Writes a file for each workload of a folder; gives their paths.
///
/// # Errors
/// When the folder does not hold a run, or cannot be written.
pub fn export(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let settings: Settings = read_json(&dir.join("run.json"))?;
    let mut written = Vec::new();
    for name in &settings.workloads {
        let events = read_events(BufReader::new(File::open(dir.join(format!("{name}.jsonl")))?))?;
        let path = dir.join(format!("{name}.edn"));
        let mut out = BufWriter::new(File::create(&path)?);
        for (index, event) in events.iter().enumerate() {
            writeln!(out, "{}", edn(index, event))?;
        }
        out.flush()?;
        written.push(path);
    }
    Ok(written)
}

/// One event.
pub fn edn(index: usize, event: &Event) -> String {
    let word = |text: String| text.to_lowercase();
    let value = match event.key {
        Some(key) => format!("[{key} {}]", value(&event.value)),
        None => value(&event.value),
    };
    let mut line = format!(
        "{{:index {index}, :time {}, :process {}, :type :{}, :f :{}, :value {value}",
        event.time,
        event.process,
        word(format!("{:?}", event.kind)),
        word(format!("{:?}", event.f)),
    );
    for (name, text) in
        [("node", event.node.map(|n| format!("\"n{n}\""))), ("error", event.error.as_deref().map(quoted))]
    {
        if let Some(text) = text {
            let _ = write!(line, ", :{name} {text}");
        }
    }
    line + "}"
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn value(value: &Value) -> String {
    let list = |items: Vec<String>| format!("[{}]", items.join(" "));
    match value {
        Value::Null => "nil".to_string(),
        Value::Int(n) => n.to_string(),
        Value::Ints(all) => list(all.iter().map(i64::to_string).collect()),
        Value::Txn(steps) => list(steps.iter().map(step).collect()),
    }
}

fn step(Mop(what, key, element): &Mop) -> String {
    let what = match what {
        Micro::Append => "append",
        Micro::Read => "r",
        Micro::Write => "w",
    };
    format!("[:{what} {key} {}]", value(element))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{F, Kind};

    #[test]
    fn events_are_maps_as_jepsen_writes_them() {
        let steps = vec![Mop(Micro::Append, 3, Value::Int(7)), Mop(Micro::Read, 3, Value::Ints(vec![5, 7]))];
        let event = Event {
            process: 3,
            kind: Kind::Ok,
            f: F::Txn,
            key: None,
            value: Value::Txn(steps),
            time: 12,
            node: Some(2),
            error: None,
            position: None,
        };
        let line =
            "{:index 4, :time 12, :process 3, :type :ok, :f :txn, :value [[:append 3 7] [:r 3 [5 7]]], :node \"n2\"}";
        assert_eq!(edn(4, &event), line);
        let event = Event { f: F::Read, key: Some(1), value: Value::Null, error: Some("a \"b\"".into()), ..event };
        assert!(edn(0, &event).contains(":f :read, :value [1 nil], :node \"n2\", :error \"a \\\"b\\\"\"}"));
    }
}
