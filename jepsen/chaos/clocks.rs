//! Wall clocks that jump and drift: libfaketime between a node and the system.
//!
//! The offset of each node is in a file that it reads whenever it asks for the time. Its monotonic clock stays what
//! it is. A clock that drifts is as far off at once as it would be had it drifted since the node's start, and what the
//! node waits for comes as much too early or too late.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// How far a clock jumps.
pub const HOUR_S: i64 = 3600;
/// A clock that jumps back and forth stays for so long.
const STROBE_MS: u64 = 100;

/// The wall clocks of all nodes.
#[derive(Debug)]
pub struct Clocks {
    library: PathBuf,
    files: Vec<PathBuf>,
}

/// The library, where it is installed.
fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|library| library.exists())
}

impl Clocks {
    /// Clocks that are right, with a file in each of these folders.
    ///
    /// # Errors
    /// When libfaketime is not installed.
    pub fn make(folders: &[PathBuf]) -> anyhow::Result<Clocks> {
        let library = library().context("needs libfaketime, of Debian's package faketime")?;
        let clocks = Clocks { library, files: folders.iter().map(|folder| folder.join("wall")).collect() };
        (0..clocks.files.len()).try_for_each(|at| clocks.set(at, 0))?;
        Ok(clocks)
    }

    /// What a node has to be started with.
    pub fn environment(&self, at: usize) -> Vec<(String, String)> {
        let path = |path: &Path| path.display().to_string();
        let words = [
            ("LD_PRELOAD", path(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", path(&self.files[at])),
            ("FAKETIME_NO_CACHE", "1".to_string()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_string()),
        ];
        words.map(|(name, value)| (name.to_string(), value)).into()
    }

    /// The node's wall clock is so many seconds ahead from now on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set(&self, at: usize, ahead_s: i64) -> anyhow::Result<()> {
        // A rate that was set stays until another one is.
        self.write(at, &format!("{ahead_s:+} x1"))
    }

    /// The clock is ahead or right, as it is at this time for one that jumps back and forth.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn strobe(&self, at: usize, time_ms: u64) -> anyhow::Result<()> {
        self.set(at, if (time_ms / STROBE_MS).is_multiple_of(2) { HOUR_S } else { 0 })
    }

    /// It runs half as fast again at one node, and half as fast at the next.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn drift(&self, at: usize) -> anyhow::Result<()> {
        self.write(at, if at.is_multiple_of(2) { "+0 x1.5" } else { "+0 x0.5" })
    }

    fn write(&self, at: usize, time: &str) -> anyhow::Result<()> {
        // Replaced as a whole: the node may be reading it.
        let new = self.files[at].with_extension("new");
        std::fs::write(&new, format!("{time}\n"))?;
        Ok(std::fs::rename(new, &self.files[at])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_jumps_several_times_a_second_and_is_right_again() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("wall");
        let clocks = Clocks { library: PathBuf::new(), files: vec![file.clone()] };
        let said = |time| {
            clocks.strobe(0, time).unwrap();
            std::fs::read_to_string(&file).unwrap()
        };
        let times: Vec<String> = (0..1000).step_by(50).map(said).collect();
        assert!(times.windows(2).filter(|pair| pair[0] != pair[1]).count() >= 4, "{times:?}");
        clocks.set(0, 0).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "+0 x1\n");
    }
}
