//! Promises about time hold on a machine that does nothing else: a test of one is repeated when it failed while
//! other programs used the processors, and never otherwise.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Times that a disturbed test is tried.
const ATTEMPTS_MAX: usize = 5;
/// A quarter of the shortest election timeout.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Cores that others may use.
const OTHERS_MAX: f64 = 0.3;
/// The parent of the kernel's own threads.
const KERNEL: u32 = 2;
/// Units of /proc per second.
const TICKS: f64 = 100.0;

/// Tries until it holds, or fails while nothing disturbed it.
pub fn undisturbed(mut attempt: impl FnMut() -> Result<(), String>) {
    for left in (0..ATTEMPTS_MAX).rev() {
        let (others, since) = (others(), Instant::now());
        let (result, pause) = longest_pause(&mut attempt);
        let Err(text) = result else { return };
        let others = (self::others() - others) / since.elapsed().as_secs_f64();
        let what = format!("{text}; other programs used {others:.2} cores, the longest pause was {pause:?}");
        assert!(left > 0 && (pause > PAUSE_MAX || others > OTHERS_MAX), "{what}");
        println!("once more: {what}");
    }
}

/// How long a thread that only sleeps was kept from running, at the worst, while `work` ran.
fn longest_pause<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    const NAP: Duration = Duration::from_millis(10);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                std::thread::sleep(NAP);
                longest = longest.max(began.elapsed() - NAP);
            }
            longest
        });
        let result = work();
        over.store(true, Ordering::Relaxed);
        (result, watch.join().expect("it only sleeps"))
    })
}

/// Seconds of processor time that neither this process, nor one it started, nor a thread of the kernel has used.
fn others() -> f64 {
    let stat = fs::read_to_string("/proc/stat").expect("Linux");
    let all = stat.lines().next().expect("a line for all processors").split_whitespace().skip(1).take(8);
    // Idle and waiting for a disk are the fourth and the fifth.
    let busy = all.enumerate().filter(|(at, _)| ![3, 4].contains(at)).filter_map(|(_, n)| n.parse::<u64>().ok());
    let own = std::process::id();
    let used = fs::read_dir("/proc").expect("Linux").flatten().filter_map(|process| {
        let text = fs::read_to_string(process.path().join("stat")).ok()?;
        let (head, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let parent: u32 = fields.get(1)?.parse().ok()?;
        let ours = head.starts_with(&format!("{own} (")) || parent == own || parent == KERNEL;
        // utime, stime, and those of its children that have ended.
        ours.then(|| fields.get(11..15).into_iter().flatten().filter_map(|n| n.parse::<u64>().ok()).sum::<u64>())
    });
    let used: u64 = used.sum();
    busy.sum::<u64>().saturating_sub(used) as f64 / TICKS
}
