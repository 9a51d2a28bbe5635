//! Connections to peers: a few per peer, shared by all groups.
//!
//! A lane is one connection: entries, control (heartbeats, votes), forwarded commands and snapshots do
//! not wait for each other. Requests are pipelined; a reply finds its request by id. A lane connects
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

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::seam::{Clock, Net, Stream};
use crate::types::{Addresses, NodeId};
use crate::wire::{Frame, HELLO_BYTES_MAX, Hello, Kind, MAGIC, message, part, read_frame, read_frame_within};

/// Frames that wait for one connection's writer.
const QUEUE_FRAMES_MAX: usize = 1024;
/// The writer gathers about this many bytes into one system call.
const WRITE_BYTES: usize = 1 << 20;
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
    /// Commands for a leader elsewhere.
    Forward,
    /// Snapshots.
    Snapshot,
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

/// Writes queued frames, many per system call, until the queue or the stream ends.
pub async fn write_frames(mut queue: mpsc::Receiver<Frame>, mut stream: impl AsyncWrite + Unpin) -> io::Result<()> {
    while let Some(first) = queue.recv().await {
        let mut parts = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(frame) = next {
            parts.push(frame.head());
            parts.extend(frame.body.into_iter().filter(|p| !p.is_empty()));
            bytes += parts.iter().rev().take(2).map(Bytes::len).sum::<usize>();
            next = if bytes < WRITE_BYTES && parts.len() < 512 { queue.try_recv().ok() } else { None };
        }
        write_parts(&mut stream, parts).await?;
    }
    Ok(())
}

async fn write_parts(stream: &mut (impl AsyncWrite + Unpin), mut parts: Vec<Bytes>) -> io::Result<()> {
    let mut from = 0;
    while from < parts.len() {
        let slices: Vec<io::IoSlice<'_>> = parts[from..].iter().take(64).map(|p| io::IoSlice::new(p)).collect();
        let mut written = stream.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while written > 0 {
            let len = parts[from].len();
            if written >= len {
                written -= len;
                from += 1;
            } else {
                parts[from].advance(written);
                written = 0;
            }
        }
    }
    stream.flush().await
}

/// The lanes to all peers.
pub struct Links {
    net: Arc<dyn Net>,
    clock: Arc<dyn Clock>,
    addresses: Addresses,
    hello: Arc<dyn Fn() -> Hello + Send + Sync>,
    lanes: Mutex<BTreeMap<(NodeId, Lane), SharedSlot>>,
    /// The process in which each peer was met last.
    processes: Mutex<BTreeMap<NodeId, Process>>,
    /// Raft's own runtime: a client's task may ask for a connection, but must not own it.
    runtime: tokio::runtime::Handle,
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
struct Slot {
    connection: Option<Arc<Connection>>,
    refused_at: Option<Duration>,
}

impl Links {
    /// Connects to the peers of `addresses`; `hello` is what this node says of itself.
    pub fn new(
        net: Arc<dyn Net>,
        clock: Arc<dyn Clock>,
        addresses: Addresses,
        hello: Arc<dyn Fn() -> Hello + Send + Sync>,
        runtime: tokio::runtime::Handle,
    ) -> Links {
        Links { net, clock, addresses, hello, lanes: Mutex::default(), processes: Mutex::default(), runtime }
    }

    /// The lane's connection, made when there is none.
    ///
    /// # Errors
    /// When the peer is not known, not reachable or of another cluster.
    pub async fn connection(&self, node: NodeId, lane: Lane) -> io::Result<Arc<Connection>> {
        let slot = self.lanes.lock().entry((node, lane)).or_default().clone();
        let mut slot = slot.lock().await;
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
        match self.dial(self.address(node)?).await {
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
        Ok(self.open(self.address(node)?).await?.2)
    }

    /// Connects to an address of which only that is known.
    ///
    /// # Errors
    /// When nobody answers as a peer of the same cluster.
    pub async fn dial(&self, addr: String) -> io::Result<Connection> {
        let (stream, buffer, peer) = self.open(addr).await?;
        let _runtime = self.runtime.enter();
        Ok(start(stream, buffer, peer))
    }

    async fn open(&self, addr: String) -> io::Result<(Box<dyn Stream>, BytesMut, Hello)> {
        let timeout =
            |_| io::Error::new(io::ErrorKind::TimedOut, format!("no connection to {addr} within {CONNECT_TIMEOUT:?}"));
        let own = (self.hello)();
        let (net, to) = (self.net.clone(), addr.clone());
        let connect = self.runtime.spawn(async move {
            let mut stream = net.connect(to).await?;
            let mut buffer = BytesMut::new();
            let peer = shake_hands(&mut stream, &mut buffer, &own).await?;
            Ok::<_, io::Error>((stream, buffer, peer))
        });
        let end = connect.abort_handle();
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
        end.abort();
        connected.map_err(timeout)?.map_err(io::Error::other)?
    }
}

/// Sends the own hello, reads the peer's, and refuses another protocol or cluster.
///
/// # Errors
/// When the peer is another kind of server, or of another cluster.
pub async fn shake_hands(stream: &mut Box<dyn Stream>, buffer: &mut BytesMut, own: &Hello) -> io::Result<Hello> {
    let hello = Frame { kind: Kind::Hello, id: 0, body: vec![part(own)] };
    stream.write_all(&hello.head()).await?;
    stream.write_all(&hello.body[0]).await?;
    stream.flush().await?;
    let frame = read_frame_within(stream, buffer, HELLO_BYTES_MAX).await?.ok_or_else(closed)?;
    if frame.kind != Kind::Hello {
        return Err(io::Error::other("the peer did not introduce itself"));
    }
    let peer: Hello = message(&frame.body[0])?;
    if peer.magic != MAGIC {
        return Err(io::Error::other("the peer speaks another version of the protocol"));
    }
    if peer.name != own.name {
        return Err(io::Error::other(format!(
            "the peer belongs to cluster-name {:?}, this node to {:?}",
            peer.name, own.name
        )));
    }
    if peer.cluster != 0 && own.cluster != 0 && peer.cluster != own.cluster {
        return Err(io::Error::other(format!(
            "the peer belongs to cluster {:032x}, this node to {:032x}",
            peer.cluster, own.cluster
        )));
    }
    Ok(peer)
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
