//! Cables between the nodes of a cluster that can be cut: resets on both ends, and nobody can connect again.
//!
//! Every node is reached by its peers through a relay of its own; who calls is read from the greeting, in which a
//! node says where its clients reach it once the two ends have proven themselves.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;

use super::process::{Cluster, free_ports};

/// Between two looks for a caller.
const LOOK: Duration = Duration::from_millis(1);
/// A caller says who it is within so many bytes.
const GREETING_MAX: usize = 8192;

struct Wire {
    from: usize,
    to: usize,
    ends: [TcpStream; 2],
}

#[derive(Default)]
struct State {
    /// The node that nobody reaches and that reaches nobody.
    cut_off: Option<usize>,
    wires: Vec<Wire>,
}

/// All cables of a cluster.
#[derive(Clone)]
pub struct Cables(Arc<Mutex<State>>);

impl Cables {
    /// Puts a relay before each node of a cluster that is not launched yet.
    pub fn before(cluster: &mut Cluster) -> Cables {
        let cables = Cables(Arc::default());
        let clients: Arc<Vec<String>> =
            Arc::new(cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect());
        let taken: Vec<u16> = cluster.nodes.iter().flat_map(|node| [node.port, node.peer_port]).collect();
        let behind = free_ports(cluster.nodes.len() * 3).into_iter().filter(|port| !taken.contains(port));
        for ((at, node), behind) in cluster.nodes.iter_mut().enumerate().zip(behind) {
            node.peer_bind = Some(behind);
            let relay = Relay { cables: cables.clone(), clients: clients.clone(), to: at, behind };
            let port = node.peer_port;
            std::thread::spawn(move || relay.run(port));
        }
        cables
    }

    /// Resets every connection of a node with its peers; from now on they are refused.
    pub fn cut_off(&self, node: usize) {
        let mut state = self.0.lock().expect("no relay panics");
        state.cut_off = Some(node);
        let (cut, kept) = std::mem::take(&mut state.wires).into_iter().partition(|w| w.from == node || w.to == node);
        state.wires = kept;
        let cut: Vec<Wire> = cut;
        cut.iter().flat_map(|wire| &wire.ends).for_each(reset);
    }

    /// Connections are possible again.
    pub fn mend(&self) {
        self.0.lock().expect("no relay panics").cut_off = None;
    }

    fn is_cut_off(&self, node: usize) -> bool {
        self.0.lock().expect("no relay panics").cut_off == Some(node)
    }

    fn add(&self, wire: Wire) -> Option<()> {
        let mut state = self.0.lock().expect("no relay panics");
        if state.cut_off.is_some_and(|node| node == wire.from || node == wire.to) {
            wire.ends.iter().for_each(reset);
            return None;
        }
        state.wires.push(wire);
        Some(())
    }
}

/// Has it closed with a reset instead of an end, once those who wait for bytes of it have let go.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    let _ = stream.shutdown(Shutdown::Read);
}

struct Relay {
    cables: Cables,
    clients: Arc<Vec<String>>,
    to: usize,
    behind: u16,
}

impl Relay {
    /// Listens while its node is not cut off.
    fn run(self, port: u16) {
        loop {
            while self.cables.is_cut_off(self.to) {
                std::thread::sleep(LOOK);
            }
            let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port of a peer");
            listener.set_nonblocking(true).expect("a socket");
            while !self.cables.is_cut_off(self.to) {
                match listener.accept() {
                    Ok((caller, _)) => {
                        let (cables, clients) = (self.cables.clone(), self.clients.clone());
                        let (to, behind) = (self.to, self.behind);
                        std::thread::spawn(move || relay(&cables, &clients, caller, to, behind));
                    }
                    Err(_) => std::thread::sleep(LOOK),
                }
            }
        }
    }
}

/// One connection; whatever fails ends it.
fn relay(cables: &Cables, clients: &[String], caller: TcpStream, to: usize, behind: u16) -> Option<()> {
    caller.set_nonblocking(false).ok()?;
    caller.set_nodelay(true).ok()?;
    let mut callee = TcpStream::connect(("127.0.0.1", behind)).map_err(|_| reset(&caller)).ok()?;
    callee.set_nodelay(true).ok()?;
    let back = (callee.try_clone().ok()?, caller.try_clone().ok()?);
    std::thread::spawn(move || copy(back.0, back.1));
    if introduce(cables, clients, &caller, &mut callee, to).is_none() {
        [&caller, &callee].into_iter().for_each(reset);
        return None;
    }
    copy(caller, callee);
    Some(())
}

/// Passes on what the caller says until it has said who it is.
fn introduce(
    cables: &Cables,
    clients: &[String],
    mut caller: &TcpStream,
    callee: &mut TcpStream,
    to: usize,
) -> Option<()> {
    let (mut said, mut chunk) = (Vec::new(), [0; 4096]);
    let mut known = false;
    while !known {
        let len = caller.read(&mut chunk).ok().filter(|len| *len > 0 && said.len() < GREETING_MAX)?;
        said.extend_from_slice(&chunk[..len]);
        // What it says next may name others, too: itself it names first.
        let says = |client: &String| said.windows(client.len()).position(|bytes| bytes == client.as_bytes());
        let named = clients.iter().enumerate().filter_map(|(node, client)| Some((says(client)?, node)));
        if let Some((_, from)) = named.min() {
            cables.add(Wire { from, to, ends: [caller.try_clone().ok()?, callee.try_clone().ok()?] })?;
            known = true;
        }
        callee.write_all(&chunk[..len]).ok()?;
    }
    Some(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let ended = std::io::copy(&mut from, &mut to).is_ok();
    let is_reset = SockRef::from(&to).linger().is_ok_and(|linger| linger.is_some());
    if ended && !is_reset {
        let _ = to.shutdown(Shutdown::Write);
    }
}
