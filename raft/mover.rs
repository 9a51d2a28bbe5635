//! Moving slots: the leader of the source drives it, and whoever leads it next goes on.
//!
//! For each piece: a new attempt in the meta group; the target takes in; copy what is there, then what was touched
//! meanwhile, again and again; freeze; the rest, with versions and sessions; the switch in the meta group; both
//! groups learn of it. What the logs say of an attempt is in [`quoris_engine::moves`]; copying is in [`copy`].
//!
//! Invariants:
//! * What is frozen thaws only when a later attempt has begun: then the switch of the one that froze it cannot
//!   succeed any more. Until one of both is known the slots stay frozen, so there are never two owners.
//! * A step that may or may not have happened is done again; each is harmless the second time.

mod copy;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quoris_engine::moves::{self, Range};
use quoris_resp::{Argv, Reply};
use tokio::time::sleep;

use crate::group::Group;
use crate::node::Node;
use crate::propose::{Operation, Outcome};
use crate::session::Session;
use crate::slots::{Moving, Step, change_topology};
use crate::topology::Topology;
use copy::Sent;

/// Between two looks whether there is something to move, and two attempts that failed.
const PAUSE: Duration = Duration::from_millis(100);
/// From freezing to the switch; an attempt that takes longer gives up and thaws.
const FROZEN_TIME_MAX: Duration = Duration::from_millis(100);
/// Where machines are slow, each attempt that gave up gives the next twice the time, up to this.
const FROZEN_TIME_LIMIT: Duration = Duration::from_secs(4);

/// Drives moves out of the groups that this node leads.
pub(crate) async fn drive(node: Node) {
    let mut patience = FROZEN_TIME_MAX;
    loop {
        let led = |moving: Moving| {
            let group = node.group(moving.source).filter(|group| group.leads())?;
            Some((moving, group))
        };
        let Some((moving, group)) = node.moving().and_then(led) else {
            patience = FROZEN_TIME_MAX;
            sleep(PAUSE).await;
            continue;
        };
        let mover = Mover { node: &node, session: node.session(), group: &group, sent: Sent::new(moving.rate) };
        match mover.advance(moving, patience).await {
            Ok(()) => patience = (patience / 2).max(FROZEN_TIME_MAX),
            Err(why) => {
                patience = (patience * 2).min(FROZEN_TIME_LIMIT);
                tracing::warn!(group = group.replica.group.0, why, "an attempt to move slots ended, the next follows");
                // What is frozen is not left waiting.
                if group.peek().frozen().is_none() {
                    sleep(PAUSE).await;
                }
            }
        }
        group.replica.engine.write().untrack();
    }
}

type Done<T> = Result<T, String>;

struct Mover<'a> {
    node: &'a Node,
    session: Session,
    group: &'a Arc<Group>,
    sent: Sent,
}

/// The last reply, when all are numbers.
fn check(replies: Vec<Reply>) -> Done<i64> {
    replies.into_iter().try_fold(0, |_, reply| match reply {
        Reply::Int(n) => Ok(n),
        other => Err(format!("{other:?}")),
    })
}

fn range_step(name: &str, attempt: u64, range: Range) -> Argv {
    moves::step(name, &[attempt, range.first.into(), range.last.into()])
}

impl Mover<'_> {
    /// One piece, or the end of one.
    async fn advance(mut self, moving: Moving, patience: Duration) -> Done<()> {
        match moving.step {
            Step::Switched { piece, index } => self.finish(&moving, piece, index).await,
            Step::Cancelled => {
                self.here(moves::step("THAW", &[moving.attempt])).await?;
                self.there(&moving, vec![moves::step("FORGET", &[moving.attempt])]).await?;
                self.end(moving.attempt).await
            }
            Step::Copying => {
                let source = moving.source;
                let begun = self.change(|topology| topology.begin_attempt(source)).await?;
                self.here(moves::step("THAW", &[begun.attempt])).await?;
                self.reached("begun").await;
                self.copy(&begun, patience).await
            }
        }
    }

    async fn change<T>(
        &self,
        change: impl FnMut(&mut Topology) -> Result<crate::slots::Change<T>, crate::slots::Unchanged>,
    ) -> Done<T> {
        change_topology(self.node, &self.session, change).await.map_err(|e| e.to_string())
    }

    /// A step in the log of the source, and its reply.
    async fn here(&self, argv: Argv) -> Done<i64> {
        match self.group.propose(vec![Operation::of_node(argv)], None, false).await {
            Outcome::Applied(replies, ..) => check(replies),
            Outcome::NotExecuted(_) => Err("the source is led by another node".into()),
            Outcome::Unknown(why) => Err(why.into()),
        }
    }

    /// Steps in the log of the target; the index of the last and its reply.
    async fn there(&self, moving: &Moving, steps: Vec<Argv>) -> Done<(u64, i64)> {
        let operations = steps.into_iter().map(Operation::of_node).collect();
        let done = self.session.execute(moving.target, operations, true).await.map_err(|e| e.to_string())?;
        let said = check(done.replies)?;
        done.position.map(|at| (at.index, said)).ok_or_else(|| "a step without a place in the log".into())
    }

    /// The switch is decided: both groups learn of it.
    async fn finish(&self, moving: &Moving, piece: Range, index: u64) -> Done<()> {
        // Both are done some keys at a time, so that those of other slots have their turn.
        while self.there(moving, vec![range_step("OWN", moving.attempt, piece)]).await?.1 > 0 {}
        self.reached("owned").await;
        let slots = [piece.first, piece.last].map(u64::from);
        let drop = [moving.attempt, slots[0], slots[1], moving.target.0.into(), index];
        while self.here(moves::step("DROP", &drop)).await? > 0 {}
        self.reached("dropped").await;
        self.end(moving.attempt).await
    }

    async fn end(&self, attempt: u64) -> Done<()> {
        self.change(|topology| topology.end_attempt(attempt)).await
    }

    /// A failpoint may wait here.
    async fn reached(&self, step: &'static str) {
        let mut hold = self.node.inner().hold_at.subscribe();
        if *hold.borrow() == step {
            tracing::error!(step, "DEBUG HOLD-AT asked for a rest here");
            let _ = hold.wait_for(|wanted| wanted != step).await;
        }
        let mut wanted = self.node.inner().die_at.lock();
        if let Some(left) = wanted.get_mut(step) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                tracing::error!(step, "DEBUG DIE-AT asked for an end here");
                std::process::abort();
            }
        }
    }
}

/// Steps of a move at which this process is to die, and how often each must be reached until then.
pub(crate) type DieAt = BTreeMap<String, u32>;

impl Node {
    /// A failpoint: this process ends when it reaches a step of a move so often.
    pub fn die_at_step_of_move(&self, step: &str, times: u32) {
        self.inner().die_at.lock().insert(step.to_string(), times.max(1));
    }

    /// A failpoint: moves that this process drives rest at a step until another one is named.
    pub fn hold_at_step_of_move(&self, step: &str) {
        self.inner().hold_at.send_replace(step.to_string());
    }
}
