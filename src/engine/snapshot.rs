//! A snapshot of a group: an RDB file that is written in small steps while entries are applied.
//!
//! The file is the state exactly as it was at [`Engine::begin_snapshot`]. What redis-server does not
//! know travels in AUX fields, which it passes over: in front index, clock, seed, version counters and
//! sessions; between the keys, before each batch of them, versions and origins of the keys of that batch. The
//! fields are described in `src/docs/formats.md`.
//!
//! Invariants:
//! * The bytes are a function of the state at the beginning: neither the size of the steps nor what is
//!   written meanwhile shows. (Except when more than 64 MiB of old values had to be set aside: then the
//!   order of the keys differs, and nothing else.)
//! * One step produces about as many bytes as it was allowed, and one batch of keys more at most.

mod load;
pub(crate) mod numbers;
mod summary;

pub use load::Loaded;
pub use summary::Summary;

use crate::keyspace::{CutEntry, Flow};
use crate::moves::{Arriving, Moves};
use crate::rdb::{VERSION, VERSION_EXPIRING_FIELDS, opcode, write};
use crate::session::Captured;
use crate::types::collection::Collection;
use crate::{Engine, Keyspace, SLOTS, Value, payload};

/// The version of the fields of our own.
const FORMAT: u64 = 1;
/// That of a snapshot with slots on their way: an older program refuses it.
const FORMAT_MOVING: u64 = 2;
/// Bytes of keys that share one field of versions.
const BATCH_BYTES: usize = 128 * 1024;
/// Longer values are written bit by bit.
const STREAM_FROM: usize = 128 * 1024;
/// Bytes of sessions in one field, about.
const SESSIONS_BYTES: usize = 64 * 1024;

/// A group that owns no slot says so.
const NO_SLOTS: &str = "-";

/// Names of the fields of our own.
mod field {
    pub(super) const FORMAT: &str = "quoris-format";
    pub(super) const INDEX: &str = "quoris-applied-index";
    pub(super) const CLOCK: &str = "quoris-clock-ms";
    pub(super) const SEED: &str = "quoris-hash-seed";
    pub(super) const DATABASES: &str = "quoris-databases";
    pub(super) const EXCHANGES: &str = "quoris-exchanges";
    pub(super) const EXPIRED: &str = "quoris-expired";
    pub(super) const SLOTS: &str = "quoris-slot-versions";
    pub(super) const SETTINGS: &str = "quoris-settings";
    pub(super) const SCRIPTS: &str = "quoris-scripts";
    pub(super) const OUTBOX: &str = "quoris-outbox";
    pub(super) const OWN: &str = "quoris-own-slots";
    pub(super) const MOVES: &str = "quoris-moves";
    pub(super) const ARRIVING: &str = "quoris-arriving";
    pub(super) const SESSIONS: &str = "quoris-sessions";
    pub(super) const KEYS: &str = "quoris-key-versions";
    pub(super) const BESIDE: &str = "quoris-value";
}

/// Only one snapshot is taken at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a snapshot is being taken already")]
pub struct AlreadyRunning;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Head,
    Sessions,
    Arriving,
    Keys,
}

/// A snapshot that is being written.
pub(crate) struct Snapshot {
    phase: Phase,
    /// All in front of the sessions.
    head: Vec<u8>,
    sessions: Captured,
    arriving: Arriving,
    batch: Batch,
    /// Where a long value goes on: a byte of a string, an element of a collection.
    streamed: Option<u64>,
    checksum: crc_fast::Digest,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("phase", &self.phase).finish_non_exhaustive()
    }
}

/// Keys that wait until there are enough of them for a field of versions.
#[derive(Default)]
struct Batch {
    database: Option<u32>,
    keys: Vec<u8>,
    versions: Vec<u8>,
}

impl Batch {
    /// Adds a key; of a long value only what stands in front of its bytes or elements.
    fn add(&mut self, entry: &CutEntry<'_>, sizes: impl FnOnce(u32) -> (u64, u64)) -> Flow {
        if self.database != Some(entry.database) {
            self.database = Some(entry.database);
            write::database(entry.database, sizes(entry.database), &mut self.keys);
        }
        numbers::put(entry.version << 2 | u64::from(payload::origin(entry.value)), &mut self.versions);
        if let Some(beside) = entry.value.collection().and_then(Collection::beside) {
            write::aux(field::BESIDE, &beside, &mut self.keys);
        }
        write::entry_head(entry.key, entry.value, entry.expire_at_ms, &mut self.keys);
        let len = payload::size(entry.value);
        if len > STREAM_FROM {
            match entry.value.collection() {
                Some(collection) => collection.write_head(&mut self.keys),
                None => write::length(len as u64, &mut self.keys),
            }
            return Flow::Stream;
        }
        write::value(entry.value, &mut self.keys);
        Flow::More
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        if !self.versions.is_empty() {
            write::aux(field::KEYS, &self.versions, out);
        }
        out.append(&mut self.keys);
        self.versions.clear();
    }
}

impl Engine {
    /// Begins a snapshot of the present state. `aux` are fields of the caller; their names must not begin
    /// with `quoris-` followed by a name of the engine's own. Takes well below a millisecond.
    ///
    /// # Errors
    /// When one is being taken already.
    pub fn begin_snapshot(&mut self, aux: Vec<(String, Vec<u8>)>) -> Result<(), AlreadyRunning> {
        if self.snapshot.is_some() {
            return Err(AlreadyRunning);
        }
        let head = self.snapshot_head(&aux);
        self.keyspace.begin_cut();
        self.snapshot = Some(Snapshot {
            phase: Phase::Head,
            head,
            sessions: self.sessions.capture(),
            arriving: self.keyspace.moves().map(Moves::capture).unwrap_or_default(),
            batch: Batch::default(),
            streamed: None,
            checksum: crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Redis),
        });
        Ok(())
    }

    /// Appends about `bytes_budget` bytes of the snapshot to `out`; true when it is complete. Entries may be
    /// applied between steps.
    ///
    /// # Panics
    /// When no snapshot was begun.
    pub fn step_snapshot(&mut self, out: &mut Vec<u8>, bytes_budget: usize) -> bool {
        let snapshot = self.snapshot.as_mut().expect("a snapshot was begun");
        let begin = out.len();
        let done = snapshot.step(&mut self.keyspace, out, bytes_budget.max(1));
        snapshot.checksum.update(&out[begin..]);
        if done {
            out.extend_from_slice(&snapshot.checksum.finalize().to_le_bytes());
            self.abort_snapshot();
        }
        done
    }

    /// Gives a snapshot up, if one is being taken.
    pub fn abort_snapshot(&mut self) {
        if self.snapshot.take().is_some() {
            self.keyspace.end_cut();
        }
    }

    /// Whether a snapshot is being taken.
    pub fn snapshot_running(&self) -> bool {
        self.snapshot.is_some()
    }

    /// A whole snapshot at once, for tests and tools.
    ///
    /// # Errors
    /// When one is being taken already.
    pub fn snapshot(&mut self, aux: Vec<(String, Vec<u8>)>) -> Result<Vec<u8>, AlreadyRunning> {
        self.begin_snapshot(aux)?;
        let mut out = Vec::new();
        while !self.step_snapshot(&mut out, 1 << 20) {}
        Ok(out)
    }

    /// Everything in front of the sessions.
    fn snapshot_head(&self, aux: &[(String, Vec<u8>)]) -> Vec<u8> {
        let keys = &self.keyspace;
        let [one, other] = keys.hash_seed();
        let exchanges: Vec<u8> = keys.exchanges().iter().fold(Vec::new(), |mut out, n| {
            numbers::put(u64::from(*n), &mut out);
            out
        });
        let mut out = Vec::new();
        let version = if keys.has_expiring_fields() { VERSION_EXPIRING_FIELDS } else { VERSION };
        write::magic(version, &mut out);
        let mut put = |name: &str, value: &[u8]| write::aux(name, value, &mut out);
        put("redis-ver", crate::REDIS_VERSION.as_bytes());
        put("redis-bits", b"64");
        put("ctime", (keys.now_ms() / 1000).to_string().as_bytes());
        put("used-mem", keys.memory_bytes().to_string().as_bytes());
        put("aof-base", b"0");
        let is_moving = keys.moves().is_some_and(Moves::is_busy);
        put(field::FORMAT, if is_moving { FORMAT_MOVING } else { FORMAT }.to_string().as_bytes());
        put(field::INDEX, self.applied_index.to_string().as_bytes());
        put(field::CLOCK, keys.now_ms().to_string().as_bytes());
        put(field::SEED, format!("{one:016x}{other:016x}").as_bytes());
        put(field::DATABASES, keys.databases().to_string().as_bytes());
        put(field::EXCHANGES, &exchanges);
        put(field::EXPIRED, keys.expired().to_string().as_bytes());
        put(field::SLOTS, &slot_versions(keys));
        put(field::SETTINGS, keys.settings().to_string().as_bytes());
        put(field::SCRIPTS, &keys.scripts().saved());
        if !keys.outbox().is_empty() {
            put(field::OUTBOX, &keys.outbox().saved());
        }
        put(field::OWN, own_slots(keys).as_bytes());
        if let Some(moves) = keys.moves() {
            put(field::MOVES, &moves.saved());
        }
        aux.iter().for_each(|(name, value)| put(name, value));
        keys.libraries().codes().for_each(|code| write::function(code, &mut out));
        out
    }
}

/// The slots that the group owns, as `0-99 200-299`; nothing when it owns all, and [`NO_SLOTS`] when none.
fn own_slots(keys: &Keyspace) -> String {
    let ranges = keys.slots().unwrap_or_default().iter();
    if keys.slots().is_some_and(<[_]>::is_empty) {
        return NO_SLOTS.into();
    }
    ranges.map(|(first, last)| format!("{first}-{last}")).collect::<Vec<_>>().join(" ")
}

/// The version counters of the slots that were ever written: slots passed over, counter, and how far the
/// last removal lies behind it.
fn slot_versions(keys: &Keyspace) -> Vec<u8> {
    let mut out = Vec::new();
    let mut expected = 0;
    for slot in 0..SLOTS {
        let (counter, removed) = keys.slot_versions(slot);
        if counter > 0 {
            for n in [u64::from(slot - expected), counter, counter - removed] {
                numbers::put(n, &mut out);
            }
            expected = slot + 1;
        }
    }
    out
}

impl Snapshot {
    fn step(&mut self, keys: &mut Keyspace, out: &mut Vec<u8>, budget: usize) -> bool {
        let end = out.len() + budget;
        while out.len() < end {
            match self.phase {
                Phase::Head => {
                    out.append(&mut self.head);
                    self.phase = Phase::Sessions;
                }
                Phase::Sessions => match self.sessions.next(SESSIONS_BYTES) {
                    Some(sessions) => write::aux(field::SESSIONS, &sessions, out),
                    None => self.phase = Phase::Arriving,
                },
                Phase::Arriving => match self.arriving.next() {
                    Some(keys) => write::aux(field::ARRIVING, &keys, out),
                    None => self.phase = Phase::Keys,
                },
                Phase::Keys if self.streamed.is_some() => self.stream(keys, out, end),
                Phase::Keys => {
                    let left = end - out.len();
                    if !self.keys(keys, out, left) {
                        self.batch.flush(out);
                        out.push(opcode::EOF);
                        return true;
                    }
                    return false;
                }
            }
        }
        false
    }

    /// Writes keys until `budget` bytes were produced; false when there are no more.
    fn keys(&mut self, keys: &mut Keyspace, out: &mut Vec<u8>, budget: usize) -> bool {
        let sizes: Vec<_> = (0..keys.databases()).map(|database| keys.cut_sizes(database)).collect();
        let Snapshot { batch, streamed, .. } = self;
        let mut produced = 0;
        keys.cut_step(&mut |entry| {
            let before = batch.keys.len();
            let flow = batch.add(&entry, |database| sizes[database as usize]);
            produced += batch.keys.len() - before;
            if flow == Flow::Stream {
                *streamed = Some(0);
            }
            if flow == Flow::Stream || batch.keys.len() >= BATCH_BYTES {
                batch.flush(out);
            }
            if flow == Flow::More && produced >= budget { Flow::Pause } else { flow }
        })
    }

    /// Goes on with a long value.
    fn stream(&mut self, keys: &mut Keyspace, out: &mut Vec<u8>, end: usize) {
        let from = self.streamed.expect("a value is being streamed");
        self.streamed = match keys.cut_streamed() {
            Value::String(text) => {
                let (text, from) = (payload::string_bytes(text), from as usize);
                let to = text.len().min(from + (end - out.len()));
                out.extend_from_slice(&text[from..to]);
                (to < text.len()).then_some(to as u64)
            }
            other => other.collection().and_then(|collection| collection.write_part(from, end, out)),
        };
        if self.streamed.is_none() {
            keys.cut_stream_ends();
        }
    }
}
