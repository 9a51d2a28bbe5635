//! The leader's care for its group's clock: where it begins, when it ticks, when it stands still.
//!
//! A leader stamps no entry before everything in front of its term is applied here, so the clock never
//! decreases along the log, and not before it knows the clock:
//! * It has heard a leader since its process started: it goes on from there.
//! * Else it asks the other voters. One that has heard a leader knows.
//! * When nobody knows, all processes are new: the clock is the median of the wall clocks of a majority,
//!   of all if they answer soon, of two middle ones the earlier; and never below the committed clock. A
//!   majority that disagrees waits longer for the others: of two clocks nobody knows which one is right.
//!
//! A step of more than `clock-step-max` from the committed clock would let everything expire that the time
//! between should have seen, or a wrong clock would. Then the group's clock stands still, so nothing
//! expires, until the wall clocks say something else or an operator confirms the step.
//!
//! Invariants: nothing is stamped with a guess; a clock that nobody confirmed takes no large step; the
//! committed clock of a running group is at most [`COMMIT_EVERY`] old, so only time that it did not run
//! counts as a step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;

use crate::clock::Told;
use crate::group::Group;
use crate::link::{Lane, Links};
use crate::node::Node;
use crate::propose::{Leader, Outcome, Proposer};
use crate::replica::Replica;
use crate::types::{GroupId, NodeId, Raft};
use crate::wire::{self, Kind, Target};

/// How often a leader looks at its clock and deadlines when none is nearer.
const TICK: Duration = Duration::from_millis(100);
/// A clock that was not committed for so long is, by a tick.
const COMMIT_EVERY: Duration = Duration::from_secs(3600);
/// How long a voter may take to say its time.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);
/// So long all voters are waited for; then a majority is enough whose clocks agree.
const ALL_TIME_MAX: Duration = Duration::from_secs(1);
/// So long a majority whose clocks disagree waits for the others.
const DISAGREED_TIME_MAX: Duration = Duration::from_secs(10);
/// Wall clocks agree that are apart by less, in milliseconds.
const APART_MAX_MS: u64 = 1000;
/// An answer that took longer says little of what time it is, and counts when there is no better one to be had.
const PROMPT_MAX: Duration = Duration::from_millis(100);
/// Between two attempts to ask, and looks at what is applied.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a clock that is held is looked at again.
const HELD_PAUSE: Duration = Duration::from_secs(1);

/// One replica's timekeeper.
pub(crate) struct Timekeeper {
    raft: Raft,
    replica: Arc<Replica>,
    links: Arc<Links>,
    step_max: Duration,
    confirmed: AtomicBool,
    /// The last leadership whose clock was settled.
    settled: Mutex<Leader>,
    /// Held while the clock is being found.
    finding: tokio::sync::Mutex<()>,
}

/// What a replica says: its node's wall clock, and what it tells of the group's.
pub(crate) type Times = (u64, Told);

/// The voters of a group and their nodes.
pub(crate) fn voters(raft: &Raft) -> BTreeMap<u64, NodeId> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let membership = metrics.membership_config.membership();
    membership.voter_ids().filter_map(|id| Some((id, NodeId(membership.get_node(&id)?.node)))).collect()
}

/// The middle one, of two the earlier; nothing while it is better to wait for the clocks of more voters.
fn median(mut walls: Vec<u64>, voters: usize, waited: Duration) -> Option<u64> {
    walls.sort_unstable();
    let agreed = walls.last()?.saturating_sub(*walls.first()?) <= APART_MAX_MS;
    let time_max = if agreed { ALL_TIME_MAX } else { DISAGREED_TIME_MAX };
    let is_enough = walls.len() == voters || (walls.len() * 2 > voters && waited >= time_max);
    is_enough.then(|| walls[(walls.len() - 1) / 2])
}

/// Asks a replica for its times.
async fn ask(links: &Links, node: NodeId, target: Target) -> Option<Times> {
    let question = vec![wire::part(&target)];
    let ask = async { links.connection(node, Lane::Control).await?.call(Kind::Clock, question).await };
    let answer = tokio::time::timeout(ANSWER_TIME_MAX, ask).await.ok()?.ok()?;
    wire::message(&answer).ok()
}

impl Timekeeper {
    /// Steps above `step_max` must be confirmed.
    pub fn new(raft: Raft, replica: Arc<Replica>, links: Arc<Links>, step_max: Duration) -> Timekeeper {
        let (confirmed, settled, finding) = Default::default();
        Timekeeper { raft, replica, links, step_max, confirmed, settled, finding }
    }

    /// The group's clock, for stamping once it is settled.
    pub fn clock_ms(&self) -> u64 {
        self.replica.clock.now_ms()
    }

    /// Returns when entries of this leader may be stamped; false when it leads no longer.
    pub async fn settle(&self, leader: Leader) -> bool {
        if *self.settled.lock() == leader {
            return true;
        }
        let _one = self.finding.lock().await;
        self.replica.clock.lead(leader);
        let mut applied = self.replica.applied_watch.subscribe();
        let mut waited = Duration::ZERO;
        loop {
            if self.raft.as_leader().map(|l| l.to_committed_leader_id()).map(|id| (id.term, id.node_id)) != Ok(leader) {
                return false;
            }
            let last = self.replica.position.lock().0;
            let caught_up = last.is_some_and(|id| (id.leader_id.term, id.leader_id.node_id) >= leader);
            if !caught_up {
                let _ = tokio::time::timeout(PAUSE, applied.changed()).await;
                continue;
            }
            let asked = self.replica.seams.clock.monotonic();
            if self.replica.clock.known_ms().is_some() || self.find(waited).await {
                *self.settled.lock() = leader;
                return true;
            }
            tokio::time::sleep(PAUSE).await;
            waited += self.replica.seams.clock.monotonic().saturating_sub(asked);
        }
    }

    /// Asks the voters for the clock; false when too few have answered for one that has waited so long.
    async fn find(&self, waited: Duration) -> bool {
        let voters = voters(&self.raft);
        let clock = &self.replica.seams.clock;
        let others = voters.iter().filter(|(id, _)| **id != self.replica.id);
        let asked = others.map(|(&replica, &node)| async move {
            let (target, began) = (Target { group: self.replica.group, replica }, clock.monotonic());
            let times = ask(&self.links, node, target).await?;
            let at = clock.monotonic();
            Some((times, at, at.saturating_sub(began)))
        });
        let answers: Vec<(Times, Duration, Duration)> = join_all(asked).await.into_iter().flatten().collect();
        let now = clock.monotonic();
        let present = |value: u64, at: Duration| value.saturating_add(now.saturating_sub(at).as_millis() as u64);
        if let Some(known) = answers.iter().filter_map(|((_, told), at, _)| Some(present(told.known()?, *at))).max() {
            self.replica.clock.start_at(known.max(self.committed()));
            return true;
        }
        // Half of the round trip is the way back, more or less.
        let prompt = answers.iter().filter(|(.., took)| *took <= PROMPT_MAX || waited >= DISAGREED_TIME_MAX);
        let walls = prompt.map(|((wall, _), at, took)| present(*wall, at.saturating_sub(*took / 2)));
        let walls = walls.chain([clock.wall_ms()]);
        let Some(wall_ms) = median(walls.collect(), voters.len(), waited) else { return false };
        self.step_to(wall_ms);
        true
    }

    fn committed(&self) -> u64 {
        self.replica.engine.read().clock_ms()
    }

    /// Nobody has heard a leader, and this is what the wall clocks say.
    fn step_to(&self, wall_ms: u64) {
        let (clock, committed, group) = (&self.replica.clock, self.committed(), self.replica.group);
        let step = Duration::from_millis(wall_ms.saturating_sub(committed));
        if committed == 0 || step <= self.step_max || self.confirmed.load(Ordering::SeqCst) {
            clock.start_at(wall_ms.max(committed));
            tracing::info!(group = group.0, committed, wall_ms, "the group's clock begins");
        } else {
            if !clock.is_held() {
                tracing::error!(
                    group = group.0,
                    "{group}: nothing expires, because the clocks of a majority are {step:?} ahead of the group's \
                     last entry, and clock-step-max is {:?}. If they are wrong, set them right; that is noticed \
                     within a second. If the cluster did not run for so long, run `quoris admin clock confirm`: \
                     then everything expires whose time has come, keys too that were given a time to live since.",
                    self.step_max
                );
            }
            clock.hold_at(committed);
        }
    }

    /// Ticks while this replica leads: when a deadline is due, when nobody has stamped an entry since the clock
    /// was found, or for long.
    pub async fn run(self: Arc<Self>, proposer: Proposer) {
        let (replica, clock) = (&self.replica, &self.replica.clock);
        let mut held_since = replica.seams.clock.monotonic();
        loop {
            let next = replica.engine.read().keyspace().next_deadline();
            let wait = next.map_or(TICK, |at| Duration::from_millis(at.saturating_sub(clock.now_ms())).min(TICK));
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            if self.raft.as_leader().is_err() {
                if wait.is_zero() {
                    tokio::time::sleep(TICK).await;
                }
                continue;
            }
            let now = replica.seams.clock.monotonic();
            if clock.is_held() && now.saturating_sub(held_since) >= HELD_PAUSE {
                held_since = now;
                self.look_again().await;
            }
            clock.steer();
            if self.needs_tick() && !matches!(proposer.submit(Vec::new(), None, false).await, Outcome::Applied(..)) {
                tokio::time::sleep(TICK).await;
            }
        }
    }

    fn needs_tick(&self) -> bool {
        let (clock, engine) = (&self.replica.clock, self.replica.engine.read());
        let due = engine.keyspace().next_deadline().is_some_and(|at| at <= clock.horizon_ms());
        let old = engine.clock_ms() + COMMIT_EVERY.as_millis() as u64 <= clock.now_ms();
        due || old || clock.is_guess()
    }

    async fn look_again(&self) {
        let _one = self.finding.lock().await;
        if self.replica.clock.is_held() {
            self.find(DISAGREED_TIME_MAX).await;
        }
    }
}

impl Group {
    /// An operator says that a step of the clock is right. True when this replica leads and the clock was held,
    /// and the step is in the log.
    async fn confirm_clock(&self) -> bool {
        let keeper = &self.timekeeper;
        if !self.leads() || !self.replica.clock.is_held() {
            return false;
        }
        keeper.confirmed.store(true, Ordering::SeqCst);
        keeper.look_again().await;
        let stepped = !self.replica.clock.is_held();
        stepped && matches!(self.propose(Vec::new(), None, false).await, Outcome::Applied(..))
    }

    /// What this replica's node says about the time.
    pub(crate) fn times(&self) -> Times {
        (self.replica.seams.clock.wall_ms(), self.replica.clock.told())
    }
}

impl Node {
    /// A group's clock as its leader has it, to stamp a command with that goes there; nothing while that is not
    /// known. The wall clock of this node may be wrong by hours.
    pub(crate) async fn settled_clock_ms(&self, group: GroupId, leader: NodeId) -> Option<u64> {
        if let Some(local) = self.group(group) {
            // Its leader tells it with the next heartbeat.
            return (!local.replica.clock.is_guess()).then(|| local.replica.clock.now_ms());
        }
        if !self.has_heard_of(group) {
            let replica = self.routes().topology.replica_on(group, leader)?;
            let (_, told) = ask(self.links(), leader, Target { group, replica }).await?;
            self.learn(group, leader, told.stands_at()?);
        }
        Some(self.clock_ms(group))
    }

    /// Confirms the step of every clock that is held and whose group is led here; how many there were.
    pub async fn confirm_clocks(&self) -> usize {
        let groups: Vec<Arc<Group>> = self.inner().groups.load().values().cloned().collect();
        let confirmed = join_all(groups.iter().map(|group| group.confirm_clock())).await;
        confirmed.into_iter().filter(|done| *done).count()
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL_TIME_MAX, DISAGREED_TIME_MAX, Duration, median};

    #[test]
    fn one_wrong_clock_of_three_does_not_count_and_of_two_the_earlier_does() {
        let of_all = |walls: Vec<u64>| median(walls.clone(), walls.len(), Duration::ZERO);
        assert_eq!(of_all(vec![3_600_000, 10, 11]), Some(11));
        assert_eq!(of_all(vec![0, 3_600_010, 3_600_011]), Some(3_600_010));
        assert_eq!(of_all(vec![3_600_010, 10]), Some(10));
        assert_eq!(of_all(vec![7]), Some(7));
    }

    #[test]
    fn a_majority_waits_for_the_others_and_longer_when_it_disagrees() {
        let just_before = |time: Duration| time - Duration::from_millis(1);
        let (agreed, disagreed) = (vec![10, 1010], vec![10, 1011]);
        assert_eq!(median(agreed.clone(), 3, just_before(ALL_TIME_MAX)), None);
        assert_eq!(median(agreed.clone(), 3, ALL_TIME_MAX), Some(10));
        assert_eq!(median(disagreed.clone(), 3, just_before(DISAGREED_TIME_MAX)), None);
        assert_eq!(median(disagreed, 3, DISAGREED_TIME_MAX), Some(10));
        assert_eq!(median(agreed, 4, DISAGREED_TIME_MAX), None);
    }
}
