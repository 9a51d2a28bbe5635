//! Cables between nodes that can be cut without anybody being told: a relay before each node, which stops passing
//! on what one node says to another, in one direction or both.
//!
//! Nothing is reset: bytes wait, new connections hang, and both go on when the cable is mended, as with a switch
//! that lost its way for a while. Who calls is found from the kernel's tables: the process at the other end of the
//! connection. Invariant: what comes from anybody else is passed on.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Between two looks at a cable that is cut.
const LOOK: Duration = Duration::from_millis(5);
/// The column of `/proc/net/tcp` that holds the socket's number.
const INODE: usize = 9;

#[derive(Default)]
struct State {
    /// How many faults cut the cable from one node to another.
    cuts: Vec<Vec<u32>>,
    /// The process of each node, while it runs.
    processes: Vec<Option<u32>>,
}

/// All cables of a cluster.
#[derive(Clone, Default)]
pub struct Cables(Arc<Mutex<State>>);

impl Cables {
    /// Listens at the first port for each node, and passes everything on to the second.
    ///
    /// # Errors
    /// When a port is taken.
    pub fn lay(ports: &[(u16, u16)]) -> anyhow::Result<Cables> {
        let cables = Cables::default();
        let count = ports.len();
        *cables.state() = State { cuts: vec![vec![0; count]; count], processes: vec![None; count] };
        for (to, (public, behind)) in ports.iter().copied().enumerate() {
            let listener = TcpListener::bind(("127.0.0.1", public))?;
            let cables = cables.clone();
            std::thread::Builder::new().spawn(move || {
                for caller in listener.incoming().flatten() {
                    let cables = cables.clone();
                    std::thread::spawn(move || cables.relay(caller, to, public, behind));
                }
            })?;
        }
        Ok(cables)
    }

    /// The process of a node has started or ended.
    pub fn is_process(&self, node: usize, process: Option<u32>) {
        if let Some(known) = self.state().processes.get_mut(node) {
            *known = process;
        }
    }

    /// Cuts what these nodes say to all others, and with `both` what those say to them.
    pub fn cut(&self, nodes: &[usize], both: bool) {
        self.change(nodes, both, |cuts| *cuts += 1);
    }

    /// Takes the same cut back.
    pub fn mend(&self, nodes: &[usize], both: bool) {
        self.change(nodes, both, |cuts| *cuts -= 1);
    }

    fn change(&self, nodes: &[usize], both: bool, change: impl Fn(&mut u32)) {
        let mut state = self.state();
        for other in (0..state.cuts.len()).filter(|other| !nodes.contains(other)) {
            for node in nodes {
                change(&mut state.cuts[*node][other]);
                if both {
                    change(&mut state.cuts[other][*node]);
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, from: Option<usize>, to: Option<usize>) {
        let (Some(from), Some(to)) = (from, to) else { return };
        while self.state().cuts[from][to] > 0 {
            std::thread::sleep(LOOK);
        }
    }

    /// One connection, from its beginning to its end.
    fn relay(&self, caller: TcpStream, to: usize, public: u16, behind: u16) -> Option<()> {
        let from = self.caller(caller.peer_addr().ok()?.port(), public);
        // To connect takes a packet each way.
        self.wait(from, Some(to));
        self.wait(Some(to), from);
        let callee = TcpStream::connect(("127.0.0.1", behind)).ok()?;
        caller.set_nodelay(true).and_then(|()| callee.set_nodelay(true)).ok()?;
        let (heard, told) = (callee.try_clone().ok()?, caller.try_clone().ok()?);
        let cables = self.clone();
        std::thread::spawn(move || cables.pass(heard, told, Some(to), from));
        self.pass(caller, callee, from, Some(to))
    }

    fn pass(&self, mut heard: TcpStream, mut told: TcpStream, from: Option<usize>, to: Option<usize>) -> Option<()> {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let len = heard.read(&mut chunk).unwrap_or(0);
            self.wait(from, to);
            if len == 0 || told.write_all(&chunk[..len]).is_err() {
                let _ = heard.shutdown(Shutdown::Read);
                return told.shutdown(Shutdown::Write).ok();
            }
        }
    }

    /// The node whose process holds the socket with this port that is connected to the relay.
    fn caller(&self, port: u16, relay: u16) -> Option<usize> {
        let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let inode = table.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ends = |word: &str, port: u16| word.ends_with(&format!(":{port:04X}"));
            (words.len() > INODE && ends(words[1], port) && ends(words[2], relay)).then(|| words[INODE].to_string())
        })?;
        let socket = format!("socket:[{inode}]");
        let holds = |process: &Option<u32>| {
            let Some(files) = process.and_then(|id| std::fs::read_dir(format!("/proc/{id}/fd")).ok()) else {
                return false;
            };
            let mut links = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
            links.any(|link| link.as_os_str() == socket.as_str())
        };
        let processes = self.state().processes.clone();
        processes.iter().position(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_cable_says_nothing_until_it_is_mended() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let behind = listener.local_addr().unwrap().port();
        let public = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cables = Cables::lay(&[(public, behind), (0, 0)]).unwrap();
        // This process is the second node, which calls the first.
        cables.is_process(1, Some(std::process::id()));
        let mut caller = TcpStream::connect(("127.0.0.1", public)).unwrap();
        let (mut callee, _) = listener.accept().unwrap();
        let mut heard = [0; 2];
        caller.write_all(b"hi").unwrap();
        callee.read_exact(&mut heard).unwrap();
        cables.cut(&[1], false);
        caller.write_all(b"ho").unwrap();
        callee.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(callee.read_exact(&mut heard).is_err(), "cut");
        callee.write_all(b"ah").unwrap();
        caller.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"ah", "the other direction is whole");
        cables.mend(&[1], false);
        callee.set_read_timeout(None).unwrap();
        callee.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"ho", "late, and not lost");
    }
}
