//! The two clocks of a read lease: the leader's, which ends early, and each voter's, which ends late.
//!
//! A leader that was confirmed by a quorum in a round that began at `t` answers reads from its own state until
//! `t` + [`READ_LEASE`], without asking anybody. That is safe because no voter helps to elect anybody before
//! [`VOTE_WINDOW`] has passed since its own last append from a leader. ADR 15 has the whole argument.
//!
//! Invariants: a lease counts from a moment before the appends that confirm it were sent; its end is read after
//! the read has arrived; a vote for somebody else and a transfer end it before they leave this node. A window
//! begins before the append is handed to Raft; a vote that overtook an append is not delivered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::mutant::{self, Mutant};
use crate::seam::Clock;

/// How long reads need no message after a quorum confirmed the leader. Shorter than the heartbeat: an idle
/// leader holds none, a busy one renews it.
pub const READ_LEASE: Duration = Duration::from_millis(80);
/// A read that finds a lease of this age has it renewed: soon enough that no read waits for a round that takes
/// up to half a lease, rare enough to cost nothing (25 rounds a second).
pub const RENEW_AFTER: Duration = Duration::from_millis(40);
/// How long a voter that heard a leader helps nobody else: [`READ_LEASE`] on a clock that is a quarter too slow
/// against the voter's, and 20 ms for a read lease that was measured a moment late.
pub const VOTE_WINDOW: Duration = Duration::from_millis(120);

/// Whether this replica, as a leader, may answer reads without asking.
pub struct ReadLease {
    clock: Arc<dyn Clock>,
    /// The end of the lease and the time to renew it, as nanoseconds of [`Clock::boottime`]; 0 when there is none.
    until: AtomicU64,
    renew_at: AtomicU64,
    /// Somebody was told to renew.
    renewing: AtomicBool,
    renew: Notify,
    /// The highest commit index that this node has told to anybody: others may have answered clients from it.
    told: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts what ends leases; a round that began before cannot establish one.
    generation: u64,
    /// Votes of this node that are being decided.
    holds: u64,
}

/// The beginning of a round that may establish a lease.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    generation: u64,
    start: Duration,
}

/// While it lives there is no lease, and a round that began before its end establishes none.
pub struct Hold<'a>(&'a ReadLease);

impl ReadLease {
    /// None is held.
    pub fn new(clock: Arc<dyn Clock>) -> ReadLease {
        ReadLease {
            clock,
            until: AtomicU64::new(0),
            renew_at: AtomicU64::new(0),
            renewing: AtomicBool::new(false),
            renew: Notify::new(),
            told: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// The index that a state must have applied to answer a read that has already arrived; nothing without a lease.
    pub fn covers_from(&self) -> Option<u64> {
        let until = self.until.load(Ordering::SeqCst);
        // Most nodes hold none: they need not look at the clock.
        if until == 0 {
            return None;
        }
        let now = self.clock.boottime().as_nanos() as u64;
        if now >= until {
            return None;
        }
        if now >= self.renew_at.load(Ordering::Relaxed) && !self.renewing.swap(true, Ordering::Relaxed) {
            self.renew.notify_one();
        }
        Some(self.told.load(Ordering::SeqCst))
    }

    /// Others are about to learn that everything up to `index` is committed.
    pub fn tell(&self, index: u64) {
        self.told.fetch_max(index, Ordering::SeqCst);
    }

    /// A round begins; nothing while a vote is being decided.
    pub fn begin(&self) -> Option<Round> {
        let state = self.state.lock();
        let start = self.clock.boottime();
        (state.holds == 0).then_some(Round { generation: state.generation, start })
    }

    /// A quorum has answered appends that were sent after the round began, and everything that was committed by
    /// then is applied here.
    pub fn establish(&self, round: Round) {
        let state = self.state.lock();
        if state.generation == round.generation {
            self.renew_at.store((round.start + RENEW_AFTER).as_nanos() as u64, Ordering::Relaxed);
            let lasts = if mutant::is(Mutant::LeaseTooLong) { READ_LEASE * 10 } else { READ_LEASE };
            self.until.store((round.start + lasts).as_nanos() as u64, Ordering::SeqCst);
        }
    }

    /// The round is over, whatever came of it.
    pub fn round_ended(&self) {
        self.renewing.store(false, Ordering::Relaxed);
    }

    /// Waits until a read wants the lease renewed.
    pub async fn wanted(&self) {
        self.renew.notified().await;
    }

    /// Ends the lease; rounds that are on their way establish none.
    pub fn revoke(&self) {
        self.end(&mut self.state.lock());
    }

    /// Ends the lease until the guard is dropped.
    pub fn hold(&self) -> Hold<'_> {
        let mut state = self.state.lock();
        state.holds += 1;
        self.end(&mut state);
        Hold(self)
    }

    fn end(&self, state: &mut State) {
        if mutant::is(Mutant::LeaseSurvivesTransfer) {
            return;
        }
        state.generation += 1;
        self.until.store(0, Ordering::SeqCst);
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.holds -= 1;
        self.0.end(&mut state);
    }
}

/// When this replica, as a voter, last heard a leader.
pub struct VoteWindow {
    clock: Arc<dyn Clock>,
    heard: Mutex<Heard>,
}

struct Heard {
    /// How often; tells whether something came in between.
    count: u64,
    monotonic: Duration,
    boottime: Duration,
}

impl VoteWindow {
    /// A process that starts may have helped a leader to a lease just before.
    pub fn new(clock: Arc<dyn Clock>) -> VoteWindow {
        let heard = Heard { count: 0, monotonic: clock.monotonic(), boottime: clock.boottime() };
        VoteWindow { clock, heard: Mutex::new(heard) }
    }

    /// An append of a leader has come in and is about to be handed to Raft.
    pub fn hear(&self) {
        let mut heard = self.heard.lock();
        let count = heard.count + 1;
        *heard = Heard { count, monotonic: self.clock.monotonic(), boottime: self.clock.boottime() };
    }

    /// How often a leader was heard.
    pub fn count(&self) -> u64 {
        self.heard.lock().count
    }

    /// How long no leader was heard.
    pub fn silence(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.heard.lock().monotonic)
    }

    /// How long this replica has yet to wait, on whichever of its clocks is slower.
    pub fn left(&self) -> Duration {
        if mutant::is(Mutant::LeaseSurvivesTransfer) {
            return Duration::ZERO;
        }
        let heard = self.heard.lock();
        let monotonic = self.clock.monotonic().saturating_sub(heard.monotonic);
        let boottime = self.clock.boottime().saturating_sub(heard.boottime);
        VOTE_WINDOW.saturating_sub(monotonic.min(boottime))
    }

    /// Waits until the window is over, and gives what [`VoteWindow::count`] was before that was found; nothing
    /// when a leader was heard during the wait.
    pub async fn over(&self) -> Option<u64> {
        let count = self.count();
        loop {
            let left = self.left();
            if left.is_zero() {
                break;
            }
            // The timer may have its own idea of time.
            tokio::time::sleep(left).await;
            if self.count() != count {
                return None;
            }
        }
        (self.count() == count).then_some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Hands {
        monotonic_ms: AtomicU64,
        asleep_ms: AtomicU64,
    }

    impl Hands {
        fn pass(&self, ms: u64) {
            self.monotonic_ms.fetch_add(ms, Ordering::Relaxed);
        }
    }

    impl Clock for Hands {
        fn monotonic(&self) -> Duration {
            Duration::from_millis(1 + self.monotonic_ms.load(Ordering::Relaxed))
        }
        fn boottime(&self) -> Duration {
            self.monotonic() + Duration::from_millis(self.asleep_ms.load(Ordering::Relaxed))
        }
        fn wall_ms(&self) -> u64 {
            0
        }
    }

    fn lease() -> (Arc<Hands>, ReadLease) {
        let hands = Arc::<Hands>::default();
        (hands.clone(), ReadLease::new(hands))
    }

    #[test]
    fn it_counts_from_the_beginning_of_its_round_and_through_sleep() {
        let (hands, lease) = lease();
        assert_eq!(lease.covers_from(), None);
        let round = lease.begin().expect("nothing holds it");
        hands.pass(30);
        lease.establish(round);
        lease.tell(7);
        lease.tell(5);
        hands.pass(49);
        assert_eq!(lease.covers_from(), Some(7));
        hands.pass(1);
        assert_eq!(lease.covers_from(), None, "80 ms after the round began");
        lease.establish(lease.begin().expect("nothing holds it"));
        assert!(lease.covers_from().is_some());
        hands.asleep_ms.store(80, Ordering::Relaxed);
        assert_eq!(lease.covers_from(), None, "the machine slept, the monotonic clock did not see it");
    }

    #[test]
    fn a_round_that_overlaps_a_vote_or_a_transfer_establishes_nothing() {
        let (_, lease) = lease();
        let before = lease.begin().expect("nothing holds it");
        let hold = lease.hold();
        assert!(lease.begin().is_none());
        lease.establish(before);
        assert_eq!(lease.covers_from(), None);
        drop(hold);
        lease.establish(before);
        assert_eq!(lease.covers_from(), None);
        let round = lease.begin().expect("nothing holds it");
        lease.establish(round);
        assert!(lease.covers_from().is_some());
        lease.revoke();
        assert_eq!(lease.covers_from(), None);
        lease.establish(round);
        assert_eq!(lease.covers_from(), None);
    }

    #[test]
    fn a_voter_waits_by_its_slower_clock_and_from_its_start() {
        let hands = Arc::<Hands>::default();
        let window = VoteWindow::new(hands.clone());
        assert_eq!(window.left(), VOTE_WINDOW);
        hands.asleep_ms.store(10_000, Ordering::Relaxed);
        assert_eq!(window.left(), VOTE_WINDOW, "a process that slept has processed nothing");
        hands.pass(119);
        assert_eq!(window.left(), Duration::from_millis(1));
        hands.pass(1);
        assert_eq!(window.left(), Duration::ZERO);
        window.hear();
        assert_eq!((window.left(), window.count()), (VOTE_WINDOW, 1));
    }
}
