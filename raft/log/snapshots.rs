//! Snapshot files: one folder per group. A file is written under a name that nobody reads, flushed, given
//! its name, and the folder is flushed.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use quoris_raft::aside::aside;
use quoris_raft::seam::{SnapshotSink, SnapshotSource};
use quoris_raft::types::GroupId;

/// Ending of a file that is being written.
const UNFINISHED: &str = "tmp";
/// Bytes gathered before a system call.
const BUFFER_BYTES: usize = 256 << 10;

fn folder(root: &Path, group: GroupId) -> PathBuf {
    root.join(format!("group-{}", group.0))
}

/// A name comes from a peer: it must name a file of the folder and nothing else.
fn path(root: &Path, group: GroupId, name: &str) -> io::Result<PathBuf> {
    let plain = !name.is_empty()
        && name.len() < 200
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        && !name.starts_with('.');
    if !plain {
        return Err(io::Error::other(format!("{name:?} is no name of a snapshot")));
    }
    Ok(folder(root, group).join(name))
}

/// Deletes what a crash left half-written.
pub fn remove_unfinished(root: &Path) -> io::Result<()> {
    for group in fs::read_dir(root)? {
        for file in fs::read_dir(group?.path())? {
            let path = file?.path();
            if path.extension().is_some_and(|e| e == UNFINISHED) {
                fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

/// Finished files, in no order.
pub fn list(root: &Path, group: GroupId) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder(root, group)) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string()
            && name.ends_with(".rdb")
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// Opens a finished file.
pub fn open(root: &Path, group: GroupId, name: &str) -> io::Result<(u64, Box<dyn SnapshotSource>)> {
    let file = File::open(path(root, group, name)?)?;
    Ok((file.metadata()?.len(), Box::new(file)))
}

/// Begins a file.
pub fn create(root: &Path, group: GroupId, name: &str) -> io::Result<Box<dyn SnapshotSink>> {
    let path = path(root, group, name)?;
    let named = |path: &Path, e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let folder = folder(root, group);
    fs::create_dir_all(&folder).map_err(|e| named(&folder, e))?;
    // One that is built and one that is received may be of the same state.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let unfinished = path.with_extension(format!("{}.{UNFINISHED}", NEXT.fetch_add(1, Ordering::Relaxed)));
    let file = File::create(&unfinished).map_err(|e| named(&unfinished, e))?;
    Ok(Box::new(Sink { file: BufWriter::with_capacity(BUFFER_BYTES, file), unfinished, path }))
}

/// Deletes a file.
pub fn remove(root: &Path, group: GroupId, name: &str) -> io::Result<()> {
    fs::remove_file(path(root, group, name)?)
}

/// Dropped before its end it leaves nothing behind, so that a full disk does not stay full.
struct Sink {
    file: BufWriter<File>,
    unfinished: PathBuf,
    path: PathBuf,
}

impl SnapshotSink for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.unfinished, &self.path)?;
        let folder = self.path.parent().expect("a file of a group's folder");
        File::open(folder)?.sync_all()?;
        // The group's folder itself may be new.
        File::open(folder.parent().expect("the root of all groups"))?.sync_all()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // Behind `finish` there is nothing under that name any more.
        let _ = aside(|| fs::remove_file(&self.unfinished));
    }
}
