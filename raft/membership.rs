//! A group's membership follows the topology.
//!
//! The topology says which replicas a group should have. The group's own leader makes that true, one step at a time:
//! a replica that is missing is added as a learner; when all that should vote have caught up, one joint change makes
//! them the voters; who votes no longer is told so, and forgotten. Each step is decided from what Raft and the
//! topology say at that moment, so it does not matter who took the one before, or died in it. A leader that has no
//! place any more hands over first.
//!
//! When all of that is done, leadership goes to the replica that the topology prefers, once that has kept up for a
//! while.
//!
//! Invariants: only the leader changes its group, and only when the change before is committed; nobody votes who has
//! not caught up; a replica that reads as the only voter stops doing so before there may be another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::{ChangeMembers, RaftMetrics, ServerState};
use openraft_rt::Instant as _;
use tokio::time::{Instant, timeout};

use crate::group::Group;
use crate::node::Node;
use crate::placement;
use crate::topology::{NodeState, Topology};
use crate::types::{GroupId, Member, NodeId, TypeConfig};

/// Between two looks while something is to be done, and while nothing is.
const PAUSE: Duration = Duration::from_millis(50);
const IDLE_PAUSE: Duration = Duration::from_millis(500);
/// How long a change may take before it is looked at anew.
const STEP_TIME_MAX: Duration = Duration::from_secs(5);
/// Entries that a replica may lack and still counts as caught up: under load there are always some on their way.
const LAG_MAX: u64 = 64;
/// A replica that answered the leader within this time is there.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// How long a preferred replica has kept up, under one leader, when it becomes the leader.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long a new leader may take to be seen.
const HAND_OVER_TIME_MAX: Duration = Duration::from_secs(2);

/// What a leader sees of its group.
#[derive(Debug, Default)]
pub(crate) struct View {
    own: u64,
    /// One set, or two while a change is half done.
    voters: Vec<BTreeSet<u64>>,
    members: BTreeSet<u64>,
    /// The nodes of the members.
    homes: BTreeMap<u64, u64>,
    /// The last change is committed.
    committed: bool,
    /// The index of the last change.
    changed_at: u64,
    last: u64,
    /// Up to where each replica is known to have the log.
    matched: BTreeMap<u64, u64>,
    /// Replicas that answer.
    present: BTreeSet<u64>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The second half of a change.
    Finish,
    /// A new replica gets the log.
    Learn(u64),
    /// These vote from now on; the others only listen.
    Vote(BTreeSet<u64>),
    /// These listen no longer.
    Forget(BTreeSet<u64>),
    /// Somebody with a place leads.
    HandOver(u64),
}

impl View {
    pub(crate) fn of(metrics: &RaftMetrics<TypeConfig>) -> Option<View> {
        let (replication, heartbeat) = (metrics.replication.as_ref()?, metrics.heartbeat.as_ref()?);
        if metrics.state != ServerState::Leader {
            return None;
        }
        let membership = metrics.membership_config.membership();
        let index = |id: &Option<crate::types::LogId>| id.map_or(0, |id| id.index);
        let answers = heartbeat.iter().filter(|(_, at)| at.as_ref().is_some_and(|at| at.elapsed() < SILENCE_MAX));
        Some(View {
            own: metrics.id,
            voters: membership.get_joint_config().clone(),
            members: membership.nodes().map(|(id, _)| *id).collect(),
            homes: membership.nodes().map(|(id, member)| (*id, member.node)).collect(),
            committed: metrics.membership_config.log_id() == metrics.committed_membership_config.log_id(),
            changed_at: index(metrics.membership_config.log_id()),
            last: metrics.last_log_index.unwrap_or(0),
            matched: replication.iter().map(|(id, at)| (*id, index(at))).collect(),
            present: answers.map(|(id, _)| *id).chain([metrics.id]).collect(),
        })
    }

    fn lag(&self, replica: u64) -> Option<u64> {
        let matched = if replica == self.own { self.last } else { *self.matched.get(&replica)? };
        Some(self.last.saturating_sub(matched))
    }

    /// Whether a replica is there and lacks next to nothing.
    fn keeps_up(&self, replica: u64) -> bool {
        self.present.contains(&replica) && self.lag(replica).is_some_and(|lag| lag <= LAG_MAX)
    }

    fn is_voter(&self, replica: u64) -> bool {
        self.voters.iter().all(|voters| voters.contains(&replica))
    }

    /// Those of the wanted replicas that can be there now. One whose node still holds another replica of the group
    /// waits until that has gone, and so nobody may wait for it.
    fn possible(&self, wanted: &BTreeMap<u64, Member>) -> BTreeSet<u64> {
        let held = |node: u64| self.homes.iter().any(|(id, home)| *home == node && !wanted.contains_key(id));
        let free = wanted.iter().filter(|(id, member)| self.is_voter(**id) || !held(member.node));
        let free: BTreeSet<u64> = free.map(|(id, _)| *id).collect();
        if free.is_empty() { wanted.keys().copied().collect() } else { free }
    }

    /// The next step towards these replicas; nothing when there is none, or none yet.
    pub(crate) fn step(&self, wanted: &BTreeSet<u64>) -> Option<Step> {
        let [voters] = self.voters.as_slice() else { return self.committed.then_some(Step::Finish) };
        if !self.committed || wanted.is_empty() {
            return None;
        }
        if let Some(missing) = wanted.difference(&self.members).next() {
            return Some(Step::Learn(*missing));
        }
        if voters != wanted {
            if !wanted.iter().all(|id| voters.contains(id) || self.keeps_up(*id)) {
                return None;
            }
            let mut target = wanted.clone();
            if !wanted.contains(&self.own) {
                let heir = wanted.iter().filter(|id| voters.contains(id) && self.keeps_up(**id));
                if let Some(heir) = heir.min_by_key(|id| (self.lag(**id), **id)) {
                    return Some(Step::HandOver(*heir));
                }
                target.insert(self.own);
            }
            return (target != *voters).then_some(Step::Vote(target));
        }
        // Whoever listens should hear that it votes no longer, unless it is gone.
        let told =
            |id: &u64| !self.present.contains(id) || self.matched.get(id).is_some_and(|at| *at >= self.changed_at);
        let forget: BTreeSet<u64> = self.members.difference(wanted).copied().filter(told).collect();
        (!forget.is_empty()).then_some(Step::Forget(forget))
    }

    /// Whether the group is what it should be.
    pub(crate) fn is_settled(&self, wanted: &BTreeSet<u64>) -> bool {
        self.committed && self.voters.as_slice() == [wanted.clone()] && self.members == *wanted
    }

    /// What is still to come, for people.
    pub(crate) fn awaited(&self, wanted: &BTreeMap<u64, Member>) -> Vec<String> {
        let mut awaited = Vec::new();
        for (id, member) in wanted {
            let node = NodeId(member.node);
            match self.lag(*id) {
                _ if self.is_voter(*id) => {}
                Some(lag) if self.present.contains(id) && lag > LAG_MAX => {
                    awaited.push(format!("replica {id} on {node} lacks {lag} entries"));
                }
                Some(_) if self.present.contains(id) => {
                    awaited.push(format!("replica {id} on {node} is about to vote"))
                }
                Some(_) => awaited.push(format!("{node} has to answer: it is to hold replica {id}")),
                None => awaited.push(format!("replica {id} on {node} is to be added")),
            }
        }
        let gone = self.members.iter().filter(|id| !wanted.contains_key(id));
        awaited.extend(gone.map(|id| format!("replica {id} is to go")));
        awaited
    }
}

/// Looks after the membership of one group of this node, whenever it leads.
pub(crate) async fn follow(node: Node, id: GroupId) {
    let mut epochs = node.inner().epoch.subscribe();
    let mut kept_up: Option<(u64, u64, Instant)> = None;
    while let Some(group) = node.group(id) {
        let view = if group.leads() { View::of(&group.metrics()) } else { None };
        let Some(view) = view else {
            kept_up = None;
            let _ = timeout(IDLE_PAUSE, epochs.changed()).await;
            continue;
        };
        let routes = node.routes();
        let wanted = routes.topology.members(id);
        let ids = wanted.keys().copied().collect();
        if let Some(step) = view.step(&view.possible(&wanted)) {
            tracing::info!(group = id.0, ?step, "the group follows the topology");
            if !take(&group, step, &wanted).await {
                tokio::time::sleep(PAUSE).await;
            }
            continue;
        }
        if view.is_settled(&ids) {
            group.replica.bar_sole(false);
            prefer(&group, &view, &routes.topology, &mut kept_up).await;
            let _ = timeout(IDLE_PAUSE, epochs.changed()).await;
        } else {
            let _ = timeout(PAUSE, epochs.changed()).await;
        }
    }
}

/// Takes a step; false when it did not come off.
async fn take(group: &Arc<Group>, step: Step, wanted: &BTreeMap<u64, Member>) -> bool {
    let raft = &group.raft;
    // Nobody reads as the only voter from before the entry that may change that.
    group.replica.bar_sole(true);
    let change = async {
        match step {
            Step::Finish => raft.change_membership(ChangeMembers::AddVoterIds(BTreeSet::new()), true).await,
            Step::Learn(id) => raft.add_learner(id, wanted[&id].clone(), false).await,
            Step::Vote(voters) => raft.change_membership(ChangeMembers::ReplaceAllVoters(voters), true).await,
            Step::Forget(ids) => raft.change_membership(ChangeMembers::RemoveNodes(ids), true).await,
            Step::HandOver(to) => return group.hand_over_to(to, HAND_OVER_TIME_MAX).await,
        }
        .inspect_err(
            |e| tracing::info!(group = group.replica.group.0, error = %e, "a change of members is tried again"),
        )
        .is_ok()
    };
    timeout(STEP_TIME_MAX, change).await.unwrap_or(false)
}

/// Hands leadership to the preferred replica when that has kept up for long enough, and at once when this node goes.
async fn prefer(group: &Group, view: &View, topology: &Topology, kept_up: &mut Option<(u64, u64, Instant)>) {
    let term = group.metrics().current_term;
    let id = group.replica.group;
    let preferred = placement::preferred(topology).get(&id).copied();
    let Some(to) = preferred.filter(|to| *to != view.own && view.is_voter(*to) && view.keeps_up(*to)) else {
        *kept_up = None;
        return;
    };
    let since = match kept_up {
        Some((replica, of, since)) if (*replica, *of) == (to, term) => *since,
        _ => Instant::now(),
    };
    *kept_up = Some((to, term, since));
    let own = topology.groups.get(&id).and_then(|record| topology.nodes.get(record.replicas.get(&view.own)?));
    let goes = own.is_none_or(|record| record.state != NodeState::Serving);
    if goes || since.elapsed() >= PATIENCE {
        *kept_up = None;
        group.hand_over_to(to, HAND_OVER_TIME_MAX).await;
    }
}

impl Group {
    /// Hands leadership to the voter that is furthest of those that answer, and waits until it leads.
    pub async fn hand_over(&self, patience: Duration) {
        let Some(view) = View::of(&self.metrics()) else { return };
        let others = view.voters.iter().flatten().filter(|id| **id != view.own && view.present.contains(id));
        let heir = others.filter(|id| view.is_voter(**id)).min_by_key(|id| (view.lag(**id).unwrap_or(u64::MAX), **id));
        if let Some(heir) = heir {
            self.hand_over_to(*heir, patience).await;
        }
    }

    /// Hands leadership to a voter, and waits until it leads; false when it does not in time.
    pub(crate) async fn hand_over_to(&self, to: u64, patience: Duration) -> bool {
        let group = self.replica.group.0;
        if self.raft.trigger().transfer_leader(to).await.is_err() {
            return false;
        }
        let wait = self.raft.wait(Some(patience));
        let led = wait.metrics(|m| m.current_leader.is_some_and(|l| l != m.id), "another leader").await.is_ok();
        match led {
            true => tracing::info!(group, to, "leadership handed over"),
            false => tracing::warn!(group, to, "leadership could not be handed over in time"),
        }
        led
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[u64]) -> BTreeSet<u64> {
        ids.iter().copied().collect()
    }

    /// A settled group of these voters, all of which have everything.
    fn group(own: u64, voters: &[u64]) -> View {
        View {
            own,
            voters: vec![set(voters)],
            members: set(voters),
            homes: voters.iter().map(|id| (*id, *id)).collect(),
            committed: true,
            changed_at: 1,
            last: 100,
            matched: voters.iter().map(|id| (*id, 100)).collect(),
            present: set(voters),
        }
    }

    #[test]
    fn one_becomes_three_when_both_have_caught_up() {
        let (mut view, wanted) = (group(1, &[1]), set(&[1, 2, 3]));
        assert_eq!(group(1, &[1]).step(&set(&[1])), None);
        assert_eq!(view.step(&wanted), Some(Step::Learn(2)));
        view.members.insert(2);
        view.committed = false;
        assert_eq!(view.step(&wanted), None, "one change at a time");
        view.committed = true;
        assert_eq!(view.step(&wanted), Some(Step::Learn(3)));
        view.members.insert(3);
        (view.matched, view.present) = ([(2, 100), (3, 10)].into(), set(&[1, 2, 3]));
        assert_eq!(view.step(&wanted), None, "replica 3 lacks 90 entries");
        assert!(view.awaited(&wanted.iter().map(|id| (*id, Member::default())).collect()).len() == 2);
        view.matched.insert(3, 90);
        assert_eq!(view.step(&wanted), Some(Step::Vote(set(&[1, 2, 3]))));
        view.voters.push(wanted.clone());
        assert_eq!(view.step(&wanted), Some(Step::Finish), "whoever began it");
        view.voters.remove(0);
        assert_eq!((view.step(&wanted), view.is_settled(&wanted)), (None, true));
    }

    #[test]
    fn who_comes_back_to_a_node_waits_until_its_former_replica_has_gone() {
        // Replica 1 was to go from node 1 to node 2 when the group was to have three, one of them on node 1 again.
        let mut view = group(1, &[1, 2]);
        let member = |id: u64, node| (id, Member { node, addr: String::new() });
        let wanted = BTreeMap::from([member(2, 2), member(3, 3), member(4, 1)]);
        assert_eq!(view.possible(&wanted), set(&[2, 3]));
        view.members = set(&[2]);
        view.homes.remove(&1);
        assert_eq!(view.possible(&wanted), set(&[2, 3, 4]));
        assert_eq!(group(1, &[1]).possible(&BTreeMap::from([member(4, 1)])), set(&[4]), "there is nobody else");
    }

    #[test]
    fn a_dead_one_is_exchanged_and_not_waited_for() {
        let (mut view, wanted) = (group(1, &[1, 2, 3]), set(&[1, 2, 4]));
        view.members.insert(4);
        (view.matched, view.present) = ([(2, 100), (3, 7), (4, 99)].into(), set(&[1, 2, 4]));
        assert_eq!(view.step(&wanted), Some(Step::Vote(wanted.clone())));
        (view.voters, view.changed_at) = (vec![wanted.clone()], 101);
        assert_eq!(view.step(&wanted), Some(Step::Forget(set(&[3]))));
        view.present.insert(3);
        assert_eq!(view.step(&wanted), None, "it answers: it should hear of it");
        view.matched.insert(3, 101);
        assert_eq!(view.step(&wanted), Some(Step::Forget(set(&[3]))));
    }

    #[test]
    fn a_leader_without_a_place_hands_over_first() {
        let wanted = set(&[2, 3, 4]);
        let mut view = group(1, &[1, 2, 3]);
        view.members.insert(4);
        view.matched.insert(4, 100);
        view.present.insert(4);
        view.matched.insert(2, 99);
        assert_eq!(view.step(&wanted), Some(Step::HandOver(3)));
        // The only voter has to have an heir first.
        let mut view = group(1, &[1]);
        view.members.insert(2);
        view.matched.insert(2, 100);
        view.present.insert(2);
        assert_eq!(view.step(&set(&[2])), Some(Step::Vote(set(&[1, 2]))));
        view.voters = vec![set(&[1, 2])];
        assert_eq!(view.step(&set(&[2])), Some(Step::HandOver(2)));
        view.own = 2;
        view.matched = [(1, 100)].into();
        assert_eq!(view.step(&set(&[2])), Some(Step::Vote(set(&[2]))));
    }
}
