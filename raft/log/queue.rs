//! What waits for the log, in the order of its arrival.
//!
//! A job that somebody waits for wakes the thread. One that nobody waits for lies here until another comes, whose
//! write it then shares, but no longer than [`LINGER`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// A job that nobody waits for is written after this time at the latest.
const LINGER: Duration = Duration::from_millis(200);
/// No more of them lie here.
const LINGERING_MAX: usize = 64;

/// See the module.
pub struct Queue<J> {
    state: Mutex<State<J>>,
    news: Condvar,
}

struct State<J> {
    jobs: VecDeque<J>,
    /// Since when the oldest of them, or one in front of it, has been here.
    since: Instant,
    /// The thread is to write.
    urgent: bool,
    /// The thread is to look what is due.
    look: bool,
    /// The thread waits without an end.
    asleep: bool,
}

/// Why the thread goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Woken {
    /// There are jobs to be written.
    Jobs,
    /// Something else may be due soon.
    Look,
    /// The time is up.
    Due,
}

impl<J> Default for Queue<J> {
    fn default() -> Queue<J> {
        let (jobs, since) = (VecDeque::new(), Instant::now());
        let state = State { jobs, since, urgent: false, look: false, asleep: false };
        Queue { state: Mutex::new(state), news: Condvar::new() }
    }
}

impl<J> Queue<J> {
    /// Adds a job that the thread is to write at once.
    pub fn push(&self, job: J) {
        let mut state = self.state.lock();
        state.jobs.push_back(job);
        state.urgent = true;
        drop(state);
        self.news.notify_one();
    }

    /// Adds a job for which the thread need not be woken: it has time, or whoever adds it writes it.
    pub fn put(&self, job: J) {
        let mut state = self.state.lock();
        if state.jobs.is_empty() {
            state.since = Instant::now();
        }
        state.jobs.push_back(job);
        state.urgent |= state.jobs.len() > LINGERING_MAX;
        // From then on it waits with an end.
        if std::mem::take(&mut state.asleep) || state.urgent {
            self.news.notify_one();
        }
    }

    /// Has the thread look what is due.
    pub fn look(&self) {
        self.state.lock().look = true;
        self.news.notify_one();
    }

    /// Takes the oldest job.
    pub fn pop(&self) -> Option<J> {
        let mut state = self.state.lock();
        let job = state.jobs.pop_front();
        state.urgent &= !state.jobs.is_empty();
        job
    }

    /// Waits until there is something to do, at most for so long.
    pub fn wait(&self, due_in: Option<Duration>) -> Woken {
        let due_at = due_in.map(|left| Instant::now() + left);
        let mut state = self.state.lock();
        loop {
            if state.urgent {
                return Woken::Jobs;
            }
            if std::mem::take(&mut state.look) {
                return Woken::Look;
            }
            let late_at = (!state.jobs.is_empty()).then(|| state.since + LINGER);
            let now = Instant::now();
            if late_at.is_some_and(|at| at <= now) {
                return Woken::Jobs;
            }
            match late_at.into_iter().chain(due_at).min() {
                Some(at) if at <= now => return Woken::Due,
                Some(at) => drop(self.news.wait_until(&mut state, at)),
                None => {
                    state.asleep = true;
                    self.news.wait(&mut state);
                    state.asleep = false;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn what_has_time_waits_for_what_has_none() {
        let queue = Queue::default();
        queue.put(1);
        assert_eq!(queue.wait(NOW), Woken::Due);
        queue.push(2);
        queue.put(3);
        assert_eq!(queue.wait(None), Woken::Jobs);
        assert_eq!([queue.pop(), queue.pop()], [Some(1), Some(2)]);
        assert_eq!([queue.pop(), queue.pop()], [Some(3), None]);
        assert_eq!(queue.wait(NOW), Woken::Due, "what was taken is not waited for");
    }

    #[test]
    fn what_has_time_does_not_pile_up() {
        let queue = Queue::default();
        (0..LINGERING_MAX).for_each(|number| queue.put(number));
        assert_eq!(queue.wait(NOW), Woken::Due);
        queue.put(LINGERING_MAX);
        assert_eq!(queue.wait(NOW), Woken::Jobs);
    }

    #[test]
    fn what_has_time_does_not_lie_for_ever() {
        let queue = std::sync::Arc::new(Queue::default());
        let other = queue.clone();
        let thread = std::thread::spawn(move || (other.wait(None), other.pop()));
        queue.put(7);
        assert_eq!(thread.join().expect("no panic"), (Woken::Jobs, Some(7)));
    }
}
