//! Which process holds a connection, from the kernel's tables: all connections in one look.

use std::collections::HashMap;

/// The column of `/proc/net/tcp` that holds the socket's number.
const INODE: usize = 9;

/// The kernel's numbers of sockets, by own port and the other one.
pub(super) fn sockets() -> HashMap<(u16, u16), u64> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let port = |word: &str| u16::from_str_radix(word.rsplit(':').next()?, 16).ok();
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(((port(words.get(1)?)?, port(words.get(2)?)?), words.get(INODE)?.parse().ok()?))
    };
    table.lines().filter_map(row).collect()
}

/// The node that holds each socket.
pub(super) fn owners(processes: &[Option<u32>]) -> HashMap<u64, usize> {
    let mut owners = HashMap::new();
    for (node, process) in processes.iter().enumerate() {
        let Some(files) = process.and_then(|id| std::fs::read_dir(format!("/proc/{id}/fd")).ok()) else { continue };
        for link in files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok()) {
            let socket = link.to_str().and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            owners.extend(socket.map(|socket: u64| (socket, node)));
        }
    }
    owners
}
