//! Sections about the process: Server, Persistence, CPU.

use std::sync::atomic::Ordering::Relaxed;

use super::{Lines, Snapshot};
use crate::{commands::cluster, server::unix_ms, version};

pub(super) fn server(snapshot: &Snapshot<'_>, lines: &mut Lines) {
    let server = snapshot.server;
    let uptime = server.started.elapsed().as_secs();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    lines.add("redis_version", version::REDIS);
    lines.add("server_name", "quoris");
    lines.add("quoris_version", version::QUORIS);
    lines.add("redis_git_sha1", "00000000");
    lines.add("redis_git_dirty", 0);
    lines.add("redis_build_id", "0");
    lines.add("redis_mode", if cluster::is_enabled(server) { "cluster" } else { "standalone" });
    lines.add("os", format!("Linux {} {}", release.trim(), std::env::consts::ARCH));
    lines.add("arch_bits", usize::BITS);
    lines.add("monotonic_clock", "POSIX clock_gettime");
    lines.add("multiplexing_api", "epoll");
    lines.add("atomicvar_api", "rust");
    lines.add("process_id", std::process::id());
    lines.add("process_supervised", "no");
    lines.add("run_id", &server.run_id);
    lines.add("tcp_port", server.config.text("port"));
    lines.add("server_time_usec", unix_ms() * 1000);
    lines.add("uptime_in_seconds", uptime);
    lines.add("uptime_in_days", uptime / 86_400);
    lines.add("hz", 10);
    lines.add("configured_hz", server.config.text("hz"));
    lines.add("lru_clock", (unix_ms() / 1000) & 0xff_ffff);
    lines.add("executable", std::env::current_exe().unwrap_or_default().display());
    lines.add("config_file", server.config.file().map(|path| path.display().to_string()).unwrap_or_default());
    lines.add("io_threads_active", 0);
    lines.add("cluster_name", &snapshot.status.cluster_name);
    lines.add("node_id", snapshot.status.node.0);
}

pub(super) fn persistence(snapshot: &Snapshot<'_>, lines: &mut Lines) {
    let saves = &snapshot.server.saves;
    let status = if saves.last_failed.load(Relaxed) { "err" } else { "ok" };
    lines.add("loading", 0);
    lines.add("async_loading", 0);
    for name in ["current_cow_peak", "current_cow_size", "current_cow_size_age"] {
        lines.add(name, 0);
    }
    lines.add("current_fork_perc", "0.00");
    lines.add("current_save_keys_processed", 0);
    lines.add("current_save_keys_total", 0);
    let changes = snapshot.server.changes().saturating_sub(saves.changes_before.load(Relaxed));
    lines.add("rdb_changes_since_last_save", changes);
    lines.add("rdb_bgsave_in_progress", u8::from(saves.is_running()));
    lines.add("rdb_last_save_time", saves.last_unix_s.load(Relaxed));
    lines.add("rdb_last_bgsave_status", status);
    lines.add("rdb_last_bgsave_time_sec", saves.last_seconds.load(Relaxed));
    lines.add("rdb_current_bgsave_time_sec", saves.running_seconds());
    lines.add("rdb_saves", saves.done.load(Relaxed));
    for name in ["rdb_last_cow_size", "rdb_last_load_keys_expired", "rdb_last_load_keys_loaded"] {
        lines.add(name, 0);
    }
    // The log is the append only file; it is never off.
    lines.add("aof_enabled", 1);
    lines.add("aof_rewrite_in_progress", 0);
    lines.add("aof_rewrite_scheduled", 0);
    lines.add("aof_last_rewrite_time_sec", -1);
    lines.add("aof_current_rewrite_time_sec", -1);
    lines.add("aof_last_bgrewrite_status", "ok");
    lines.add("aof_rewrites", 0);
    lines.add("aof_rewrites_consecutive_failures", 0);
    lines.add("aof_last_write_status", "ok");
    lines.add("aof_last_cow_size", 0);
    lines.add("module_fork_in_progress", 0);
    lines.add("module_fork_last_cow_size", 0);
    let log: u64 = snapshot.status.groups.iter().filter(|group| group.local).map(|group| group.log_bytes).sum();
    for name in ["aof_current_size", "aof_base_size"] {
        lines.add(name, log);
    }
    for name in ["aof_pending_rewrite", "aof_buffer_length", "aof_pending_bio_fsync", "aof_delayed_fsync"] {
        lines.add(name, 0);
    }
    lines.add("fsync", snapshot.server.config.text("appendfsync"));
}

/// User and system time of the process, in seconds.
pub(crate) fn cpu_seconds() -> (f64, f64) {
    // The name in parentheses may hold blanks; behind it fields are counted from the third on.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
    // The kernel counts in hundredths of a second on every platform that we run on.
    let seconds = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0) / 100.0;
    (seconds(11), seconds(12))
}

pub(super) fn cpu(_: &Snapshot<'_>, lines: &mut Lines) {
    let (user, system) = cpu_seconds();
    lines.add("used_cpu_sys", format!("{system:.6}"));
    lines.add("used_cpu_user", format!("{user:.6}"));
    lines.add("used_cpu_sys_children", "0.000000");
    lines.add("used_cpu_user_children", "0.000000");
    lines.add("used_cpu_sys_main_thread", format!("{system:.6}"));
    lines.add("used_cpu_user_main_thread", format!("{user:.6}"));
}
