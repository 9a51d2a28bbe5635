//! Child processes: started in a group of their own, stopped without leftovers.
//!
//! Invariants:
//! * only processes that were started here are ever signalled, by their group, which the kernel
//!   keeps for them as long as the child has not been waited for;
//! * a handle that is dropped has killed and waited for its child;
//! * nothing waits without a deadline.

use crate::interrupt;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const POLL_EVERY: Duration = Duration::from_millis(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Ports below the range that the kernel hands out to clients, so that the load's own
/// connections cannot take one between the check and the server's bind.
const PORTS: std::ops::Range<u16> = 20_000..22_000;
/// Where a server may open a second port for its peers (Redis Cluster's convention).
const PEER_PORT_OFFSET: u16 = 10_000;

/// A running child.
#[derive(Debug)]
pub struct Server {
    child: Child,
    name: String,
    log: PathBuf,
    ended: bool,
}

impl Server {
    /// Starts `argv` with its output in `directory/name.log`.
    pub fn start(name: &str, argv: &[String], directory: &Path) -> Result<Server> {
        let [program, arguments @ ..] = argv else { bail!("an empty command for {name}") };
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", argv.join(" ")))?;
        Ok(Server { child, name: name.to_owned(), log, ended: false })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// An error with the end of its log if the child has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            self.ended = true;
            bail!("{} ended with {status}{}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// The last lines that the child wrote, for an error message.
    pub fn log_tail(&self) -> String {
        const LINES: usize = 8;
        let log = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LINES)..];
        tail.iter().map(|line| format!("\n  {}: {line}", self.name)).collect()
    }

    /// Asks the child to end by SIGINT and waits; kills its group if it does not.
    pub fn interrupt(mut self) -> Result<()> {
        self.check_alive()?;
        kill_process(self.pid(), Signal::INT)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                self.ended = true;
                return Ok(());
            }
            std::thread::sleep(POLL_EVERY);
        }
        bail!("{} did not end within {STOP_TIMEOUT:?} of SIGINT and was killed", self.name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.ended {
            // A failure means that the group is gone already, which is what is wanted.
            kill_process_group(self.pid(), Signal::KILL).ok();
            self.child.wait().ok();
        }
    }
}

/// Polls until `ready` says so, a server ends, or the deadline passes.
pub fn wait_until(
    what: &str,
    timeout: Duration,
    servers: &mut [Server],
    mut ready: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        interrupt::check()?;
        for server in servers.iter_mut() {
            server.check_alive()?;
        }
        let last = ready();
        if matches!(last, Ok(true)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let tails: String = servers.iter().map(Server::log_tail).collect();
            let error = last.err().map(|error| format!(" (last: {error:#})")).unwrap_or_default();
            bail!("{what} was not ready within {timeout:?}{error}{tails}");
        }
        std::thread::sleep(POLL_EVERY);
    }
}

/// A directory of its own that is removed when the handle is dropped.
#[derive(Debug)]
pub struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    pub fn create(parent: &Path) -> Result<TemporaryDirectory> {
        for number in 0..1000 {
            let path = parent.join(format!("quoris-bench-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(TemporaryDirectory(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            }
        }
        bail!("no free directory name in {}", parent.display())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // Left-over files in a temporary directory are no reason to fail a finished run.
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Hands out ports that are free on loopback, each only once.
#[derive(Debug)]
pub struct Ports(u16);

impl Ports {
    pub fn new() -> Ports {
        Ports(PORTS.start + (std::process::id() % 1000) as u16)
    }

    /// The first of `count` neighbouring ports, all free, their peer ports as well.
    pub fn take(&mut self, count: u16) -> Result<u16> {
        for _ in 0..PORTS.len() {
            let base = self.0;
            let next = base + count;
            self.0 = if next + count < PORTS.end { next } else { PORTS.start };
            if (base..next).all(|port| is_free(port) && is_free(port + PEER_PORT_OFFSET)) {
                return Ok(base);
            }
        }
        bail!("no {count} neighbouring free ports in {PORTS:?}")
    }
}

fn is_free(port: u16) -> bool {
    std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_server_is_gone_with_its_children() {
        let directory = TemporaryDirectory::create(&std::env::temp_dir()).expect("a directory");
        let argv = ["sh", "-c", "echo started; sleep 1000 & sleep 1000; echo"].map(String::from);
        let mut server = Server::start("sh", &argv, directory.path()).expect("starts");
        let root = server.id();
        wait_until("sh", Duration::from_secs(10), std::slice::from_mut(&mut server), || Ok(group_of(root).len() == 3))
            .expect("the shell and its two children");
        assert!(server.log_tail().contains("started"));
        drop(server);
        wait_until("the end", Duration::from_secs(10), &mut [], || Ok(group_of(root).is_empty()))
            .expect("nothing is left");
    }

    #[test]
    fn a_server_that_ends_early_is_an_error_with_its_log() {
        let directory = TemporaryDirectory::create(&std::env::temp_dir()).expect("a directory");
        let argv = ["sh", "-c", "echo no such option; exit 3"].map(String::from);
        let mut servers = [Server::start("sh", &argv, directory.path()).expect("starts")];
        let error = wait_until("sh", Duration::from_secs(10), &mut servers, || Ok(false)).expect_err("ended");
        assert!(error.to_string().contains("no such option"), "{error}");
    }

    #[test]
    fn ports_are_handed_out_once() {
        let mut ports = Ports::new();
        let (first, second) = (ports.take(3).expect("free"), ports.take(3).expect("free"));
        assert!(first.abs_diff(second) >= 3);
    }

    /// The running processes of a process group.
    fn group_of(group: u32) -> Vec<u32> {
        let ids = fs::read_dir("/proc")
            .expect("proc")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let belongs = |id: &u32| {
            let text = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_ascii_whitespace().collect();
            fields.first() != Some(&"Z") && fields.get(2) == Some(&group.to_string().as_str())
        };
        ids.filter(belongs).collect()
    }
}
