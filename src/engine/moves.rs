//! Slots that move to another group: what the logs of both groups say of it.
//!
//! Who owns a slot is decided in the meta group; what a group serves is state of the group and changes by entries of
//! its own log alone. So a node that routes by an old map writes nothing to a former owner: apply refuses, with
//! [`Reply::Elsewhere`], any command with a slot that the group does not serve, and that has no effect.
//!
//! An attempt to move a range of slots has a number, which the meta group gave and which is greater than those of
//! all earlier attempts in the cluster. Nodes propose, and no client can send:
//!
//! | in the log of | words | what it does |
//! |---|---|---|
//! | the target | `TAKE attempt first last` | begins to take the slots in, beside the keys, invisible |
//! | the target | `LOAD attempt number bytes` | takes some keys in, or takes them out again, or a part of a large value |
//! | the source | `FREEZE attempt first last` | serves the slots no more; their keys stand still |
//! | the target | `SEAL attempt clock frozen digest versions sessions` | checks that all has come |
//! | the target | `OWN attempt first last` | makes it its own, some keys at a time, then serves it and tells above which index it is |
//! | the source | `DROP attempt first last group index` | removes the keys, some at a time, then tells who has the slots |
//! | the source | `THAW attempt` | serves again what an earlier attempt froze |
//! | the target | `FORGET attempt` | drops what was taken in up to this attempt |
//!
//! Invariants:
//! * Each may be proposed again, and late ones of an earlier attempt do nothing.
//! * A group that never gave or took a slot pays a branch for each command.
//! * While slots are frozen, or some of their keys are owned already, commands that name no key wait as well: they may
//!   be about any.
//! * No step is more work than a few thousand small things, or a few hundred kilobytes, and what it frees is freed
//!   elsewhere. `OWN` and `DROP` answer how much is left, 0 at the end.

mod arriving;
mod incoming;
mod parcel;
mod part;
mod source;

use bytes::Bytes;
use quoris_resp::{Argv, Reply};
use serde::{Deserialize, Serialize};

use crate::command::{self, ADMIN, ApplyContext, Command, Handler, ROW, WRITE};
use crate::entry::Transaction;
use crate::events::Event;
use crate::keyspace::Trash;
use crate::session::{self, Homes, Sessions};
use crate::{CommandResult, Engine, Error, Keyspace, SLOTS, codec, number, slot};
pub(crate) use arriving::Arriving;
pub(crate) use incoming::Incoming;
pub use parcel::parcels;
pub use source::{Heavy, Picked, Picks, Sending, Sum, Walk};

/// The name of the command in the log.
pub const NAME: &str = "QUORIS.MOVE";

/// Not in the table: a client that sends it is told that there is no such command. The engine runs it itself,
/// because sessions move as well.
pub static COMMAND: Command = Command {
    name: "quoris.move",
    arity: -3,
    flags: WRITE.with(ADMIN),
    summary: "One step of slots on their way to another group.",
    syntax: "step attempt [word ...]",
    handler: Handler::Server,
    ..ROW
};

/// Keys that one step puts into the keyspace, or takes out.
const STEP_KEYS: u64 = 4096;

/// Slots in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
}

impl Range {
    /// Whether a slot is one of them.
    pub fn holds(self, slot: u16) -> bool {
        (self.first..=self.last).contains(&slot)
    }

    /// Whether all of them are in one of some ranges.
    fn is_within(self, ranges: &[(u16, u16)]) -> bool {
        ranges.iter().any(|(first, last)| (*first..=*last).contains(&self.first) && self.last <= *last)
    }
}

/// Adds a range to others; those that touch each other become one.
pub fn with_range(ranges: &[(u16, u16)], range: Range) -> Vec<(u16, u16)> {
    let mut all = ranges.to_vec();
    all.push((range.first, range.last));
    all.sort_unstable();
    let mut joined: Vec<(u16, u16)> = Vec::with_capacity(all.len());
    for (first, last) in all {
        match joined.last_mut() {
            Some(before) if u32::from(before.1) + 1 >= u32::from(first) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// Takes a range out of others.
pub fn without_range(ranges: &[(u16, u16)], range: Range) -> Vec<(u16, u16)> {
    let pieces = ranges.iter().flat_map(|&(first, last)| {
        let before = (first < range.first).then(|| (first, last.min(range.first.wrapping_sub(1))));
        let behind = (last > range.last).then(|| (first.max(range.last.saturating_add(1)), last));
        [before, behind].into_iter().flatten()
    });
    pieces.collect()
}

/// Slots that are not served any more and have no other owner yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// By which attempt.
    pub attempt: u64,
    /// Which ones.
    pub range: Range,
    /// The applied clock at that moment: what was due by it stays here.
    pub clock_ms: u64,
    /// It is decided that they go, and some keys may be gone.
    pub leaving: bool,
}

/// What is on its way, from or to this group.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// The greatest attempt that the group has heard of.
    seen: u64,
    frozen: Option<Frozen>,
    incoming: Option<Incoming>,
}

impl Moves {
    /// Slots that wait for their new owner.
    pub(crate) fn frozen(&self) -> Option<Frozen> {
        self.frozen
    }

    /// Slots of which some keys are in the keyspace, and nobody is served yet.
    pub(crate) fn owning(&self) -> Option<Range> {
        self.incoming.as_ref().filter(|incoming| incoming.is_owned()).map(Incoming::range)
    }

    /// Whether anything is on its way now.
    pub(crate) fn is_busy(&self) -> bool {
        self.frozen.is_some() || self.incoming.is_some()
    }

    /// The keys of [`Moves::owning`] that were in the keyspace are there again, behind a restore.
    pub(crate) fn own_again(&self, keys: &mut Keyspace) {
        self.incoming.iter().filter(|incoming| incoming.is_owned()).for_each(|incoming| incoming.own_again(keys));
    }

    /// A hash of all of it, and of the slots that the group owns.
    pub(crate) fn digest(&self, slots: Option<&[(u16, u16)]>) -> u64 {
        let incoming = self.incoming.as_ref().map(Incoming::digest);
        xxhash_rust::xxh3::xxh3_64(&codec::bytes(&(self.seen, self.frozen, incoming, slots.map(<[_]>::to_vec))))
    }

    /// All but the keys that were taken in, for a snapshot.
    pub(crate) fn saved(&self) -> Vec<u8> {
        codec::bytes(&(self.seen, self.frozen, self.incoming.as_ref().map(Incoming::head)))
    }

    /// The keys that were taken in, as they are now.
    pub(crate) fn capture(&self) -> Arriving {
        self.incoming.as_ref().map(Incoming::capture).unwrap_or_default()
    }

    /// Restores what [`Moves::saved`] and then [`Arriving::next`] gave.
    ///
    /// # Errors
    /// With a description when the bytes are damaged.
    pub(crate) fn restore(saved: &[u8], keys: &[Vec<u8>], databases: u32) -> Result<Moves, String> {
        let ((seen, frozen, head), len): ((u64, Option<Frozen>, Option<incoming::Head>), usize) =
            codec::read(saved, "moves").map_err(|e| e.to_string())?;
        if len != saved.len() {
            return Err("bytes behind the moves".into());
        }
        let incoming = head.map(|head| Incoming::restore(head, keys, databases)).transpose()?;
        Ok(Moves { seen, frozen, incoming })
    }
}

impl Keyspace {
    /// Whether commands with these homes may run here; [`SLOTS`] stands for the whole group.
    pub(crate) fn serves(&self, slots: &[u16]) -> bool {
        slots.iter().all(|slot| if *slot == SLOTS { !self.is_frozen() } else { self.serves_slot(*slot) })
    }

    /// Whether a command for these slots is to be asked where it belongs.
    pub(crate) fn is_guarded(&self) -> bool {
        self.moves().is_some()
    }

    /// The same for one key.
    pub fn serves_key(&self, key: &[u8]) -> bool {
        !self.is_guarded() || self.serves_slot(slot(key))
    }

    /// Whether this group may run a command now. If not, the group of its slots may be another by now.
    pub fn serves_command(&self, command: &Command, argv: &Argv) -> bool {
        !self.is_guarded() || self.serves(&session::homes(slots_of(command, argv).into_iter()))
    }
}

/// The slots of the keys of a command, or of its channel.
pub fn slots_of(command: &Command, argv: &Argv) -> Homes {
    command.routed_by(argv).into_iter().filter_map(|at| argv.get(at)).map(slot).collect()
}

/// The slots that decide where a transaction runs. What is published inside goes along, wherever its channel is at
/// home.
pub fn slots_of_transaction(transaction: &Transaction) -> Homes {
    let rows = transaction.commands.iter().filter_map(|argv| Some((command::lookup(argv).ok()?.command, argv)));
    let others = rows.filter(|(row, _)| row.channel.is_none() || !row.keys.is_empty());
    let watched = transaction.watches.iter().map(|watch| slot(&watch.key));
    session::homes(others.flat_map(|(row, argv)| slots_of(row, argv)).chain(watched))
}

fn refused(text: &'static str) -> Error {
    Error::text(text)
}

fn word(argv: &Argv, at: usize) -> Result<u64, Error> {
    let n = argv.get(at).and_then(number::integer).and_then(|n| u64::try_from(n).ok());
    n.ok_or_else(|| refused("ERR a word of a move is no number"))
}

fn range(argv: &Argv) -> Result<Range, Error> {
    let slot = |at| word(argv, at)?.try_into().ok().filter(|slot| *slot < SLOTS).ok_or_else(|| refused("ERR no slot"));
    let (first, last) = (slot(3)?, slot(4)?);
    if first <= last { Ok(Range { first, last }) } else { Err(refused("ERR no slot")) }
}

/// A step, as the command that is proposed. Numbers are the attempt and what the step wants behind it.
pub fn step(name: &str, numbers: &[u64]) -> Argv {
    let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
    let mut parts = vec![NAME, name];
    parts.extend(numbers.iter().map(String::as_str));
    Argv::from_parts(&parts)
}

/// Whether a command is a `LOAD`: of what it carries there was an earlier format.
pub(crate) fn is_load(argv: &Argv) -> bool {
    argv.get(0).is_some_and(|name| name.eq_ignore_ascii_case(NAME.as_bytes()))
        && argv.get(1).is_some_and(|step| step.eq_ignore_ascii_case(b"LOAD"))
}

/// `LOAD`: the parcel with this number, from 0 on.
pub fn load(attempt: u64, number: u64, parcel: &[u8]) -> Argv {
    let numbers = [attempt, number].map(|n| n.to_string());
    Argv::from_parts(&[NAME.as_bytes(), b"LOAD", numbers[0].as_bytes(), numbers[1].as_bytes(), parcel])
}

const STALE: &str = "ERR a later attempt to move slots has begun";
const NOT_OWNED: &str = "ERR the group does not own the slots";

impl Engine {
    /// One step of a move.
    pub(crate) fn move_slots(&mut self, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
        let attempt = word(argv, 2)?;
        match (argv[1].to_ascii_uppercase().as_slice(), argv.len()) {
            (b"TAKE", 5) => self.take_slots(attempt, range(argv)?),
            (b"LOAD", 5) => self.load_keys(attempt, word(argv, 3)?, argv.slice(4).expect("the length was checked")),
            (b"SEAL", 8) => {
                let incoming = self.keyspace.moves_mut().incoming_of(attempt)?;
                if !Sessions::can_arrive(&argv[7]) {
                    return Err(refused("ERR the sessions of the slots are damaged"));
                }
                let numbers = (word(argv, 3)?, word(argv, 4)?, word(argv, 5)?);
                let sealed = incoming.seal(context.index, numbers, &argv[6], &argv[7]);
                let dropped = incoming.take_dropped();
                self.keyspace.throw_away(dropped);
                sealed.map(|()| Reply::Int(1))
            }
            (b"OWN", 5) => self.own_slots(attempt, range(argv)?),
            (b"FORGET", 3) => {
                let moves = self.keyspace.moves_mut();
                moves.seen = moves.seen.max(attempt);
                let old = moves.incoming.take_if(|incoming| incoming.attempt() <= attempt && !incoming.is_owned());
                self.keyspace.throw_away(old.map(|old| Box::new(old) as Trash));
                Ok(Reply::Int(1))
            }
            (b"FREEZE", 5) => self.freeze_slots(attempt, range(argv)?),
            (b"THAW", 3) => {
                let moves = self.keyspace.moves_mut();
                moves.seen = moves.seen.max(attempt);
                moves.frozen.take_if(|frozen| frozen.attempt < attempt && !frozen.leaving);
                Ok(Reply::Int(1))
            }
            (b"DROP", 7) => self.drop_slots(attempt, range(argv)?, word(argv, 5)?, word(argv, 6)?),
            _ => Err(refused("ERR no step of a move")),
        }
    }

    fn take_slots(&mut self, attempt: u64, range: Range) -> CommandResult {
        if (range.first..=range.last).any(|slot| self.keyspace.serves_slot(slot)) {
            return Err(refused("ERR the group owns some of the slots"));
        }
        let moves = self.keyspace.moves_mut();
        if moves.incoming.as_ref().is_some_and(|incoming| incoming.attempt() == attempt) {
            return Ok(Reply::Int(1));
        }
        if attempt <= moves.seen || moves.owning().is_some() {
            return Err(refused(STALE));
        }
        moves.seen = attempt;
        let old = moves.incoming.replace(Incoming::new(attempt, range));
        self.keyspace.throw_away(old.map(|old| Box::new(old) as Trash));
        Ok(Reply::Int(1))
    }

    fn load_keys(&mut self, attempt: u64, number: u64, parcel: Bytes) -> CommandResult {
        let databases = self.keyspace.databases();
        let moves = self.keyspace.moves_mut();
        let incoming = moves.incoming_of(attempt)?;
        let next = incoming.load(number, parcel, databases)?;
        let dropped = incoming.take_dropped();
        // What is damaged may have come in part: nothing of the attempt is of use any more.
        let spoiled = next.is_none().then(|| moves.incoming.take()).flatten();
        self.keyspace.throw_away(dropped.into_iter().chain(spoiled.map(|spoiled| Box::new(spoiled) as Trash)));
        next.map(|next| Reply::Int(next as i64)).ok_or_else(|| refused("ERR a parcel of a move is damaged"))
    }

    fn own_slots(&mut self, attempt: u64, range: Range) -> CommandResult {
        let keys = &mut self.keyspace;
        if (range.first..=range.last).all(|slot| keys.serves_slot(slot)) {
            return Ok(Reply::Int(0));
        }
        let incoming = keys.moves_mut().incoming_of(attempt)?;
        if !incoming.is_sealed() {
            return Err(refused("ERR the slots have not come as a whole"));
        }
        let mut incoming = keys.moves_mut().incoming.take().expect("it is there");
        let left = incoming.own_some(keys, STEP_KEYS);
        if left > 0 {
            keys.moves_mut().incoming = Some(incoming);
            return Ok(Reply::Int(left as i64));
        }
        let sealed = incoming.settle(keys);
        let owned = with_range(keys.slots().unwrap_or(&[(0, SLOTS - 1)]), incoming.range());
        keys.set_slots((owned != [(0, SLOTS - 1)]).then(|| owned.into()));
        let range = incoming.range();
        keys.throw_away([Box::new(incoming) as Trash]);
        self.sessions.arrive(&sealed.sessions).map_err(|_| refused("ERR the sessions of the slots are damaged"))?;
        self.keyspace.advance(sealed.clock_ms);
        self.keyspace.events_mut().push(Event::Arrived { range, index: sealed.index });
        Ok(Reply::Int(0))
    }

    fn freeze_slots(&mut self, attempt: u64, range: Range) -> CommandResult {
        let clock_ms = self.keyspace.now_ms();
        let keys = &mut self.keyspace;
        if !range.is_within(keys.slots().unwrap_or(&[(0, SLOTS - 1)])) {
            return Err(refused(NOT_OWNED));
        }
        let moves = keys.moves_mut();
        if attempt < moves.seen || moves.frozen.is_some_and(|frozen| frozen.attempt != attempt) {
            return Err(refused(STALE));
        }
        moves.seen = attempt;
        moves.frozen.get_or_insert(Frozen { attempt, range, clock_ms, leaving: false });
        keys.forget_copies(range);
        Ok(Reply::Int(1))
    }

    fn drop_slots(&mut self, attempt: u64, range: Range, group: u64, index: u64) -> CommandResult {
        let keys = &mut self.keyspace;
        let Some(frozen) = keys.moves_mut().frozen.as_mut().filter(|frozen| frozen.attempt == attempt) else {
            let owns = (range.first..=range.last).any(|slot| keys.serves_slot(slot));
            return if owns { Err(refused(STALE)) } else { Ok(Reply::Int(0)) };
        };
        frozen.leaving = true;
        let frozen = *frozen;
        let left = keys.leave_slots(frozen.range, frozen.clock_ms, STEP_KEYS);
        if left > 0 {
            return Ok(Reply::Int(left.div_ceil(STEP_KEYS) as i64));
        }
        keys.moves_mut().frozen = None;
        let left = without_range(keys.slots().unwrap_or(&[(0, SLOTS - 1)]), frozen.range);
        keys.set_slots(Some(left.into()));
        let group = u32::try_from(group).unwrap_or(u32::MAX);
        keys.events_mut().push(Event::Moved { range: frozen.range, group, index });
        Ok(Reply::Int(0))
    }
}

impl Moves {
    fn incoming_of(&mut self, attempt: u64) -> Result<&mut Incoming, Error> {
        self.incoming.as_mut().filter(|incoming| incoming.attempt() == attempt).ok_or_else(|| refused(STALE))
    }
}

#[cfg(test)]
mod tests;
