//! How a node joins a running cluster.
//!
//! A node with an empty folder and the address of any node asks that one. It gives itself a random ticket, keeps it,
//! and asks until it is told who it is: the node asked puts a record with the ticket into the topology, and a second
//! question with the same ticket finds it there. A node whose address has a place already was wiped, and is refused.
//!
//! Invariants: the ticket is durable before it is sent, the identity before it is acted on; one ticket is one node.

use std::io;
use std::time::Duration;

use quoris_engine::codec;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::admin::{AdminError, Answer, Question};
use crate::founding::Identity;
use crate::node::{Node, NodeConfig, StartError};
use crate::runtime::random_u64;
use crate::seam::{Listener, Seams};
use crate::topology::{NodeRecord, NodeState, Topology};
use crate::types::NodeId;
use crate::wire::{self, Kind};

/// The record that holds the ticket.
const RECORD: &str = "ticket";
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// How often the wait is said.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Who wants to join.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Join {
    peer_addr: String,
    client_addr: String,
    zone: String,
    ticket: u64,
}

fn ticket(node: &Node) -> io::Result<u64> {
    let disk = &node.inner().seams.disk;
    if let Some(bytes) = disk.read_record(RECORD)? {
        return codec::read(&bytes, "ticket").map(|(ticket, _)| ticket).map_err(io::Error::other);
    }
    let ticket = random_u64() | 1;
    disk.write_record(RECORD, &codec::bytes(&ticket))?;
    Ok(ticket)
}

/// Asks until the cluster has taken this node in; its identity.
///
/// # Errors
/// When it is refused, with a text that says what to do.
pub(crate) async fn join(node: &Node, addr: &str) -> Result<Identity, StartError> {
    let config = node.config();
    if addr == config.peer_addr {
        return Err(StartError(format!("join = {addr} is this node's own peer address")));
    }
    let (peer_addr, client_addr, zone) = (config.peer_addr.clone(), config.client_addr.clone(), config.zone.clone());
    let question = Question::Join(Join { peer_addr, client_addr, zone, ticket: ticket(node)? });
    let mut said: Option<Instant> = None;
    loop {
        let answer = async {
            let connection = node.links().dial(addr.to_string()).await?;
            wire::message(&connection.call(Kind::Cluster, vec![wire::part(&question)]).await?)
        };
        match answer.await {
            Ok(Answer::Joined(identity)) => return Ok(*identity),
            Ok(Answer::Refused(text)) => return Err(StartError(text)),
            Ok(_) => return Err(StartError(format!("{addr} answers something else"))),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Err(StartError(format!("{addr}: {e}"))),
            Err(e) if said.is_none_or(|at| at.elapsed() > SAY_EVERY) => {
                tracing::info!(addr, error = %e, "waiting for the cluster to take this node in");
                said = Some(Instant::now());
            }
            Err(_) => {}
        }
        sleep(PAUSE).await;
    }
}

/// Listens for peers, if anybody may come. A node that is alone and was not asked to do so can do without.
pub(crate) async fn listen(
    config: &mut NodeConfig,
    seams: &Seams,
    identity: Option<&Identity>,
) -> Result<Option<Box<dyn Listener>>, StartError> {
    if config.peer_addr.is_empty() {
        return Ok(None);
    }
    let addr = config.peer_bind.as_ref().unwrap_or(&config.peer_addr).clone();
    let alone =
        identity.is_none_or(|i| i.topology.nodes.len() == 1) && config.peers.is_empty() && config.join.is_none();
    match seams.net.listen(addr.clone()).await {
        Ok(listener) => Ok(Some(listener)),
        Err(e) if alone => {
            tracing::warn!(addr, error = %e, "cannot listen for other nodes: none can join until peer-address is free");
            config.peer_addr.clear();
            Ok(None)
        }
        Err(e) => Err(StartError(format!("cannot listen for peers on {addr}: {e}"))),
    }
}

/// Takes a node in, on a node of the cluster.
pub(crate) async fn serve(node: &Node, join: Join) -> io::Result<Answer> {
    match node.change_topology(|topology| take_in(topology, &join)).await {
        Ok(topology) => {
            let own = topology.nodes.iter().find(|(_, record)| record.ticket == join.ticket).map(|(id, _)| *id);
            let node = own.ok_or_else(|| io::Error::other("it was taken in and removed"))?;
            Ok(Answer::Joined(Box::new(Identity { node, topology, founding: false })))
        }
        Err(AdminError(text)) if text.starts_with(REFUSED) => Ok(Answer::Refused(text)),
        Err(AdminError(text)) => Err(io::Error::other(text)),
    }
}

/// How a text begins that is an answer, and no failure.
const REFUSED: &str = "this node cannot join";

fn take_in(topology: &mut Topology, join: &Join) -> Result<bool, AdminError> {
    if topology.nodes.values().any(|record| record.ticket == join.ticket) {
        return Ok(false);
    }
    if topology.nodes.values().any(|record| record.peer_addr.is_empty()) {
        return Err(AdminError("the cluster's own node has no address for peers yet".into()));
    }
    let here = |record: &&NodeRecord| record.peer_addr == join.peer_addr && record.state != NodeState::Replaced;
    let place = topology.nodes.iter().find(|(_, record)| here(record));
    if let Some((id, _)) = place {
        return Err(AdminError(format!(
            "{REFUSED}: {} is the address of {id}, and this data folder is not its own. Restore the folder, or say on a \
             living node that it is lost (quoris admin node replace {}) and start this one again",
            join.peer_addr, id.0
        )));
    }
    let id = NodeId(topology.next_node);
    topology.next_node += 1;
    let record = NodeRecord::new(join.peer_addr.clone(), join.client_addr.clone(), join.zone.clone());
    topology.nodes.insert(id, NodeRecord { ticket: join.ticket, ..record });
    Ok(true)
}

/// Keeps this node's record what its configuration says, as far as that may change.
pub(crate) async fn announce(node: Node) {
    let mut own = node.routes().topology.nodes.get(&node.id()).cloned();
    while let Some(record) = own {
        let config = node.config();
        let wanted = NodeRecord {
            client_addr: config.client_addr.clone(),
            zone: config.zone.clone(),
            peer_addr: if config.peer_addr.is_empty() { record.peer_addr.clone() } else { config.peer_addr.clone() },
            ..record.clone()
        };
        if wanted == record {
            return;
        }
        let id = node.id();
        let changed = node.change_topology(|topology| {
            let alone = topology.nodes.len() == 1;
            let Some(record) = topology.nodes.get_mut(&id) else { return Ok(false) };
            let before = record.clone();
            (record.client_addr, record.zone) = (wanted.client_addr.clone(), wanted.zone.clone());
            // Of several nodes the others have to know where to find it.
            if alone {
                record.peer_addr = wanted.peer_addr.clone();
            }
            Ok(*record != before)
        });
        if changed.await.is_ok() {
            return;
        }
        sleep(PAUSE).await;
        own = node.routes().topology.nodes.get(&id).cloned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Founding;

    #[test]
    fn one_ticket_is_one_node_and_an_address_has_one_place() {
        let record = NodeRecord::new("a:1".into(), "a:0".into(), String::new());
        let founding = Founding { cluster: 1, nodes: vec![record], groups: 1, replication_factor: 3, databases: 1 };
        let mut topology = Topology::found(founding, || 7);
        let join = |addr: &str, ticket| Join {
            peer_addr: addr.into(),
            client_addr: String::new(),
            zone: String::new(),
            ticket,
        };
        assert!(take_in(&mut topology, &join("b:1", 5)).expect("a new node"));
        assert!(!take_in(&mut topology, &join("b:1", 5)).expect("the same again"));
        assert_eq!(topology.nodes.len(), 2);
        let wiped = take_in(&mut topology, &join("b:1", 6)).expect_err("another folder at its address");
        assert!(wiped.0.starts_with(REFUSED) && wiped.0.contains("node replace 2"), "{wiped}");
        topology.nodes.get_mut(&NodeId(2)).expect("it is there").state = NodeState::Replaced;
        assert!(take_in(&mut topology, &join("b:1", 6)).expect("it takes the place"));
        assert_eq!((topology.nodes.len(), topology.next_node), (3, 4));
    }
}
