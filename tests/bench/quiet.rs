//! Waiting for a quiet machine.
//!
//! A build or another benchmark beside a run spoils it. With `--patience` the harness waits until
//! others leave the processors alone before a run, and repeats a run that was disturbed. Patience
//! is one budget for the whole program: when it is used up, runs are taken as they come, and the
//! report shows how much the others used.

use crate::cpu::Usage;
use crate::interrupt;
use anyhow::Result;
use std::time::{Duration, Instant};

/// Others that use more of one processor than this disturb. Some is always used by the kernel,
/// which does part of the network's and the disk's work on nobody's account.
const OTHERS_SHARE_MAX: f64 = 0.2;
/// Long enough to see a hundredth of a processor in ticks.
const LOOK: Duration = Duration::from_millis(500);

/// What is left of the time that may be spent on waiting and repeating.
#[derive(Debug)]
pub struct Patience(Duration);

/// Whether others used too much of the processors.
pub fn is_disturbed(usage: &Usage, elapsed: Duration) -> bool {
    usage.others.as_secs_f64() > OTHERS_SHARE_MAX * elapsed.as_secs_f64()
}

impl Patience {
    pub fn new(time: Duration) -> Patience {
        Patience(time)
    }

    /// Returns when others have been quiet for a moment, or when patience has run out.
    pub fn wait(&mut self, roots: &[u32]) -> Result<()> {
        while !self.0.is_zero() {
            interrupt::check()?;
            let (start, before) = (Instant::now(), Usage::now(roots)?);
            std::thread::sleep(LOOK.min(self.0));
            let elapsed = start.elapsed();
            if !is_disturbed(&Usage::now(roots)?.since(before), elapsed) {
                break;
            }
            self.0 = self.0.saturating_sub(elapsed);
        }
        Ok(())
    }

    /// Whether a disturbed run that took so long may be repeated.
    pub fn allows_repeating(&mut self, elapsed: Duration) -> bool {
        let allowed = self.0 >= elapsed;
        self.0 = self.0.saturating_sub(elapsed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_a_processor_disturbs() {
        let usage = |millis| Usage { others: Duration::from_millis(millis), ..Usage::default() };
        assert!(!is_disturbed(&usage(199), Duration::from_secs(1)));
        assert!(is_disturbed(&usage(201), Duration::from_secs(1)));
    }

    #[test]
    fn patience_runs_out() {
        let mut patience = Patience::new(Duration::from_secs(8));
        assert!(patience.allows_repeating(Duration::from_secs(5)));
        assert!(!patience.allows_repeating(Duration::from_secs(5)));
        let start = Instant::now();
        patience.wait(&[]).expect("proc");
        assert!(start.elapsed() < LOOK, "no patience is left to wait with");
    }
}
