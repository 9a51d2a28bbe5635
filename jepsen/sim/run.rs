//! One run, from an empty cluster to the comparison at its end.

use std::sync::Arc;
use std::time::Duration;

use turmoil::{Builder, Sim};

use crate::dice::Dice;
use crate::disk::DiskCounts;
use crate::faults::{FaultCounts, Faults};
use crate::history::Counts;
use crate::host::{Phase, World, software};
use crate::{NODES, name};

/// How long faults happen.
const FAULTS: Duration = Duration::from_secs(4);
/// How long clients go on without faults.
const CALM: Duration = Duration::from_millis(1500);
/// How long a healed cluster may take for what every healthy one does at once.
const HEALED: Duration = Duration::from_secs(8);

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Every event in order.
    pub trace: Vec<String>,
    /// Commands.
    pub commands: Counts,
    /// Faults.
    pub faults: FaultCounts,
    /// All disks together.
    pub disks: DiskCounts,
    /// Snapshots that replicas received and installed.
    pub installs: u64,
    /// Simulated time, from the start to the end.
    pub simulated: Duration,
}

/// A rule was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub text: String,
    /// What led to it.
    pub trace: Vec<String>,
}

/// Runs one seed. Needs a thread of its own.
///
/// # Errors
/// When a rule was broken.
pub fn run(seed: u64) -> Result<Summary, Failure> {
    quoris_raft::runtime::seed_thread(seed);
    let mut dice = Dice::new(seed, 0);
    let world = Arc::new(World::new(seed, dice.between(1, 2) as u32));
    let mut sim = build(seed, &mut dice, &world);
    // Some clusters have trouble while they are founded.
    let begin = if dice.percent(25) { 0 } else { dice.between(600, 1200) };
    let mut faults = Faults::new(world.clone(), Duration::from_millis(begin));
    let result = drive(&mut sim, &mut faults, &world);
    let trace = world.history.events();
    if let Err(text) = result {
        return Err(Failure { text, trace });
    }
    let mut disks = DiskCounts::default();
    for counts in world.disks.iter().map(|d| d.counts()) {
        disks.lost += counts.lost;
        disks.snapshots += counts.snapshots;
        disks.purges += counts.purges;
        disks.truncations += counts.truncations;
    }
    Ok(Summary {
        trace,
        commands: world.history.counts(),
        faults: faults.counts,
        disks,
        installs: world.installs(),
        simulated: sim.elapsed(),
    })
}

fn build(seed: u64, dice: &mut Dice, world: &Arc<World>) -> Sim<'static> {
    let slowest = [3, 10, 30][dice.below(3) as usize];
    let mut sim = Builder::new()
        .rng_seed(seed)
        .epoch(std::time::UNIX_EPOCH)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(slowest))
        .tcp_capacity(4096)
        .enable_random_order()
        .build();
    for node in 0..NODES {
        let world = world.clone();
        sim.host(name(node), move || software(node, world.clone()));
    }
    sim
}

fn drive(sim: &mut Sim<'_>, faults: &mut Faults, world: &World) -> Result<(), String> {
    while sim.elapsed() < FAULTS {
        faults.step(sim);
        step(sim, world)?;
    }
    faults.heal(sim);
    until(sim, world, CALM, |_| false)?;
    world.enter(Phase::Drain);
    until(sim, world, HEALED, World::is_drained)?;
    if !world.is_drained() {
        return Err(format!("clients still wait {HEALED:?} after everything was healed: {}", world.describe()));
    }
    world.enter(Phase::Final);
    let is_over = |world: &World| world.finals().is_some() && world.is_level();
    until(sim, world, HEALED, is_over)?;
    if !is_over(world) {
        return Err(format!("a healed cluster did not take writes and level out in {HEALED:?}: {}", world.describe()));
    }
    for (key, reply) in world.finals().into_iter().flatten().flatten() {
        world.history.compare(&key, &reply)?;
    }
    Ok(())
}

fn until(sim: &mut Sim<'_>, world: &World, time: Duration, done: impl Fn(&World) -> bool) -> Result<(), String> {
    let end = sim.elapsed() + time;
    while sim.elapsed() < end && !done(world) {
        step(sim, world)?;
    }
    Ok(())
}

fn step(sim: &mut Sim<'_>, world: &World) -> Result<(), String> {
    sim.step().map_err(|e| format!("a node ended: {e}"))?;
    match world.ledger.first_violation() {
        Some(text) => Err(text),
        None => Ok(()),
    }
}
