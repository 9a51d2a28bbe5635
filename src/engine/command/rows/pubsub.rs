//! Rows of the commands that listen. Those that publish are writes and stand with the events.

use super::*;

const ROW: Command = Command { group: Group::PubSub, flags: OWN.with(PUBSUB), since: "2.0.0", ..super::ROW };
const LISTENS: Command = Command { flags: ROW.flags.with(DENYOOM), ..ROW };
const ASKS: Command = Command { flags: ANYTIME.with(PUBSUB), since: "2.8.0", ..ROW };

/// SUBSCRIBE, PUBSUB and their kin.
#[rustfmt::skip]
pub const PUBSUB_ROWS: &[Command] = &[
    Command { name: "subscribe", arity: -2, complexity: "O(N) for N channels",
        summary: "Listens to messages of channels.", syntax: "channel ...", ..LISTENS },
    Command { name: "unsubscribe", arity: -1, complexity: "O(N) for N channels",
        summary: "Listens to channels no more, to all when none is named.", syntax: "[channel ...]", ..ROW },
    Command { name: "psubscribe", arity: -2, complexity: "O(N) for N patterns",
        summary: "Listens to messages of all channels that match a pattern.", syntax: "pattern ...", ..LISTENS },
    Command { name: "punsubscribe", arity: -1, complexity: "O(N) for N patterns",
        summary: "Listens to patterns no more, to all when none is named.", syntax: "[pattern ...]", ..ROW },
    Command { name: "ssubscribe", arity: -2, since: "7.0.0", keys: &[rest(key_flag::NOT_KEY, 1)],
        complexity: "O(N) for N channels", summary: "Listens to messages of the channels of a slot.",
        syntax: "shardchannel ...", ..LISTENS },
    Command { name: "sunsubscribe", arity: -1, since: "7.0.0", keys: &[rest(key_flag::NOT_KEY, 1)],
        complexity: "O(N) for N channels",
        summary: "Listens to the channels of a slot no more, to all when none is named.",
        syntax: "[shardchannel ...]", ..ROW },
    Command { name: "pubsub", since: "2.8.0", group: Group::PubSub, summary: "Tells who listens to what.",
        subcommands: PUBSUB_SUB, ..CONTAINER },
];

#[rustfmt::skip]
const PUBSUB_SUB: &[Command] = &[
    Command { name: "channels", arity: -2, complexity: "O(N) for N channels that somebody listens to",
        summary: "Lists the channels that somebody listens to.", syntax: "[pattern]", ..ASKS },
    Command { group: Group::PubSub, since: "6.2.0", ..HELP },
    Command { name: "numpat", arity: 2, summary: "Counts the patterns that somebody listens to.", ..ASKS },
    Command { name: "numsub", arity: -2, complexity: "O(N) for N channels",
        summary: "Counts who listens to channels, patterns apart.", syntax: "[channel ...]", ..ASKS },
    Command { name: "shardchannels", arity: -2, since: "7.0.0",
        complexity: "O(N) for N channels that somebody listens to",
        summary: "Lists the channels of slots that somebody listens to.", syntax: "[pattern]", ..ASKS },
    Command { name: "shardnumsub", arity: -2, since: "7.0.0", complexity: "O(N) for N channels",
        summary: "Counts who listens to channels of slots.", syntax: "[shardchannel ...]", ..ASKS },
];
