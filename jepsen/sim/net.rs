//! turmoil's connections and clocks behind the seams of the Raft layer.
//!
//! A link that is held delays everything, as TCP does over a short cut. A link that is cut loses what was
//! on its way; turmoil does not send it again, so every connection over a cut link is reset when the link
//! comes back, as a peer's kernel would do. Until then both sides hear nothing.
//!
//! tokio drops the tasks of a crashed host in an order that depends on ids of the whole process. What a
//! closed stream says would depend on it too, so the streams outlive the tasks and then end in silence,
//! as in a power failure: [`Wires::crash`] and [`Wires::bury`] stand around the crash.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use quoris_raft::seam::{BoxFuture, BoxFutureRef, Clock, Listener, Net, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// Unix time at the start of every simulation, in milliseconds.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// One side's end of a connection; it may be reset from outside.
struct End {
    stream: TcpStream,
    reset: bool,
    wakers: [Option<Waker>; 2],
}

/// An end that its host and the registry hold.
struct Registered {
    own: String,
    peer: String,
    end: Arc<Mutex<End>>,
}

#[derive(Default)]
struct Registry {
    ends: BTreeMap<u64, Registered>,
    next: u64,
    /// The host that is crashing.
    crashing: Option<String>,
}

/// All connections of a run.
#[derive(Default)]
pub struct Wires(Mutex<Registry>);

impl Wires {
    fn add(self: &Arc<Wires>, own: &str, peer: &str, stream: TcpStream) -> Box<dyn Stream> {
        let end = Arc::new(Mutex::new(End { stream, reset: false, wakers: [None, None] }));
        let mut registry = self.0.lock();
        let id = registry.next;
        registry.next += 1;
        registry.ends.insert(id, Registered { own: own.into(), peer: peer.into(), end: end.clone() });
        Box::new(Wire { id, end, wires: self.clone() })
    }

    /// Resets every connection between two hosts.
    pub fn reset(&self, a: &str, b: &str) {
        let registry = self.0.lock();
        let between = |r: &&Registered| (r.own == a && r.peer == b) || (r.own == b && r.peer == a);
        let ends: Vec<_> = registry.ends.values().filter(between).map(|r| r.end.clone()).collect();
        drop(registry);
        for end in ends {
            let wakers = {
                let mut end = end.lock();
                end.reset = true;
                std::mem::take(&mut end.wakers)
            };
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }

    /// A host is about to crash: its streams stay until [`Wires::bury`].
    pub fn crash(&self, host: &str) {
        self.0.lock().crashing = Some(host.to_string());
    }

    /// The host that crashed has no tasks any more: its streams end, and say nothing.
    pub fn bury(&self) {
        let mut registry = self.0.lock();
        let Some(host) = registry.crashing.take() else { return };
        let (gone, kept) = std::mem::take(&mut registry.ends).into_iter().partition(|(_, r)| r.own == host);
        registry.ends = kept;
        drop(registry);
        let gone: BTreeMap<u64, Registered> = gone;
        drop(gone);
    }
}

struct Wire {
    id: u64,
    end: Arc<Mutex<End>>,
    wires: Arc<Wires>,
}

impl Wire {
    /// Polls the stream unless it was reset; remembers whom to wake when it is.
    fn poll<T>(
        &self,
        side: usize,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut end = self.end.lock();
        if end.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        end.wakers[side] = Some(cx.waker().clone());
        poll(Pin::new(&mut end.stream), cx)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let mut registry = self.wires.0.lock();
        let own = registry.ends.get(&self.id).map(|r| r.own.clone());
        if own.is_none() || own != registry.crashing {
            registry.ends.remove(&self.id);
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(0, cx, |stream, cx| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(1, cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(1, cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(1, cx, |stream, cx| stream.poll_shutdown(cx))
    }
}

/// The network of one node.
pub struct SimNet {
    /// The node's host name.
    pub own: String,
    /// Shared by all nodes of a run.
    pub wires: Arc<Wires>,
}

impl Net for SimNet {
    fn connect(&self, addr: String) -> BoxFuture<io::Result<Box<dyn Stream>>> {
        let (own, wires) = (self.own.clone(), self.wires.clone());
        Box::pin(async move {
            let stream = TcpStream::connect(addr.as_str()).await?;
            Ok(wires.add(&own, addr.split(':').next().unwrap_or_default(), stream))
        })
    }

    fn listen(&self, addr: String) -> BoxFuture<io::Result<Box<dyn Listener>>> {
        let (own, wires) = (self.own.clone(), self.wires.clone());
        Box::pin(async move {
            let port = addr.rsplit(':').next().unwrap_or_default();
            let listener = TcpListener::bind(format!("0.0.0.0:{port}")).await?;
            Ok(Box::new(Peers { listener, own, wires }) as Box<dyn Listener>)
        })
    }
}

struct Peers {
    listener: TcpListener,
    own: String,
    wires: Arc<Wires>,
}

impl Listener for Peers {
    fn accept(&mut self) -> BoxFutureRef<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let (stream, from) = self.listener.accept().await?;
            let peer = turmoil::reverse_lookup(from.ip()).unwrap_or_default();
            Ok(self.wires.add(&self.own, &peer, stream))
        })
    }
}

/// The clocks of one node: simulated time, and a wall clock that may be wrong.
pub struct SimClock {
    /// How far the wall clock is ahead, in milliseconds.
    pub ahead_ms: Arc<AtomicI64>,
}

/// Simulated time.
pub fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

impl Clock for SimClock {
    fn monotonic(&self) -> Duration {
        now()
    }

    fn boottime(&self) -> Duration {
        now()
    }

    fn wall_ms(&self) -> u64 {
        let right = EPOCH_MS + now().as_millis() as u64;
        right.saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed))
    }
}
