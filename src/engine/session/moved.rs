//! Sessions of slots that move to another group: what the old owner knows of them goes along.
//!
//! A command that is sent again must be known to the new owner as well. The replies go along, and of every session
//! how far its old owner has forgotten: what was forgotten there must not look new here. The old owner keeps its
//! copies; they say nothing wrong, and age.

use std::sync::Arc;

use super::window::{WINDOW_BYTES, Window};
use super::{Captured, POOL_BYTES_MAX, Saved, Sessions, pool, read_kept};
use crate::codec;
use crate::moves::Range;

impl Sessions {
    /// What is known of the commands of some slots.
    pub(crate) fn depart(&self, range: Range) -> Vec<u8> {
        let Captured { floors_ms, windows } = self.capture();
        let windows = windows.into_iter().map(|(id, window)| {
            let moves = |homes: &[u16]| homes.iter().any(|home| range.holds(*home));
            let replies = window.replies.iter().filter(|kept| moves(&kept.homes));
            let replies = replies.map(|k| (k.sequence, k.homes.to_vec(), k.reply.to_vec())).collect();
            (id, window.base, window.known_from_ms, window.used_s, replies)
        });
        codec::bytes(&Saved { floors_ms, windows: windows.collect() })
    }

    /// Whether bytes are what [`Sessions::depart`] gave.
    pub(crate) fn can_arrive(bytes: &[u8]) -> bool {
        let Ok((Saved { windows, .. }, _)) = codec::read::<Saved>(bytes, "sessions") else { return false };
        windows.into_iter().all(|(id, _, _, _, replies)| {
            replies.into_iter().all(|(sequence, homes, reply)| read_kept(&id, sequence, homes, reply).is_ok())
        })
    }

    /// Takes over what [`Sessions::depart`] gave.
    ///
    /// # Errors
    /// With a description when the bytes are damaged.
    pub(crate) fn arrive(&mut self, bytes: &[u8]) -> Result<(), String> {
        let (saved, _): (Saved, usize) = codec::read(bytes, "sessions").map_err(|e| e.to_string())?;
        // What was dropped there and first sent below its floor is not known here either, whoever's it was.
        for (at, floor_ms) in saved.floors_ms.into_iter().enumerate() {
            self.pools[at].floor_ms = self.pools[at].floor_ms.max(floor_ms);
            for (_, window) in self.windows.iter_mut().filter(|(id, w)| pool(id) == at && w.known_from_ms < floor_ms) {
                Arc::make_mut(window).known_from_ms = floor_ms;
            }
        }
        for (id, base, known_from_ms, used_s, replies) in saved.windows {
            let (pool, stays) = (&mut self.pools[pool(&id)], id.is_groups());
            let window = self.windows.entry(id).or_insert_with(|| {
                if !stays {
                    pool.idle.insert((used_s, id));
                    pool.bytes += WINDOW_BYTES as u64;
                }
                Arc::new(Window { used_s, known_from_ms: pool.floor_ms, ..Window::default() })
            });
            let window = Arc::make_mut(window);
            let (before, last_used_s) = (window.bytes as u64, window.used_s);
            window.known_from_ms = window.known_from_ms.max(known_from_ms);
            for (sequence, homes, reply) in replies {
                window.keep(read_kept(&id, sequence, homes, reply)?);
            }
            window.acknowledge(base);
            window.used_s = used_s.max(last_used_s);
            if stays {
                continue;
            }
            pool.bytes = pool.bytes - before + window.bytes as u64;
            if used_s > last_used_s {
                pool.idle.remove(&(last_used_s, id));
                pool.idle.insert((used_s, id));
            }
        }
        for at in 0..self.pools.len() {
            while self.pools[at].bytes > POOL_BYTES_MAX {
                self.drop_idlest(at);
            }
        }
        Ok(())
    }
}
