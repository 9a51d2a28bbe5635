//! Three nodes as `quoris cluster start` runs them.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use rustix::process::Signal;

use super::{Connection, free_port, program, signal, until};

/// A local cluster; stopped when it is dropped.
pub struct Cluster {
    process: Child,
    pub port: u16,
    pub dir: tempfile::TempDir,
}

impl Cluster {
    pub fn start(options: &[&str]) -> Cluster {
        let dir = tempfile::tempdir().expect("a folder");
        // Three ports side by side.
        let port = (0..1000).map(|_| free_port()).find(|port| {
            let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
            (1..3).all(|step| free(port + step) && free(port + step + 10_000))
        });
        let port = port.expect("three free ports");
        let mut command = program();
        command.args(["cluster", "start", "--nodes", "3", "--port", &port.to_string(), "--dir"]).arg(dir.path());
        let mut process = command.args(options).stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let text: String = lines.by_ref().map_while(|line| line.ok().filter(|l| !l.starts_with("Press"))).collect();
        assert!(text.contains("node  clients"), "{text}");
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.count());
        Cluster { process, port, dir }
    }

    pub fn connect(&self, node: u16) -> Connection {
        Connection::open(self.port + node - 1)
    }

    /// The node that leads group 1, from 1 on.
    pub fn leader(&self) -> u16 {
        let mut leader = 0;
        until("group 1 has a leader that says so", || {
            let says = |node: u16| {
                let mut c = Connection::try_open(self.port + node - 1)?;
                let text = c.text(&["INFO", "raft"]);
                let line = text.lines().find_map(|line| line.strip_prefix("group1:"))?.to_string();
                line.contains("role=leader,").then_some(node)
            };
            leader = (1..=3).find_map(says).unwrap_or(0);
            leader != 0
        });
        leader
    }

    pub fn stop(mut self) {
        signal(&self.process, Signal::INT);
        until("the cluster stops", || self.process.try_wait().expect("our own child").is_some());
        let stopped = |node: u16| Connection::try_open(self.port + node - 1).is_none();
        assert!((1..=3).all(stopped), "no node is left behind");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SIGTERM, so that it takes its nodes with it.
        if matches!(self.process.try_wait(), Ok(None)) {
            signal(&self.process, Signal::TERM);
            let _ = self.process.wait();
        }
    }
}
