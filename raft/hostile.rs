//! What a peer may send, for the fuzzer: frames and every message in them, read as the node reads them.
//!
//! Nothing of the product calls this. It stands here because the messages are private to this crate.

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use quoris_engine::codec;
use tokio::io::AsyncReadExt;

use crate::founding::{Identity, Probe};
use crate::parcel;
use crate::types::GroupId;
use crate::waiting;
use crate::wire::{self, Frame, Kind, read_frame};
use crate::{admin, events, forward, wire::Hello};

/// A frame with the checksum that it should have; nothing when there is no such kind.
pub fn seal(kind: u8, id: u64, body: &[u8]) -> Option<Vec<u8>> {
    let frame = Frame { kind: Kind::from_byte(kind).ok()?, id, body: vec![Bytes::copy_from_slice(body)] };
    Some([&frame.head()[..], body].concat())
}

/// Reads frames that arrive in two parts, up to the first that is wrong, and all that their bodies may
/// mean. Gives what was understood.
///
/// # Panics
/// When an append does not read back as it was understood.
pub fn read(first: &[u8], second: &[u8]) -> Vec<String> {
    let (mut stream, mut buffer, mut seen) = (first.chain(second), BytesMut::new(), Vec::new());
    while let Some(Ok(Some(mut frame))) = read_frame(&mut stream, &mut buffer).now_or_never() {
        let body = frame.body.pop().unwrap_or_default();
        seen.extend(
            messages(frame.kind, &body).into_iter().map(|text| format!("{:?} {} {text}", frame.kind, frame.id)),
        );
    }
    seen
}

fn messages(kind: Kind, body: &Bytes) -> Vec<String> {
    fn shown<T: std::fmt::Debug, E>(result: Result<T, E>) -> Option<String> {
        result.ok().map(|message| format!("{message:?}"))
    }
    let found = match kind {
        Kind::Hello => vec![shown(wire::message::<Hello>(body))],
        Kind::Append | Kind::Heartbeat => vec![append(body)],
        Kind::Vote | Kind::PreVote => vec![shown(wire::message::<wire::VoteMessage>(body))],
        Kind::Transfer => vec![shown(wire::message::<wire::TransferMessage>(body))],
        Kind::SnapshotBegin | Kind::SnapshotEnd => {
            let begin = wire::message::<wire::SnapshotBegin>(body);
            vec![shown(begin.and_then(|begin| begin.membership.stored()))]
        }
        Kind::SnapshotPiece => vec![shown(codec::read::<wire::SnapshotPiece>(body, "piece"))],
        Kind::Forward => vec![shown(parcel::group_of(body)), shown(parcel::operations_of(body))],
        Kind::Wait => vec![shown(parcel::operations_of(body)), shown(wire::message::<waiting::Ask>(body))],
        Kind::Events => vec![shown(wire::message::<(GroupId, u64)>(body))],
        Kind::EventsNow | Kind::Changes => vec![shown(wire::message::<GroupId>(body))],
        Kind::Interest => vec![shown(wire::message::<Vec<crate::interest::Count>>(body))],
        Kind::Topology => vec![shown(wire::message::<u64>(body))],
        Kind::Progress => vec![shown(wire::message::<(GroupId, u64)>(body))],
        Kind::Digest => vec![shown(wire::message::<(wire::Target, u64)>(body))],
        Kind::SnapshotWanted => vec![shown(wire::message::<wire::SnapshotWanted>(body))],
        Kind::Clock | Kind::LeadWanted => vec![shown(wire::message::<wire::Target>(body))],
        Kind::Adopt => vec![shown(wire::message::<Identity>(body))],
        Kind::Cluster => vec![shown(wire::message::<admin::Question>(body))],
        Kind::Reply => vec![
            shown(wire::message::<wire::AppendReply>(body)),
            shown(wire::message::<wire::VoteReply>(body)),
            shown(wire::message::<Probe>(body)),
            shown(wire::message::<crate::elsewhere::Pulse>(body)),
            shown(wire::message::<crate::timekeeper::Times>(body)),
            shown(forward::read_answer(body).map(|answers| answers.len())),
            shown(waiting::read_note(body)),
            shown(wire::message::<crate::changes::Note>(body)),
            shown(wire::message::<admin::Answer>(body)),
            shown(events::read_note(GroupId(1), body.clone())),
        ],
        Kind::Probe | Kind::Error | Kind::CloseStream | Kind::Listeners => {
            vec![Some(String::from_utf8_lossy(body).into_owned())]
        }
    };
    found.into_iter().flatten().collect()
}

fn append(body: &Bytes) -> Option<String> {
    let (head, entries) = wire::read_append(body).ok()?;
    let text = format!("{head:?} {entries:?}");
    let head = wire::AppendHead { lengths: Vec::new(), ..head };
    let again = Bytes::from(wire::append_parts(head, &entries).concat());
    let (_, read_again) = wire::read_append(&again).expect("an append of our own");
    assert_eq!(read_again, entries, "an append reads back");
    Some(text)
}
