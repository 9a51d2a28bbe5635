//! What FLUSHALL left: its memory is freed bit by bit, or on another thread.

use super::Keyspace;
use super::database::Database;

/// Databases that nobody uses any more and that take time to free; dropping it is safe on any thread.
#[derive(Debug, Default)]
pub struct Garbage {
    _databases: Vec<Database>,
}

impl Keyspace {
    /// Frees some of what FLUSHALL left, at most about `count` keys.
    pub fn collect_garbage(&mut self, count: usize) {
        if let Some(database) = self.garbage.last_mut()
            && database.wear_down(count)
        {
            self.garbage.pop();
        }
    }

    /// Hands over what FLUSHALL left, to be dropped elsewhere; nothing when there is nothing.
    pub fn take_garbage(&mut self) -> Option<Garbage> {
        (!self.garbage.is_empty()).then(|| Garbage { _databases: std::mem::take(&mut self.garbage) })
    }
}
