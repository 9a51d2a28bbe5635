//! Batches that run on this replica, also for others, and the answers to those.
//!
//! A forwarded batch carries its session and sequence numbers, so it can be sent again after a lost
//! reply or a failover: the leader's group answers a repeated command from its window.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use quoris_engine::codec;
use quoris_engine::outcome;
use quoris_resp::{Protocol, Reply, ReplyDecoder, encode};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::evict;
use crate::group::Group;
use crate::mutant::{self, Mutant};
use crate::parcel::read_request;
use crate::propose::{Operation, Outcome, Stamp};
use crate::record::LogIdRecord;
use crate::types::NodeId;
use crate::wire::{self, FRAME_BYTES_MAX};

/// Most bytes of replies in one answer: the longest value, and room to stay a frame.
const ANSWER_BYTES_MAX: usize = FRAME_BYTES_MAX - (64 << 20);

const TOO_MANY: &str = "the replies of the pipeline are too long for one message between nodes";

/// The leader's answer.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// Replies as RESP3, one behind the other, where the last write stands, what the reads have seen, and the clock,
    /// 0 when it is not known.
    Done { count: u32, position: Option<LogIdRecord>, seen: u64, clock_ms: u64 },
    /// Nothing was executed; who leads, if known.
    NotLeader(Option<NodeId>),
    /// May have been executed.
    Unknown,
}

/// What a forwarded batch came to.
#[derive(Debug)]
pub enum Forwarded {
    /// Replies, position of the last write, what the reads have seen, the leader's clock.
    Done(Vec<Reply>, Option<LogIdRecord>, u64, u64),
    /// Nothing was executed there.
    NotLeader(Option<NodeId>),
    /// May have been executed; with a stamp it can be sent again.
    Unknown,
}

/// Runs forwarded batches here, if this replica leads. They do not wait for each other, but for the answer.
///
/// # Errors
/// When the bytes are no request.
pub async fn serve(group: &Group, body: &Bytes) -> io::Result<Vec<Bytes>> {
    let batches = read_request(body)?;
    let running = batches.into_iter().map(|(operations, stamp, again)| async move {
        let writes: SmallVec<[bool; 1]> = operations.iter().map(|o| o.write).collect();
        (writes, run_local(group, operations, stamp, again).await)
    });
    Ok(answer(group, join_all(running).await))
}

/// The answer to batches, of which it is known which commands were writes.
pub fn answer(group: &Group, batches: Vec<(SmallVec<[bool; 1]>, Local)>) -> Vec<Bytes> {
    let mut encoded = BytesMut::new();
    let clock_ms = group.replica.clock.told().stands_at().unwrap_or(0);
    let answer = |(writes, local): (SmallVec<[bool; 1]>, Local)| match local {
        Local::Done(replies, position, seen, _) => {
            encode_replies(&replies, &writes, ANSWER_BYTES_MAX, &mut encoded);
            Answer::Done { count: replies.len() as u32, position: position.map(Into::into), seen, clock_ms }
        }
        Local::NotLeader(_) => Answer::NotLeader(group.leader()),
        Local::Unknown(_) => Answer::Unknown,
    };
    let answers: Vec<Answer> = batches.into_iter().map(answer).collect();
    vec![wire::part(&answers), encoded.freeze()]
}

/// Replies one behind the other. One that would make the answer longer than a frame may be is replaced by
/// an error, which says of a write that it happened.
fn encode_replies(replies: &[Reply], writes: &[bool], bytes_max: usize, encoded: &mut BytesMut) {
    for (reply, write) in replies.iter().zip(writes) {
        if encoded.len() + reply.size() <= bytes_max {
            encode(reply, Protocol::Internal, encoded);
        } else if *write {
            let text = outcome::unknown(format!("executed, but {TOO_MANY}"));
            encode(&Reply::error(text), Protocol::Internal, encoded);
        } else {
            encode(&Reply::error(format!("ERR {TOO_MANY}")), Protocol::Internal, encoded);
        }
    }
}

/// Reads the leader's answer: what each batch came to, in order.
///
/// # Errors
/// When the bytes are no answer.
pub fn read_answer(body: &Bytes) -> io::Result<Vec<Forwarded>> {
    let (answers, mut at): (Vec<Answer>, usize) = codec::read(body, "answer").map_err(io::Error::other)?;
    let read = |answer| {
        Ok(match answer {
            Answer::NotLeader(leader) => Forwarded::NotLeader(leader),
            Answer::Unknown => Forwarded::Unknown,
            Answer::Done { count, position, seen, clock_ms } => {
                let mut replies = Vec::with_capacity((count as usize).min(body.len() - at));
                for _ in 0..count {
                    let reply = ReplyDecoder::read(body, &mut at).map_err(io::Error::other)?;
                    replies.push(reply.ok_or_else(|| io::Error::other("an answer ends within a reply"))?);
                }
                Forwarded::Done(replies, position, seen, clock_ms)
            }
        })
    };
    answers.into_iter().map(read).collect()
}

/// What a batch came to on this replica.
pub enum Local {
    /// All of it ran; the reads have seen at least everything up to the index, which is the last one if there are none.
    /// Here it is again when some of it belongs elsewhere.
    Done(Vec<Reply>, Option<crate::types::LogId>, u64, Vec<Operation>),
    /// Nothing of its writes ran; here it is again.
    NotLeader(Vec<Operation>),
    /// Its writes may have run.
    Unknown(&'static str),
}

/// The reads of a batch run, its writes are answered with the refusal.
async fn refuse_writes(group: &Group, operations: Vec<Operation>, refusal: impl Fn(&Operation) -> Reply) -> Local {
    let reads: Vec<Operation> = operations.iter().filter(|o| !o.write).cloned().collect();
    let answers = if reads.is_empty() { Ok((Vec::new(), 0)) } else { group.read(&reads).await };
    let Ok((answers, seen)) = answers else { return Local::NotLeader(operations) };
    let mut answers = answers.into_iter();
    let reply = |o: &Operation| match o.write {
        true => refusal(o),
        false => answers.next().expect("an answer for each read"),
    };
    done(operations.iter().map(reply).collect(), seen, operations)
}

/// Replies of what did not go through the log.
fn done(replies: Vec<Reply>, seen: u64, operations: Vec<Operation>) -> Local {
    let back = if replies.contains(&Reply::Elsewhere) { operations } else { Vec::new() };
    Local::Done(replies, None, seen, back)
}

/// Runs a batch on this replica: reads in front first, then everything from the first write on. `again` when
/// it was sent before: it may be in the log already, so "no" would be a guess.
pub async fn run_local(group: &Group, mut operations: Vec<Operation>, stamp: Option<Stamp>, again: bool) -> Local {
    if let Some(refusal) = group.room.refusal().filter(|_| !again && operations.iter().any(|o| o.write)) {
        return refuse_writes(group, operations, |_| Reply::error(refusal.clone())).await;
    }
    let is_short = !again && group.evictor.is_short_for(&operations).await;
    if is_short && operations.iter().all(|o| !o.write || evict::takes_memory(o)) {
        return refuse_writes(group, operations, evict::refusal).await;
    }
    let reads = operations.iter().position(|o| o.write).unwrap_or(operations.len());
    let (mut replies, mut seen) = (Vec::new(), u64::MAX);
    if reads > 0 {
        match group.read(&operations[..reads]).await {
            Ok(read) => (replies, seen) = read,
            Err(_) => return Local::NotLeader(operations),
        }
    }
    if reads == operations.len() {
        return done(replies, seen, operations);
    }
    let writes = if reads == 0 { std::mem::take(&mut operations) } else { operations.split_off(reads) };
    let stamp = stamp.map(|s| Stamp { first_sequence: s.first_sequence + reads as u64, ..s });
    if mutant::is(Mutant::EventBeforeCommit) {
        mutant::tell_early(&group.replica, &writes);
    }
    match group.propose(writes, stamp, is_short).await {
        Outcome::Applied(more, log_id, read, back) => {
            replies.extend(more);
            // What stands behind them in the entry they have not seen.
            let seen = if read { seen.min(log_id.index - 1) } else { seen };
            if back.is_empty() && !replies.contains(&Reply::Elsewhere) {
                return Local::Done(replies, Some(log_id), seen, Vec::new());
            }
            // Reads in front are here still; without `back` nothing behind them belongs elsewhere.
            operations.extend(back);
            Local::Done(replies, Some(log_id), seen, operations)
        }
        Outcome::NotExecuted(writes) => {
            operations.extend(writes);
            Local::NotLeader(operations)
        }
        Outcome::Unknown(text) => Local::Unknown(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_never_passes_its_limit_and_has_a_reply_for_each_command() {
        let long = Reply::bulk(vec![b'v'; 600]);
        let mut encoded = BytesMut::new();
        let replies = [long.clone(), long.clone(), long.clone(), Reply::Ok];
        encode_replies(&replies, &[false, false, true, true], 900, &mut encoded);
        assert!(encoded.len() < 1000);
        let (mut rest, mut replies) = (BytesMut::from(&encoded[..]), Vec::new());
        while let Some(reply) = ReplyDecoder::decode(&mut rest).expect("our own bytes") {
            replies.push(reply);
        }
        assert_eq!(replies.len(), 4);
        assert_eq!((&replies[0], &replies[3]), (&long, &Reply::Ok));
        let text = |reply: &Reply| if let Reply::Error(text) = reply { text.clone() } else { panic!("{reply:?}") };
        assert!(text(&replies[1]).starts_with(b"ERR the replies"));
        assert!(text(&replies[2]).starts_with(b"UNKNOWN executed"));
    }
}
