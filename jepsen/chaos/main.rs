//! `chaos`: runs clients against nodes while faults happen, and judges what they saw.
//!
//! The last line printed is the verdict; the exit status is 0 for valid, 1 for invalid, 2 for unknown, and 3 when
//! the harness itself failed.

use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode};
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use quoris_chaos::faults::{Fault, NAMES};
use quoris_chaos::nodes::System;
use quoris_chaos::options::{Options, duration, fault, program};
use quoris_chaos::run::Settings;
use quoris_chaos::verdict::Validity;
use quoris_chaos::{export, judge, matrix, mutants, report, run};

const HARNESS_FAILED: u8 = 3;

/// Clients, faults and checkers that try to prove a running Quoris wrong.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts nodes, lets clients work while faults happen, and judges what they saw
    Run(Box<Options>),
    /// Many short runs: every workload, every fault, three and five nodes
    Matrix {
        /// How long altogether
        #[arg(long, default_value = "30m", value_parser = duration)]
        time: Duration,
        /// How long each
        #[arg(long, default_value = "15s", value_parser = duration)]
        each: Duration,
        /// The seed of the first run; each has the next one
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// A folder for the runs that did not pass
        #[arg(long)]
        out: PathBuf,
        /// The program whose nodes are started
        #[arg(long, default_value = "quoris")]
        quoris: PathBuf,
        /// The program that the fault upgrade starts nodes with for a while
        #[arg(long)]
        other: Option<PathBuf>,
        /// These faults alone; by default all
        #[arg(long, value_delimiter = ',', value_parser = fault)]
        fault: Vec<Option<Fault>>,
    },
    /// Judges the folder of a run once more
    Check {
        /// The folder
        dir: PathBuf,
    },
    /// Writes the histories of a run as Jepsen's checkers read them
    Export {
        /// The folder
        dir: PathBuf,
    },
    /// Runs with the settings and the schedule of faults of an earlier run
    Replay {
        /// Its folder
        dir: PathBuf,
        /// The folder of the new run
        #[arg(long)]
        out: PathBuf,
        /// Another program
        #[arg(long)]
        quoris: Option<PathBuf>,
    },
    /// The same against redis-server with replicas and Sentinels, which has to be found losing what it acknowledged
    Peer {
        /// The redis-server
        #[arg(long, default_value = "redis-server")]
        server: PathBuf,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Builds with deliberate bugs: each has to be found
    Mutants {
        /// These alone
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// A folder for the runs
        #[arg(long)]
        out: PathBuf,
        /// A build with the feature `mutants`
        #[arg(long, default_value = "quoris")]
        quoris: PathBuf,
    },
    /// Simulated clusters by the thousand: the program quoris-sim beside this one
    Sim {
        /// Its options: --seeds N --from S
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn act(command: Command) -> anyhow::Result<u8> {
    let dir = match command {
        Command::Check { dir } => dir,
        Command::Run(options) => run_to(options.settings()?)?,
        Command::Peer { server, options } => run_to(options.with_sentinel(program(&server)?)?)?,
        Command::Replay { dir, out, quoris } => {
            let mut settings: Settings = judge::read_json(&dir.join("run.json"))?;
            if let Some(path) = quoris {
                settings.system = System::Quoris(program(&path)?);
            }
            run_to((settings, out))?
        }
        Command::Export { dir } => {
            export::export(&dir)?.iter().for_each(|path| println!("{}", path.display()));
            return Ok(0);
        }
        Command::Matrix { time, each, seed, out, quoris, other, fault } => {
            let named: Vec<Fault> = fault.into_iter().flatten().collect();
            let all = || NAMES.iter().map(|(_, fault)| *fault).collect();
            let faults = if named.is_empty() { all() } else { named };
            let plan = matrix::Plan { time, each, seed, out, quoris: program(&quoris)?, other, faults };
            return Ok(judge::status(matrix::run(&plan)?));
        }
        Command::Mutants { only, out, quoris } => return Ok(u8::from(!mutants::run(&program(&quoris)?, &only, &out)?)),
        Command::Sim { arguments } => return simulate(&arguments),
    };
    conclude(&dir).map(judge::status)
}

fn run_to((settings, out): (Settings, PathBuf)) -> anyhow::Result<PathBuf> {
    run::run(&settings, &out)?;
    Ok(out)
}

/// Judges a folder, leaves a page in it, and says all of it.
fn conclude(dir: &Path) -> anyhow::Result<Validity> {
    let verdicts = judge::judge(dir)?;
    let page = report::write(dir, &verdicts)?;
    let Some(((_, all), each)) = verdicts.split_last() else { anyhow::bail!("nothing was judged") };
    for (name, verdict) in each {
        println!("{name}: {verdict}");
    }
    for finding in &all.findings {
        println!("{} {}: {}", finding.validity, finding.name, finding.text);
    }
    println!("report: {}", page.display());
    println!("{all}");
    Ok(all.validity())
}

fn simulate(arguments: &[String]) -> anyhow::Result<u8> {
    let own = std::env::current_exe()?;
    let path = own.parent().unwrap_or(Path::new(".")).join("quoris-sim");
    let status = Process::new(&path).args(arguments).status();
    let status = status.with_context(|| format!("{} is not there: ./dev chaos sim builds it", path.display()))?;
    Ok(status.code().map_or(HARNESS_FAILED, |code| code.clamp(0, i32::from(HARNESS_FAILED)) as u8))
}

fn main() -> ExitCode {
    match act(Cli::parse().command) {
        Ok(status) => ExitCode::from(status),
        Err(why) => {
            println!("the harness failed: {why:#}");
            ExitCode::from(HARNESS_FAILED)
        }
    }
}
