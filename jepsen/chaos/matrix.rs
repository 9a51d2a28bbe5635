//! Many short runs, of all workloads at once: every fault alone, then several together and an operator beside them, on
//! three and on five nodes, with one group and with several, until the time is over.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::faults::Fault;
use crate::options::Options;
use crate::verdict::Validity;
use crate::work::{self, Dice};
use crate::{judge, report, run};

/// Clients of each workload, and their questions per second: together they keep two cores busy, not more.
const CLIENTS: usize = 3;
const RATE: u64 = 40;
/// Faults that come together in a mixed run.
const MIXED: usize = 3;

/// One run in so many writes large values, so that logs are cut and snapshots sent all the time.
const LARGE: u64 = 3;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long altogether.
    pub time: Duration,
    /// How long each.
    pub each: Duration,
    /// The seed of the first run.
    pub seed: u64,
    /// Where runs that did not pass stay.
    pub out: PathBuf,
    /// Whose nodes are started.
    pub quoris: PathBuf,
    /// What they are upgraded to, if that is another program.
    pub other: Option<PathBuf>,
    /// Which faults there are.
    pub faults: Vec<Fault>,
}

/// Nodes, groups and faults of the run with this number.
fn cell(number: usize, seed: u64, all: &[Fault]) -> (usize, usize, Vec<Fault>) {
    let nodes = if number.is_multiple_of(2) { 3 } else { 5 };
    let groups = [1, 4, 8][number / 2 % 3];
    let (round, place) = (number / 2 / (all.len() + 1), number / 2 % (all.len() + 1));
    let mut dice = Dice::new(seed ^ 0x3a7);
    let faults = match all.get(place).copied().filter(|_| round == 0) {
        Some(alone) => vec![alone],
        // Once without any, then mixed.
        None if round == 0 => Vec::new(),
        None => {
            let (works, mut faults): (Vec<Fault>, Vec<Fault>) = all.iter().partition(|fault| fault.is_beside());
            while faults.len() > MIXED {
                faults.remove(dice.below(faults.len() as i64) as usize);
            }
            faults.extend(works.get(place % works.len().max(1)));
            faults
        }
    };
    // Slots need somewhere to go.
    let groups = if faults.contains(&Fault::Slots) { groups.max(2) } else { groups };
    // Leaders move to nodes that lead nothing.
    let groups = if faults.contains(&Fault::Transfer) { groups.min(nodes - 1) } else { groups };
    (nodes, groups, faults)
}

/// What clients ask in the run with this seed.
fn workloads(seed: u64, faults: &[Fault]) -> Vec<String> {
    // Whoever was away needs a snapshot.
    let is_large = seed.is_multiple_of(LARGE) || faults.contains(&Fault::Away);
    let all = work::NAMES.iter().filter(|name| **name != "large" || is_large);
    all.map(ToString::to_string).collect()
}

/// Runs until the time is over; gives the worst verdict.
///
/// # Errors
/// When a folder cannot be written.
pub fn run(plan: &Plan) -> anyhow::Result<Validity> {
    std::fs::create_dir_all(&plan.out)?;
    let began = Instant::now();
    let (mut worst, mut lines, mut ops) = (Validity::Valid, Vec::new(), 0);
    for number in 0.. {
        if began.elapsed() + plan.each > plan.time && number > 0 {
            break;
        }
        let seed = plan.seed + number as u64;
        let dir = plan.out.join(format!("seed-{seed}"));
        let (validity, count, line) = one(plan, number, seed, &dir);
        println!("{line}");
        (worst, ops) = (worst.max(validity), ops + count);
        lines.push(line);
        if validity == Validity::Valid {
            std::fs::remove_dir_all(&dir)?;
        }
    }
    lines.push(format!("{worst}: {} runs, {ops} operations, {} s", lines.len(), began.elapsed().as_secs()));
    std::fs::write(plan.out.join("matrix.txt"), lines.join("\n") + "\n")?;
    println!("{}", lines.last().map_or("", String::as_str));
    Ok(worst)
}

/// One run: its verdict, how many operations succeeded, and a line about it.
fn one(plan: &Plan, number: usize, seed: u64, dir: &Path) -> (Validity, u64, String) {
    let (nodes, groups, faults) = cell(number, seed, &plan.faults);
    let options = Options {
        workload: workloads(seed, &faults),
        fault: faults.iter().copied().map(Some).collect(),
        nodes,
        groups,
        time: plan.each,
        seed,
        clients: CLIENTS,
        rate: RATE,
        other: plan.other.clone(),
        ..Options::of(plan.quoris.clone(), dir.to_path_buf())
    };
    let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
    let names = if names.is_empty() { "no faults".to_string() } else { names.join(", ") };
    let said = format!("seed {seed}, {nodes} nodes, {groups} groups, {names}");
    match judged(options) {
        Ok((all, skipped)) if !skipped.is_empty() => (all.0, all.1, format!("{said}: skipped, {}", skipped.join("; "))),
        Ok(((validity, count, text), _)) => (validity, count, format!("{said}: {text}")),
        Err(why) => (Validity::Unknown, 0, format!("{said}: unknown, the harness failed: {why:#}")),
    }
}

type Judged = ((Validity, u64, String), Vec<String>);

/// Runs and judges; faults that the machine cannot do are no verdict of the nodes.
pub(crate) fn judged(options: Options) -> anyhow::Result<Judged> {
    let (mut settings, dir) = options.settings()?;
    let skipped = std::mem::take(&mut settings.skipped);
    let skipped = skipped.iter().map(|(fault, why)| format!("{}: {why}", fault.name())).collect();
    run::run(&settings, &dir)?;
    let verdicts = judge::judge(&dir)?;
    report::write(&dir, &verdicts)?;
    let Some((_, all)) = verdicts.last() else { anyhow::bail!("nothing was judged") };
    Ok(((all.validity(), all.get("ok").unwrap_or(0), all.to_string()), skipped))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::NAMES;

    #[test]
    fn large_values_are_written_in_some_runs_of_either_size() {
        let is_large = |seed: u64| workloads(seed, &[]).iter().any(|name| name == "large");
        for first in [0, 1] {
            let runs: Vec<bool> = (0..6).map(|run| is_large(first + 2 * run)).collect();
            assert!(runs.contains(&true) && runs.contains(&false), "{runs:?}");
        }
        assert_eq!(workloads(1, &[]).len() + 1, work::NAMES.len());
        assert_eq!(workloads(1, &[Fault::Away]).len(), work::NAMES.len());
    }

    #[test]
    fn every_fault_comes_alone_on_three_and_on_five_nodes_before_any_mixture() {
        let all: Vec<Fault> = NAMES.iter().map(|(_, fault)| *fault).collect();
        let first: Vec<_> = (0..2 * (NAMES.len() + 1)).map(|number| cell(number, 1, &all)).collect();
        for (_, fault) in NAMES {
            for nodes in [3, 5] {
                assert!(first.iter().any(|(n, _, faults)| *n == nodes && *faults == [*fault]), "{fault:?} on {nodes}");
            }
        }
        let mixed = cell(2 * (NAMES.len() + 1), 7, &all).2;
        assert_eq!((mixed.len(), mixed[MIXED].is_beside()), (MIXED + 1, true));
    }
}
