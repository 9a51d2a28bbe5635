//! Exactly once: the replies of commands that may be sent again.
//!
//! Step 8 of a command's way. A node or proxy that forwards a command marks it with its session and a
//! sequence number; when the leader dies it sends the same command to the next leader. Apply looks the
//! mark up first: a command that was executed is answered with the reply it had, and one of which that
//! is no longer known is answered with `-UNKNOWN`, never executed again.
//!
//! Windows are kept per slot, because slots move between groups and take them along; a command with
//! keys in several slots is recorded in each, one without keys in a window of the whole group.
//!
//! Invariants:
//! * All of it is a function of the log: it is part of the snapshot and of the digest.
//! * What was executed and is not in its window any more is refused: by the window's base, by the
//!   slot's floor, or by the age of the command.
//! * Nothing grows without bound: a reply, a window and a slot have limits in bytes, and sessions end
//!   [`SESSION_TTL_MS`] after their last use.

mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quoris_resp::{Protocol, Reply, ReplyDecoder, encode};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::SLOTS;
use crate::codec;
use crate::entry::{SessionId, SessionStamp};
use window::{Answer, WINDOW_BYTES, Window};

/// How long a session outlives its last use, and how old a command may be when it is sent again, in
/// milliseconds of group clock.
pub const SESSION_TTL_MS: u64 = 10 * 60 * 1000;
/// Longer replies are not kept, in bytes of RESP3.
pub const REPLY_BYTES_MAX: usize = 64 * 1024;
/// Most bytes that the windows of one slot take.
const HOME_BYTES_MAX: usize = 4 * 1024 * 1024;
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

/// All windows of one slot.
#[derive(Clone, Debug, Default)]
struct Home {
    windows: BTreeMap<SessionId, Window>,
    bytes: usize,
    /// Windows that were used until then were dropped for want of room: commands sent before are refused.
    floor_ms: u64,
}

/// All windows of a group.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    homes: BTreeMap<u16, Arc<Home>>,
    /// Windows by their last use.
    idle: BTreeSet<(u64, u16, SessionId)>,
    bytes: u64,
    digest: u64,
}

fn unknown(why: &str) -> Known {
    Known::Answer(Reply::error(format!("UNKNOWN {why}")))
}

impl Sessions {
    /// Looks a command up in all its homes; a reply in any of them wins.
    pub(crate) fn look(&self, homes: &[u16], stamp: &SessionStamp, now_ms: u64) -> Known {
        if stamp.first_sent_ms > now_ms.saturating_add(SESSION_TTL_MS) {
            return Known::Answer(Reply::error("ERR the command was first sent in the future of the group's clock"));
        }
        if stamp.first_sent_ms.saturating_add(SESSION_TTL_MS) <= now_ms {
            return unknown("the command was first sent too long ago to tell whether it was executed");
        }
        let mut forgotten = false;
        for home in homes.iter().filter_map(|home| self.homes.get(home)) {
            match home.windows.get(&stamp.session).map_or(Answer::New, |window| window.look(stamp.sequence)) {
                Answer::New => forgotten |= stamp.first_sent_ms <= home.floor_ms && home.floor_ms > 0,
                Answer::Forgotten => forgotten = true,
                Answer::Reply(kept) if kept.is_empty() => {
                    return unknown("executed, but its reply was too large to keep");
                }
                Answer::Reply(kept) => {
                    let reply = ReplyDecoder::decode(&mut BytesMut::from(&kept[..]));
                    return Known::Answer(reply.ok().flatten().expect("our own encoding reads back"));
                }
            }
        }
        if forgotten {
            unknown("the command may have been executed; its reply is not kept any more")
        } else {
            Known::New
        }
    }

    /// Keeps the reply of a command that was just executed.
    pub(crate) fn record(&mut self, homes: &[u16], stamp: &SessionStamp, now_ms: u64, reply: &Reply) {
        let kept = kept(reply);
        for &home in homes {
            self.change(home, stamp, now_ms, |window| window.keep(stamp.sequence, kept.clone()));
        }
    }

    /// Notes a use of the session without a new reply: a command that was answered from its window.
    pub(crate) fn touch(&mut self, homes: &[u16], stamp: &SessionStamp, now_ms: u64) {
        for &home in homes {
            let known = self.homes.get(&home).is_some_and(|h| h.windows.contains_key(&stamp.session));
            if known {
                self.change(home, stamp, now_ms, |_| {});
            }
        }
    }

    fn change(&mut self, number: u16, stamp: &SessionStamp, now_ms: u64, what: impl FnOnce(&mut Window)) {
        let home = Arc::make_mut(self.homes.entry(number).or_default());
        let id = stamp.session;
        let used_s = now_ms.max(stamp.first_sent_ms) / 1000;
        let mut window = match home.windows.remove(&id) {
            Some(window) => {
                self.digest = self.digest.wrapping_sub(print(number, &id, &window));
                home.bytes -= WINDOW_BYTES + window.bytes;
                self.bytes -= (WINDOW_BYTES + window.bytes) as u64;
                window
            }
            None => {
                self.idle.insert((used_s, number, id));
                Window { used_s, ..Window::default() }
            }
        };
        window.acknowledge(stamp.acknowledged_below.min(stamp.sequence));
        what(&mut window);
        if used_s > window.used_s {
            self.idle.remove(&(window.used_s, number, id));
            self.idle.insert((used_s, number, id));
            window.used_s = used_s;
        }
        self.digest = self.digest.wrapping_add(print(number, &id, &window));
        home.bytes += WINDOW_BYTES + window.bytes;
        self.bytes += (WINDOW_BYTES + window.bytes) as u64;
        home.windows.insert(id, window);
        while self.homes.get(&number).is_some_and(|home| home.bytes > HOME_BYTES_MAX) {
            self.drop_idlest(number);
        }
    }

    /// Drops the window of a slot that was used the longest ago, for want of room.
    fn drop_idlest(&mut self, number: u16) {
        let home = Arc::make_mut(self.homes.get_mut(&number).expect("the slot has windows"));
        let idlest = home.windows.iter().map(|(id, window)| (window.used_s, *id)).min();
        let (used_s, id) = idlest.expect("a slot over its limit has a window");
        home.floor_ms = home.floor_ms.max(used_s.saturating_add(1).saturating_mul(1000));
        self.drop_window(used_s, number, id);
    }

    fn drop_window(&mut self, used_s: u64, number: u16, id: SessionId) {
        self.idle.remove(&(used_s, number, id));
        let Some(home) = self.homes.get_mut(&number) else { return };
        let home = Arc::make_mut(home);
        if let Some(window) = home.windows.remove(&id) {
            self.digest = self.digest.wrapping_sub(print(number, &id, &window));
            home.bytes -= WINDOW_BYTES + window.bytes;
            self.bytes -= (WINDOW_BYTES + window.bytes) as u64;
        }
        if home.windows.is_empty() && home.floor_ms == 0 {
            self.homes.remove(&number);
        }
    }

    /// Ends sessions that were not used for [`SESSION_TTL_MS`], a bounded number.
    pub(crate) fn sweep(&mut self, now_ms: u64) {
        for _ in 0..SWEEP_MAX {
            let Some(&(used_s, number, id)) = self.idle.first() else { return };
            // A second is over only at its end; a command sent at its last moment must still be known.
            if used_s.saturating_add(1).saturating_mul(1000).saturating_add(SESSION_TTL_MS) > now_ms {
                return;
            }
            self.drop_window(used_s, number, id);
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

    /// A hash of all of it.
    pub(crate) fn digest(&self) -> u64 {
        let floors = self.homes.iter().filter(|(_, home)| home.floor_ms > 0);
        floors.fold(self.digest, |sum, (number, home)| {
            sum.wrapping_add(xxhash_rust::xxh3::xxh3_64_with_seed(&home.floor_ms.to_le_bytes(), u64::from(*number) + 1))
        })
    }

    /// The windows as they are now, for a snapshot; cheap, and unharmed by what is recorded later.
    pub(crate) fn capture(&self) -> Captured {
        Captured { homes: self.homes.iter().map(|(number, home)| (*number, home.clone())).collect() }
    }

    /// Restores what [`Captured::next`] gave.
    ///
    /// # Errors
    /// With a description when the bytes are damaged.
    pub(crate) fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (saved, taken): (SavedHome, usize) = codec::read(rest, "sessions").map_err(|e| e.to_string())?;
            rest = &rest[taken..];
            self.restore_home(saved)?;
        }
        Ok(())
    }

    fn restore_home(&mut self, saved: SavedHome) -> Result<(), String> {
        if saved.number > KEYLESS || self.homes.contains_key(&saved.number) {
            return Err(format!("sessions of slot {} twice or out of range", saved.number));
        }
        let mut home = Home { floor_ms: saved.floor_ms, ..Home::default() };
        for (id, base, used_s, replies) in saved.windows {
            let mut window = Window { base: 0, used_s, ..Window::default() };
            replies.into_iter().for_each(|(sequence, kept)| window.keep(sequence, Bytes::from(kept)));
            let readable = |kept: &Bytes| {
                kept.is_empty() || matches!(ReplyDecoder::decode(&mut BytesMut::from(&kept[..])), Ok(Some(_)))
            };
            if !window.replies.iter().all(|(_, kept)| readable(kept)) {
                return Err(format!("a kept reply of slot {} does not read back", saved.number));
            }
            window.base = base;
            home.bytes += WINDOW_BYTES + window.bytes;
            self.digest = self.digest.wrapping_add(print(saved.number, &id, &window));
            self.idle.insert((used_s, saved.number, id));
            if home.windows.insert(id, window).is_some() {
                return Err(format!("a session of slot {} twice", saved.number));
            }
        }
        self.bytes += home.bytes as u64;
        self.homes.insert(saved.number, Arc::new(home));
        Ok(())
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
fn print(number: u16, id: &SessionId, window: &Window) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::with_seed(u64::from(number));
    let fields = [id.origin, id.connection, window.base, window.used_s, window.digest];
    fields.iter().for_each(|n| hasher.update(&n.to_le_bytes()));
    hasher.digest()
}

type SavedWindow = (SessionId, u64, u64, Vec<(u64, Vec<u8>)>);

/// The windows of one slot in a snapshot.
#[derive(Serialize, Deserialize)]
struct SavedHome {
    number: u16,
    floor_ms: u64,
    windows: Vec<SavedWindow>,
}

/// The windows at one moment.
#[derive(Debug, Default)]
pub(crate) struct Captured {
    homes: std::collections::VecDeque<(u16, Arc<Home>)>,
}

impl Captured {
    /// The next windows, about `bytes` of them; nothing at the end.
    pub(crate) fn next(&mut self, bytes: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < bytes {
            let Some((number, home)) = self.homes.pop_front() else { break };
            let windows = home.windows.iter().map(|(id, window)| {
                let replies = window.replies.iter().map(|(sequence, kept)| (*sequence, kept.to_vec()));
                (*id, window.base, window.used_s, replies.collect())
            });
            codec::put(&SavedHome { number, floor_ms: home.floor_ms, windows: windows.collect() }, &mut out);
        }
        (!out.is_empty()).then_some(out)
    }
}

#[cfg(test)]
mod tests;
