//! Debian's redis-server and redis-check-rdb, which `./dev deps` installs: the judges of RDB files.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::client::Client;
use super::process::free_ports;

const START_TIME_MAX: Duration = Duration::from_secs(20);
/// Between two attempts to connect.
const KNOCK_PAUSE: Duration = Duration::from_millis(20);

/// A process that loads `dump.rdb` of a folder and saves there; killed when it is dropped.
pub struct Redis {
    process: Child,
    port: u16,
}

impl Redis {
    /// Starts it and waits until it has loaded the file.
    pub fn start(folder: &Path) -> Redis {
        let port = free_ports(1)[0];
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string(), "--dir"]).arg(folder);
        let process = command.stdout(Stdio::null()).spawn().expect("redis-server is installed");
        let redis = Redis { process, port };
        let deadline = Instant::now() + START_TIME_MAX;
        loop {
            let pong = Client::connect(port).map_err(|e| e.to_string());
            match pong.and_then(|mut client| client.text(&["PING"], START_TIME_MAX)) {
                Ok(_) => return redis,
                Err(why) => assert!(Instant::now() < deadline, "redis-server does not answer: {why}"),
            }
            std::thread::sleep(KNOCK_PAUSE);
        }
    }

    /// A connection.
    pub fn connect(&self) -> Client {
        Client::connect(self.port).expect("redis-server listens")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill().and_then(|()| self.process.wait());
    }
}

/// Fails unless redis-check-rdb finds the file whole.
pub fn check_rdb(path: &Path) {
    let output = Command::new("redis-check-rdb").arg(path).output().expect("redis-check-rdb is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("RDB looks OK") && text.contains("Checksum OK"), "{text}");
}
