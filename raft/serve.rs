//! The other end of [`crate::link`]: accepts peers and answers their requests.
//!
//! Every request runs in a task of its own, except those on streams, entries and commands that wait: what is said
//! on one stream is taken in its order, and the replies return in theirs.
//!
//! Invariants: a peer can only slow down itself, its queues and its open requests are bounded; who does
//! not introduce himself in time is let go, and one without a node id, or a guest, may only ask, never append.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{Semaphore, mpsc};

use crate::handshake::{Greeter, Side, shake_hands};
use crate::seam::{BoxFuture, Listener, Stream};
use crate::types::NodeId;
use crate::wire::{Frame, Hello, Kind, read_frame};
use crate::write::write_frames;

/// Streams of one connection: all commands that may wait in a group, and as many again.
const STREAMS_MAX: usize = 131_072;
/// Appends of one stream that wait for the group.
const STREAM_FRAMES_MAX: usize = 256;
/// Replies that wait for the writer.
const REPLIES_MAX: usize = 1024;
/// Requests of one connection that are being answered; the next ones are not read until one is done.
const REQUESTS_MAX: usize = 4096;
/// Who connects introduces himself within this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// What answers requests.
pub trait Service: Greeter {
    /// Answers one request.
    fn call(self: Arc<Self>, peer: Hello, kind: Kind, body: Bytes) -> BoxFuture<io::Result<Vec<Bytes>>>;
    /// The connection of a peer that has sent appends has ended.
    fn lost(self: Arc<Self>, peer: Hello) -> BoxFuture<()>;
    /// Takes what comes on one stream of this kind in order, and says what there is to say. Ends when `input` ends
    /// or it cannot go on.
    fn stream(self: Arc<Self>, peer: Hello, kind: Kind, frames: Frames) -> BoxFuture<()>;
}

impl Hello {
    /// Whether the peer may ask this. One that belongs to nothing may learn that there is a cluster, and be told that
    /// it is part of a new one; a guest has commands and listeners, and no business with the members of a group.
    pub fn may_ask(&self, kind: Kind) -> bool {
        match kind {
            Kind::Probe | Kind::Topology => true,
            Kind::Adopt => !self.node.is_guest(),
            _ if self.node == NodeId(0) => false,
            Kind::Forward | Kind::Wait | Kind::Events | Kind::EventsNow | Kind::Interest => true,
            Kind::Changes | Kind::Listeners | Kind::Progress | Kind::Clock => true,
            _ => !self.node.is_guest(),
        }
    }
}

/// Both directions of a stream.
pub struct Frames {
    /// What the peer says.
    pub input: mpsc::Receiver<Bytes>,
    /// What it is told.
    pub output: mpsc::Sender<Vec<Bytes>>,
}

/// Accepts peers until the process ends.
pub async fn accept(mut listener: Box<dyn Listener>, service: Arc<dyn Service>) {
    loop {
        match listener.accept().await {
            Ok(stream) => {
                let service = service.clone();
                tokio::spawn(async move {
                    if let Err(e) = serve(stream, service).await {
                        tracing::debug!(error = %e, "a peer connection ended");
                    }
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "a peer could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(mut stream: Box<dyn Stream>, service: Arc<dyn Service>) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    let silent = |_| io::Error::new(io::ErrorKind::TimedOut, "the peer did not introduce itself in time");
    let greeting = shake_hands(&mut stream, &mut buffer, &*service, Side::Accepts);
    let peer = tokio::time::timeout(HELLO_TIMEOUT, greeting).await.map_err(silent)??;
    let (mut reader, writer) = tokio::io::split(stream);
    let (replies, queue) = mpsc::channel(REPLIES_MAX);
    let write = tokio::spawn(write_frames(queue, writer));
    let mut streams: BTreeMap<u64, mpsc::Sender<Bytes>> = BTreeMap::new();
    let mut leads = false;
    let mut streams_max = 0;
    let open = Arc::new(Semaphore::new(REQUESTS_MAX));
    let result = async {
        while let Some(mut frame) = read_frame(&mut reader, &mut buffer).await? {
            let body = frame.body.pop().unwrap_or_default();
            leads |= matches!(frame.kind, Kind::Append | Kind::Heartbeat);
            match frame.kind {
                kind if kind.is_stream() && !peer.may_ask(kind) => {
                    return Err(io::Error::other("a stream from a stranger"));
                }
                kind if kind.is_stream() => {
                    forget_ended(&mut streams, &mut streams_max)?;
                    let stream = streams
                        .entry(frame.id)
                        .or_insert_with(|| open_stream(service.clone(), peer.clone(), kind, frame.id, replies.clone()));
                    let _ = stream.send(body).await;
                }
                Kind::CloseStream => drop(streams.remove(&frame.id)),
                kind => {
                    let permit = open.clone().acquire_owned().await.map_err(io::Error::other)?;
                    let answer = answer(service.clone(), peer.clone(), kind, frame.id, body, replies.clone());
                    tokio::spawn(async move {
                        answer.await;
                        drop(permit);
                    });
                }
            }
        }
        Ok(())
    };
    let result = result.await;
    write.abort();
    if leads {
        tokio::spawn(service.lost(peer));
    }
    result
}

/// Forgets streams that have ended, whenever there are twice as many as were left the last time.
fn forget_ended(streams: &mut BTreeMap<u64, mpsc::Sender<Bytes>>, most: &mut usize) -> io::Result<()> {
    if streams.len() < *most {
        return Ok(());
    }
    streams.retain(|_, s| !s.is_closed());
    *most = (2 * streams.len()).max(16);
    if streams.len() < STREAMS_MAX { Ok(()) } else { Err(io::Error::other("too many streams")) }
}

/// Runs a stream; what is sent into it is what the peer says.
fn open_stream(
    service: Arc<dyn Service>,
    peer: Hello,
    kind: Kind,
    id: u64,
    replies: mpsc::Sender<Frame>,
) -> mpsc::Sender<Bytes> {
    let (tx, input) = mpsc::channel(STREAM_FRAMES_MAX);
    let (output, mut results) = mpsc::channel::<Vec<Bytes>>(STREAM_FRAMES_MAX);
    tokio::spawn(service.stream(peer, kind, Frames { input, output }));
    tokio::spawn(async move {
        while let Some(body) = results.recv().await {
            if replies.send(Frame { kind: Kind::Reply, id, body }).await.is_err() {
                return;
            }
        }
        let _ = replies.send(Frame { kind: Kind::Error, id, body: Vec::new() }).await;
    });
    tx
}

async fn answer(
    service: Arc<dyn Service>,
    peer: Hello,
    kind: Kind,
    id: u64,
    body: Bytes,
    replies: mpsc::Sender<Frame>,
) {
    let frame = match service.call(peer, kind, body).await {
        Ok(body) => Frame { kind: Kind::Reply, id, body },
        Err(e) => Frame { kind: Kind::Error, id, body: vec![Bytes::from(e.to_string())] },
    };
    let _ = replies.send(frame).await;
}
