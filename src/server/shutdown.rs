//! The wish to stop: from SHUTDOWN, from a signal, from a dead group.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Shutdown {
    wanted: AtomicBool,
    notify: Notify,
}

impl Shutdown {
    /// Asks the process to stop.
    pub fn request(&self) {
        self.wanted.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    /// Waits until somebody asks.
    pub async fn requested(&self) {
        let notified = self.notify.notified();
        if !self.wanted.load(Ordering::Acquire) {
            notified.await;
        }
    }
}
