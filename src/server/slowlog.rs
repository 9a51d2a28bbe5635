//! SLOWLOG: the commands that took longest to answer.
//!
//! A command that is answered in place is timed alone; one that goes through the log is timed from the
//! moment it is sent to the moment its reply is there, fsync and replication included.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use quoris_resp::{Argv, Reply};

use crate::{client::Client, commands::Served, server::unix_ms};

/// Arguments and bytes of an argument that an entry keeps, as in Redis.
const ARGUMENTS_MAX: usize = 32;
const ARGUMENT_BYTES_MAX: usize = 128;

#[derive(Debug, Default)]
pub(crate) struct SlowLog(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    next_id: i64,
    newest_first: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: i64,
    unix_s: u64,
    micros: i64,
    arguments: Vec<Vec<u8>>,
    peer: String,
    client: String,
}

/// What an entry keeps of a command's arguments.
pub(crate) fn shortened(argv: &Argv) -> Vec<Vec<u8>> {
    let kept = if argv.len() > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { argv.len() };
    let mut arguments: Vec<Vec<u8>> = argv.iter().take(kept).map(short).collect();
    if kept < argv.len() {
        arguments.push(format!("... ({} more arguments)", argv.len() - kept).into_bytes());
    }
    arguments
}

fn short(argument: &[u8]) -> Vec<u8> {
    if argument.len() <= ARGUMENT_BYTES_MAX {
        return argument.to_vec();
    }
    let mut text = argument[..ARGUMENT_BYTES_MAX].to_vec();
    text.extend_from_slice(format!("... ({} more bytes)", argument.len() - ARGUMENT_BYTES_MAX).as_bytes());
    text
}

impl SlowLog {
    /// Keeps a command.
    pub fn add(&self, arguments: Vec<Vec<u8>>, took: Duration, peer: String, client: String, length_max: usize) {
        let mut entries = self.0.lock();
        let id = entries.next_id;
        entries.next_id += 1;
        let micros = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        entries.newest_first.push_front(Entry { id, unix_s: unix_ms() / 1000, micros, arguments, peer, client });
        entries.newest_first.truncate(length_max);
    }

    /// Entries kept.
    pub fn len(&self) -> usize {
        self.0.lock().newest_first.len()
    }

    /// Forgets all but the newest.
    pub fn truncate(&self, length_max: usize) {
        self.0.lock().newest_first.truncate(length_max);
    }

    fn get(&self, count: usize) -> Reply {
        let entries = self.0.lock();
        let shown = entries.newest_first.iter().take(count).map(|entry| {
            let arguments = entry.arguments.iter().map(Reply::bulk).collect();
            Reply::Array(vec![
                Reply::Int(entry.id),
                Reply::Int(entry.unix_s as i64),
                Reply::Int(entry.micros),
                Reply::Array(arguments),
                Reply::bulk(&entry.peer),
                Reply::bulk(&entry.client),
            ])
        });
        Reply::Array(shown.collect())
    }
}

/// SLOWLOG GET, LEN, RESET.
pub(crate) fn run(client: &Client, sub: &str, argv: &Argv) -> Served {
    let log = &client.server.slowlog;
    match sub {
        "get" => {
            let count = match argv.get(2) {
                None => 10,
                Some(text) => match std::str::from_utf8(text).ok().and_then(|t| t.parse::<i64>().ok()) {
                    Some(-1) => usize::MAX,
                    Some(n) if n >= 0 => n as usize,
                    _ => return Served::error("ERR count should be greater than or equal to -1"),
                },
            };
            Served::Reply(log.get(count))
        }
        "len" => Served::Reply(Reply::Int(log.len() as i64)),
        "reset" => {
            log.truncate(0);
            Served::Reply(Reply::Ok)
        }
        _ => Served::unknown(argv),
    }
}
