//! SAVE and BGSAVE: at most one file is written at a time.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use quoris_raft::{GroupId, seam::SnapshotSource};

use crate::server::{Server, unix_ms};

#[derive(Debug)]
pub(crate) struct Saves {
    running: AtomicBool,
    pub done: AtomicU64,
    pub last_unix_s: AtomicU64,
    pub last_failed: AtomicBool,
    pub last_seconds: AtomicI64,
    /// Commands that changed something, when the last file was written.
    pub changes_before: AtomicU64,
    started_unix_s: AtomicU64,
}

impl Default for Saves {
    fn default() -> Saves {
        Saves {
            running: AtomicBool::new(false),
            done: AtomicU64::new(0),
            last_unix_s: AtomicU64::new(unix_ms() / 1000),
            last_failed: AtomicBool::new(false),
            last_seconds: AtomicI64::new(-1),
            changes_before: AtomicU64::new(0),
            started_unix_s: AtomicU64::new(0),
        }
    }
}

impl Saves {
    /// Whether a file is being written.
    pub fn is_running(&self) -> bool {
        self.running.load(Relaxed)
    }

    /// How long it has been running, in seconds; -1 when it is not.
    pub fn running_seconds(&self) -> i64 {
        if self.is_running() { (unix_ms() / 1000).saturating_sub(self.started_unix_s.load(Relaxed)) as i64 } else { -1 }
    }

    /// Claims the right to write; false when somebody else has it.
    pub fn claim(&self) -> bool {
        let claimed = self.running.compare_exchange(false, true, Relaxed, Relaxed).is_ok();
        if claimed {
            self.started_unix_s.store(unix_ms() / 1000, Relaxed);
        }
        claimed
    }
}

impl Server {
    /// Where SAVE writes.
    pub(crate) fn save_path(&self) -> PathBuf {
        PathBuf::from(self.config.text("dir")).join(self.config.text("dbfilename"))
    }

    /// Writes the file of a claimed save.
    pub(crate) async fn save_claimed(&self) -> std::io::Result<()> {
        let started = Instant::now();
        let changes = self.changes();
        let result = match self.node.save().await {
            Ok(files) => {
                let path = self.save_path();
                tokio::task::spawn_blocking(move || join_files(files, &path))
                    .await
                    .map_err(std::io::Error::other)
                    .flatten()
            }
            Err(e) => Err(e),
        };
        self.saves.last_failed.store(result.is_err(), Relaxed);
        self.saves.last_seconds.store(started.elapsed().as_secs() as i64, Relaxed);
        if let Err(error) = &result {
            tracing::warn!(%error, path = %self.save_path().display(), "the RDB file could not be written");
        } else {
            self.saves.last_unix_s.store(unix_ms() / 1000, Relaxed);
            self.saves.changes_before.store(changes, Relaxed);
            self.saves.done.fetch_add(1, Relaxed);
        }
        self.saves.running.store(false, Relaxed);
        result
    }

    /// Changes of keys in the groups that live here: what `rdb_changes_since_last_save` counts.
    pub(crate) fn changes(&self) -> u64 {
        self.sum(|engine| engine.keyspace().writes())
    }
}

/// `REDIS` and four digits of version begin every RDB file.
const MAGIC_BYTES: u64 = 9;
/// The end opcode and the checksum end it.
const END_BYTES: u64 = 9;

/// Joins the snapshots of several groups into one RDB file: the parts between beginning and end, one
/// behind the other, and one checksum over all of it.
fn join_files(files: Vec<(GroupId, u64, Box<dyn SnapshotSource>)>, path: &Path) -> io::Result<()> {
    let unfinished = path.with_extension("tmp");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&unfinished)?);
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Redis);
    let mut put = |out: &mut BufWriter<File>, bytes: &[u8]| {
        digest.update(bytes);
        out.write_all(bytes)
    };
    for (place, (_, bytes, mut source)) in files.into_iter().enumerate() {
        let skipped = if place == 0 { 0 } else { MAGIC_BYTES };
        source.seek(io::SeekFrom::Start(skipped))?;
        let mut part = source.take(bytes.saturating_sub(END_BYTES + skipped));
        let mut piece = vec![0; 1 << 20];
        loop {
            let read = part.read(&mut piece)?;
            if read == 0 {
                break;
            }
            put(&mut out, &piece[..read])?;
        }
    }
    put(&mut out, &[0xff])?;
    out.write_all(&digest.finalize().to_le_bytes())?;
    out.flush()?;
    out.get_ref().sync_all()?;
    std::fs::rename(&unfinished, path)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
