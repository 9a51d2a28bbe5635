//! What the command line asks for, and what of it this machine can do.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::clocks::Clocks;
use crate::disks::Disks;
use crate::faults::{self, Fault};
use crate::nodes::{Shape, System};
use crate::run::Settings;
use crate::work;

/// Settings of a run.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Workloads, all at once; by default all
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(work::NAMES))]
    pub workload: Vec<String>,
    /// Faults: none, kill, kill-all, away, pause, partition, ring, bridge, minority, one-way, refuse, slow, loss,
    /// narrow, power, io, full, clock, strobe, drift, damage, slots, members, upgrade, transfer
    #[arg(long, value_delimiter = ',', default_value = "none", value_parser = fault)]
    pub fault: Vec<Option<Fault>>,
    /// Nodes to start
    #[arg(long, default_value_t = 3)]
    pub nodes: usize,
    /// Raft groups that share the slots
    #[arg(long, default_value_t = 4)]
    pub groups: usize,
    /// How long clients work
    #[arg(long, default_value = "20s", value_parser = duration)]
    pub time: Duration,
    /// Decides what clients ask and when faults happen
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Clients of each workload
    #[arg(long, default_value_t = 6)]
    pub clients: usize,
    /// Questions per second of each workload, at the most
    #[arg(long, default_value_t = 200)]
    pub rate: u64,
    /// The folder of the run, which must not hold one yet
    #[arg(long)]
    pub out: PathBuf,
    /// The program whose nodes are started
    #[arg(long, default_value = "quoris")]
    pub quoris: PathBuf,
    /// The program that the fault upgrade starts nodes with for a while; without it they restart with the same
    #[arg(long)]
    pub other: Option<PathBuf>,
    /// A redis-server to start instead, one node that keeps nothing: proof that the harness finds a loss
    #[arg(long, conflicts_with = "connect")]
    pub redis: Option<PathBuf>,
    /// Nodes that run already, instead; they get no faults from here
    #[arg(long, value_delimiter = ',')]
    pub connect: Vec<SocketAddr>,
    /// A further setting of every node, name=value
    #[arg(long)]
    pub set: Vec<String>,
    /// A key may expire so many milliseconds before its time
    #[arg(long, default_value_t = 100)]
    pub early_ms: u64,
    /// And be there so many milliseconds after it
    #[arg(long, default_value_t = 1000)]
    pub late_ms: u64,
    /// A deliberate bug of a build that has them, which has to be found
    #[arg(long)]
    pub mutant: Option<String>,
}

/// A fault by its name, or none.
///
/// # Errors
/// When there is no such name.
pub fn fault(name: &str) -> Result<Option<Fault>, String> {
    let known = faults::NAMES.iter().find(|(known, _)| *known == name).map(|(_, fault)| *fault);
    if known.is_some() || name == "none" {
        return Ok(known);
    }
    let names: Vec<&str> = faults::NAMES.iter().map(|(name, _)| *name).collect();
    Err(format!("not among none, {}", names.join(", ")))
}

/// A time like 20s, 5m or 1h.
///
/// # Errors
/// When it is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (digits, seconds) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3600),
        _ => (text, 1),
    };
    digits.parse().map(|n: u64| Duration::from_secs(n * seconds)).map_err(|_| "not like 20s, 5m or 1h".to_string())
}

impl Options {
    /// What the command line gives when nothing else is said.
    pub fn of(quoris: PathBuf, out: PathBuf) -> Options {
        Options {
            workload: Vec::new(),
            fault: Vec::new(),
            nodes: 3,
            groups: 4,
            time: Duration::from_secs(20),
            seed: 1,
            clients: 6,
            rate: 200,
            out,
            quoris,
            other: None,
            redis: None,
            connect: Vec::new(),
            set: Vec::new(),
            early_ms: 100,
            late_ms: 1000,
            mutant: None,
        }
    }

    /// A run of these, and its folder.
    ///
    /// # Errors
    /// When they do not fit together.
    pub fn settings(self) -> anyhow::Result<(Settings, PathBuf)> {
        anyhow::ensure!(self.clients > 0 && self.nodes > 0 && self.groups > 0, "there must be at least one of each");
        let (system, nodes) = match (self.redis.clone(), self.connect.is_empty()) {
            (Some(program), _) => (System::Redis(program), 1),
            (None, true) => (System::Quoris(program(&self.quoris)?), self.nodes),
            (None, false) => (System::Deployed(self.connect.clone()), 0),
        };
        self.with(system, nodes)
    }

    /// The same for a primary with replicas and Sentinels of this redis-server.
    ///
    /// # Errors
    /// When they do not fit together.
    pub fn with_sentinel(mut self, program: PathBuf) -> anyhow::Result<(Settings, PathBuf)> {
        let nodes = self.nodes;
        if self.fault.iter().all(Option::is_none) {
            self.fault = vec![Some(Fault::Partition), Some(Fault::Kill)];
        }
        self.with(System::Sentinel(program), nodes)
    }

    fn with(self, system: System, nodes: usize) -> anyhow::Result<(Settings, PathBuf)> {
        anyhow::ensure!(self.set.iter().all(|setting| setting.contains('=')), "--set takes name=value");
        let (mut faults, mut skipped) = (Vec::new(), Vec::new());
        for fault in self.fault.into_iter().flatten() {
            match possible(&system, fault) {
                Ok(()) => faults.push(fault),
                Err(why) => skipped.push((fault, format!("{why:#}"))),
            }
        }
        anyhow::ensure!(faults.is_empty() || nodes > 0, "faults need nodes that are started here");
        let needs = |need: fn(Fault) -> bool| faults.iter().any(|fault| need(*fault));
        let (relays, disks, clocks) =
            (needs(Fault::needs_relays), needs(Fault::needs_disks), needs(Fault::needs_clocks));
        let is_changed = faults.contains(&Fault::Members);
        anyhow::ensure!(!faults.contains(&Fault::Slots) || self.groups > 1, "slots move between two groups or more");
        let is_led = |fault: &Fault| *fault == Fault::Transfer && self.groups >= nodes;
        anyhow::ensure!(
            !faults.iter().any(is_led),
            "a leader moves to a node that leads nothing: fewer groups than nodes"
        );
        let needs_three = |fault: &Fault| fault.least() > nodes || (*fault == Fault::Minority && nodes < 3);
        anyhow::ensure!(!faults.iter().any(needs_three), "rings, bridges and minorities take three nodes or more");
        let needs_others = faults.contains(&Fault::Damage) && nodes < 3;
        anyhow::ensure!(!needs_others, "a damaged node is replaced by what the others hold: three nodes or more");
        let is_sentinel = matches!(system, System::Sentinel(_));
        let round = if is_sentinel { faults::LONG_ROUND_MS } else { faults::ROUND_MS };
        let time_ms = self.time.as_millis() as u64;
        let all = if is_sentinel { work::OF_REDIS } else { work::NAMES };
        let is_redis = matches!(system, System::Redis(_));
        let has = |name: &&&str| !is_redis || !work::OF_QUORIS.contains(*name);
        let all = || all.iter().filter(has).map(ToString::to_string).collect();
        let mut schedule = faults::schedule(self.seed, &faults, nodes, (time_ms, round));
        if is_sentinel {
            // That becomes the primary: beside a majority of the others nobody else would lead.
            schedule.iter_mut().filter(|step| step.fault != Fault::KillAll).for_each(|step| step.nodes.truncate(1));
        }
        let settings = Settings {
            system,
            shape: Shape {
                nodes,
                spares: usize::from(is_changed),
                groups: self.groups,
                settings: self.set,
                relays: relays || is_sentinel,
                disks,
                clocks,
                mutant: self.mutant,
            },
            workloads: if self.workload.is_empty() { all() } else { self.workload },
            schedule,
            faults,
            time_ms,
            seed: self.seed,
            clients: self.clients,
            rate: self.rate,
            early_ms: self.early_ms,
            late_ms: self.late_ms,
            other: self.other.as_deref().map(program).transpose()?,
            skipped,
        };
        Ok((settings, self.out))
    }
}

/// Whether a fault can be had here.
fn possible(system: &System, fault: Fault) -> anyhow::Result<()> {
    match system {
        System::Quoris(_) => {}
        System::Redis(_) => anyhow::ensure!(!fault.needs_relays(), "one redis-server has no cables"),
        System::Sentinel(_) | System::Deployed(_) => {}
    }
    let is_quoris = matches!(system, System::Quoris(_));
    anyhow::ensure!(is_quoris || fault.least() == 1, "only nodes of Quoris all talk to each other");
    anyhow::ensure!(is_quoris || !fault.is_work(), "only clusters of Quoris have operators here");
    if fault.needs_disks() {
        anyhow::ensure!(is_quoris, "only nodes of Quoris get disks of their own");
        let folder = std::env::temp_dir().join(format!("chaos-try-{}", std::process::id()));
        let tried = Disks::try_out(&folder);
        let _ = std::fs::remove_dir_all(folder);
        tried?;
    }
    if fault.needs_clocks() {
        anyhow::ensure!(is_quoris, "only nodes of Quoris get clocks of their own");
        Clocks::make(&[])?;
    }
    Ok(())
}

/// As it is found from any folder.
///
/// # Errors
/// When a path leads nowhere.
pub fn program(path: &Path) -> anyhow::Result<PathBuf> {
    if path.components().count() > 1 { Ok(path.canonicalize()?) } else { Ok(path.to_path_buf()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_fault_and_workload() {
        let help = Options::augment_args(clap::Command::new("run")).render_long_help().to_string();
        let faults = faults::NAMES.iter().map(|(name, _)| name);
        let missing: Vec<_> = faults.chain(work::NAMES).filter(|name| !help.contains(**name)).collect();
        assert!(missing.is_empty(), "{missing:?} in {help}");
    }
}
