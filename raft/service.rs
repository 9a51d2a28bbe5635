//! What a node answers to its peers.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use quoris_engine::codec;
use tokio::sync::mpsc;

use crate::admin;
use crate::changes;
use crate::events;
use crate::forward;
use crate::founding;
use crate::group::Group;
use crate::node::Node;
use crate::parcel;
use crate::seam::BoxFuture;
use crate::serve::{Frames, Service};
use crate::status::covering;
use crate::types::{GroupId, NodeId};
use crate::waiting;
use crate::wire::{self, Hello, Kind, SnapshotPiece, Target};

impl Node {
    /// The replica that a request of Raft is meant for. Another id would be another disk's.
    fn target(&self, target: Target) -> io::Result<Arc<Group>> {
        let group =
            self.group(target.group).ok_or_else(|| io::Error::other(format!("{} does not run here", target.group)))?;
        if group.replica.id != target.replica {
            return Err(io::Error::other(format!(
                "{} here is replica {}, not {}",
                target.group, group.replica.id, target.replica
            )));
        }
        Ok(group)
    }

    async fn answer(&self, kind: Kind, body: Bytes) -> io::Result<Vec<Bytes>> {
        match kind {
            Kind::Heartbeat => {
                let (head, entries) = wire::read_append(&body)?;
                self.target(head.target)?.on_heartbeat(head, entries).await
            }
            Kind::Vote | Kind::PreVote => {
                let message: wire::VoteMessage = wire::message(&body)?;
                self.target(message.target)?.on_vote(message, kind == Kind::PreVote).await
            }
            Kind::Transfer => {
                let message: wire::TransferMessage = wire::message(&body)?;
                self.target(message.target)?.on_transfer(message).await
            }
            Kind::SnapshotBegin => {
                let begin: wire::SnapshotBegin = wire::message(&body)?;
                self.target(begin.target)?.on_snapshot_begin(begin).await
            }
            Kind::SnapshotPiece => {
                let (head, at): (SnapshotPiece, usize) = codec::read(&body, "piece").map_err(io::Error::other)?;
                self.target(head.target)?.on_snapshot_piece(head, body.slice(at..)).await
            }
            Kind::SnapshotEnd => {
                let begin: wire::SnapshotBegin = wire::message(&body)?;
                self.target(begin.target)?.on_snapshot_end(begin).await
            }
            Kind::Forward => {
                let group = parcel::group_of(&body)?;
                let group = self.group(group).ok_or_else(|| io::Error::other(format!("{group} does not run here")))?;
                forward::serve(&group, &body).await
            }
            Kind::Progress => {
                let (group, index): (GroupId, u64) = wire::message(&body)?;
                let covered = self.group(group).filter(|g| g.leads()).map_or(0, |g| covering(&g, index));
                Ok(vec![wire::part(&(covered as u64))])
            }
            Kind::Digest => {
                let (target, index): (Target, u64) = wire::message(&body)?;
                Ok(vec![wire::part(&self.target(target)?.digest_at(index).await)])
            }
            Kind::LeadWanted => self.on_lead_wanted(wire::message(&body)?).await,
            Kind::Clock => Ok(vec![wire::part(&self.target(wire::message(&body)?)?.times())]),
            Kind::SnapshotWanted => {
                let wanted: wire::SnapshotWanted = wire::message(&body)?;
                let id = wanted.target.group;
                let group = self.group(id).ok_or_else(|| io::Error::other(format!("{id} does not run here")))?;
                Ok(vec![wire::part(&group.on_snapshot_wanted(self, wanted).await?)])
            }
            Kind::EventsNow => {
                let id: GroupId = wire::message(&body)?;
                let group = self.group(id).ok_or_else(|| io::Error::other(format!("{id} does not run here")))?;
                Ok(vec![wire::part(&group.position_now().await?)])
            }
            Kind::Topology => self.pulse(wire::message(&body)?).map(|pulse| vec![wire::part(&pulse)]),
            Kind::Probe => Ok(vec![wire::part(&founding::own_probe(self))]),
            Kind::Adopt => founding::on_adopt(self, wire::message(&body)?).map(|()| Vec::new()),
            Kind::Cluster => Ok(vec![wire::part(&self.on_question(wire::message(&body)?).await?)]),
            Kind::Hello
            | Kind::Reply
            | Kind::Error
            | Kind::Append
            | Kind::Wait
            | Kind::Events
            | Kind::Interest
            | Kind::Changes
            | Kind::Listeners
            | Kind::CloseStream => Err(io::Error::other(format!("{kind:?} is no request"))),
        }
    }

    async fn take_appends(&self, mut input: mpsc::Receiver<Bytes>, output: mpsc::Sender<Vec<Bytes>>) {
        let Some(first) = input.recv().await else { return };
        let found =
            wire::read_append(&first).and_then(|(head, entries)| Ok((self.target(head.target)?, head, entries)));
        match found {
            Ok((group, head, entries)) => group.on_append_stream((head, entries), input, output).await,
            Err(e) => {
                let failed = wire::part(&wire::AppendReply::Failed(e.to_string()));
                let _ = output.send(vec![failed]).await;
            }
        }
    }
}

impl Service for Node {
    fn call(self: Arc<Self>, peer: Hello, kind: Kind, body: Bytes) -> BoxFuture<io::Result<Vec<Bytes>>> {
        Box::pin(async move {
            // A node that belongs to nothing may ask, and be told; nothing else.
            let joins = peer.node == NodeId(0) && kind == Kind::Cluster && admin::is_join(&body);
            if self.id() == NodeId(0) && !matches!(kind, Kind::Probe | Kind::Adopt) {
                return Err(io::Error::other("no cluster yet"));
            }
            if !joins && !peer.may_ask(kind) {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{} may not ask this", peer.node)));
            }
            self.answer(kind, body).await
        })
    }

    fn lost(self: Arc<Self>, peer: Hello) -> BoxFuture<()> {
        Box::pin(Node::clone(&self).peer_lost(peer))
    }

    fn stream(self: Arc<Self>, peer: Hello, kind: Kind, frames: Frames) -> BoxFuture<()> {
        let Frames { input, output } = frames;
        match kind {
            Kind::Wait => Box::pin(async move { waiting::serve(&self, input, output).await }),
            Kind::Events => Box::pin(async move { events::serve(&self, input, output).await }),
            Kind::Changes => Box::pin(async move { changes::serve(&self, input, output).await }),
            Kind::Interest => Box::pin(async move {
                self.interest().hear(peer.node, input).await;
                // Until here: to whoever tells, the stream would have ended with it.
                drop(output);
            }),
            Kind::Listeners => Box::pin(async move { self.interest().relay(peer.node, input, output).await }),
            _ => Box::pin(async move { self.take_appends(input, output).await }),
        }
    }
}
