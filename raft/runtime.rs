//! openraft's async runtime: tokio, with a random generator that a simulation can seed, and ticks in step.
//!
//! openraft draws election timeouts from `thread_rng`. In production every thread seeds itself from the
//! operating system; a simulation runs on one thread and calls [`seed_thread`] first, after which the
//! whole run is a function of that seed.
//!
//! openraft wants a tick of each group five times between two heartbeats, at a phase of the group's own, and does
//! nothing at most of them. All groups wake on one grid of the process here, twice between two heartbeats: a node
//! with many idle groups wakes up once for all, and the heartbeats to a peer leave in one write. A tick comes late by
//! one step of the grid at most, so a follower that hears nobody stands for election by so much later. The hosts of a
//! simulation have a clock each, and therefore no grid.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft_rt::{AsyncRuntime, Instant as _, OptionalSend};
use openraft_rt_tokio::TokioRuntime;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// openraft waits a microsecond for more news from the disk, which tokio's timer would make a millisecond.
const NO_WAIT: Duration = Duration::from_micros(100);
/// Between two instants at which ticks come, in microseconds; 0 where each comes at its own.
static GRID_US: AtomicU64 = AtomicU64::new(0);

type Instant = <TokioRuntime as AsyncRuntime>::Instant;

thread_local! {
    static GENERATOR: RefCell<Option<SmallRng>> = const { RefCell::new(None) };
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
}

/// Makes everything random on this thread a function of `seed`, and leaves ticks where they fall.
pub fn seed_thread(seed: u64) {
    SIMULATED.set(true);
    GENERATOR.with_borrow_mut(|g| *g = Some(SmallRng::seed_from_u64(seed)));
}

/// Ticks come on a grid from now on: twice between two heartbeats, and a little later, so that a heartbeat which is
/// due when the time between them is over does not wait for the tick behind.
pub fn tick_with_heartbeats_of(every: Duration) {
    GRID_US.store(every.as_micros() as u64 * 13 / 25, Ordering::Relaxed);
}

/// The first instant of the grid that is not before `at`.
fn on_grid(at: Instant) -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let grid = GRID_US.load(Ordering::Relaxed);
    let now = Instant::now();
    if at.saturating_duration_since(now) < NO_WAIT {
        return now;
    }
    if SIMULATED.get() || grid == 0 {
        return at;
    }
    let origin = *ORIGIN.get_or_init(Instant::now);
    let passed = at.saturating_duration_since(origin).as_micros() as u64;
    origin + Duration::from_micros((passed + 1).next_multiple_of(grid))
}

/// The next random number of this thread.
pub fn random_u64() -> u64 {
    GENERATOR.with_borrow_mut(|g| g.get_or_insert_with(|| SmallRng::from_rng(&mut rand::rng())).next_u64())
}

/// tokio with a seedable generator.
#[derive(Debug)]
pub struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = SmallRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(on_grid(deadline))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> SmallRng {
        SmallRng::seed_from_u64(random_u64())
    }

    fn new(threads: usize) -> Runtime {
        Runtime(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_that_no_timer_can_keep_are_none() {
        let soon = Instant::now() + Duration::from_micros(50);
        assert!(on_grid(soon) < soon);
    }

    #[test]
    fn ticks_wake_together_and_never_early() {
        tick_with_heartbeats_of(Duration::from_millis(100));
        let grid = Duration::from_millis(52);
        let begin = Instant::now();
        let times: Vec<Instant> = (10..110).map(|n| begin + Duration::from_micros(n * 1331)).collect();
        let mut woken: Vec<Instant> = times.iter().map(|at| on_grid(*at)).collect();
        assert!(times.iter().zip(&woken).all(|(at, woken)| woken >= at && *woken <= *at + grid));
        woken.dedup();
        assert!(woken.len() <= 4, "133 ms are {} instants", woken.len());
    }
}
