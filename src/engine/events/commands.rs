//! PUBLISH and SPUBLISH: writes, whose only effect is an event.
//!
//! The reply is 0 here: how many subscribers there are is known to the nodes and not to the log.

use quoris_resp::{Argv, Reply};

use super::Event;
use crate::command::*;
use crate::{ApplyContext, CommandResult, Keyspace};

const PUBLISHING: Command = Command {
    arity: 3,
    flags: PUBSUB.with(LOADING).with(STALE).with(FAST).with(MAY_REPLICATE),
    group: Group::PubSub,
    channel: Some(1),
    ..ROW
};

/// The rows of the commands that publish.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command { name: "publish", since: "2.0.0",
        complexity: "O(N+M) for N subscribers of the channel and M patterns", summary: "Sends a message to a channel.",
        syntax: "channel message", handler: Handler::Write(publish), ..PUBLISHING },
    Command { name: "spublish", since: "7.0.0", complexity: "O(N) for N subscribers of the channel",
        keys: &[one(key_flag::NOT_KEY, 1)], summary: "Sends a message to a channel of a slot.",
        syntax: "shardchannel message", handler: Handler::Write(spublish), ..PUBLISHING },
];

fn send(keyspace: &mut Keyspace, argv: &Argv, sharded: bool) -> CommandResult {
    if let (Some(channel), Some(payload)) = (argv.slice(1), argv.slice(2)) {
        keyspace.events_mut().push(Event::Message { channel, payload, sharded });
    }
    Ok(Reply::Int(0))
}

/// PUBLISH
fn publish(keyspace: &mut Keyspace, _context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    send(keyspace, argv, false)
}

/// SPUBLISH
fn spublish(keyspace: &mut Keyspace, _context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    send(keyspace, argv, true)
}
