//! The command lines of the programs that are started.

use std::path::{Path, PathBuf};

use super::{REPLICAS_MAX, Shape, folder};

/// Words and where they come from: each program with its ports for clients, for peers, and behind the relays.
pub(super) struct Ports<'a> {
    pub clients: &'a [u16],
    pub peers: &'a [u16],
    pub behind: &'a [u16],
}

fn words(program: &Path, words: &[&str]) -> Vec<String> {
    let mut all = vec![program.display().to_string()];
    all.extend(words.iter().map(ToString::to_string));
    all
}

/// A node of Quoris. It answers before its clients lose patience, and cuts its log often.
pub(super) fn quoris(program: &Path, shape: &Shape, ports: &Ports, at: usize, dir: &Path) -> Vec<String> {
    let mut words = words(program, &["server"]);
    let mut set = |name: &str, value: String| words.extend([format!("--{name}"), value]);
    set("bind", "127.0.0.1".to_string());
    set("port", ports.clients[at].to_string());
    set("peer-address", format!("127.0.0.1:{}", ports.peers[at]));
    if shape.relays {
        set("peer-bind", format!("127.0.0.1:{}", ports.behind[at]));
    }
    set("groups", shape.groups.to_string());
    set("replication-factor", shape.nodes.min(REPLICAS_MAX).to_string());
    set("dir", data(shape, at, dir).display().to_string());
    set("request-timeout-ms", "4000".to_string());
    set("snapshot-log-bytes", "1048576".to_string());
    set("enable-debug-command", "local".to_string());
    for (name, value) in shape.settings.iter().filter_map(|setting| setting.split_once('=')) {
        set(name, value.to_string());
    }
    words
}

/// Where a node of Quoris keeps its data.
pub(super) fn data(shape: &Shape, at: usize, dir: &Path) -> PathBuf {
    folder(dir, at).join(if shape.disks { "disk/data" } else { "data" })
}

/// One redis-server that keeps nothing.
pub(super) fn redis(program: &Path, port: u16) -> Vec<String> {
    words(program, &["--port", &port.to_string(), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"])
}

/// A redis-server of a primary with replicas, which keeps what it acknowledges on its own disk. Sentinel writes its
/// role into its file.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn replicated(
    program: &Path,
    shape: &Shape,
    ports: &Ports,
    at: usize,
    dir: &Path,
) -> anyhow::Result<Vec<String>> {
    let folder = folder(dir, at);
    let mut lines = vec![
        format!("port {}\nbind 127.0.0.1\ndir {}", ports.clients[at], folder.join("data").display()),
        "save \"\"\nappendonly yes\nappendfsync always\nrepl-diskless-sync-delay 0".to_string(),
        format!("replica-announce-ip 127.0.0.1\nreplica-announce-port {}", ports.peers[at]),
    ];
    if at > 0 {
        lines.push(format!("replicaof 127.0.0.1 {}", ports.peers[0]));
    }
    lines.extend(shape.settings.iter().filter_map(|setting| setting.split_once('=')).map(|(n, v)| format!("{n} {v}")));
    started_with(program, &folder.join("redis.conf"), &lines, &[])
}

/// One of the Sentinels that watch them, as Redis's documentation sets them up, but that they wait for a second.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn sentinel(program: &Path, ports: &Ports, at: usize, dir: &Path) -> anyhow::Result<Vec<String>> {
    let folder = folder(dir, at);
    let lines = [
        format!("port {}\nbind 127.0.0.1\ndir {}", ports.clients[at], folder.join("data").display()),
        format!("sentinel announce-ip 127.0.0.1\nsentinel announce-port {}", ports.peers[at]),
        format!("sentinel monitor quorum 127.0.0.1 {} 2", ports.peers[0]),
        "sentinel down-after-milliseconds quorum 1000\nsentinel failover-timeout quorum 3000".to_string(),
        "sentinel parallel-syncs quorum 2".to_string(),
    ];
    started_with(program, &folder.join("sentinel.conf"), &lines, &["--sentinel"])
}

fn started_with(program: &Path, file: &PathBuf, lines: &[String], more: &[&str]) -> anyhow::Result<Vec<String>> {
    std::fs::write(file, lines.join("\n") + "\n")?;
    let mut all = words(program, &[&file.display().to_string()]);
    all.extend(more.iter().map(ToString::to_string));
    Ok(all)
}
