//! Are the replicas of a group identical, and is each what was written? Checked all the time.
//!
//! *Between replicas*: every few seconds, if anything was applied, the leader sets a mark in the log, at
//! which every replica remembers its digest. It asks the others for theirs, and when a majority has the
//! same one, that is the verdict, which goes into the log as well. A replica that differs from a verdict
//! has gone astray, the leader included; one that was away meanwhile learns it when it gets there. The
//! leader's own digest has no more weight than any other.
//!
//! *Within a replica*: the digest follows writes and cannot show a bit that flips in memory. A scrub reads
//! the keys all the time, slowly, and compares them with sums that follow writes.
//!
//! Who is found to be wrong is in quarantine, see [`crate::rebuild`].
//!
//! Invariant: a group at rest writes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use quoris_engine::{Flaw, Scrub, Verify};

use crate::group::{Group, Health};
use crate::link::{Lane, Links};
use crate::propose::{Outcome, Proposer};
use crate::replica::{Fault, Replica};
use crate::timekeeper::voters;
use crate::types::{NodeId, Raft};
use crate::wire::{self, Kind, Target};

/// Between two marks.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a replica may take until it has applied a mark and answers.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);
/// So often in a row all voters answer without a majority, then the node ends: a scrub has had the time to
/// find a replica whose memory failed.
const DISPUTES_MAX: u32 = 15;

/// A scrub takes this long for all keys, if they are few enough for its pace.
const PASS: Duration = Duration::from_secs(7);
/// Bytes of keys and values that a step looks at under the lock.
const STEP_BYTES: u64 = 256 << 10;
/// Between two steps at least: the pace that many keys get, 25 MiB a second.
const STEP_PAUSE_MIN: Duration = Duration::from_millis(10);

/// What the leader's side needs.
pub(crate) struct Verifier {
    pub(crate) raft: Raft,
    pub(crate) replica: Arc<Replica>,
    pub(crate) proposer: Proposer,
    pub(crate) links: Arc<Links>,
    pub(crate) health: Health,
}

impl Verifier {
    /// Sets marks and finds verdicts for as long as the replica lives, whenever it leads.
    pub(crate) async fn run(self) {
        let (mut verified, mut calm, mut disputes) = (0, false, 0);
        loop {
            tokio::time::sleep(PAUSE).await;
            let voters = voters(&self.raft);
            let applied = self.replica.applied.load(Ordering::Acquire);
            if self.raft.as_leader().is_err() || voters.len() < 2 || (applied == verified && calm) {
                disputes = 0;
                continue;
            }
            // The entry of the last verdict may hold commands as well: so once more before the rest.
            calm = applied == verified;
            let Outcome::Applied(_, mark, ..) = self.proposer.verify(Verify::Mark).await else { continue };
            match self.ask(mark.index, &voters).await {
                Ok(digest) => {
                    disputes = 0;
                    let verdict = Verify::Verdict { index: mark.index, digest };
                    if let Outcome::Applied(_, at, ..) = self.proposer.verify(verdict).await {
                        verified = at.index;
                    }
                }
                Err(digests) => {
                    disputes += u32::from(digests.len() == voters.len());
                    if digests.values().any(|digest| Some(digest) != digests.values().next()) {
                        self.report(mark.index, &digests, disputes);
                    }
                }
            }
        }
    }

    /// The digest that a majority has at a mark, or whatever came back, by replica.
    async fn ask(&self, index: u64, voters: &BTreeMap<u64, NodeId>) -> Result<u64, BTreeMap<u64, u64>> {
        let ask = voters.iter().map(|(&replica, &node)| async move {
            if replica == self.replica.id {
                return Some((replica, self.replica.engine.read().digest_at(index)?));
            }
            let question = vec![wire::part(&(Target { group: self.replica.group, replica }, index))];
            let answer = async {
                let connection = self.links.connection(node, Lane::Control).await?;
                connection.call(Kind::Digest, question).await
            };
            let answer = tokio::time::timeout(ANSWER_TIME_MAX, answer).await.ok()?.ok()?;
            Some((replica, wire::message::<Option<u64>>(&answer).ok()??))
        });
        let digests: BTreeMap<u64, u64> = join_all(ask).await.into_iter().flatten().collect();
        let votes = |digest: u64| digests.values().filter(|other| **other == digest).count();
        let majority = digests.values().find(|digest| votes(**digest) * 2 > voters.len()).copied();
        majority.ok_or(digests)
    }

    /// Replicas differ and nobody can say who is right: says so, and in the end stops.
    fn report(&self, index: u64, digests: &BTreeMap<u64, u64>, disputes: u32) {
        let group = self.replica.group;
        let shown: Vec<String> = digests.iter().map(|(id, digest)| format!("replica {id} {digest:016x}")).collect();
        let text = format!("{group}: no majority has the same digest at index {index}: {}", shown.join(", "));
        tracing::error!(group = group.0, "{text}");
        if disputes >= DISPUTES_MAX {
            let advice = "See that all nodes run the same version and start them again, which makes the replicas \
                          anew from their disks. Should this come back, the disks differ: compare what \
                          `quoris admin export` writes while each node leads.";
            let text = format!("{text}. {advice}");
            self.health.failed.send_if_modified(|f| f.is_none() && f.replace(text).is_none());
        }
    }
}

impl Group {
    /// The digest at a mark, once it is applied here; nothing when that takes too long, or in quarantine.
    pub(crate) async fn digest_at(&self, index: u64) -> Option<u64> {
        tokio::time::timeout(ANSWER_TIME_MAX, self.replica.wait_applied(index)).await.ok()?;
        let engine = self.replica.engine.read();
        (!self.replica.is_quarantined()).then(|| engine.digest_at(index))?
    }
}

/// Reads all keys again and again, until they are not what was written.
pub(crate) async fn scrub(replica: Arc<Replica>) {
    loop {
        let mut at = Scrub::default();
        let bytes = {
            let mut engine = replica.engine.write();
            engine.settle();
            engine.keyspace().memory_bytes()
        };
        let steps = (bytes / STEP_BYTES + 1).min(u64::from(u32::MAX)) as u32;
        let begin = tokio::time::Instant::now();
        for step in 1u32.. {
            // Keys that came since the pass began are looked at without waiting any longer.
            let due = begin + PASS.mul_f64(f64::from(step.min(steps)) / f64::from(steps));
            tokio::time::sleep_until(due.max(tokio::time::Instant::now() + STEP_PAUSE_MIN)).await;
            let looked = replica.engine.read().keyspace().scrub(&mut at, STEP_BYTES);
            match looked {
                Ok(false) => {}
                Ok(true) => break,
                Err(flaw) => return replica.quarantine(Fault::Memory(flaw)),
            }
        }
    }
}

/// One pass over all keys without pauses.
///
/// # Errors
/// When keys are not what was written.
pub(crate) async fn scrub_now(replica: &Replica) -> Result<(), Flaw> {
    let mut at = Scrub::default();
    while !replica.engine.read().keyspace().scrub(&mut at, STEP_BYTES)? {
        tokio::task::yield_now().await;
    }
    Ok(())
}
