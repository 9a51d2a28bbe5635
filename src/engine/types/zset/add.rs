//! ZADD and ZINCRBY.

use quoris_resp::{Argv, Reply};

use super::value::SortedSet;
use crate::types::collection::{change_or_make, look};
use crate::{ApplyContext, CommandResult, Error, Keyspace, Settings, double};

/// When a score is taken over, and what it means.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::types) struct Rules {
    /// Only members that are not there.
    pub(in crate::types) new_only: bool,
    /// Only members that are there.
    pub(in crate::types) old_only: bool,
    /// Only scores that grow.
    greater: bool,
    /// Only scores that fall.
    less: bool,
    /// The number is added to the score.
    increment: bool,
    /// The reply counts changed members too.
    pub(in crate::types) count_changed: bool,
}

/// A member and the number that stands with it.
pub(in crate::types) type Pair<'a> = (f64, &'a [u8]);

/// What becomes of a member.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// The rules forbid it.
    Refused,
    /// The score is what it was.
    Same(f64),
    Added(f64),
    Updated(f64),
}

impl Rules {
    /// The words in front of the pairs, from argument 2 on, and where the pairs begin.
    fn parse(argv: &Argv) -> (Rules, usize) {
        let (mut rules, mut at) = (Rules::default(), 2);
        while let Some(word) = argv.get(at) {
            match &word.to_ascii_lowercase()[..] {
                b"nx" => rules.new_only = true,
                b"xx" => rules.old_only = true,
                b"gt" => rules.greater = true,
                b"lt" => rules.less = true,
                b"ch" => rules.count_changed = true,
                b"incr" => rules.increment = true,
                _ => break,
            }
            at += 1;
        }
        (rules, at)
    }

    fn check(self, pairs: usize) -> Result<(), Error> {
        let Rules { new_only, old_only, greater, less, increment, .. } = self;
        if new_only && old_only {
            return Err(Error::text("ERR XX and NX options at the same time are not compatible"));
        }
        if new_only && (greater || less) || greater && less {
            return Err(Error::text("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if increment && pairs > 1 {
            return Err(Error::text("ERR INCR option supports a single increment-element pair"));
        }
        Ok(())
    }

    fn outcome(self, old: Option<f64>, number: f64) -> Result<Outcome, Error> {
        let Some(old) = old else {
            return Ok(if self.old_only { Outcome::Refused } else { Outcome::Added(number) });
        };
        if self.new_only {
            return Ok(Outcome::Refused);
        }
        let score = if self.increment { old + number } else { number };
        if score.is_nan() {
            return Err(Error::text("ERR resulting score is not a number (NaN)"));
        }
        if self.less && score >= old || self.greater && score <= old {
            return Ok(Outcome::Refused);
        }
        Ok(if score == old { Outcome::Same(score) } else { Outcome::Updated(score) })
    }
}

/// The pairs from argument `at` on.
fn pairs(argv: &Argv, at: usize) -> Result<Vec<Pair<'_>>, Error> {
    let score = |at: usize| double::parse(&argv[at]).ok_or(Error::NotAFloat);
    (at..argv.len()).step_by(2).map(|at| Ok((score(at)?, &argv[at + 1]))).collect()
}

/// Adds pairs to a set by some rules: ZADD behind its arguments.
pub(in crate::types) fn add(
    keyspace: &mut Keyspace,
    context: &ApplyContext,
    key: &[u8],
    rules: Rules,
    pairs: &[Pair<'_>],
) -> CommandResult {
    // The key is opened only when there is something to change; up to the first change nothing else has changed.
    let set = look::<SortedSet>(keyspace, context.database, key)?;
    let mut changes = false;
    let mut score = None;
    for (number, member) in pairs {
        match rules.outcome(set.and_then(|set| set.score(member)), *number)? {
            Outcome::Refused => {}
            Outcome::Same(same) => score = Some(same),
            Outcome::Added(new) | Outcome::Updated(new) => {
                (score, changes) = (Some(new), true);
                break;
            }
        }
    }
    let mut counted = 0;
    if changes {
        let name = if rules.increment { "zincr" } else { "zadd" };
        counted = change_or_make(keyspace, context.database, key, name, |set: &mut SortedSet, settings| {
            put_all(set, rules, pairs, settings)
        })?;
    }
    Ok(match score {
        _ if !rules.increment => Reply::Int(counted),
        Some(score) => Reply::Double(score),
        None => Reply::Null,
    })
}

/// Puts pairs into a set and counts those that the reply counts.
fn put_all(set: &mut SortedSet, rules: Rules, pairs: &[Pair<'_>], settings: &Settings) -> i64 {
    let longest = pairs.iter().map(|(_, member)| member.len()).max().unwrap_or(0);
    set.expect(pairs.len() as u64, longest, settings);
    let mut counted = 0;
    for (number, member) in pairs {
        // A single increment was found to be a number before.
        match rules.outcome(set.score(member), *number) {
            Ok(Outcome::Added(score)) => {
                set.put(member, score, settings);
                counted += 1;
            }
            Ok(Outcome::Updated(score)) => {
                set.put(member, score, settings);
                counted += i64::from(rules.count_changed);
            }
            Ok(Outcome::Refused | Outcome::Same(_)) | Err(_) => {}
        }
    }
    counted
}

/// ZADD, or ZINCRBY, which would take the same words if it had room for them.
fn zadd_by(keyspace: &mut Keyspace, context: &ApplyContext, argv: &Argv, increment: bool) -> CommandResult {
    let (mut rules, at) = Rules::parse(argv);
    rules.increment |= increment;
    let rest = argv.len() - at;
    if rest == 0 || !rest.is_multiple_of(2) {
        return Err(Error::Syntax);
    }
    rules.check(rest / 2)?;
    add(keyspace, context, &argv[1], rules, &pairs(argv, at)?)
}

/// ZADD
pub(super) fn zadd(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    zadd_by(keyspace, context, argv, false)
}

/// ZINCRBY
pub(super) fn zincrby(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    zadd_by(keyspace, context, argv, true)
}
