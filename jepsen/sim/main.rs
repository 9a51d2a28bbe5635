//! `quoris-sim`: seeds by the thousand. The exit status is 1 when one of them broke a rule.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use quoris_sim::seeds::{Plan, run_all, tell};

/// Between two lines of progress.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// Simulated clusters, one for each seed.
#[derive(Debug, Parser)]
struct Cli {
    /// How many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// So many at once
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Ends with the first seed that fails
    #[arg(long)]
    stop: bool,
    /// Shows all that led to a failure
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let Cli { seeds, from, threads, stop, trace } = Cli::parse();
    let began = Instant::now();
    let said = std::sync::Mutex::new(began);
    let per_minute = |done: u64| done as f64 * 60.0 / began.elapsed().as_secs_f64();
    let progress = |done: u64| {
        let mut said = said.lock().expect("no panic");
        if said.elapsed() >= SAY_EVERY {
            *said = Instant::now();
            eprintln!("{done} of {seeds} seeds, {:.0} a minute", per_minute(done));
        }
    };
    let plan = Plan { from, count: seeds, threads, stop };
    let (totals, failures) = run_all(plan, |seed, failure| println!("{}\n", tell(seed, failure, trace)), progress);
    println!("{totals}; {:.0} seeds a minute", per_minute(totals.seeds));
    println!("{}: {} of {seeds} seeds failed", if failures.is_empty() { "valid" } else { "invalid" }, failures.len());
    ExitCode::from(u8::from(!failures.is_empty()))
}
