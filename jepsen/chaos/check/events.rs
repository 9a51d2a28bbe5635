//! Subscribers that come back: what one has read, piece by piece, is what one who was never away would have heard.
//!
//! The pieces of each subscriber, one behind the other, are judged as a channel's listener is: one order for all, no
//! gap, no repeat, nothing that nobody said. Besides, a piece that is not cut short ends with all that was acknowledged
//! before it was asked for, and what was said later comes later.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::channel;
use crate::history::{End, F, Op, Value};
use crate::verdict::Verdict;

/// Judges all channels.
pub fn check(ops: &[Op]) -> Verdict {
    let mut subscribers: BTreeMap<(i64, i64), Vec<&Op>> = BTreeMap::new();
    for op in ops.iter().filter(|op| op.f == F::Listen && op.is_ok()) {
        subscribers.entry((op.key, op.answered.ints().first().copied().unwrap_or_default())).or_default().push(op);
    }
    let wholes = subscribers.values().map(|pieces| whole(pieces));
    let told: Vec<Op> = ops.iter().filter(|op| op.f == F::Publish).cloned().chain(wholes).collect();
    let mut verdict = channel::check(&told);
    for ((key, subscriber), pieces) in &subscribers {
        let said: HashMap<i64, &Op> =
            told.iter().filter(|op| op.f == F::Publish && op.key == *key).map(by_message).collect();
        complete(*subscriber, pieces, &said, &mut verdict);
        in_time(pieces, &said, &mut verdict);
    }
    if !subscribers.is_empty() && subscribers.values().flatten().all(|piece| heard(piece).is_empty()) {
        verdict.unknown("too little", "no subscriber has heard anything");
    }
    verdict.figure("subscribers", subscribers.len());
    verdict.figure("pieces", subscribers.values().map(Vec::len).sum::<usize>());
    verdict
}

fn by_message(op: &Op) -> (i64, &Op) {
    (op.asked.ints().first().copied().unwrap_or_default(), op)
}

fn heard(piece: &Op) -> &[i64] {
    piece.answered.ints().get(1..).unwrap_or_default()
}

fn returned(op: &Op) -> u64 {
    op.returned().unwrap_or(u64::MAX)
}

/// As if it had listened all the time.
fn whole(pieces: &[&Op]) -> Op {
    let all = pieces.iter().flat_map(|piece| heard(piece)).copied().collect();
    let end = pieces.iter().map(|piece| returned(piece)).max().unwrap_or(0);
    Op { answered: Value::Ints(all), end: End::Ok(end), ..pieces[0].clone() }
}

/// Whoever asks for all there is gets all that was acknowledged before.
fn complete(subscriber: i64, pieces: &[&Op], said: &HashMap<i64, &Op>, verdict: &mut Verdict) {
    let mut acknowledged: Vec<(u64, i64)> = said.iter().map(|(message, op)| (returned(op), *message)).collect();
    acknowledged.sort_unstable();
    let mut acknowledged = acknowledged.into_iter().filter(|(time, _)| *time < u64::MAX).peekable();
    // Where slots move, the beginning is where the channel came to its group.
    let first = pieces.iter().find_map(|piece| heard(piece).first());
    let since = first.and_then(|message| said.get(message)).map_or(u64::MAX, |op| returned(op));
    let mut own: HashSet<i64> = HashSet::new();
    for piece in pieces {
        own.extend(heard(piece));
        let limit = usize::try_from(piece.asked.int()).unwrap_or(0);
        if limit > 0 && heard(piece).len() >= limit {
            continue;
        }
        while let Some((_, message)) = acknowledged.next_if(|(time, _)| *time < piece.call) {
            if !own.contains(&message) && said[&message].call >= since {
                verdict.invalid(
                    "missed",
                    format!("{}\n  was not there for subscriber {subscriber}: {piece}", said[&message]),
                );
            }
        }
    }
}

/// What was said after another message had been acknowledged comes behind it.
fn in_time(pieces: &[&Op], said: &HashMap<i64, &Op>, verdict: &mut Verdict) {
    let mut earliest: Option<&Op> = None;
    for message in pieces.iter().flat_map(|piece| heard(piece)).rev() {
        let Some(op) = said.get(message) else { continue };
        if let Some(later) = earliest.filter(|later| returned(later) < op.call) {
            verdict.invalid("against time", format!("{op}\n  was heard in front of {later}"));
        }
        earliest = earliest.into_iter().chain([*op]).min_by_key(|op| returned(op));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(f: F, asked: Value, answered: Vec<i64>, call: u64, end: u64) -> Op {
        Op { process: call, f, key: 1, asked, answered: Value::Ints(answered), call, end: End::Ok(end) }
    }

    /// How many are asked for, who hears what, and when.
    type Piece<'a> = (i64, &'a [i64], u64);

    /// Three messages one after the other, and these pieces.
    fn judged(pieces: &[Piece<'_>]) -> Verdict {
        let publish = |message: i64, at| op(F::Publish, Value::Ints(vec![message]), vec![message], at, at + 5);
        let mut ops = vec![publish(11, 10), publish(12, 20), publish(13, 30)];
        let piece =
            |(limit, answered, at): &Piece<'_>| op(F::Listen, Value::Int(*limit), answered.to_vec(), *at, *at + 5);
        ops.extend(pieces.iter().map(piece));
        ops.sort_by_key(|op| op.call);
        check(&ops)
    }

    #[test]
    fn each_promise_of_a_subscription_that_goes_on_is_looked_at() {
        assert!(judged(&[(0, &[1, 11], 17), (0, &[1], 18), (0, &[1, 12, 13], 50)]).findings.is_empty());
        assert!(judged(&[(2, &[1, 11, 12], 40), (2, &[1, 13], 50)]).findings.is_empty(), "few at a time");
        assert!(judged(&[(0, &[1, 12, 13], 40)]).findings.is_empty(), "from where it is kept");
        let wrong: [(&str, &[Piece<'_>]); 7] = [
            ("missed", &[(0, &[1, 11], 40)]),
            ("missed", &[(0, &[1, 12], 40)]),
            ("missed", &[(5, &[1, 11, 12], 40)]),
            ("heard twice", &[(0, &[1, 11], 17), (0, &[1, 11, 12, 13], 50)]),
            ("lost message", &[(0, &[1, 11], 17), (0, &[1, 13], 50)]),
            ("against time", &[(0, &[1, 12, 11, 13], 50)]),
            ("phantom", &[(0, &[1, 11, 12, 13, 0], 50)]),
        ];
        for (name, pieces) in wrong {
            assert!(judged(pieces).has(name), "{name}: {}", judged(pieces));
        }
        let two = judged(&[(0, &[1, 11, 12, 13], 40), (0, &[2, 11, 13, 12], 50)]);
        assert!(two.has("gap or another order"), "{two}");
        assert!(judged(&[(0, &[1], 17)]).has("too little"));
    }
}
