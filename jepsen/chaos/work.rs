//! Workloads: what clients ask, how that is said in RESP, and which checker judges it.
//!
//! A workload is shared by all its clients. Invariants: every written value is new; keys are left behind after a
//! while, so that no key's history grows without bound; a question is sent once.

use std::sync::atomic::{AtomicI64, Ordering};

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use crate::check::expiry::Tolerance;
use crate::check::{
    append, bank, channel, counter, events as pieces, expiry, lock, many, queue, register, set, stream,
};
use crate::client::{Client, Trouble};
use crate::history::{F, Micro, Op, Value};
use crate::verdict::Verdict;

mod any;
mod banks;
mod channels;
mod events;
mod larges;
mod lists;
mod locks;
mod manies;
mod singles;
mod streams;

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct Question {
    /// What.
    pub f: F,
    /// On what; transactions name their keys themselves.
    pub key: Option<i64>,
    /// With what.
    pub asked: Value,
}

impl Question {
    fn new(f: F, key: i64, asked: Value) -> Question {
        Question { f, key: Some(key), asked }
    }

    /// Whether it only reads.
    pub fn changes_nothing(&self) -> bool {
        self.f == F::Read || (self.f == F::Txn && self.asked.steps().iter().all(|step| step.0 == Micro::Read))
    }

    fn name(&self, client: &Client, workload: &str) -> String {
        client.name(&format!("{workload}:{}", self.key.unwrap_or_default()))
    }
}

/// Why a question has no answer: [`Trouble`], and for an open end what is known nevertheless.
#[derive(Clone, Debug)]
pub struct Missed {
    /// Why.
    pub trouble: Trouble,
    /// What may have happened.
    pub value: Value,
}

impl From<Trouble> for Missed {
    fn from(trouble: Trouble) -> Missed {
        Missed { trouble, value: Value::Null }
    }
}

/// Nothing was done.
pub(crate) fn refused(why: &str) -> Missed {
    Trouble::Refused(why.to_string()).into()
}

/// One workload.
pub trait Work: Send + Sync {
    /// What to ask next.
    fn next(&self, dice: &mut Dice) -> Question;

    /// Asks it.
    ///
    /// # Errors
    /// When there is no answer.
    fn perform(&self, client: &mut Client, question: &Question) -> Result<Value, Missed>;

    /// What is asked at the end, when everything works again.
    fn last(&self) -> Vec<Question>;

    /// The answer to a last question is the last; otherwise it is asked again.
    fn is_over(&self, _question: &Question, _answered: &Value) -> bool {
        true
    }
}

/// All workloads by name.
pub const NAMES: &[&str] = &[
    "register", "append", "many", "bank", "counter", "queue", "stream", "set", "lock", "expiry", "channel", "events",
    "large", "any",
];

/// Those that ask for what Redis does not have.
pub const OF_QUORIS: &[&str] = &["events"];

/// Those that say the most about a store that only replicates.
pub const OF_REDIS: &[&str] = &["register", "append", "counter", "queue", "set"];

/// The workload of that name.
pub fn by_name(name: &str) -> Option<Box<dyn Work>> {
    Some(match name {
        "register" => Box::<singles::Registers>::default(),
        "counter" => Box::<singles::Counters>::default(),
        "set" => Box::<singles::Sets>::default(),
        "expiry" => Box::<singles::Mortals>::default(),
        "append" => Box::<lists::Appends>::default(),
        "queue" => Box::<lists::Queues>::default(),
        "many" => Box::<manies::Manies>::default(),
        "bank" => Box::<banks::Banks>::default(),
        "stream" => Box::<streams::Streams>::default(),
        "channel" => Box::<channels::Channels>::default(),
        "events" => Box::<events::Events>::default(),
        "large" => Box::<larges::Larges>::default(),
        "any" => Box::<any::Anything>::default(),
        "lock" => Box::<locks::Locks>::default(),
        _ => return None,
    })
}

/// Judges the history of a workload.
pub fn judge(name: &str, ops: &[Op], tolerance: Tolerance) -> Verdict {
    match name {
        "register" | "large" => register::check(ops),
        "counter" => counter::check(ops),
        "set" => set::check(ops),
        "expiry" => expiry::check(ops, tolerance),
        "append" => append::check(ops),
        "queue" => queue::check(ops),
        "many" => many::check(ops),
        "bank" => bank::check(ops),
        "stream" => stream::check(ops),
        "channel" => channel::check(ops),
        "events" => pieces::check(ops),
        // What the replicas hold at the end says it.
        "any" => Verdict::default(),
        "lock" => lock::check(ops, tolerance.early),
        _ => {
            let mut verdict = Verdict::default();
            verdict.unknown("malformed", format!("no workload is called {name}"));
            verdict
        }
    }
}

/// Numbers that never come twice.
#[derive(Default)]
struct Serial(AtomicI64);

impl Serial {
    /// From 1 on.
    fn next(&self) -> i64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn last(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Keys in use: `hot` of them at a time, and new ones when each was asked about some hundred times.
#[derive(Default)]
struct Keys {
    asked: Serial,
}

const QUESTIONS_PER_KEY: i64 = 200;

impl Keys {
    fn pick(&self, dice: &mut Dice, hot: i64) -> i64 {
        let batch = self.asked.next() / (QUESTIONS_PER_KEY * hot);
        batch * hot + dice.below(hot)
    }

    /// All that were ever in use.
    fn all(&self, hot: i64) -> std::ops::Range<i64> {
        0..(self.asked.last() / (QUESTIONS_PER_KEY * hot) + 1) * hot
    }
}

/// Chance, from a seed.
pub struct Dice(Pcg64);

impl Dice {
    /// The same sequence for the same seed.
    pub fn new(seed: u64) -> Dice {
        Dice(Pcg64::seed_from_u64(seed))
    }

    /// A number from 0 to below `n`.
    pub fn below(&mut self, n: i64) -> i64 {
        (self.0.next_u64() % n.max(1).unsigned_abs()) as i64
    }
}
