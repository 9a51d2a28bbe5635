//! Commands for a leader elsewhere, as bytes: what a forwarded message carries.
//!
//! Step 5, where another node leads. A pipeline is small commands of one kind, so commands that follow each other
//! and have all but their words in common share one record, and their frames stand one behind the other: they say
//! themselves where they end.
//!
//! Invariants: counts from outside allocate no more than the bytes that came can hold; what apply could not read
//! gets no further than here.

use std::io;

use bytes::Bytes;
use quoris_engine::codec;
use quoris_engine::command;
use quoris_engine::entry::{SessionId, SessionStamp, Transaction};
use quoris_resp::Argv;
use serde::{Deserialize, Serialize};

use crate::propose::{Operation, Stamp};
use crate::types::GroupId;
use crate::wire;
use crate::write::gather;

/// Operations that one message may carry.
const OPERATIONS_MAX: usize = 1 << 20;
/// Batches that one message may carry: what waits for one answer.
pub const BATCHES_MAX: usize = 256;
/// Sequence numbers from here on are not believed: counting on must not overflow.
pub const SEQUENCE_MAX: u64 = 1 << 62;
/// The shortest command has so many bytes: `*1\r\n$1\r\nx\r\n`.
const COMMAND_BYTES_MIN: usize = 11;

/// What stands in front of the commands of a message: batches of one group, each of its own session.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    group: GroupId,
    batches: Vec<BatchRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct BatchRecord {
    stamp: Option<StampRecord>,
    again: bool,
    runs: Vec<RunRecord>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct StampRecord {
    session: SessionId,
    first_sequence: u64,
    acknowledged_below: u64,
    first_sent_ms: u64,
}

/// Commands that follow each other and have this in common. One with a mark of its own is alone.
#[derive(Debug, Serialize, Deserialize)]
struct RunRecord {
    database: u32,
    user: u32,
    transaction: bool,
    own: Option<SessionStamp>,
    write: bool,
    count: u32,
}

impl RunRecord {
    fn of(operation: &Operation) -> RunRecord {
        let Operation { database, user, transaction, own, write, .. } = *operation;
        RunRecord { database, user, transaction, own, write, count: 1 }
    }

    fn takes(&self, next: &Operation) -> bool {
        (self.database, self.user, self.transaction, self.write)
            == (next.database, next.user, next.transaction, next.write)
            && self.own.is_none()
            && next.own.is_none()
    }
}

/// A batch that is ready to be sent.
#[derive(Debug)]
pub struct Parcel {
    record: BatchRecord,
    commands: Vec<Bytes>,
    /// Bytes of the commands.
    pub bytes: usize,
}

impl Parcel {
    /// Packs a batch; `again` when it was sent before and may be in the log.
    pub fn new(operations: &[Operation], stamp: Option<Stamp>, again: bool) -> Parcel {
        let stamp = stamp.map(|s| StampRecord {
            session: s.session,
            first_sequence: s.first_sequence,
            acknowledged_below: s.acknowledged_below,
            first_sent_ms: s.first_sent_ms,
        });
        let mut runs: Vec<RunRecord> = Vec::new();
        for operation in operations {
            match runs.last_mut().filter(|run| run.takes(operation)) {
                Some(run) => run.count += 1,
                None => runs.push(RunRecord::of(operation)),
            }
        }
        let commands = gather(operations.iter().map(|o| o.argv.frame()));
        let bytes = commands.iter().map(Bytes::len).sum();
        Parcel { record: BatchRecord { stamp, again, runs }, commands, bytes }
    }
}

/// A message of batches for one group.
pub fn request(group: GroupId, parcels: impl Iterator<Item = Parcel>) -> Vec<Bytes> {
    let mut parts = vec![Bytes::new()];
    let mut batches = Vec::new();
    for parcel in parcels {
        batches.push(parcel.record);
        parts.extend(parcel.commands);
    }
    parts[0] = wire::part(&Head { group, batches });
    parts
}

/// The group that a request is for.
///
/// # Errors
/// When the bytes are no request.
pub fn group_of(body: &[u8]) -> io::Result<GroupId> {
    wire::message(body)
}

/// How many commands a request carries; for the fuzzer.
///
/// # Errors
/// When the bytes are no request.
pub fn operations_of(body: &Bytes) -> io::Result<usize> {
    read_request(body).map(|batches| batches.iter().map(|(operations, ..)| operations.len()).sum())
}

/// Operations, their stamp, and whether they were sent before.
pub type Batch = (Vec<Operation>, Option<Stamp>, bool);

/// The batches of a request.
///
/// # Errors
/// When the bytes are no request.
pub fn read_request(body: &Bytes) -> io::Result<Vec<Batch>> {
    let (head, mut at): (Head, usize) = codec::read(body, "forwarded batches").map_err(io::Error::other)?;
    let count: usize = head.batches.iter().flat_map(|batch| &batch.runs).map(|run| run.count as usize).sum();
    if count > OPERATIONS_MAX || head.batches.len() > BATCHES_MAX {
        return Err(io::Error::other(format!("{} batches of {count} operations", head.batches.len())));
    }
    let batches = head.batches.into_iter().map(|batch| read_batch(batch, body, &mut at));
    let batches = batches.collect::<io::Result<Vec<Batch>>>()?;
    if at == body.len() { Ok(batches) } else { Err(io::Error::other("more than the commands of a message")) }
}

fn read_batch(batch: BatchRecord, body: &Bytes, at: &mut usize) -> io::Result<Batch> {
    let count: usize = batch.runs.iter().map(|run| run.count as usize).sum();
    let mut operations = Vec::with_capacity(count.min((body.len() - *at) / COMMAND_BYTES_MIN));
    for run in batch.runs {
        let RunRecord { database, user, transaction, own, write, count } = run;
        if own.is_some() && count > 1 {
            return Err(io::Error::other("a mark for more than one command"));
        }
        for _ in 0..count {
            let argv = Argv::read(body, at).map_err(io::Error::other)?;
            if transaction {
                // Apply stops at a transaction that it cannot read, so none may get into the log.
                Transaction::from_argv(&argv).map_err(io::Error::other)?;
            }
            let found =
                if transaction { command::logged(&Argv::from_parts(&["EXEC"])) } else { command::logged(&argv) };
            let command = found.map_err(|e| io::Error::other(e.to_string()))?;
            operations.push(Operation { command, argv, database, user, transaction, own, write });
        }
    }
    let owned = operations.iter().filter_map(|o| o.own).map(|own| own.sequence);
    if batch.stamp.iter().map(|s| s.first_sequence).chain(owned).any(|n| n > SEQUENCE_MAX) {
        return Err(io::Error::other("a sequence number out of range"));
    }
    let stamp = batch.stamp.map(|s| Stamp {
        session: s.session,
        first_sequence: s.first_sequence,
        acknowledged_below: s.acknowledged_below,
        first_sent_ms: s.first_sent_ms,
    });
    Ok((operations, stamp, batch.again))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(words: &[&str], own: Option<SessionStamp>) -> Operation {
        let argv = Argv::from_parts(words);
        let command = command::logged(&argv).expect("a command");
        Operation { command, argv, database: 0, user: 0, transaction: false, own, write: command.is_write() }
    }

    fn sent(parcels: impl Iterator<Item = Parcel>) -> io::Result<Vec<Batch>> {
        read_request(&request(GroupId(1), parcels).concat().into())
    }

    #[test]
    fn a_forwarded_transaction_that_apply_could_not_read_is_refused() {
        let exec = Operation { transaction: true, ..operation(&["EXEC"], None) };
        let exec = Operation { argv: Argv::from_parts(&["EXEC", "no watches"]), ..exec };
        assert!(sent(std::iter::once(Parcel::new(&[exec], None, false))).is_err());
    }

    #[test]
    fn the_marks_of_a_clients_own_session_travel_with_its_commands() {
        let of = |own| operation(&["INCR", "n"], own);
        let session = SessionId::of_client([8, 9]);
        let own = SessionStamp { session, sequence: 3, acknowledged_below: 2, first_sent_ms: 1 };
        let parcels =
            |own| [Parcel::new(&[of(None)], None, false), Parcel::new(&[of(None), of(Some(own))], None, true)];
        let batches = sent(parcels(own).into_iter()).expect("our own bytes");
        let marks: Vec<Vec<_>> = batches.iter().map(|(batch, ..)| batch.iter().map(|o| o.own).collect()).collect();
        assert_eq!(marks, [vec![None], vec![None, Some(own)]]);
        assert_eq!([batches[0].2, batches[1].2], [false, true], "whether it was sent before travels as well");
        assert!(sent(parcels(SessionStamp { sequence: SEQUENCE_MAX + 1, ..own }).into_iter()).is_err());
    }

    #[test]
    fn a_pipeline_arrives_as_it_was_sent_whatever_its_commands_have_in_common() {
        let long = "v".repeat(100_000);
        let mut commands: Vec<Operation> = (0..5).map(|n| operation(&["GET", &n.to_string()], None)).collect();
        commands.extend([operation(&["SET", "k", &long], None), operation(&["GET", "k"], None)]);
        commands.push(Operation { database: 3, ..operation(&["GET", "k"], None) });
        let parcel = Parcel::new(&commands, None, false);
        let runs: Vec<u32> = parcel.record.runs.iter().map(|run| run.count).collect();
        assert_eq!(runs, [5, 1, 1, 1]);
        let batches = sent(std::iter::once(parcel)).expect("our own bytes");
        let shown = |o: &Operation| (o.argv.clone(), o.database, o.write);
        assert_eq!(batches[0].0.iter().map(shown).collect::<Vec<_>>(), commands.iter().map(shown).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_announced_has_to_be_there_and_nothing_more() {
        let whole = request(GroupId(1), std::iter::once(Parcel::new(&[operation(&["GET", "k"], None)], None, false)));
        let whole = whole.concat();
        let mut longer = whole.clone();
        longer.push(b'x');
        assert!(read_request(&whole.clone().into()).is_ok());
        assert!(read_request(&longer.into()).is_err());
        assert!(read_request(&Bytes::copy_from_slice(&whole[..whole.len() - 1])).is_err());
    }
}
