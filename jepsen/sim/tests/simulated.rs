//! Seeds of the simulated cluster.
//!
//! `SIM_FROM=17 SIM_SEEDS=1 ./dev sim simulated_crashes --no-capture` replays seed 17 and prints what it
//! did; `SIM_TRACE=1` prints its whole trace.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use quoris_sim::{Failure, Summary, run};

/// Seeds that run at once.
const THREADS: usize = 2;
/// Events that a failure shows.
const SHOWN: usize = 60;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Runs a seed on a thread of its own; a panic is a failure as any other.
fn run_alone(seed: u64) -> Result<Summary, Failure> {
    let thread = std::thread::Builder::new().name(format!("seed {seed}")).spawn(move || run(seed)).expect("a thread");
    let panicked = |_| Err(Failure { text: "a panic, printed above".into(), trace: Vec::new() });
    thread.join().unwrap_or_else(panicked)
}

fn tell(seed: u64, failure: &Failure) -> String {
    let shown = match std::env::var_os("SIM_TRACE") {
        Some(_) => 0,
        None => failure.trace.len().saturating_sub(SHOWN),
    };
    let trace = failure.trace[shown..].join("\n  ");
    format!("seed {seed}: {}\n  {trace}\nreplay: SIM_FROM={seed} SIM_SEEDS=1 ./dev sim simulated_crashes", failure.text)
}

#[test]
fn simulated_crashes_and_partitions_lose_nothing() {
    let (from, seeds) = (variable("SIM_FROM", 0), variable("SIM_SEEDS", 200));
    let next = AtomicU64::new(from);
    let (summaries, failures) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                return;
            }
            match run_alone(seed) {
                Ok(summary) => summaries.lock().expect("no panic").push(summary),
                Err(failure) => {
                    println!("{}\n", tell(seed, &failure));
                    failures.lock().expect("no panic").push((seed, failure.text));
                }
            }
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(worker))));
    let summaries = summaries.into_inner().expect("no panic");
    let sum = |part: fn(&Summary) -> u64| summaries.iter().map(part).sum::<u64>();
    println!(
        "{} seeds: {} commands acknowledged, {} failed, {} unknown; {} crashes, {} cuts, {} jumps of a clock; {} operations lost, \
         {} snapshot files, {} snapshots installed, {} purges, {} cut-off tails; {} simulated ms",
        summaries.len(),
        sum(|s| s.commands.acknowledged),
        sum(|s| s.commands.failed),
        sum(|s| s.commands.unknown),
        sum(|s| s.faults.crashes),
        sum(|s| s.faults.cuts),
        sum(|s| s.faults.jumps),
        sum(|s| s.disks.lost),
        sum(|s| s.disks.snapshots),
        sum(|s| s.installs),
        sum(|s| s.disks.purges),
        sum(|s| s.disks.truncations),
        sum(|s| s.simulated.as_millis() as u64),
    );
    let failures = failures.into_inner().expect("no panic");
    assert!(failures.is_empty(), "{} of {seeds} seeds failed: {failures:#?}", failures.len());
    if seeds >= 100 {
        assert!(sum(|s| s.commands.acknowledged) > 200 * seeds, "the load was too small to show anything");
        assert!(sum(|s| s.faults.crashes) > seeds && sum(|s| s.faults.cuts) > seeds, "there were too few faults");
        assert!(sum(|s| s.faults.jumps) > seeds, "the clocks did not jump");
        assert!(sum(|s| s.installs) > 0, "no replica was so far behind that it got a snapshot");
        assert!(sum(|s| s.disks.lost) > 0 && sum(|s| s.disks.purges) > 0, "nothing was lost, or no log purged");
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
