//! Keys that a group has taken in, as they were at one moment, for a snapshot.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::incoming::{Large, Tail, split, tail};
use super::parcel::{Begin, Packing, Record, next_part, of_part};
use super::part::{self, Cursor};
use crate::rdb;
use crate::sequence::Tree;
use crate::types::growing::Kind;

/// Keys that were taken in, at one moment.
#[derive(Debug, Default)]
pub(crate) struct Arriving {
    pub(super) small: Tree,
    /// How many of them were given.
    pub(super) at: u64,
    pub(super) large: VecDeque<Arc<Large>>,
    /// How far the first large one was given.
    pub(super) cursor: Option<Cursor>,
    /// Its payload, where it has no units.
    pub(super) payload: Option<Vec<u8>>,
    pub(super) begun: Option<(Begin, VecDeque<Bytes>)>,
}

impl Arriving {
    /// The next parcel; nothing at the end.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        self.next_small().or_else(|| self.next_large()).or_else(|| self.next_begun())
    }

    fn next_small(&mut self) -> Option<Vec<u8>> {
        let mut packing = Packing::default();
        for item in self.small.iter_from(self.at) {
            let (database, key, rest) = split(item)?;
            let Tail { sent, .. } = tail(rest);
            self.at += 1;
            if let Some(parcel) = packing.add(Record { database, key: key.to_vec(), sent: Some(sent) }) {
                return Some(parcel);
            }
        }
        packing.finish()
    }

    fn next_large(&mut self) -> Option<Vec<u8>> {
        let large = self.large.front()?;
        let is_payload = large.begin.kind == Kind::Payload as u8;
        let (parcel, last) = if is_payload {
            let payload = self.payload.get_or_insert_with(|| rdb::dump_value(&large.value));
            next_part(&large.begin, &mut self.cursor, |at, out| part::write_one(payload, at, out))
        } else {
            next_part(&large.begin, &mut self.cursor, |at, out| part::write(&large.value, at, out))
        };
        if last {
            (self.cursor, self.payload) = (None, None);
            self.large.pop_front();
        }
        Some(parcel)
    }

    fn next_begun(&mut self) -> Option<Vec<u8>> {
        let (begin, parts) = self.begun.as_mut()?;
        let part = parts.pop_front()?;
        let first = self.cursor.is_none().then_some(&*begin);
        self.cursor.get_or_insert_default();
        Some(of_part(first, |out| {
            out.extend_from_slice(&part);
            false
        }))
    }
}
