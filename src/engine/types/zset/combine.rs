//! Unions, intersections and differences of sorted sets. Other sets take part with a score of 1 for each member.

use std::borrow::Cow;
use std::collections::BTreeMap;

use quoris_resp::{Argv, Reply};

use super::value::{Scored, SortedSet, order_of};
use super::{shown, store};
use crate::command::ReadContext;
use crate::types::collection::Collection;
use crate::types::set::Set;
use crate::{ApplyContext, CommandResult, Error, Keyspace, Value, double, number};

/// A score and a member; the members of some sets have no bytes in memory.
type Element<'a> = (f64, Cow<'a, [u8]>);

/// What takes part.
#[derive(Clone, Copy, Debug)]
enum Input<'a> {
    /// There is no such key.
    Nothing,
    Sorted(&'a SortedSet),
    Plain(&'a Set),
}

impl<'a> Input<'a> {
    fn of(value: Option<&'a Value>) -> Result<Input<'a>, Error> {
        match value {
            None => Ok(Input::Nothing),
            Some(Value::SortedSet(set)) => Ok(Input::Sorted(set)),
            Some(Value::Set(set)) => Ok(Input::Plain(set)),
            Some(_) => Err(Error::WrongType),
        }
    }

    fn len(self) -> u64 {
        match self {
            Input::Nothing => 0,
            Input::Sorted(set) => set.len(),
            Input::Plain(set) => set.len(),
        }
    }

    fn iter(self) -> Box<dyn Iterator<Item = Element<'a>> + 'a> {
        match self {
            Input::Nothing => Box::new(std::iter::empty()),
            Input::Sorted(set) => Box::new(set.iter_from(0).map(|one| (one.score, Cow::Borrowed(one.member)))),
            Input::Plain(set) => Box::new(set.members().map(|member| (1.0, member))),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Input::Nothing => None,
            Input::Sorted(set) => set.score(member),
            Input::Plain(set) => set.contains(member).then_some(1.0),
        }
    }
}

/// What is made of the inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Union,
    Intersection,
    Difference,
    /// Only the size of the intersection.
    Count,
}

/// How the scores of a member become one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Aggregate {
    Sum,
    Min,
    Max,
    /// The sum of the weights, whatever the scores are.
    Count,
}

impl Aggregate {
    fn of(word: &[u8]) -> Result<Aggregate, Error> {
        match &word.to_ascii_lowercase()[..] {
            b"sum" => Ok(Aggregate::Sum),
            b"min" => Ok(Aggregate::Min),
            b"max" => Ok(Aggregate::Max),
            b"count" => Ok(Aggregate::Count),
            _ => Err(Error::Syntax),
        }
    }

    fn weighted(self, score: f64, weight: f64) -> f64 {
        if self == Aggregate::Count { weight } else { score * weight }
    }

    /// Opposite infinities make 0, as in Redis.
    fn join(self, one: f64, other: f64) -> f64 {
        match self {
            Aggregate::Sum | Aggregate::Count => number_or_zero(one + other),
            Aggregate::Min => {
                if other < one {
                    other
                } else {
                    one
                }
            }
            Aggregate::Max => {
                if other > one {
                    other
                } else {
                    one
                }
            }
        }
    }
}

fn number_or_zero(n: f64) -> f64 {
    if n.is_nan() { 0.0 } else { n }
}

/// A command behind its arguments.
struct Combination<'a> {
    kind: Kind,
    inputs: Vec<(Input<'a>, f64)>,
    aggregate: Aggregate,
    with_scores: bool,
    /// Members to count at most; 0 for all.
    limit: i64,
}

/// The command's name, what it does, and where its number of keys stands.
type Row = (&'static str, Kind, usize);

impl<'a> Combination<'a> {
    fn parse(keyspace: &'a Keyspace, database: u32, argv: &Argv, row: Row) -> Result<Combination<'a>, Error> {
        let (name, kind, at) = row;
        let count = number::integer(&argv[at]).ok_or(Error::NotAnInteger)?;
        if count < 1 {
            return Err(Error::text(format!("ERR at least 1 input key is needed for '{name}' command")));
        }
        let first = at + 1;
        let count = usize::try_from(count).ok().filter(|n| *n <= argv.len() - first).ok_or(Error::Syntax)?;
        let inputs = (first..first + count).map(|at| Ok((Input::of(keyspace.value(database, &argv[at]))?, 1.0)));
        let inputs = inputs.collect::<Result<_, Error>>()?;
        let mut this = Combination { kind, inputs, aggregate: Aggregate::Sum, with_scores: false, limit: 0 };
        this.options(argv, first + count, at > 1)?;
        Ok(this)
    }

    fn options(&mut self, argv: &Argv, mut at: usize, stores: bool) -> Result<(), Error> {
        let weighs = matches!(self.kind, Kind::Union | Kind::Intersection);
        while let Some(word) = argv.get(at) {
            let left = argv.len() - at - 1;
            match &word.to_ascii_lowercase()[..] {
                b"weights" if weighs && left >= self.inputs.len() => {
                    for (_, weight) in &mut self.inputs {
                        at += 1;
                        let not_a_float = || Error::text("ERR weight value is not a float");
                        *weight = double::parse(&argv[at]).ok_or_else(not_a_float)?;
                    }
                }
                b"aggregate" if weighs && left >= 1 => {
                    at += 1;
                    self.aggregate = Aggregate::of(&argv[at])?;
                }
                b"withscores" if !stores && self.kind != Kind::Count => self.with_scores = true,
                b"limit" if self.kind == Kind::Count && left >= 1 => {
                    at += 1;
                    let limit = number::integer(&argv[at]).filter(|n| *n >= 0);
                    self.limit = limit.ok_or_else(|| Error::text("ERR LIMIT can't be negative"))?;
                }
                _ => return Err(Error::Syntax),
            }
            at += 1;
        }
        // Small ones first: sums of floats depend on the order, and this one is Redis's.
        if self.kind != Kind::Difference {
            self.inputs.sort_by_key(|(input, _)| input.len());
        }
        Ok(())
    }

    /// The elements of the result, in no order.
    fn result(&self) -> Vec<Element<'a>> {
        match self.kind {
            Kind::Union => self.union(),
            Kind::Difference => {
                let others = &self.inputs[1..];
                let first = self.inputs[0].0.iter();
                first.filter(|(_, member)| others.iter().all(|(other, _)| other.score(member).is_none())).collect()
            }
            Kind::Intersection | Kind::Count => self.intersection().collect(),
        }
    }

    fn union(&self) -> Vec<Element<'a>> {
        let mut scores: BTreeMap<Cow<'a, [u8]>, f64> = BTreeMap::new();
        for (input, weight) in &self.inputs {
            for (score, member) in input.iter() {
                let score = number_or_zero(self.aggregate.weighted(score, *weight));
                let sum = scores.entry(member);
                sum.and_modify(|sum| *sum = self.aggregate.join(*sum, score)).or_insert(score);
            }
        }
        scores.into_iter().map(|(member, score)| (score, member)).collect()
    }

    fn intersection(&self) -> impl Iterator<Item = Element<'a>> {
        let (first, first_weight) = self.inputs[0];
        first.iter().filter_map(move |(score, member)| {
            let mut sum = number_or_zero(self.aggregate.weighted(score, first_weight));
            for (other, weight) in &self.inputs[1..] {
                sum = self.aggregate.join(sum, self.aggregate.weighted(other.score(&member)?, *weight));
            }
            Some((sum, member))
        })
    }
}

fn scored<'a>((score, member): &'a Element<'_>) -> Scored<'a> {
    Scored { score: *score, member }
}

fn answer(keyspace: &Keyspace, context: &ReadContext, argv: &Argv, row: Row) -> CommandResult {
    let combination = Combination::parse(keyspace, context.database, argv, row)?;
    if row.1 == Kind::Count {
        let most = usize::try_from(combination.limit).ok().filter(|n| *n > 0).unwrap_or(usize::MAX);
        return Ok(Reply::Int(combination.intersection().take(most).count() as i64));
    }
    let mut result = combination.result();
    result.sort_unstable_by(|one, other| (order_of(one.0), &one.1).cmp(&(order_of(other.0), &other.1)));
    Ok(shown(result.iter().map(scored), combination.with_scores))
}

fn keep(keyspace: &mut Keyspace, context: &ApplyContext, argv: &Argv, row: Row) -> CommandResult {
    let combination = Combination::parse(keyspace, context.database, argv, row)?;
    let result = combination.result();
    let result = SortedSet::fitting(&result.iter().map(scored).collect::<Vec<_>>(), keyspace.settings());
    Ok(store(keyspace, context, &argv[1], result, row.0))
}

/// ZUNION
pub(super) fn zunion(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    answer(keyspace, context, argv, ("zunion", Kind::Union, 1))
}

/// ZINTER
pub(super) fn zinter(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    answer(keyspace, context, argv, ("zinter", Kind::Intersection, 1))
}

/// ZDIFF
pub(super) fn zdiff(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    answer(keyspace, context, argv, ("zdiff", Kind::Difference, 1))
}

/// ZINTERCARD
pub(super) fn zintercard(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    answer(keyspace, context, argv, ("zintercard", Kind::Count, 1))
}

/// ZUNIONSTORE
pub(super) fn zunionstore(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    keep(keyspace, context, argv, ("zunionstore", Kind::Union, 2))
}

/// ZINTERSTORE
pub(super) fn zinterstore(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    keep(keyspace, context, argv, ("zinterstore", Kind::Intersection, 2))
}

/// ZDIFFSTORE
pub(super) fn zdiffstore(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    keep(keyspace, context, argv, ("zdiffstore", Kind::Difference, 2))
}
