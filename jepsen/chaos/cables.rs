//! Cables between nodes that can be cut without anybody being told: a relay before each node, which stops passing
//! on what one node says to another, in one direction or both, or passes it on late.
//!
//! Nothing is reset then: bytes wait, new connections hang, and both go on when the cable is mended, as with a switch
//! that lost its way for a while. A node that is refused is cut off loudly: connections from and to it end, and new
//! ones find nobody, as behind a firewall that says so.
//!
//! A relay listens only while its node runs, so a dead node refuses connections as it would without one. Who calls is
//! found from the kernel's tables, in one look at all connections when a fault begins: a look for each connection
//! takes longer than nodes wait for one, once many have failed. Invariant: what comes from anybody else is passed on.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use socket2::SockRef;

mod callers;
mod weather;

use crate::work::Dice;
use callers::{owners, sockets};
pub use weather::Weather;
use weather::late_ms;

/// Between two looks at a cable that is cut.
const LOOK: Duration = Duration::from_millis(5);

/// A connection through a relay.
struct Link {
    /// The ports of its first half: the caller's, and the relay's.
    ports: (u16, u16),
    to: usize,
    /// The node that calls, once somebody looked; nothing for others.
    from: OnceLock<Option<usize>>,
    /// Both halves, once there are two.
    halves: OnceLock<[TcpStream; 2]>,
}

impl Link {
    fn end(&self) {
        for half in self.halves.get().into_iter().flatten() {
            let _ = half.shutdown(Shutdown::Both);
        }
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

#[derive(Default)]
struct State {
    /// How many faults cut the cable from one node to another.
    cuts: Vec<Vec<u32>>,
    /// How many faults of each kind make everything to and from a node late.
    weather: Vec<[u32; 3]>,
    /// How many faults make nobody connect to or from a node.
    refused: Vec<u32>,
    /// The process of each node, while it runs.
    processes: Vec<Option<u32>>,
    links: Vec<Weak<Link>>,
}

impl State {
    /// Some cable is not as it should be.
    fn is_faulty(&self) -> bool {
        self.weather.iter().flatten().chain(&self.refused).chain(self.cuts.iter().flatten()).any(|count| *count > 0)
    }

    /// Whether others can connect to a node.
    fn is_open(&self, node: usize) -> bool {
        self.processes[node].is_some() && self.refused[node] == 0
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// A process has started.
    started: Condvar,
    /// The public port of each node.
    public: Vec<u16>,
}

/// All cables of a cluster.
#[derive(Clone, Default)]
pub struct Cables(Arc<Shared>);

impl Cables {
    /// Listens at the first port for each node while it runs, and passes everything on to the second.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn lay(ports: &[(u16, u16)]) -> anyhow::Result<Cables> {
        let count = ports.len();
        let (cuts, weather, refused) = (vec![vec![0; count]; count], vec![[0; 3]; count], vec![0; count]);
        let state = State { cuts, weather, refused, processes: vec![None; count], links: Vec::new() };
        let public = ports.iter().map(|(public, _)| *public).collect();
        let cables = Cables(Arc::new(Shared { state: Mutex::new(state), started: Condvar::new(), public }));
        for (to, (public, behind)) in ports.iter().copied().enumerate() {
            let cables = cables.clone();
            std::thread::Builder::new().spawn(move || {
                loop {
                    cables.listen(to, public, behind);
                }
            })?;
        }
        Ok(cables)
    }

    /// The process of a node has started or ended.
    pub fn is_process(&self, node: usize, process: Option<u32>) {
        if node < self.0.public.len() {
            self.state().processes[node] = process;
            self.open_or_close(node);
        }
    }

    /// Whether a node can be connected to has changed.
    fn open_or_close(&self, node: usize) {
        self.0.started.notify_all();
        if !self.state().is_open(node) {
            // The one who listens has to see it.
            let _ = TcpStream::connect(("127.0.0.1", self.0.public[node]));
        }
    }

    /// Cuts what the first of each pair says to the second.
    pub fn cut(&self, pairs: &[(usize, usize)]) {
        pairs.iter().for_each(|(from, to)| self.state().cuts[*from][*to] += 1);
        self.look();
    }

    /// Takes the same cut back.
    pub fn mend(&self, pairs: &[(usize, usize)]) {
        pairs.iter().for_each(|(from, to)| self.state().cuts[*from][*to] -= 1);
    }

    /// Ends all connections of these nodes with others, and refuses new ones.
    pub fn refuse(&self, nodes: &[usize]) {
        nodes.iter().for_each(|node| self.state().refused[*node] += 1);
        nodes.iter().for_each(|node| self.open_or_close(*node));
        self.look();
        let links: Vec<Arc<Link>> = self.state().links.iter().filter_map(Weak::upgrade).collect();
        links.iter().filter(|link| self.is_refused(link)).for_each(|link| link.end());
    }

    /// Ends that.
    pub fn admit(&self, nodes: &[usize]) {
        nodes.iter().for_each(|node| self.state().refused[*node] -= 1);
        nodes.iter().for_each(|node| self.open_or_close(*node));
    }

    /// Whether one of its ends is refused, as far as is known who calls.
    fn is_refused(&self, link: &Link) -> bool {
        let state = self.state();
        let from = link.from.get().copied().flatten();
        from.is_some_and(|from| from != link.to && state.refused[from] + state.refused[link.to] > 0)
    }

    /// Makes everything late that these nodes hear and say.
    pub fn blow(&self, nodes: &[usize], weather: Weather) {
        nodes.iter().for_each(|node| self.state().weather[*node][weather as usize] += 1);
        self.look();
    }

    /// Ends that.
    pub fn calm(&self, nodes: &[usize], weather: Weather) {
        nodes.iter().for_each(|node| self.state().weather[*node][weather as usize] -= 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out who calls on each connection of which that is not known yet.
    fn look(&self) {
        let (links, processes) = {
            let mut state = self.state();
            state.links.retain(|link| link.strong_count() > 0);
            let links: Vec<Arc<Link>> = state.links.iter().filter_map(Weak::upgrade).collect();
            (links, state.processes.clone())
        };
        let links: Vec<Arc<Link>> = links.into_iter().filter(|link| link.from.get().is_none()).collect();
        if links.is_empty() {
            return;
        }
        let (sockets, owners) = (sockets(), owners(&processes));
        for link in links {
            let owner = sockets.get(&link.ports).and_then(|socket| owners.get(socket));
            link.from.get_or_init(|| owner.copied());
        }
    }

    /// Serves one life of a node.
    fn listen(&self, to: usize, public: u16, behind: u16) {
        drop(self.0.started.wait_while(self.state(), |state| !state.is_open(to)));
        let Ok(listener) = TcpListener::bind(("127.0.0.1", public)) else {
            std::thread::sleep(LOOK);
            return;
        };
        for caller in listener.incoming().flatten() {
            if !self.state().is_open(to) {
                return reset(&caller);
            }
            let cables = self.clone();
            std::thread::spawn(move || cables.relay(caller, to, public, behind));
        }
    }

    /// One connection, from its beginning to its end.
    fn relay(&self, caller: TcpStream, to: usize, public: u16, behind: u16) -> Option<()> {
        let ports = (caller.peer_addr().ok()?.port(), public);
        let link = Arc::new(Link { ports, to, from: OnceLock::new(), halves: OnceLock::new() });
        self.state().links.push(Arc::downgrade(&link));
        // To connect takes a packet each way.
        let mut dice = Dice::new(u64::from(link.ports.0));
        self.wait(&link, Way::There, 0, &mut dice);
        self.wait(&link, Way::Back, 0, &mut dice);
        let callee = if self.is_refused(&link) { None } else { TcpStream::connect(("127.0.0.1", behind)).ok() };
        let Some(callee) = callee else {
            reset(&caller);
            return None;
        };
        caller.set_nodelay(true).and_then(|()| callee.set_nodelay(true)).ok()?;
        let _ = link.halves.set([caller.try_clone().ok()?, callee.try_clone().ok()?]);
        if self.is_refused(&link) {
            link.end();
        }
        let (heard, told) = (callee.try_clone().ok()?, caller.try_clone().ok()?);
        let (cables, back) = (self.clone(), link.clone());
        std::thread::spawn(move || cables.pass(heard, told, &back, Way::Back));
        self.pass(caller, callee, &link, Way::There)
    }

    fn pass(&self, mut heard: TcpStream, mut told: TcpStream, link: &Link, way: Way) -> Option<()> {
        let mut chunk = vec![0; 64 * 1024];
        let mut dice = Dice::new(u64::from(link.ports.0) ^ 1);
        loop {
            let len = heard.read(&mut chunk).unwrap_or(0);
            self.wait(link, way, len, &mut dice);
            if len == 0 || told.write_all(&chunk[..len]).is_err() {
                let _ = heard.shutdown(Shutdown::Read);
                return told.shutdown(Shutdown::Write).ok();
            }
        }
    }

    /// Returns when a piece of this length that goes this way may pass.
    fn wait(&self, link: &Link, way: Way, len: usize, dice: &mut Dice) {
        if !self.state().is_faulty() {
            return;
        }
        if link.from.get().is_none() {
            self.look();
        }
        let Some(from) = link.from.get().copied().flatten() else { return };
        let (from, to) = if way == Way::There { (from, link.to) } else { (link.to, from) };
        let kinds = {
            let state = self.state();
            [0, 1, 2].map(|kind| state.weather[from][kind] + state.weather[to][kind] > 0)
        };
        std::thread::sleep(Duration::from_millis(late_ms(kinds, len, dice)));
        while self.state().cuts[from][to] > 0 {
            std::thread::sleep(LOOK);
        }
    }
}

/// Ends a connection as somebody who is not there does; nothing of it stays in the kernel.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    /// Once the relay listens.
    fn connect(port: u16) -> TcpStream {
        for _ in 0..1000 {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                return stream;
            }
            std::thread::sleep(LOOK);
        }
        panic!("nobody listens");
    }

    #[test]
    fn a_cut_cable_says_nothing_until_it_is_mended() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let behind = listener.local_addr().unwrap().port();
        let public = free_port();
        let cables = Cables::lay(&[(public, behind), (free_port(), 0)]).unwrap();
        // This process is the second node, which calls the first.
        cables.is_process(0, Some(0));
        cables.is_process(1, Some(std::process::id()));
        let mut caller = connect(public);
        let (mut callee, _) = listener.accept().unwrap();
        let mut heard = [0; 2];
        caller.write_all(b"hi").unwrap();
        callee.read_exact(&mut heard).unwrap();
        cables.cut(&[(1, 0)]);
        caller.write_all(b"ho").unwrap();
        callee.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(callee.read_exact(&mut heard).is_err(), "cut");
        callee.write_all(b"ah").unwrap();
        caller.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"ah", "the other direction is whole");
        cables.mend(&[(1, 0)]);
        callee.set_read_timeout(None).unwrap();
        callee.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"ho", "late, and not lost");
    }

    #[test]
    fn a_refused_node_loses_its_connections_and_gets_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (public, behind) = (free_port(), listener.local_addr().unwrap().port());
        let cables = Cables::lay(&[(public, behind), (free_port(), 0)]).unwrap();
        cables.is_process(0, Some(0));
        cables.is_process(1, Some(std::process::id()));
        for refused in [0, 1] {
            let mut caller = connect(public);
            let (mut callee, _) = listener.accept().unwrap();
            caller.write_all(b"a").unwrap();
            callee.read_exact(&mut [0]).unwrap();
            cables.refuse(&[refused]);
            assert_eq!(caller.read(&mut [0]).unwrap_or(0), 0, "it has ended");
            // The second node is let in by a relay that does not know it yet.
            let end = |mut stream: TcpStream| stream.read(&mut [0]).unwrap_or(0) == 0;
            assert!(TcpStream::connect(("127.0.0.1", public)).is_ok_and(end) || refused == 0);
            cables.admit(&[refused]);
        }
    }

    #[test]
    fn a_dead_node_refuses_and_a_new_one_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let public = free_port();
        let cables = Cables::lay(&[(public, listener.local_addr().unwrap().port())]).unwrap();
        assert!(TcpStream::connect(("127.0.0.1", public)).is_err());
        for _ in 0..3 {
            cables.is_process(0, Some(0));
            drop(connect(public));
            cables.is_process(0, None);
            let refused = || TcpStream::connect(("127.0.0.1", public)).is_err();
            assert!((0..1000).any(|_| refused() || {
                std::thread::sleep(LOOK);
                false
            }));
        }
    }
}
