//! Operators at work: they move slots and leaders, exchange nodes and programs while other faults come, and mend what
//! was damaged, by the product's own administration, and ask again until they have what they want.
//!
//! Each work has a thread of its own. Invariants: one work of a kind at a time; a node is only taken down by an
//! operator while no fault is on it; a work that was begun is finished after the last fault, or noted as unfinished.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quoris_resp::Reply;

use crate::client::Client;
use crate::faults::{Done, Fault, Step};
use crate::lanes::Stage;
use crate::nodes::{Nodes, PREFIX, System};
use crate::run::{Notes, Settings};
use crate::work::Dice;

mod damage;
pub mod members;
mod slots;
mod transfer;
mod upgrade;

/// Between two looks, and between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// A node may take so long to answer an operator, who asks another one then.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long works may take once there are no faults any more.
const WORK_TIME_MAX: Duration = Duration::from_secs(60);

/// The nodes, for as long as nobody else may change them.
pub fn lock(nodes: &Mutex<Nodes>) -> MutexGuard<'_, Nodes> {
    nodes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all operators share.
struct Scene {
    nodes: Arc<Mutex<Nodes>>,
    stage: Arc<Stage>,
    program: PathBuf,
    /// What nodes are upgraded to.
    other: PathBuf,
    groups: i64,
    seed: u64,
    log: Mutex<std::fs::File>,
    /// Nobody waits for them any longer.
    is_over: AtomicBool,
}

/// A work that goes on.
struct Work {
    fault: Fault,
    place: Option<usize>,
    thread: JoinHandle<(Done, Result<(), String>)>,
}

/// All operators.
pub struct Crew {
    scene: Arc<Scene>,
    works: Vec<Work>,
}

impl Crew {
    /// Nobody works yet; what they ask and are told goes into a file of the folder.
    ///
    /// # Errors
    /// When that cannot be made.
    pub fn new(settings: &Settings, nodes: Arc<Mutex<Nodes>>, stage: Arc<Stage>, dir: &Path) -> anyhow::Result<Crew> {
        let program = if let System::Quoris(program) = &settings.system { program.clone() } else { PathBuf::new() };
        let other = settings.other.clone().unwrap_or_else(|| program.clone());
        let log = Mutex::new(std::fs::File::create(dir.join("operators.log"))?);
        let (groups, seed, is_over) = (settings.shape.groups as i64, settings.seed, AtomicBool::new(false));
        let scene = Scene { nodes, stage, program, other, groups, seed, log, is_over };
        Ok(Crew { scene: Arc::new(scene), works: Vec::new() })
    }

    /// Whether this may begin now. While files are damaged all others must live, and nobody may lose a disk besides.
    pub fn is_ready_for(&self, fault: Fault) -> bool {
        let goes_on = |kind: Fault| self.works.iter().any(|work| work.fault == kind);
        !goes_on(Fault::Damage) && (fault != Fault::Damage || !goes_on(Fault::Members))
    }

    /// A work begins, unless the one of this kind before is not at its end yet.
    pub fn begin(&mut self, step: &Step, until: Instant) {
        if self.works.iter().any(|work| work.fault == step.fault) {
            return;
        }
        let fault = step.fault;
        // No two operators do something to one node.
        let count = lock(&self.scene.nodes).members().len();
        let is_free = |place: &usize| self.works.iter().all(|work| work.place != Some(*place));
        let place = step.nodes.first().and_then(|first| (0..count).map(|more| (first + more) % count).find(is_free));
        let (at, dice) = (place.unwrap_or(0), RefCell::new(Dice::new(self.scene.seed ^ step.from)));
        let operator = Operator { scene: self.scene.clone(), dice, until, turn: Cell::new(at) };
        let from = self.scene.stage.now();
        eprintln!("{:6.1} s  {} {place:?}", from as f64 / 1e9, fault.name());
        let thread = std::thread::spawn(move || {
            let mut nodes = Vec::new();
            let result = match fault {
                Fault::Members => operator.exchange(at, &mut nodes),
                Fault::Damage => operator.damage(at, &mut nodes),
                Fault::Upgrade => operator.upgrade(&mut nodes),
                Fault::Transfer => operator.transfer(&mut nodes),
                _ => operator.move_slots(),
            };
            operator.say(&format!("{}: {result:?}", fault.name()));
            (Done { fault, nodes, from, until: Some(operator.scene.stage.now()) }, result)
        });
        self.works.push(Work { fault, place, thread });
    }

    /// Notes the works that have come to an end.
    pub fn look(&mut self, notes: &mut Notes) {
        for at in (0..self.works.len()).rev().filter(|at| self.works[*at].thread.is_finished()).collect::<Vec<_>>() {
            let work = self.works.remove(at);
            match work.thread.join() {
                Ok((done, Ok(()))) => notes.faults.push(done),
                Ok((_, Err(why))) => notes.unsettled.push(format!("{}: {why}", work.fault.name())),
                Err(_) => notes.unsettled.push(format!("{}: an operator panicked", work.fault.name())),
            }
        }
    }

    /// Waits until all works have come to an end, or gives up.
    pub fn finish(&mut self, notes: &mut Notes) {
        // Where a node has ended the run is over.
        let patience = if notes.ended.is_empty() { WORK_TIME_MAX } else { Duration::ZERO };
        let deadline = Instant::now() + patience;
        while !self.works.is_empty() {
            if Instant::now() > deadline {
                self.scene.is_over.store(true, Ordering::Relaxed);
            }
            notes.ended.extend(lock(&self.scene.nodes).ended());
            self.look(notes);
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.scene.is_over.store(true, Ordering::Relaxed);
        self.works.drain(..).for_each(|work| drop(work.thread.join()));
    }
}

/// Who does one work.
struct Operator {
    scene: Arc<Scene>,
    dice: RefCell<Dice>,
    /// When the work may end.
    until: Instant,
    turn: Cell<usize>,
}

impl Operator {
    fn below(&self, n: i64) -> i64 {
        self.dice.borrow_mut().below(n)
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        lock(&self.scene.nodes)
    }

    /// A line for whoever reads what happened.
    fn say(&self, text: &str) {
        use std::io::Write;
        let mut log = self.scene.log.lock().unwrap_or_else(PoisonError::into_inner);
        // It decides nothing.
        let _ = writeln!(log, "{:9.3} s  {text}", self.scene.stage.now() as f64 / 1e9);
    }

    /// Attempts something until it succeeds.
    fn persist<T>(&self, what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> Result<T, String> {
        let mut said = String::new();
        loop {
            match attempt() {
                Ok(done) => {
                    self.say(&format!("{what}: done"));
                    return Ok(done);
                }
                Err(why) if self.scene.is_over.load(Ordering::Relaxed) => return Err(format!("{what}: {why}")),
                Err(why) if why != said => {
                    self.say(&format!("{what}: {why}"));
                    said = why;
                }
                Err(_) => {}
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits for the time when the work may end.
    fn wait(&self) {
        while Instant::now() < self.until && !self.scene.is_over.load(Ordering::Relaxed) {
            std::thread::sleep(PAUSE);
        }
    }

    /// Where the next member is, one after the other.
    fn someone(&self) -> SocketAddr {
        let members = self.nodes().members();
        self.turn.set(self.turn.get() + 1);
        members[self.turn.get() % members.len()]
    }

    fn ask(&self, parts: &[&str]) -> Result<Reply, String> {
        say(self.someone(), parts)
    }
}

/// What a node answers.
fn say(address: SocketAddr, parts: &[&str]) -> Result<Reply, String> {
    let mut client = Client::connect(address, PATIENCE, PREFIX).map_err(|why| format!("{address}: {why}"))?;
    let mut replies = client.exchange(&[parts]).map_err(|trouble| format!("{address}: {trouble:?}"))?;
    match replies.remove(0) {
        Reply::Error(text) => Err(String::from_utf8_lossy(&text).into_owned()),
        reply => Ok(reply),
    }
}
