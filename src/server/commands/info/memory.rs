//! Sections about data: Memory, Keyspace.

use std::sync::atomic::Ordering::Relaxed;

use super::{Lines, Snapshot, human};
use crate::commands::memory as data;
use crate::server::Server;

/// Resident bytes of the process, and of the machine in all.
pub(crate) fn resident_and_total() -> (u64, u64) {
    let field = |path: &str, name: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line =
            text.lines().find_map(|line| line.strip_prefix(name))?.trim().trim_end_matches(" kB").parse::<u64>().ok();
        line.map(|kib| kib * 1024)
    };
    (field("/proc/self/status", "VmRSS:").unwrap_or(0), field("/proc/meminfo", "MemTotal:").unwrap_or(0))
}

pub(super) fn memory(snapshot: &Snapshot<'_>, lines: &mut Lines) {
    let server = snapshot.server;
    let now = snapshot.allocated;
    let (resident, total) = resident_and_total();
    // Without jemalloc the resident size is the best there is.
    let used = if now.allocated > 0 { now.allocated } else { resident };
    let peak = server.memory_peak.fetch_max(used, Relaxed).max(used);
    let dataset = data::dataset(server);
    let ratio = |part: u64, whole: u64| format!("{:.2}", part as f64 / whole.max(1) as f64);
    let both = |lines: &mut Lines, name: &str, bytes: u64| {
        lines.add(name, bytes);
        lines.add(&format!("{name}_human"), human(bytes));
    };
    both(lines, "used_memory", used);
    both(lines, "used_memory_rss", resident);
    both(lines, "used_memory_peak", peak);
    lines.add("used_memory_peak_perc", format!("{:.2}%", used as f64 * 100.0 / peak.max(1) as f64));
    lines.add("used_memory_overhead", used.saturating_sub(dataset));
    lines.add("used_memory_startup", 0);
    lines.add("used_memory_dataset", dataset);
    lines.add("used_memory_dataset_perc", format!("{:.2}%", dataset as f64 * 100.0 / used.max(1) as f64));
    lines.add("allocator_allocated", now.allocated);
    lines.add("allocator_active", now.active);
    lines.add("allocator_resident", now.resident);
    both(lines, "total_system_memory", total);
    scripts(snapshot.server, lines);
    let maxmemory = server.node.memory().max();
    both(lines, "maxmemory", maxmemory);
    lines.add("maxmemory_policy", server.config.text("maxmemory-policy"));
    lines.add("allocator_frag_ratio", ratio(now.active, now.allocated));
    lines.add("allocator_frag_bytes", now.active.saturating_sub(now.allocated));
    lines.add("allocator_rss_ratio", ratio(now.resident, now.active));
    lines.add("allocator_rss_bytes", now.resident.saturating_sub(now.active));
    lines.add("rss_overhead_ratio", ratio(resident, now.resident));
    lines.add("rss_overhead_bytes", resident as i64 - now.resident as i64);
    lines.add("mem_fragmentation_ratio", ratio(resident, used));
    lines.add("mem_fragmentation_bytes", resident as i64 - used as i64);
    lines.add("mem_not_counted_for_evict", server.node.memory().left_out());
    lines.add("mem_replication_backlog", 0);
    lines.add("mem_total_replication_buffers", 0);
    lines.add("mem_clients_slaves", 0);
    lines.add("mem_clients_normal", data::clients(server));
    lines.add("mem_cluster_links", 0);
    lines.add("mem_aof_buffer", 0);
    lines.add("mem_allocator", "jemalloc");
    lines.add("active_defrag_running", 0);
    lines.add("lazyfree_pending_objects", 0);
    lines.add("lazyfreed_objects", 0);
}

/// Fields about scripts and functions. Libraries are the same in all groups, so one group's count is the node's.
fn scripts(server: &Server, lines: &mut Lines) {
    let groups = server.groups();
    let counts = groups.iter().filter_map(|group| server.peek(*group, |e| e.keyspace().script_counts()));
    let most = counts.fold([0; 3], |most, counts| std::array::from_fn(|at| counts[at].max(most[at])));
    for (name, count) in ["number_of_cached_scripts", "number_of_libraries", "number_of_functions"].iter().zip(most) {
        lines.add(name, count);
    }
    for name in [
        "used_memory_lua",
        "used_memory_vm_eval",
        "used_memory_scripts_eval",
        "used_memory_vm_functions",
        "used_memory_vm_total",
        "used_memory_functions",
        "used_memory_scripts",
    ] {
        lines.add(name, 0);
    }
    for name in ["used_memory_lua_human", "used_memory_vm_total_human", "used_memory_scripts_human"] {
        lines.add(name, "0B");
    }
}

/// Keys of the replicas that live here; a node that holds no replica of a group does not count its keys.
pub(super) fn keyspace(snapshot: &Snapshot<'_>, lines: &mut Lines) {
    let server = snapshot.server;
    for database in 0..server.tunables.databases {
        let keys = server.sum(|engine| engine.keyspace().len(database));
        if keys > 0 {
            let expires = server.sum(|engine| engine.keyspace().expires_len(database));
            lines.add(&format!("db{database}"), format!("keys={keys},expires={expires},avg_ttl=0"));
        }
    }
}
