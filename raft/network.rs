//! openraft's view of the network: the messages of one group to one replica, over the shared lanes.
//!
//! Entries flow through a stream of pipelined appends; heartbeats, votes and snapshots have lanes of
//! their own. Every append carries the leader's clock of the group.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{Backoff, RPCOption, RPCTypes};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use crate::clock::GroupClock;
use crate::link::{Connection, Lane, Links};
use crate::replica::SnapshotFile;
use crate::seam::Disk;
use crate::snapshot::Snapshot;
use crate::types::{GroupId, Member, NodeId, TypeConfig, Vote};
use crate::wire::{self, AppendHead, AppendReply, Frame, Kind, SnapshotBegin, SnapshotPiece, Target, TransferMessage, VoteMessage, VoteReply};

/// Appends of one stream that are on their way; more would only fill queues.
const IN_FLIGHT_MAX: usize = 64;
/// Bytes of one piece of a snapshot.
const PIECE_BYTES: usize = 1 << 20;

/// Makes the clients of one group.
pub struct Factory {
    /// The group.
    pub group: GroupId,
    /// The own replica's id.
    pub own: u64,
    /// Lanes to the peers.
    pub links: Arc<Links>,
    /// The group's clock.
    pub clock: Arc<GroupClock>,
    /// Where snapshots are.
    pub disk: Arc<dyn Disk>,
}

/// Sends to one replica of one group.
pub struct Client {
    target: Target,
    own: u64,
    node: NodeId,
    append_lane: Lane,
    links: Arc<Links>,
    clock: Arc<GroupClock>,
    disk: Arc<dyn Disk>,
}

impl Factory {
    fn client(&self, replica: u64, member: &Member, append_lane: Lane) -> Client {
        Client {
            target: Target { group: self.group, replica },
            own: self.own,
            node: NodeId(member.node),
            append_lane,
            links: self.links.clone(),
            clock: self.clock.clone(),
            disk: self.disk.clone(),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &Member) -> Client {
        self.client(target, node, Lane::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Client {
        self.client(target, node, Lane::Control)
    }
}

fn unreachable(e: &io::Error) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(e))
}

fn network(e: &io::Error) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(e))
}

impl Client {
    async fn connect(&self, lane: Lane) -> Result<Arc<Connection>, RPCError<TypeConfig>> {
        self.links.connection(self.node, lane).await.map_err(|e| unreachable(&e))
    }

    async fn call(&self, lane: Lane, kind: Kind, body: Vec<Bytes>, ttl: Duration, what: RPCTypes) -> Result<Bytes, RPCError<TypeConfig>> {
        let call = async {
            let connection = self.connect(lane).await?;
            connection.call(kind, body).await.map_err(|e| network(&e))
        };
        let timeout = || RPCError::Timeout(Timeout { action: what, id: self.own, target: self.target.replica, timeout: ttl });
        tokio::time::timeout(ttl, call).await.map_err(|_| timeout())?
    }

    fn append_parts(&self, request: &AppendEntriesRequest<TypeConfig>) -> Vec<Bytes> {
        append_parts(self.target, &self.clock, request)
    }
}

fn append_parts(target: Target, clock: &GroupClock, request: &AppendEntriesRequest<TypeConfig>) -> Vec<Bytes> {
    let head = AppendHead {
        target,
        vote: request.vote.into(),
        previous: request.prev_log_id.map(Into::into),
        commit: request.leader_commit.map(Into::into),
        clock_ms: clock.now_ms(),
        first: 0,
        lengths: Vec::new(),
    };
    wire::append_parts(head, &request.entries)
}

fn read_reply(body: &Bytes) -> Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>> {
    match wire::message::<AppendReply>(body).map_err(|e| network(&e))? {
        AppendReply::Flushed(upto) => Ok(Ok(upto.map(Into::into))),
        AppendReply::Conflict(at) => Ok(Err(StreamAppendError::Conflict(at.into()))),
        AppendReply::HigherVote(vote) => Ok(Err(StreamAppendError::HigherVote(vote.into()))),
        AppendReply::Failed(text) => Err(network(&io::Error::other(text))),
    }
}

/// The two ends of one stream of appends; dropping it closes the stream.
struct Pipe<S> {
    input: Option<S>,
    connection: Arc<Connection>,
    id: u64,
    replies: tokio::sync::mpsc::UnboundedReceiver<Bytes>,
    in_flight: usize,
    target: Target,
    clock: Arc<GroupClock>,
}

impl<S> Drop for Pipe<S> {
    fn drop(&mut self) {
        self.connection.close_stream(self.id);
    }
}

type PipeItem = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

impl<S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin> Pipe<S> {
    /// Sends what comes in while there is room, and returns the next reply.
    async fn next(&mut self) -> Option<PipeItem> {
        loop {
            if self.input.is_none() && self.in_flight == 0 {
                return None;
            }
            let room = self.in_flight < IN_FLIGHT_MAX;
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
                    self.in_flight = self.in_flight.saturating_sub(1);
                    return Some(match reply {
                        Some(body) => read_reply(&body),
                        None => Err(network(&io::Error::other("the peer ended the stream"))),
                    });
                }
                request = next_input => match request {
                    Some(request) => {
                        self.in_flight += 1;
                        let body = append_parts(self.target, &self.clock, &request);
                        if let Err(e) = self.connection.send(Frame { kind: Kind::Append, id: self.id, body }).await {
                            return Some(Err(network(&e)));
                        }
                    }
                    None => self.input = None,
                },
            }
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotFile;

    async fn append_entries(&mut self, rpc: AppendEntriesRequest<TypeConfig>, option: RPCOption) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = self.append_parts(&rpc);
        let reply = self.call(self.append_lane, Kind::Heartbeat, body, option.hard_ttl(), RPCTypes::AppendEntries).await?;
        Ok(read_reply(&reply)?.into())
    }

    fn stream_append<'s, S>(&'s mut self, mut input: S, option: RPCOption) -> BoxFuture<'s, Result<BoxStream<'s, PipeItem>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            if self.append_lane == Lane::Control {
                let one_by_one = stream::once(async move {
                    let request = input.next().await?;
                    let body = self.append_parts(&request);
                    let reply = self.call(Lane::Control, Kind::Heartbeat, body, option.hard_ttl(), RPCTypes::AppendEntries).await;
                    Some(reply.and_then(|r| read_reply(&r)))
                });
                let items: BoxStream<'s, PipeItem> = Box::pin(one_by_one.filter_map(|item| async { item }));
                return Ok(items);
            }
            // openraft waits after an error inside of `input`: asking it before connecting is what keeps a
            // peer that refuses at once from being tried again at once, without end.
            let piped = stream::once(async move {
                let Some(first) = input.next().await else { return stream::empty().boxed() };
                let opened = self.connect(self.append_lane).await;
                let opened = opened.and_then(|c| c.open_stream().map(|(id, replies)| (c, id, replies)).map_err(|e| network(&e)));
                let (connection, id, replies) = match opened {
                    Ok(opened) => opened,
                    Err(e) => return stream::once(std::future::ready(Err(e))).boxed(),
                };
                let input = Some(stream::once(std::future::ready(first)).chain(input));
                let pipe = Pipe { input, connection, id, replies, in_flight: 0, target: self.target, clock: self.clock.clone() };
                stream::unfold(pipe, |mut pipe| async move { Some((pipe.next().await?, pipe)) }).boxed()
            });
            let items: BoxStream<'s, PipeItem> = Box::pin(piped.flatten());
            Ok(items)
        })
    }

    async fn vote(&mut self, rpc: VoteRequest<TypeConfig>, option: RPCOption) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(Kind::Vote, rpc, option).await
    }

    async fn pre_vote(&mut self, rpc: VoteRequest<TypeConfig>, option: RPCOption) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(Kind::PreVote, rpc, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            result = self.send_snapshot(vote, snapshot) => result.map_err(StreamingError::from),
        }
    }

    async fn transfer_leader(&mut self, request: TransferLeaderRequest<TypeConfig>, option: RPCOption) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let message = TransferMessage {
            target: self.target,
            from: (*request.from_leader()).into(),
            to: *request.to_node_id(),
            last: request.last_log_id().map(|id| (*id).into()),
        };
        self.call(Lane::Control, Kind::Transfer, vec![wire::part(&message)], option.hard_ttl(), RPCTypes::TransferLeader).await?;
        Ok(Ok(()))
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(Duration::from_millis(50))))
    }
}

impl Client {
    async fn ask_vote(&self, kind: Kind, rpc: VoteRequest<TypeConfig>, option: RPCOption) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let message = VoteMessage { target: self.target, vote: rpc.vote.into(), last: rpc.last_log_id.map(Into::into), transfer: rpc.leadership_transfer };
        let reply = self.call(Lane::Control, kind, vec![wire::part(&message)], option.hard_ttl(), RPCTypes::Vote).await?;
        let reply: VoteReply = wire::message(&reply).map_err(|e| network(&e))?;
        Ok(VoteResponse { vote: reply.vote.into(), vote_granted: reply.granted, last_log_id: reply.last.map(Into::into) })
    }

    /// Sends a snapshot file in pieces, from where the receiver has it, and has it installed.
    async fn send_snapshot(&self, vote: Vote, snapshot: Snapshot) -> Result<SnapshotResponse<TypeConfig>, RPCError<TypeConfig>> {
        let file = snapshot.snapshot;
        let log_id = snapshot.meta.last_log_id.ok_or_else(|| network(&io::Error::other("a snapshot of nothing")))?;
        let connection = self.connect(Lane::Snapshot).await?;
        let begin = SnapshotBegin {
            target: self.target,
            vote: vote.into(),
            log_id: log_id.into(),
            membership: (&snapshot.meta.last_membership).into(),
            name: file.name.clone(),
            bytes: file.bytes,
        };
        let begin = vec![wire::part(&begin)];
        let reply = connection.call(Kind::SnapshotBegin, begin.clone()).await.map_err(|e| network(&e))?;
        let mut at: u64 = wire::message(&reply).map_err(|e| network(&e))?;
        let (_, mut source) = self.disk.open_snapshot(self.target.group, &file.name).map_err(|e| network(&e))?;
        source.seek(io::SeekFrom::Start(at)).map_err(|e| network(&e))?;
        let mut waiting: VecDeque<tokio::task::JoinHandle<io::Result<Bytes>>> = VecDeque::new();
        while at < file.bytes {
            let mut piece = vec![0; PIECE_BYTES.min((file.bytes - at) as usize)];
            source.read_exact(&mut piece).map_err(|e| network(&e))?;
            let head = SnapshotPiece { target: self.target, name: file.name.clone(), at };
            at += piece.len() as u64;
            let (connection, body) = (connection.clone(), vec![wire::part(&head), Bytes::from(piece)]);
            // One piece is written over there while the next one is on its way.
            if let Some(sent) = waiting.pop_front() {
                sent.await.map_err(|e| network(&io::Error::other(e)))?.map_err(|e| network(&e))?;
            }
            waiting.push_back(tokio::spawn(async move { connection.call(Kind::SnapshotPiece, body).await }));
        }
        for sent in waiting {
            sent.await.map_err(|e| network(&io::Error::other(e)))?.map_err(|e| network(&e))?;
        }
        let reply = connection.call(Kind::SnapshotEnd, begin).await.map_err(|e| network(&e))?;
        let vote: crate::record::VoteRecord = wire::message(&reply).map_err(|e| network(&e))?;
        Ok(SnapshotResponse::new(vote.into()))
    }
}
