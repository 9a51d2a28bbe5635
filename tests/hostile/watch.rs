//! What must not change while somebody misbehaves: the latency of others, memory, leaders.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::support::{Connection, bulk};

/// Between two commands of the bystander.
const PAUSE: Duration = Duration::from_millis(2);

/// A well-behaved client beside the others; it writes and reads until it is asked how that was.
pub struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Duration, u64)>,
}

impl Bystander {
    pub fn start(port: u16) -> Bystander {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut c, mut worst, mut count) = (Connection::open(port), Duration::ZERO, 0);
            while !asked.load(Ordering::Relaxed) {
                let (begin, value) = (Instant::now(), format!("v{count}"));
                c.ok(&["SET", "bystander", &value]);
                assert_eq!(c.call(&["GET", "bystander"]), bulk(&value));
                worst = worst.max(begin.elapsed());
                count += 1;
                std::thread::sleep(PAUSE);
            }
            (worst, count)
        });
        Bystander { stop, thread }
    }

    /// Fails unless each pair of SET and GET took less than `most`.
    pub fn end(self, what: &str, most: Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let (worst, count) = self.thread.join().expect("the bystander is served");
        println!("{what}: {count} turns of a bystander, the worst took {worst:?}");
        assert!(count > 0 && worst < most, "{what}: {worst:?} for a bystander");
    }
}

/// Resident memory of the process that answers here, in bytes.
pub fn resident(c: &mut Connection) -> u64 {
    let pid = c.info("process_id");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process of ours");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Fails when more than `most` bytes were added to `before`.
pub fn grew_at_most(what: &str, c: &mut Connection, before: u64, most: u64) {
    let grown = resident(c).saturating_sub(before);
    println!("{what}: {} KiB more", grown / 1024);
    assert!(grown <= most, "{what}: {grown} bytes more");
}
