//! Exactly once: the replies of commands that may be sent again.
//!
//! Step 8 of a command's way. A node or proxy that forwards a command marks it with its session and a
//! sequence number; when the leader dies it sends the same command to the next leader. Apply looks the
//! mark up first: a command that was executed is answered with the reply it had, and one of which that
//! is no longer known is answered with `-UNKNOWN`, never executed again.
//!
//! A session has one window per group. Every reply in it names the slots that its command was recorded in,
//! because slots move between groups and take their replies along; a command without keys is recorded in
//! the group itself.
//!
//! Invariants:
//! * All of it is a function of the log: it is part of the snapshot and of the digest.
//! * What was executed and is not in its window any more is refused: by the window's base, by the
//!   group's floor, or by the age of the command.
//! * Nothing grows without bound: a reply, a window and all windows together have limits in bytes, and
//!   sessions end [`SESSION_TTL_MS`] after their last use.

mod window;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quoris_resp::{Protocol, Reply, ReplyDecoder, encode};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::SLOTS;
use crate::codec;
use crate::entry::{SessionId, SessionStamp};
use window::{Answer, Kept, WINDOW_BYTES, Window};

/// How long a session outlives its last use, and how old a command may be when it is sent again, in
/// milliseconds of group clock.
pub const SESSION_TTL_MS: u64 = 10 * 60 * 1000;
/// Longer replies are not kept, in bytes of RESP3.
pub const REPLY_BYTES_MAX: usize = 64 * 1024;
/// Most bytes that the windows of one group take.
const GROUP_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Idle sessions that one entry ends at most.
const SWEEP_MAX: usize = 256;

/// The home of commands without keys.
const KEYLESS: u16 = SLOTS;

/// The slots that a command is recorded in; [`SLOTS`] stands for the whole group.
pub(crate) type Homes = SmallVec<[u16; 4]>;

/// Sorts slots and makes a command without any at home in the group.
pub(crate) fn homes(slots: impl Iterator<Item = u16>) -> Homes {
    let mut homes: Homes = slots.collect();
    homes.sort_unstable();
    homes.dedup();
    if homes.is_empty() {
        homes.push(KEYLESS);
    }
    homes
}

/// What is known about a command that carries a mark.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Known {
    /// It was not executed: do it and [`Sessions::record`] the reply.
    New,
    /// It must not be executed; this is the answer.
    Answer(Reply),
}

/// All windows of a group.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    windows: BTreeMap<SessionId, Arc<Window>>,
    /// Windows by their last use.
    idle: BTreeSet<(u64, SessionId)>,
    bytes: u64,
    /// Windows that were used until then were dropped for want of room: commands sent before are refused.
    floor_ms: u64,
}

fn unknown(why: &str) -> Known {
    Known::Answer(Reply::error(format!("UNKNOWN {why}")))
}

impl Sessions {
    /// Looks a command up.
    pub(crate) fn look(&self, stamp: &SessionStamp, now_ms: u64) -> Known {
        if stamp.first_sent_ms > now_ms.saturating_add(SESSION_TTL_MS) {
            return Known::Answer(Reply::error("ERR the command was first sent in the future of the group's clock"));
        }
        if stamp.first_sent_ms.saturating_add(SESSION_TTL_MS) <= now_ms {
            return unknown("the command was first sent too long ago to tell whether it was executed");
        }
        match self.windows.get(&stamp.session).map_or(Answer::New, |window| window.look(stamp.sequence)) {
            Answer::New if stamp.first_sent_ms > self.floor_ms || self.floor_ms == 0 => Known::New,
            Answer::New | Answer::Forgotten => {
                unknown("the command may have been executed; its reply is not kept any more")
            }
            Answer::Reply(kept) if kept.is_empty() => unknown("executed, but its reply was too large to keep"),
            Answer::Reply(kept) => {
                let reply = ReplyDecoder::decode(&mut BytesMut::from(&kept[..]));
                Known::Answer(reply.ok().flatten().expect("our own encoding reads back"))
            }
        }
    }

    /// Keeps the reply of a command that was just executed.
    pub(crate) fn record(&mut self, homes: Homes, stamp: &SessionStamp, now_ms: u64, reply: &Reply) {
        let reply = kept(reply);
        self.change(stamp, now_ms, |window| window.keep(Kept { sequence: stamp.sequence, homes, reply }));
    }

    /// Notes a use of the session without a new reply: a command that was answered from its window.
    pub(crate) fn touch(&mut self, stamp: &SessionStamp, now_ms: u64) {
        if self.windows.contains_key(&stamp.session) {
            self.change(stamp, now_ms, |_| {});
        }
    }

    fn change(&mut self, stamp: &SessionStamp, now_ms: u64, what: impl FnOnce(&mut Window)) {
        let id = stamp.session;
        let used_s = now_ms.max(stamp.first_sent_ms) / 1000;
        let window = self.windows.entry(id).or_insert_with(|| {
            self.idle.insert((used_s, id));
            self.bytes += WINDOW_BYTES as u64;
            Arc::new(Window { used_s, ..Window::default() })
        });
        let window = Arc::make_mut(window);
        self.bytes -= window.bytes as u64;
        window.acknowledge(stamp.acknowledged_below.min(stamp.sequence));
        what(window);
        self.bytes += window.bytes as u64;
        if used_s > window.used_s {
            self.idle.remove(&(window.used_s, id));
            self.idle.insert((used_s, id));
            window.used_s = used_s;
        }
        while self.bytes > GROUP_BYTES_MAX {
            self.drop_idlest();
        }
    }

    /// Drops the window that was used the longest ago, for want of room.
    fn drop_idlest(&mut self) {
        let &(used_s, id) = self.idle.first().expect("what takes room is a window");
        self.floor_ms = self.floor_ms.max(used_s.saturating_add(1).saturating_mul(1000));
        self.drop_window(used_s, id);
    }

    fn drop_window(&mut self, used_s: u64, id: SessionId) {
        self.idle.remove(&(used_s, id));
        if let Some(window) = self.windows.remove(&id) {
            self.bytes -= (WINDOW_BYTES + window.bytes) as u64;
        }
    }

    /// Ends sessions that were not used for [`SESSION_TTL_MS`], a bounded number.
    pub(crate) fn sweep(&mut self, now_ms: u64) {
        for _ in 0..SWEEP_MAX {
            let Some(&(used_s, id)) = self.idle.first() else { return };
            // A second is over only at its end; a command sent at its last moment must still be known.
            if used_s.saturating_add(1).saturating_mul(1000).saturating_add(SESSION_TTL_MS) > now_ms {
                return;
            }
            self.drop_window(used_s, id);
        }
    }

    /// The number of windows.
    pub(crate) fn len(&self) -> usize {
        self.idle.len()
    }

    /// Bytes that the windows take, by our own count.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A hash of all of it; it takes about a millisecond for 100,000 sessions.
    pub(crate) fn digest(&self) -> u64 {
        let prints = self.windows.iter().map(|(id, window)| print(id, window));
        prints.fold(self.floor_ms, u64::wrapping_add)
    }

    /// The windows as they are now, for a snapshot; cheap, and unharmed by what is recorded later.
    pub(crate) fn capture(&self) -> Captured {
        let windows = self.windows.iter().map(|(id, window)| (*id, window.clone())).collect();
        Captured { floor_ms: self.floor_ms, windows }
    }

    /// Restores what [`Captured::next`] gave.
    ///
    /// # Errors
    /// With a description when the bytes are damaged.
    pub(crate) fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        let (saved, taken): (Saved, usize) = codec::read(bytes, "sessions").map_err(|e| e.to_string())?;
        if taken != bytes.len() {
            return Err(format!("{} bytes behind the sessions", bytes.len() - taken));
        }
        self.floor_ms = self.floor_ms.max(saved.floor_ms);
        saved.windows.into_iter().try_for_each(|window| self.restore_window(window))
    }

    fn restore_window(&mut self, (id, base, used_s, replies): SavedWindow) -> Result<(), String> {
        let mut window = Window { used_s, ..Window::default() };
        for (sequence, homes, reply) in replies {
            let reply = Bytes::from(reply);
            let readable =
                reply.is_empty() || matches!(ReplyDecoder::decode(&mut BytesMut::from(&reply[..])), Ok(Some(_)));
            if !readable || homes.iter().any(|home| *home > KEYLESS) {
                return Err(format!("a kept reply of session {:x}.{} does not read back", id.origin, id.connection));
            }
            window.keep(Kept { sequence, homes: homes.into(), reply });
        }
        window.base = base;
        self.bytes += (WINDOW_BYTES + window.bytes) as u64;
        self.idle.insert((used_s, id));
        match self.windows.insert(id, Arc::new(window)) {
            None => Ok(()),
            Some(_) => Err(format!("session {:x}.{} twice", id.origin, id.connection)),
        }
    }
}

/// A reply as it is kept: RESP3, or nothing when it is too large.
fn kept(reply: &Reply) -> Bytes {
    if *reply == Reply::NullArray {
        // RESP3 has one null for all; the old form tells this one apart when it is read back.
        return Bytes::from_static(b"*-1\r\n");
    }
    if reply.size() > 2 * REPLY_BYTES_MAX {
        return Bytes::new();
    }
    let mut bytes = BytesMut::new();
    encode(reply, Protocol::Internal, &mut bytes);
    if bytes.len() > REPLY_BYTES_MAX { Bytes::new() } else { bytes.freeze() }
}

/// A window's share of the digest.
fn print(id: &SessionId, window: &Window) -> u64 {
    let mut bytes = [0; 40];
    let fields = [id.origin, id.connection, window.base, window.used_s, window.digest];
    bytes.chunks_exact_mut(8).zip(fields).for_each(|(chunk, n)| chunk.copy_from_slice(&n.to_le_bytes()));
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

type SavedWindow = (SessionId, u64, u64, Vec<(u64, Vec<u16>, Vec<u8>)>);

/// Windows in a snapshot.
#[derive(Serialize, Deserialize)]
struct Saved {
    floor_ms: u64,
    windows: Vec<SavedWindow>,
}

/// The windows at one moment.
#[derive(Debug, Default)]
pub(crate) struct Captured {
    floor_ms: u64,
    windows: VecDeque<(SessionId, Arc<Window>)>,
}

impl Captured {
    /// The next windows, about `bytes` of them; nothing at the end.
    pub(crate) fn next(&mut self, bytes: usize) -> Option<Vec<u8>> {
        if self.windows.is_empty() && self.floor_ms == 0 {
            return None;
        }
        let mut saved = Saved { floor_ms: std::mem::take(&mut self.floor_ms), windows: Vec::new() };
        let mut size = 0;
        while size < bytes {
            let Some((id, window)) = self.windows.pop_front() else { break };
            size += WINDOW_BYTES + window.bytes;
            let replies = window.replies.iter().map(|k| (k.sequence, k.homes.to_vec(), k.reply.to_vec()));
            saved.windows.push((id, window.base, window.used_s, replies.collect()));
        }
        Some(codec::bytes(&saved))
    }
}

#[cfg(test)]
mod tests;
