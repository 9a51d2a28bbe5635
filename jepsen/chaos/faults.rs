//! Which faults happen when, decided by a seed before the run begins.
//!
//! What operators do is scheduled beside all other faults, so that these meet it.
//!
//! Invariants: no two faults have a node in common at one time, but for operators; each kind that was asked for comes
//! once before any comes twice; all are over before the run ends, but for operators, who finish what they began.

use serde::{Deserialize, Serialize};

use crate::work::Dice;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// SIGKILL to one node or several, and a new start.
    Kill,
    /// SIGKILL to all at once.
    KillAll,
    /// SIGKILL to one node that stays away for a third of the run: the others may cut their logs meanwhile.
    Away,
    /// SIGSTOP, later SIGCONT.
    Pause,
    /// Nodes and the others hear nothing of each other.
    Partition,
    /// Each node hears only its neighbours in a circle of all.
    Ring,
    /// Two halves hear nothing of each other; one node hears both.
    Bridge,
    /// A minority and the others hear nothing of each other; the leader of a group is among the minority.
    Minority,
    /// The others hear nothing of these nodes, which hear them.
    OneWay,
    /// One node and the others take each other for dead: connections end, and new ones are refused.
    Refuse,
    /// What these nodes hear and say is late, some of it very late.
    Slow,
    /// Much of what these nodes hear and say has to be sent again.
    Loss,
    /// What these nodes hear and say passes slowly, byte by byte.
    Narrow,
    /// Their power fails: what was not fsynced is gone.
    Power,
    /// Their disks fail under them: every write is an error.
    Io,
    /// Their disks are nearly full.
    Full,
    /// The wall clock of one node is an hour early or late.
    Clock,
    /// The wall clock of one node jumps ahead and back several times a second.
    Strobe,
    /// The wall clock of one node runs too fast or too slowly.
    Drift,
    /// A dead node's files are damaged, or older ones put in their place.
    Damage,
    /// An operator moves slots between groups.
    Slots,
    /// An operator exchanges a node for another one.
    Members,
    /// An operator stops each node in good order and starts it with another program, and back.
    Upgrade,
    /// An operator lets other nodes lead.
    Transfer,
}

/// All kinds by name.
pub const NAMES: &[(&str, Fault)] = &[
    ("kill", Fault::Kill),
    ("kill-all", Fault::KillAll),
    ("away", Fault::Away),
    ("pause", Fault::Pause),
    ("partition", Fault::Partition),
    ("ring", Fault::Ring),
    ("bridge", Fault::Bridge),
    ("minority", Fault::Minority),
    ("one-way", Fault::OneWay),
    ("refuse", Fault::Refuse),
    ("slow", Fault::Slow),
    ("loss", Fault::Loss),
    ("narrow", Fault::Narrow),
    ("power", Fault::Power),
    ("io", Fault::Io),
    ("full", Fault::Full),
    ("clock", Fault::Clock),
    ("strobe", Fault::Strobe),
    ("drift", Fault::Drift),
    ("damage", Fault::Damage),
    ("slots", Fault::Slots),
    ("members", Fault::Members),
    ("upgrade", Fault::Upgrade),
    ("transfer", Fault::Transfer),
];

impl Fault {
    /// It needs relays between the nodes.
    pub fn needs_relays(self) -> bool {
        matches!(self, Fault::Partition | Fault::OneWay | Fault::Refuse | Fault::Slow)
            || matches!(self, Fault::Minority | Fault::Loss | Fault::Narrow)
            || self.is_shape()
    }

    /// It has a shape, of which every node is a part.
    fn is_shape(self) -> bool {
        matches!(self, Fault::Ring | Fault::Bridge)
    }

    /// So many nodes make it, at the least.
    pub fn least(self) -> usize {
        if self.is_shape() { 3 } else { 1 }
    }

    /// It needs a file system of its own for each node.
    pub fn needs_disks(self) -> bool {
        matches!(self, Fault::Power | Fault::Io | Fault::Full)
    }

    /// It needs clocks that can be set.
    pub fn needs_clocks(self) -> bool {
        matches!(self, Fault::Clock | Fault::Strobe | Fault::Drift)
    }

    /// It is the work of an operator, or needs one afterwards.
    pub fn is_work(self) -> bool {
        self == Fault::Damage || self.is_beside()
    }

    /// It goes on while other faults come.
    pub fn is_beside(self) -> bool {
        matches!(self, Fault::Slots | Fault::Members | Fault::Upgrade | Fault::Transfer)
    }

    /// No other comes at the same time, but for operators: what is acknowledged must be on the other disks, or nobody
    /// would write for as long as it takes.
    pub fn is_alone(self) -> bool {
        matches!(self, Fault::Damage | Fault::Away) || self.needs_disks()
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, fault)| *fault == self).map_or("", |(name, _)| name)
    }
}

/// One fault of the schedule; times are milliseconds since the clients began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What.
    pub fault: Fault,
    /// To whom, from 0 on.
    pub nodes: Vec<usize>,
    /// From when.
    pub from: u64,
    /// Until when.
    pub until: u64,
}

/// What happened to the schedule.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    /// What.
    pub fault: Fault,
    /// To whom, from 0 on.
    pub nodes: Vec<usize>,
    /// Nanoseconds since the run began.
    pub from: u64,
    /// Nothing while it lasts.
    pub until: Option<u64>,
}

/// Before the first and after the last fault.
const QUIET_MS: u64 = 500;
/// The first fault comes so much later, at the most.
const FIRST_MS: i64 = 300;
/// A fault and the quiet behind it, at the most.
pub const ROUND_MS: u64 = 4600;
/// Who stays away does so for this part of a run.
const AWAY_PART: u64 = 3;
/// The same where a failover takes seconds.
pub const LONG_ROUND_MS: u64 = 16_000;
/// Less is no fault worth its name.
const ROUND_MS_MIN: u64 = 800;

/// The schedule of a seed for so many milliseconds and rounds of this length; without the kinds that find no room.
pub fn schedule(seed: u64, faults: &[Fault], nodes: usize, times: (u64, u64)) -> Vec<Step> {
    let (works, others): (Vec<Fault>, Vec<Fault>) = faults.iter().partition(|fault| fault.is_beside());
    let mut steps = track(Dice::new(seed ^ 0xfa17), &others, nodes, times);
    for (at, work) in works.iter().enumerate() {
        steps.extend(track(Dice::new(seed ^ (0x0b5e << at)), &[*work], nodes, times));
    }
    steps.sort_by_key(|step| step.from);
    steps
}

/// One fault after the other.
fn track(mut dice: Dice, faults: &[Fault], nodes: usize, (time, round): (u64, u64)) -> Vec<Step> {
    let mut steps = Vec::new();
    let away = if faults.contains(&Fault::Away) { time / AWAY_PART } else { 0 };
    let room = time.saturating_sub(2 * QUIET_MS + FIRST_MS.unsigned_abs() + away);
    let length = room.checked_div(faults.len() as u64).unwrap_or(0).min(round);
    if length < ROUND_MS_MIN {
        return steps;
    }
    let half = length as i64 / 2;
    // A failover must fit into a fault.
    let shortest = if round > ROUND_MS { length / 3 } else { 300 };
    let mut from = QUIET_MS + dice.below(FIRST_MS) as u64;
    for round in 0.. {
        let mut until = from + shortest + dice.below(half - shortest as i64) as u64;
        if until + QUIET_MS > time {
            break;
        }
        let fault = faults.get(round).copied().unwrap_or_else(|| faults[dice.below(faults.len() as i64) as usize]);
        if fault == Fault::Away {
            until = until.max((from + away).min(time - QUIET_MS));
        }
        let hit = targets(&mut dice, fault, nodes);
        // Now and then another kind meets the others meanwhile.
        let other = faults[dice.below(faults.len() as i64) as usize];
        let is_alone = fault.is_alone() || other.is_alone();
        let rest: Vec<usize> = (0..nodes).filter(|node| !hit.contains(node)).collect();
        let is_of_all = other == Fault::KillAll || other.is_shape();
        if other != fault && !is_of_all && !is_alone && !rest.is_empty() && dice.below(3) == 0 {
            let node = rest[dice.below(rest.len() as i64) as usize];
            let start = from + dice.below(200) as u64;
            steps.push(Step { fault: other, nodes: vec![node], from: start, until });
        }
        steps.push(Step { fault, nodes: hit, from, until });
        from = until + 200 + dice.below(half - 200) as u64;
    }
    steps
}

/// One node mostly, a majority now and then; of a shape all, in their order.
fn targets(dice: &mut Dice, fault: Fault, nodes: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..nodes).collect();
    let count = match (fault, dice.below(4)) {
        (Fault::KillAll | Fault::Ring | Fault::Bridge, _) | (Fault::Power, 0 | 1) => nodes,
        (Fault::Minority, _) => (nodes - 1) / 2,
        (Fault::Slots | Fault::Upgrade | Fault::Transfer, _) => 0,
        // A majority of wrong clocks is right, and one of full disks has no room for anything.
        (Fault::Clock | Fault::Strobe | Fault::Drift | Fault::Io | Fault::Full | Fault::Refuse, _) => 1,
        (Fault::Members | Fault::Damage | Fault::Away, _) => 1,
        (_, 0) => nodes / 2 + 1,
        _ => 1,
    };
    while all.len() > count {
        all.remove(dice.below(all.len() as i64) as usize);
    }
    if fault.is_shape() {
        // Who is whose neighbour.
        (1..all.len()).for_each(|at| all.swap(at, dice.below(at as i64 + 1) as usize));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_away_is_away_for_long_and_leaves_room_for_others() {
        let faults = [Fault::Kill, Fault::Away, Fault::Partition];
        for seed in 0..1000 {
            let steps = schedule(seed, &faults, 3, (15_000, ROUND_MS));
            assert!(faults.iter().all(|fault| steps.iter().any(|step| step.fault == *fault)), "{steps:?}");
            let away = steps.iter().find(|step| step.fault == Fault::Away).expect("it comes");
            assert!(away.nodes.len() == 1 && away.until - away.from >= 5000, "{away:?}");
            assert!(steps.iter().all(|step| step.until < 15_000));
            let beside = |step: &&Step| step.fault != Fault::Away && step.from < away.until && away.from < step.until;
            assert_eq!(steps.iter().find(beside), None);
        }
    }

    #[test]
    fn a_schedule_keeps_its_rules() {
        let faults = [Fault::Kill, Fault::KillAll, Fault::Pause, Fault::Clock];
        for seed in 0..1000 {
            let time = if seed % 2 == 0 { 20_000 } else { 6_000 };
            let steps = schedule(seed, &faults, 3, (time, ROUND_MS));
            assert_eq!(steps, schedule(seed, &faults, 3, (time, ROUND_MS)));
            assert!(faults.iter().all(|fault| steps.iter().any(|step| step.fault == *fault)), "{steps:?}");
            for (at, step) in steps.iter().enumerate() {
                assert!(step.from < step.until && step.until < time && !step.nodes.is_empty(), "{step:?}");
                for other in steps[at + 1..].iter().filter(|other| other.from <= step.until && step.from <= other.until)
                {
                    assert!(step.nodes.iter().all(|node| !other.nodes.contains(node)), "{step:?} and {other:?}");
                }
            }
        }
        assert!(schedule(1, &[], 3, (20_000, ROUND_MS)).is_empty());
        let with_works = schedule(1, &[Fault::Kill, Fault::Slots, Fault::Members], 3, (20_000, ROUND_MS));
        let met =
            |work: &Step, kill: &Step| kill.fault == Fault::Kill && kill.from < work.until && work.from < kill.until;
        for fault in [Fault::Slots, Fault::Members] {
            let mut works = with_works.iter().filter(|step| step.fault == fault);
            assert!(works.any(|work| with_works.iter().any(|kill| met(work, kill))), "{with_works:?}");
        }
        assert!(schedule(1, &faults, 3, (2000, ROUND_MS)).is_empty(), "there is no room");
        let shapes = schedule(1, &[Fault::Ring, Fault::Bridge, Fault::Minority], 5, (600_000, ROUND_MS));
        let count = |fault: Fault| if fault == Fault::Minority { 2 } else { 5 };
        assert!(shapes.iter().all(|step| step.nodes.len() == count(step.fault)), "{shapes:?}");
        let read: Vec<Step> = serde_json::from_str(&serde_json::to_string(&shapes).unwrap()).unwrap();
        assert_eq!(read, shapes, "a replay has the same");
        let rings = shapes.iter().filter(|step| step.fault == Fault::Ring);
        assert!(rings.map(|step| &step.nodes).any(|nodes| !nodes.is_sorted()), "in more than one order");
    }
}
