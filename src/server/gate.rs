//! CLIENT PAUSE: commands wait here until the pause ends.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What a pause holds back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pause {
    /// Commands that may change something.
    Writes,
    /// Everything.
    All,
}

#[derive(Debug, Default)]
pub(crate) struct Gate {
    shut: AtomicBool,
    state: Mutex<Option<(Pause, Instant)>>,
    opened: Notify,
}

impl Gate {
    /// Pauses. A pause is never shortened or weakened by another one, as in Redis.
    pub fn pause(&self, what: Pause, time: Duration) {
        let mut state = self.state.lock();
        let until = Instant::now().checked_add(time).unwrap_or_else(far_future);
        *state = match *state {
            Some((old, old_until)) if old_until > Instant::now() => {
                let what = if old == Pause::All { Pause::All } else { what };
                Some((what, until.max(old_until)))
            }
            _ => Some((what, until)),
        };
        self.shut.store(true, Ordering::Release);
    }

    /// Ends the pause.
    pub fn unpause(&self) {
        *self.state.lock() = None;
        self.shut.store(false, Ordering::Release);
        self.opened.notify_waiters();
    }

    /// Whether there is a pause.
    pub fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Acquire)
    }

    /// Whether a command has to wait, and until when at most; asks whether it may change something.
    pub fn holds(&self, may_change: impl FnOnce() -> bool) -> Option<Instant> {
        if !self.is_shut() {
            return None;
        }
        let (what, until) = (*self.state.lock())?;
        if until <= Instant::now() {
            self.unpause();
            return None;
        }
        (what == Pause::All || may_change()).then_some(until)
    }

    /// Waits for the end of the pause.
    pub async fn wait(&self, until: Instant) {
        let opened = self.opened.notified();
        if self.is_shut() {
            let _ = tokio::time::timeout_at(until.into(), opened).await;
        }
    }

    /// What is paused and for how long yet.
    pub fn state(&self) -> Option<(Pause, Duration)> {
        let (what, until) = (*self.state.lock())?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some((what, left))
    }
}

/// A year: nobody waits longer.
fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(365 * 24 * 3600)
}
