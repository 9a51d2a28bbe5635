//! The leader makes room: it chooses keys by what it alone knows and removes them through the log.
//!
//! Keys give way ahead of need: a task looks ten times a second, and a write that finds the node above its limit
//! waits until the leader has made room. Many writes that come together wait for the same entry. When nothing
//! can give way, commands that take memory are refused before they are proposed, and what may take memory within
//! a script is told so in its entry.
//!
//! Invariants:
//! * What was refused is not in the log.
//! * Only the leader's choice depends on clocks, reads and memory; the entry names keys and versions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quoris_engine::command::{self, DENYOOM};
use quoris_engine::entry::Transaction;
use quoris_engine::{Victims, evict, outcome};
use quoris_resp::{Argv, Reply};
use tokio::sync::Mutex;

use crate::memory::Memory;
use crate::propose::{Operation, Outcome, Proposer};
use crate::replica::Replica;
use crate::runtime::random_u64;
use crate::types::Raft;

/// Between two looks, and how often the clock moves by which keys rest.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes and keys that one entry frees: what others wait for meanwhile.
const STEP_BYTES: u64 = 1 << 20;
const STEP_KEYS: usize = 256;
/// Entries that a write waits for; the rest is freed behind it.
const STEPS_MAX: u32 = 8;

/// Makes room in one group.
pub struct Evictor {
    raft: Raft,
    replica: Arc<Replica>,
    proposer: Proposer,
    memory: Arc<Memory>,
    victims: Mutex<Victims>,
}

/// Whether there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// Enough, or the group is below its part.
    Enough,
    /// Not yet, but something gave way.
    Soon,
    /// Nothing can give way.
    None,
}

impl Evictor {
    /// For a replica.
    pub fn new(raft: Raft, replica: Arc<Replica>, proposer: Proposer, memory: Arc<Memory>) -> Evictor {
        Evictor { raft, replica, proposer, memory, victims: Mutex::new(Victims::new(random_u64())) }
    }

    /// Keeps the clock of uses, and makes room whenever this replica leads; for as long as it lives.
    pub async fn run(self: Arc<Evictor>) {
        let begun = tokio::time::Instant::now();
        loop {
            // It does not begin at 0, which would mean that it was not set.
            let ms = begun.elapsed().as_millis() as u64 + 1000;
            self.replica.engine.read().keyspace().set_access_clock(ms);
            if self.raft.as_leader().is_ok() {
                self.make_room().await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Makes room for a while; false when nothing can give way.
    async fn make_room(&self) -> bool {
        if !self.memory.is_over() {
            return true;
        }
        // Whoever waits here finds the room that was made meanwhile.
        let mut victims = self.victims.lock().await;
        for _ in 0..STEPS_MAX {
            match self.step(&mut victims).await {
                Room::Enough => return true,
                Room::Soon => {}
                Room::None => return !self.memory.is_over(),
            }
        }
        true
    }

    async fn step(&self, victims: &mut Victims) -> Room {
        if !self.memory.is_over() {
            return Room::Enough;
        }
        let chosen = {
            let engine = self.replica.engine.read();
            let own = engine.keyspace().memory_bytes();
            let is_evicting = engine.keyspace().evicts();
            match self.memory.owed(own).map(|bytes| bytes.min(STEP_BYTES)) {
                Some(bytes) => victims.choose(engine.keyspace(), self.memory.samples(), bytes, STEP_KEYS),
                // Others have to; meanwhile this one may go on.
                None if is_evicting => return Room::Enough,
                None => return Room::None,
            }
        };
        if chosen.is_empty() {
            return Room::None;
        }
        let mut databases: Vec<u32> = chosen.iter().map(|victim| victim.database).collect();
        databases.sort_unstable();
        databases.dedup();
        let of = |database: &u32| {
            let keys: Vec<_> = chosen.iter().filter(|victim| victim.database == *database).cloned().collect();
            Operation { database: *database, ..Operation::of_node(evict::to_argv(&keys)) }
        };
        match self.proposer.submit(databases.iter().map(of).collect(), None, false).await {
            Outcome::Applied(replies, ..) => {
                let evicted = |reply: &Reply| if let Reply::Int(count) = reply { count.unsigned_abs() } else { 0 };
                self.memory.note_evicted(replies.iter().map(evicted).sum());
                Room::Soon
            }
            // It does not lead; the next one will see.
            Outcome::NotExecuted(_) | Outcome::Unknown(_) => Room::Enough,
        }
    }

    /// Whether there is no room for these operations, some of which may take memory.
    pub async fn is_short_for(&self, operations: &[Operation]) -> bool {
        self.memory.is_over()
            && operations.iter().any(|operation| takes_memory(operation) || may_take_memory(operation))
            && !self.make_room().await
    }
}

impl Replica {
    /// The engine's count of its data has changed.
    pub(crate) fn note_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}

/// Whether an operation is refused when memory is short: a write, or a transaction with one.
pub fn takes_memory(operation: &Operation) -> bool {
    let takes = |argv: &Argv| command::lookup(argv).is_ok_and(|found| found.command.flags.has(DENYOOM));
    let is_row = operation.command.flags.has(DENYOOM);
    let transaction = operation.transaction.then(|| Transaction::from_argv(&operation.argv));
    operation.write && (is_row || matches!(transaction, Some(Ok(it)) if it.commands.iter().any(takes)))
}

/// Whether an operation may run such commands: a script, alone or in a transaction.
fn may_take_memory(operation: &Operation) -> bool {
    operation.write && (operation.transaction || operation.command.group == command::Group::Scripting)
}

/// What the client of an operation is told that was refused.
pub fn refusal(operation: &Operation) -> Reply {
    Reply::error(if operation.transaction { outcome::EXEC_OUT_OF_MEMORY } else { outcome::OUT_OF_MEMORY })
}
