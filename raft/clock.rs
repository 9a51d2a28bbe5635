//! A group's clock: Unix milliseconds that never decrease along the log.
//!
//! The leader advances it by its monotonic clock and lets wall time steer its pace by at most one percent,
//! so a jump of the wall clock moves no deadline. Followers keep the last clock they heard and add their
//! own monotonic time, so a new leader neither resets nor lengthens a deadline. A replica that has heard
//! no leader since its process started does not know the clock: it guesses, and stamps no entry with a
//! guess. [`crate::timekeeper`] finds the clock then, or holds it where it stood.
//!
//! What a leader tells is a lower bound: the message took time, a mended cable delivers what is seconds old. So a
//! follower goes by the best of what it heard in the last moments, and forgets that again: its own monotonic
//! clock may run too fast.
//!
//! Invariants: a guess never gets into the log; a clock that is held stands still; of two leaders only
//! the later one is listened to.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::propose::Leader;
use crate::seam::Clock;

/// Wall time makes the clock faster or slower by so many millionths at most.
const STEERING_MAX: i64 = 10_000;
/// A difference to wall time is made up for in about this time, in microseconds, unless it is too large.
const STEERING_US: i64 = 100_000;
/// What was heard counts for one to two such periods.
const PERIOD: Duration = Duration::from_millis(300);
/// In what is told: the rest is where the group's clock is held.
const HELD: u64 = 1 << 63;

/// What one replica tells another about the clock, in milliseconds: 0 is that it does not know it, and with the
/// highest bit it stands still.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Told(u64);

impl Told {
    /// Where the clock runs.
    pub fn known(self) -> Option<u64> {
        (self.0 != 0 && self.0 & HELD == 0).then_some(self.0)
    }

    /// Where it runs or stands.
    pub fn stands_at(self) -> Option<u64> {
        (self.0 != 0).then_some(self.0 & !HELD)
    }
}

/// What a replica knows of the clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// No leader was heard since the process started; the wall clock stands in.
    Guess,
    /// It runs.
    Known,
    /// It stands still: an operator has to confirm a step.
    Held,
}

/// The clock of one group on one node.
pub struct GroupClock {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// The clock at `at`, in microseconds.
    value_us: u64,
    /// When, on the monotonic clock.
    at: Duration,
    /// By how much it is faster than the monotonic clock since then, in millionths.
    faster: i64,
    /// The best that was heard in this period and in the one before.
    best: Bound,
    before: Bound,
    /// When this period began.
    began: Duration,
    /// The latest leader that was heard, or is here.
    leader: Leader,
}

/// At that moment on the monotonic clock it was so late at least, in microseconds.
#[derive(Clone, Copy)]
struct Bound(u64, Duration);

impl Bound {
    fn at(self, now: Duration) -> u64 {
        self.0.saturating_add(now.saturating_sub(self.1).as_micros() as u64)
    }
}

impl State {
    fn at(&self, now: Duration) -> u64 {
        match self.phase {
            Phase::Held => self.value_us,
            Phase::Guess | Phase::Known => {
                let passed = now.saturating_sub(self.at).as_micros() as i64;
                self.value_us.saturating_add_signed(passed + passed / 1000 * self.faster / 1000)
            }
        }
    }

    fn set(&mut self, phase: Phase, ms: u64, now: Duration) {
        (self.phase, self.faster) = (phase, 0);
        self.forget(ms.saturating_mul(1000), now);
    }

    /// What was heard before does not count any more.
    fn forget(&mut self, value_us: u64, now: Duration) {
        (self.value_us, self.at, self.began) = (value_us, now, now);
        (self.best, self.before) = (Bound(value_us, now), Bound(value_us, now));
    }

    /// A leader told this.
    fn bound(&mut self, ms: u64, now: Duration) {
        if self.phase != Phase::Known {
            return self.set(Phase::Known, ms, now);
        }
        let bound = Bound(ms.saturating_mul(1000), now);
        if now.saturating_sub(self.began) >= PERIOD {
            (self.before, self.best, self.began) = (self.best, bound, now);
        } else if self.best.at(now) < bound.0 {
            self.best = bound;
        }
        (self.value_us, self.at, self.faster) = (self.best.at(now).max(self.before.at(now)), now, 0);
    }
}

impl GroupClock {
    /// A guess from the wall clock, which [`GroupClock::committed`] corrects upwards.
    pub fn new(clock: Arc<dyn Clock>) -> GroupClock {
        let (value_us, at) = (clock.wall_ms() * 1000, clock.monotonic());
        let (best, before) = (Bound(value_us, at), Bound(value_us, at));
        let state = State { phase: Phase::Guess, value_us, at, faster: 0, best, before, began: at, leader: (0, 0) };
        GroupClock { clock, state: Mutex::new(state) }
    }

    /// The present estimate, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.state.lock().at(self.clock.monotonic()) / 1000
    }

    /// The same, unless it is a guess or held.
    pub fn known_ms(&self) -> Option<u64> {
        let state = self.state.lock();
        (state.phase == Phase::Known).then(|| state.at(self.clock.monotonic()) / 1000)
    }

    /// Up to here keys may be due: any key may be while the clock is a guess.
    pub fn horizon_ms(&self) -> u64 {
        let state = self.state.lock();
        if state.phase == Phase::Guess { u64::MAX } else { state.at(self.clock.monotonic()) / 1000 }
    }

    /// Whether entries may be stamped with it.
    pub fn is_guess(&self) -> bool {
        self.state.lock().phase == Phase::Guess
    }

    /// Whether it stands still until an operator confirms a step.
    pub fn is_held(&self) -> bool {
        self.state.lock().phase == Phase::Held
    }

    /// What others are told.
    pub fn told(&self) -> Told {
        let state = self.state.lock();
        let now_ms = state.at(self.clock.monotonic()) / 1000;
        match state.phase {
            Phase::Guess => Told(0),
            Phase::Known => Told(now_ms),
            Phase::Held => Told(now_ms | HELD),
        }
    }

    /// A leader told what its clock was. The message took time, so that is a lower bound of its present clock.
    pub fn hear(&self, leader: Leader, told: Told) {
        let mut state = self.state.lock();
        if leader < state.leader {
            return;
        }
        state.leader = leader;
        let now = self.clock.monotonic();
        match (told.known(), told.stands_at()) {
            (Some(ms), _) => state.bound(ms, now),
            // Who knows the clock keeps it: a leader that does not will ask.
            (None, Some(ms)) if state.phase != Phase::Known => state.set(Phase::Held, ms, now),
            (None, _) => {}
        }
    }

    /// A voter gave this replica its vote for a term, and told what it knows of the clock. Who was stopped for a
    /// while has old messages to read: what a leader of an earlier term said is of no interest from here on.
    pub fn hear_voter(&self, term: u64, told: Told) {
        let mut state = self.state.lock();
        state.leader = state.leader.max((term, 0));
        let now = self.clock.monotonic();
        if let Some(ms) = told.known()
            && state.phase == Phase::Known
            && state.at(now) < ms.saturating_mul(1000)
        {
            state.set(Phase::Known, ms, now);
        }
    }

    /// This replica leads: what an earlier leader said is of no interest any more.
    pub fn lead(&self, leader: Leader) {
        let mut state = self.state.lock();
        state.leader = state.leader.max(leader);
    }

    /// The clock of an entry that was applied: the estimate is never below it.
    pub fn committed(&self, committed_ms: u64) {
        let mut state = self.state.lock();
        let now = self.clock.monotonic();
        if state.at(now) < committed_ms.saturating_mul(1000) {
            let phase = state.phase;
            state.set(phase, committed_ms, now);
        }
    }

    /// From now on it is known, and runs.
    pub fn start_at(&self, ms: u64) {
        self.state.lock().set(Phase::Known, ms, self.clock.monotonic());
    }

    /// From now on it stands still.
    pub fn hold_at(&self, ms: u64) {
        self.state.lock().set(Phase::Held, ms, self.clock.monotonic());
    }

    /// The leader's steering towards wall time, called about every heartbeat: the clock runs on at another pace.
    pub fn steer(&self) {
        let mut state = self.state.lock();
        if state.phase != Phase::Known {
            return;
        }
        let now = self.clock.monotonic();
        let estimate = state.at(now);
        let ahead = (self.clock.wall_ms() as i64).saturating_mul(1000).saturating_sub(estimate as i64);
        let faster = ahead.saturating_mul(1_000_000 / STEERING_US).clamp(-STEERING_MAX, STEERING_MAX);
        state.forget(estimate, now);
        state.faster = faster;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    const FIRST: Leader = (1, 1);
    const SECOND: Leader = (2, 3);

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

    fn clock(wall_ms: u64) -> (Arc<Hands>, GroupClock) {
        let hands = Arc::new(Hands::default());
        hands.wall_ms.store(wall_ms, Ordering::Relaxed);
        let clock = GroupClock::new(hands.clone());
        (hands, clock)
    }

    #[test]
    fn a_wall_clock_jump_moves_it_by_one_percent_at_most() {
        let (hands, clock) = clock(1_000_000);
        clock.start_at(1_000_000);
        hands.wall_ms.store(5_000_000, Ordering::Relaxed);
        clock.steer();
        hands.monotonic_ms.store(10_000, Ordering::Relaxed);
        assert_eq!(clock.now_ms(), 1_000_000 + 10_000 + 100);
        hands.wall_ms.store(0, Ordering::Relaxed);
        clock.steer();
        assert_eq!(clock.now_ms(), 1_000_000 + 10_000 + 100, "never a step, least of all back");
        hands.monotonic_ms.store(20_000, Ordering::Relaxed);
        assert_eq!(clock.now_ms(), 1_000_000 + 20_000);
        hands.wall_ms.store(1_020_000, Ordering::Relaxed);
        clock.steer();
        hands.monotonic_ms.store(30_000, Ordering::Relaxed);
        assert_eq!(clock.now_ms(), 1_000_000 + 30_000, "no steering where there is no difference");
    }

    #[test]
    fn a_follower_goes_on_from_what_it_heard() {
        let (hands, clock) = clock(9_000_000);
        clock.hear(FIRST, Told(500));
        hands.monotonic_ms.store(70, Ordering::Relaxed);
        assert_eq!(clock.now_ms(), 570);
        clock.committed(600);
        assert_eq!(clock.now_ms(), 600);
        clock.committed(10);
        assert_eq!((clock.now_ms(), clock.known_ms()), (600, Some(600)));
    }

    #[test]
    fn who_read_old_messages_learns_from_those_who_vote_for_it() {
        let (hands, clock) = clock(9_000_000);
        clock.hear(FIRST, Told(500));
        hands.monotonic_ms.store(3000, Ordering::Relaxed);
        clock.hear(FIRST, Told(600));
        assert_eq!(clock.now_ms(), 3500, "what it knew already counts");
        hands.monotonic_ms.store(6000, Ordering::Relaxed);
        clock.hear(FIRST, Told(700));
        assert_eq!(clock.now_ms(), 3600, "it cannot know how old the messages are");
        clock.hear_voter(2, Told(6400));
        clock.hear_voter(2, Told(6300));
        clock.hear_voter(2, Told(0));
        clock.hear(FIRST, Told(700));
        assert_eq!(clock.now_ms(), 6400);
        clock.hear((2, 1), Told(6500));
        assert_eq!(clock.now_ms(), 6500, "another candidate won the term");
    }

    #[test]
    fn messages_that_were_held_up_do_not_take_it_back_and_a_fast_monotonic_clock_does_not_run_away() {
        let (hands, clock) = clock(9_000_000);
        let hear = |own: u64, told: u64| {
            hands.monotonic_ms.store(own, Ordering::Relaxed);
            clock.hear(FIRST, Told(told));
            clock.now_ms()
        };
        assert_eq!(hear(1000, 50_000), 50_000);
        for late in [50_050, 50_500, 50_900] {
            assert_eq!(hear(2000, late), 51_000, "a cable is mended, and old messages come first");
        }
        assert_eq!(hear(2010, 51_012), 51_012);
        // Its own clock runs twice as fast from here on.
        let ahead = (1..40).map(|beat| hear(2010 + beat * 100, 51_012 + beat * 50) - (51_012 + beat * 50));
        assert_eq!(ahead.max(), Some(250), "less than it gains in two periods");
    }

    #[test]
    fn a_guess_is_told_to_nobody_and_any_key_may_be_due() {
        let (_, clock) = clock(9_000_000);
        assert_eq!((clock.told(), clock.known_ms(), clock.horizon_ms()), (Told(0), None, u64::MAX));
        clock.hear(FIRST, Told(0));
        assert!(clock.is_guess(), "a leader that guesses teaches nothing");
        clock.start_at(700);
        assert_eq!((clock.told(), clock.known_ms(), clock.horizon_ms()), (Told(700), Some(700), 700));
    }

    #[test]
    fn what_an_earlier_leader_said_arrives_too_late() {
        let (_, clock) = clock(0);
        clock.hear(SECOND, Told(900));
        clock.hear(FIRST, Told(100));
        assert_eq!(clock.now_ms(), 900);
        clock.lead((3, 2));
        clock.hear(SECOND, Told(200));
        assert_eq!(clock.now_ms(), 900);
    }

    #[test]
    fn a_held_clock_stands_still_on_all_replicas_and_forgets_nothing() {
        let (hands, leader) = clock(9_000_000);
        leader.hold_at(500);
        hands.monotonic_ms.store(70, Ordering::Relaxed);
        leader.steer();
        assert_eq!((leader.now_ms(), leader.horizon_ms(), leader.known_ms()), (500, 500, None));
        let (_, follower) = clock(9_000_000);
        follower.hear(FIRST, leader.told());
        assert!(follower.is_held() && follower.now_ms() == 500);
        let (_, wiser) = clock(9_000_000);
        wiser.hear(FIRST, Told(800));
        wiser.hear(SECOND, leader.told());
        assert_eq!(wiser.known_ms(), Some(800));
        follower.hear(SECOND, Told(9_000_000));
        assert_eq!(follower.known_ms(), Some(9_000_000));
    }
}
