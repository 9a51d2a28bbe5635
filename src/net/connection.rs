//! The loop of one connection: read, decode, handle, write.
//!
//! It is written for few system calls and no allocation per command: one read takes what has arrived,
//! the decoder slices it, the handler appends to one output buffer, one write sends it, and both
//! buffers are used again. Nothing is spawned and nothing is woken on the way of a command that the
//! handler answers at once.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::Shutdown,
    os::fd::AsFd,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use quoris_resp::{Decoder, Limits, Protocol, ProtocolError, encode};
use socket2::SockRef;
use tokio::{
    io::AsyncReadExt,
    net::{TcpStream, tcp::OwnedReadHalf},
};

use crate::{
    Batch, Handler, Link, Next, OutputClass, Settings, Traffic,
    outlet::{Outgoing, Outlet},
};

/// Room for one read, in bytes; Redis reads as much at a time.
const READ_BYTES: usize = 16 * 1024;
/// The most commands that are handed over at once: bounds the work between two writes.
const BATCH_COMMANDS_MAX: usize = 1024;
/// A buffer above this goes back to the allocator once it is empty, in bytes.
pub(crate) const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Why a connection ends. Only for the log: the client sees a closed socket.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("closed by the client")]
    Client,
    #[error("closed from outside")]
    Closed,
    #[error("closed by a command")]
    Command,
    #[error("query buffer above its limit")]
    QueryLimit,
    #[error("output above its limit")]
    OutputLimit,
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Serves a connection until it ends.
pub(crate) async fn serve<H: Handler>(
    stream: TcpStream,
    link: Arc<Link>,
    settings: Arc<Settings>,
    traffic: Arc<Traffic>,
    outgoing: Arc<Outgoing>,
    handler: H,
) {
    let (stream, socket) = stream.into_split();
    let mut connection = Connection {
        stream,
        outlet: Arc::new(Outlet::new(socket, link.clone(), traffic.clone())),
        outgoing,
        link,
        settings,
        traffic,
        decoder: Decoder::default(),
        input: BytesMut::new(),
        output: BytesMut::new(),
        batch: Batch::new(),
        ended: None,
        failed: None,
        unknown: true,
        second: None,
    };
    let Err(end) = connection.run(handler).await;
    match &end {
        End::QueryLimit => connection.traffic.query_limit_closed.fetch_add(1, Relaxed),
        End::OutputLimit => connection.traffic.output_limit_closed.fetch_add(1, Relaxed),
        _ => 0,
    };
    tracing::debug!(id = connection.link.id, peer = %connection.link.peer, %end, "connection ended");
}

struct Connection {
    stream: OwnedReadHalf,
    outlet: Arc<Outlet>,
    outgoing: Arc<Outgoing>,
    link: Arc<Link>,
    settings: Arc<Settings>,
    traffic: Arc<Traffic>,
    decoder: Decoder,
    input: BytesMut,
    output: BytesMut,
    batch: Batch,
    /// The client sends no more; what it sent before is still answered.
    ended: Option<io::Error>,
    /// Behind the commands of the batch came bytes that are none.
    failed: Option<ProtocolError>,
    /// Not authenticated, as far as the last decoded command tells.
    unknown: bool,
    /// The socket once more, to be lent to those who have messages.
    second: Option<std::net::TcpStream>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.link.take_back();
    }
}

/// What woke a connection that waits for its client.
enum Woken {
    Read(io::Result<usize>),
    Written(io::Result<usize>),
    Signal,
}

impl Connection {
    async fn run<H: Handler>(&mut self, mut handler: H) -> Result<Infallible, End> {
        loop {
            self.read().await?;
            // A full batch leaves commands in the buffer: go on before reading.
            while self.decode(&handler.limits()).await? {
                self.handle(&mut handler).await?;
            }
            self.settle();
        }
    }

    /// Waits for bytes from the client; serves signals meanwhile.
    async fn read(&mut self) -> Result<(), End> {
        let buffered = self.input.len();
        loop {
            if self.input.len() > buffered {
                return Ok(());
            }
            if self.ended.is_some() {
                // What was put off is written before the end.
                self.flush().await?;
            }
            match self.ended.take() {
                Some(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(End::Client),
                Some(e) => return Err(e.into()),
                None => {}
            }
            self.reserve();
            let lent = self.lend();
            let (stream, input, link) = (&mut self.stream, &mut self.input, &self.link);
            let woken = poll_fn(|cx| {
                // What has come before the end is answered.
                if link.is_signalled() && !link.is_finishing() {
                    return Poll::Ready(Woken::Signal);
                }
                if let Poll::Ready(result) = pin!(stream.read_buf(input)).poll(cx) {
                    return Poll::Ready(Woken::Read(result));
                }
                link.register(cx);
                if link.is_signalled() { Poll::Ready(Woken::Signal) } else { Poll::Pending }
            })
            .await;
            if lent {
                self.second = self.link.take_back();
            }
            match woken {
                Woken::Read(result) => self.received(result)?,
                Woken::Written(_) | Woken::Signal => self.signalled().await?,
            }
            if lent {
                // What others have begun to write comes before the next reply.
                self.link.take_messages(&mut self.output);
                self.flush().await?;
            }
        }
    }

    /// Lets others write to a subscriber's socket while it waits for the client and has nothing to write.
    fn lend(&mut self) -> bool {
        if self.link.class() != OutputClass::PubSub {
            self.second = None;
            return false;
        }
        // Without a file descriptor for it, messages wait for the task as all others do.
        let clone = || self.stream.as_ref().as_fd().try_clone_to_owned().ok().map(Into::into);
        let second = self.second.take().or_else(clone).filter(|_| self.output.is_empty());
        second.map(|second| self.link.lend(second)).is_some()
    }

    /// A large argument gets its room by doubling: nothing is allocated for an announcement alone.
    fn reserve(&mut self) {
        let missing = self.decoder.missing(self.input.len()).min(self.input.len());
        self.input.reserve(missing.max(READ_BYTES));
    }

    fn received(&mut self, result: io::Result<usize>) -> Result<(), End> {
        let bytes = match result {
            Ok(bytes) if bytes > 0 => bytes,
            end => {
                self.ended = Some(end.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()));
                return Ok(());
            }
        };
        self.link.touch();
        self.link.bytes_in.fetch_add(bytes as u64, Relaxed);
        self.traffic.bytes_in.fetch_add(bytes as u64, Relaxed);
        self.traffic.reads.fetch_add(1, Relaxed);
        self.link.query_bytes.store(self.input.len(), Relaxed);
        self.link.query_free.store(self.input.capacity() - self.input.len(), Relaxed);
        let too_long = self.input.len() as u64 > self.settings.query_bytes_max.load(Relaxed);
        if too_long { Err(End::QueryLimit) } else { Ok(()) }
    }

    /// Counts what was read while the handler waited.
    fn account_ahead(&mut self, buffered: usize) {
        let bytes = (self.input.len() - buffered) as u64;
        if bytes > 0 {
            self.link.touch();
            self.link.bytes_in.fetch_add(bytes, Relaxed);
            self.traffic.bytes_in.fetch_add(bytes, Relaxed);
        }
    }

    async fn signalled(&mut self) -> Result<(), End> {
        if self.link.is_closing() {
            return Err(End::Closed);
        }
        if self.link.take_shrink() && self.input.is_empty() {
            (self.input, self.output) = (BytesMut::new(), BytesMut::new());
            self.batch.shrink_to_fit();
            self.outlet.shrink();
        }
        self.link.take_unsent();
        self.link.take_messages(&mut self.output);
        self.flush().await?;
        if self.link.is_finishing() { Err(End::Closed) } else { Ok(()) }
    }

    /// Takes complete commands from the buffer; false when there is none.
    async fn decode(&mut self, limits: &Limits) -> Result<bool, End> {
        if let Some(error) = self.failed.take() {
            encode(&error.reply(), Protocol::Resp2, &mut self.output);
            self.flush().await?;
            return Err(error.into());
        }
        self.unknown = !limits.authenticated;
        // Before authentication every command may change what the next one may be.
        let most = if limits.authenticated { BATCH_COMMANDS_MAX } else { 1 };
        while self.batch.len() < most {
            match self.decoder.decode(&mut self.input, limits) {
                Ok(Some(argv)) => self.batch.push_back(argv),
                Ok(None) => break,
                Err(error) => {
                    // The commands in front of the mistake are answered first.
                    self.failed = Some(error);
                    return Ok(true);
                }
            }
        }
        Ok(!self.batch.is_empty())
    }

    /// Runs the batch to its end, writing whenever the handler asks for it.
    async fn handle<H: Handler>(&mut self, handler: &mut H) -> Result<(), End> {
        let query_bytes_max = self.settings.query_bytes_max.load(Relaxed);
        loop {
            let (ahead, mut waited) = (self.input.len(), false);
            let next = {
                let (batch, output, link) = (&mut self.batch, &mut self.output, &self.link);
                let (stream, input, outlet) = (&mut self.stream, &mut self.input, &self.outlet);
                let mut work = pin!(handler.run(batch, output));
                poll_fn(|cx| {
                    if let Poll::Ready(next) = work.as_mut().poll(cx) {
                        return Poll::Ready(Ok(next));
                    }
                    waited = true;
                    link.register(cx);
                    if link.is_closing() {
                        return Poll::Ready(Err(End::Closed));
                    }
                    if link.has_unsent() {
                        outlet.poll_rest(cx)?;
                    }
                    if link.watches_end() { read_ahead(stream, input, query_bytes_max, cx) } else { Poll::Pending }
                })
                .await?
            };
            self.account_ahead(ahead);
            self.link.take_messages(&mut self.output);
            if self.link.passes(self.output.len(), &self.settings) {
                return Err(End::OutputLimit);
            }
            // What was waited for goes at once: replies to writes come together anyway.
            if next == Next::Read && !waited && self.outgoing.put_off(&self.outlet, &mut self.output) {
                return Ok(());
            }
            self.outgoing.handled();
            self.flush().await?;
            match next {
                Next::Flush => {}
                Next::Read => return Ok(()),
                Next::Close => {
                    SockRef::from(self.stream.as_ref()).shutdown(Shutdown::Write)?;
                    return Err(End::Command);
                }
            }
        }
    }

    /// Writes all output. While the client does not take it, what it sends is read into the buffer:
    /// a client that sends a long pipeline before it reads anything must not wait for us for ever.
    async fn flush(&mut self) -> Result<(), End> {
        self.outlet.take_back(&mut self.output);
        while !self.output.is_empty() {
            match self.write_or_read().await {
                Woken::Signal => return Err(End::Closed),
                Woken::Read(result) => self.received(result)?,
                Woken::Written(Err(e)) => return Err(e.into()),
                Woken::Written(Ok(0)) => return Err(End::Client),
                Woken::Written(Ok(n)) => {
                    self.outlet.account(n);
                    // All at once is the rule; clearing keeps the room, advancing would shorten it.
                    if n == self.output.len() { self.output.clear() } else { self.output.advance(n) }
                }
            }
        }
        self.link.output_bytes.store(0, Relaxed);
        if self.output.capacity() > KEPT_BYTES_MAX {
            self.output = BytesMut::new();
        }
        Ok(())
    }

    async fn write_or_read(&mut self) -> Woken {
        let (stream, input, output, link, ended, unknown) =
            (&mut self.stream, &mut self.input, &self.output, &self.link, &self.ended, self.unknown);
        let outlet = &self.outlet;
        poll_fn(|cx| {
            if let Poll::Ready(result) = outlet.poll_write(cx, output) {
                return Poll::Ready(Woken::Written(result));
            }
            link.output_bytes.store(output.len(), Relaxed);
            link.register(cx);
            if link.is_closing() {
                return Poll::Ready(Woken::Signal);
            }
            // A stranger who does not take his replies may not make us hold what he sends.
            if ended.is_some() || unknown {
                return Poll::Pending;
            }
            input.reserve(READ_BYTES);
            pin!(stream.read_buf(input)).poll(cx).map(Woken::Read)
        })
        .await
    }

    /// Gives large buffers back; what is left of a next command moves to a small one.
    fn settle(&mut self) {
        self.link.query_bytes.store(self.input.len(), Relaxed);
        if self.input.capacity() > KEPT_BYTES_MAX && self.input.len() < READ_BYTES {
            let mut small = BytesMut::with_capacity(READ_BYTES.max(self.input.len()));
            small.extend_from_slice(&self.input);
            self.input = small;
        }
    }
}

/// Reads what comes while the handler waits; ready only when the connection has to end. Who leaves while he waits
/// is gone, as in Redis, even if he only said that he sends no more.
fn read_ahead(
    stream: &mut OwnedReadHalf,
    input: &mut BytesMut,
    bytes_max: u64,
    cx: &mut Context<'_>,
) -> Poll<Result<Next, End>> {
    loop {
        if input.len() as u64 > bytes_max {
            return Poll::Ready(Err(End::QueryLimit));
        }
        input.reserve(READ_BYTES);
        match pin!(stream.read_buf(input)).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(End::Client)),
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(e)) => return Poll::Ready(Err(e.into())),
        }
    }
}
