//! How each side is started, found ready and stopped.
//!
//! Everything listens on loopback, keeps its files in a temporary directory and syncs every write
//! to disk before it is acknowledged. The command lines are part of the result: they are kept for
//! the report, with the port and the directory as placeholders.

use crate::control;
use crate::grpc;
use crate::process::{Ports, Server, TemporaryDirectory, wait_until};
use crate::rows::Setting;
use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// The two sides of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Quoris, or what stands in for it.
    Subject,
    Peer,
}

/// How to start everything. Templates know `{port}`, `{port+1}`, `{port+2}` and `{dir}`.
#[derive(Clone, Debug)]
pub struct Commands {
    pub subject_one: Vec<String>,
    pub subject_three: Vec<String>,
    /// `None` when the program is not installed.
    pub redis: Option<PathBuf>,
    pub etcd: Option<PathBuf>,
    pub parent: PathBuf,
}

/// What the templates of a side need to know.
struct Place<'a> {
    port: u16,
    directory: &'a Path,
}

/// A side that is up.
#[derive(Debug)]
pub struct Running {
    // The order matters: the servers go before their directory.
    servers: Vec<Server>,
    pub endpoints: Vec<SocketAddr>,
    is_subject: bool,
    _directory: TemporaryDirectory,
}

const REDIS: &str = "--bind 127.0.0.1 --dir {dir} --appendonly yes --appendfsync always --save EMPTY";

impl Commands {
    /// The command templates of a side, or `None` when the peer is not installed.
    pub fn templates(&self, side: Side, setting: Setting) -> Option<Vec<String>> {
        match (side, setting) {
            (Side::Subject, Setting::OneRedis) => Some(self.subject_one.clone()),
            (Side::Subject, Setting::ThreeRedis | Setting::ThreeEtcd) => Some(self.subject_three.clone()),
            (Side::Peer, Setting::OneRedis) => {
                let redis = self.redis.as_ref()?.display();
                Some(vec![format!("{redis} --port {{port}} {REDIS}")])
            }
            (Side::Peer, Setting::ThreeRedis) => Some(redis_with_replicas(self.redis.as_ref()?)),
            (Side::Peer, Setting::ThreeEtcd) => Some(etcd_members(self.etcd.as_ref()?)),
        }
    }

    /// Starts a side and waits until it takes writes.
    pub fn start(&self, side: Side, setting: Setting, ports: &mut Ports) -> Result<Running> {
        let templates = self.templates(side, setting).context("the peer is not installed")?;
        let directory = TemporaryDirectory::create(&self.parent)?;
        // etcd needs a second port per member, for its peers.
        let port = ports.take(6)?;
        let mut servers = Vec::with_capacity(templates.len());
        for (number, template) in templates.iter().enumerate() {
            let own = directory.path().join(format!("node{number}"));
            // A cluster that one command starts has the directory to itself.
            let place = Place { port, directory: if templates.len() > 1 { &own } else { directory.path() } };
            std::fs::create_dir(&own)?;
            servers.push(Server::start(&format!("node{number}"), &place.argv(template)?, &own)?);
        }
        let endpoints: Vec<SocketAddr> =
            (0..setting.nodes() as u16).map(|number| SocketAddr::from(([127, 0, 0, 1], port + number))).collect();
        let is_subject = side == Side::Subject;
        let mut running = Running { servers, endpoints, is_subject, _directory: directory };
        running.wait_until_ready(side, setting)?;
        Ok(running)
    }
}

fn redis_with_replicas(redis: &Path) -> Vec<String> {
    let redis = redis.display();
    // The delay only shortens the start: by default a primary waits 5 s for further replicas.
    let primary = format!("{redis} --port {{port}} {REDIS} --repl-diskless-sync-delay 0");
    let replica = |port: &str| format!("{redis} --port {port} {REDIS} --replicaof 127.0.0.1 {{port}}");
    vec![primary, replica("{port+1}"), replica("{port+2}")]
}

fn etcd_members(etcd: &Path) -> Vec<String> {
    let etcd = etcd.display();
    let url = |offset: u16| match offset {
        0 => "http://127.0.0.1:{port}".to_owned(),
        _ => format!("http://127.0.0.1:{{port+{offset}}}"),
    };
    let cluster: Vec<String> = (0..3).map(|node| format!("m{node}={}", url(node + 3))).collect();
    let member = |node: u16| {
        let (client, peer) = (url(node), url(node + 3));
        format!(
            "{etcd} --name m{node} --data-dir {{dir}}/data --listen-client-urls {client} \
             --advertise-client-urls {client} --listen-peer-urls {peer} \
             --initial-advertise-peer-urls {peer} --initial-cluster {} \
             --initial-cluster-state new --logger zap --log-level error",
            cluster.join(",")
        )
    };
    (0..3).map(member).collect()
}

impl Place<'_> {
    /// Fills a template and splits it at blanks; `EMPTY` is an empty argument.
    fn argv(&self, template: &str) -> Result<Vec<String>> {
        let directory = self.directory.to_str().context("a directory name that is not UTF-8")?;
        let mut argv = Vec::new();
        for word in template.split_ascii_whitespace() {
            let mut word = word.replace("{dir}", directory).replace("{port}", &self.port.to_string());
            for offset in 1..6 {
                let port = (self.port + offset).to_string();
                word = word.replace(&format!("{{port+{offset}}}"), &port);
            }
            argv.push(if word == "EMPTY" { String::new() } else { word });
        }
        ensure!(!argv.is_empty(), "an empty command");
        Ok(argv)
    }
}

impl Running {
    fn wait_until_ready(&mut self, side: Side, setting: Setting) -> Result<()> {
        let endpoints = &self.endpoints;
        let what = match side {
            Side::Subject => setting.subject(),
            Side::Peer => setting.peer(),
        };
        wait_until(what, READY_TIMEOUT, &mut self.servers, || match (side, setting) {
            (Side::Subject, _) | (Side::Peer, Setting::OneRedis) => {
                for &endpoint in endpoints {
                    if !control::takes_writes(endpoint)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Side::Peer, Setting::ThreeRedis) => {
                let text = control::info(endpoints[0], "replication")?;
                Ok(text.matches("state=online").count() == 2 && control::takes_writes(endpoints[0])?)
            }
            (Side::Peer, Setting::ThreeEtcd) => grpc::takes_writes(endpoints),
        })
    }

    /// The processes that were started; their descendants belong to them.
    pub fn roots(&self) -> Vec<u32> {
        self.servers.iter().map(Server::id).collect()
    }

    /// What the servers wrote last, for an error message; empty while all is well.
    pub fn log_tails(&self) -> String {
        self.servers.iter().map(Server::log_tail).collect()
    }

    /// Stops the side. Quoris is asked by SIGINT and must end in time; the peers' data is thrown
    /// away, so they are killed.
    pub fn stop(mut self) -> Result<()> {
        if !self.is_subject {
            return Ok(());
        }
        std::mem::take(&mut self.servers).into_iter().try_for_each(Server::interrupt)
    }
}

/// The file that would be run for `program`, if there is one.
pub fn find_program(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| path.is_file());
    }
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|path| path.join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_and_split() {
        let place = Place { port: 7001, directory: Path::new("/tmp/x") };
        let argv = place.argv("run --port {port} --next {port+1} --dir {dir}/a --save EMPTY");
        let expected = ["run", "--port", "7001", "--next", "7002", "--dir", "/tmp/x/a", "--save", ""];
        assert_eq!(argv.expect("a template"), expected);
        assert!(place.argv(" ").is_err());
    }

    #[test]
    fn a_missing_peer_has_no_templates() {
        let commands = Commands {
            subject_one: vec!["quoris".to_owned()],
            subject_three: vec!["quoris".to_owned()],
            redis: None,
            etcd: Some(PathBuf::from("etcd")),
            parent: PathBuf::new(),
        };
        assert_eq!(commands.templates(Side::Peer, Setting::OneRedis), None);
        assert_eq!(commands.templates(Side::Peer, Setting::ThreeRedis), None);
        assert_eq!(commands.templates(Side::Peer, Setting::ThreeEtcd).expect("three").len(), 3);
    }

    #[test]
    fn every_etcd_member_knows_all_three() {
        for template in etcd_members(Path::new("etcd")) {
            assert!(template.contains("m0=http://127.0.0.1:{port+3},m1=http://127.0.0.1:{port+4},m2="));
        }
    }

    #[test]
    fn programs_are_found_in_the_path() {
        assert!(find_program("sh").is_some());
        assert!(find_program("no-such-program-anywhere").is_none());
        assert!(find_program("/no/such/file").is_none());
    }
}
