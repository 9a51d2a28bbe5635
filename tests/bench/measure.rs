//! The runs: side after side, and back again.
//!
//! For every run each side is started anew with an empty directory, loaded with all keys, warmed up
//! and measured; only one side is up at a time, and no run inherits the files of another. The runs
//! of a row follow each other closely and the order of the sides turns (A B, B A, A B), so that a
//! machine that grows slower or faster, or is disturbed for a while, favours nobody.
//!
//! Invariants:
//! * Quoris misbehaving under load (an error reply, a wrong value, silence, an election, not
//!   ending on SIGINT) is a result: the row fails;
//! * everything else that goes wrong is a failure of the harness and never counts for anybody;
//! * after a failure the job's remaining runs are left out, so a bad run is never averaged away.

use crate::control;
use crate::cpu::Usage;
use crate::grpc::{self, EtcdLoad};
use crate::interrupt;
use crate::load::{Load, Workload};
use crate::messages::Audience;
use crate::process::Ports;
use crate::quiet::{Patience, is_disturbed};
use crate::random::KEYS;
use crate::resp::{Command, Keys};
use crate::rows::{Job, Placement, Row, Setting, jobs, rounds};
use crate::sides::{Commands, Running, Side};
use crate::window::{Limit, Sample};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// The load that fills the keyspace: deep pipelines, because it is not measured.
const FILL_PIPELINE: usize = 64;
const FILL_CONNECTIONS: usize = 16;
const FILL_ETCD_CLIENTS: usize = 1000;

/// How to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    pub runs: usize,
    pub limit: Limit,
    pub warm_up: Duration,
    pub etcd_connections: usize,
    pub etcd_spread: bool,
    pub patience: Duration,
}

/// One run of one job.
#[derive(Clone, Debug)]
pub struct Measured {
    pub sample: Sample,
    pub cpu: Usage,
}

/// Why a series has fewer runs than asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server did something that it must not do under load.
    Misbehaved(String),
    /// It could not be measured.
    Broken(String),
}

/// All runs of one job on one side.
#[derive(Clone, Debug, Default)]
pub struct Series {
    pub runs: Vec<Measured>,
    pub failure: Option<Failure>,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Results {
    pub series: BTreeMap<(Side, Job), Series>,
    pub notes: Vec<String>,
}

/// Measures all rows. An error means that the harness was asked to end.
pub fn measure(rows: &[Row], commands: &Commands, plan: &Plan) -> Result<Results> {
    let mut bench = Bench {
        commands,
        plan,
        ports: Ports::new(),
        patience: Patience::new(plan.patience),
        results: Results::default(),
    };
    for round in rounds(rows) {
        let setting = round[0].subject.setting;
        let sides = [
            (Side::Subject, jobs(&round, setting, |row| row.subject)),
            (Side::Peer, jobs(&round, setting, |row| row.peer)),
        ];
        for run in 0..plan.runs {
            for turn in 0..sides.len() {
                let (side, jobs) = &sides[(turn + run) % sides.len()];
                let installed = commands.templates(*side, setting).is_some();
                if !installed || bench.results.has_failed(*side, jobs) {
                    continue;
                }
                eprintln!("run {} of {}: {}", run + 1, plan.runs, side_name(*side, setting));
                let ended = bench.run_side(*side, setting, jobs);
                interrupt::check()?;
                if let Err(failure) = ended {
                    bench.results.fail(*side, jobs, failure);
                }
            }
        }
    }
    Ok(bench.results)
}

pub fn side_name(side: Side, setting: Setting) -> &'static str {
    match side {
        Side::Subject => setting.subject(),
        Side::Peer => setting.peer(),
    }
}

impl Results {
    fn has_failed(&self, side: Side, jobs: &[Job]) -> bool {
        jobs.iter().all(|&job| self.failed(side, job))
    }

    fn failed(&self, side: Side, job: Job) -> bool {
        self.series.get(&(side, job)).is_some_and(|series| series.failure.is_some())
    }

    fn fail(&mut self, side: Side, jobs: &[Job], failure: Failure) {
        eprintln!("  {failure:?}");
        for &job in jobs {
            let series = self.series.entry((side, job)).or_default();
            // The first failure is the cause, later ones are often its consequence.
            series.failure.get_or_insert_with(|| failure.clone());
        }
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// What goes on from run to run.
struct Bench<'a> {
    commands: &'a Commands,
    plan: &'a Plan,
    ports: Ports,
    patience: Patience,
    results: Results,
}

impl Bench<'_> {
    /// Starts a side, measures its jobs and stops it.
    fn run_side(&mut self, side: Side, setting: Setting, jobs: &[Job]) -> Result<(), Failure> {
        let broken = |error: anyhow::Error| Failure::Broken(format!("{error:#}"));
        let under_load = |error: anyhow::Error, logs: String| match side {
            Side::Subject => Failure::Misbehaved(format!("{error:#}{logs}")),
            Side::Peer => Failure::Broken(format!("{error:#}{logs}")),
        };
        let started = self.commands.start(side, setting, &mut self.ports);
        let running = started.map_err(broken)?;
        let target = Target { side, setting, running: &running, plan: self.plan };
        let filled = target.fill().context("loading the keys");
        filled.map_err(|error| under_load(error, running.log_tails()))?;
        for &job in jobs {
            if self.results.failed(side, job) {
                continue;
            }
            match target.measure(job, &mut self.patience, &mut self.results) {
                Ok(run) => self.results.series.entry((side, job)).or_default().runs.push(run),
                Err(error) => {
                    interrupt::check().map_err(broken)?;
                    self.results.fail(side, &[job], under_load(error, running.log_tails()));
                }
            }
        }
        running.stop().map_err(|error| under_load(error, String::new()))
    }
}

/// A side that is up, while it is measured.
struct Target<'a> {
    side: Side,
    setting: Setting,
    running: &'a Running,
    plan: &'a Plan,
}

/// Either load client.
enum Client {
    Resp(Load),
    Messages(Audience),
    Etcd(EtcdLoad),
}

impl Client {
    fn run(&mut self, limit: Limit) -> Result<Sample> {
        match self {
            Client::Resp(load) => load.run(limit),
            Client::Messages(audience) => audience.run(limit),
            Client::Etcd(load) => load.run(limit),
        }
    }
}

impl Target<'_> {
    fn is_etcd(&self) -> bool {
        self.side == Side::Peer && self.setting == Setting::ThreeEtcd
    }

    /// The node that writes go to, where only one takes them or one takes them faster.
    fn leader(&self) -> Option<SocketAddr> {
        let endpoints = &self.running.endpoints;
        match (self.side, self.setting) {
            (_, Setting::OneRedis) | (Side::Peer, Setting::ThreeRedis) => Some(endpoints[0]),
            (Side::Peer, Setting::ThreeEtcd) => {
                let statuses = grpc::statuses(endpoints).ok()?;
                let leads = statuses.iter().position(|status| status.member == status.leader)?;
                Some(endpoints[leads])
            }
            (Side::Subject, Setting::ThreeRedis | Setting::ThreeEtcd) => control::leader(endpoints),
        }
    }

    /// Writes every key once.
    fn fill(&self) -> Result<()> {
        let leader = self.leader().context("no node leads")?;
        let keys = Keys::Sequential(0);
        let mut client = if self.is_etcd() {
            let connections = self.plan.etcd_connections;
            let clients = FILL_ETCD_CLIENTS;
            let load = EtcdLoad::connect(&[leader], connections, clients, Command::Set, keys)?;
            Client::Etcd(load)
        } else {
            let workload = Workload { command: Command::Set, pipeline: FILL_PIPELINE, wait: false, keys };
            Client::Resp(Load::connect(&[leader], FILL_CONNECTIONS, workload)?)
        };
        let sample = client.run(Limit::operations(KEYS))?;
        anyhow::ensure!(sample.operations >= KEYS, "only {} keys were written", sample.operations);
        Ok(())
    }

    fn client(&self, job: Job, results: &mut Results) -> Result<Client> {
        let endpoints = &self.running.endpoints;
        let count = self.setting.connections();
        if self.is_etcd() {
            let leader = self.leader().context("etcd has no leader")?;
            let at = if self.plan.etcd_spread { endpoints.clone() } else { vec![leader] };
            let connections = self.plan.etcd_connections;
            let load = EtcdLoad::connect(&at, connections, count, job.command, Keys::Random)?;
            return Ok(Client::Etcd(load));
        }
        let replicas = self.side == Side::Peer && self.setting == Setting::ThreeRedis;
        let at = match job.placement {
            Placement::Spread if !replicas => endpoints.clone(),
            Placement::Spread | Placement::Leader => match self.leader() {
                Some(leader) => vec![leader],
                None => {
                    results.note("No leader was found; its rows used the first node.".to_owned());
                    vec![endpoints[0]]
                }
            },
        };
        if let Command::Publish(subscribers) = job.command {
            return Ok(Client::Messages(Audience::connect(&at, subscribers)?));
        }
        let workload = Workload {
            command: job.command,
            pipeline: job.pipeline,
            wait: replicas && job.command == Command::Set,
            keys: Keys::Random,
        };
        Ok(Client::Resp(Load::connect(&at, count, workload)?))
    }

    /// Warms up and measures one job, again if it was disturbed and there is patience left.
    fn measure(&self, job: Job, patience: &mut Patience, results: &mut Results) -> Result<Measured> {
        let mut client = self.client(job, results)?;
        loop {
            patience.wait(&self.running.roots())?;
            client.run(Limit::time(self.plan.warm_up))?;
            let measured = self.attempt(job, &mut client, results)?;
            let elapsed = measured.sample.elapsed;
            if !is_disturbed(&measured.cpu, elapsed) {
                return Ok(measured);
            }
            if !patience.allows_repeating(elapsed + self.plan.warm_up) {
                results.note("Other programs used the processor during some runs.".to_owned());
                return Ok(measured);
            }
            eprintln!("  disturbed by other programs: once more");
        }
    }

    fn attempt(&self, job: Job, client: &mut Client, results: &mut Results) -> Result<Measured> {
        let roots = self.running.roots();
        let elections = self.elections()?;
        let before = Usage::now(&roots)?;
        let sample = client.run(self.plan.limit)?;
        let cpu = Usage::now(&roots)?.since(before);
        let place = if job.placement == Placement::Leader { " at the leader" } else { "" };
        let name = format!("{}{place}", job.load());
        eprintln!("  {name}: {:.0}/s", sample.throughput());
        match (self.side, elections, self.elections()?) {
            (_, Some(before), Some(after)) if before == after => {}
            (Side::Subject, Some(before), Some(after)) => {
                anyhow::bail!("an election during the measurement: the count went from {before} to {after}")
            }
            (Side::Subject, _, _) => {
                let note = "Quoris reported no elections, so none could be ruled out.";
                results.note(note.to_owned());
            }
            (Side::Peer, Some(_), Some(_)) => {
                results.note(format!("etcd elected a leader during {name}."));
            }
            (Side::Peer, _, _) => {}
        }
        Ok(Measured { sample, cpu })
    }

    fn elections(&self) -> Result<Option<u64>> {
        let endpoints = &self.running.endpoints;
        match (self.side, self.setting) {
            (Side::Subject, _) => control::elections_of(endpoints),
            (Side::Peer, Setting::ThreeEtcd) => {
                let statuses = grpc::statuses(endpoints)?;
                Ok(statuses.iter().map(|status| status.term).max())
            }
            (Side::Peer, Setting::OneRedis | Setting::ThreeRedis) => Ok(None),
        }
    }
}
