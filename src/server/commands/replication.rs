//! ROLE, WAIT, WAITAOF, and the commands that have no meaning here.

use std::time::{Duration, Instant};

use quoris_resp::{Argv, Reply};

use super::{Served, integer};
use crate::{client::Client, outcome};

/// How often the positions of the replicas are looked at while a client waits.
const WAIT_STEP: Duration = Duration::from_millis(5);

/// ROLE: every node takes writes, so it is a master; the other nodes are listed as its replicas.
pub(super) fn role(client: &Client) -> Served {
    let status = client.server.node.status();
    let offset: u64 = status.groups.iter().filter(|group| group.local).map(|group| group.applied).sum();
    let others = status.nodes.iter().filter(|node| node.id != status.node).map(|node| {
        let (host, port) = node.client_addr.rsplit_once(':').unwrap_or((&node.client_addr, "0"));
        Reply::Array(vec![Reply::bulk(host), Reply::bulk(port), Reply::bulk(offset.to_string())])
    });
    Reply::Array(vec![Reply::bulk("master"), Reply::Int(offset as i64), Reply::Array(others.collect())]).into()
}

pub(super) fn refused(name: &str) -> Served {
    Served::error(match name {
        "failover" => "ERR FAILOVER is not needed: leadership moves by itself when a node stops or fails",
        "sync" | "psync" | "replconf" => {
            "ERR replication goes through the Raft log; a copy of the data is to be had with 'quoris admin export'"
        }
        _ => "ERR REPLICAOF not allowed: the members of a group replicate each other",
    })
}

/// Why WAIT ends.
enum Waited {
    Enough(usize),
    TimedOut(usize),
    Unblocked { with_error: bool, count: usize },
}

/// The smallest number of other replicas, over all groups that the connection wrote to, whose durable log
/// covers its last write.
async fn covering(client: &Client) -> usize {
    if client.positions.is_empty() {
        let status = client.server.node.status();
        let others = status.groups.iter().map(|group| group.replicas.len().saturating_sub(1));
        return others.min().unwrap_or(0);
    }
    let mut least = usize::MAX;
    for position in &client.positions {
        least = least.min(client.server.node.replicas_covering(position).await);
    }
    least
}

async fn wait_for(client: &Client, wanted: usize, timeout: Duration) -> Waited {
    let count = covering(client).await;
    if count >= wanted {
        return Waited::Enough(count);
    }
    let deadline = if timeout.is_zero() { None } else { Instant::now().checked_add(timeout) };
    let _blocked = client.server.clients.hold(client.info.clone());
    loop {
        let step =
            deadline.map_or(WAIT_STEP, |deadline| WAIT_STEP.min(deadline.saturating_duration_since(Instant::now())));
        let unblocked = tokio::time::timeout(step, client.info.unblocked()).await.ok();
        let count = covering(client).await;
        if count >= wanted {
            return Waited::Enough(count);
        }
        if let Some(with_error) = unblocked {
            return Waited::Unblocked { with_error, count };
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Waited::TimedOut(count);
        }
    }
}

fn timeout(argv: &Argv, at: usize) -> Result<Duration, Reply> {
    let millis = argv
        .get(at)
        .and_then(quoris_engine::number::integer)
        .ok_or_else(|| Reply::error("ERR timeout is not an integer or out of range"))?;
    u64::try_from(millis).map(Duration::from_millis).map_err(|_| Reply::error("ERR timeout is negative"))
}

fn count(argv: &Argv, at: usize) -> Result<usize, Reply> {
    usize::try_from(integer(argv, at)?).map_err(|_| Reply::error("ERR value is out of range, must be positive"))
}

pub(super) async fn wait(client: &Client, argv: &Argv) -> Served {
    // As in Redis, a negative number is reached at once.
    let wanted = integer(argv, 1).map(|n| usize::try_from(n).unwrap_or(0));
    let (wanted, timeout) = match (wanted, timeout(argv, 2)) {
        (Ok(wanted), Ok(timeout)) => (wanted, timeout),
        (Err(reply), _) | (_, Err(reply)) => return reply.into(),
    };
    match wait_for(client, wanted, timeout).await {
        Waited::Unblocked { with_error: true, .. } => Served::error(outcome::UNBLOCKED),
        Waited::Enough(n) | Waited::TimedOut(n) | Waited::Unblocked { count: n, .. } => Reply::Int(n as i64).into(),
    }
}

/// WAITAOF: the log is fsynced before a write is acknowledged, so the local copy always counts, unless
/// fsync is not "always".
pub(super) async fn wait_aof(client: &Client, argv: &Argv) -> Served {
    let (local, wanted, timeout) = match (count(argv, 1), count(argv, 2), timeout(argv, 3)) {
        (Ok(local), Ok(wanted), Ok(timeout)) => (local, wanted, timeout),
        (Err(reply), ..) | (_, Err(reply), _) | (.., Err(reply)) => return reply.into(),
    };
    if local > 1 {
        return Served::error("ERR value is out of range, must be between 0 and 1");
    }
    let durable = i64::from(client.server.config.text("appendfsync") == "always");
    match wait_for(client, wanted, timeout).await {
        Waited::Unblocked { with_error: true, .. } => Served::error(outcome::UNBLOCKED),
        Waited::Enough(n) | Waited::TimedOut(n) | Waited::Unblocked { count: n, .. } => {
            Reply::Array(vec![Reply::Int(durable), Reply::Int(n as i64)]).into()
        }
    }
}
