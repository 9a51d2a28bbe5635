//! Shipping a snapshot to a replica that lags too far behind for the log.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use openraft::errors::RPCError;
use openraft::raft::SnapshotResponse;

use crate::link::Lane;
use crate::network::{Client, network};
use crate::snapshot::Snapshot;
use crate::types::{TypeConfig, Vote};
use crate::wire::{self, Kind, SnapshotBegin, SnapshotPiece};

/// Bytes of one piece of a snapshot.
const PIECE_BYTES: usize = 1 << 20;

impl Client {
    /// Sends a snapshot file in pieces, from where the receiver has it, and has it installed.
    pub(crate) async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<TypeConfig>, RPCError<TypeConfig>> {
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
        let (_, mut source) =
            self.replica.seams.disk.open_snapshot(self.target.group, &file.name).map_err(|e| network(&e))?;
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
