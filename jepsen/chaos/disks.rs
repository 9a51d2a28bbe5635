//! Disks whose power fails: a file system of its own for each node, in an image behind a loop device.
//!
//! The end is the file system's own shutdown, without a flush of its journal: what was not fsynced is gone, also from
//! the cache, which SIGKILL alone leaves. Until it is mounted anew every write fails with EIO. Needs root.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

const IMAGE_BYTES: u64 = 2 << 30;
/// What a full disk has left: less than the nodes' `disk-reserve`, more than half of it.
const LEFT_BYTES: u64 = 192 << 20;
/// `EXT4_IOC_SHUTDOWN` is `_IOR('X', 125, u32)`, its flag 2 says not to flush the journal.
const SHUTDOWN: &str =
    "for (@ARGV) { my $flag = pack('L', 2); open(my $f, '<', $_) or die $!; ioctl($f, 0x8004587d, $flag) or die $!; }";

/// The disks of all nodes; unmounted with the run.
#[derive(Debug, Default)]
pub struct Disks {
    folders: Vec<PathBuf>,
}

fn run(program: &str, arguments: &[&str], paths: &[&Path]) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).args(paths).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().with_context(|| format!("{program} cannot be started"))?;
    anyhow::ensure!(status.success(), "{program} {arguments:?} {paths:?}: {status}");
    Ok(())
}

impl Disks {
    /// A disk in each of these folders, mounted at its folder `disk`.
    ///
    /// # Errors
    /// Where file systems cannot be made or mounted.
    pub fn make(folders: Vec<PathBuf>) -> anyhow::Result<Disks> {
        let mut disks = Disks::default();
        for folder in folders {
            let image = folder.join("image");
            std::fs::create_dir_all(folder.join("disk"))?;
            File::create(&image)?.set_len(IMAGE_BYTES)?;
            let quick = ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
            run("mkfs.ext4", &quick, &[&image])?;
            disks.folders.push(folder);
            disks.mount(disks.folders.len() - 1)?;
        }
        Ok(disks)
    }

    /// Whether this machine can do it, or why not.
    ///
    /// # Errors
    /// With the reason.
    pub fn try_out(folder: &Path) -> anyhow::Result<()> {
        let folder = folder.join("try");
        let disks = Disks::make(vec![folder.clone()]);
        let failed = disks.and_then(|disks| disks.fail(&[0]));
        std::fs::remove_dir_all(folder)?;
        failed.context("needs root, loop devices, mkfs.ext4 and perl")
    }

    fn mount(&self, at: usize) -> anyhow::Result<()> {
        run("mount", &["-o", "loop,noatime"], &[&self.folders[at].join("image"), &self.folders[at].join("disk")])
    }

    fn unmount(&self, at: usize) -> anyhow::Result<()> {
        run("umount", &[], &[&self.folders[at].join("disk")])
    }

    /// From now on these take no byte, and what was not fsynced is gone.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn fail(&self, which: &[usize]) -> anyhow::Result<()> {
        let folders: Vec<PathBuf> = which.iter().map(|at| self.folders[*at].join("disk")).collect();
        let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
        run("perl", &["-e", SHUTDOWN], &folders)
    }

    /// They come back with what is left; nobody may use them meanwhile.
    ///
    /// # Errors
    /// When one cannot be mounted.
    pub fn come_back(&self, which: &[usize]) -> anyhow::Result<()> {
        which.iter().try_for_each(|at| self.unmount(*at).and_then(|()| self.mount(*at)))
    }

    fn ballast(&self, at: usize) -> PathBuf {
        self.folders[at].join("disk/ballast")
    }

    /// They are nearly full.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn fill(&self, which: &[usize]) -> anyhow::Result<()> {
        for at in which {
            let room = rustix::fs::statvfs(self.folders[*at].join("disk"))?;
            let bytes = (room.f_bavail * room.f_frsize).saturating_sub(LEFT_BYTES);
            run("fallocate", &["-l", &bytes.to_string()], &[&self.ballast(*at)])?;
        }
        Ok(())
    }

    /// They have room again.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn empty(&self, which: &[usize]) -> anyhow::Result<()> {
        which.iter().try_for_each(|at| Ok(std::fs::remove_file(self.ballast(*at))?))
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for at in 0..self.folders.len() {
            let _ = self.unmount(at);
        }
    }
}
