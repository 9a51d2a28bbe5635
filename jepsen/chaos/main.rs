//! `chaos`: runs clients against nodes while faults happen, and judges what they saw.
//!
//! The last line printed is the verdict; the exit status is 0 for valid, 1 for invalid, 2 for unknown, and 3 when
//! the harness itself failed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use quoris_chaos::faults::{self, Fault};
use quoris_chaos::nodes::{Shape, System};
use quoris_chaos::run::Settings;
use quoris_chaos::{judge, run, work};

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
    Run(Box<Run>),
    /// Judges the folder of a run once more
    Check {
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
}

#[derive(Debug, Args)]
struct Run {
    /// Workloads, all at once: register, append, counter, queue, set, lock, expiry
    #[arg(long, value_delimiter = ',', default_value = "register,append,counter,queue,set,lock,expiry",
          value_parser = clap::builder::PossibleValuesParser::new(work::NAMES))]
    workload: Vec<String>,
    /// Faults: none, kill, kill-all, pause, partition, one-way
    #[arg(long, value_delimiter = ',', default_value = "none", value_parser = fault)]
    fault: Vec<Option<Fault>>,
    /// Nodes to start
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Raft groups that share the slots
    #[arg(long, default_value_t = 4)]
    groups: usize,
    /// How long clients work
    #[arg(long, default_value = "20s", value_parser = duration)]
    time: Duration,
    /// Decides what clients ask and when faults happen
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Clients of each workload
    #[arg(long, default_value_t = 6)]
    clients: usize,
    /// Questions per second of each workload, at the most
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// The folder of the run, which must not hold one yet
    #[arg(long)]
    out: PathBuf,
    /// The program whose nodes are started
    #[arg(long, default_value = "quoris")]
    quoris: PathBuf,
    /// A redis-server to start instead, one node that keeps nothing: proof that the harness finds a loss
    #[arg(long, conflicts_with = "connect")]
    redis: Option<PathBuf>,
    /// Nodes that run already, instead; they get no faults from here
    #[arg(long, value_delimiter = ',')]
    connect: Vec<SocketAddr>,
    /// A further setting of every node, name=value
    #[arg(long)]
    set: Vec<String>,
    /// A key may expire so many milliseconds before its time
    #[arg(long, default_value_t = 100)]
    early_ms: u64,
    /// And be there so many milliseconds after it
    #[arg(long, default_value_t = 1000)]
    late_ms: u64,
}

fn fault(name: &str) -> Result<Option<Fault>, String> {
    let known = faults::NAMES.iter().find(|(known, _)| *known == name).map(|(_, fault)| *fault);
    if known.is_some() || name == "none" {
        Ok(known)
    } else {
        Err("not among none, kill, kill-all, pause, partition, one-way".to_string())
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let (digits, seconds) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3600),
        _ => (text, 1),
    };
    digits.parse().map(|n: u64| Duration::from_secs(n * seconds)).map_err(|_| "not like 20s, 5m or 1h".to_string())
}

impl Run {
    fn settings(self) -> anyhow::Result<(Settings, PathBuf)> {
        let faults: Vec<Fault> = self.fault.into_iter().flatten().collect();
        anyhow::ensure!(self.clients > 0 && self.nodes > 0 && self.groups > 0, "there must be at least one of each");
        anyhow::ensure!(self.set.iter().all(|setting| setting.contains('=')), "--set takes name=value");
        anyhow::ensure!(faults.is_empty() || self.connect.is_empty(), "faults need nodes that are started here");
        let relays = faults.iter().any(|fault| fault.cuts());
        anyhow::ensure!(!relays || self.redis.is_none(), "one redis-server has no cables");
        let (system, nodes) = match (self.redis, self.connect.is_empty()) {
            (Some(program), _) => (System::Redis(program), 1),
            (None, true) => (System::Quoris(program(&self.quoris)?), self.nodes),
            (None, false) => (System::Deployed(self.connect), 0),
        };
        let time_ms = self.time.as_millis() as u64;
        let settings = Settings {
            system,
            shape: Shape { nodes, groups: self.groups, settings: self.set, relays },
            workloads: self.workload,
            schedule: faults::schedule(self.seed, &faults, nodes, time_ms),
            faults,
            time_ms,
            seed: self.seed,
            clients: self.clients,
            rate: self.rate,
            early_ms: self.early_ms,
            late_ms: self.late_ms,
        };
        Ok((settings, self.out))
    }
}

/// As it is found from any folder.
fn program(path: &Path) -> anyhow::Result<PathBuf> {
    if path.components().count() > 1 { Ok(path.canonicalize()?) } else { Ok(path.to_path_buf()) }
}

fn act(command: Command) -> anyhow::Result<u8> {
    let dir = match command {
        Command::Check { dir } => dir,
        Command::Run(options) => {
            let (settings, out) = options.settings()?;
            run::run(&settings, &out)?;
            out
        }
        Command::Replay { dir, out, quoris } => {
            let mut settings: Settings = judge::read_json(&dir.join("run.json"))?;
            if let Some(path) = quoris {
                settings.system = System::Quoris(program(&path)?);
            }
            run::run(&settings, &out)?;
            out
        }
    };
    let verdicts = judge::judge(&dir)?;
    let Some(((_, all), each)) = verdicts.split_last() else { anyhow::bail!("nothing was judged") };
    for (name, verdict) in each {
        println!("{name}: {verdict}");
    }
    for finding in &all.findings {
        println!("{} {}: {}", finding.validity, finding.name, finding.text);
    }
    println!("{all}");
    Ok(judge::status(all.validity()))
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
