//! Crashes, cut links and a wall clock that jumps, on a schedule that the seed decides.
//!
//! Invariants: the clock of one node alone is wrong, since that of a majority is taken for the time; a link has one
//! fault at a time; every fault has an end on the schedule, and [`Faults::heal`] ends them all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use turmoil::Sim;

use crate::dice::Dice;
use crate::host::World;
use crate::{NODES, name};

const HOUR_MS: i64 = 3_600_000;
/// How long nobody hears anybody in a standstill: longer than a node's clients wait.
const STANDSTILL: Duration = Duration::from_millis(2300);

/// What is wrong with a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cut {
    /// Everything waits.
    Held,
    /// Everything is lost.
    Lost,
    /// Everything from the first to the second is lost.
    OneWay,
    /// Connections end, and new ones are refused: each takes the other for dead.
    Refused,
}

/// What comes back when.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Return {
    Node(usize),
    Link(usize, usize),
}

/// How many faults there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Crashed nodes.
    pub crashes: u64,
    /// Links that were held or cut.
    pub cuts: u64,
    /// Jumps of a wall clock.
    pub jumps: u64,
}

/// The faults of one run.
pub struct Faults {
    dice: Dice,
    next: Duration,
    down: BTreeSet<usize>,
    cuts: BTreeMap<(usize, usize), Cut>,
    returns: BTreeSet<(Duration, Return)>,
    /// Of the clock, so that it changes nothing else.
    clock_dice: Dice,
    next_jump: Duration,
    /// Of refused connections, in a third of all runs.
    refusal_dice: Dice,
    next_refusal: Option<Duration>,
    /// When all links are held, in one of eight runs.
    standstill: Option<Duration>,
    world: Arc<World>,
    /// So far.
    pub counts: FaultCounts,
}

impl Faults {
    /// The first fault comes at `begin` or a little later.
    pub fn new(world: Arc<World>, begin: Duration) -> Faults {
        let dice = Dice::new(world.seed, 300);
        let (down, cuts, returns) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        let (clock_dice, refusal_dice) = (Dice::new(world.seed, 301), Dice::new(world.seed, 302));
        let next_refusal = (world.seed % 3 == 2).then_some(begin);
        let standstill = (world.seed % 8 == 5).then(|| begin + Duration::from_millis(300));
        let counts = FaultCounts::default();
        Faults {
            dice,
            next: begin,
            down,
            cuts,
            returns,
            clock_dice,
            next_jump: begin,
            refusal_dice,
            next_refusal,
            standstill,
            world,
            counts,
        }
    }

    /// Does what is due.
    pub fn step(&mut self, sim: &mut Sim<'_>) {
        let now = sim.elapsed();
        while let Some((at, what)) = self.returns.first().copied().filter(|(at, _)| *at <= now) {
            self.returns.remove(&(at, what));
            self.come_back(sim, what);
        }
        if now >= self.next_jump {
            self.jump(sim);
        }
        if self.next_refusal.is_some_and(|next| now >= next) {
            self.refuse(sim);
        }
        if self.standstill.is_some_and(|begin| now >= begin) {
            self.standstill = None;
            for node in 0..NODES {
                (0..node).for_each(|other| self.cut_for(sim, node, other, Cut::Held, Some(STANDSTILL)));
            }
        }
        if now < self.next {
            return;
        }
        self.next = now + Duration::from_millis(self.dice.between(50, 600));
        let node = self.dice.below(NODES as u64) as usize;
        let other = (node + 1 + self.dice.below(NODES as u64 - 1) as usize) % NODES;
        match self.dice.below(100) {
            0..40 => self.crash(sim, node),
            40..45 => (0..NODES).for_each(|n| self.crash(sim, n)),
            45..60 => self.cut(sim, node, other, Cut::Held),
            60..72 => self.cut(sim, node, other, Cut::Lost),
            72..80 => self.cut(sim, node, other, Cut::OneWay),
            _ => {
                let cut = if self.dice.percent(50) { Cut::Held } else { Cut::Lost };
                (0..NODES).filter(|n| *n != node).for_each(|n| self.cut(sim, node, n, cut));
            }
        }
    }

    /// Ends every fault.
    pub fn heal(&mut self, sim: &mut Sim<'_>) {
        for (_, what) in std::mem::take(&mut self.returns) {
            self.come_back(sim, what);
        }
    }

    fn say(&self, sim: &Sim<'_>, event: String) {
        self.world.history.trace_at(sim.elapsed().as_micros(), event);
    }

    /// The one wrong clock is an hour early, late, or right.
    fn jump(&mut self, sim: &Sim<'_>) {
        self.next_jump = sim.elapsed() + Duration::from_millis(self.clock_dice.between(100, 800));
        let node = (self.world.seed % NODES as u64) as usize;
        let hours = self.clock_dice.below(3) as i64 - 1;
        self.world.walls[node].store(hours * HOUR_MS, Ordering::Relaxed);
        self.counts.jumps += 1;
        self.say(sim, format!("the clock of {} is wrong by {hours} hours", name(node)));
    }

    /// A live node seems dead to all others, and they to it.
    fn refuse(&mut self, sim: &mut Sim<'_>) {
        self.next_refusal = Some(sim.elapsed() + Duration::from_millis(self.refusal_dice.between(300, 1200)));
        let node = self.refusal_dice.below(NODES as u64) as usize;
        (0..NODES).filter(|other| *other != node).for_each(|other| self.cut(sim, node, other, Cut::Refused));
    }

    fn crash(&mut self, sim: &mut Sim<'_>, node: usize) {
        if !self.down.insert(node) {
            return;
        }
        self.counts.crashes += 1;
        self.world.wires.crash(&name(node));
        sim.crash(name(node));
        self.world.wires.bury();
        let lost = self.world.disks[node].crash();
        self.world.crashed(node);
        self.say(sim, format!("crash of {}, {lost} operations lost", name(node)));
        let back = sim.elapsed() + Duration::from_millis(self.dice.between(10, 900));
        self.returns.insert((back, Return::Node(node)));
    }

    fn cut(&mut self, sim: &mut Sim<'_>, a: usize, b: usize, cut: Cut) {
        self.cut_for(sim, a, b, cut, None);
    }

    fn cut_for(&mut self, sim: &mut Sim<'_>, a: usize, b: usize, cut: Cut, time: Option<Duration>) {
        let pair = (a.min(b), a.max(b));
        if self.cuts.contains_key(&pair) {
            return;
        }
        self.cuts.insert(pair, cut);
        self.counts.cuts += 1;
        match cut {
            Cut::Held => sim.hold(name(a), name(b)),
            Cut::Lost => sim.partition(name(a), name(b)),
            Cut::OneWay => sim.partition_oneway(name(a), name(b)),
            Cut::Refused => {
                // Who calls through a cut link is refused at once.
                sim.partition(name(a), name(b));
                self.world.wires.reset(&name(a), &name(b));
            }
        }
        self.say(sim, format!("{} to {}: {cut:?}", name(a), name(b)));
        let time = time.unwrap_or_else(|| Duration::from_millis(self.dice.between(50, 1200)));
        let back = sim.elapsed() + time;
        self.returns.insert((back, Return::Link(pair.0, pair.1)));
    }

    fn come_back(&mut self, sim: &mut Sim<'_>, what: Return) {
        match what {
            Return::Node(node) => {
                self.down.remove(&node);
                sim.bounce(name(node));
            }
            Return::Link(a, b) => match self.cuts.remove(&(a, b)) {
                Some(Cut::Held) => sim.release(name(a), name(b)),
                _ => {
                    sim.repair(name(a), name(b));
                    self.world.wires.reset(&name(a), &name(b));
                }
            },
        }
        self.say(sim, format!("back: {what:?}"));
    }
}
