//! MEMORY, and what the allocator says.

use quoris_resp::{Argv, Reply};
use tikv_jemalloc_ctl::{epoch, stats};

use super::Served;
use crate::{client::Client, server::Server};

/// The allocator's own count, in bytes. All zero when the program runs on another allocator.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allocated {
    pub allocated: u64,
    pub active: u64,
    pub resident: u64,
}

/// Asks the allocator.
pub(crate) fn allocated() -> Allocated {
    let bytes = |read: Result<usize, tikv_jemalloc_ctl::Error>| read.unwrap_or(0) as u64;
    let _ = epoch::advance();
    Allocated {
        allocated: bytes(stats::allocated::read()),
        active: bytes(stats::active::read()),
        resident: bytes(stats::resident::read()),
    }
}

/// Keys and values of the groups that live here, in bytes, by their own count.
pub(crate) fn dataset(server: &Server) -> u64 {
    server.sum(|engine| engine.keyspace().memory_bytes())
}

/// Keys of all databases of the groups that live here.
pub(crate) fn keys(server: &Server) -> u64 {
    server.sum(|engine| engine.stats().keys)
}

pub(super) fn run(client: &Client, sub: &str, argv: &Argv) -> Served {
    match sub {
        "doctor" => Reply::Verbatim(*b"txt", doctor(&client.server).into()).into(),
        "malloc-stats" => {
            let now = allocated();
            let text = format!("allocated: {}\nactive: {}\nresident: {}\n", now.allocated, now.active, now.resident);
            Reply::Verbatim(*b"txt", text.into()).into()
        }
        // jemalloc's background threads give memory back by themselves.
        "purge" => Reply::Ok.into(),
        "stats" => stats_reply(&client.server).into(),
        _ => Served::unknown(argv),
    }
}

fn doctor(server: &Server) -> String {
    let (now, peak) = (allocated(), server.memory_peak.load(std::sync::atomic::Ordering::Relaxed));
    let mut findings = Vec::new();
    if now.allocated > 0 && peak > now.allocated * 3 / 2 {
        findings.push(
            "the peak is more than half above what is used now, so the process may hold pages that it does not need",
        );
    }
    if now.allocated > 5 << 20 && now.resident > now.allocated * 14 / 10 {
        findings.push(
            "resident memory is well above what is allocated: fragmentation, or pages that wait to be given back",
        );
    }
    if findings.is_empty() { "Nothing stands out.".into() } else { format!("Worth a look: {}.", findings.join("; ")) }
}

fn stats_reply(server: &Server) -> Reply {
    let (now, keys, data) = (allocated(), keys(server), dataset(server));
    let peak = server.memory_peak.load(std::sync::atomic::Ordering::Relaxed).max(now.allocated);
    let overhead = now.allocated.saturating_sub(data);
    let ratio = |part: u64, whole: u64| Reply::Double(part as f64 / whole.max(1) as f64);
    let int = |n: u64| Reply::Int(i64::try_from(n).unwrap_or(i64::MAX));
    let mut pairs: Vec<(&str, Reply)> = vec![
        ("peak.allocated", int(peak)),
        ("total.allocated", int(now.allocated)),
        ("startup.allocated", int(0)),
        ("replication.backlog", int(0)),
        ("clients.slaves", int(0)),
        ("clients.normal", int(clients(server))),
        ("cluster.links", int(0)),
        ("aof.buffer", int(0)),
        ("lua.caches", int(0)),
        ("functions.caches", int(0)),
    ];
    pairs.extend([
        ("overhead.total", int(overhead)),
        ("keys.count", int(keys)),
        ("keys.bytes-per-key", int(data / keys.max(1))),
        ("dataset.bytes", int(data)),
        ("dataset.percentage", Reply::Double(data as f64 * 100.0 / now.allocated.max(1) as f64)),
        ("peak.percentage", Reply::Double(now.allocated as f64 * 100.0 / peak.max(1) as f64)),
        ("allocator.allocated", int(now.allocated)),
        ("allocator.active", int(now.active)),
        ("allocator.resident", int(now.resident)),
        ("allocator-fragmentation.ratio", ratio(now.active, now.allocated)),
        ("allocator-fragmentation.bytes", int(now.active.saturating_sub(now.allocated))),
        ("allocator-rss.ratio", ratio(now.resident, now.active)),
        ("allocator-rss.bytes", int(now.resident.saturating_sub(now.active))),
        ("rss-overhead.ratio", Reply::Double(1.0)),
        ("rss-overhead.bytes", int(0)),
        ("fragmentation", ratio(now.resident, now.allocated)),
        ("fragmentation.bytes", int(now.resident.saturating_sub(now.allocated))),
    ]);
    Reply::Map(pairs.into_iter().map(|(name, value)| (Reply::bulk(name), value)).collect())
}

/// Bytes in the buffers of all connections.
pub(crate) fn clients(server: &Server) -> u64 {
    use std::sync::atomic::Ordering::Relaxed;
    let sizes = server.clients.all().into_iter().map(|info| {
        let link = &info.link;
        link.query_bytes.load(Relaxed)
            + link.query_free.load(Relaxed)
            + link.output_bytes.load(Relaxed)
            + link.message_bytes()
    });
    sizes.sum::<usize>() as u64
}
