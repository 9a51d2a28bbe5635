//! Targets of scripts that are other processes: any server over TCP, and a redis-server of our own.

use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use bytes::BytesMut;
use quoris_resp::{Argv, Reply, ReplyDecoder};

use super::{Case, Target, version_of};

/// A server at the other end of a TCP connection: redis-server, a node, the proxy.
pub struct Connection {
    address: String,
    version: Option<(u32, u32)>,
    stream: TcpStream,
    buffer: BytesMut,
}

/// No reply takes longer.
const REPLY_WITHIN: Duration = Duration::from_secs(10);

impl Connection {
    /// Connects. `redis` is the version when the server is Redis's own, so that cases of newer versions
    /// and our deviations are left out.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(address: &str, redis: Option<(u32, u32)>) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(REPLY_WITHIN))?;
        stream.set_nodelay(true)?;
        Ok(Connection { address: address.to_string(), version: redis, stream, buffer: BytesMut::new() })
    }

    /// The next thing that the server says: a reply, or a message to a subscriber.
    ///
    /// # Panics
    /// When nothing comes, or something that is no RESP.
    pub fn next_reply(&mut self) -> Reply {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(reply) = ReplyDecoder::decode(&mut self.buffer).expect("the server speaks RESP") {
                return reply;
            }
            let len = self.stream.read(&mut chunk).unwrap_or_else(|e| panic!("no reply of {}: {e}", self.address));
            assert!(len > 0, "the server closed the connection");
            self.buffer.extend_from_slice(&chunk[..len]);
        }
    }
}

impl Target for Connection {
    fn reset(&mut self, case: &Case) {
        *self = Connection::open(&self.address, self.version).expect("the server was there before");
        if case.resp3 {
            self.call(&Argv::from_parts(&["HELLO", "3"]));
        }
        // A redis-server before 7.0 has no functions.
        self.call(&Argv::from_parts(&["FUNCTION", "FLUSH"]));
        assert_eq!(self.call(&Argv::from_parts(&["FLUSHALL"])), Reply::Ok, "FLUSHALL before {}", case.name);
    }

    fn call(&mut self, argv: &Argv) -> Reply {
        self.stream.write_all(argv.frame()).expect("the server is there");
        self.next_reply()
    }

    fn wait(&mut self, ms: u64) {
        // Another process's clock cannot be moved, only awaited; and it may run by a hundredth slower, towards wall time.
        std::thread::sleep(Duration::from_millis(ms + ms / 50 + 1));
    }

    fn takes(&self, case: &Case) -> bool {
        self.version.is_none_or(|version| !case.ours && case.redis.is_none_or(|needed| needed <= version))
    }
}
/// A redis-server of its own on a free port, stopped at the end.
pub struct RedisServer {
    process: Child,
    /// Where it listens.
    pub address: String,
    /// Its version.
    pub version: (u32, u32),
}

impl RedisServer {
    /// Nothing when there is no redis-server on this machine.
    pub fn start() -> Option<RedisServer> {
        RedisServer::start_in(&std::env::temp_dir())
    }

    /// The same, with the keys of a file `dump.rdb` in the folder if there is one.
    pub fn start_in(folder: &Path) -> Option<RedisServer> {
        let version = Process::new("redis-server").arg("--version").output().ok()?;
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let version = version_of(version.split("v=").nth(1)?.split(' ').next()?);
        let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let mut process = Process::new("redis-server");
        process.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        process.args(["--enable-debug-command", "yes"]).current_dir(folder).stdout(Stdio::null());
        let server = RedisServer { process: process.spawn().ok()?, address: format!("127.0.0.1:{port}"), version };
        for _ in 0..500 {
            match Connection::open(&server.address, None) {
                Ok(_) => return Some(server),
                // It takes a moment until it listens; there is nothing else to wait for.
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        panic!("redis-server does not listen");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).expect("our own child");
    }
}
