//! A group's clock: Unix milliseconds that never decrease along the log.
//!
//! The leader advances it by its monotonic clock and lets wall time steer it by at most one percent, so
//! a jump of the wall clock moves no deadline. Followers keep the last clock they heard and add their
//! own monotonic time, so a new leader neither resets nor lengthens a deadline. Only when nothing was
//! heard since the process started (a cold start) does the wall clock count as it is.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::seam::Clock;

/// The clock of one group on one node.
pub struct GroupClock {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    /// The clock at `at`, in microseconds.
    value_us: u64,
    /// When, on the monotonic clock.
    at: Duration,
    /// A leader's clock was heard since the process started.
    heard: bool,
}

impl GroupClock {
    /// Starts from the wall clock, which [`GroupClock::committed`] corrects upwards.
    pub fn new(clock: Arc<dyn Clock>) -> GroupClock {
        let state = State { value_us: clock.wall_ms() * 1000, at: clock.monotonic(), heard: false };
        GroupClock { clock, state: Mutex::new(state) }
    }

    /// The present estimate, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        let state = self.state.lock();
        let passed = self.clock.monotonic().saturating_sub(state.at);
        (state.value_us + passed.as_micros() as u64) / 1000
    }

    /// A leader said what its clock was.
    pub fn hear(&self, leader_ms: u64) {
        let mut state = self.state.lock();
        state.at = self.clock.monotonic();
        // The message took time, so what is heard is a lower bound of the leader's present clock.
        state.value_us = leader_ms * 1000;
        state.heard = true;
    }

    /// The clock of an entry that was applied: the estimate is never below it.
    pub fn committed(&self, committed_ms: u64) {
        let mut state = self.state.lock();
        let now = self.clock.monotonic();
        let estimate = state.value_us + now.saturating_sub(state.at).as_micros() as u64;
        if estimate < committed_ms * 1000 {
            state.value_us = committed_ms * 1000;
            state.at = now;
        }
    }

    /// The leader's steering towards wall time, called about every heartbeat: at most one percent.
    pub fn steer(&self) {
        let mut state = self.state.lock();
        let now = self.clock.monotonic();
        let passed = now.saturating_sub(state.at).as_micros() as u64;
        let estimate = state.value_us + passed;
        let wall = self.clock.wall_ms() * 1000;
        let step_max = passed / 100;
        let steered = if wall > estimate {
            estimate + (wall - estimate).min(step_max)
        } else {
            estimate - (estimate - wall).min(step_max)
        };
        state.value_us = steered;
        state.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Default)]
    struct Hands {
        monotonic_ms: AtomicU64,
        wall_ms: AtomicU64,
    }

    impl Clock for Hands {
        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.monotonic_ms.load(Ordering::Relaxed))
        }
        fn boottime(&self) -> Duration {
            self.monotonic()
        }
        fn wall_ms(&self) -> u64 {
            self.wall_ms.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_wall_clock_jump_moves_it_by_one_percent_at_most() {
        let hands = Arc::new(Hands::default());
        hands.wall_ms.store(1_000_000, Ordering::Relaxed);
        let clock = GroupClock::new(hands.clone());
        hands.wall_ms.store(5_000_000, Ordering::Relaxed);
        hands.monotonic_ms.store(10_000, Ordering::Relaxed);
        clock.steer();
        assert_eq!(clock.now_ms(), 1_000_000 + 10_000 + 100);
        hands.wall_ms.store(0, Ordering::Relaxed);
        hands.monotonic_ms.store(20_000, Ordering::Relaxed);
        let before = clock.now_ms();
        clock.steer();
        assert_eq!(before - clock.now_ms(), 100);
    }

    #[test]
    fn a_follower_goes_on_from_what_it_heard() {
        let hands = Arc::new(Hands::default());
        hands.wall_ms.store(9_000_000, Ordering::Relaxed);
        let clock = GroupClock::new(hands.clone());
        clock.hear(500);
        hands.monotonic_ms.store(70, Ordering::Relaxed);
        assert_eq!(clock.now_ms(), 570);
        clock.committed(600);
        assert_eq!(clock.now_ms(), 600);
        clock.committed(10);
        assert_eq!(clock.now_ms(), 600);
    }
}
