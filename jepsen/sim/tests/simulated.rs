//! Seeds of the simulated cluster.
//!
//! `SIM_FROM=17 SIM_SEEDS=1 ./dev sim simulated_crashes --no-capture` replays seed 17 and prints what it
//! did; `SIM_TRACE=1` prints its whole trace.

use quoris_sim::seeds::{Plan, run_all, run_alone, tell};

/// Seeds that run at once.
const THREADS: usize = 2;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn simulated_crashes_and_partitions_lose_nothing() {
    let plan = Plan { from: variable("SIM_FROM", 0), count: variable("SIM_SEEDS", 300), threads: THREADS, stop: false };
    let whole = std::env::var_os("SIM_TRACE").is_some();
    let (totals, failures) = run_all(plan, |seed, failure| println!("{}\n", tell(seed, failure, whole)), |_| {});
    println!("{totals}");
    let seeds = plan.count;
    assert!(failures.is_empty(), "{} of {seeds} seeds failed: {failures:#?}", failures.len());
    if seeds >= 100 {
        assert!(totals.commands[0] > 200 * seeds, "the load was too small to show anything");
        assert!(totals.faults[0] > seeds && totals.faults[1] > seeds, "there were too few faults");
        assert!(totals.faults[2] > seeds, "the clocks did not jump");
        assert!(totals.snapshots[1] > 0, "no replica was so far behind that it got a snapshot");
        assert!(totals.lost > 0 && totals.logs[0] > 0, "nothing was lost, or no log purged");
    }
}

/// Seeds that have found something, once: clocks that were chosen too late, or after messages that were held up, and
/// a command that waited, was carried out, and ended as if it certainly was not.
const FOUND: [u64; 5] = [10959, 11653, 12150, 20781, 21731];

#[test]
fn seeds_that_found_something_find_nothing_any_more() {
    for seed in FOUND {
        let failure = run_alone(seed).err();
        assert!(failure.is_none(), "seed {seed}: {}", failure.map(|f| f.text).unwrap_or_default());
    }
}

#[test]
fn a_simulated_seed_replays_to_the_same_trace() {
    let from = variable("SIM_FROM", 0);
    for seed in from..from + variable("SIM_REPLAYS", 3) {
        let both = [run_alone(seed), run_alone(seed)];
        let traces = both.map(|result| match result {
            Ok(summary) => summary.trace,
            Err(failure) => failure.trace,
        });
        assert!(traces[0].len() > 100, "seed {seed}: a trace of {} events shows nothing", traces[0].len());
        let differ = traces[0].iter().zip(&traces[1]).position(|(a, b)| a != b);
        if let Some(at) = differ {
            let [a, b] = traces.each_ref().map(|t| t[at.saturating_sub(5)..(at + 3).min(t.len())].join("\n  "));
            panic!("seed {seed}: the runs part at event {at}:\n  {a}\nand\n  {b}");
        }
        assert_eq!(traces[0].len(), traces[1].len(), "seed {seed}: one run went on longer");
    }
}
