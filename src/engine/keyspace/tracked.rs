//! Which keys of a few slots were touched: what has to be sent again while the slots are copied to another group.
//!
//! The leader's side of a move. It is no state: what a command does never depends on it.

use std::collections::BTreeSet;

use super::{Keyspace, slot};
use crate::moves::Range;

/// See the module.
#[derive(Debug)]
pub(super) struct Tracked {
    range: Range,
    keys: BTreeSet<(u32, Vec<u8>)>,
    /// Whole databases were emptied or exchanged.
    all: bool,
}

impl Tracked {
    /// A key is about to change or has changed.
    pub(super) fn touch(&mut self, database: u32, key: &[u8]) {
        if self.range.holds(slot(key)) {
            self.keys.insert((database, key.to_vec()));
        }
    }

    /// Databases are about to be emptied or exchanged.
    pub(super) fn touch_all(&mut self) {
        self.all = true;
    }
}

impl Keyspace {
    /// From now on the touched keys of some slots are noted; those of others no more.
    pub(crate) fn track(&mut self, range: Range) {
        self.tracked = Some(Box::new(Tracked { range, keys: BTreeSet::new(), all: false }));
    }

    /// Nothing is noted any more.
    pub(crate) fn untrack(&mut self) {
        self.tracked = None;
    }

    /// The keys that were touched since the last time; nothing when any may have been.
    pub(crate) fn take_tracked(&mut self) -> Option<Vec<(u32, Vec<u8>)>> {
        let tracked = self.tracked.as_mut().filter(|tracked| !tracked.all)?;
        Some(std::mem::take(&mut tracked.keys).into_iter().collect())
    }
}
