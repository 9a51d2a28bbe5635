//! INFO: the state of the node in sections of text, with the fields of Redis and a section of our own.

mod activity;
mod cluster;
mod memory;
mod process;

pub(crate) use process::cpu_seconds;

use quoris_raft::NodeStatus;
use quoris_resp::{Argv, Reply};

use super::{Served, memory::Allocated};
use crate::{client::Client, server::Server};

/// What several sections look at, taken once.
pub(crate) struct Snapshot<'a> {
    pub server: &'a Server,
    pub status: NodeStatus,
    pub allocated: Allocated,
}

impl<'a> Snapshot<'a> {
    pub fn new(server: &'a Server) -> Snapshot<'a> {
        Snapshot { server, status: server.node.status(), allocated: super::memory::allocated() }
    }
}

/// The lines of a section.
#[derive(Debug, Default)]
pub(crate) struct Lines(pub String);

impl Lines {
    /// Adds `name:value`.
    pub fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0 += &format!("{name}:{value}\r\n");
    }
}

struct Section {
    title: &'static str,
    /// Whether it is shown without being asked for.
    default: bool,
    /// Whether `all` shows it.
    all: bool,
    write: fn(&Snapshot<'_>, &mut Lines),
}

const SECTIONS: &[Section] = &[
    Section { title: "Server", default: true, all: true, write: process::server },
    Section { title: "Clients", default: true, all: true, write: activity::clients },
    Section { title: "Memory", default: true, all: true, write: memory::memory },
    Section { title: "Persistence", default: true, all: true, write: process::persistence },
    Section { title: "Stats", default: true, all: true, write: activity::stats },
    Section { title: "Replication", default: true, all: true, write: cluster::replication },
    Section { title: "CPU", default: true, all: true, write: process::cpu },
    Section { title: "Modules", default: true, all: false, write: |_, _| {} },
    Section { title: "Commandstats", default: false, all: true, write: activity::commands },
    Section { title: "Errorstats", default: true, all: true, write: activity::errors },
    Section { title: "Latencystats", default: false, all: true, write: activity::latencies },
    Section { title: "Cluster", default: true, all: true, write: cluster::cluster },
    Section { title: "Raft", default: true, all: true, write: cluster::raft },
    Section { title: "Keyspace", default: true, all: true, write: memory::keyspace },
];

/// The text of the sections that are asked for; no name asks for the default ones.
pub(crate) fn sections(snapshot: &Snapshot<'_>, names: &[String]) -> String {
    let asks = |name: &str| names.iter().any(|asked| asked == name);
    let mut text = String::new();
    for section in SECTIONS {
        let title = section.title.to_ascii_lowercase();
        let default = section.default && (names.is_empty() || asks("default"));
        let all = (section.all && asks("all")) || asks("everything");
        if !(default || all || asks(&title)) {
            continue;
        }
        if !text.is_empty() {
            text += "\r\n";
        }
        let mut lines = Lines::default();
        (section.write)(snapshot, &mut lines);
        text += &format!("# {}\r\n{}", section.title, lines.0);
    }
    text
}

pub(super) fn run(client: &Client, argv: &Argv) -> Served {
    let names: Vec<String> =
        argv.iter().skip(1).map(|name| String::from_utf8_lossy(name).to_ascii_lowercase()).collect();
    let text = sections(&Snapshot::new(&client.server), &names);
    Reply::Verbatim(*b"txt", text.into()).into()
}

/// Bytes as people read them.
pub(crate) fn human(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "K", "M", "G", "T"] {
        if size < 1024.0 {
            return if unit == "B" { format!("{bytes}B") } else { format!("{size:.2}{unit}") };
        }
        size /= 1024.0;
    }
    format!("{size:.2}P")
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn sizes_read_as_redis_prints_them() {
        assert_eq!(
            [human(0), human(1023), human(1024), human(940_928), human(25_276_510_208)],
            ["0B", "1023B", "1.00K", "918.88K", "23.54G"]
        );
    }
}
