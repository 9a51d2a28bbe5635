//! Connections to peers: a few per peer, shared by all groups.
//!
//! A lane is one connection: entries, control (heartbeats, votes), commands that wait and snapshots do
//! not wait for each other. Forwarded commands have one for each thread that serves clients
//! ([`crate::forwarder`]). Requests are pipelined; a reply finds its request by id. A lane connects
//! when it is first needed and again after it broke, not more often than every [`RETRY_AFTER`].
//!
//! A peer whose power failed says nothing to its connections, neither then nor when it is back. Who waits
//! for a reply on one, and has nothing more to send, would wait for ever. So when one lane finds the peer
//! in another process than before, the lanes that led to the earlier one end.
//!
//! Invariants: queues are bounded, so a slow peer pushes back on its own senders only; when a connection
//! ends every open request of it ends with an error; frames leave in the order in which they were sent;
//! the open connections to a peer all lead to the same process.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::handshake::{Greeter, Side, shake_hands};
use crate::seam::{Clock, Net, Stream};
use crate::types::{Addresses, NodeId};
use crate::wire::{Frame, Hello, Kind, read_frame};
use crate::write::write_frames;

/// Frames that wait for one connection's writer.
const QUEUE_FRAMES_MAX: usize = 1024;
/// A peer that refused a connection is left alone for this long.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// A connection that is not there by then counts as refused.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Traffic that must not wait for other traffic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// Entries.
    Append,
    /// Heartbeats, votes, questions.
    Control,
    /// Commands that wait at a leader elsewhere.
    Wait,
    /// Snapshots.
    Snapshot,
    /// Events, and who listens to them.
    Events,
}

enum Waiter {
    Once(oneshot::Sender<io::Result<Bytes>>),
    Stream(mpsc::UnboundedSender<Bytes>),
}

/// One connection.
pub struct Connection {
    queue: mpsc::Sender<Frame>,
    waiters: Arc<Mutex<Option<BTreeMap<u64, Waiter>>>>,
    next_id: AtomicU64,
    end: Arc<Notify>,
    /// What the peer said of itself.
    pub peer: Hello,
}

impl Connection {
    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// When the connection ends, or with the peer's text when it refused.
    pub async fn call(&self, kind: Kind, body: Vec<Bytes>) -> io::Result<Bytes> {
        let (tx, rx) = oneshot::channel();
        let id = self.wait(Waiter::Once(tx))?;
        self.send(Frame { kind, id, body }).await?;
        rx.await.map_err(|_| closed())?
    }

    /// Opens a stream: its id, and the replies in order.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn open_stream(&self) -> io::Result<(u64, mpsc::UnboundedReceiver<Bytes>)> {
        let (tx, rx) = mpsc::unbounded_channel();
        Ok((self.wait(Waiter::Stream(tx))?, rx))
    }

    /// Forgets a stream and tells the peer, as far as the queue allows.
    pub fn close_stream(&self, id: u64) {
        if let Some(waiters) = self.waiters.lock().as_mut() {
            waiters.remove(&id);
        }
        let _ = self.queue.try_send(Frame { kind: Kind::CloseStream, id, body: Vec::new() });
    }

    /// Queues a frame.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send(&self, frame: Frame) -> io::Result<()> {
        self.queue.send(frame).await.map_err(|_| closed())
    }

    fn wait(&self, waiter: Waiter) -> io::Result<u64> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.waiters.lock().as_mut().ok_or_else(closed)?.insert(id, waiter);
        Ok(id)
    }

    /// Ends it from this side.
    fn end(&self) {
        self.waiters.lock().take();
        self.end.notify_one();
    }

    fn is_open(&self) -> bool {
        !self.queue.is_closed() && self.waiters.lock().is_some()
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the connection to the peer ended")
}

/// The lanes to all peers.
pub struct Links {
    net: Arc<dyn Net>,
    clock: Arc<dyn Clock>,
    addresses: Addresses,
    greeter: Weak<dyn Greeter>,
    lanes: Mutex<BTreeMap<(NodeId, Lane), SharedSlot>>,
    /// The process in which each peer was met last.
    processes: Mutex<BTreeMap<NodeId, Process>>,
    /// Raft's own runtime: a client's task may ask for a connection, but must not own it.
    runtime: Handle,
}

/// Held while a lane connects, so that it connects once.
type SharedSlot = Arc<tokio::sync::Mutex<Slot>>;

/// A peer's process, and what leads to it.
#[derive(Default)]
struct Process {
    boot: u64,
    connections: Vec<Weak<Connection>>,
}

#[derive(Default)]
pub(crate) struct Slot {
    connection: Option<Arc<Connection>>,
    refused_at: Option<Duration>,
}

impl Links {
    /// Connects to the peers of `addresses`; `greeter` is the node, which holds them.
    pub fn new(
        net: Arc<dyn Net>,
        clock: Arc<dyn Clock>,
        addresses: Addresses,
        greeter: Weak<dyn Greeter>,
        runtime: Handle,
    ) -> Links {
        Links { net, clock, addresses, greeter, lanes: Mutex::default(), processes: Mutex::default(), runtime }
    }

    /// Raft's own runtime.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The lane's connection, made when there is none.
    ///
    /// # Errors
    /// When the peer is not known, not reachable or of another cluster.
    pub async fn connection(&self, node: NodeId, lane: Lane) -> io::Result<Arc<Connection>> {
        let slot = self.lanes.lock().entry((node, lane)).or_default().clone();
        self.connect(&mut *slot.lock().await, node, &self.runtime).await
    }

    /// The connection of a lane that belongs to one task, on the runtime that calls; made when there is none.
    ///
    /// # Errors
    /// As [`Links::connection`].
    pub(crate) async fn connect_here(&self, slot: &mut Slot, node: NodeId) -> io::Result<Arc<Connection>> {
        self.connect(slot, node, &Handle::current()).await
    }

    async fn connect(&self, slot: &mut Slot, node: NodeId, runtime: &Handle) -> io::Result<Arc<Connection>> {
        if let Some(connection) = slot.connection.as_ref().filter(|c| c.is_open()) {
            return Ok(connection.clone());
        }
        let now = self.clock.monotonic();
        if slot.refused_at.is_some_and(|at| now < at + RETRY_AFTER) {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!("{node} refused a connection just now"),
            ));
        }
        match self.dial_on(self.address(node)?, runtime).await {
            Ok(connection) if connection.peer.node == node => {
                let connection = Arc::new(connection);
                self.met(&connection);
                *slot = Slot { connection: Some(connection.clone()), refused_at: None };
                Ok(connection)
            }
            Ok(connection) => {
                *slot = Slot { connection: None, refused_at: Some(self.clock.monotonic()) };
                Err(io::Error::other(format!("{node} was expected, {} answered", connection.peer.node)))
            }
            Err(e) => {
                *slot = Slot { connection: None, refused_at: Some(self.clock.monotonic()) };
                Err(e)
            }
        }
    }

    /// The connections to an earlier process of the peer lead nowhere, whatever the network says of them.
    fn met(&self, connection: &Arc<Connection>) {
        let mut processes = self.processes.lock();
        let process = processes.entry(connection.peer.node).or_default();
        if process.boot != connection.peer.boot {
            process.boot = connection.peer.boot;
            process.connections.drain(..).filter_map(|c| c.upgrade()).for_each(|c| c.end());
        }
        process.connections.retain(|c| c.upgrade().is_some_and(|c| c.is_open()));
        process.connections.push(Arc::downgrade(connection));
    }

    /// Whether a lane to this peer is connected, without connecting it.
    pub fn is_connected(&self, node: NodeId) -> bool {
        let slot = self.lanes.lock().get(&(node, Lane::Control)).cloned();
        slot.is_some_and(|s| s.try_lock().is_ok_and(|s| s.connection.as_ref().is_some_and(|c| c.is_open())))
    }

    fn address(&self, node: NodeId) -> io::Result<String> {
        let addr = self.addresses.load().get(&node).cloned();
        addr.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{node} has no known address")))
    }

    /// What a peer says of itself on a connection that is given up at once.
    ///
    /// # Errors
    /// When nobody answers as a peer of the same cluster.
    pub async fn greet(&self, node: NodeId) -> io::Result<Hello> {
        Ok(self.open(self.address(node)?, &self.runtime).await?.2)
    }

    /// Connects to an address of which only that is known.
    ///
    /// # Errors
    /// When nobody answers as a peer of the same cluster.
    pub async fn dial(&self, addr: String) -> io::Result<Connection> {
        self.dial_on(addr, &self.runtime).await
    }

    async fn dial_on(&self, addr: String, runtime: &Handle) -> io::Result<Connection> {
        let (stream, buffer, peer) = self.open(addr, runtime).await?;
        let _runtime = runtime.enter();
        Ok(start(stream, buffer, peer))
    }

    async fn open(&self, addr: String, runtime: &Handle) -> io::Result<(Box<dyn Stream>, BytesMut, Hello)> {
        let timeout =
            |_| io::Error::new(io::ErrorKind::TimedOut, format!("no connection to {addr} within {CONNECT_TIMEOUT:?}"));
        let greeter = self.greeter.upgrade().ok_or_else(closed)?;
        let (net, to) = (self.net.clone(), addr.clone());
        let connect = runtime.spawn(async move {
            let mut stream = net.connect(to).await?;
            let mut buffer = BytesMut::new();
            let peer = shake_hands(&mut stream, &mut buffer, &*greeter, Side::Dials).await?;
            Ok::<_, io::Error>((stream, buffer, peer))
        });
        let end = connect.abort_handle();
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
        end.abort();
        connected.map_err(timeout)?.map_err(io::Error::other)?
    }
}

/// A connection whose both ends have introduced themselves.
pub(crate) fn start(stream: Box<dyn Stream>, mut buffer: BytesMut, peer: Hello) -> Connection {
    let (mut reader, writer) = tokio::io::split(stream);
    let (queue, frames) = mpsc::channel(QUEUE_FRAMES_MAX);
    let waiters = Arc::new(Mutex::new(Some(BTreeMap::new())));
    let end = Arc::new(Notify::new());
    let (for_reader, ended) = (waiters.clone(), end.clone());
    tokio::spawn(async move {
        let mut write = tokio::spawn(write_frames(frames, writer));
        let read = async {
            while let Some(frame) = read_frame(&mut reader, &mut buffer).await? {
                dispatch(&for_reader, frame);
            }
            Ok::<(), io::Error>(())
        };
        tokio::select! {
            biased;
            _ = read => {}
            _ = &mut write => {}
            () = ended.notified() => {}
        }
        // Dropping the waiters ends every open request; nothing can be queued behind them.
        for_reader.lock().take();
        write.abort();
    });
    Connection { queue, waiters, next_id: AtomicU64::new(1), end, peer }
}

fn dispatch(waiters: &Mutex<Option<BTreeMap<u64, Waiter>>>, mut frame: Frame) {
    let body = frame.body.pop().unwrap_or_default();
    let mut waiters = waiters.lock();
    let Some(waiters) = waiters.as_mut() else { return };
    let waiter = match waiters.get(&frame.id) {
        Some(Waiter::Stream(tx)) => {
            if frame.kind == Kind::Error || tx.send(body).is_err() {
                waiters.remove(&frame.id);
            }
            return;
        }
        Some(Waiter::Once(_)) => waiters.remove(&frame.id),
        None => return,
    };
    if let Some(Waiter::Once(tx)) = waiter {
        let reply = match frame.kind {
            Kind::Reply => Ok(body),
            _ => Err(io::Error::other(String::from_utf8_lossy(&body).into_owned())),
        };
        let _ = tx.send(reply);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::{BoxFuture, Listener, SystemClock};

    /// A node in one of its processes.
    struct Somebody {
        node: u64,
        boot: u64,
    }

    impl Greeter for Somebody {
        fn hello(&self) -> Hello {
            let (name, client_addr, node) = (String::new(), String::new(), NodeId(self.node));
            Hello { cluster: 1, name, node, boot: self.boot, client_addr, lives: BTreeMap::new() }
        }

        fn secret(&self) -> &str {
            ""
        }

        fn meet(&self, _: &Hello) -> io::Result<()> {
            Ok(())
        }
    }

    /// Node 2, which answers nothing; each connection finds the next of these processes.
    struct Silent(Mutex<Vec<u64>>);

    impl Net for Silent {
        fn connect(&self, _: String) -> BoxFuture<io::Result<Box<dyn Stream>>> {
            let peer = Somebody { node: 2, boot: self.0.lock().remove(0) };
            let (here, there) = tokio::io::duplex(1024);
            tokio::spawn(async move {
                let (mut stream, mut buffer): (Box<dyn Stream>, _) = (Box::new(there), BytesMut::new());
                shake_hands(&mut stream, &mut buffer, &peer, Side::Accepts).await.expect("a peer");
                while let Ok(Some(_)) = read_frame(&mut stream, &mut buffer).await {}
            });
            Box::pin(async move { Ok(Box::new(here) as Box<dyn Stream>) })
        }

        fn listen(&self, _: String) -> BoxFuture<io::Result<Box<dyn Listener>>> {
            Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
        }
    }

    #[tokio::test]
    async fn open_requests_end_when_another_lane_finds_the_peer_restarted() {
        let addresses = Addresses::default();
        addresses.store(Arc::new(BTreeMap::from([(NodeId(2), String::new())])));
        let (greeter, net) = (Arc::new(Somebody { node: 1, boot: 1 }), Silent(Mutex::new(vec![7, 7, 8, 8])));
        let (runtime, weak) = (Handle::current(), Arc::downgrade(&greeter));
        let links = Links::new(Arc::new(net), Arc::new(SystemClock::default()), addresses, weak, runtime);
        let connect = async |lane| links.connection(NodeId(2), lane).await.expect("a connection");

        let append = connect(Lane::Append).await;
        let (id, mut replies) = append.open_stream().expect("a stream");
        append.send(Frame { kind: Kind::Append, id, body: Vec::new() }).await.expect("an append");
        connect(Lane::Control).await;
        assert!(append.is_open() && replies.try_recv().is_err_and(|e| e == mpsc::error::TryRecvError::Empty));
        let forward = connect(Lane::Wait).await;
        let ended = tokio::time::timeout(Duration::from_secs(10), replies.recv()).await;
        assert_eq!(ended.expect("the stream ended"), None);
        assert!(!append.is_open() && forward.is_open());
        assert!(connect(Lane::Append).await.is_open());
    }
}
