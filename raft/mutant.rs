//! Deliberate bugs, to see whether the simulator and the harness under `jepsen/` find them.
//!
//! They are there only in builds with the feature `mutants`, which the simulator asks for; no release has it. One is
//! chosen by the environment variable `QUORIS_MUTANT`, which is read once. Each breaks one rule that another file
//! names as an invariant, in the way in which somebody might get it wrong.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use quoris_engine::events::Event;

use crate::feed::Batch;
use crate::propose::Operation;
use crate::replica::Replica;

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Entries are reported durable before the disk has them.
    AcknowledgesBeforeFsync,
    /// A vote is given before the disk has it.
    VotesBeforeFsync,
    /// What is cut off from a log stays on the disk.
    CutsOffInMemoryOnly,
    /// A leader answers reads without asking whether it still leads.
    ReadsWithoutIndex,
    /// A read lease lasts ten times as long as voters wait.
    LeaseTooLong,
    /// Transfers and votes leave the leases alone, and voters do not wait for them.
    LeaseSurvivesTransfer,
    /// Of a write that was sent and has no answer it is said that it certainly did not happen.
    DefiniteAfterProposal,
    /// A command that is sent again has the number behind its own.
    SessionOffByOne,
    /// A replica does not apply the entry behind its snapshot.
    EntryBehindSnapshot,
    /// Apply takes the time from the clock of its own machine.
    LocalClockInApply,
    /// One replica of a group leaves out a write now and then, and nobody looks at its digest.
    DigestIgnored,
    /// What a transaction publishes for another group is dropped before it was handed over.
    LostOutbox,
    /// A message is told when it is written, and once more when it is committed.
    EventBeforeCommit,
    /// The feed of events leaves out a batch now and then.
    LostEvent,
}

/// All of them by name.
pub const NAMES: &[(&str, Mutant)] = &[
    ("acknowledges-before-fsync", Mutant::AcknowledgesBeforeFsync),
    ("votes-before-fsync", Mutant::VotesBeforeFsync),
    ("cuts-off-in-memory-only", Mutant::CutsOffInMemoryOnly),
    ("reads-without-index", Mutant::ReadsWithoutIndex),
    ("lease-too-long", Mutant::LeaseTooLong),
    ("lease-survives-transfer", Mutant::LeaseSurvivesTransfer),
    ("definite-after-proposal", Mutant::DefiniteAfterProposal),
    ("session-off-by-one", Mutant::SessionOffByOne),
    ("entry-behind-snapshot", Mutant::EntryBehindSnapshot),
    ("local-clock-in-apply", Mutant::LocalClockInApply),
    ("digest-ignored", Mutant::DigestIgnored),
    ("lost-outbox", Mutant::LostOutbox),
    ("event-before-commit", Mutant::EventBeforeCommit),
    ("lost-event", Mutant::LostEvent),
];

/// Whether this bug was asked for.
#[cfg(not(feature = "mutants"))]
pub const fn is(_: Mutant) -> bool {
    false
}

/// Whether this bug was asked for.
#[cfg(feature = "mutants")]
pub fn is(mutant: Mutant) -> bool {
    chosen() == Some(mutant)
}

#[cfg(feature = "mutants")]
fn chosen() -> Option<Mutant> {
    static CHOSEN: std::sync::OnceLock<Option<Mutant>> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("QUORIS_MUTANT").ok()?;
        let known = NAMES.iter().find(|(known, _)| *known == name);
        let (_, mutant) = known.unwrap_or_else(|| panic!("no mutant is called {name:?}"));
        tracing::error!("mutant {name}: this node breaks its promises on purpose");
        Some(*mutant)
    })
}

/// What [`Mutant::EventBeforeCommit`] does with messages.
pub(crate) fn tell_early(replica: &Replica, operations: &[Operation]) {
    let message = |operation: &Operation| {
        Some(Event::Message { channel: operation.argv.slice(1)?, payload: operation.argv.slice(2)?, sharded: false })
    };
    let publishes = operations.iter().filter(|operation| operation.command.name == "publish");
    let messages: Vec<Event> = publishes.filter_map(message).collect();
    if !messages.is_empty() {
        let index = replica.applied.load(Ordering::Acquire) + 1;
        replica.feed.offer(Arc::new(Batch::new(replica.group, index, replica.clock.now_ms(), messages)), 0);
    }
}
