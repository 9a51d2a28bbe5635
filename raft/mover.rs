//! Moving slots: the leader of the source drives it, and whoever leads it next goes on.
//!
//! For each piece: a new attempt in the meta group; the target takes in; copy what is there, then what was touched
//! meanwhile, again and again; freeze; the rest, with versions and sessions; the switch in the meta group; both
//! groups learn of it. What the logs say of an attempt is in [`quoris_engine::moves`].
//!
//! Invariants:
//! * What is frozen thaws only when a later attempt has begun: then the switch of the one that froze it cannot
//!   succeed any more. Until one of both is known the slots stay frozen, so there are never two owners.
//! * A step that may or may not have happened is done again; each is harmless the second time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quoris_engine::moves::{self, Picked, Range, Walk, load, parcels};
use quoris_resp::{Argv, Reply};
use tokio::time::{Instant, sleep};

use crate::group::Group;
use crate::node::Node;
use crate::propose::{Operation, Outcome};
use crate::session::Session;
use crate::slots::{Moving, Step, ask, change_topology};
use crate::topology::Topology;

/// Between two looks whether there is something to move, and two attempts that failed.
const PAUSE: Duration = Duration::from_millis(100);
/// Keys of one piece, about: what freezes together.
const PIECE_KEYS: u64 = 8192;
/// Bytes of a key, about: where a rate is asked for, a piece takes about a second.
const KEY_BYTES: u64 = 128;
/// When so few keys were touched since the last round, the slots freeze.
const TAIL_KEYS: usize = 256;
/// Rounds after which they freeze in any case: they cannot be written faster than this.
const ROUNDS_MAX: usize = 32;
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

/// Keeps to a rate.
struct Sent {
    rate: u64,
    since: Instant,
    bytes: u64,
}

impl Sent {
    fn new(rate: u64) -> Sent {
        Sent { rate, since: Instant::now(), bytes: 0 }
    }

    async fn pace(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.rate > 0 {
            tokio::time::sleep_until(self.since + Duration::from_secs_f64(self.bytes as f64 / self.rate as f64)).await;
        }
    }
}

fn piece_keys(rate: u64) -> u64 {
    if rate == 0 { PIECE_KEYS } else { (rate / KEY_BYTES).clamp(1, PIECE_KEYS) }
}

type Done<T> = Result<T, String>;

struct Mover<'a> {
    node: &'a Node,
    session: Session,
    group: &'a Arc<Group>,
    sent: Sent,
}

fn check(replies: Vec<Reply>) -> Done<()> {
    match replies.into_iter().find(|reply| !matches!(reply, Reply::Int(_))) {
        None => Ok(()),
        Some(other) => Err(format!("{other:?}")),
    }
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

    /// A step in the log of the source.
    async fn here(&self, argv: Argv) -> Done<()> {
        match self.group.propose(vec![Operation::of_node(argv)], None, false).await {
            Outcome::Applied(replies, ..) => check(replies),
            Outcome::NotExecuted(_) => Err("the source is led by another node".into()),
            Outcome::Unknown(why) => Err(why.into()),
        }
    }

    /// Steps in the log of the target; the index of the last.
    async fn there(&self, moving: &Moving, steps: Vec<Argv>) -> Done<u64> {
        let operations = steps.into_iter().map(Operation::of_node).collect();
        let done = self.session.execute(moving.target, operations, true).await.map_err(|e| e.to_string())?;
        check(done.replies)?;
        done.position.map(|at| at.index).ok_or_else(|| "a step without a place in the log".into())
    }

    async fn copy(&mut self, moving: &Moving, patience: Duration) -> Done<()> {
        let piece = {
            let mut engine = self.group.replica.engine.write();
            let piece = engine.piece_of(moving.left, piece_keys(moving.rate));
            engine.track(piece);
            piece
        };
        self.there(moving, vec![range_step("TAKE", moving.attempt, piece)]).await?;
        self.reached("taken").await;
        let (mut walk, mut number) = (Walk::new(piece), 0);
        loop {
            let picked = self.group.peek().pick_next(&mut walk);
            if picked.is_empty() {
                break;
            }
            self.send(moving, picked, &mut number).await?;
        }
        for _ in 0..ROUNDS_MAX {
            let touched = self.touched()?;
            let is_tail = touched.len() <= TAIL_KEYS;
            let picked = self.group.peek().pick(touched);
            self.send(moving, picked, &mut number).await?;
            if is_tail {
                break;
            }
        }
        self.reached("copied").await;
        // Nothing freezes while nobody could decide.
        ask(&self.session).await.map_err(|e| e.to_string())?;
        self.switch(moving, piece, number, patience).await
    }

    fn touched(&self) -> Done<Vec<(u32, Vec<u8>)>> {
        let touched = self.group.replica.engine.write().take_tracked();
        touched.ok_or_else(|| "whole databases were emptied or exchanged".into())
    }

    async fn send(&mut self, moving: &Moving, picked: Vec<Picked>, number: &mut u64) -> Done<()> {
        for parcel in self.parcels(picked).await? {
            self.sent.pace(parcel.len()).await;
            self.there(moving, vec![load(moving.attempt, *number, &parcel)]).await?;
            *number += 1;
        }
        Ok(())
    }

    /// Writing a large value down takes long, and every group of this node has its turn on the same threads.
    async fn parcels(&self, picked: Vec<Picked>) -> Done<Vec<Vec<u8>>> {
        let written = self.group.replica.seams.blocking(move || parcels(picked)).await;
        written.map_err(|e| e.to_string())
    }

    async fn switch(&mut self, moving: &Moving, piece: Range, mut number: u64, patience: Duration) -> Done<()> {
        let began = Instant::now();
        self.here(range_step("FREEZE", moving.attempt, piece)).await?;
        self.reached("frozen").await;
        let touched = self.touched()?;
        let (picked, seal) = {
            let engine = self.group.peek();
            (engine.pick(touched), engine.seal_of(moving.attempt, self.group.replica.clock.now_ms()))
        };
        let seal = seal.ok_or("the slots are not frozen any more")?;
        let mut steps = Vec::new();
        for parcel in self.parcels(picked).await? {
            steps.push(load(moving.attempt, number, &parcel));
            number += 1;
        }
        steps.push(seal);
        let sealed = tokio::time::timeout(patience, self.there(moving, steps)).await;
        let index = sealed.map_err(|_| "the target does not take the last of the slots in")??;
        self.reached("sealed").await;
        if began.elapsed() > patience {
            return Err(format!("the slots stood still for {:?}", began.elapsed()));
        }
        let attempt = moving.attempt;
        let switched = self.change(|topology| topology.switch(attempt, piece, index)).await?;
        self.reached("switched").await;
        self.finish(&switched, piece, index).await?;
        let (group, took_ms) = (moving.source.0, began.elapsed().as_millis() as u64);
        tracing::info!(group, to = moving.target.0, piece.first, piece.last, took_ms, "slots have moved");
        Ok(())
    }

    /// The switch is decided: both groups learn of it.
    async fn finish(&self, moving: &Moving, piece: Range, index: u64) -> Done<()> {
        self.there(moving, vec![range_step("OWN", moving.attempt, piece)]).await?;
        self.reached("owned").await;
        let slots = [piece.first, piece.last].map(u64::from);
        let drop = [moving.attempt, slots[0], slots[1], moving.target.0.into(), index];
        self.here(moves::step("DROP", &drop)).await?;
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
