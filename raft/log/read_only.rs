//! The lock of a folder that is only read.
//!
//! RocksDB holds a lock on the file `LOCK` while a node runs. A reader asks for a share of that lock: it is
//! refused while a node runs, and no node can start as long as the reader has it. A folder that changes under
//! its reader would give it half of a state.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, fcntl_lock};

/// Takes the lock; it lasts as long as the file is open, and no other handle of this process is closed.
pub fn lock(dir: &Path) -> io::Result<File> {
    let path = dir.join("log").join("LOCK");
    let file = File::open(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            io::Error::other(format!("{} is no data folder of a node: there is no {}", dir.display(), path.display()))
        }
        _ => io::Error::other(format!("{}: {e}", path.display())),
    })?;
    fcntl_lock(&file, FlockOperation::NonBlockingLockShared).map_err(|_| {
        io::Error::other(format!("a node uses the data folder {}: stop it first, or read a copy of it", dir.display()))
    })?;
    Ok(file)
}
