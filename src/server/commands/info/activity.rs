//! Sections about what clients do: Clients, Stats, Commandstats, Errorstats, Latencystats.

use std::sync::atomic::Ordering::Relaxed;

use quoris_engine::command;
use quoris_raft::interest::Kin;

use super::{Lines, Snapshot};
use crate::{gate::Pause, server::Server, stats::Row};

pub(super) fn clients(snapshot: &Snapshot<'_>, lines: &mut Lines) {
    let server = snapshot.server;
    let clients = server.clients.all();
    let most =
        |size: fn(&quoris_net::Link) -> usize| clients.iter().map(|client| size(&client.link)).max().unwrap_or(0);
    lines.add("connected_clients", clients.len());
    lines.add(
        "cluster_connections",
        snapshot.status.nodes.iter().filter(|node| node.connected && node.id != snapshot.status.node).count(),
    );
    lines.add("maxclients", server.config.text("maxclients"));
    lines.add(
        "client_recent_max_input_buffer",
        most(|link| link.query_bytes.load(Relaxed) + link.query_free.load(Relaxed)),
    );
    lines.add("client_recent_max_output_buffer", most(|link| link.output_bytes.load(Relaxed) + link.message_bytes()));
    lines.add("blocked_clients", server.clients.blocked());
    lines.add("tracking_clients", server.tracking.counts().clients);
    lines.add("clients_in_timeout_table", 0);
    let watching = clients.iter().map(|client| client.watches.load(Relaxed));
    lines.add("watching_clients", watching.clone().filter(|n| *n > 0).count());
    lines.add("total_watched_keys", watching.sum::<u32>());
    lines.add("total_blocking_keys", 0);
    lines.add("total_blocking_keys_on_nokey", 0);
    if let Some((what, left)) = server.gate.state() {
        lines.add("paused_actions", if what == Pause::All { "all" } else { "write" });
        lines.add("paused_timeout_milliseconds", left.as_millis());
    }
}

pub(super) fn stats(snapshot: &Snapshot<'_>, lines: &mut Lines) {
    let (server, traffic, stats) = (snapshot.server, &snapshot.server.traffic, &snapshot.server.stats);
    let [commands, bytes_in, bytes_out] = stats.rates();
    lines.add("total_connections_received", traffic.accepted.load(Relaxed));
    lines.add("total_commands_processed", stats.processed.load(Relaxed));
    lines.add("instantaneous_ops_per_sec", commands as u64);
    lines.add("total_net_input_bytes", traffic.bytes_in.load(Relaxed));
    lines.add("total_net_output_bytes", traffic.bytes_out.load(Relaxed));
    lines.add("total_net_repl_input_bytes", 0);
    lines.add("total_net_repl_output_bytes", 0);
    lines.add("instantaneous_input_kbps", format!("{:.2}", bytes_in / 1024.0));
    lines.add("instantaneous_output_kbps", format!("{:.2}", bytes_out / 1024.0));
    lines.add("instantaneous_input_repl_kbps", "0.00");
    lines.add("instantaneous_output_repl_kbps", "0.00");
    lines.add("rejected_connections", traffic.refused.load(Relaxed));
    for name in ["sync_full", "sync_partial_ok", "sync_partial_err"] {
        lines.add(name, 0);
    }
    lines.add("expired_keys", server.sum(|engine| engine.keyspace().expired()));
    lines.add("expired_stale_perc", "0.00");
    lines.add("evicted_keys", server.node.memory().evicted());
    for name in [
        "evicted_clients",
        "expired_time_cap_reached_count",
        "expire_cycle_cpu_milliseconds",
        "total_eviction_exceeded_time",
        "current_eviction_exceeded_time",
    ] {
        lines.add(name, 0);
    }
    lines.add("keyspace_hits", stats.keyspace_hits.load(Relaxed));
    lines.add("keyspace_misses", stats.keyspace_misses.load(Relaxed));
    messages(server, lines);
    for name in [
        "latest_fork_usec",
        "total_forks",
        "migrate_cached_sockets",
        "slave_expires_tracked_keys",
        "active_defrag_hits",
        "active_defrag_misses",
        "active_defrag_key_hits",
        "active_defrag_key_misses",
        "total_active_defrag_time",
        "current_active_defrag_time",
    ] {
        lines.add(name, 0);
    }
    let tracking = server.tracking.counts();
    lines.add("tracking_total_keys", tracking.keys);
    lines.add("tracking_total_items", tracking.items);
    lines.add("tracking_total_prefixes", tracking.prefixes);
    lines.add("unexpected_error_replies", 0);
    lines.add("total_error_replies", stats.error_replies.load(Relaxed));
    lines.add("dump_payload_sanitizations", 0);
    lines.add("total_reads_processed", traffic.reads.load(Relaxed));
    lines.add("total_writes_processed", traffic.writes.load(Relaxed));
    lines.add("io_threaded_reads_processed", 0);
    lines.add("io_threaded_writes_processed", 0);
    lines.add("reply_buffer_shrinks", 0);
    lines.add("reply_buffer_expands", 0);
    lines.add("client_query_buffer_limit_disconnections", traffic.query_limit_closed.load(Relaxed));
    lines.add("client_output_buffer_limit_disconnections", traffic.output_limit_closed.load(Relaxed));
    lines.add("acl_access_denied_auth", stats.auth_failures.load(Relaxed));
    for name in ["acl_access_denied_cmd", "acl_access_denied_key", "acl_access_denied_channel"] {
        lines.add(name, 0);
    }
}

fn messages(server: &Server, lines: &mut Lines) {
    let pubsub = &server.pubsub;
    lines.add("pubsub_channels", pubsub.count(Kin::Channel));
    lines.add("pubsub_patterns", pubsub.count(Kin::Pattern));
    lines.add("pubsubshard_channels", pubsub.count(Kin::Shard));
    lines.add("pubsub_messages_published", pubsub.published.load(Relaxed));
    lines.add("pubsub_messages_delivered", pubsub.delivered.load(Relaxed));
    lines.add("pubsub_messages_dropped", pubsub.dropped.load(Relaxed));
    for (kind, count) in server.node.told() {
        lines.add(&format!("events_{kind}"), count);
    }
}

pub(super) fn commands(snapshot: &Snapshot<'_>, lines: &mut Lines) {
    for found in command::walk() {
        let row = snapshot.server.stats.row(found.id);
        let (calls, rejected, failed) = (row.calls.load(Relaxed), row.rejected.load(Relaxed), row.failed.load(Relaxed));
        if calls + rejected + failed == 0 {
            continue;
        }
        let micros = row.nanos.load(Relaxed) / 1000;
        let each = if calls == 0 { 0.0 } else { micros as f64 / calls as f64 };
        let shown = format!(
            "calls={calls},usec={micros},usec_per_call={each:.2},rejected_calls={rejected},failed_calls={failed}"
        );
        lines.add(&format!("cmdstat_{}", found.full_name()), shown);
    }
}

pub(super) fn errors(snapshot: &Snapshot<'_>, lines: &mut Lines) {
    for (code, count) in snapshot.server.stats.errors() {
        lines.add(&format!("errorstat_{code}"), format!("count={count}"));
    }
}

pub(super) fn latencies(snapshot: &Snapshot<'_>, lines: &mut Lines) {
    let percentiles = snapshot.server.config.words("latency-tracking-info-percentiles");
    let percentiles: Vec<(String, f64)> =
        percentiles.into_iter().filter_map(|text| text.parse().ok().map(|percent| (text, percent))).collect();
    for found in command::walk() {
        let histogram = snapshot.server.stats.row(found.id).histogram();
        if histogram.is_empty() || percentiles.is_empty() {
            continue;
        }
        let shown = percentiles
            .iter()
            .map(|(text, percent)| format!("p{text}={:.3}", Row::percentile(&histogram, *percent) as f64 / 1000.0));
        lines.add(&format!("latency_percentiles_usec_{}", found.full_name()), shown.collect::<Vec<_>>().join(","));
    }
}
