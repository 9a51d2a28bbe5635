//! Exactly once: the replies of commands that may be sent again.
//!
//! Step 8 of a command's way. A node or proxy that forwards a command marks it with its session and a
//! sequence number; when the leader dies it sends the same command to the next leader. A client that holds
//! a session of its own does the same over its connections. Apply looks the mark up first: a command that
//! was executed is answered with the reply it had, and one of which that is no longer known is answered
//! with `-UNKNOWN`, never executed again.
//!
//! A session has one window per group. Every reply in it names the slots that its command was recorded in,
//! because slots move between groups and take their replies along; a command without keys is recorded in
//! the group itself.
//!
//! Whoever sends a command again marks it as before, the time of the first sending included. A window that
//! is dropped raises its pool's floor above that time for all that it held, so what it held is refused.
//!
//! Invariants:
//! * All of it is a function of the log: it is part of the snapshot and of the digest.
//! * What was executed and is not in its window any more is refused: by the window's base, or because it
//!   was first sent before the window knew everything of its session.
//! * Nothing grows without bound: a reply, a window and each pool of windows have limits in bytes, and a
//!   window goes `session-ttl` after its last use.
//! * Clients that fill the windows of their own sessions leave those of the nodes alone.
//! * The windows of groups stay for ever: there are few, each is small, and an outbox may rest for long.

mod moved;
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
use crate::outcome;
use window::{Answer, Kept, WINDOW_BYTES, Window};

/// How far the time of the first sending may be ahead of the group's clock, in milliseconds: it comes from
/// another node, and what is far ahead would keep a window for long.
const AHEAD_MS_MAX: u64 = 10 * 60 * 1000;
/// Longer replies are not kept, in bytes of RESP3.
pub const REPLY_BYTES_MAX: usize = 64 * 1024;
/// Most bytes that the windows of one pool take; a group has two.
const POOL_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Idle sessions of each pool that one entry ends at most.
const SWEEP_MAX: usize = 256;

const AHEAD: &str = "ERR the command was first sent in the future of the group's clock";

/// The home of commands without keys.
const KEYLESS: u16 = SLOTS;

/// The slots that a command is recorded in; [`SLOTS`] stands for the whole group.
pub type Homes = SmallVec<[u16; HOMES_INLINE]>;
/// Slots that take no room of their own.
const HOMES_INLINE: usize = 4;

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
    /// It was executed; this is the answer.
    Answer(Reply),
    /// It may have been, and must not be executed; this is the answer.
    Refused(Reply),
}

/// All windows of a group.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    windows: BTreeMap<SessionId, Arc<Window>>,
    /// Of the connections of nodes and proxies, and of clients' own sessions.
    pools: [Pool; 2],
}

/// Windows that share their room.
#[derive(Debug, Default)]
struct Pool {
    /// By their last use.
    idle: BTreeSet<(u64, SessionId)>,
    bytes: u64,
    /// No window was dropped that held a command first sent then or later.
    floor_ms: u64,
}

impl Sessions {
    /// Looks a command up.
    pub(crate) fn look(&self, stamp: &SessionStamp, now_ms: u64) -> Known {
        let (answer, known_from_ms) = match self.windows.get(&stamp.session) {
            Some(window) => (window.look(stamp.sequence), window.known_from_ms),
            None => (Answer::New, self.pools[pool(&stamp.session)].floor_ms),
        };
        match answer {
            Answer::New if stamp.first_sent_ms > now_ms.saturating_add(AHEAD_MS_MAX) => {
                Known::Refused(Reply::error(AHEAD))
            }
            Answer::New if stamp.first_sent_ms >= known_from_ms => Known::New,
            Answer::New | Answer::Forgotten => Known::Refused(Reply::error(outcome::unknown(outcome::NOT_KEPT))),
            Answer::Reply(kept) if kept.is_empty() => Known::Answer(Reply::error(outcome::unknown(outcome::TOO_LARGE))),
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
        let at = pool(&id);
        let pool = &mut self.pools[at];
        let used_s = now_ms.max(stamp.first_sent_ms) / 1000;
        let stays = id.is_groups();
        let window = self.windows.entry(id).or_insert_with(|| {
            if !stays {
                pool.idle.insert((used_s, id));
                pool.bytes += WINDOW_BYTES as u64;
            }
            Arc::new(Window { used_s, known_from_ms: pool.floor_ms, ..Window::default() })
        });
        let window = Arc::make_mut(window);
        let (before, last_used_s) = (window.bytes as u64, window.used_s);
        window.acknowledge(stamp.acknowledged_below.min(stamp.sequence));
        what(window);
        window.used_s = used_s.max(last_used_s);
        if stays {
            return;
        }
        pool.bytes = pool.bytes - before + window.bytes as u64;
        if used_s > last_used_s {
            pool.idle.remove(&(last_used_s, id));
            pool.idle.insert((used_s, id));
        }
        while self.pools[at].bytes > POOL_BYTES_MAX {
            self.drop_idlest(at);
        }
    }

    /// Drops the window of a pool that was used the longest ago.
    fn drop_idlest(&mut self, pool: usize) {
        let pool = &mut self.pools[pool];
        let (used_s, id) = pool.idle.pop_first().expect("what takes room is a window");
        pool.floor_ms = pool.floor_ms.max(end_of_second_ms(used_s));
        if let Some(window) = self.windows.remove(&id) {
            pool.bytes -= (WINDOW_BYTES + window.bytes) as u64;
        }
    }

    /// Drops windows that were not used for so long, a bounded number.
    pub(crate) fn sweep(&mut self, now_ms: u64, ttl_ms: u64) {
        for pool in 0..self.pools.len() {
            for _ in 0..SWEEP_MAX {
                let Some(&(used_s, _)) = self.pools[pool].idle.first() else { break };
                // A second is over only at its end; a command sent at its last moment must still be known.
                if end_of_second_ms(used_s).saturating_add(ttl_ms) > now_ms {
                    break;
                }
                self.drop_idlest(pool);
            }
        }
    }

    /// The number of windows.
    pub(crate) fn len(&self) -> usize {
        self.windows.len()
    }

    /// Bytes that the windows take, by our own count.
    pub(crate) fn bytes(&self) -> u64 {
        self.pools.iter().map(|pool| pool.bytes).sum()
    }

    /// A hash of all of it; it takes about a millisecond for 100,000 sessions.
    pub(crate) fn digest(&self) -> u64 {
        let [of_nodes, of_clients] = self.floors_ms();
        let prints = self.windows.iter().map(|(id, window)| print(id, window));
        prints.fold(of_nodes.rotate_left(32) ^ of_clients, u64::wrapping_add)
    }

    fn floors_ms(&self) -> [u64; 2] {
        self.pools.each_ref().map(|pool| pool.floor_ms)
    }

    /// The windows as they are now, for a snapshot; cheap, and unharmed by what is recorded later.
    pub(crate) fn capture(&self) -> Captured {
        let windows = self.windows.iter().map(|(id, window)| (*id, window.clone())).collect();
        Captured { floors_ms: self.floors_ms(), windows }
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
        for (pool, floor_ms) in self.pools.iter_mut().zip(saved.floors_ms) {
            pool.floor_ms = pool.floor_ms.max(floor_ms);
        }
        saved.windows.into_iter().try_for_each(|window| self.restore_window(window))
    }

    fn restore_window(&mut self, (id, base, known_from_ms, used_s, replies): SavedWindow) -> Result<(), String> {
        let mut window = Window { used_s, known_from_ms, ..Window::default() };
        for (sequence, homes, reply) in replies {
            window.keep(read_kept(&id, sequence, homes, reply)?);
        }
        window.base = base;
        if !id.is_groups() {
            let pool = &mut self.pools[pool(&id)];
            pool.bytes += (WINDOW_BYTES + window.bytes) as u64;
            pool.idle.insert((used_s, id));
        }
        match self.windows.insert(id, Arc::new(window)) {
            None => Ok(()),
            Some(_) => Err(format!("session {:x}.{} twice", id.origin, id.connection)),
        }
    }
}

/// The place of a session's pool.
fn pool(id: &SessionId) -> usize {
    usize::from(id.is_clients_own())
}

fn end_of_second_ms(second: u64) -> u64 {
    second.saturating_add(1).saturating_mul(1000)
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

/// A kept reply from a snapshot, or from another group.
fn read_kept(id: &SessionId, sequence: u64, homes: Vec<u16>, reply: Vec<u8>) -> Result<Kept, String> {
    let reply = Bytes::from(reply);
    let readable = reply.is_empty() || matches!(ReplyDecoder::decode(&mut BytesMut::from(&reply[..])), Ok(Some(_)));
    if !readable || homes.iter().any(|home| *home > KEYLESS) {
        return Err(format!("a kept reply of session {:x}.{} does not read back", id.origin, id.connection));
    }
    Ok(Kept { sequence, homes: homes.into(), reply })
}

/// A window's share of the digest.
fn print(id: &SessionId, window: &Window) -> u64 {
    let mut bytes = [0; 48];
    let fields = [id.origin, id.connection, window.base, window.known_from_ms, window.used_s, window.digest];
    bytes.chunks_exact_mut(8).zip(fields).for_each(|(chunk, n)| chunk.copy_from_slice(&n.to_le_bytes()));
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

/// Session, base, known from, last use, replies.
type SavedWindow = (SessionId, u64, u64, u64, Vec<(u64, Vec<u16>, Vec<u8>)>);

/// Windows in a snapshot.
#[derive(Serialize, Deserialize)]
struct Saved {
    floors_ms: [u64; 2],
    windows: Vec<SavedWindow>,
}

/// The windows at one moment.
#[derive(Debug, Default)]
pub(crate) struct Captured {
    floors_ms: [u64; 2],
    windows: VecDeque<(SessionId, Arc<Window>)>,
}

impl Captured {
    /// The next windows, about `bytes` of them; nothing at the end.
    pub(crate) fn next(&mut self, bytes: usize) -> Option<Vec<u8>> {
        if self.windows.is_empty() && self.floors_ms == [0, 0] {
            return None;
        }
        let mut saved = Saved { floors_ms: std::mem::take(&mut self.floors_ms), windows: Vec::new() };
        let mut size = 0;
        while size < bytes {
            let Some((id, window)) = self.windows.pop_front() else { break };
            size += WINDOW_BYTES + window.bytes;
            let replies = window.replies.iter().map(|k| (k.sequence, k.homes.to_vec(), k.reply.to_vec()));
            saved.windows.push((id, window.base, window.known_from_ms, window.used_s, replies.collect()));
        }
        Some(codec::bytes(&saved))
    }
}

#[cfg(test)]
mod tests;
