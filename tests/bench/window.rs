//! The measured window: what counts, until when, and the numbers that come out.
//!
//! Both load clients (RESP and gRPC) share it, so that throughput and latency mean the same on
//! every side.
//!
//! Invariants:
//! * a window is bounded in time and in count, whichever comes first;
//! * only operations that complete inside the window are counted; what is still in flight at its
//!   end is received and checked, but not counted;
//! * a server that stays silent for `SILENCE_MAX` ends the run with an error.

use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

/// Silence after which a server counts as hung.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);
/// No run lasts longer, even when it is bounded by count.
pub const TIME_MAX: Duration = Duration::from_secs(300);
/// No run is longer, even when it is bounded by time.
const OPERATIONS_MAX: u64 = 1_000_000_000;

/// How long a load runs.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub time: Duration,
    pub operations: u64,
}

impl Limit {
    pub fn time(time: Duration) -> Limit {
        Limit { time: time.min(TIME_MAX), operations: OPERATIONS_MAX }
    }

    pub fn operations(operations: u64) -> Limit {
        Limit { time: TIME_MAX, operations: operations.min(OPERATIONS_MAX) }
    }
}

/// The numbers of one run on one side.
#[derive(Clone, Debug)]
pub struct Sample {
    pub operations: u64,
    pub elapsed: Duration,
    /// Latencies at the 50th, 99th and 99.9th percentile.
    pub latency: [Duration; 3],
}

impl Sample {
    /// Operations per second.
    pub fn throughput(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// A window while it is open.
#[derive(Debug)]
pub struct Window {
    limit: Limit,
    started: Instant,
    deadline: Instant,
    issued: u64,
    completed: u64,
    progress: Instant,
    /// In microseconds, with three significant digits.
    latencies: Histogram<u64>,
}

impl Window {
    pub fn open(limit: Limit) -> Window {
        let started = Instant::now();
        let latencies = Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are constants");
        let deadline = started + limit.time;
        Window { limit, started, deadline, issued: 0, completed: 0, progress: started, latencies }
    }

    /// Whether `operations` more may be sent at `now`; if so they are counted as sent.
    pub fn issue(&mut self, now: Instant, operations: u64) -> bool {
        let open = now < self.deadline && self.issued < self.limit.operations;
        if open {
            self.issued += operations;
        }
        open
    }

    /// Records `operations` that were sent at `sent` and answered at `now`.
    pub fn complete(&mut self, sent: Instant, now: Instant, operations: u64) {
        self.progress = now;
        if now <= self.deadline {
            self.completed += operations;
            let micros = now.saturating_duration_since(sent).as_micros() as u64;
            self.latencies.saturating_record_n(micros.max(1), operations);
        }
    }

    /// Whether nothing has been answered for too long.
    pub fn is_stalled(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.progress) > SILENCE_MAX
    }

    /// Closes the window.
    pub fn close(self) -> Sample {
        // A window that ended by count is as long as its work took, one that ended by time is as
        // long as was asked for.
        let ended = if self.issued >= self.limit.operations { self.progress } else { self.deadline };
        let elapsed = ended.min(self.deadline).saturating_duration_since(self.started);
        let at = |q| Duration::from_micros(self.latencies.value_at_quantile(q));
        Sample { operations: self.completed, elapsed, latency: [at(0.5), at(0.99), at(0.999)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_by_count_issues_no_more_than_asked() {
        let mut window = Window::open(Limit::operations(20));
        let start = window.started;
        assert!(window.issue(start, 16));
        assert!(window.issue(start, 16), "a batch is never cut");
        assert!(!window.issue(start, 16));
        window.complete(start, start + Duration::from_millis(2), 32);
        let sample = window.close();
        assert_eq!(sample.operations, 32);
        assert_eq!(sample.elapsed, Duration::from_millis(2));
        assert_eq!(sample.throughput().round(), 16_000.0);
    }

    #[test]
    fn what_completes_after_the_deadline_does_not_count() {
        let mut window = Window::open(Limit::time(Duration::from_secs(1)));
        let start = window.started;
        assert!(window.issue(start, 2));
        window.complete(start, start + Duration::from_millis(500), 1);
        window.complete(start, start + Duration::from_millis(1500), 1);
        assert!(!window.issue(start + Duration::from_secs(1), 1));
        let sample = window.close();
        assert_eq!(sample.operations, 1);
        assert_eq!(sample.elapsed, Duration::from_secs(1));
        let p50 = sample.latency[0].as_millis();
        assert!((499..=501).contains(&p50), "p50 was {p50} ms");
    }

    #[test]
    fn silence_is_noticed() {
        let window = Window::open(Limit::time(Duration::from_secs(1)));
        assert!(!window.is_stalled(window.started + SILENCE_MAX));
        assert!(window.is_stalled(window.started + SILENCE_MAX + Duration::from_millis(1)));
    }
}
