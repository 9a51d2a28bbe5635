//! The power of all nodes fails under load: nothing that was acknowledged is missing afterwards.
//!
//! Each data folder is on a file system of its own, in an image behind a loop device, and its end is
//! the file system's own shutdown without a flush of its journal: what was not fsynced is gone, also from
//! the cache, which SIGKILL alone leaves. Needs root; without it the test says that it was skipped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quoris_resp::{Argv, Reply};
use tempfile::TempDir;

use super::client::{Client, Outcome};
use super::process::{Cluster, Shape};

const NODES: usize = 3;
/// `QUORIS_POWER_ROUNDS` asks for more.
const ROUNDS: usize = 3;
const WRITERS: usize = 6;
const IMAGE_BYTES: u64 = 2 << 30;
/// Acknowledged writes before the power fails.
const WRITES_PER_ROUND: u64 = 400;
const WITHIN: Duration = Duration::from_secs(30);
/// `EXT4_IOC_SHUTDOWN` is `_IOR('X', 125, u32)`, its flag 2 says not to flush the journal.
const SHUTDOWN: &str =
    "for (@ARGV) { my $flag = pack('L', 2); open(my $f, '<', $_) or die $!; ioctl($f, 0x8004587d, $flag) or die $!; }";

/// A file system in an image for each node; gone with the test.
struct Images(TempDir);

fn run(program: &str, arguments: &[&str], path: &[&Path]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).args(path).stdin(Stdio::null()).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Images {
    /// Nothing where file systems cannot be made or mounted.
    fn new() -> Option<Images> {
        let images = Images(TempDir::with_prefix("quoris-power-").expect("a temporary folder"));
        for at in 0..NODES {
            let image = images.image(at);
            std::fs::create_dir(images.folder(at)).expect("a folder");
            std::fs::File::create(&image).and_then(|file| file.set_len(IMAGE_BYTES)).expect("an image");
            if !run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"], &[&image])
                || !images.mount(at)
            {
                return None;
            }
        }
        Some(images)
    }

    fn image(&self, at: usize) -> PathBuf {
        self.0.path().join(format!("image-{at}"))
    }

    fn folder(&self, at: usize) -> PathBuf {
        self.0.path().join(format!("mount-{at}"))
    }

    fn mount(&self, at: usize) -> bool {
        run("mount", &["-o", "loop,noatime"], &[&self.image(at), &self.folder(at)])
    }

    fn unmount(&self, at: usize) -> bool {
        run("umount", &[], &[&self.folder(at)])
    }

    /// All at once.
    fn fail(&self) {
        let folders: Vec<PathBuf> = (0..NODES).map(|at| self.folder(at)).collect();
        let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
        assert!(run("perl", &["-e", SHUTDOWN], &folders), "the file systems are shut down");
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        for at in 0..NODES {
            let _ = self.unmount(at);
        }
    }
}

/// Ends the writers, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One writer's keys: `w<writer>:<n>` holds `n`.
fn write(
    port: u16,
    writer: usize,
    first: u64,
    stop: &AtomicBool,
    done: &AtomicU64,
    held: &Mutex<Vec<(usize, u64)>>,
) -> u64 {
    let mut client = Client::connect(port).expect("the node is ready");
    let mut n = first;
    while !stop.load(Ordering::Relaxed) {
        match client.call(&["SET", &format!("w{writer}:{n}"), &n.to_string()]) {
            Outcome::Done(Reply::Ok) => {
                held.lock().expect("no writer panics").push((writer, n));
                done.fetch_add(1, Ordering::Relaxed);
            }
            // It may have happened or not; its key is not used again.
            Outcome::Done(_) | Outcome::Refused(_) | Outcome::Unknown(_) | Outcome::Lost(_) => return n + 1,
        }
        n += 1;
    }
    n
}

fn missing(cluster: &Cluster, held: &[(usize, u64)]) -> Vec<(usize, u64)> {
    let mut client = Client::connect(cluster.nodes[0].port).expect("the node is ready");
    let mut missing = Vec::new();
    for keys in held.chunks(500) {
        let gets: Vec<Argv> =
            keys.iter().map(|(w, n)| Argv::from_parts(&["GET".to_string(), format!("w{w}:{n}")])).collect();
        let replies = client.pipeline(&gets).expect("replies");
        let wrong = keys.iter().zip(replies).filter(|((_, n), reply)| *reply != Reply::bulk(n.to_string()));
        missing.extend(wrong.map(|(key, _)| *key));
    }
    missing
}

#[test]
fn cluster_loses_nothing_when_the_power_fails() {
    let rounds: usize = std::env::var("QUORIS_POWER_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let Some(images) = Images::new() else {
        println!("skipped: file systems of its own need root, loop devices and mkfs.ext4");
        return;
    };
    let settings = &["--snapshot-log-bytes", "1048576"];
    let shape = Shape { nodes: NODES, groups: 1, factor: NODES, settings };
    let mut folders = (0..NODES).map(|at| images.folder(at));
    let mut cluster = Cluster::start_prepared(shape, |node| {
        let folder = folders.next().expect("one for each node");
        std::os::unix::fs::symlink(folder, node.data()).expect("a link to the file system");
    });
    let (mut held, mut next) = (Vec::new(), [0; WRITERS]);
    for round in 1..=rounds {
        let began = Instant::now();
        let (stop, done, now_held) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(Vec::new()));
        let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
        std::thread::scope(|scope| {
            let _stop = Stop(&stop);
            for (writer, next) in next.iter_mut().enumerate() {
                let (port, stop, done, held) = (ports[writer % NODES], &stop, &done, &now_held);
                scope.spawn(move || *next = write(port, writer, *next, stop, done, held));
            }
            let deadline = Instant::now() + WITHIN;
            while done.load(Ordering::Relaxed) < WRITES_PER_ROUND * (1 + round as u64 % 4) {
                assert!(Instant::now() < deadline, "round {round}: only {} writes", done.load(Ordering::Relaxed));
                std::thread::sleep(Duration::from_millis(1));
            }
            images.fail();
            cluster.kill(&[0, 1, 2]);
        });
        held.extend(now_held.into_inner().expect("no writer panics"));
        for at in 0..NODES {
            assert!(images.unmount(at) && images.mount(at), "the file system of node {} is back", at + 1);
        }
        (0..NODES).for_each(|at| cluster.restart(at));
        cluster.wait_until_ready();
        let missing = missing(&cluster, &held);
        assert!(missing.is_empty(), "round {round}: {} of {} are missing: {missing:?}", missing.len(), held.len());
        println!("round {round}: {} acknowledged writes are there, {:?}", held.len(), began.elapsed());
    }
    cluster.wait_for_equal_digests(WITHIN);
    drop(cluster);
}
