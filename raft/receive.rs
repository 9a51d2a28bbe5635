//! The receiving side of Raft's requests, for one replica.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest};
use tokio::sync::{Mutex, mpsc};

use crate::group::Group;
use crate::record::VoteRecord;
use crate::replica::SnapshotFile;
use crate::seam::SnapshotSink;
use crate::types::{Entry, SnapshotMeta, TypeConfig};
use crate::wire::{
    self, AppendHead, AppendReply, SnapshotBegin, SnapshotPiece, TransferMessage, VoteMessage, VoteReply,
};

/// The snapshot that is arriving, if one is.
#[derive(Default)]
pub struct Receiving(Mutex<Option<Partial>>);

struct Partial {
    name: String,
    bytes: u64,
    at: u64,
    sink: Option<Box<dyn SnapshotSink>>,
}

fn request(head: &AppendHead, entries: Vec<Entry>) -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest {
        vote: head.vote.into(),
        prev_log_id: head.previous.map(Into::into),
        entries,
        leader_commit: head.commit.map(Into::into),
    }
}

fn reply(result: StreamAppendResult<TypeConfig>) -> AppendReply {
    match result {
        Ok(upto) => AppendReply::Flushed(upto.map(Into::into)),
        Err(StreamAppendError::Conflict(at)) => AppendReply::Conflict(at.into()),
        Err(StreamAppendError::HigherVote(vote)) => AppendReply::HigherVote(vote.into()),
    }
}

impl Group {
    /// The leader's clock counts only if its append was accepted as that of a leader.
    fn hear(&self, head: &AppendHead, result: &StreamAppendResult<TypeConfig>) {
        if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
            self.replica.clock.hear(head.vote.leader(), head.clock);
        }
    }

    /// Notes that a leader was heard, before Raft takes its append. One whose vote is lower than the own will be
    /// refused and means nothing.
    fn hear_leader(&self, vote: VoteRecord) {
        if vote.leader() >= self.log.vote() {
            self.replica.window.hear();
        }
    }

    /// One append outside a stream.
    ///
    /// # Errors
    /// When the replica has stopped.
    pub async fn on_heartbeat(&self, head: AppendHead, entries: Vec<Entry>) -> io::Result<Vec<Bytes>> {
        self.hear_leader(head.vote);
        let request = request(&head, entries);
        let (previous, last) = (request.prev_log_id, request.entries.last().map(|e| e.log_id).or(request.prev_log_id));
        let response = self.raft.append_entries(request).await.map_err(io::Error::other)?;
        let result = response.into_stream_result(previous, last);
        self.hear(&head, &result);
        Ok(vec![wire::part(&reply(result))])
    }

    /// The appends of one stream, in order; `first` was read to find the group.
    pub async fn on_append_stream(
        self: Arc<Group>,
        first: (AppendHead, Vec<Entry>),
        mut input: mpsc::Receiver<Bytes>,
        output: mpsc::Sender<Vec<Bytes>>,
    ) {
        let (requests, queue) = mpsc::channel(64);
        let group = self.clone();
        let target = first.0.target.replica;
        let (room, refusals) = (self.room.clone(), output.clone());
        let feed = async move {
            let mut next = Some(first);
            while let Some((head, entries)) = next {
                if head.target.replica != target {
                    return;
                }
                group.replica.clock.hear(head.vote.leader(), head.clock);
                group.hear_leader(head.vote);
                if room.refuses(&entries) {
                    let failed = AppendReply::Failed("the disk has no room for entries".to_string());
                    let _ = refusals.send(vec![wire::part(&failed)]).await;
                    return;
                }
                if requests.send(request(&head, entries)).await.is_err() {
                    return;
                }
                next = match input.recv().await {
                    Some(body) => wire::read_append(&body).ok(),
                    None => None,
                };
            }
        };
        let queue = futures_util::stream::unfold(queue, |mut queue| async move { Some((queue.recv().await?, queue)) });
        let results = self.raft.stream_append(Box::pin(queue));
        let answer = async move {
            let mut results = std::pin::pin!(results);
            while let Some(result) = results.next().await {
                let message = match result {
                    Ok(result) => reply(result),
                    Err(fatal) => AppendReply::Failed(fatal.to_string()),
                };
                if output.send(vec![wire::part(&message)]).await.is_err() {
                    return;
                }
            }
        };
        // The answers end behind the last request, or when the replica stops: then the leader must hear of it,
        // also when it has nothing more to send.
        let feed = async {
            feed.await;
            std::future::pending().await
        };
        tokio::select! {
            biased;
            () = answer => {}
            () = feed => {}
        }
    }

    /// RequestVote, or its rehearsal: after the own window, and with the own lease revoked.
    ///
    /// # Errors
    /// When the replica has stopped, or a leader was heard a moment ago.
    pub async fn on_vote(&self, message: VoteMessage, rehearsal: bool) -> io::Result<Vec<Bytes>> {
        let leader_lives = || io::Error::other("a leader was heard a moment ago");
        let heard = self.replica.window.over().await.ok_or_else(leader_lives)?;
        let _hold = self.replica.lease.hold();
        let request = VoteRequest {
            vote: message.vote.into(),
            last_log_id: message.last.map(Into::into),
            leadership_transfer: message.transfer,
        };
        let response = if rehearsal { self.raft.pre_vote(request).await } else { self.raft.vote(request).await };
        let response = response.map_err(io::Error::other)?;
        if response.vote_granted && self.replica.window.count() != heard {
            // Raft may have taken that append before it gave this vote: the vote gets lost on its way.
            return Err(leader_lives());
        }
        let last = response.last_log_id.map(Into::into);
        let (vote, granted, clock) = (response.vote.into(), response.vote_granted, self.replica.clock.told());
        Ok(vec![wire::part(&VoteReply { vote, granted, last, clock })])
    }

    /// The leader hands over, perhaps to this replica.
    ///
    /// # Errors
    /// When the replica has stopped.
    pub async fn on_transfer(&self, message: TransferMessage) -> io::Result<Vec<Bytes>> {
        if self.replica.is_quarantined() {
            return Err(io::Error::other("this replica is in quarantine"));
        }
        let request = TransferLeaderRequest::new(message.from.into(), message.to, message.last.map(Into::into));
        self.raft.handle_transfer_leader(request).await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        Ok(Vec::new())
    }

    /// A snapshot begins; answers from which byte on it is needed.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn on_snapshot_begin(&self, begin: SnapshotBegin) -> io::Result<Vec<Bytes>> {
        let mut partial = self.receiving.0.lock().await;
        if partial.as_ref().is_none_or(|p| p.name != begin.name || p.bytes != begin.bytes || p.sink.is_none()) {
            let sink = self.replica.seams.disk.create_snapshot(self.replica.group, &begin.name)?;
            tracing::info!(
                group = self.replica.group.0,
                name = begin.name,
                bytes = begin.bytes,
                "receiving a snapshot"
            );
            *partial = Some(Partial { name: begin.name, bytes: begin.bytes, at: 0, sink: Some(sink) });
        }
        Ok(vec![wire::part(&partial.as_ref().map_or(0, |p| p.at))])
    }

    /// The next piece.
    ///
    /// # Errors
    /// When it is not the next piece, or the disk fails.
    pub async fn on_snapshot_piece(&self, head: SnapshotPiece, piece: Bytes) -> io::Result<Vec<Bytes>> {
        let mut slot = self.receiving.0.lock().await;
        let partial = slot.as_mut().filter(|p| p.name == head.name && p.at == head.at);
        let partial = partial
            .ok_or_else(|| io::Error::other(format!("a piece of {} at {} was not expected", head.name, head.at)))?;
        let mut sink = partial.sink.take().ok_or_else(|| io::Error::other("the snapshot file failed"))?;
        let len = piece.len() as u64;
        let sink = self.replica.seams.blocking(move || sink.write(&piece).map(|()| sink)).await??;
        partial.sink = Some(sink);
        partial.at += len;
        Ok(Vec::new())
    }

    /// All pieces are there: makes the file durable and hands it to Raft.
    ///
    /// # Errors
    /// When bytes are missing, or the disk or the snapshot fails.
    pub async fn on_snapshot_end(&self, begin: SnapshotBegin) -> io::Result<Vec<Bytes>> {
        let partial = self.receiving.0.lock().await.take();
        let partial = partial.filter(|p| p.name == begin.name && p.at == begin.bytes);
        let sink = partial.and_then(|p| p.sink).ok_or_else(|| io::Error::other("the snapshot is not complete"))?;
        self.replica.seams.blocking(move || sink.finish()).await??;
        let meta = SnapshotMeta { last_log_id: Some(begin.log_id.into()), last_membership: begin.membership.stored()? };
        let own_vote = |g: &Group| g.metrics().vote;
        let committed = self.metrics().local_committed;
        if committed.is_some_and(|c| c.index >= begin.log_id.index) || self.replica.is_quarantined() {
            // openraft asserts that a snapshot is ahead; one that is not is simply not needed. A replica in
            // quarantine wants the file, to start from it.
            return Ok(vec![wire::part(&VoteRecord::from(own_vote(self)))]);
        }
        let file = SnapshotFile { meta: meta.clone(), name: begin.name, bytes: begin.bytes };
        let snapshot = openraft::Snapshot { meta, snapshot: file };
        self.hear_leader(begin.vote);
        let response = self.raft.install_full_snapshot(begin.vote.into(), snapshot).await.map_err(io::Error::other)?;
        Ok(vec![wire::part(&VoteRecord::from(response.vote))])
    }
}
