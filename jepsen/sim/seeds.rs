//! Many seeds, each on a thread of its own, and what they did together.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{Failure, Summary, run};

/// Events that a failure shows.
const SHOWN: usize = 60;

/// What seeds did together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Seeds without a failure.
    pub seeds: u64,
    /// Commands: with a reply, certainly not executed, open for ever.
    pub commands: [u64; 3],
    /// Crashes, cuts, jumps of a clock.
    pub faults: [u64; 3],
    /// Operations that crashes took away from disks.
    pub lost: u64,
    /// Snapshot files, and snapshots that were installed.
    pub snapshots: [u64; 2],
    /// Purges of a log and cut-off tails.
    pub logs: [u64; 2],
    /// Simulated milliseconds.
    pub simulated_ms: u64,
}

impl Totals {
    fn add(&mut self, summary: &Summary) {
        let add = |sums: &mut [u64], more: &[u64]| sums.iter_mut().zip(more).for_each(|(sum, n)| *sum += n);
        self.seeds += 1;
        let Summary { commands, faults, disks, .. } = summary;
        add(&mut self.commands, &[commands.acknowledged, commands.failed, commands.unknown]);
        add(&mut self.faults, &[faults.crashes, faults.cuts, faults.jumps]);
        add(&mut self.snapshots, &[disks.snapshots, summary.installs]);
        add(&mut self.logs, &[disks.purges, disks.truncations]);
        self.lost += disks.lost;
        self.simulated_ms += summary.simulated.as_millis() as u64;
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Totals { seeds, commands, faults, lost, snapshots, logs, simulated_ms } = self;
        write!(
            f,
            "{seeds} seeds: {} commands acknowledged, {} failed, {} unknown; {} crashes, {} cuts, {} jumps of a clock; \
             {lost} operations lost, {} snapshot files, {} snapshots installed, {} purges, {} cut-off tails; \
             {simulated_ms} simulated ms",
            commands[0],
            commands[1],
            commands[2],
            faults[0],
            faults[1],
            faults[2],
            snapshots[0],
            snapshots[1],
            logs[0],
            logs[1],
        )
    }
}

/// Runs a seed on a thread of its own; a panic is a failure as any other.
pub fn run_alone(seed: u64) -> Result<Summary, Failure> {
    let thread = std::thread::Builder::new().name(format!("seed {seed}")).spawn(move || run(seed)).expect("a thread");
    let panicked = |_| Err(Failure { text: "a panic, printed above".into(), trace: Vec::new() });
    thread.join().unwrap_or_else(panicked)
}

/// What a failure looks like; `whole` shows all of its trace.
pub fn tell(seed: u64, failure: &Failure, whole: bool) -> String {
    let shown = if whole { 0 } else { failure.trace.len().saturating_sub(SHOWN) };
    let trace = failure.trace[shown..].join("\n  ");
    format!("seed {seed}: {}\n  {trace}\nreplay: SIM_FROM={seed} SIM_SEEDS=1 ./dev sim simulated_crashes", failure.text)
}

/// How seeds are run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The first.
    pub from: u64,
    /// How many.
    pub count: u64,
    /// So many at once.
    pub threads: usize,
    /// No further one begins once one has failed.
    pub stop: bool,
}

/// Runs them; each failure is shown as it comes, and `progress` is called after each seed.
pub fn run_all(
    plan: Plan,
    show: impl Fn(u64, &Failure) + Sync,
    progress: impl Fn(u64) + Sync,
) -> (Totals, Vec<(u64, String)>) {
    let (next, stop) = (AtomicU64::new(plan.from), AtomicBool::new(false));
    let all = Mutex::new((Totals::default(), Vec::new()));
    let worker = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= plan.from + plan.count {
                return;
            }
            let result = run_alone(seed);
            let mut all = all.lock().expect("no panic");
            match result {
                Ok(summary) => all.0.add(&summary),
                Err(failure) => {
                    show(seed, &failure);
                    all.1.push((seed, failure.text));
                    stop.fetch_or(plan.stop, Ordering::Relaxed);
                }
            }
            progress(all.0.seeds + all.1.len() as u64);
        }
    };
    std::thread::scope(|scope| (0..plan.threads).for_each(|_| drop(scope.spawn(worker))));
    all.into_inner().expect("no panic")
}
