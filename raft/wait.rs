//! A connection's way to wait: at the leader here or elsewhere, and at the next one when that is gone.
//!
//! Step 5 of a command that waits. At this node's own replica it needs no mark, as for every write; at another node
//! it carries one, the same wherever it waits again. An attempt that took something is then answered from the
//! session's window, so nothing is taken twice, and what was taken is not lost.
//!
//! Where it is not certain that no attempt is left somewhere, waiting ends with one last attempt whose null is kept
//! in the window as well: whatever comes behind it has no effect.

use std::pin::Pin;
use std::time::Duration;

use quoris_resp::{Argv, Reply};
use tokio::time::{Instant, sleep_until, timeout};

use crate::forward::Forwarded;
use crate::group::Group;
use crate::propose::Operation;
use crate::reroute::SPREAD;
use crate::session::{Error, Executed, Position, Session, gave_up};
use crate::types::{GroupId, NodeId};
use crate::waiters::{Ended, Refused, Told};
use crate::waiting::{Ask, Note, Remote};

/// How long between two attempts to find a leader; one that is heard of is tried at once.
const PAUSE: Duration = Duration::from_millis(100);
/// A waiting command's mark is brought up to date so often at least: older ones are not known for ever.
const RENEW_EVERY: Duration = Duration::from_secs(60);
/// And so many times within `session-ttl`.
const RENEWALS: u32 = 4;

/// How a stay at one leader ended.
enum Stay {
    /// The command has its end.
    Done(Result<Option<Executed>, Error>),
    /// It has none yet; who is said to lead.
    On(Option<NodeId>),
}

/// The sequence number of a mark, while replies from it on may be asked for again.
struct Held<'a> {
    session: &'a Session,
    sequence: u64,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.session.in_flight.lock().remove(&self.sequence);
    }
}

/// A command that waits.
struct Wait<'a, E, W> {
    session: &'a Session,
    group: GroupId,
    operation: Operation,
    held: Option<Held<'a>>,
    /// Resolves when it shall wait no longer.
    end: Pin<&'a mut E>,
    /// Called when there is nothing yet.
    waits: W,
    /// It was tried, and there was nothing.
    waited: bool,
    /// The end has come; by then the outcome must be known.
    over: Option<Instant>,
    /// An attempt may be somewhere, and nobody will tell.
    lost: bool,
}

impl Session {
    /// Runs a command that waits until it finds something or `end` resolves; nothing when it has found nothing.
    /// `waits` is called when there was nothing at first. When this future is dropped nothing is taken any more,
    /// but for an attempt that is in the log by then.
    ///
    /// # Errors
    /// As [`Session::execute`].
    pub async fn wait<E: Future<Output = ()>, W: FnMut()>(
        &self,
        group: GroupId,
        operation: Operation,
        forward: bool,
        end: Pin<&mut E>,
        waits: W,
    ) -> Result<Option<Executed>, Error> {
        self.check_size(&operation)?;
        let mut wait =
            Wait { session: self, group, operation, held: None, end, waits, waited: false, over: None, lost: false };
        let result = wait.run(forward).await;
        // The last attempt may be refused, or find nobody, while an earlier one is on its way or was carried out.
        let maybe = wait.lost && wait.operation.write;
        result.map_err(|error| if maybe { Error::Unknown(error.to_string()) } else { error })
    }
}

impl<'a, E: Future<Output = ()>, W: FnMut()> Wait<'a, E, W> {
    async fn run(&mut self, forward: bool) -> Result<Option<Executed>, Error> {
        let node = &self.session.node;
        let patience = Instant::now() + node.config().request_timeout;
        let mut hint = None;
        while self.over.is_none() {
            // The slots of its keys may have another owner by now.
            self.group = match node.group_for(&self.operation, self.group) {
                Some(group) => group,
                None => return Err(Error::Refused(SPREAD.into())),
            };
            let leader = hint.take().or_else(|| node.leader_of(self.group)).filter(|l| *l != node.id());
            let stay = match (node.group(self.group).filter(|g| g.leads()), leader) {
                (Some(local), _) => self.stay(&local).await,
                (None, leader) if !forward && (leader.is_some() || Instant::now() >= patience) => {
                    return Err(Error::NotLeader { leader });
                }
                (None, Some(leader)) if forward => self.stay_at(leader).await,
                (None, _) => Stay::On(None),
            };
            match stay {
                Stay::Done(result) => return result,
                Stay::On(better) => hint = better,
            }
            if !self.waited && Instant::now() >= patience {
                return Err(gave_up(self.group, false));
            }
            if hint.is_none() && self.over.is_none() {
                self.pause().await;
            }
        }
        if self.waited && (!self.lost || !self.operation.write) {
            return Ok(None);
        }
        let mut executed = self.session.run(self.group, vec![self.operation.clone()], forward).await?;
        if executed.replies.iter().any(Reply::is_null) {
            return Ok(None);
        }
        executed.replies.truncate(1);
        Ok(Some(executed))
    }

    fn found(&self, replies: Vec<Reply>, term: u64, index: u64) -> Stay {
        let position = (index > 0).then_some(Position { group: self.group, term, index });
        Stay::Done(Ok(Some(Executed { replies, position, seen: 0 })))
    }

    fn stopped(&self) -> Stay {
        if self.lost { Stay::On(None) } else { Stay::Done(Ok(None)) }
    }

    fn give_up_at(&self) -> Instant {
        Instant::now() + self.session.node.config().request_timeout
    }

    /// Waits at this node's own replica.
    async fn stay(&mut self, local: &Group) -> Stay {
        let mut waiting = match local.arm(self.operation.clone(), self.lost).await {
            Ok(waiting) => waiting,
            Err(Refused::NotLeader) => return Stay::On(None),
            Err(Refused::Answered(reply)) => return self.found(vec![reply], 0, 0),
        };
        loop {
            let give_up = self.over.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                told = waiting.next() => match told {
                    Told::Waits(again) => self.begin_to_wait(again),
                    Told::Ended(Ended::Reply(reply, at)) => {
                        let (term, index) = at.map_or((0, 0), |at| (at.leader_id.term, at.index));
                        return self.found(vec![reply], term, index);
                    }
                    Told::Ended(Ended::Stopped) => return self.stopped(),
                    Told::Ended(Ended::NotLeader) => return Stay::On(None),
                    Told::Ended(Ended::Unknown) if self.operation.own.is_none() => {
                        return Stay::Done(Err(Error::Unknown("an attempt to take an element was lost".into())));
                    }
                    Told::Ended(Ended::Unknown) => {
                        self.lost = true;
                        return Stay::On(None);
                    }
                },
                () = self.end.as_mut(), if self.over.is_none() => {
                    self.over = Some(self.give_up_at());
                    waiting.stop();
                }
                () = sleep_until(give_up), if self.over.is_some() => {
                    return Stay::Done(Err(gave_up(self.group, self.operation.write)));
                }
            }
        }
    }

    fn begin_to_wait(&mut self, again: Option<Argv>) {
        self.waited = true;
        if let Some(again) = again {
            self.operation.argv = again;
        }
        (self.waits)();
    }

    /// Gives the command a mark, unless it has one. False while the clock that it needs is not known.
    async fn mark(&mut self, leader: NodeId) -> bool {
        if self.operation.own.is_some() || !self.operation.write {
            return true;
        }
        let Some(now_ms) = self.session.node.settled_clock_ms(self.group, leader).await else { return false };
        let stamp = self.session.stamp(now_ms, 1);
        self.held = Some(Held { session: self.session, sequence: stamp.first_sequence });
        self.operation.own = Some(stamp.mark(0));
        true
    }

    /// Waits at another node.
    async fn stay_at(&mut self, leader: NodeId) -> Stay {
        if !self.mark(leader).await {
            return Stay::On(None);
        }
        let node = &self.session.node;
        let Ok(mut remote) = Remote::open(node, leader, self.group, &self.operation, self.lost).await else {
            node.forget_leader(self.group, leader);
            return Stay::On(None);
        };
        let ttl = Duration::from_secs(node.settings().borrow().session_ttl.unsigned_abs());
        let renew_every = (ttl / RENEWALS).clamp(Duration::from_millis(250), RENEW_EVERY);
        let mut renew_at = Instant::now() + renew_every;
        let mut elsewhere = std::pin::pin!(node.leader_changes(self.group, Some(leader)));
        loop {
            let give_up = self.over.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                note = remote.next() => match note {
                    Some(Note::Waits(again)) => self.begin_to_wait(again),
                    Some(Note::Renewed(at_ms)) => self.renewed(at_ms),
                    Some(Note::Stopped) => return self.stopped(),
                    Some(Note::Answer(Forwarded::Done(replies, at, _, clock_ms))) => {
                        node.learn(self.group, leader, clock_ms);
                        let (term, index) = at.map_or((0, 0), |at| (at.term, at.index));
                        return self.found(replies, term, index);
                    }
                    Some(Note::Answer(Forwarded::NotLeader(better))) => {
                        node.forget_leader(self.group, leader);
                        return Stay::On(better.filter(|b| *b != leader));
                    }
                    Some(Note::Answer(Forwarded::Unknown)) | None => {
                        self.lost = true;
                        node.forget_leader(self.group, leader);
                        return Stay::On(None);
                    }
                },
                () = self.end.as_mut(), if self.over.is_none() => {
                    self.over = Some(self.give_up_at());
                    remote.ask(Ask::Stop).await;
                }
                () = &mut elsewhere => {
                    self.lost = true;
                    return Stay::On(None);
                }
                () = sleep_until(renew_at) => {
                    renew_at = Instant::now() + renew_every;
                    remote.ask(Ask::Renew).await;
                }
                () = sleep_until(give_up), if self.over.is_some() => {
                    self.lost = true;
                    return Stay::On(None);
                }
            }
        }
    }

    fn renewed(&mut self, at_ms: u64) {
        if let Some(own) = &mut self.operation.own {
            own.first_sent_ms = own.first_sent_ms.max(at_ms);
        }
    }

    /// Until somebody may lead.
    async fn pause(&mut self) {
        let node = &self.session.node;
        let known = node.leader_of(self.group);
        tokio::select! {
            biased;
            () = self.end.as_mut() => self.over = Some(self.give_up_at()),
            _ = timeout(PAUSE, node.leader_changes(self.group, known)) => {}
        }
    }
}
