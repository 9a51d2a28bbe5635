//! Commands of one batch that go through Raft, and the order of all replies.
//!
//! Operations are gathered per group and run over the groups at the same time; replies go back in the
//! order of the commands, local answers in between included.
//!
//! Invariant: a lane's operations are in the order of the slots that wait for them, so replies are
//! handed out by taking the next one of the lane.

use std::vec;

use bytes::{Bytes, BytesMut};
use quoris_engine::{
    command::{self, Found, Handler},
    entry::Transaction,
};
use quoris_raft::{Error, Executed, GroupId, Operation, ReadAge, Session, interest::Kin};
use quoris_resp::{Argv, Reply};
use smallvec::SmallVec;

use crate::{server::Server, split::Join};

/// Commands and replies of a batch that wait for Raft.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    slots: Vec<Slot>,
    lanes: SmallVec<[Lane; 1]>,
    bytes: usize,
}

#[derive(Debug)]
struct Lane {
    group: GroupId,
    operations: Vec<Operation>,
}

impl Lane {
    async fn run(self, session: &Session, forwards: Forwards) -> Result<Executed, Error> {
        let forward = forwards.cover(&self.operations);
        if let Forwards::Reads(age) = forwards
            && self.operations.iter().all(|operation| !operation.write)
        {
            return session.read_here(self.group, self.operations, age).await;
        }
        session.execute(self.group, self.operations, forward).await
    }
}

/// A place in the order of replies.
#[derive(Debug)]
pub(crate) struct Slot {
    pub what: Waits,
    /// The row, for counters.
    pub id: u16,
    /// What the client said, for the slow log.
    pub said: Option<Argv>,
    /// The hash slot to name in a redirection.
    pub slot: u16,
    /// CLIENT REPLY OFF or SKIP.
    pub silent: bool,
}

#[derive(Debug)]
pub(crate) enum Waits {
    /// For nothing.
    Nothing(Reply),
    /// For the next reply of a lane.
    One(u16),
    /// For the next reply of a lane, whose place the number of those takes who listen to the channel.
    Publish(u16, Kin, Bytes),
    /// For the next reply of a lane, which is a transaction.
    Transaction(u16, Inner),
    /// For the next reply of each of these lanes.
    Many(Join, Vec<u16>),
}

/// What a transaction's commands are.
#[derive(Debug, Default)]
pub(crate) struct Inner {
    /// The rows.
    pub ids: Vec<u16>,
    /// What the client said.
    pub said: Vec<Argv>,
    /// Where messages are published, and for whom.
    pub publishes: Vec<(usize, Kin, Bytes)>,
}

impl Inner {
    /// Adds a command behind the others.
    pub fn push(&mut self, found: &Found, argv: &Argv) {
        if let Some((kin, channel)) = published(found, argv) {
            self.publishes.push((self.ids.len(), kin, channel));
        }
        self.ids.push(found.id);
        self.said.push(argv.clone());
    }

    /// Puts the number of those who listen in the places of the replies to PUBLISH.
    pub fn count_receivers(&self, server: &Server, reply: &mut Reply) {
        let Reply::Array(replies) = reply else { return };
        let mut counted = None;
        for (at, kin, channel) in &self.publishes {
            if let Some(place @ Reply::Int(_)) = replies.get_mut(*at) {
                *place = server.receivers(*kin, channel, &mut counted);
            }
        }
    }
}

/// The channel of a command that publishes.
pub(crate) fn published(found: &Found, argv: &Argv) -> Option<(Kin, Bytes)> {
    let channel = argv.slice(found.command.channel?)?;
    Some((if found.command.name == "spublish" { Kin::Shard } else { Kin::Channel }, channel))
}

/// Operations that are gathered before they are sent; bounds the work and the memory of one batch.
const OPERATIONS_MAX: usize = 1024;
const BYTES_MAX: usize = 16 * 1024 * 1024;

impl Gather {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether it should be sent before more is added.
    pub fn is_full(&self) -> bool {
        self.slots.len() >= OPERATIONS_MAX || self.bytes >= BYTES_MAX
    }

    /// Whether an operation waits for a group.
    pub fn holds(&self, group: GroupId) -> bool {
        self.lanes.iter().any(|lane| lane.group == group)
    }

    /// The groups of the lanes, in their order.
    pub fn groups(&self) -> Vec<GroupId> {
        self.lanes.iter().map(|lane| lane.group).collect()
    }

    /// Whether a command of the slot waits.
    pub fn asks_for(&self, slot: u16) -> bool {
        self.slots.iter().any(|waiting| waiting.slot == slot)
    }

    /// Adds an answer that is there already.
    pub fn push_reply(&mut self, reply: Reply, id: u16) {
        self.slots.push(Slot { what: Waits::Nothing(reply), id, said: None, slot: 0, silent: false });
    }

    /// Adds an operation for one group.
    pub fn push(&mut self, group: GroupId, operation: Operation, id: u16, slot: u16, silent: bool) {
        let said = Some(operation.argv.clone());
        let lane = self.add(group, operation);
        self.slots.push(Slot { what: Waits::One(lane), id, said, slot, silent });
    }

    /// Adds an operation that publishes.
    pub fn push_publish(&mut self, group: GroupId, operation: Operation, id: u16, to: (Kin, Bytes), silent: bool) {
        let slot = quoris_engine::slot(&to.1);
        let said = Some(operation.argv.clone());
        let lane = self.add(group, operation);
        self.slots.push(Slot { what: Waits::Publish(lane, to.0, to.1), id, said, slot, silent });
    }

    /// Adds a transaction.
    pub fn push_transaction(
        &mut self,
        group: GroupId,
        operation: Operation,
        inner: Inner,
        id: u16,
        slot: u16,
        silent: bool,
    ) {
        let lane = self.add(group, operation);
        self.slots.push(Slot { what: Waits::Transaction(lane, inner), id, said: None, slot, silent });
    }

    /// Adds a command that is split over groups.
    pub fn push_split(&mut self, join: Join, parts: Vec<(GroupId, Operation)>, said: Argv, id: u16, silent: bool) {
        let lanes = parts.into_iter().map(|(group, operation)| self.add(group, operation)).collect();
        self.slots.push(Slot { what: Waits::Many(join, lanes), id, said: Some(said), slot: 0, silent });
    }

    fn add(&mut self, group: GroupId, operation: Operation) -> u16 {
        self.bytes += operation.argv.frame().len();
        let at = match self.lanes.iter().position(|lane| lane.group == group) {
            Some(at) => at,
            None => {
                self.lanes.push(Lane { group, operations: Vec::new() });
                self.lanes.len() - 1
            }
        };
        self.lanes[at].operations.push(operation);
        u16::try_from(at).expect("at most as many lanes as groups")
    }

    /// Sends every lane and waits for all of them.
    pub async fn send(&mut self, session: &Session, forwards: Forwards) -> Answers {
        self.bytes = 0;
        let slots = std::mem::take(&mut self.slots);
        let lanes = std::mem::take(&mut self.lanes);
        if lanes.len() == 1 {
            let lane = lanes.into_iter().next().expect("one lane");
            let result = lane.run(session, forwards).await;
            return Answers { slots, lanes: SmallVec::from_buf([Answered::new(result)]) };
        }
        let running = lanes.into_iter().map(|lane| lane.run(session, forwards));
        let results = futures_util::future::join_all(running).await;
        Answers { slots, lanes: results.into_iter().map(Answered::new).collect() }
    }

    /// Takes an empty list of slots back, to use its room again.
    pub fn recycle(&mut self, mut answers: Answers) {
        if self.slots.capacity() == 0 && answers.slots.capacity() <= OPERATIONS_MAX {
            answers.slots.clear();
            self.slots = answers.slots;
        }
    }
}

/// What goes on to the leader of its group when that is another node; the rest is answered with MOVED.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Forwards {
    All,
    /// On a connection that said READONLY to a cluster that redirects: replicas answer reads there.
    Reads(ReadAge),
    /// As in Redis Cluster, a replica answers DBSIZE, SCAN and the like, which no key belongs to.
    KeylessReads,
}

impl Forwards {
    pub fn cover(self, operations: &[Operation]) -> bool {
        match self {
            Forwards::All => true,
            Forwards::Reads(_) => operations.iter().all(only_reads),
            Forwards::KeylessReads => {
                operations.iter().all(|operation| !operation.write && operation.command.keys.is_empty())
            }
        }
    }
}

/// A read, or a transaction of reads, which is a write only because EXEC is.
fn only_reads(operation: &Operation) -> bool {
    let is_read =
        |argv: &Argv| command::lookup(argv).is_ok_and(|found| matches!(found.command.handler, Handler::Read(_)));
    let inside = || Transaction::from_argv(&operation.argv).is_ok_and(|inside| inside.commands.iter().all(is_read));
    !operation.write || (operation.transaction && inside())
}

/// What came back.
pub(crate) struct Answers {
    pub slots: Vec<Slot>,
    pub lanes: SmallVec<[Answered; 1]>,
}

pub(crate) enum Answered {
    /// The replies, where the last write stands, and what the reads have seen.
    Done {
        replies: vec::IntoIter<Reply>,
        executed: Option<quoris_raft::Position>,
        seen: u64,
    },
    Failed(Error),
}

impl Answered {
    fn new(result: Result<Executed, Error>) -> Answered {
        match result {
            Ok(Executed { replies, position, seen }) => {
                Answered::Done { replies: replies.into_iter(), executed: position, seen }
            }
            Err(error) => Answered::Failed(error),
        }
    }

    /// The next reply of the lane.
    pub fn next(&mut self, slot: u16, node: &quoris_raft::Node) -> Reply {
        match self {
            Answered::Done { replies, .. } => replies.next().expect("one reply per operation"),
            Answered::Failed(error) => crate::outcome::reply(error, slot, || node.status()),
        }
    }
}

/// Appends a reply unless it is silent.
pub(crate) fn put(reply: &Reply, silent: bool, protocol: quoris_resp::Protocol, output: &mut BytesMut) {
    if !silent {
        quoris_resp::encode(reply, protocol, output);
    }
}
