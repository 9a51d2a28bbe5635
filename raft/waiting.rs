//! Waiting at a leader elsewhere: both ends of the stream between the nodes.
//!
//! A command that waits gets a stream of its own, so that it holds up no other request. The first frame carries the
//! command, as a forwarded batch of one with its mark; later ones ask for something. When the stream or the
//! connection ends, whoever waited has left.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use quoris_engine::codec;
use quoris_resp::{Argv, Reply};
use serde::{Deserialize, Serialize};
use smallvec::smallvec;
use tokio::sync::mpsc;

use crate::deliver::run_read;
use crate::forward::{self, Forwarded, Local};
use crate::group::Group;
use crate::link::{Connection, Lane};
use crate::node::Node;
use crate::parcel::{self, Parcel};
use crate::propose::Operation;
use crate::types::{GroupId, NodeId};
use crate::waiters::{Ended, Refused, Told, Waiting};
use crate::wire::{self, Frame, Kind};

impl Group {
    /// Registers a command that waits and has it tried; a read is tried at once.
    ///
    /// # Errors
    /// When this replica does not lead, too many wait, the disk has no room, or a read need not wait. `again`
    /// when it was sent before and may have taken something: then it is not refused.
    pub async fn arm(&self, operation: Operation, again: bool) -> Result<Waiting, Refused> {
        if !self.leads() {
            return Err(Refused::NotLeader);
        }
        let waiters = &self.replica.pending.waiters;
        if operation.write {
            if let Some(refusal) = self.room.refusal().filter(|_| !again) {
                return Err(Refused::Answered(Reply::error(refusal)));
            }
            return waiters.arm(operation).map_err(Refused::Answered);
        }
        self.confirm(std::slice::from_ref(&operation)).await.map_err(|_| Refused::NotLeader)?;
        let now_ms = self.replica.clock.now_ms();
        let mut engine = self.replica.engine.write();
        let reply = run_read(&engine, &operation, now_ms);
        if reply == Reply::Elsewhere {
            Err(Refused::NotLeader)
        } else if reply.is_null() {
            waiters.arm_read(operation, &mut engine).map_err(Refused::Answered)
        } else {
            Err(Refused::Answered(reply))
        }
    }
}

/// What the node that waits asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// To wait no longer.
    Stop,
    /// That the command counts as first sent now, if it has certainly taken nothing.
    Renew,
}

/// Head of what the leader says.
#[derive(Debug, Serialize, Deserialize)]
enum Head {
    /// The command as it has to be asked again may follow.
    Waits,
    Renewed(u64),
    Stopped,
    /// An answer follows, as to a forwarded batch.
    Answer,
}

/// What the leader says.
#[derive(Debug)]
pub enum Note {
    /// There is nothing yet; how a read has to be asked again.
    Waits(Option<Argv>),
    /// The command counts as first sent then, in the group's clock.
    Renewed(u64),
    /// It has stopped and taken nothing.
    Stopped,
    /// How it ended.
    Answer(Forwarded),
}

/// A command that waits at another node. Dropping it is leaving.
pub struct Remote {
    connection: Arc<Connection>,
    id: u64,
    notes: mpsc::UnboundedReceiver<Bytes>,
}

impl Remote {
    /// Sends the command; a write must carry a mark. `again` when it was sent before and may have taken something.
    ///
    /// # Errors
    /// When it was certainly not sent.
    pub async fn open(
        node: &Node,
        leader: NodeId,
        group: GroupId,
        operation: &Operation,
        again: bool,
    ) -> io::Result<Remote> {
        let connection = node.links().connection(leader, Lane::Wait).await?;
        let (id, notes) = connection.open_stream()?;
        let parcel = Parcel::new(std::slice::from_ref(operation), None, again);
        let remote = Remote { connection, id, notes };
        remote.send(Kind::Wait, parcel::request(group, std::iter::once(parcel))).await?;
        Ok(remote)
    }

    async fn send(&self, kind: Kind, body: Vec<Bytes>) -> io::Result<()> {
        self.connection.send(Frame { kind, id: self.id, body }).await
    }

    /// Asks the leader for something; that the connection has ended is heard from [`Remote::next`].
    pub async fn ask(&self, ask: Ask) {
        let _ = self.send(Kind::Wait, vec![wire::part(&ask)]).await;
    }

    /// What the leader says next; nothing when it can say no more.
    pub async fn next(&mut self) -> Option<Note> {
        read_note(&self.notes.recv().await?).ok()
    }
}

/// Reads what the leader says.
///
/// # Errors
/// When the bytes are no note.
pub fn read_note(body: &Bytes) -> io::Result<Note> {
    let (head, at): (Head, usize) = codec::read(body, "note").map_err(io::Error::other)?;
    Ok(match head {
        Head::Waits if at == body.len() => Note::Waits(None),
        Head::Waits => Note::Waits(Some(Argv::parse(body.slice(at..)).map_err(io::Error::other)?)),
        Head::Renewed(at_ms) => Note::Renewed(at_ms),
        Head::Stopped => Note::Stopped,
        Head::Answer => {
            let answer = forward::read_answer(&body.slice(at..))?.pop();
            Note::Answer(answer.ok_or_else(|| io::Error::other("an empty answer"))?)
        }
    })
}

impl Drop for Remote {
    fn drop(&mut self) {
        // It must arrive even when the queue is full now, or an element would be taken for nobody.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (connection, id) = (self.connection.clone(), self.id);
            runtime.spawn(async move {
                let _ = connection.send(Frame { kind: Kind::CloseStream, id, body: Vec::new() }).await;
            });
        }
    }
}

fn note(head: &Head) -> Vec<Bytes> {
    vec![wire::part(head)]
}

fn answer(group: &Group, local: Local) -> Vec<Bytes> {
    let mut parts = note(&Head::Answer);
    parts.extend(forward::answer(group, vec![(smallvec![true], local)]));
    parts
}

/// The leader's end of a stream.
pub async fn serve(node: &Node, mut input: mpsc::Receiver<Bytes>, output: mpsc::Sender<Vec<Bytes>>) {
    let Some(first) = input.recv().await else { return };
    let (group, operation, again) = match read(node, &first) {
        Ok(read) => read,
        Err(e) => return tracing::warn!(error = %e, "a waiting command cannot be read"),
    };
    let last = match group.arm(operation, again).await {
        Ok(waiting) => follow(&group, waiting, input, &output).await,
        Err(Refused::NotLeader) => Some(answer(&group, Local::NotLeader(Vec::new()))),
        Err(Refused::Answered(reply)) => Some(answer(&group, Local::Done(vec![reply], None, 0, Vec::new()))),
    };
    if let Some(last) = last {
        let _ = output.send(last).await;
    }
}

/// The command of a stream's first frame, its group, and whether it was sent before.
fn read(node: &Node, first: &Bytes) -> io::Result<(Arc<Group>, Operation, bool)> {
    let id = parcel::group_of(first)?;
    let group = node.group(id).ok_or_else(|| io::Error::other(format!("{id} does not run here")))?;
    let batches = parcel::read_request(first)?.into_iter();
    let mut operations = batches.flat_map(|(operations, _, again)| operations.into_iter().map(move |o| (o, again)));
    match (operations.next(), operations.next()) {
        (Some((operation, again)), None)
            if operation.command.waits.is_some()
                && !operation.transaction
                && operation.write == operation.command.is_write()
                && (operation.own.is_some() || !operation.write) =>
        {
            Ok((group, operation, again))
        }
        _ => Err(io::Error::other("not one command that waits, with a mark if it is a write")),
    }
}

/// Follows a command to its end; nothing when the one who waits has left.
async fn follow(
    group: &Group,
    mut waiting: Waiting,
    mut input: mpsc::Receiver<Bytes>,
    output: &mpsc::Sender<Vec<Bytes>>,
) -> Option<Vec<Bytes>> {
    loop {
        let said = tokio::select! {
            biased;
            told = waiting.next() => match told {
                Told::Waits(again) => {
                    let mut parts = note(&Head::Waits);
                    parts.extend(again.map(|argv| argv.frame().clone()));
                    Some(parts)
                }
                Told::Ended(Ended::Stopped) => return Some(note(&Head::Stopped)),
                Told::Ended(Ended::Reply(reply, at)) => {
                    return Some(answer(group, Local::Done(vec![reply], at, 0, Vec::new())));
                }
                Told::Ended(Ended::NotLeader) => return Some(answer(group, Local::NotLeader(Vec::new()))),
                Told::Ended(Ended::Unknown) => return Some(answer(group, Local::Unknown(""))),
            },
            asked = input.recv() => match wire::message(&asked?).ok()? {
                Ask::Stop => {
                    waiting.stop();
                    None
                }
                Ask::Renew => {
                    let now_ms = group.replica.clock.now_ms();
                    waiting.renew(now_ms).then(|| note(&Head::Renewed(now_ms)))
                }
            },
        };
        if let Some(said) = said {
            output.send(said).await.ok()?;
        }
    }
}
