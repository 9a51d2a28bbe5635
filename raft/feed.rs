//! What a replica's applied entries have told, for those who follow: the latest of it, in memory.
//!
//! Step 9. Apply offers the events of each entry that has any; readers hold an index and take what stands behind it,
//! so a slow one costs nothing but its own delay. What the feed no longer has is in the event store.
//!
//! Invariants: batches stand in the order of the log, each once; all events above [`Feed::floor`] and up to the
//! replica's applied index are here; a feed that ended never offers anything again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use quoris_engine::events::{self, Class, Event};
use tokio::sync::watch;

use crate::mutant::{self, Mutant};
use crate::node::Node;
use crate::types::GroupId;

/// Bytes of entries whose events are kept here: they share their entry's memory.
const BYTES_MAX: usize = 8 << 20;
/// Batches that are kept here.
const BATCHES_MAX: usize = 16_384;

/// The events of one entry; the n-th of them, from 1 on, has the position `<group>:<index>-<n>`.
#[derive(Debug)]
pub struct Batch {
    /// The group.
    pub group: GroupId,
    /// The entry's index.
    pub index: u64,
    /// The group's clock at this entry.
    pub clock_ms: u64,
    /// In the order in which they happened.
    pub events: Vec<Event>,
    encoded: OnceLock<Bytes>,
}

impl Batch {
    /// The events of the entry at `index`.
    pub fn new(group: GroupId, index: u64, clock_ms: u64, events: Vec<Event>) -> Batch {
        Batch { group, index, clock_ms, events, encoded: OnceLock::new() }
    }

    /// Reads events that [`Batch::encoded`] gave.
    ///
    /// # Errors
    /// When the bytes are no events.
    pub fn decode(group: GroupId, index: u64, clock_ms: u64, encoded: Bytes) -> Result<Batch, events::MalformedEvents> {
        let events = events::decode(&encoded)?;
        Ok(Batch { group, index, clock_ms, events, encoded: OnceLock::from(encoded) })
    }

    /// The events as bytes, for the store and for other nodes; made once.
    pub fn encoded(&self) -> &Bytes {
        self.encoded.get_or_init(|| events::encode(&self.events).into())
    }
}

/// How many events this node's replicas have told since the process began, by kind.
#[derive(Default)]
pub struct Counts {
    messages: AtomicU64,
    /// In the order of [`Class::ALL`].
    keys: [AtomicU64; Class::ALL.len()],
}

impl Counts {
    /// Counts the events of an entry.
    pub fn add(&self, events: &[Event]) {
        for event in events {
            let counter = match event {
                Event::Message { .. } => Some(&self.messages),
                Event::Key { class, .. } => Class::ALL.iter().position(|known| known == class).map(|at| &self.keys[at]),
                Event::Moved { .. } | Event::Arrived { .. } => None,
            };
            if let Some(counter) = counter {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The kinds and their numbers.
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        let keys = Class::ALL.iter().map(|class| class.word()).zip(&self.keys);
        let all = [("message", &self.messages)].into_iter().chain(keys);
        all.map(|(word, counter)| (word, counter.load(Ordering::Relaxed))).collect()
    }
}

impl Node {
    /// What this node's replicas have told.
    pub fn told(&self) -> Vec<(&'static str, u64)> {
        self.inner().health.told.all()
    }
}

/// Events up to this index are not to be had here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("events up to index {0} are no longer kept")]
pub struct Floor(pub u64);

/// See the module.
pub struct Feed {
    ring: Mutex<Ring>,
    /// Whether it has ended; sent with every offer, too.
    ended: watch::Sender<bool>,
}

struct Ring {
    floor: u64,
    batches: VecDeque<(Arc<Batch>, usize)>,
    bytes: usize,
}

impl Feed {
    /// Begins behind the entry at `floor`.
    pub fn new(floor: u64) -> Feed {
        let ring = Ring { floor, batches: VecDeque::new(), bytes: 0 };
        Feed { ring: Mutex::new(ring), ended: watch::channel(false).0 }
    }

    /// Takes the events of an entry, which has so many bytes; before the entry counts as applied.
    pub fn offer(&self, batch: Arc<Batch>, entry_bytes: usize) {
        if mutant::is(Mutant::LostEvent) && batch.index.is_multiple_of(50) {
            return;
        }
        let mut ring = self.ring.lock();
        ring.bytes += entry_bytes;
        ring.batches.push_back((batch, entry_bytes));
        while ring.batches.len() > BATCHES_MAX || (ring.bytes > BYTES_MAX && ring.batches.len() > 1) {
            if let Some((oldest, bytes)) = ring.batches.pop_front() {
                ring.bytes -= bytes;
                ring.floor = oldest.index;
            }
        }
        drop(ring);
        self.wake();
    }

    /// The state was replaced by one that stands at `index`: what lies before is elsewhere.
    pub fn jump(&self, index: u64) {
        *self.ring.lock() = Ring { floor: index, batches: VecDeque::new(), bytes: 0 };
        self.wake();
    }

    /// Nothing will be offered any more.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }

    fn wake(&self) {
        self.ended.send_modify(|_| {});
    }

    /// What stands behind `after`.
    ///
    /// # Errors
    /// When the feed begins behind it.
    pub fn since(&self, after: u64) -> Result<Vec<Arc<Batch>>, Floor> {
        let ring = self.ring.lock();
        if after < ring.floor {
            return Err(Floor(ring.floor));
        }
        let from = ring.batches.partition_point(|(batch, _)| batch.index <= after);
        Ok(ring.batches.range(from..).map(|(batch, _)| batch.clone()).collect())
    }

    /// Everything above this index is here.
    pub fn floor(&self) -> u64 {
        self.ring.lock().floor
    }

    /// Changes with every offer; true at the end.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(index: u64) -> Arc<Batch> {
        let event = Event::Message { channel: "c".into(), payload: index.to_string().into(), sharded: false };
        Arc::new(Batch::new(GroupId(1), index, 9, vec![event]))
    }

    fn indexes(feed: &Feed, after: u64) -> Result<Vec<u64>, Floor> {
        Ok(feed.since(after)?.iter().map(|batch| batch.index).collect())
    }

    #[test]
    fn a_reader_takes_what_stands_behind_its_index() {
        let feed = Feed::new(3);
        for index in [5, 9, 10] {
            feed.offer(batch(index), 1);
        }
        assert_eq!(indexes(&feed, 2), Err(Floor(3)));
        assert_eq!(indexes(&feed, 3), Ok(vec![5, 9, 10]));
        assert_eq!(indexes(&feed, 5), Ok(vec![9, 10]));
        assert_eq!(indexes(&feed, 12), Ok(vec![]));
        feed.jump(20);
        assert_eq!(indexes(&feed, 12), Err(Floor(20)));
        assert_eq!(indexes(&feed, 20), Ok(vec![]));
    }

    #[test]
    fn what_is_dropped_raises_the_floor_and_the_latest_stays() {
        let feed = Feed::new(0);
        feed.offer(batch(1), BYTES_MAX / 2);
        feed.offer(batch(2), BYTES_MAX / 2);
        assert_eq!(feed.floor(), 0);
        feed.offer(batch(4), 1);
        assert_eq!((feed.floor(), indexes(&feed, 1)), (1, Ok(vec![2, 4])));
        feed.offer(batch(6), 2 * BYTES_MAX);
        assert_eq!((feed.floor(), indexes(&feed, 4)), (4, Ok(vec![6])));
    }

    #[test]
    fn readers_are_woken_by_offers_and_by_the_end() {
        let feed = Feed::new(0);
        let mut watch = feed.watch();
        feed.offer(batch(1), 1);
        assert!(watch.has_changed().expect("the feed is there"));
        assert!(!*watch.borrow_and_update());
        feed.end();
        feed.offer(batch(2), 1);
        assert!(*watch.borrow_and_update());
    }

    #[test]
    fn a_batch_reads_back_from_its_bytes() {
        let batch = batch(7);
        let again = Batch::decode(GroupId(1), 7, 9, batch.encoded().clone()).expect("its own bytes");
        assert_eq!(again.events, batch.events);
        assert!(Batch::decode(GroupId(1), 7, 9, Bytes::from_static(b"no")).is_err());
    }
}
