//! openraft's view of the network: the messages of one group to one replica, over the shared lanes.
//!
//! Entries flow through a stream of pipelined appends; heartbeats, votes and snapshots have lanes of
//! their own. Every append carries the leader's clock of the group.

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
    AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use crate::link::{Connection, Lane, Links};
use crate::pipe::{Pipe, PipeItem, Request, read_reply};
use crate::replica::{Replica, SnapshotFile};
use crate::snapshot::Snapshot;
use crate::types::{Member, NodeId, TypeConfig, Vote};
use crate::wire::{self, AppendHead, Kind, Target, TransferMessage, VoteMessage, VoteReply};

/// Makes the clients of one group.
pub struct Factory {
    /// Who sends.
    pub replica: Arc<Replica>,
    /// Lanes to the peers.
    pub links: Arc<Links>,
}

/// Sends to one replica of one group.
pub struct Client {
    pub(crate) target: Target,
    pub(crate) replica: Arc<Replica>,
    node: NodeId,
    append_lane: Lane,
    links: Arc<Links>,
}

impl Factory {
    pub(crate) fn client(&self, replica: u64, member: &Member, append_lane: Lane) -> Client {
        Client {
            target: Target { group: self.replica.group, replica },
            replica: self.replica.clone(),
            node: NodeId(member.node),
            append_lane,
            links: self.links.clone(),
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

pub(crate) fn unreachable(e: &io::Error) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(e))
}

pub(crate) fn network(e: &io::Error) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(e))
}

impl Client {
    pub(crate) async fn connect(&self, lane: Lane) -> Result<Arc<Connection>, RPCError<TypeConfig>> {
        self.links.connection(self.node, lane).await.map_err(|e| unreachable(&e))
    }

    async fn call(
        &self,
        lane: Lane,
        kind: Kind,
        body: Vec<Bytes>,
        ttl: Duration,
        what: RPCTypes,
    ) -> Result<Bytes, RPCError<TypeConfig>> {
        let call = async {
            let connection = self.connect(lane).await?;
            connection.call(kind, body).await.map_err(|e| network(&e))
        };
        let timeout = || {
            RPCError::Timeout(Timeout { action: what, id: self.replica.id, target: self.target.replica, timeout: ttl })
        };
        tokio::time::timeout(ttl, call).await.map_err(|_| timeout())?
    }

    fn append_parts(&self, request: &Request) -> Vec<Bytes> {
        append_parts(self.target, &self.replica, request)
    }
}

fn append_parts(target: Target, replica: &Replica, request: &Request) -> Vec<Bytes> {
    replica.lease.tell(request.leader_commit.map_or(0, |id| id.index));
    let head = AppendHead {
        target,
        vote: request.vote.into(),
        previous: request.prev_log_id.map(Into::into),
        commit: request.leader_commit.map(Into::into),
        clock: replica.clock.told(),
        first: 0,
        lengths: Vec::new(),
    };
    wire::append_parts(head, &request.entries)
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: Request,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = self.append_parts(&rpc);
        let reply =
            self.call(self.append_lane, Kind::Heartbeat, body, option.hard_ttl(), RPCTypes::AppendEntries).await?;
        Ok(read_reply(&reply)?.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, PipeItem>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = Request> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            if self.append_lane == Lane::Control {
                let one_by_one = stream::once(async move {
                    let request = input.next().await?;
                    let body = self.append_parts(&request);
                    let reply = self
                        .call(Lane::Control, Kind::Heartbeat, body, option.hard_ttl(), RPCTypes::AppendEntries)
                        .await;
                    Some(reply.and_then(|r| read_reply(&r)))
                });
                let items: BoxStream<'s, PipeItem> = Box::pin(one_by_one.filter_map(|item| async { item }));
                return Ok(items);
            }
            let items = stream::once(self.open(input)).flat_map(|opened| -> BoxStream<'s, PipeItem> {
                match opened {
                    Ok(Some(pipe)) => {
                        Box::pin(stream::unfold(pipe, |mut pipe| async move { Some((pipe.next().await?, pipe)) }))
                    }
                    Ok(None) => Box::pin(stream::empty()),
                    Err(e) => Box::pin(stream::once(async { Err(e) })),
                }
            });
            let items: BoxStream<'s, PipeItem> = Box::pin(items);
            Ok(items)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(Kind::Vote, rpc, option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
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

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        // Whoever is told may lead from now on.
        self.replica.lease.revoke();
        let message = TransferMessage {
            target: self.target,
            from: (*request.from_leader()).into(),
            to: *request.to_node_id(),
            last: request.last_log_id().map(|id| (*id).into()),
        };
        self.call(
            Lane::Control,
            Kind::Transfer,
            vec![wire::part(&message)],
            option.hard_ttl(),
            RPCTypes::TransferLeader,
        )
        .await?;
        Ok(Ok(()))
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(Duration::from_millis(50))))
    }
}

impl Client {
    /// Opens a stream of appends and sends the first one; nothing when there is none.
    ///
    /// The input is asked before the peer is: openraft waits for its backoff inside the input. Asked the
    /// other way round, an unreachable peer is tried again without any pause.
    async fn open<S: Stream<Item = Request> + Unpin>(
        &self,
        mut input: S,
    ) -> Result<Option<Pipe<S>>, RPCError<TypeConfig>> {
        let Some(first) = input.next().await else { return Ok(None) };
        let connection = self.connect(self.append_lane).await?;
        let (target, replica) = (self.target, self.replica.clone());
        let encode = Box::new(move |request: &Request| append_parts(target, &replica, request));
        Pipe::open(connection, encode, first, input).await.map(Some)
    }

    async fn ask_vote(
        &self,
        kind: Kind,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        // A candidate votes for itself, so it waits as every voter does; by now it takes no more appends of
        // the leader before.
        if self.replica.window.over().await.is_none() {
            return Err(network(&io::Error::other("a leader was heard a moment ago")));
        }
        let message = VoteMessage {
            target: self.target,
            vote: rpc.vote.into(),
            last: rpc.last_log_id.map(Into::into),
            transfer: rpc.leadership_transfer,
        };
        let reply =
            self.call(Lane::Control, kind, vec![wire::part(&message)], option.hard_ttl(), RPCTypes::Vote).await?;
        let reply: VoteReply = wire::message(&reply).map_err(|e| network(&e))?;
        if reply.granted && kind == Kind::Vote {
            self.replica.clock.hear_voter(message.vote.leader().0, reply.clock);
        }
        Ok(VoteResponse {
            vote: reply.vote.into(),
            vote_granted: reply.granted,
            last_log_id: reply.last.map(Into::into),
        })
    }
}
