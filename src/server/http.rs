//! The admin HTTP server, on loopback only: /health, /ready, /metrics.

use std::{
    fmt::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use quoris_engine::command;
use quoris_net::BindError;
use quoris_raft::GroupStatus;
use tokio::net::TcpListener;

use crate::{
    commands::{self, Snapshot},
    server::Server,
};

/// Takes the port on loopback.
pub(crate) fn bind(port: u16) -> Result<TcpListener, BindError> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let failed = |source| BindError { address: address.to_string(), source };
    let socket = std::net::TcpListener::bind(address).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    TcpListener::from_std(socket).map_err(failed)
}

/// Serves until dropped.
pub(crate) async fn serve(server: Arc<Server>, socket: TcpListener) {
    let router = Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(server);
    if let Err(error) = axum::serve(socket, router).await {
        tracing::error!(%error, "the admin port is gone");
    }
}

/// Ready: every group that lives here has a leader and is caught up; of a proxy, every group has a leader.
async fn ready(State(server): State<Arc<Server>>) -> (StatusCode, String) {
    let status = server.node.status();
    if status.ready {
        return (StatusCode::OK, "ready\n".into());
    }
    let counts = |group: &&GroupStatus| group.local || server.node.is_guest();
    let lacking = status.groups.iter().filter(|group| counts(group) && group.leader.is_none());
    let ids = |groups: Vec<&GroupStatus>| groups.iter().map(|g| g.id.0.to_string()).collect::<Vec<_>>().join(", ");
    let quarantined: Vec<_> = status.groups.iter().filter(|group| group.quarantined).collect();
    let lacking: Vec<_> = lacking.collect();
    let held: Vec<_> = status.groups.iter().filter(|group| group.clock_held).collect();
    let why = match (quarantined.is_empty(), lacking.is_empty(), held.is_empty()) {
        (false, ..) => format!("group {} is in quarantine and being rebuilt", ids(quarantined)),
        (true, false, _) => format!("no leader for group {}", ids(lacking)),
        (true, true, false) => {
            format!("nothing expires in group {}: see `quoris admin clock confirm` and the log", ids(held))
        }
        (true, true, true) => "catching up".into(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n"))
}

async fn metrics(State(server): State<Arc<Server>>) -> ([(&'static str, &'static str); 1], String) {
    ([("content-type", "text/plain; version=0.0.4")], text(&server))
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP quoris_{name} {help}\n# TYPE quoris_{name} {kind}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        let _ = writeln!(self.0, "quoris_{name} {value}");
    }
}

/// All metrics in Prometheus's text format.
fn text(server: &Server) -> String {
    let snapshot = Snapshot::new(server);
    let (traffic, stats, status) = (&server.traffic, &server.stats, &snapshot.status);
    let mut out = Text(String::new());
    out.one("uptime_seconds", "gauge", "Time since the start.", server.started.elapsed().as_secs());
    out.one("connected_clients", "gauge", "Open connections.", traffic.open.load(Relaxed));
    out.one("blocked_clients", "gauge", "Connections that wait for something.", server.clients.blocked());
    out.one("connections_received_total", "counter", "Connections accepted.", traffic.accepted.load(Relaxed));
    out.one("connections_rejected_total", "counter", "Connections refused.", traffic.refused.load(Relaxed));
    out.one("commands_processed_total", "counter", "Commands executed.", stats.processed.load(Relaxed));
    out.one("error_replies_total", "counter", "Errors answered.", stats.error_replies.load(Relaxed));
    out.one("net_input_bytes_total", "counter", "Bytes from clients.", traffic.bytes_in.load(Relaxed));
    out.one("net_output_bytes_total", "counter", "Bytes to clients.", traffic.bytes_out.load(Relaxed));
    out.one("memory_allocated_bytes", "gauge", "Bytes allocated.", snapshot.allocated.allocated);
    out.one("memory_resident_bytes", "gauge", "Bytes that the allocator holds.", snapshot.allocated.resident);
    out.one("dataset_bytes", "gauge", "Bytes of keys and values.", commands::memory::dataset(server));
    out.one("keys", "gauge", "Keys of the replicas on this node.", commands::memory::keys(server));
    out.one("fsyncs_total", "counter", "Fsyncs of the log.", status.fsyncs);
    out.one(
        "ready",
        "gauge",
        "Whether every group that counts here has a leader and is caught up.",
        u8::from(status.ready),
    );
    let pubsub = &server.pubsub;
    let messages = |what: &AtomicU64| what.load(Relaxed);
    out.one("messages_published_total", "counter", "Messages that clients published.", messages(&pubsub.published));
    out.one("messages_delivered_total", "counter", "Messages handed to subscribers.", messages(&pubsub.delivered));
    out.one("messages_dropped_total", "counter", "Messages for subscribers that were cut.", messages(&pubsub.dropped));
    out.family("events_total", "counter", "Events that replicas of this node have told.");
    for (kind, count) in server.node.told() {
        let _ = writeln!(out.0, "quoris_events_total{{class=\"{kind}\"}} {count}");
    }
    group_metrics(&snapshot, &mut out);
    out.family("command_calls_total", "counter", "Calls per command.");
    let rows: Vec<_> = command::walk()
        .map(|found| (found.full_name(), stats.row(found.id)))
        .filter(|(_, row)| row.calls.load(Relaxed) > 0)
        .collect();
    for (name, row) in &rows {
        let _ = writeln!(out.0, "quoris_command_calls_total{{command=\"{name}\"}} {}", row.calls.load(Relaxed));
    }
    out.family("command_seconds_total", "counter", "Time per command.");
    for (name, row) in &rows {
        let _ = writeln!(
            out.0,
            "quoris_command_seconds_total{{command=\"{name}\"}} {}",
            row.nanos.load(Relaxed) as f64 / 1e9
        );
    }
    out.0
}

fn group_metrics(snapshot: &Snapshot<'_>, out: &mut Text) {
    type Value = fn(&GroupStatus) -> u64;
    let families: [(&str, &str, &str, Value); 14] = [
        ("group_is_leader", "gauge", "Whether this node leads the group.", |group| u64::from(group.role == "leader")),
        ("group_term", "gauge", "The group's term.", |group| group.term),
        ("group_commit_index", "gauge", "The last committed index.", |group| group.commit),
        ("group_applied_index", "gauge", "The last applied index.", |group| group.applied),
        ("group_log_bytes", "gauge", "Bytes of the group's log.", |group| group.log_bytes),
        ("group_events_floor", "gauge", "Events above this index are kept.", |group| group.events_floor),
        ("group_events_bytes", "gauge", "Bytes of kept events.", |group| group.events_bytes),
        ("group_snapshot_index", "gauge", "The last index of the newest snapshot.", |group| group.snapshot_index),
        ("group_purged_index", "gauge", "The last purged index.", |group| group.purged),
        ("group_snapshots_installed_total", "counter", "Snapshots received from a leader.", |group| {
            group.snapshots_installed
        }),
        ("group_quarantined", "gauge", "Whether the replica was found to be wrong and is being rebuilt.", |group| {
            u64::from(group.quarantined)
        }),
        ("group_rebuilds_total", "counter", "Times that the replica was rebuilt.", |group| group.rebuilds),
        ("group_clock_held", "gauge", "Whether nothing expires until a step of the clock is confirmed.", |group| {
            u64::from(group.clock_held)
        }),
        ("group_verified_index", "gauge", "The last index at which the digest was that of a majority.", |group| {
            group.verified
        }),
    ];
    for (name, kind, help, value) in families {
        out.family(name, kind, help);
        for group in snapshot.status.groups.iter().filter(|group| group.local) {
            let _ = writeln!(out.0, "quoris_{name}{{group=\"{}\"}} {}", group.id.0, value(group));
        }
    }
}
