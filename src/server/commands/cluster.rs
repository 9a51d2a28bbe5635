//! CLUSTER: the slot map in the shapes that cluster clients read. It answers always; MOVED is only sent
//! with `cluster-redirects = yes`.
//!
//! A node that leads a group is shown as a master of that group's slots and never as a replica of another
//! group, because to cluster clients a node is either the one or the other. A node's 40 hex digits are
//! derived from the cluster's id and the node's, so every node prints the same. A proxy shows itself as the
//! only node, with all slots: who was told to use it may reach nobody else.

use std::sync::atomic::Ordering::Relaxed;

mod manage;

pub(super) use manage::failover;
use quoris_engine::{SLOTS, slot};
use quoris_raft::{GroupId, GroupStatus, META, NodeId, NodeInfo, NodeStatus, ReplicaStatus};
use quoris_resp::{Argv, Reply};
use sha2::{Digest, Sha256};

use super::Served;
use crate::{client::Client, clients::flag, server::Server};

/// READONLY, READWRITE, ASKING.
pub(super) fn mode(client: &Client, name: &str) -> Served {
    match name {
        "readonly" => client.info.set(flag::READ_ONLY, true),
        "readwrite" => client.info.set(flag::READ_ONLY, false),
        _ => {}
    }
    Reply::Ok.into()
}

pub(super) fn run(client: &Client, sub: &str, argv: &Argv) -> Served {
    let server = &client.server;
    let status = shown(server);
    match sub {
        "myid" => Reply::bulk(node_id(&status, status.node)).into(),
        "myshardid" => Reply::bulk(group_id(&status, own_group(&status))).into(),
        "keyslot" => Reply::Int(i64::from(slot(&argv[2]))).into(),
        "info" => Reply::Verbatim(*b"txt", info(&status).into()).into(),
        "nodes" => Reply::Verbatim(
            *b"txt",
            status.nodes.iter().map(|node| node_line(&status, node)).collect::<String>().into(),
        )
        .into(),
        "slots" => slots(&status).into(),
        "shards" => shards(&status).into(),
        "replicas" | "slaves" => replicas(&status, &argv[2]),
        "links" => links(&status).into(),
        "bumpepoch" => Reply::Status(format!("STILL {}", status.epoch).into()).into(),
        "count-failure-reports" => match by_digits(&status, &argv[2]) {
            Some(_) => Reply::Int(0).into(),
            None => unknown_node(&argv[2]),
        },
        "slot-stats" => manage::slot_stats(server, argv),
        _ => manage::refused(sub).map_or_else(|| Served::unknown(argv), Served::error),
    }
}

/// What clients are shown of the cluster.
fn shown(server: &Server) -> NodeStatus {
    let mut status = server.node.status();
    // The meta group owns no slots and is no client's business.
    status.groups.retain(|group| group.id != META);
    if server.node.is_guest() {
        let (id, client_addr) = (status.node, server.node.client_addr().to_string());
        status.nodes = vec![NodeInfo { id, peer_addr: client_addr.clone(), client_addr, connected: true }];
        for group in &mut status.groups {
            group.leader = group.leader.map(|_| id);
            group.replicas = vec![ReplicaStatus { replica: 0, node: id, voter: true, matched: None }];
        }
    }
    status
}

fn by_digits<'a>(status: &'a NodeStatus, digits: &[u8]) -> Option<&'a NodeInfo> {
    status.nodes.iter().find(|node| node_id(status, node.id).as_bytes().eq_ignore_ascii_case(digits))
}

fn unknown_node(digits: &[u8]) -> Served {
    Served::error(format!("ERR Unknown node {}", String::from_utf8_lossy(digits)))
}

/// The leader that a node without a group of its own is shown as a replica of.
fn followed(status: &NodeStatus, node: NodeId) -> Option<NodeId> {
    let of = |group: &&GroupStatus| group.replicas.iter().any(|replica| replica.node == node);
    status.groups.iter().find(of).and_then(|group| group.leader)
}

/// A node's 40 hex digits.
pub(crate) fn node_id(status: &NodeStatus, node: NodeId) -> String {
    digits(&format!("{} node {}", status.cluster_id, node.0))
}

fn group_id(status: &NodeStatus, group: GroupId) -> String {
    digits(&format!("{} group {}", status.cluster_id, group.0))
}

fn digits(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}

fn own_group(status: &NodeStatus) -> GroupId {
    let led = status.groups.iter().find(|group| group.leader == Some(status.node));
    led.or_else(|| status.groups.iter().find(|group| group.local)).map_or(GroupId(0), |group| group.id)
}

fn is_master(status: &NodeStatus, node: NodeId) -> bool {
    status.groups.iter().any(|group| group.leader == Some(node))
}

fn host_port(address: &str) -> (&str, i64) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    (host.trim_matches(['[', ']']), port.parse().unwrap_or(0))
}

fn find(status: &NodeStatus, id: NodeId) -> Option<&NodeInfo> {
    status.nodes.iter().find(|node| node.id == id)
}

fn info(status: &NodeStatus) -> String {
    let slots = |wanted: fn(&GroupStatus) -> bool| -> u32 {
        let groups = status.groups.iter().filter(|group| wanted(group));
        groups.flat_map(|group| &group.slots).map(|(from, to)| u32::from(to - from) + 1).sum()
    };
    let (assigned, ok) = (slots(|_| true), slots(|group| group.leader.is_some()));
    let state = if ok == u32::from(SLOTS) { "ok" } else { "fail" };
    let mut leaders: Vec<NodeId> = status.groups.iter().filter_map(|group| group.leader).collect();
    leaders.sort();
    leaders.dedup();
    let (nodes, epoch) = (status.nodes.len(), status.epoch);
    let lines = [
        format!("cluster_state:{state}"),
        format!("cluster_slots_assigned:{assigned}"),
        format!("cluster_slots_ok:{ok}"),
        "cluster_slots_pfail:0".into(),
        format!("cluster_slots_fail:{}", assigned - ok),
        format!("cluster_known_nodes:{nodes}"),
        format!("cluster_size:{}", leaders.len()),
        format!("cluster_current_epoch:{epoch}"),
        format!("cluster_my_epoch:{epoch}"),
        "cluster_stats_messages_sent:0".into(),
        "cluster_stats_messages_received:0".into(),
        "total_cluster_links_buffer_limit_exceeded:0".into(),
    ];
    lines.map(|line| line + "\r\n").concat()
}

/// A line as Redis writes it into its nodes file.
fn node_line(status: &NodeStatus, node: &NodeInfo) -> String {
    let (host, port) = host_port(&node.client_addr);
    let (_, peer_port) = host_port(&node.peer_addr);
    let led: Vec<&GroupStatus> = status.groups.iter().filter(|group| group.leader == Some(node.id)).collect();
    let is_me = node.id == status.node;
    let master = if led.is_empty() { followed(status, node.id) } else { None };
    let role = if master.is_some() { "slave" } else { "master" };
    let flags = if is_me { format!("myself,{role}") } else { role.to_string() };
    let master = master.map_or_else(|| "-".into(), |id| node_id(status, id));
    let link = if is_me || node.connected { "connected" } else { "disconnected" };
    let ranges: String = led
        .iter()
        .flat_map(|group| &group.slots)
        .map(|(from, to)| if from == to { format!(" {from}") } else { format!(" {from}-{to}") })
        .collect();
    let epoch = status.epoch;
    format!("{} {host}:{port}@{peer_port} {flags} {master} 0 0 {epoch} {link}{ranges}\n", node_id(status, node.id))
}

fn slots(status: &NodeStatus) -> Reply {
    let entry = |node: &NodeInfo| {
        let (host, port) = host_port(&node.client_addr);
        Reply::Array(vec![
            Reply::bulk(host),
            Reply::Int(port),
            Reply::bulk(node_id(status, node.id)),
            Reply::Array(Vec::new()),
        ])
    };
    let mut ranges = Vec::new();
    for group in &status.groups {
        let Some(leader) = group.leader.and_then(|id| find(status, id)) else { continue };
        let others = group.replicas.iter().filter(|replica| replica.voter && !is_master(status, replica.node));
        let nodes: Vec<Reply> =
            std::iter::once(leader).chain(others.filter_map(|replica| find(status, replica.node))).map(entry).collect();
        for (from, to) in &group.slots {
            ranges.push((
                *from,
                [vec![Reply::Int(i64::from(*from)), Reply::Int(i64::from(*to))], nodes.clone()].concat(),
            ));
        }
    }
    ranges.sort_by_key(|(from, _)| *from);
    Reply::Array(ranges.into_iter().map(|(_, range)| Reply::Array(range)).collect())
}

fn shards(status: &NodeStatus) -> Reply {
    let groups = status.groups.iter().map(|group| {
        let slots =
            group.slots.iter().flat_map(|(from, to)| [Reply::Int(i64::from(*from)), Reply::Int(i64::from(*to))]);
        let nodes = group.replicas.iter().filter_map(|replica| {
            let node = find(status, replica.node)?;
            let (host, port) = host_port(&node.client_addr);
            let role = if group.leader == Some(node.id) { "master" } else { "replica" };
            if role == "replica" && is_master(status, node.id) {
                return None;
            }
            let health = if node.connected || node.id == status.node { "online" } else { "failed" };
            Some(Reply::Map(vec![
                (Reply::bulk("id"), Reply::bulk(node_id(status, node.id))),
                (Reply::bulk("port"), Reply::Int(port)),
                (Reply::bulk("ip"), Reply::bulk(host)),
                (Reply::bulk("endpoint"), Reply::bulk(host)),
                (Reply::bulk("role"), Reply::bulk(role)),
                (Reply::bulk("replication-offset"), Reply::Int(replica.matched.unwrap_or(group.applied) as i64)),
                (Reply::bulk("health"), Reply::bulk(health)),
            ]))
        });
        Reply::Map(vec![
            (Reply::bulk("slots"), Reply::Array(slots.collect())),
            (Reply::bulk("nodes"), Reply::Array(nodes.collect())),
        ])
    });
    Reply::Array(groups.collect())
}

fn replicas(status: &NodeStatus, id: &[u8]) -> Served {
    let Some(node) = by_digits(status, id) else { return unknown_node(id) };
    let led: Vec<&GroupStatus> = status.groups.iter().filter(|group| group.leader == Some(node.id)).collect();
    if led.is_empty() {
        return Served::error("ERR The specified node is not a master");
    }
    let follows = |other: &&NodeInfo| {
        !is_master(status, other.id) && led.iter().any(|group| group.replicas.iter().any(|r| r.node == other.id))
    };
    let lines = status.nodes.iter().filter(follows).map(|other| Reply::bulk(node_line(status, other).trim_end()));
    Reply::Array(lines.collect()).into()
}

fn links(status: &NodeStatus) -> Reply {
    let others = status.nodes.iter().filter(|node| node.id != status.node && node.connected);
    let links = others.flat_map(|node| ["to", "from"].map(|direction| (node, direction))).map(|(node, direction)| {
        Reply::Map(vec![
            (Reply::bulk("direction"), Reply::bulk(direction)),
            (Reply::bulk("node"), Reply::bulk(node_id(status, node.id))),
            (Reply::bulk("create-time"), Reply::Int(0)),
            (Reply::bulk("events"), Reply::bulk("rw")),
            (Reply::bulk("send-buffer-allocated"), Reply::Int(0)),
            (Reply::bulk("send-buffer-used"), Reply::Int(0)),
        ])
    });
    Reply::Array(links.collect())
}

/// Whether INFO and HELLO call this a cluster.
pub(crate) fn is_enabled(server: &Server) -> bool {
    server.tunables.redirects.load(Relaxed)
}
