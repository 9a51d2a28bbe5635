//! turmoil's connections and clocks behind the seams of the Raft layer.
//!
//! A link that is held delays everything, as TCP does over a short cut. A link that is cut loses what was
//! on its way; turmoil does not send it again, so every connection over a cut link is reset when the link
//! comes back, as a peer's kernel would do. Until then both sides hear nothing.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use quoris_raft::seam::{BoxFuture, BoxFutureRef, Clock, Listener, Net, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// Unix time at the start of every simulation, in milliseconds.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// One side's view of a connection that may be reset from outside.
#[derive(Default)]
struct Fuse {
    reset: bool,
    wakers: [Option<Waker>; 2],
}

/// Two nodes by host name, the lesser first.
type Pair = BTreeSet<String>;

/// All connections of a run.
#[derive(Default)]
pub struct Wires(Mutex<Vec<(Pair, Weak<Mutex<Fuse>>)>>);

impl Wires {
    fn add(&self, a: String, b: String) -> Arc<Mutex<Fuse>> {
        let fuse = Arc::<Mutex<Fuse>>::default();
        let mut wires = self.0.lock();
        wires.retain(|(_, fuse)| fuse.strong_count() > 0);
        wires.push((BTreeSet::from([a, b]), Arc::downgrade(&fuse)));
        fuse
    }

    /// Resets every connection between two hosts.
    pub fn reset(&self, a: &str, b: &str) {
        let pair = BTreeSet::from([a.to_string(), b.to_string()]);
        let fuses: Vec<_> = self.0.lock().iter().filter(|(p, _)| *p == pair).filter_map(|(_, f)| f.upgrade()).collect();
        for fuse in fuses {
            let wakers = {
                let mut fuse = fuse.lock();
                fuse.reset = true;
                std::mem::take(&mut fuse.wakers)
            };
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }
}

struct Wire {
    stream: TcpStream,
    fuse: Arc<Mutex<Fuse>>,
}

impl Wire {
    /// Fails when the connection was reset; else remembers whom to wake then.
    fn check(&self, side: usize, cx: &Context<'_>) -> io::Result<()> {
        let mut fuse = self.fuse.lock();
        if fuse.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        fuse.wakers[side] = Some(cx.waker().clone());
        Ok(())
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(0, cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(1, cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(1, cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
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
            let peer = addr.split(':').next().unwrap_or_default().to_string();
            let fuse = wires.add(own, peer);
            let stream = TcpStream::connect(addr).await?;
            Ok(Box::new(Wire { stream, fuse }) as Box<dyn Stream>)
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
            let fuse = self.wires.add(self.own.clone(), peer);
            Ok(Box::new(Wire { stream, fuse }) as Box<dyn Stream>)
        })
    }
}

/// The clocks of one node: simulated time, and a wall clock that may be wrong.
pub struct SimClock {
    /// How far the wall clock is ahead, in milliseconds.
    pub ahead_ms: u64,
}

/// Simulated time.
pub fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

impl Clock for SimClock {
    fn monotonic(&self) -> Duration {
        now()
    }

    fn wall_ms(&self) -> u64 {
        EPOCH_MS + self.ahead_ms + now().as_millis() as u64
    }
}
