//! One run: nodes, clients and faults, and what they leave in a folder.
//!
//! The folder holds `run.json` (all that decides the run, the schedule of faults included), a `.jsonl` for each
//! workload, `notes.json` (what happened besides), and a folder for each node with its log and data.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::TryRng;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};

use crate::faults::{Done, Fault, Step};
use crate::lanes::{Book, Lane, Stage};
use crate::nodes::{Nodes, PREFIX, REPLICAS_MAX, Shape, System, ready};
use crate::operators::{Crew, lock, members};
use crate::work;

/// Slots of a cluster.
const SLOTS: u64 = 16384;
/// Between two looks at the schedule.
const TICK: Duration = Duration::from_millis(10);
/// One client in so many only reads.
const READER: usize = 3;
/// Of this workload as many clients hold sessions of their own.
const ONCE: &str = "counter";
/// A fault that had to wait for its nodes for so long comes by itself.
const LATE_MS: u64 = 300;
const PROGRESS: Duration = Duration::from_secs(2);
/// A node whose disk has failed ends within this time.
const NOTICE: Duration = Duration::from_secs(1);
/// How long replicas may take to apply the same once nobody writes.
const LEVEL_TIME_MAX: Duration = Duration::from_secs(20);

/// All that decides a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// What is looked at.
    pub system: System,
    /// How many nodes and groups.
    pub shape: Shape,
    /// Names of workloads; all run at once.
    pub workloads: Vec<String>,
    /// Kinds of faults.
    pub faults: Vec<Fault>,
    /// When which of them happens.
    pub schedule: Vec<Step>,
    /// How long clients work, without what comes before and after.
    pub time_ms: u64,
    /// Decides what clients ask.
    pub seed: u64,
    /// Clients of each workload.
    pub clients: usize,
    /// Questions per second of each workload, at the most.
    pub rate: u64,
    /// A key may die so much before its time.
    pub early_ms: u64,
    /// And live so long beyond it.
    pub late_ms: u64,
    /// What nodes are upgraded to, if that is another program.
    #[serde(default)]
    pub other: Option<PathBuf>,
    /// Faults that were asked for and cannot be had on this machine, with the reason.
    #[serde(default)]
    pub skipped: Vec<(Fault, String)>,
}

/// What happened besides questions and answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Notes {
    /// Faults as they happened.
    pub faults: Vec<Done>,
    /// Nodes that ended by themselves.
    pub ended: Vec<String>,
    /// Nodes that went on though their disk had failed.
    #[serde(default)]
    pub stubborn: Vec<String>,
    /// Why the nodes were not ready after the last fault.
    pub unready: Option<String>,
    /// What operators did not bring to an end, or the cluster without them.
    #[serde(default)]
    pub unsettled: Vec<String>,
    /// Workloads whose last questions were not all answered.
    pub unfinished: Vec<String>,
    /// Replicas whose state differs though they have applied the same.
    #[serde(default)]
    pub differences: Vec<String>,
    /// Replicas that have cut their logs, and snapshots that replicas have installed since their nodes began.
    #[serde(default)]
    pub snapshots: [usize; 2],
    /// Replicas that compared equal at the end.
    #[serde(default)]
    pub level: usize,
    /// Why they could not be compared.
    #[serde(default)]
    pub unlevel: Option<String>,
}

/// Runs, and leaves everything in the folder.
///
/// # Errors
/// When the harness itself failed: nothing can be said then.
pub fn run(settings: &Settings, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    anyhow::ensure!(!dir.join("run.json").exists(), "{} holds a run already", dir.display());
    let dir = &dir.canonicalize()?;
    write_json(&dir.join("run.json"), settings)?;
    eprintln!("starting {:?}", settings.system);
    let nodes = Nodes::start(&settings.system, &settings.shape, dir)?;
    let stage = Arc::new(Stage {
        began: Instant::now(),
        addresses: nodes.addresses.clone(),
        has_primary: nodes.has_primary,
        prefix: format!("{PREFIX}{:x}:", SysRng.try_next_u32()?),
        stop: false.into(),
        processes: 0.into(),
        counts: Default::default(),
        strange: Mutex::new(None),
    });
    let books: Vec<Arc<Book>> = settings
        .workloads
        .iter()
        .map(|name| {
            let work = work::by_name(name).with_context(|| format!("no workload is called {name}"))?;
            Ok(Arc::new(Book::create(work, &dir.join(format!("{name}.jsonl")))?))
        })
        .collect::<anyhow::Result<_>>()?;
    let clients = start_clients(settings, &stage, &books)?;
    let mut notes = Notes::default();
    let nodes = Arc::new(Mutex::new(nodes));
    let mut crew = Crew::new(settings, nodes.clone(), stage.clone(), dir)?;
    let watched = watch(settings, &nodes, &mut crew, &stage, &mut notes);
    stage.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
    }
    watched?;
    crew.finish(&mut notes);
    let mut nodes = lock(&nodes);
    if stage.strange.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
        finish(settings, &mut nodes, &stage, &books, &mut notes);
    }
    notes.ended.extend(nodes.ended());
    books.iter().try_for_each(|book| book.flush())?;
    write_json(&dir.join("notes.json"), &notes)?;
    nodes.stop();
    match stage.strange.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(why) => anyhow::bail!("{why}"),
        None => Ok(()),
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    Ok(std::fs::write(path, serde_json::to_vec_pretty(value)?)?)
}

fn start_clients(settings: &Settings, stage: &Arc<Stage>, books: &[Arc<Book>]) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let pace = Duration::from_secs(1).mul_f64(settings.clients as f64 / settings.rate.max(1) as f64);
    let has_sessions = matches!(settings.system, System::Quoris(_) | System::Deployed(_));
    let mut clients = Vec::new();
    for (at, book) in books.iter().enumerate() {
        for client in 0..settings.clients {
            let seed = settings.seed.wrapping_mul(1_000_003) ^ (at * 1000 + client) as u64;
            let lane = Lane::new(stage.clone(), book.clone(), seed);
            let has_session = has_sessions && settings.workloads[at] == ONCE && client % READER == 1;
            let lane = if has_session { lane.with_session() } else { lane };
            let lane = if client % READER == READER - 1 { lane.only_reads() } else { lane };
            clients.push(std::thread::Builder::new().spawn(move || lane.run(pace))?);
        }
    }
    Ok(clients)
}

/// Lets faults begin and end as the schedule says, until the time is over; then none is left.
fn watch(
    settings: &Settings,
    shared: &Mutex<Nodes>,
    crew: &mut Crew,
    stage: &Stage,
    notes: &mut Notes,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut waiting = settings.schedule.iter().peekable();
    let mut due: Vec<(&Step, u64)> = Vec::new();
    let mut going: Vec<(u64, Done)> = Vec::new();
    let mut shown = began;
    loop {
        let time = began.elapsed().as_millis() as u64;
        let is_over = time >= settings.time_ms || stage.stop.load(Ordering::Relaxed);
        let (over, still) = going.into_iter().partition(|(until, _)| *until <= time || is_over);
        going = still;
        let mut nodes = lock(shared);
        for (_, mut done) in over {
            notes.stubborn.extend(stubborn(settings, &nodes, &done, stage.now()));
            nodes.heal(done.fault, &done.nodes)?;
            done.until = Some(stage.now());
            notes.faults.push(done);
        }
        notes.ended.extend(nodes.ended());
        nodes.strobe(time)?;
        crew.look(notes);
        if is_over || !notes.ended.is_empty() {
            return Ok(());
        }
        let is_free = |fault: Fault| going.is_empty() || !fault.is_alone();
        let comes = |step: &Step, crew: &Crew| step.from <= time && crew.is_ready_for(step.fault);
        while let Some(step) = waiting.next_if(|step| comes(step, crew) && is_free(step.fault)) {
            // The one before may have taken longer.
            let until = step.until + time - step.from;
            if step.fault.is_work() {
                // It has to look at the nodes itself.
                drop(nodes);
                crew.begin(step, began + Duration::from_millis(until));
                nodes = lock(shared);
                continue;
            }
            due.push((step, until - time));
        }
        for (step, lasts) in std::mem::take(&mut due) {
            let ready = crew.is_ready_for(step.fault).then(|| hit(&nodes, step, time, &going));
            match ready.flatten() {
                Some(hit) => going.push((time + lasts, harm(&mut nodes, step.fault, hit, stage)?)),
                None => due.push((step, lasts)),
            }
        }
        drop(nodes);
        if shown.elapsed() >= PROGRESS {
            shown = Instant::now();
            let counts = stage.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
            eprintln!("{:6.1} s  {} ok, {} fail, {} info", time as f64 / 1e3, counts[0], counts[1], counts[2]);
        }
        std::thread::sleep(TICK);
    }
}

fn harm(nodes: &mut Nodes, fault: Fault, hit: Vec<usize>, stage: &Stage) -> anyhow::Result<Done> {
    let done = Done { fault, nodes: hit, from: stage.now(), until: None };
    eprintln!("{:6.1} s  {} nodes {:?}", done.from as f64 / 1e9, fault.name(), done.nodes);
    nodes.harm(fault, &done.nodes)?;
    Ok(done)
}

/// The nodes that a fault can have now; nothing while it has to wait for them.
fn hit(nodes: &Nodes, step: &Step, time: u64, going: &[(u64, Done)]) -> Option<Vec<usize>> {
    // Who comes late or wants to be alone waits until all others are over.
    let is_alone = step.fault.is_alone() || time >= step.from + LATE_MS;
    if going.iter().any(|(_, other)| is_alone || other.fault.is_alone()) {
        return None;
    }
    let mut hit = nodes.aim(step.fault, &step.nodes, step.from % SLOTS);
    // Who was aimed at may have a fault already.
    if going.iter().any(|(_, other)| other.nodes.iter().any(|node| hit.contains(node))) {
        return None;
    }
    // An operator has one down at the moment.
    hit.retain(|node| nodes.runs(*node) && nodes.is_well(*node));
    (hit.len() >= step.fault.least()).then_some(hit)
}

/// Nodes that should have noticed by now that their disk has failed: each node writes for some group all the time.
fn stubborn(settings: &Settings, nodes: &Nodes, done: &Done, now: u64) -> Vec<String> {
    let is_early = now - done.from < NOTICE.as_nanos() as u64;
    let is_idle = settings.shape.nodes + settings.shape.spares > REPLICAS_MAX;
    if done.fault != Fault::Io || is_early || is_idle {
        return Vec::new();
    }
    let running = done.nodes.iter().filter(|node| nodes.runs(**node));
    running.map(|node| format!("node {} went on without a disk until {} ms", node + 1, now / 1_000_000)).collect()
}

/// When everything works again, the last questions are asked.
fn finish(settings: &Settings, nodes: &mut Nodes, stage: &Arc<Stage>, books: &[Arc<Book>], notes: &mut Notes) {
    if !notes.ended.is_empty() {
        return;
    }
    if let Err(why) = nodes.wait_until_ready() {
        notes.unready = Some(why.to_string());
        return;
    }
    stage.stop.store(false, Ordering::Relaxed);
    for (at, (name, book)) in settings.workloads.iter().zip(books).enumerate() {
        if !Lane::new(stage.clone(), book.clone(), settings.seed ^ at as u64).finish() {
            notes.unfinished.push(name.clone());
        }
    }
    stage.stop.store(true, Ordering::Relaxed);
    let replicas = match settings.system {
        System::Quoris(_) => settings.shape.groups * settings.shape.nodes.min(REPLICAS_MAX),
        System::Redis(_) | System::Sentinel(_) | System::Deployed(_) => 0,
    };
    notes.snapshots = ready::snapshots(&nodes.members());
    let works = settings.faults.iter().any(|fault| fault.is_work());
    match if works { members::settled(&nodes.members()) } else { Ok(nodes.members()) } {
        Ok(members) => level(&members, replicas, notes),
        Err(why) => notes.unsettled.push(why),
    }
}

/// All replicas hold the same, once all have applied the same; systems that do not tell are not asked twice.
fn level(addresses: &[SocketAddr], replicas: usize, notes: &mut Notes) {
    let deadline = Instant::now() + LEVEL_TIME_MAX;
    while let Some(standings) = ready::standings(addresses) {
        let count = standings.iter().map(Vec::len).sum();
        if let Some(differences) = ready::differences(&standings).filter(|_| count >= replicas) {
            notes.level = count;
            notes.differences = differences;
            return;
        }
        if Instant::now() > deadline {
            notes.unlevel = Some(format!("replicas did not come to one index in {LEVEL_TIME_MAX:?}: {standings:?}"));
            return;
        }
        std::thread::sleep(TICK);
    }
}
