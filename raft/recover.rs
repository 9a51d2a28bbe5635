//! A cluster goes on without nodes that are lost for good, although groups had their majority on them:
//! `quoris admin group recover`, on the stopped node that it goes on from.
//!
//! A group that has lost its majority goes on with this node's replica alone, under a new id that nobody votes for:
//! a membership of that one replica is appended to its log, in a later term. The meta group always does, because the
//! new topology is decided here and not by it: it is appended to its log as well. The lost nodes are to be replaced,
//! and whoever meets one of them from now on takes its folder for an older copy, whatever it has done meanwhile.
//!
//! Invariants: nothing that the log of this node holds is given up; the identity is written last, so that what broke
//! off is begun anew; epochs and ids are salted, so two folders of one cluster that were both recovered never agree.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::mpsc;

use bytes::Bytes;
use quoris_engine::codec;
use quoris_engine::entry::{CommandMeta, EntryBuilder};
use quoris_resp::{Argv, Reply};

use crate::deliver::run_read;
use crate::follow::operation;
use crate::founding::{self, Identity};
use crate::holding;
use crate::lives::Lives;
use crate::offline::{Folder, GroupLog};
use crate::record::{self, LogIdRecord, VoteRecord};
use crate::runtime::random_u64;
use crate::seam::DiskOp;
use crate::topology::{KEY, NodeState, Topology, format};
use crate::types::{Body, Entry, GroupId, META, Member, Membership, NodeId, Payload};

/// A majority that lives on somewhere cannot have changed the topology so often.
const EPOCHS: u64 = 1 << 32;

/// What is to be done to a folder.
pub struct Recovery {
    /// The groups that go on with this node's replica alone, and where their logs end.
    pub groups: Vec<Survivor>,
    /// The nodes that are given up, and where they were.
    pub lost: BTreeMap<NodeId, String>,
    topology: Topology,
    /// The meta group's clock.
    clock_ms: u64,
}

/// A group of which one replica is left.
pub struct Survivor {
    /// The group.
    pub group: GroupId,
    /// How many replicas it had.
    pub replicas: usize,
    /// The last entry in this folder.
    pub last: u64,
    /// The last one that this node knew to be committed.
    pub committed: u64,
}

fn refused<T>(text: String) -> io::Result<T> {
    Err(io::Error::other(text))
}

/// The topology without the lost nodes, and the groups that go on alone.
fn plan(
    topology: &Topology,
    own: NodeId,
    lost: &BTreeSet<NodeId>,
    salt: u32,
) -> Result<(Topology, Vec<GroupId>), String> {
    let named = |nodes: Vec<NodeId>| nodes.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(", ");
    if let Some(stranger) = lost.iter().find(|id| !topology.nodes.contains_key(id)) {
        return Err(format!("there is no {stranger}; there are {}", named(topology.nodes.keys().copied().collect())));
    }
    if lost.contains(&own) {
        return Err(format!("{own} is the node that this folder belongs to"));
    }
    let left = |group: &GroupId| {
        let holders = topology.groups[group].replicas.values().copied();
        holders.filter(|node| !lost.contains(node)).collect::<Vec<NodeId>>()
    };
    let of = |group: &GroupId| topology.groups[group].replicas.len();
    let mut alone: Vec<GroupId> = topology.groups.keys().copied().collect();
    alone.retain(|group| left(group).len() * 2 <= of(group));
    if alone.is_empty() {
        return Err(
            "every group has a majority without these nodes: quoris admin node replace gives their replicas to \
                    others, without a loss"
                .into(),
        );
    }
    if !alone.contains(&META) {
        alone.insert(0, META);
    }
    if let Some(gone) = alone.iter().find(|group| left(group).is_empty()) {
        return Err(format!("nothing is left of {gone}: restore a backup (quoris admin restore)"));
    }
    if let Some(elsewhere) = alone.iter().find(|group| !left(group).contains(&own)) {
        return Err(format!(
            "{elsewhere} has no replica in this folder, only on other nodes ({}): choose the folder of a node that holds \
             every group without a majority, or restore a backup (quoris admin restore)",
            named(left(elsewhere))
        ));
    }
    let others: Vec<NodeId> = left(&META).into_iter().filter(|id| *id != own).collect();
    if others.len() * 2 > of(&META) {
        return Err(format!(
            "the meta group would go on without this node, on the others ({}): name so many of them as lost that it \
             has no majority, and let those join again with empty folders",
            named(others)
        ));
    }
    let mut topology = topology.clone();
    topology.epoch += EPOCHS + u64::from(salt);
    topology.next_replica += u64::from(salt);
    for group in &alone {
        let replica = topology.next_replica;
        topology.next_replica += 1;
        let record = topology.groups.get_mut(group).expect("one of its groups");
        record.replicas = BTreeMap::from([(replica, own)]);
    }
    for id in lost {
        topology.nodes.get_mut(id).expect("it was looked up").state = NodeState::Replaced;
    }
    Ok((topology, alone))
}

impl Folder {
    /// Finds out what has to be done so that the cluster goes on from this folder without some nodes. Nothing is
    /// changed.
    ///
    /// # Errors
    /// When that cannot be, or need not; the text says why.
    pub fn plan_recovery(&self, lost: &BTreeSet<NodeId>) -> io::Result<Recovery> {
        if self.identity.founding {
            return refused("the cluster of this folder was never founded to the end".into());
        }
        let own = self.identity.node;
        if self.identity.topology.replica_on(META, own).is_none() {
            return refused("this node holds no replica of the meta group: choose the folder of one that does".into());
        }
        let (newest, clock_ms) = self.newest_topology()?;
        let (topology, alone) = plan(&newest, own, lost, random_u64() as u32).map_err(io::Error::other)?;
        let lost = lost.iter().map(|id| (*id, newest.nodes[id].peer_addr.clone())).collect();
        let survivor = |group: GroupId| {
            let log = self.log(group)?;
            let (last, covered) = (log.last(), log.covered());
            if last.is_none_or(|last| last < covered) {
                return refused(format!("{group} ends in a snapshot: start this node once, stop it, and try again"));
            }
            let replicas = newest.groups[&group].replicas.len();
            Ok(Survivor { group, replicas, last: last.unwrap_or(0), committed: log.committed })
        };
        let groups = alone.into_iter().map(survivor).collect::<io::Result<_>>()?;
        Ok(Recovery { groups, lost, topology, clock_ms })
    }

    /// The topology behind the last entry of the meta group's log here, and that group's clock there.
    fn newest_topology(&self) -> io::Result<(Topology, u64)> {
        let log: GroupLog = self.log(META)?;
        let engine = log.replay(&log.plan(None, Some(u64::MAX))?, &mut |_, _, _| Ok(()))?;
        let known = &self.identity.topology;
        let stored = match run_read(&engine, &operation(&[b"GET", KEY]), 0) {
            Reply::Bulk(value) => Some(format::decode(&value)?),
            _ => None,
        };
        let newest = stored.filter(|stored| stored.epoch > known.epoch).unwrap_or_else(|| known.clone());
        Ok((newest, engine.clock_ms()))
    }

    /// Does it. What breaks off is begun anew; nothing is changed of a folder of another plan.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn recover(&self, recovery: &Recovery) -> io::Result<()> {
        let (own, topology) = (self.identity.node, &recovery.topology);
        let mut held = BTreeMap::new();
        for group in recovery.groups.iter().map(|survivor| survivor.group) {
            let members = topology.members(group);
            held.extend(members.keys().map(|replica| (group, *replica)));
            let body = (group == META).then(|| {
                let set = Argv::from_parts(&[b"SET", KEY, &format::encode(topology)]);
                let mut entry = EntryBuilder::default();
                entry.push(&CommandMeta::default(), &set);
                entry.finish(recovery.clock_ms, random_u64())
            });
            self.go_on_alone(group, members, body)?;
        }
        Lives::load(self.disk.clone())?.give_up(recovery.lost.keys().copied())?;
        holding::renumber(&*self.disk, &self.identity.topology, own, &held)?;
        founding::store(&*self.disk, &Identity { topology: topology.clone(), ..self.identity.clone() })
    }

    /// Appends a membership to a group's log, and an entry behind it.
    fn go_on_alone(&self, group: GroupId, members: BTreeMap<u64, Member>, body: Option<Bytes>) -> io::Result<()> {
        let records = self.disk.load(group)?;
        let (index, bytes) = records.last.ok_or_else(|| io::Error::other(format!("the log of {group} is empty")))?;
        let last = LogIdRecord::from(record::decode_entry(index, &bytes)?.log_id);
        let vote = records.vote.map(|bytes| codec::read::<VoteRecord>(&bytes, "vote")).transpose();
        let voted = vote.map_err(io::Error::other)?.map_or(0, |(vote, _)| vote.leader().0);
        let leader = *members.keys().next().expect("one replica goes on");
        let term = last.term.max(voted) + 1;
        let voters = vec![members.keys().copied().collect()];
        let membership = Membership::new(voters, members).map_err(io::Error::other)?;
        let payloads = [Some(Payload::Membership(membership)), body.map(|body| Payload::Normal(Body(body)))];
        let entries = payloads.into_iter().flatten().zip(index + 1..).map(|(payload, index)| {
            let entry = Entry { log_id: LogIdRecord { term, leader, index }.into(), payload };
            let (head, payload) = record::encode_entry(&entry);
            (index, head, payload)
        });
        let (done, written) = mpsc::channel();
        self.disk.submit(group, DiskOp::Vote(codec::bytes(&VoteRecord::of(term, leader))), None);
        let append = DiskOp::Append(entries.collect());
        self.disk.submit(group, append, Some(Box::new(move |result| drop(done.send(result)))));
        written.recv().map_err(|_| io::Error::other("the log writer is gone"))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Founding, NodeRecord};

    fn founded(nodes: usize, groups: u32) -> Topology {
        let nodes = (0..nodes).map(|n| NodeRecord::new(format!("p{n}"), String::new(), String::new())).collect();
        Topology::found(Founding { cluster: 1, nodes, groups, replication_factor: 3, databases: 1 }, || 7)
    }

    fn planned(topology: &Topology, own: u64, lost: &[u64]) -> Result<(Topology, Vec<GroupId>), String> {
        plan(topology, NodeId(own), &lost.iter().map(|id| NodeId(*id)).collect(), 5)
    }

    #[test]
    fn groups_without_a_majority_go_on_alone_under_new_ids() {
        let before = founded(3, 2);
        let (after, alone) = planned(&before, 1, &[2, 3]).expect("a plan");
        assert_eq!(alone, [META, GroupId(1), GroupId(2)]);
        assert!(after.epoch > before.epoch + (1 << 32));
        for group in alone {
            let replicas = &after.groups[&group].replicas;
            assert_eq!(replicas.values().collect::<Vec<_>>(), [&NodeId(1)]);
            assert!(replicas.keys().all(|id| *id >= before.next_replica && *id < after.next_replica));
        }
        assert_eq!(after.nodes[&NodeId(3)].state, NodeState::Replaced);
        assert_eq!(after.nodes[&NodeId(1)].state, NodeState::Serving);
    }

    #[test]
    fn a_group_that_has_a_majority_is_left_alone() {
        // Five nodes: group 1 on 1, 2, 3; group 2 on 2, 3, 4; group 3 on 3, 4, 5; the meta group on all.
        let before = founded(5, 3);
        let (after, alone) = planned(&before, 3, &[4, 5, 1]).expect("a plan");
        assert_eq!(alone, [META, GroupId(3)]);
        assert_eq!(after.groups[&GroupId(1)], before.groups[&GroupId(1)]);
        let (_, alone) = planned(&before, 3, &[4, 5]).expect("the meta group goes along");
        assert_eq!(alone, [META, GroupId(3)]);
    }

    #[test]
    fn what_cannot_be_recovered_is_refused_with_what_to_do() {
        let text = |topology: &Topology, own, lost: &[u64]| planned(topology, own, lost).expect_err("refused");
        let three = founded(3, 1);
        assert!(text(&three, 1, &[2]).contains("quoris admin node replace"));
        assert!(text(&three, 1, &[1, 2]).contains("this folder belongs to"));
        assert!(text(&three, 1, &[2, 9]).contains("there is no node 9"));
        let five = founded(5, 3);
        assert!(text(&five, 1, &[3, 4, 5]).contains("nothing is left of group 3"));
        assert!(text(&five, 1, &[3, 4]).contains("has no replica in this folder, only on other nodes (2)"));
        // Group 5 is on 5, 6 and 7, the meta group on 1 to 5.
        assert!(text(&founded(7, 5), 5, &[6, 7]).contains("the meta group would go on without this node"));
    }
}
