//! Nodes of the real binary on free loopback ports, and connections that see every byte.
//!
//! Taken in with `mod support` by the black-box tests. Waiting is always for something, with a deadline.

#![allow(dead_code, reason = "each test that takes this in uses a part of it")]

pub mod cluster;
pub mod peer;
pub mod workload;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quoris_resp::{Argv, Reply, ReplyDecoder};
use rustix::process::{Pid, Signal, kill_process};

/// Nothing that these tests wait for takes longer.
pub const WITHIN: Duration = Duration::from_secs(20);

/// A port that nobody uses now.
pub fn free_port() -> u16 {
    // Below the range from which the system picks ports for outgoing connections, and with room for the
    // port of the peers above it.
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let start = std::process::id() % 9000;
    for _ in 0..9000 {
        let step = u32::from(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let port = 12_000 + ((start + step) % 9000) as u16;
        let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
    panic!("no free port");
}

/// Asks until the answer is yes.
pub fn until(what: &str, mut ask: impl FnMut() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !ask() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process of the program; killed when it is dropped.
pub struct Node {
    process: Child,
    pub port: u16,
    dir: Option<tempfile::TempDir>,
    arguments: Vec<String>,
}

impl Node {
    /// A single node with further settings, ready to serve.
    pub fn start(settings: &[&str]) -> Node {
        let dir = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let data = dir.path().join("data").to_string_lossy().into_owned();
        let arguments = with_settings(&["server", "--port", &port.to_string(), "--dir", &data], settings);
        Node::start_with(port, arguments, Some(dir))
    }

    /// The nodes of a cluster, ready to serve.
    pub fn cluster(count: usize, settings: &[&str]) -> Vec<Node> {
        let ports: Vec<u16> = (0..count).map(|_| free_port()).collect();
        let peers = peer_addresses(&ports);
        let launch = |port: u16| {
            let dir = tempfile::tempdir().expect("a folder");
            let data = dir.path().join("data").to_string_lossy().into_owned();
            let own = ["server", "--port", &port.to_string(), "--dir", &data, "--peers", &peers];
            let arguments = with_settings(&own, settings);
            Node { process: spawn(&arguments), port, dir: Some(dir), arguments }
        };
        let mut nodes: Vec<Node> = ports.into_iter().map(launch).collect();
        nodes.iter_mut().for_each(Node::wait_until_ready);
        nodes
    }

    /// A proxy for these nodes.
    pub fn proxy(nodes: &[Node], settings: &[&str]) -> Node {
        let port = free_port();
        let ports: Vec<u16> = nodes.iter().map(|node| node.port).collect();
        let own = ["proxy", "--port", &port.to_string(), "--nodes", &peer_addresses(&ports)];
        Node::start_with(port, with_settings(&own, settings), None)
    }

    /// A node from a configuration file.
    pub fn from_file(port: u16, path: &Path, settings: &[&str]) -> Node {
        Node::start_with(port, with_settings(&["server", "--config", &path.to_string_lossy()], settings), None)
    }

    /// A redis-server, as an oracle.
    pub fn redis(settings: &[&str]) -> Node {
        let (dir, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string(), "--dir"]).arg(dir.path());
        let process = command.args(settings).stdout(Stdio::null()).spawn().expect("redis-server is installed");
        let mut node = Node { process, port, dir: Some(dir), arguments: Vec::new() };
        node.wait_until_ready();
        node
    }

    fn start_with(port: u16, arguments: Vec<String>, dir: Option<tempfile::TempDir>) -> Node {
        let mut node = Node { process: spawn(&arguments), port, dir, arguments };
        node.wait_until_ready();
        node
    }

    fn wait_until_ready(&mut self) {
        let port = self.port;
        let process = &mut self.process;
        until("the node answers", || {
            if let Some(status) = process.try_wait().expect("our own child") {
                panic!("the node ended: {status}");
            }
            Connection::try_open(port).is_some_and(|mut c| c.call(&["PING"]) != Reply::Null)
        });
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.port)
    }

    pub fn data(&self) -> PathBuf {
        self.dir.as_ref().expect("a node with a folder of its own").path().join("data")
    }

    /// SIGKILL, then the same again.
    pub fn crash_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).expect("our own child");
    }

    /// SIGTERM; gives the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        self.stop()
    }

    /// SIGTERM; gives the exit code and keeps the folder.
    pub fn stop(&mut self) -> Option<i32> {
        signal(&self.process, Signal::TERM);
        self.exit_code()
    }

    /// Starts a stopped node again.
    pub fn restart(&mut self) {
        self.process = spawn(&self.arguments);
        self.wait_until_ready();
    }

    /// The same with settings that win over the former ones.
    pub fn restart_with(&mut self, settings: &[&str]) {
        self.arguments.extend(settings.iter().map(|s| s.to_string()));
        self.restart();
    }

    /// Starts a stopped node that is to end by itself; gives what it says on stderr.
    pub fn fail_to_start(&self) -> String {
        let output = program().args(&self.arguments).output().expect("the program starts");
        assert!(!output.status.success(), "the node serves");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Waits for the process to end by itself.
    pub fn exit_code(&mut self) -> Option<i32> {
        let mut status = None;
        until("the node ends", || {
            status = self.process.try_wait().expect("our own child");
            status.is_some()
        });
        status.and_then(|s| s.code())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill().and_then(|()| self.process.wait());
    }
}

/// The program, or another one that `QUORIS_BIN` names: a release build, say.
pub fn program() -> Command {
    let named = std::env::var_os("QUORIS_BIN");
    let mut command = Command::new(named.unwrap_or_else(|| env!("CARGO_BIN_EXE_quoris").into()));
    command.stdin(Stdio::null());
    command
}

fn with_settings(own: &[&str], settings: &[&str]) -> Vec<String> {
    own.iter().chain(settings).map(|word| word.to_string()).collect()
}

/// Where nodes with these ports listen for each other.
fn peer_addresses(ports: &[u16]) -> String {
    ports.iter().map(|port| format!("127.0.0.1:{}", port + 10_000)).collect::<Vec<_>>().join(" ")
}

fn spawn(arguments: &[String]) -> Child {
    program().args(arguments).stdout(Stdio::null()).spawn().expect("the program starts")
}

/// Sends a signal to a child of ours.
pub fn signal(process: &Child, signal: Signal) {
    kill_process(Pid::from_child(process), signal).expect("our own child");
}

/// A client that sends what it is told and reads what comes.
pub struct Connection {
    pub stream: TcpStream,
    buffer: BytesMut,
}

impl Connection {
    pub fn try_open(port: u16) -> Option<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(WITHIN)).and_then(|()| stream.set_nodelay(true)).expect("a socket");
        Some(Connection { stream, buffer: BytesMut::new() })
    }

    pub fn open(port: u16) -> Connection {
        Connection::try_open(port).expect("the node listens")
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the node reads");
    }

    /// Sends a command.
    pub fn send<T: AsRef<[u8]>>(&mut self, parts: &[T]) {
        self.raw(Argv::from_parts(parts).frame());
    }

    /// The next reply, or nothing when the connection ends.
    pub fn next(&mut self) -> Option<Reply> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(reply) = ReplyDecoder::decode(&mut self.buffer).expect("the node speaks RESP") {
                return Some(reply);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(len) => self.buffer.extend_from_slice(&chunk[..len]),
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("no reply: {e}"),
            }
        }
    }

    pub fn reply(&mut self) -> Reply {
        self.next().expect("a reply before the end")
    }

    /// Sends a command and gives its reply.
    pub fn call<T: AsRef<[u8]>>(&mut self, parts: &[T]) -> Reply {
        self.send(parts);
        self.reply()
    }

    /// The same, for a reply that is a text.
    pub fn text<T: AsRef<[u8]>>(&mut self, parts: &[T]) -> String {
        match self.call(parts) {
            Reply::Bulk(text) | Reply::Verbatim(_, text) | Reply::Status(text) => {
                String::from_utf8_lossy(&text).into_owned()
            }
            other => panic!("a text was expected, not {other:?}"),
        }
    }

    /// The same, for an error.
    pub fn error<T: AsRef<[u8]>>(&mut self, parts: &[T]) -> String {
        match self.call(parts) {
            Reply::Error(text) => String::from_utf8_lossy(&text).into_owned(),
            other => panic!("an error was expected, not {other:?}"),
        }
    }

    pub fn ok<T: AsRef<[u8]>>(&mut self, parts: &[T]) {
        assert_eq!(self.call(parts), Reply::Ok);
    }

    /// A field of INFO.
    pub fn info(&mut self, field: &str) -> String {
        let text = self.text(&["INFO", "everything"]);
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("INFO has no field {field}")).to_string()
    }

    /// Whether the connection ends without another reply.
    pub fn ends(&mut self) -> bool {
        self.next().is_none()
    }
}

pub fn bulk(text: &str) -> Reply {
    Reply::bulk(text)
}

pub fn bulks(texts: &[&str]) -> Reply {
    Reply::Array(texts.iter().map(Reply::bulk).collect())
}
