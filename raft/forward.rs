//! Commands for a leader elsewhere, as messages.
//!
//! A forwarded batch carries its session and sequence numbers, so it can be sent again after a lost
//! reply or a failover: the leader's group answers a repeated command from its window.

use std::io;

use bytes::{Bytes, BytesMut};
use quoris_engine::codec;
use quoris_engine::command;
use quoris_engine::entry::SessionId;
use quoris_resp::{Argv, Protocol, Reply, ReplyDecoder, encode};
use serde::{Deserialize, Serialize};

use crate::group::Group;
use crate::propose::{Operation, Outcome, Stamp};
use crate::record::LogIdRecord;
use crate::types::{GroupId, NodeId};
use crate::wire;

/// Operations that one message may carry.
const OPERATIONS_MAX: usize = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    group: GroupId,
    stamp: Option<StampRecord>,
    operations: Vec<OperationRecord>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct StampRecord {
    session: SessionId,
    first_sequence: u64,
    acknowledged_below: u64,
    first_sent_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct OperationRecord {
    database: u32,
    user: u32,
    transaction: bool,
    write: bool,
    bytes: u32,
}

/// The leader's answer.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// Replies as RESP3, one behind the other, and where the last write stands.
    Done { count: u32, position: Option<LogIdRecord>, clock_ms: u64 },
    /// Nothing was executed; who leads, if known.
    NotLeader(Option<NodeId>),
    /// May have been executed.
    Unknown,
}

/// What a forwarded batch came to.
pub enum Forwarded {
    /// Replies, position of the last write, the leader's clock.
    Done(Vec<Reply>, Option<LogIdRecord>, u64),
    /// Nothing was executed there.
    NotLeader(Option<NodeId>),
    /// May have been executed; with a stamp it can be sent again.
    Unknown,
}

/// Encodes a batch; the argument bytes are not copied.
pub fn request(group: GroupId, operations: &[Operation], stamp: Option<Stamp>) -> Vec<Bytes> {
    let stamp = stamp.map(|s| StampRecord {
        session: s.session,
        first_sequence: s.first_sequence,
        acknowledged_below: s.acknowledged_below,
        first_sent_ms: s.first_sent_ms,
    });
    let records = operations.iter().map(|o| OperationRecord {
        database: o.database,
        user: o.user,
        transaction: o.transaction,
        write: o.write,
        bytes: o.argv.frame().len() as u32,
    });
    let head = Head { group, stamp, operations: records.collect() };
    let mut parts = vec![wire::part(&head)];
    parts.extend(operations.iter().map(|o| o.argv.frame().clone()));
    parts
}

/// The group that a request is for.
///
/// # Errors
/// When the bytes are no request.
pub fn group_of(body: &[u8]) -> io::Result<GroupId> {
    wire::message(body)
}

fn read_request(body: &Bytes) -> io::Result<(Vec<Operation>, Option<Stamp>)> {
    let (head, mut at): (Head, usize) = codec::read(body, "forwarded batch").map_err(io::Error::other)?;
    if head.operations.len() > OPERATIONS_MAX {
        return Err(io::Error::other(format!("a batch of {} operations", head.operations.len())));
    }
    let mut operations = Vec::with_capacity(head.operations.len());
    for record in head.operations {
        let end = at.checked_add(record.bytes as usize).filter(|end| *end <= body.len());
        let end = end.ok_or_else(|| io::Error::other("a batch ends within a command"))?;
        let argv = Argv::parse(body.slice(at..end)).map_err(io::Error::other)?;
        at = end;
        let found =
            if record.transaction { command::logged(&Argv::from_parts(&["EXEC"])) } else { command::logged(&argv) };
        let command = found.map_err(|e| io::Error::other(e.to_string()))?;
        let OperationRecord { database, user, transaction, write, .. } = record;
        operations.push(Operation { command, argv, database, user, transaction, write });
    }
    let stamp = head.stamp.map(|s| Stamp {
        session: s.session,
        first_sequence: s.first_sequence,
        acknowledged_below: s.acknowledged_below,
        first_sent_ms: s.first_sent_ms,
    });
    Ok((operations, stamp))
}

/// Runs a forwarded batch here, if this replica leads.
///
/// # Errors
/// When the bytes are no request.
pub async fn serve(group: &Group, body: &Bytes) -> io::Result<Vec<Bytes>> {
    let (operations, stamp) = read_request(body)?;
    let answer = match run_local(group, operations, stamp).await {
        Local::Done(replies, position) => {
            let mut encoded = BytesMut::new();
            replies.iter().for_each(|r| encode(r, Protocol::Internal, &mut encoded));
            let clock_ms = group.replica.clock.now_ms();
            let answer = Answer::Done { count: replies.len() as u32, position: position.map(Into::into), clock_ms };
            return Ok(vec![wire::part(&answer), encoded.freeze()]);
        }
        Local::NotLeader(_) => Answer::NotLeader(group.leader()),
        Local::Unknown(_) => Answer::Unknown,
    };
    Ok(vec![wire::part(&answer)])
}

/// Reads the leader's answer.
///
/// # Errors
/// When the bytes are no answer.
pub fn read_answer(body: &Bytes) -> io::Result<Forwarded> {
    let (answer, at): (Answer, usize) = codec::read(body, "answer").map_err(io::Error::other)?;
    Ok(match answer {
        Answer::NotLeader(leader) => Forwarded::NotLeader(leader),
        Answer::Unknown => Forwarded::Unknown,
        Answer::Done { count, position, clock_ms } => {
            let mut rest = BytesMut::from(&body[at..]);
            let mut replies = Vec::with_capacity((count as usize).min(rest.len()));
            for _ in 0..count {
                let reply = ReplyDecoder::decode(&mut rest).map_err(io::Error::other)?;
                replies.push(reply.ok_or_else(|| io::Error::other("an answer ends within a reply"))?);
            }
            Forwarded::Done(replies, position, clock_ms)
        }
    })
}

/// What a batch came to on this replica.
pub enum Local {
    /// All of it ran.
    Done(Vec<Reply>, Option<crate::types::LogId>),
    /// Nothing of its writes ran; here it is again.
    NotLeader(Vec<Operation>),
    /// Its writes may have run.
    Unknown(&'static str),
}

/// Runs a batch on this replica: reads in front first, then everything from the first write on.
pub async fn run_local(group: &Group, mut operations: Vec<Operation>, stamp: Option<Stamp>) -> Local {
    let reads = operations.iter().position(|o| o.write).unwrap_or(operations.len());
    let mut replies = Vec::new();
    if reads > 0 {
        match group.read(&operations[..reads]).await {
            Ok(r) => replies = r,
            Err(_) => return Local::NotLeader(operations),
        }
    }
    if reads == operations.len() {
        return Local::Done(replies, None);
    }
    let writes = if reads == 0 { std::mem::take(&mut operations) } else { operations.split_off(reads) };
    let stamp = stamp.map(|s| Stamp { first_sequence: s.first_sequence + reads as u64, ..s });
    match group.propose(writes, stamp).await {
        Outcome::Applied(more, log_id) => {
            replies.extend(more);
            Local::Done(replies, Some(log_id))
        }
        Outcome::NotExecuted(writes) => {
            operations.extend(writes);
            Local::NotLeader(operations)
        }
        Outcome::Unknown(text) => Local::Unknown(text),
    }
}
