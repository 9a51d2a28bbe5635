//! Sections about the cluster: Replication, Cluster, Raft.

use quoris_raft::{GroupStatus, META, NodeStatus};

use super::{Lines, Snapshot};
use crate::commands::cluster;

/// Every node takes writes, so every node calls itself a master; `connected_slaves` are the other nodes.
pub(super) fn replication(snapshot: &Snapshot<'_>, lines: &mut Lines) {
    let status = &snapshot.status;
    let offset: u64 = status.groups.iter().filter(|group| group.local).map(|group| group.applied).sum();
    let others: Vec<_> = status.nodes.iter().filter(|node| node.id != status.node && node.connected).collect();
    lines.add("role", "master");
    lines.add("connected_slaves", others.len());
    for (at, node) in others.iter().enumerate() {
        let (host, port) = node.client_addr.rsplit_once(':').unwrap_or((&node.client_addr, "0"));
        let matched: Option<u64> = status
            .groups
            .iter()
            .flat_map(|group| &group.replicas)
            .filter(|replica| replica.node == node.id)
            .map(|r| r.matched)
            .sum();
        let matched = matched.unwrap_or(0);
        lines.add(&format!("slave{at}"), format!("ip={host},port={port},state=online,offset={matched},lag=0"));
    }
    lines.add("master_failover_state", "no-failover");
    lines.add("master_replid", cluster::node_id(status, status.node));
    lines.add("master_replid2", "0".repeat(40));
    lines.add("master_repl_offset", offset);
    lines.add("second_repl_offset", -1);
    lines.add("repl_backlog_active", 0);
    lines.add("repl_backlog_size", snapshot.server.config.text("repl-backlog-size"));
    lines.add("repl_backlog_first_byte_offset", 0);
    lines.add("repl_backlog_histlen", 0);
}

pub(super) fn cluster(snapshot: &Snapshot<'_>, lines: &mut Lines) {
    lines.add("cluster_enabled", u8::from(cluster::is_enabled(snapshot.server)));
}

pub(super) fn raft(snapshot: &Snapshot<'_>, lines: &mut Lines) {
    let status = &snapshot.status;
    let fsync = snapshot.server.config.text("appendfsync");
    lines.add("cluster_id", &status.cluster_id);
    lines.add("cluster_name", &status.cluster_name);
    lines.add("node", status.node.0);
    lines.add("boot_id", format!("{:016x}", status.boot_id));
    lines.add("epoch", status.epoch);
    lines.add("settings", snapshot.server.node.settings().borrow().version);
    lines.add("ready", u8::from(status.ready));
    lines.add("nodes", status.nodes.len());
    lines.add("groups", status.groups.iter().filter(|group| group.id != META).count());
    lines.add(
        "groups_led",
        status.groups.iter().filter(|group| group.id != META && group.leader == Some(status.node)).count(),
    );
    lines.add("fsync", &fsync);
    lines.add("fsyncs", status.fsyncs);
    lines.add("read_lease", if status.read_lease { "yes" } else { "no" });
    lines.add("elections", status.elections);
    let local =
        |count: fn(&GroupStatus) -> u64| status.groups.iter().filter(|group| group.local).map(count).sum::<u64>();
    lines.add("log_bytes", local(|group| group.log_bytes));
    lines.add("lag", local(|group| group.commit.saturating_sub(group.applied)));
    for group in &status.groups {
        lines.add(&format!("group{}", group.id.0), line(group, &fsync, snapshot.server.node.digest(group.id)));
    }
    nodes(status, lines);
}

/// `digest` is the index that the local replica stands at, and the digest of its state there.
fn line(group: &GroupStatus, fsync: &str, digest: Option<(u64, u64)>) -> String {
    let digest = digest.map_or_else(|| "none".to_string(), |(index, digest)| format!("{index}:{digest:016x}"));
    let leader = group.leader.map_or_else(|| "none".to_string(), |id| id.0.to_string());
    let slots: Vec<String> = group.slots.iter().map(|(from, to)| format!("{from}-{to}")).collect();
    let replicas: Vec<String> = group
        .replicas
        .iter()
        .map(|replica| {
            format!("{}:{}", replica.node.0, replica.matched.map_or_else(|| "?".to_string(), |index| index.to_string()))
        })
        .collect();
    format!(
        "id={},role={},term={},leader={leader},commit={},applied={},last={},log_bytes={},snapshot={},purged={},snapshots_installed={},quarantined={},rebuilds={},read_rounds={},verified={},settings={},fsync={fsync},clock={},clock_held={},events_floor={},events_bytes={},digest={digest},slots={},replicas={}",
        group.id.0,
        group.role,
        group.term,
        group.commit,
        group.applied,
        group.last_log,
        group.log_bytes,
        group.snapshot_index,
        group.purged,
        group.snapshots_installed,
        u8::from(group.quarantined),
        group.rebuilds,
        group.read_rounds,
        group.verified,
        group.settings,
        group.clock_ms,
        u8::from(group.clock_held),
        group.events_floor,
        group.events_bytes,
        slots.join("+"),
        replicas.join("+"),
    )
}

fn nodes(status: &NodeStatus, lines: &mut Lines) {
    for node in &status.nodes {
        let up = u8::from(node.connected || node.id == status.node);
        lines.add(
            &format!("node{}", node.id.0),
            format!("id={},addr={},peer={},connected={up}", node.id.0, node.client_addr, node.peer_addr),
        );
    }
}
