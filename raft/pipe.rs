//! One stream of pipelined appends to one replica, and what openraft may be told of its replies.
//!
//! openraft takes a reply for every request up to the index that it names, and counts the time at which the last
//! of them was sent as heard by the peer. A request without entries, which only carries a commit index, has the
//! index of the one before it. So the reply to the one before would stand for it as well: a peer that has long
//! elected another leader would confirm a read, by an answer that it gave before. Such a reply is kept back; that
//! of the last request with its index says the same, and is true.
//!
//! Invariant: when a reply is handed on, every request that was sent up to its index has been answered.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::errors::RPCError;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::link::Connection;
use crate::network::{network, unreachable};
use crate::types::{LogId, TypeConfig};
use crate::wire::{self, AppendReply, Frame, Kind};

/// Appends of one stream that are on their way; more would only fill queues.
const IN_FLIGHT_MAX: usize = 64;

/// A request of openraft.
pub type Request = AppendEntriesRequest<TypeConfig>;
/// A reply, as openraft wants it.
pub type PipeItem = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// Makes an append what goes on the wire.
pub type Encode = Box<dyn Fn(&Request) -> Vec<Bytes> + Send>;

/// A reply as it came.
pub fn read_reply(body: &Bytes) -> PipeItem {
    match wire::message::<AppendReply>(body).map_err(|e| network(&e))? {
        AppendReply::Flushed(upto) => Ok(Ok(upto.map(Into::into))),
        AppendReply::Conflict(at) => Ok(Err(StreamAppendError::Conflict(at.into()))),
        AppendReply::HigherVote(vote) => Ok(Err(StreamAppendError::HigherVote(vote.into()))),
        // It is asked again after a pause, as one that cannot be reached.
        AppendReply::Failed(text) => Err(unreachable(&io::Error::other(text))),
    }
}

/// The two ends of the stream; dropping it closes the stream.
pub struct Pipe<S> {
    input: Option<S>,
    connection: Arc<Connection>,
    id: u64,
    replies: UnboundedReceiver<Bytes>,
    /// The last log id of each request that has no reply yet.
    in_flight: VecDeque<Option<LogId>>,
    encode: Encode,
}

impl<S> Drop for Pipe<S> {
    fn drop(&mut self) {
        self.connection.close_stream(self.id);
    }
}

impl<S: Stream<Item = Request> + Unpin> Pipe<S> {
    /// Opens a stream and sends its first request.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn open(
        connection: Arc<Connection>,
        encode: Encode,
        first: Request,
        input: S,
    ) -> Result<Pipe<S>, RPCError<TypeConfig>> {
        let (id, replies) = connection.open_stream().map_err(|e| network(&e))?;
        let in_flight = VecDeque::new();
        let mut pipe = Pipe { input: Some(input), connection, id, replies, in_flight, encode };
        pipe.send(&first).await?;
        Ok(pipe)
    }

    async fn send(&mut self, request: &Request) -> Result<(), RPCError<TypeConfig>> {
        self.in_flight.push_back(request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id));
        let body = (self.encode)(request);
        self.connection.send(Frame { kind: Kind::Append, id: self.id, body }).await.map_err(|e| network(&e))
    }

    /// Sends what comes in while there is room, and returns the next reply that may be handed on.
    pub async fn next(&mut self) -> Option<PipeItem> {
        loop {
            if self.input.is_none() && self.in_flight.is_empty() {
                return None;
            }
            let room = self.in_flight.len() < IN_FLIGHT_MAX;
            let Pipe { input, replies, .. } = self;
            let next_input = async {
                match input.as_mut().filter(|_| room) {
                    Some(input) => input.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                reply = replies.recv() => {
                    self.in_flight.pop_front();
                    let ended = || Err(network(&io::Error::other("the peer ended the stream")));
                    let item = reply.map_or_else(ended, |body| read_reply(&body));
                    if !self.stands_for_more(&item) {
                        return Some(item);
                    }
                }
                request = next_input => match request {
                    Some(request) => {
                        if let Err(e) = self.send(&request).await {
                            return Some(Err(e));
                        }
                    }
                    None => self.input = None,
                },
            }
        }
    }

    /// Whether openraft would take the reply for one to a request that has none yet.
    fn stands_for_more(&self, item: &PipeItem) -> bool {
        match (item, self.in_flight.front()) {
            (Ok(Ok(upto)), Some(next)) => next <= upto,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::BytesMut;
    use openraft::vote::{RaftLeaderId, RaftVote};
    use tokio::io::{AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::link::start;
    use crate::types::{Entry, NodeId, Payload, Vote};
    use crate::wire::{Hello, read_frame};

    fn id(index: u64) -> LogId {
        LogId::new(RaftLeaderId::new(1, 1), index)
    }

    /// The entry at `index`, or, without it, the news that everything up to there is committed.
    fn request(index: u64, entry: bool) -> Request {
        let entries = entry.then(|| Entry { log_id: id(index), payload: Payload::Blank }).into_iter().collect();
        let vote = Vote::from_leader_id(RaftLeaderId::new(1, 1), true);
        let previous = Some(id(if entry { index - 1 } else { index }));
        Request { vote, prev_log_id: previous, entries, leader_commit: previous }
    }

    /// Takes the next request and answers it.
    async fn answer(peer: &mut DuplexStream, buffer: &mut BytesMut, upto: u64) {
        let asked = read_frame(peer, buffer).await.expect("a frame").expect("one more");
        assert_eq!(asked.kind, Kind::Append);
        let body = vec![wire::part(&AppendReply::Flushed(Some(id(upto).into())))];
        let reply = Frame { kind: Kind::Reply, id: asked.id, body };
        peer.write_all(&reply.head()).await.expect("the other end is there");
        peer.write_all(&reply.body[0]).await.expect("the other end is there");
    }

    #[tokio::test]
    async fn a_reply_is_not_taken_for_that_to_a_later_request() {
        let (own, mut peer) = tokio::io::duplex(1 << 16);
        let (name, client_addr) = (String::new(), String::new());
        let hello = Hello { cluster: 1, name, node: NodeId(2), boot: 1, client_addr, lives: Default::default() };
        let connection = Arc::new(start(Box::new(own), BytesMut::new(), hello));
        let input = futures_util::stream::iter([request(7, false), request(8, true)]);
        let input = input.chain(futures_util::stream::pending());
        let pipe = Pipe::open(connection, Box::new(|_| vec![Bytes::from_static(b"append")]), request(7, true), input);
        let mut pipe = pipe.await.expect("the connection is open");
        // All three are sent before the first is answered.
        let early = tokio::time::timeout(Duration::from_millis(20), pipe.next()).await;
        assert!(early.is_err(), "nothing is answered yet");
        let mut buffer = BytesMut::new();
        answer(&mut peer, &mut buffer, 7).await;
        let first = tokio::time::timeout(Duration::from_millis(100), pipe.next()).await;
        assert!(first.is_err(), "openraft would count the second request as answered");
        answer(&mut peer, &mut buffer, 7).await;
        assert!(matches!(pipe.next().await, Some(Ok(Ok(upto))) if upto == Some(id(7))));
        answer(&mut peer, &mut buffer, 8).await;
        assert!(matches!(pipe.next().await, Some(Ok(Ok(upto))) if upto == Some(id(8))));
    }
}
