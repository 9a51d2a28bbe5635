//! SLOWLOG and COMMANDLOG: the commands that took longest to answer, and those whose words or replies were large.
//!
//! A command that is answered in place is timed alone; one that goes through the log is timed from the
//! moment it is sent to the moment its reply is there, fsync and replication included.

use std::collections::VecDeque;

use parking_lot::Mutex;
use quoris_resp::{Argv, Reply};

use crate::{
    client::Client,
    commands::{Served, word},
    server::unix_ms,
};

/// Arguments and bytes of an argument that an entry keeps, as in Redis.
const ARGUMENTS_MAX: usize = 32;
const ARGUMENT_BYTES_MAX: usize = 128;

/// Why a command is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It took so many microseconds.
    Slow,
    /// It had so many bytes.
    LargeRequest,
    /// Its reply had so many bytes.
    LargeReply,
}

impl Kind {
    /// All of them, in the order of [`CommandLogs`].
    pub const ALL: [Kind; 3] = [Kind::Slow, Kind::LargeRequest, Kind::LargeReply];

    fn by_name(name: &str) -> Option<Kind> {
        ["slow", "large-request", "large-reply"].iter().position(|known| *known == name).map(|at| Kind::ALL[at])
    }

    /// The setting that bounds the log.
    pub fn length_setting(self) -> &'static str {
        match self {
            Kind::Slow => "slowlog-max-len",
            Kind::LargeRequest => "commandlog-large-request-max-len",
            Kind::LargeReply => "commandlog-large-reply-max-len",
        }
    }
}

/// One log of each kind.
#[derive(Debug, Default)]
pub(crate) struct CommandLogs([Mutex<Entries>; 3]);

#[derive(Debug, Default)]
struct Entries {
    next_id: i64,
    newest_first: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: i64,
    unix_s: u64,
    amount: i64,
    arguments: Vec<Vec<u8>>,
    peer: String,
    client: String,
}

/// What an entry keeps of a command's arguments.
fn shortened(argv: &Argv) -> Vec<Vec<u8>> {
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

impl CommandLogs {
    /// Keeps a command of a client, with what it took.
    pub fn add(&self, kind: Kind, client: &Client, argv: &Argv, amount: i64) {
        let length_max = client.server.config.count(kind.length_setting());
        let (peer, name) = (client.info.link.peer.to_string(), client.info.names.lock().name.clone());
        let mut entries = self.0[kind as usize].lock();
        let id = entries.next_id;
        entries.next_id += 1;
        let arguments = shortened(argv);
        let entry = Entry { id, unix_s: unix_ms() / 1000, amount, arguments, peer, client: name };
        entries.newest_first.push_front(entry);
        entries.newest_first.truncate(length_max);
    }

    fn len(&self, kind: Kind) -> usize {
        self.0[kind as usize].lock().newest_first.len()
    }

    /// Forgets all but the newest.
    pub fn truncate(&self, kind: Kind, length_max: usize) {
        self.0[kind as usize].lock().newest_first.truncate(length_max);
    }

    fn get(&self, kind: Kind, count: usize) -> Reply {
        let entries = self.0[kind as usize].lock();
        let shown = entries.newest_first.iter().take(count).map(|entry| {
            let arguments = entry.arguments.iter().map(Reply::bulk).collect();
            Reply::Array(vec![
                Reply::Int(entry.id),
                Reply::Int(entry.unix_s as i64),
                Reply::Int(entry.amount),
                Reply::Array(arguments),
                Reply::bulk(&entry.peer),
                Reply::bulk(&entry.client),
            ])
        });
        Reply::Array(shown.collect())
    }

    fn answer(&self, kind: Kind, sub: &str, count: Option<&[u8]>, argv: &Argv) -> Served {
        match sub {
            "get" => {
                let count = match count.map(quoris_engine::number::integer) {
                    None => 10,
                    Some(Some(-1)) => usize::MAX,
                    Some(Some(n)) if n >= 0 => n as usize,
                    Some(_) => return Served::error("ERR count should be greater than or equal to -1"),
                };
                Served::Reply(self.get(kind, count))
            }
            "len" => Served::Reply(Reply::Int(self.len(kind) as i64)),
            "reset" => {
                self.truncate(kind, 0);
                Served::Reply(Reply::Ok)
            }
            _ => Served::unknown(argv),
        }
    }
}

/// SLOWLOG GET, LEN, RESET.
pub(crate) fn run(client: &Client, sub: &str, argv: &Argv) -> Served {
    client.server.command_logs.answer(Kind::Slow, sub, argv.get(2), argv)
}

/// COMMANDLOG GET, LEN, RESET: the kind stands last.
pub(crate) fn run_any(client: &Client, sub: &str, argv: &Argv) -> Served {
    match Kind::by_name(&word(argv, argv.len() - 1)) {
        Some(kind) => client.server.command_logs.answer(kind, sub, argv.get(2).filter(|_| sub == "get"), argv),
        None => Served::error("ERR type should be one of the following: slow, large-request, large-reply"),
    }
}
