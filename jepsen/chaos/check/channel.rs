//! Channels: all who listen hear one order, without gaps and without repeats while they are connected, and nothing
//! that nobody said.
//!
//! Every client hears a piece of the channel's one order, so each message has one successor, whoever heard both.
//! Whoever hears an earlier and a later message hears what was published between the two, as the clock shows it.
//! Messages of transactions go another way, behind the transaction; among themselves they keep their order too.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::history::{F, Op};
use crate::verdict::Verdict;

/// So many messages of transactions must have come through somehow, before their absence says something.
const MANY: usize = 50;

/// Judges all channels.
pub fn check(ops: &[Op]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut keys: BTreeMap<i64, Vec<&Op>> = BTreeMap::new();
    ops.iter().for_each(|op| keys.entry(op.key).or_default().push(op));
    let mut heard = 0;
    for (key, ops) in &keys {
        heard += judge(*key, ops, &mut verdict);
    }
    verdict.figure("keys", keys.len());
    verdict.figure("heard", heard);
    verdict
}

fn judge(key: i64, ops: &[&Op], verdict: &mut Verdict) -> usize {
    let publishes: Vec<&Op> = ops.iter().copied().filter(|op| op.f == F::Publish).collect();
    let said: HashMap<i64, &Op> = publishes.iter().filter_map(|op| Some((*op.asked.ints().first()?, *op))).collect();
    let listens: Vec<&Op> = ops.iter().copied().filter(|op| op.f == F::Listen && op.is_ok()).collect();
    let mut next: HashMap<i64, (i64, &Op)> = HashMap::new();
    let mut all: HashSet<i64> = HashSet::new();
    for listen in &listens {
        let heard = listen.answered.ints();
        let mut own = HashSet::new();
        for message in heard {
            if !own.insert(message) {
                verdict.invalid("heard twice", format!("{message}: {listen}"));
            }
            match said.get(message) {
                Some(op) if op.is_possible() && op.call <= listen.returned().unwrap_or(u64::MAX) => {}
                Some(op) => verdict.invalid("phantom", format!("{op}\n  and yet {message} was heard: {listen}")),
                None => verdict.invalid("phantom", format!("{message} was never published: {listen}")),
            }
        }
        for pair in heard.windows(2) {
            let (known, other) = *next.entry(pair[0]).or_insert((pair[1], listen));
            if known != pair[1] {
                let text =
                    format!("key {key}: behind {} came {known}\n  {other}\n  and {}\n  {listen}", pair[0], pair[1]);
                verdict.invalid("gap or another order", text);
            }
        }
        all.extend(heard);
        for class in [0, 1] {
            reliable(listen, class, &publishes, &said, verdict);
        }
    }
    outbox(key, &publishes, &all, verdict);
    all.len()
}

fn class_of(op: &Op) -> i64 {
    op.asked.ints().get(1).copied().unwrap_or_default()
}

/// What was published behind one message that was heard, and in front of another one.
fn reliable(listen: &Op, class: i64, publishes: &[&Op], said: &HashMap<i64, &Op>, verdict: &mut Verdict) {
    let heard = listen.answered.ints();
    let of_class = |op: &&&Op| class_of(op) == class && op.is_ok();
    let known: Vec<&Op> = heard.iter().filter_map(|message| said.get(message)).filter(of_class).copied().collect();
    let Some(first) = known.iter().filter_map(|op| op.returned()).min() else { return };
    let last = known.iter().map(|op| op.call).max().unwrap_or(0);
    let own: HashSet<&i64> = heard.iter().collect();
    let between = publishes.iter().filter(of_class).filter(|op| op.call > first);
    let between = between.filter(|op| op.returned().is_some_and(|returned| returned < last));
    for op in between.filter(|op| op.asked.ints().first().is_some_and(|message| !own.contains(message))) {
        verdict.invalid("lost message", format!("{op}\n  was not heard by {listen}"));
    }
}

/// Nothing at all of transactions came through.
fn outbox(key: i64, publishes: &[&Op], heard: &HashSet<i64>, verdict: &mut Verdict) {
    let is_heard = |op: &&&Op| op.asked.ints().first().is_some_and(|message| heard.contains(message));
    let of = |class: i64| publishes.iter().filter(move |op| class_of(op) == class && op.is_ok());
    let (sent, came) = (of(1).count(), of(1).filter(is_heard).count());
    if sent >= MANY && came == 0 && of(0).filter(is_heard).count() >= MANY {
        verdict.invalid("nothing heard", format!("channel {key}: none of {sent} messages of transactions was heard"));
    }
}
