//! Two engines that get the same entries agree after each of them, though one is restored from snapshots
//! in the middle and the other writes snapshots in small steps meanwhile; and no command panics.

use bytes::Bytes;
use quoris_engine::entry::{Attempt, CommandMeta, EntryBuilder, SessionId, SessionStamp, Transaction, Watch};
use quoris_engine::{Engine, EngineSeed};
use quoris_resp::{Argv, Reply};

use crate::feed::Feed;
use commands::{KEYS, argv};

mod commands;

const DATABASES: u32 = 3;
const BEGIN_MS: u64 = 1_700_000_000_000;
/// What one input may do at most; more of it finds nothing new and only takes time.
const STEPS_MAX: usize = 120;

struct Twins {
    one: Engine,
    /// Restored from a snapshot now and then.
    other: Engine,
    index: u64,
    clock_ms: u64,
    /// A snapshot that `one` writes in steps: so far, and what it must become.
    snapshot: Option<(Vec<u8>, Vec<u8>)>,
}

/// The bytes decide which entries come, which snapshots are taken, and how time passes.
pub(crate) fn run(data: &[u8]) {
    let seed = EngineSeed { hash_seed: [1, 2], databases: DATABASES };
    let mut twins =
        Twins { one: Engine::new(seed), other: Engine::new(seed), index: 0, clock_ms: BEGIN_MS, snapshot: None };
    let mut feed = Feed(data);
    for _ in 0..STEPS_MAX {
        if feed.is_empty() {
            break;
        }
        match feed.below(16) {
            0..=9 => twins.entry(&mut feed),
            10 => twins.restore(),
            11 => twins.begin_snapshot(),
            12 => twins.step_snapshot(1 + feed.below(4000)),
            13 => {
                let jump = feed.pick(&[0, 1, 999, 60_000, 600_001, 86_400_000, 1 << 40]);
                twins.advance(jump);
                twins.apply(EntryBuilder::default(), &mut feed);
            }
            14 => twins.many(&mut feed),
            _ => twins.index += u64::from(feed.byte()),
        }
    }
    twins.end();
}

impl Twins {
    fn advance(&mut self, ms: u64) {
        self.clock_ms = self.clock_ms.saturating_add(ms).min(i64::MAX.cast_unsigned() - 1);
    }

    fn entry(&mut self, feed: &mut Feed<'_>) {
        let mut builder = EntryBuilder::default();
        for _ in 0..=feed.below(4) {
            let session = feed.chance(4).then(|| self.stamp(feed));
            let database = if feed.chance(32) { u32::MAX } else { feed.pick(&[0, 0, 0, 1, 2]) };
            let transaction = feed.chance(8);
            let attempt = feed.chance(8).then(|| feed.pick(&[Attempt::First, Attempt::Again]));
            let argv = if transaction { self.transaction(feed).to_argv() } else { argv(feed) };
            builder.push(&CommandMeta { database, transaction, attempt, session, ..CommandMeta::default() }, &argv);
        }
        self.advance(u64::from(feed.byte() % 8));
        self.apply(builder, feed);
    }

    /// Keys enough for several ticks and several batches of a snapshot, most of them due soon.
    fn many(&mut self, feed: &mut Feed<'_>) {
        let mut builder = EntryBuilder::default();
        let (count, ttl) = (usize::from(feed.byte()) * 2, feed.pick(&["5", "100", "60000"]));
        for n in 0..count {
            builder.push(&CommandMeta::default(), &Argv::from_parts(&["SET", &format!("many:{n}"), "v", "PX", ttl]));
        }
        self.apply(builder, feed);
    }

    fn stamp(&self, feed: &mut Feed<'_>) -> SessionStamp {
        let number = |feed: &mut Feed<'_>| if feed.chance(32) { feed.number() } else { u64::from(feed.byte() % 12) };
        let session = SessionId { origin: u64::from(feed.byte() % 3), connection: u64::from(feed.byte() % 2) };
        let (sequence, acknowledged_below) = (number(feed), number(feed));
        let first_sent_ms = if feed.chance(32) { feed.number() } else { self.clock_ms - feed.pick(&[0, 1, 600_000]) };
        SessionStamp { session, sequence, acknowledged_below, first_sent_ms }
    }

    fn transaction(&self, feed: &mut Feed<'_>) -> Transaction {
        let watches = (0..feed.below(3)).map(|_| {
            let (database, key) = (feed.pick(&[0, 1, 2]), feed.pick(KEYS).as_bytes().to_vec());
            let version = self.one.keyspace().version(database, &key) + u64::from(feed.chance(4));
            Watch { database, key, version }
        });
        let watches = watches.collect();
        Transaction { watches, commands: (0..=feed.below(3)).map(|_| argv(feed)).collect() }
    }

    /// The next entry for both.
    fn apply(&mut self, builder: EntryBuilder, feed: &mut Feed<'_>) {
        self.index += 1;
        let body = builder.finish(self.clock_ms, feed.number());
        let replies = [&mut self.one, &mut self.other].map(|engine| apply(engine, self.index, &body));
        assert_eq!(replies[0], replies[1], "replies of entry {}", self.index);
        assert_eq!(self.one.digest(), self.other.digest(), "after entry {}: {:?}", self.index, replies[0]);
        assert_eq!(self.one.stats(), self.other.stats(), "after entry {}: {:?}", self.index, replies[0]);
    }

    fn restore(&mut self) {
        let bytes = self.other.snapshot(Vec::new()).expect("none is running");
        let mut engine = Engine::load(&mut &bytes[..], &mut |_| {}).expect("a snapshot of our own").engine;
        assert_eq!(engine.digest(), self.other.digest());
        assert_eq!(engine.applied_index(), self.other.applied_index());
        self.other = engine;
    }

    fn begin_snapshot(&mut self) {
        if self.snapshot.is_none() {
            self.one.begin_snapshot(Vec::new()).expect("none is running");
            self.snapshot = Some((Vec::new(), self.other.snapshot(Vec::new()).expect("none is running")));
        }
    }

    fn step_snapshot(&mut self, bytes: usize) {
        let Some((written, expected)) = &mut self.snapshot else { return };
        if self.one.step_snapshot(written, bytes) {
            assert_eq!(written, expected, "a snapshot shows the state at its beginning");
            self.snapshot = None;
        }
    }

    fn end(mut self) {
        while self.snapshot.is_some() {
            self.step_snapshot(1 << 20);
        }
        let snapshots = [&mut self.one, &mut self.other].map(|engine| engine.snapshot(Vec::new()));
        assert_eq!(snapshots[0], snapshots[1]);
        let digests = [&self.one, &self.other].map(|engine| engine.keyspace().digest_from_scratch());
        assert_eq!(digests[0], digests[1]);
    }
}

fn apply(engine: &mut Engine, index: u64, body: &Bytes) -> Vec<Reply> {
    let mut replies = Vec::new();
    engine.apply_entry(index, body, &mut |_, reply, _| replies.push(reply)).expect("an entry of our own");
    replies
}
