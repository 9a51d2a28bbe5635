//! Banks: every reading shows all the money, no account below zero, and each account between what was certainly and
//! what was possibly brought and taken until then.

use std::collections::BTreeMap;

use crate::check::counter::Sums;
use crate::history::{F, Op};
use crate::verdict::Verdict;

/// Accounts of a bank.
pub const ACCOUNTS: i64 = 4;
/// What each begins with.
pub const FUNDS: i64 = 100;

/// Judges all banks.
pub fn check(ops: &[Op]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut keys: BTreeMap<i64, Vec<&Op>> = BTreeMap::new();
    ops.iter().filter(|op| op.is_possible()).for_each(|op| keys.entry(op.key).or_default().push(op));
    for ops in keys.values() {
        let reads: Vec<&Op> = ops.iter().copied().filter(|op| op.f == F::Read && op.is_ok()).collect();
        for read in &reads {
            totals(read, &mut verdict);
        }
        (0..ACCOUNTS).for_each(|account| bounds(account, ops, &reads, &mut verdict));
    }
    verdict.figure("keys", keys.len());
    verdict
}

fn totals(read: &Op, verdict: &mut Verdict) {
    let balances = read.answered.ints();
    let sum: i64 = balances.iter().sum();
    if balances.len() as i64 != ACCOUNTS || sum != ACCOUNTS * FUNDS {
        verdict.invalid("wrong total", format!("{read}: {sum} in place of {}", ACCOUNTS * FUNDS));
    }
    if balances.iter().any(|balance| *balance < 0) {
        verdict.invalid("below zero", format!("{read}"));
    }
}

/// What transfers bring to an account, or take from it.
fn moved(op: &Op, account: i64, brings: bool) -> Option<i64> {
    match op.asked.ints() {
        [from, to, sum] if op.f == F::Transfer => (*(if brings { to } else { from }) == account).then_some(*sum),
        _ => None,
    }
}

fn bounds(account: i64, ops: &[&Op], reads: &[&Op], verdict: &mut Verdict) {
    let certain = |brings| {
        let moves = ops.iter().filter_map(|op| Some((op.returned()?, moved(op, account, brings)?)));
        Sums::new(moves.collect())
    };
    let possible =
        |brings| Sums::new(ops.iter().filter_map(|op| Some((op.call, moved(op, account, brings)?))).collect());
    let (brought, taken) = ((certain(true), possible(true)), (certain(false), possible(false)));
    for read in reads {
        let Some(balance) = read.answered.ints().get(account as usize) else { continue };
        let until = read.returned().unwrap_or(u64::MAX).saturating_add(1);
        let least = FUNDS + brought.0.before(read.call) - taken.1.before(until);
        let most = FUNDS + brought.1.before(until) - taken.0.before(read.call);
        if *balance < least {
            verdict.invalid("lost transfer", format!("{read}: account {account} must hold {least} at the least"));
        } else if *balance > most {
            verdict.invalid("transferred too much", format!("{read}: account {account} can hold {most} at the most"));
        }
    }
}
