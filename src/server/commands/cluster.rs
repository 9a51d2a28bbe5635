//! CLUSTER: the slot map in the shapes that cluster clients read. It answers always; MOVED is only sent
//! with `cluster-redirects = yes`.
//!
//! A node that leads a group is shown as a master of that group's slots and never as a replica of another
//! group, because to cluster clients a node is either the one or the other. A node's 40 hex digits are
//! derived from the cluster's id and the node's, so every node prints the same.

use std::sync::atomic::Ordering::Relaxed;

use quoris_engine::{Keyspace, SLOTS, number, slot};
use quoris_raft::{GroupId, GroupStatus, META, NodeId, NodeInfo, NodeStatus};
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
    // The meta group owns no slots and is no client's business.
    let mut status = server.node.status();
    status.groups.retain(|group| group.id != META);
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
        "countkeysinslot" => with_slot(argv, |slot| {
            server.peek(server.node.group_of(slot)?, |engine| Reply::Int(engine.keyspace().slot_len(slot) as i64))
        }),
        "getkeysinslot" => match number::integer(&argv[3]) {
            Some(count) if count >= 0 => with_slot(argv, |slot| {
                keys_in_slot(server, slot, count as usize)
                    .map(|keys| Reply::Array(keys.into_iter().map(Reply::bulk).collect()))
            }),
            _ => Served::error("ERR Invalid slot or number of keys"),
        },
        _ => Served::unknown(argv),
    }
}

fn with_slot(argv: &Argv, answer: impl FnOnce(u16) -> Option<Reply>) -> Served {
    let slot = number::integer(&argv[2]).and_then(|n| u16::try_from(n).ok()).filter(|n| *n < SLOTS);
    match slot {
        None => Served::error("ERR Invalid slot"),
        Some(slot) => answer(slot)
            .map_or_else(|| Served::error("ERR the slot's group has no replica on this node"), Served::Reply),
    }
}

/// Keys that one step of a scan over a slot visits.
const SLOT_STEP: usize = 1000;

/// Keys of database 0 in a slot, of the local replica.
fn keys_in_slot(server: &Server, slot: u16, count: usize) -> Option<Vec<Vec<u8>>> {
    server.peek(server.node.group_of(slot)?, |engine| scan_slot(engine.keyspace(), slot, count))
}

fn scan_slot(keyspace: &Keyspace, slot: u16, count: usize) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    // A cursor is the slot above 32 bits of hash, so a scan may begin at any slot.
    let mut cursor = u64::from(slot) << 32;
    while keys.len() < count {
        cursor = keyspace.scan(0, cursor, SLOT_STEP, &mut |key, _| {
            if quoris_engine::slot(key) == slot {
                keys.push(key.to_vec());
            }
        });
        if cursor == 0 || cursor >> 32 != u64::from(slot) {
            break;
        }
    }
    keys.truncate(count);
    keys
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
    let follows = status
        .groups
        .iter()
        .find(|group| group.replicas.iter().any(|replica| replica.node == node.id))
        .and_then(|group| group.leader);
    let master = if led.is_empty() { follows } else { None };
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
    let Some(node) = status.nodes.iter().find(|node| node_id(status, node.id).as_bytes().eq_ignore_ascii_case(id))
    else {
        return Served::error(format!("ERR Unknown node {}", String::from_utf8_lossy(id)));
    };
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
