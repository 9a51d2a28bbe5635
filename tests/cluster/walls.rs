//! Wall clocks that jump: libfaketime between a node and the system.
//!
//! The offset of each node is in a file that it reads whenever it asks for the time. Its monotonic clock
//! stays what it is.

use std::path::{Path, PathBuf};

use super::process::Node;

/// An hour, in seconds.
pub const HOUR: i64 = 3600;

/// The library, where it is installed; else the test has nothing to show, and says so.
pub fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let mut found = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let found = found.find(|library| library.exists());
    if found.is_none() {
        println!("libfaketime is not installed (./dev deps): wall clocks do not jump here, nothing is shown");
    }
    found
}

fn file(node: &Node) -> PathBuf {
    node.dir.join("wall")
}

/// From its next start on the node's wall clock can be set.
pub fn fake(node: &mut Node, library: &Path) {
    set(node, 0);
    let yes = || "1".to_string();
    node.environment = vec![
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", file(node).display().to_string()),
        ("FAKETIME_NO_CACHE", yes()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", yes()),
    ];
}

/// The node's wall clock is now so many seconds ahead of this machine's.
pub fn set(node: &Node, ahead_s: i64) {
    // Replaced as a whole: the node may be reading it.
    let new = node.dir.join("wall.new");
    std::fs::write(&new, format!("{ahead_s:+}\n")).and_then(|()| std::fs::rename(new, file(node))).expect("a file");
}
