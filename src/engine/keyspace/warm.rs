//! Brings keys that are about to be used into the processor's cache, several at a time.
//!
//! Looking a key up waits for memory four times in a row: table, bucket, entry, value. Commands that came
//! together can wait together: each step is done for all of them before the next, so that the processor
//! has their loads under way at once. A hint only: it changes nothing and may be wrong.

use std::hint::black_box;

use smallvec::SmallVec;

use super::Keyspace;
use crate::{Value, types::string::StringValue};

/// So many loads a core keeps under way.
pub const WARM_MAX: usize = 16;

impl Keyspace {
    /// Looks at the first [`WARM_MAX`] keys.
    pub fn warm<'a>(&self, database: u32, keys: impl Iterator<Item = &'a [u8]>) {
        let Some(database) = self.databases.get(database as usize).filter(|database| database.len() > 0) else {
            return;
        };
        let places: SmallVec<[_; WARM_MAX]> = keys.take(WARM_MAX).map(|key| self.place(key)).collect();
        let table = |place: &super::Place| Some((database.table(place.slot())?, place.hash()));
        let tables: SmallVec<[_; WARM_MAX]> = places.iter().filter_map(table).collect();
        let leaves: SmallVec<[_; WARM_MAX]> = tables.iter().map(|(table, hash)| (table.leaf(*hash), *hash)).collect();
        let entries: SmallVec<[_; WARM_MAX]> = leaves.iter().filter_map(|(leaf, hash)| leaf.head(*hash)).collect();
        black_box(entries.iter().fold(0, |sum, entry| sum ^ entry.next ^ u32::from(first_byte(&entry.value))));
    }
}

/// A byte of what lies on the heap.
fn first_byte(value: &Value) -> u8 {
    match value {
        Value::String(StringValue::Fixed(text)) => text.first().copied().unwrap_or(0),
        Value::String(StringValue::Grown(text)) => text.first().copied().unwrap_or(0),
        // Collections are found by their table alone: which of their bytes a command needs is not known.
        _ => 0,
    }
}
