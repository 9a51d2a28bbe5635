//! Frames between nodes, and the messages in them. `src/docs/formats.md` shows them byte by byte.
//!
//! A frame is a length, a checksum, a kind, a request id and a body. Requests of many groups share a
//! connection; replies carry the id of their request and come in any order.
//!
//! Invariants: a length is checked against [`FRAME_BYTES_MAX`] before a byte is allocated for it; a
//! checksum that does not fit ends the connection.

use std::collections::BTreeMap;
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quoris_engine::codec;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::aside::aside_if_large;
use crate::clock::Told;
use crate::lives::Life;
use crate::record::{self, LogIdRecord, MembershipRecord, VoteRecord};
use crate::types::{Entry, GroupId, NodeId};

/// No frame is larger: an entry of the largest command, and room for heads.
pub const FRAME_BYTES_MAX: usize = 640 << 20;
/// A stranger's first frame is at most this long, in bytes: a name, an address, 24 bytes for each node.
pub const HELLO_BYTES_MAX: usize = 16 << 10;
/// Who reads or writes a large frame lets other tasks run behind so many bytes. A socket that is always ready
/// would keep its task running for all of the frame, and heartbeats behind it.
pub const TURN_BYTES: usize = 1 << 20;
/// Length, checksum, kind, request id.
const HEAD_BYTES: usize = 4 + 4 + 1 + 8;
/// First bytes of a connection: the protocol and its version.
pub const MAGIC: [u8; 8] = *b"QUORIS\x00\x05";

/// What a frame is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// First frame in both directions.
    Hello = 1,
    /// The reply to a request: a body, or an error text.
    Reply = 2,
    /// The reply to a request failed; the body is a text.
    Error = 3,
    /// Entries on a stream: the request id names the stream.
    Append = 4,
    /// The sender closed a stream.
    CloseStream = 5,
    /// One append outside a stream: heartbeats.
    Heartbeat = 6,
    /// RequestVote.
    Vote = 7,
    /// RequestVote that changes nothing.
    PreVote = 8,
    /// Leadership is handed over.
    Transfer = 9,
    /// A snapshot begins; the reply says from which byte on.
    SnapshotBegin = 10,
    /// A piece of a snapshot.
    SnapshotPiece = 11,
    /// The snapshot is complete: install it.
    SnapshotEnd = 12,
    /// Commands for the leader of a group.
    Forward = 13,
    /// What is this node, and does it know a cluster?
    Probe = 14,
    /// Join the cluster that is being founded.
    Adopt = 15,
    /// How far have the replicas of this group come? Asked of the leader.
    Progress = 16,
    /// What is the replica's digest at a mark?
    Digest = 17,
    /// A replica in quarantine wants the leader's snapshot, in the usual frames; the reply names it.
    SnapshotWanted = 18,
    /// What time is it, and what is the group's clock, if the replica knows it?
    Clock = 19,
    /// A command that waits, for the leader of a group, on a stream; what is said about it later, too.
    Wait = 24,
    /// Events of a group behind an index, on a stream.
    Events = 25,
    /// Up to which index does everything stand that was acknowledged by now? Asked of the leader.
    EventsNow = 26,
    /// What the sender's clients listen to, on a stream: the counts that changed.
    Interest = 27,
    /// Keys of a group that change, on a stream.
    Changes = 28,
    /// About nodes and members: a question of [`crate::admin`].
    Cluster = 30,
    /// What all clients but the sender's listen to, on a stream: asked by a guest, which nobody else can tell.
    Listeners = 40,
    /// What is the topology, if it is newer than this, and which groups are led there?
    Topology = 41,
    /// A replica wants to lead; asked of the leader.
    LeadWanted = 42,
}

impl Kind {
    /// Whether frames with the same id belong to one stream and are taken in order.
    pub fn is_stream(self) -> bool {
        matches!(self, Kind::Append | Kind::Wait | Kind::Events | Kind::Interest | Kind::Changes | Kind::Listeners)
    }

    /// The kind of a byte.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_byte(byte: u8) -> io::Result<Kind> {
        use Kind::*;
        #[rustfmt::skip]
        const ALL: [Kind; 28] = [
            Hello, Reply, Error, Append, CloseStream, Heartbeat, Vote, PreVote, Transfer, SnapshotBegin, SnapshotPiece,
            SnapshotEnd, Forward, Probe, Adopt, Progress, Digest, SnapshotWanted, Clock, Wait, Events, EventsNow,
            Interest, Changes, Cluster, Listeners, Topology, LeadWanted,
        ];
        ALL.into_iter()
            .find(|k| *k as u8 == byte)
            .ok_or_else(|| io::Error::other(format!("frame of unknown kind {byte}")))
    }
}

/// One frame. The body is in parts so that entries are not copied together.
#[derive(Debug)]
pub struct Frame {
    /// What it is for.
    pub kind: Kind,
    /// The request, or the stream.
    pub id: u64,
    /// The body.
    pub body: Vec<Bytes>,
}

impl Frame {
    /// The bytes in front of the body.
    ///
    /// # Panics
    /// When the body passes [`FRAME_BYTES_MAX`]; entries are bounded below it before they are proposed.
    pub fn head(&self) -> Bytes {
        let len: usize = self.body.iter().map(Bytes::len).sum();
        assert!(len <= FRAME_BYTES_MAX, "a frame of {len} bytes");
        let mut head = BytesMut::with_capacity(HEAD_BYTES);
        head.put_u32_le(len as u32);
        head.put_u32_le(self.checksum());
        head.put_u8(self.kind as u8);
        head.put_u64_le(self.id);
        head.freeze()
    }

    fn checksum(&self) -> u32 {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        digest.update(&[self.kind as u8]);
        digest.update(&self.id.to_le_bytes());
        for part in &self.body {
            digest.update(part);
        }
        digest.finalize() as u32
    }
}

/// Reads the next frame; nothing at a clean end.
///
/// # Errors
/// When the connection breaks or the bytes are no frame.
pub async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin + ?Sized),
    buffer: &mut BytesMut,
) -> io::Result<Option<Frame>> {
    read_frame_within(stream, buffer, FRAME_BYTES_MAX).await
}

/// [`read_frame`] with another bound for the body.
///
/// # Errors
/// When the connection breaks or the bytes are no frame.
pub async fn read_frame_within(
    stream: &mut (impl AsyncRead + Unpin + ?Sized),
    buffer: &mut BytesMut,
    bytes_max: usize,
) -> io::Result<Option<Frame>> {
    while buffer.len() < HEAD_BYTES {
        buffer.reserve(64 << 10);
        if stream.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
    let mut head = &buffer[..HEAD_BYTES];
    let (len, checksum, kind, id) = (head.get_u32_le() as usize, head.get_u32_le(), head.get_u8(), head.get_u64_le());
    if len > bytes_max {
        return Err(io::Error::other(format!("frame announces {len} bytes")));
    }
    let mut turn = 0;
    while buffer.len() < HEAD_BYTES + len {
        if turn >= TURN_BYTES {
            turn = 0;
            tokio::task::yield_now().await;
        }
        // Grows with what arrives, not with what was announced.
        let missing = (HEAD_BYTES + len - buffer.len()).clamp(16 << 10, 4 << 20);
        if buffer.capacity() - buffer.len() < missing {
            aside_if_large(buffer.len(), || buffer.reserve(missing));
        }
        match stream.read_buf(buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => turn += bytes,
        }
    }
    buffer.advance(HEAD_BYTES);
    let frame = Frame { kind: Kind::from_byte(kind)?, id, body: vec![buffer.split_to(len).freeze()] };
    if frame.checksum() != checksum {
        return Err(io::Error::other("frame with a wrong checksum"));
    }
    Ok(Some(frame))
}

/// A message as one part.
pub fn part<T: Serialize>(message: &T) -> Bytes {
    Bytes::from(codec::bytes(message))
}

/// Reads a message that fills the whole body.
///
/// # Errors
/// When it does not.
pub fn message<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    codec::read(body, "message").map(|(m, _)| m).map_err(io::Error::other)
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The cluster's id, 0 while the node belongs to none.
    pub cluster: u128,
    /// The cluster's name from the configuration.
    pub name: String,
    /// The node's id, 0 while it has none.
    pub node: NodeId,
    /// New with every start of the process.
    pub boot: u64,
    /// Where clients reach the node.
    pub client_addr: String,
    /// Starts of all nodes, as far as this one knows.
    pub lives: BTreeMap<NodeId, Life>,
}

/// A request of Raft names the group and the replica it is meant for: another id means another disk.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Target {
    /// The group.
    pub group: GroupId,
    /// The replica.
    pub replica: u64,
}

/// Head of [`Kind::Append`] and [`Kind::Heartbeat`]; the entries follow, each behind its length.
#[derive(Debug, Serialize, Deserialize)]
pub struct AppendHead {
    /// For whom.
    pub target: Target,
    /// The leader's vote.
    pub vote: VoteRecord,
    /// The entry in front of the first one.
    pub previous: Option<LogIdRecord>,
    /// What the leader knows to be committed.
    pub commit: Option<LogIdRecord>,
    /// The leader's clock of the group.
    pub clock: Told,
    /// Index of the first entry.
    pub first: u64,
    /// Bytes of each entry.
    pub lengths: Vec<u32>,
}

/// Encodes an append without copying the bodies of its entries.
pub fn append_parts(mut head: AppendHead, entries: &[Entry]) -> Vec<Bytes> {
    let mut parts = vec![Bytes::new()];
    for entry in entries {
        let (entry_head, payload) = record::encode_entry(entry);
        head.lengths.push((entry_head.len() + payload.len()) as u32);
        parts.push(Bytes::from(entry_head));
        parts.push(payload);
    }
    head.first = entries.first().map_or(0, |e| e.log_id.index);
    parts[0] = part(&head);
    parts
}

/// Reads an append; the bodies stay slices of the frame.
///
/// # Errors
/// When the bytes are no append.
pub fn read_append(body: &Bytes) -> io::Result<(AppendHead, Vec<Entry>)> {
    let (head, mut at): (AppendHead, usize) = codec::read(body, "append").map_err(io::Error::other)?;
    let mut entries = Vec::with_capacity(head.lengths.len().min(4096));
    for (i, len) in head.lengths.iter().enumerate() {
        let end = at.checked_add(*len as usize).filter(|end| *end <= body.len());
        let end = end.ok_or_else(|| io::Error::other("append ends within an entry"))?;
        let index = head.first.checked_add(i as u64).ok_or_else(|| io::Error::other("append beyond the last index"))?;
        // A copy: entries stay in memory for a while, and a slice would keep the whole buffer of the connection.
        let copy = aside_if_large(end - at, || Bytes::copy_from_slice(&body[at..end]));
        entries.push(record::decode_entry(index, &copy)?);
        at = end;
    }
    Ok((head, entries))
}

/// The reply to an append.
#[derive(Debug, Serialize, Deserialize)]
pub enum AppendReply {
    /// Everything up to here is flushed.
    Flushed(Option<LogIdRecord>),
    /// The entry in front of the first one does not match.
    Conflict(LogIdRecord),
    /// There is a later vote.
    HigherVote(VoteRecord),
    /// The replica cannot take it.
    Failed(String),
}

/// RequestVote and its rehearsal.
#[derive(Debug, Serialize, Deserialize)]
pub struct VoteMessage {
    /// For whom.
    pub target: Target,
    /// The candidate's vote.
    pub vote: VoteRecord,
    /// The candidate's last entry.
    pub last: Option<LogIdRecord>,
    /// The present leader asked for this election.
    pub transfer: bool,
}

/// The reply to a [`VoteMessage`].
#[derive(Debug, Serialize, Deserialize)]
pub struct VoteReply {
    /// The voter's vote.
    pub vote: VoteRecord,
    /// Whether it is for the candidate.
    pub granted: bool,
    /// The voter's last entry.
    pub last: Option<LogIdRecord>,
    /// What the voter knows of the group's clock.
    pub clock: Told,
}

/// The leader hands over.
#[derive(Debug, Serialize, Deserialize)]
pub struct TransferMessage {
    /// For whom.
    pub target: Target,
    /// The leader's vote.
    pub from: VoteRecord,
    /// The replica that shall lead.
    pub to: u64,
    /// The leader's last entry.
    pub last: Option<LogIdRecord>,
}

/// A snapshot is about to come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotBegin {
    /// For whom.
    pub target: Target,
    /// The leader's vote.
    pub vote: VoteRecord,
    /// What it covers.
    pub log_id: LogIdRecord,
    /// The membership at that point.
    pub membership: MembershipRecord,
    /// The file's name and length.
    pub name: String,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Asks the leader for a snapshot.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SnapshotWanted {
    /// Who wants it.
    pub target: Target,
    /// It must reach at least as far.
    pub applied: u64,
}

/// Head of a piece; its bytes follow.
#[derive(Debug, Serialize, Deserialize)]
pub struct SnapshotPiece {
    /// For whom.
    pub target: Target,
    /// The file's name.
    pub name: String,
    /// Where the piece begins.
    pub at: u64,
}
