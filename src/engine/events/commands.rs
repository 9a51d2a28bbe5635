//! PUBLISH and SPUBLISH: writes, whose only effect is an event, or a message that waits for another group.
//!
//! The reply is 0 here: how many subscribers there are is known to the nodes and not to the log.

use bytes::Bytes;
use quoris_resp::{Argv, Reply};

use super::{Event, Outgoing};
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

fn send(keyspace: &mut Keyspace, context: &ApplyContext, argv: &Argv, sharded: bool) -> CommandResult {
    if keyspace.owns(&argv[1]) {
        let [channel, payload] = [1, 2].map(|at| argv.slice(at).unwrap_or_default());
        keyspace.events_mut().push(Event::Message { channel, payload, sharded });
    } else {
        // What stays must not pin the entry.
        let [channel, payload] = [1, 2].map(|at| Bytes::copy_from_slice(&argv[at]));
        keyspace.outbox_mut().post(context.index, Outgoing { channel, payload, sharded })?;
    }
    Ok(Reply::Int(0))
}

/// PUBLISH
fn publish(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    send(keyspace, context, argv, false)
}

/// SPUBLISH
fn spublish(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    send(keyspace, context, argv, true)
}
