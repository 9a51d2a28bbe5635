//! Copying the keys of a piece, and the moment in which its slots stand still.
//!
//! What is read of the source is read under its lock in short looks, and goes to the target in parcels that are short
//! work there. A large value goes in parts and is given up as soon as it is written in between: its next version
//! follows in the next round. One that is written all the time goes when the slots are frozen, which then takes as
//! long as it takes to send: by how fast it went before, the attempt gets the time.

use std::time::Duration;

use quoris_engine::moves::{Heavy, Picks, Range, Sending, Sum, Walk, load, parcels};
use quoris_resp::Argv;
use tokio::time::Instant;

use super::{Done, Mover, range_step};
use crate::slots::{Moving, ask};

/// Keys of one piece, about: what freezes together.
const PIECE_KEYS: u64 = 8192;
/// Bytes of one piece, about: a slot with more is a piece of its own.
const PIECE_BYTES: u64 = 16 << 20;
/// Bytes of a key, about: where a rate is asked for, a piece takes about a second.
const KEY_BYTES: u64 = 128;
/// When so few keys were touched since the last round, the slots freeze.
const TAIL_KEYS: usize = 256;
/// Keys that are picked under one lock.
const PICK_KEYS: usize = 128;
/// Rounds after which they freeze in any case: they cannot be written faster than this.
const ROUNDS_MAX: usize = 32;
/// Rounds in which large values were written while they were sent, after which the slots freeze.
const HOT_ROUNDS_MAX: usize = 3;
/// Parcels of small keys that go together with the seal.
const LAST_PARCELS_MAX: usize = 2;
/// Bytes per second that are counted on as long as nothing was measured.
const SPEED: f64 = 16e6;

/// What was sent, to keep to a rate and to know how fast it goes.
pub(super) struct Sent {
    rate: u64,
    since: Instant,
    bytes: u64,
    /// Bytes, and the time that they took without the rests in between.
    went: (u64, Duration),
}

impl Sent {
    pub(super) fn new(rate: u64) -> Sent {
        Sent { rate, since: Instant::now(), bytes: 0, went: (0, Duration::ZERO) }
    }

    async fn pace(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.rate > 0 {
            tokio::time::sleep_until(self.since + Duration::from_secs_f64(self.bytes as f64 / self.rate as f64)).await;
        }
    }

    /// How long so many bytes will take.
    fn time_of(&self, bytes: u64) -> Duration {
        let (went, took) = (self.went.0 as f64, self.went.1.as_secs_f64());
        let speed = if went > 0.0 && took > 0.0 { went / took } else { SPEED };
        Duration::from_secs_f64(bytes as f64 / speed.max(1.0))
    }
}

fn piece_keys(rate: u64) -> u64 {
    if rate == 0 { PIECE_KEYS } else { (rate / KEY_BYTES).clamp(1, PIECE_KEYS) }
}

/// What large values did in one round.
#[derive(Clone, Copy, Default)]
struct Large {
    /// Bytes of all of them.
    bytes: u64,
    /// How many were written meanwhile.
    given_up: usize,
}

impl Large {
    fn and(self, other: Large) -> Large {
        Large { bytes: self.bytes + other.bytes, given_up: self.given_up + other.given_up }
    }
}

impl Mover<'_> {
    pub(super) async fn copy(&mut self, moving: &Moving, patience: Duration) -> Done<()> {
        let piece = {
            let mut engine = self.group.replica.engine.write();
            let piece = engine.piece_of(moving.left, piece_keys(moving.rate), PIECE_BYTES);
            engine.track(piece);
            piece
        };
        self.there(moving, vec![range_step("TAKE", moving.attempt, piece)]).await?;
        self.reached("taken").await;
        let (mut walk, mut number) = (Walk::new(piece), 0);
        loop {
            let picks = self.group.peek().pick_next(&mut walk);
            if picks.is_empty() {
                break;
            }
            self.send(moving, picks, &mut number).await?;
        }
        self.follow(moving, &mut number).await?;
        self.reached("copied").await;
        // Nothing freezes while nobody could decide.
        ask(&self.session).await.map_err(|e| e.to_string())?;
        self.switch(moving, piece, number, patience).await
    }

    /// Sends what was touched, again and again, until little is, or large values are written faster than they go.
    async fn follow(&mut self, moving: &Moving, number: &mut u64) -> Done<()> {
        let mut hot_rounds = 0;
        for _ in 0..ROUNDS_MAX {
            let touched = self.touched()?;
            let mut large = Large::default();
            for some in touched.chunks(PICK_KEYS) {
                let picks = self.group.peek().pick(some);
                large = large.and(self.send(moving, picks, number).await?);
            }
            hot_rounds += usize::from(large.given_up > 0);
            if touched.len() <= TAIL_KEYS && (large.bytes == 0 || hot_rounds >= HOT_ROUNDS_MAX) {
                break;
            }
        }
        Ok(())
    }

    fn touched(&self) -> Done<Vec<(u32, Vec<u8>)>> {
        let touched = self.group.replica.engine.write().take_tracked();
        touched.ok_or_else(|| "whole databases were emptied or exchanged".into())
    }

    async fn send(&mut self, moving: &Moving, picks: Picks, number: &mut u64) -> Done<Large> {
        for parcel in self.written(picks.small).await? {
            self.send_parcel(moving, &parcel, number).await?;
        }
        self.send_large(moving, picks.large, number).await
    }

    async fn send_large(&mut self, moving: &Moving, large: Vec<Sending>, number: &mut u64) -> Done<Large> {
        let mut seen = Large::default();
        for mut sending in large {
            seen.bytes += sending.bytes();
            loop {
                let parcel = self.group.peek().next_parcel(&mut sending);
                let Some(parcel) = parcel else { break };
                self.send_parcel(moving, &parcel, number).await?;
            }
            seen.given_up += usize::from(!sending.is_done());
        }
        Ok(seen)
    }

    async fn send_parcel(&mut self, moving: &Moving, parcel: &[u8], number: &mut u64) -> Done<()> {
        self.sent.pace(parcel.len()).await;
        let began = Instant::now();
        self.there(moving, vec![load(moving.attempt, *number, parcel)]).await?;
        self.sent.went = (self.sent.went.0 + parcel.len() as u64, self.sent.went.1 + began.elapsed());
        *number += 1;
        Ok(())
    }

    /// Writing keys down takes a while, and every group of this node has its turn on the same threads.
    async fn written(&self, picked: Vec<quoris_engine::moves::Picked>) -> Done<Vec<Vec<u8>>> {
        if picked.is_empty() {
            return Ok(Vec::new());
        }
        let written = self.group.replica.seams.blocking(move || parcels(picked)).await;
        written.map_err(|e| e.to_string())
    }

    /// The digest of the slots, which are frozen, in short looks.
    async fn sum(&self) -> Done<Sum> {
        let mut sum = Sum::default();
        while self.group.peek().sum_next(&mut sum) {
            tokio::task::yield_now().await;
        }
        let mut heavy: Vec<Heavy> = sum.take_heavy();
        for one in &mut heavy {
            while self.group.peek().weigh(one) {
                tokio::task::yield_now().await;
            }
        }
        if heavy.is_empty() {
            return Ok(sum);
        }
        let added = self.group.replica.seams.blocking(move || {
            heavy.into_iter().for_each(|one| sum.add(one));
            sum
        });
        added.await.map_err(|e| e.to_string())
    }

    async fn switch(&mut self, moving: &Moving, piece: Range, mut number: u64, patience: Duration) -> Done<()> {
        let began = Instant::now();
        // A rate is for what can wait.
        self.sent.rate = 0;
        self.here(range_step("FREEZE", moving.attempt, piece)).await?;
        self.reached("frozen").await;
        let touched = self.touched()?;
        let picks: Vec<Picks> = touched.chunks(PICK_KEYS).map(|some| self.group.peek().pick(some)).collect();
        let large: u64 = picks.iter().flat_map(|picks| &picks.large).map(Sending::bytes).sum();
        // To begin anew would not help large values that are written all the time: they get the time that they need.
        let patience = if large == 0 { patience } else { patience + 3 * self.sent.time_of(large) };
        let sealed = tokio::time::timeout(patience, self.seal(moving, picks, &mut number)).await;
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

    /// Sends the last keys of slots that are frozen, and the seal; gives the index of that.
    async fn seal(&mut self, moving: &Moving, picks: Vec<Picks>, number: &mut u64) -> Done<u64> {
        let mut last: Vec<Vec<u8>> = Vec::new();
        for Picks { small, large } in picks {
            last.extend(self.written(small).await?);
            self.send_large(moving, large, number).await?;
        }
        let together = last.len() <= LAST_PARCELS_MAX;
        if !together {
            for parcel in std::mem::take(&mut last) {
                self.send_parcel(moving, &parcel, number).await?;
            }
        }
        let sum = self.sum().await?;
        let seal = self.group.peek().seal_of(moving.attempt, self.group.replica.clock.now_ms(), &sum);
        let loads = (*number..).zip(&last).map(|(number, parcel)| load(moving.attempt, number, parcel));
        let mut steps: Vec<Argv> = loads.collect();
        steps.push(seal.ok_or("the slots are not frozen any more")?);
        self.there(moving, steps).await.map(|(index, _)| index)
    }
}
