//! `quoris admin slots`: which slots go where, and how far they are.
//!
//! The cluster moves one range at a time and finishes what it has begun, whatever becomes of this process.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use quoris_engine::{
    SLOTS,
    moves::{Range, with_range, without_range},
};
use quoris_resp::Reply;

use super::{
    At,
    status::{View, field},
};

/// Between two looks how far a move is.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Subcommand)]
pub(super) enum SlotsCommand {
    /// Moves slots to a group.
    Move {
        /// A slot, or a range such as 0-1023.
        slots: String,
        /// The number of the group.
        group: u64,
        #[command(flatten)]
        how: How,
    },
    /// Spreads the slots evenly over all groups.
    Rebalance {
        #[command(flatten)]
        how: How,
    },
    /// Gives half of a group's slots to another group.
    Split {
        /// The group that has them.
        from: u64,
        /// The group that gets them.
        to: u64,
        #[command(flatten)]
        how: How,
    },
    /// Gives all slots of a group to another group.
    Merge {
        /// The group that has them.
        from: u64,
        /// The group that gets them.
        to: u64,
        #[command(flatten)]
        how: How,
    },
    /// Ends a move with what has gone by now.
    Cancel(At),
}

#[derive(Debug, Args)]
pub(super) struct How {
    #[command(flatten)]
    at: At,
    /// Bytes that move in a second at most; without it as fast as the groups take them.
    #[arg(long, default_value_t = 0)]
    rate: u64,
}

/// Who owns what.
type Owned = BTreeMap<u64, Vec<(u16, u16)>>;
/// Slots and where they go.
type Plan = Vec<(Range, u64)>;

fn count(ranges: &[(u16, u16)]) -> u32 {
    ranges.iter().map(|(first, last)| u32::from(last - first) + 1).sum()
}

/// So many slots from the end of some ranges, in ranges.
fn from_the_end(ranges: &[(u16, u16)], mut wanted: u32) -> Vec<Range> {
    let mut taken = Vec::new();
    for &(first, last) in ranges.iter().rev() {
        let size = wanted.min(u32::from(last - first) + 1);
        if size > 0 {
            taken.push(Range { first: last - (size - 1) as u16, last });
            wanted -= size;
        }
    }
    taken
}

/// The parts of a range by owner, without those that are where they belong.
fn parts(owned: &Owned, range: Range, to: u64) -> Plan {
    let others = owned.iter().filter(|(group, _)| **group != to).flat_map(|(_, ranges)| ranges);
    let parts = others.filter(|(first, last)| *first <= range.last && *last >= range.first);
    parts.map(|(first, last)| (Range { first: range.first.max(*first), last: range.last.min(*last) }, to)).collect()
}

/// As few slots as possible go from groups with too many to groups with too few.
fn even(owned: &Owned) -> Plan {
    let mut owned = owned.clone();
    let groups = owned.len() as u32;
    let share = |at: u32| u32::from(SLOTS) / groups + u32::from(at < u32::from(SLOTS) % groups);
    // Whoever has most may have one more than the others.
    let mut order: Vec<u64> = owned.keys().copied().collect();
    order.sort_by_key(|group| (std::cmp::Reverse(count(&owned[group])), *group));
    let shares: BTreeMap<u64, u32> = order.into_iter().zip((0..).map(share)).collect();
    let mut plan = Vec::new();
    for to in shares.keys() {
        while let Some(lacks) = shares[to].checked_sub(count(&owned[to])).filter(|lacks| *lacks > 0) {
            let from = shares.keys().find(|group| count(&owned[group]) > shares[group]);
            let Some(from) = from else { break };
            let spare = count(&owned[from]) - shares[from];
            for range in from_the_end(&owned[from], lacks.min(spare)) {
                plan.push((range, *to));
                let (left, joined) = (without_range(&owned[from], range), with_range(&owned[to], range));
                owned.insert(*from, left);
                owned.insert(*to, joined);
            }
        }
    }
    plan
}

fn slots(text: &str) -> anyhow::Result<Range> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let slot =
        |text: &str| text.parse().ok().filter(|slot: &u16| *slot < SLOTS).context("a slot is a number below 16384");
    let range = Range { first: slot(first)?, last: slot(last)? };
    if range.first <= range.last { Ok(range) } else { bail!("{text} is no range of slots") }
}

async fn owned(at: &At) -> anyhow::Result<Owned> {
    let view = View::ask(&at.address(), at.password.as_deref()).await?;
    let range = |text: &str| {
        let (first, last) = text.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    let groups = view.groups.iter().filter(|group| field(group, "id") != "0");
    let owned = groups.filter_map(|group| {
        Some((field(group, "id").parse().ok()?, field(group, "slots").split('+').filter_map(range).collect()))
    });
    Ok(owned.collect())
}

/// Runs a command about slots.
pub(super) async fn run(command: SlotsCommand) -> anyhow::Result<()> {
    let how = match &command {
        SlotsCommand::Cancel(at) => {
            let was = at.connect().await?.ask(&["CLUSTER", "CANCEL-MOVE"]).await?;
            println!("{}", if was == Reply::Int(1) { "the move ends" } else { "no slots were on their way" });
            return Ok(());
        }
        SlotsCommand::Move { how, .. }
        | SlotsCommand::Rebalance { how }
        | SlotsCommand::Split { how, .. }
        | SlotsCommand::Merge { how, .. } => how,
    };
    let owned = owned(&how.at).await?;
    let of = |group: &u64| owned.get(group).with_context(|| format!("there is no group {group}"));
    let plan = match &command {
        SlotsCommand::Move { slots: text, group, .. } => {
            of(group)?;
            parts(&owned, slots(text)?, *group)
        }
        SlotsCommand::Split { from, to, .. } => {
            of(to)?;
            from_the_end(of(from)?, count(of(from)?) / 2).into_iter().map(|range| (range, *to)).collect()
        }
        SlotsCommand::Merge { from, to, .. } => {
            of(to)?;
            of(from)?.iter().map(|(first, last)| (Range { first: *first, last: *last }, *to)).collect()
        }
        SlotsCommand::Rebalance { .. } | SlotsCommand::Cancel(_) => even(&owned),
    };
    carry_out(how, &plan).await
}

async fn carry_out(how: &How, plan: &Plan) -> anyhow::Result<()> {
    let total: u32 = plan.iter().map(|(range, _)| count(&[(range.first, range.last)])).sum();
    if total == 0 {
        println!("every slot is where it belongs");
        return Ok(());
    }
    let bar = ProgressBar::new(total.into()).with_style(style("{msg}"));
    let mut client = how.at.connect().await?;
    let mut done = 0;
    for (range, group) in plan {
        let (slots, rate) = (format!("{}-{}", range.first, range.last), how.rate.to_string());
        bar.set_message(format!("{slots} to group {group}"));
        client.ask(&["CLUSTER", "MOVE-SLOTS", &slots, &group.to_string(), "RATE", &rate]).await?;
        while let Some(first) = first_left(&client.ask(&["CLUSTER", "MOVES"]).await?, range.last) {
            let position = u64::from(done + first.saturating_sub(range.first.into()));
            if position > 0 && bar.position() == 0 {
                bar.set_style(style("{per_sec}  {eta} left  {msg}"));
            }
            bar.set_position(position);
            tokio::time::sleep(PAUSE).await;
        }
        done += count(&[(range.first, range.last)]);
        bar.set_position(done.into());
    }
    bar.finish_with_message("done");
    println!("{total} slots have moved");
    Ok(())
}

/// Nobody can tell how long it takes before the first slots have gone.
fn style(more: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(&format!("{{bar:40}} {{pos}}/{{len}} slots  {more}"));
    style.unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// The first slot that is left of a move up to `last`; nothing when it is over.
fn first_left(reply: &Reply, last: u16) -> Option<u32> {
    let Reply::Array(parts) = reply else { return None };
    let number = |name: &str| {
        let at = parts.iter().position(|part| *part == Reply::bulk(name))?;
        match parts.get(at + 1)? {
            Reply::Int(n) => u32::try_from(*n).ok(),
            _ => None,
        }
    };
    number("first").filter(|_| number("last") == Some(last.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_spread_evenly_with_few_moves() {
        let owned = Owned::from([(1, vec![(0, 16383)]), (2, vec![]), (3, vec![])]);
        let plan = even(&owned);
        assert_eq!(plan, [(Range { first: 10923, last: 16383 }, 2), (Range { first: 5462, last: 10922 }, 3)]);
        let even_already = Owned::from([(1, vec![(0, 8191)]), (2, vec![(8192, 16383)])]);
        assert_eq!(even(&even_already), []);
    }

    #[test]
    fn a_range_moves_by_owner() {
        let owned = Owned::from([(1, vec![(0, 99)]), (2, vec![(100, 199)]), (3, vec![(200, 16383)])]);
        let parts = parts(&owned, Range { first: 50, last: 250 }, 2);
        assert_eq!(parts, [(Range { first: 50, last: 99 }, 2), (Range { first: 200, last: 250 }, 2)]);
        assert!(slots("9-8").is_err() && slots("16384").is_err());
        assert_eq!(from_the_end(&[(0, 9), (20, 24)], 7), [Range { first: 20, last: 24 }, Range { first: 8, last: 9 }]);
    }
}
