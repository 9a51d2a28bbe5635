//! Questions of nodes about nodes: who joins, what the newest topology is, who are the members of a group. And what an
//! operator asks for: nodes that drain, leave or are replaced.
//!
//! Invariant: an operator's wish is only a new value of the topology, checked when it is decided; the rest follows
//! from it, whoever dies.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::founding::Identity;
use crate::join::Join;
use crate::link::Lane;
use crate::membership::View;
use crate::node::Node;
use crate::placement;
use crate::slots;
use crate::topology::{NodeState, Topology};
use crate::types::{GroupId, NodeId};
use crate::wire::{self, Kind};

/// How long a node may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// What a node asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Question {
    /// May this node join?
    Join(Join),
    /// What is the topology, if it is newer?
    Topology {
        /// The epoch that the asking node knows.
        known: u64,
    },
    /// Who are the members of this group? Its leader answers.
    Standing(GroupId),
}

/// What it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It belongs to the cluster now, and this is who it is.
    Joined(Box<Identity>),
    /// It does not, and this is what to do.
    Refused(String),
    /// The newer topology.
    Topology(Option<Topology>),
    /// The members.
    Standing(Standing),
}

/// Where the leader of a group stands with its members.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// Everybody who votes or listens, by the last change or the one before if that is not committed.
    pub members: BTreeSet<u64>,
    /// The group is what the topology says.
    pub settled: bool,
    /// What is still to come.
    pub awaited: Vec<String>,
}

/// A node as an operator sees it.
#[derive(Clone, Debug)]
pub struct NodeSummary {
    /// Its id.
    pub id: NodeId,
    /// Where peers reach it.
    pub peer_addr: String,
    /// Where clients reach it.
    pub client_addr: String,
    /// Where it stands.
    pub zone: String,
    /// What is to become of it.
    pub state: NodeState,
    /// Whether it answers.
    pub answers: bool,
    /// Its replicas, the meta group's included.
    pub replicas: usize,
}

/// What an operator asks for cannot be had; the text says why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AdminError(pub String);

/// What an operator wants of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It gives its replicas away, and stays.
    Drain,
    /// It gives its replicas away, and goes.
    Remove,
    /// It is lost: others take its place.
    Replace,
    /// It takes replicas again.
    Serve,
}

/// Whether a stranger may ask this.
pub(crate) fn is_join(body: &[u8]) -> bool {
    matches!(wire::message(body), Ok(Question::Join(_)))
}

/// Asks a node.
///
/// # Errors
/// When it does not answer, or cannot.
pub(crate) async fn ask(node: &Node, peer: NodeId, question: &Question) -> io::Result<Answer> {
    let connection = node.links().connection(peer, Lane::Control).await?;
    wire::message(&connection.call(Kind::Cluster, vec![wire::part(question)]).await?)
}

/// What a group's leader says of its members, measured by this topology; nothing when it is not found.
pub(crate) async fn standing(node: &Node, topology: &Topology, group: GroupId) -> Option<Standing> {
    let record = topology.groups.get(&group)?;
    let mut holders: Vec<NodeId> = record.replicas.values().copied().collect();
    holders.extend(node.group(group).and_then(|local| local.leader()));
    let leader = node.known_leader(group);
    holders.sort_by_key(|holder| (Some(*holder) != leader, *holder));
    holders.dedup();
    for holder in holders {
        let answer = async {
            match holder == node.id() {
                true => node.own_standing(group).await,
                false => ask(node, holder, &Question::Standing(group)).await,
            }
        };
        if let Ok(Ok(Answer::Standing(mut standing))) = timeout(ANSWER_TIME_MAX, answer).await {
            // It may know another topology than this one.
            standing.settled &= standing.members.iter().eq(record.replicas.keys());
            if !standing.settled && standing.awaited.is_empty() {
                standing.awaited.push("its members are about to change".into());
            }
            return Some(standing);
        }
    }
    None
}

/// The nodes of these that answer.
pub(crate) async fn answering(node: &Node, nodes: impl Iterator<Item = NodeId>) -> BTreeSet<NodeId> {
    let asked = nodes.map(|id| async move {
        let there = id == node.id()
            || timeout(ANSWER_TIME_MAX, node.links().connection(id, Lane::Control)).await.is_ok_and(|c| c.is_ok());
        there.then_some(id)
    });
    join_all(asked).await.into_iter().flatten().collect()
}

impl Node {
    /// Answers a peer.
    ///
    /// # Errors
    /// When this node cannot, now.
    pub(crate) async fn on_question(&self, question: Question) -> io::Result<Answer> {
        // While it starts it belongs to a cluster, and does not know it yet.
        let routes = self.known_routes().ok_or_else(|| io::Error::other("no cluster yet"))?;
        match question {
            Question::Join(join) => crate::join::serve(self, join).await,
            Question::Topology { known } => {
                Ok(Answer::Topology((routes.topology.epoch > known).then(|| routes.topology.clone())))
            }
            Question::Standing(group) => self.own_standing(group).await,
        }
    }

    async fn own_standing(&self, id: GroupId) -> io::Result<Answer> {
        let not_led = || io::Error::other(format!("{id} is not led here"));
        let group = self.group(id).filter(|group| group.leads()).ok_or_else(not_led)?;
        // Only a leader that a majority confirms can say who is none of its members.
        group.confirm(&[]).await.map_err(|_| not_led())?;
        let metrics = group.metrics();
        let view = View::of(&metrics).ok_or_else(not_led)?;
        let wanted = self.routes().topology.members(id);
        let both = [&metrics.membership_config, &metrics.committed_membership_config];
        let members = both.into_iter().flat_map(|m| m.nodes().map(|(id, _)| *id)).collect();
        let settled = view.is_settled(&wanted.keys().copied().collect());
        Ok(Answer::Standing(Standing { members, settled, awaited: view.awaited(&wanted) }))
    }

    /// All nodes of the cluster.
    pub async fn node_summaries(&self) -> Vec<NodeSummary> {
        let topology = &self.asked_topology().await.unwrap_or_else(|| self.routes().topology.clone());
        let answers = answering(self, topology.nodes.keys().copied()).await;
        let summary = |(id, record): (&NodeId, &crate::topology::NodeRecord)| NodeSummary {
            id: *id,
            peer_addr: record.peer_addr.clone(),
            client_addr: record.client_addr.clone(),
            zone: record.zone.clone(),
            state: record.state,
            answers: answers.contains(id),
            replicas: topology.replicas_on(*id).count(),
        };
        topology.nodes.iter().map(summary).collect()
    }

    /// The topology as the meta group holds it now, which this node may not have heard of yet; nothing when the group
    /// does not answer.
    async fn asked_topology(&self) -> Option<Topology> {
        let session = self.session();
        let asked = timeout(ANSWER_TIME_MAX, slots::ask(&session)).await;
        asked.ok()?.ok()?.map(|(topology, _)| topology)
    }

    /// What the cluster still has to do until it is what it should be. Nothing means that every decision up to now is
    /// carried out: the meta leader has nothing to place, and each group's leader has made it what was decided.
    pub async fn awaited(&self) -> Vec<String> {
        let asked = self.asked_topology().await;
        let silent = asked.is_none().then(|| "the meta group has to answer".to_string());
        let topology = &asked.unwrap_or_else(|| self.routes().topology.clone());
        let mut awaited: Vec<String> = silent.into_iter().chain(placement::awaited(topology)).collect();
        let groups = topology.groups.keys().map(async |id| (*id, standing(self, topology, *id).await));
        for (id, standing) in join_all(groups).await {
            match standing {
                None => awaited.push(format!("{id} has to have a leader")),
                Some(standing) if standing.settled => {}
                Some(standing) => awaited.extend(standing.awaited.iter().map(|text| format!("{id}: {text}"))),
            }
        }
        awaited
    }

    /// Does what an operator wants of a node, as far as it is a decision; the rest follows.
    ///
    /// # Errors
    /// When it must not be, or cannot be decided now.
    pub async fn wish(&self, id: NodeId, wish: Wish) -> Result<(), AdminError> {
        let routes = self.routes();
        let answers = answering(self, routes.topology.nodes.keys().copied()).await;
        self.change_topology(|topology| {
            let state = allowed(topology, &answers, id, wish).map_err(AdminError)?;
            let record = topology.nodes.get_mut(&id).expect("it was just looked up");
            Ok(std::mem::replace(&mut record.state, state) != state)
        })
        .await
        .map(drop)
    }
}

/// The state that the node gets.
fn allowed(topology: &Topology, answers: &BTreeSet<NodeId>, id: NodeId, wish: Wish) -> Result<NodeState, String> {
    let Some(record) = topology.nodes.get(&id) else {
        let known: Vec<String> = topology.nodes.keys().map(|id| id.0.to_string()).collect();
        return Err(format!("there is no {id}; there are {}", known.join(", ")));
    };
    if wish == Wish::Serve {
        return match record.state {
            NodeState::Serving | NodeState::Draining => Ok(NodeState::Serving),
            state => Err(format!("{id} is {state}: that cannot be taken back")),
        };
    }
    if wish == Wish::Replace {
        return majorities(topology, answers, id, true).map(|()| NodeState::Replaced);
    }
    if record.state == NodeState::Replaced {
        return Err(format!("{id} is being replaced"));
    }
    let others = topology.nodes.iter().filter(|(other, _)| **other != id);
    if !others.clone().any(|(_, other)| other.state == NodeState::Serving) {
        return Err(format!("{id} is the last node that takes replicas: another one has to join first"));
    }
    if !answers.contains(&id) && topology.replicas_on(id).next().is_some() {
        return Err(format!("{id} does not answer. If it is lost: quoris admin node replace {}", id.0));
    }
    majorities(topology, answers, id, false)?;
    Ok(if wish == Wish::Drain { NodeState::Draining } else { NodeState::Leaving })
}

/// No group may lose the majority that decides about its members, or have none afterwards.
fn majorities(topology: &Topology, answers: &BTreeSet<NodeId>, id: NodeId, lost: bool) -> Result<(), String> {
    for (group, _) in topology.replicas_on(id) {
        let holders: BTreeMap<NodeId, bool> =
            topology.groups[&group].replicas.values().map(|node| (*node, answers.contains(node))).collect();
        let others = holders.iter().filter(|(node, _)| **node != id);
        let living = others.clone().filter(|(_, lives)| **lives).count();
        let silent: Vec<String> = others.filter(|(_, lives)| !**lives).map(|(node, _)| node.to_string()).collect();
        let decides = living + usize::from(!lost && answers.contains(&id));
        if decides * 2 <= holders.len() || (!silent.is_empty() && living * 2 < holders.len()) {
            let silent = if silent.is_empty() {
                "no other node holds it".to_string()
            } else {
                format!("silent: {}", silent.join(", "))
            };
            return Err(format!("{group} would be without a majority ({silent}): bring its nodes back first"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Founding, NodeRecord};

    fn founded(nodes: usize) -> Topology {
        let nodes = vec![NodeRecord::new(String::new(), String::new(), String::new()); nodes];
        Topology::found(Founding { cluster: 1, nodes, groups: 1, replication_factor: 3, databases: 1 }, || 7)
    }

    fn nodes(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().map(|id| NodeId(*id)).collect()
    }

    #[test]
    fn nothing_is_allowed_that_costs_a_majority() {
        let three = founded(3);
        let allowed = |wish, id, answers: &[u64]| allowed(&three, &nodes(answers), NodeId(id), wish);
        assert_eq!(allowed(Wish::Drain, 3, &[1, 2, 3]), Ok(NodeState::Draining));
        assert_eq!(allowed(Wish::Remove, 3, &[1, 2, 3]), Ok(NodeState::Leaving));
        assert_eq!(allowed(Wish::Replace, 3, &[1, 2]), Ok(NodeState::Replaced));
        assert!(allowed(Wish::Remove, 3, &[1, 2]).expect_err("it is dead").contains("node replace 3"));
        assert!(allowed(Wish::Remove, 3, &[1, 3]).expect_err("node 2 is dead").contains("node 2"));
        assert!(allowed(Wish::Replace, 3, &[1]).expect_err("two are dead").contains("majority"));
        assert!(allowed(Wish::Remove, 9, &[1, 2, 3]).expect_err("no such node").contains("1, 2, 3"));
        let one = super::allowed(&founded(1), &nodes(&[1]), NodeId(1), Wish::Remove);
        assert!(one.expect_err("the last one").contains("last"));
    }
}
