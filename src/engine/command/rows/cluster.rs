//! Rows about slots and nodes.

use quoris_resp::{Argv, Reply};

use super::*;
use crate::{CommandResult, Error, Keyspace, ReadContext, SLOTS, number};

const ROW: Command = Command { group: Group::Cluster, since: "3.0.0", ..super::ROW };
const CONNECTION_STATE: Command =
    Command { arity: 1, flags: ANYTIME.with(FAST), categories: Some(category::CONNECTION), ..ROW };
const OPERATOR: Flags = STALE.with(ADMIN).with(NOSCRIPT);
const LOOK: Command = Command { arity: 2, flags: ANYTIME, tips: &["nondeterministic_output"], ..ROW };

/// CLUSTER and what a connection says about reading from replicas.
#[rustfmt::skip]
pub const CLUSTER: &[Command] = &[
    Command { name: "cluster", group: Group::Cluster, since: "3.0.0", summary: "Shows slots and nodes.",
        subcommands: SUBCOMMANDS, ..CONTAINER },
    Command { name: "readonly", summary: "Allows this connection to read from replicas.", ..CONNECTION_STATE },
    Command { name: "readwrite", summary: "Ends READONLY.", ..CONNECTION_STATE },
    Command { name: "asking", flags: FAST, summary: "Lets the next command reach a slot that is being imported.",
        ..CONNECTION_STATE },
];

const OPERATOR_STALE: Flags = ADMIN.with(STALE).with(NOSCRIPT);
const SETUP: Flags = NO_ASYNC_LOADING.with(ADMIN).with(STALE);
/// Redis's own steps of building a cluster, which are refused with the name of what does it here.
const REFUSED: Command = Command { arity: -3, flags: SETUP, summary: "Refused: quoris admin does it.", ..ROW };

#[rustfmt::skip]
const SUBCOMMANDS: &[Command] = &[
    Command { name: "addslots", syntax: "slot ...", ..REFUSED },
    Command { name: "addslotsrange", arity: -4, since: "7.0.0", syntax: "{first last} ...", ..REFUSED },
    Command { name: "backup", arity: 3, flags: OPERATOR, since: "0.1.0", complexity: "O(N) for N keys of the group",
        summary: "Takes a snapshot of a group that is led here, and gives it in pieces.", syntax: "group | NEXT", ..ROW },
    Command { name: "bumpepoch", arity: 2, flags: SETUP, summary: "Gives the epoch, which grows by itself.",
        tips: &["nondeterministic_output"], ..ROW },
    Command { name: "cancelslotmigrations", arity: 2, since: "9.0.0", ..REFUSED },
    Command { name: "cancel-move", arity: 2, flags: OPERATOR, since: "0.1.0",
        summary: "Ends a move of slots with what has gone by now.", ..ROW },
    Command { name: "confirm-clock", arity: 2, flags: STALE.with(ADMIN).with(NOSCRIPT), since: "0.1.0",
        complexity: "O(N) for N groups", summary: "Confirms the step of every clock that is held and led here.", ..ROW },
    Command { name: "count-failure-reports", arity: 3, flags: ANYTIME.with(ADMIN),
        summary: "Gives 0: nodes do not vote on who has failed.", syntax: "node-id", tips: &["nondeterministic_output"],
        ..ROW },
    Command { name: "countkeysinslot", arity: 3, flags: STALE, summary: "Counts the keys of a slot.", syntax: "slot",
        handler: Handler::Read(count_keys_in_slot), ..ROW },
    Command { name: "delslots", syntax: "slot ...", ..REFUSED },
    Command { name: "delslotsrange", arity: -4, since: "7.0.0", syntax: "{first last} ...", ..REFUSED },
    Command { name: "failover", arity: -2, flags: SETUP, complexity: "O(N) for N groups",
        summary: "Makes this node lead what the one leads that it follows.", syntax: "[{FORCE | TAKEOVER}]", ..ROW },
    Command { name: "flushslots", arity: 2, ..REFUSED },
    Command { name: "forget", arity: 3, syntax: "node-id", ..REFUSED },
    Command { name: "getkeysinslot", arity: 4, flags: STALE, complexity: "O(N) for N keys given back",
        summary: "Lists keys of a slot.", syntax: "slot count", tips: &["nondeterministic_output"],
        handler: Handler::Read(get_keys_in_slot), ..ROW },
    Command { name: "getslotmigrations", arity: 2, since: "9.0.0", ..REFUSED },
    Command { group: Group::Cluster, ..HELP },
    Command { name: "info", summary: "Describes the cluster as this node sees it.", ..LOOK },
    Command { name: "keyslot", arity: 3, flags: ANYTIME, complexity: "O(N) for N bytes of the key",
        summary: "Computes the slot of a key.", syntax: "key", ..ROW },
    Command { name: "links", since: "7.0.0", complexity: "O(N) for N nodes",
        summary: "Lists the connections to the other nodes.", ..LOOK },
    Command { name: "meet", arity: -4, syntax: "ip port [cluster-bus-port]", ..REFUSED },
    Command { name: "migrateslots", arity: -4, since: "9.0.0", syntax: "arg ...", ..REFUSED },
    Command { name: "migration", arity: -4, since: "8.4.0", syntax: "arg ...", ..REFUSED },
    Command { name: "move-slots", arity: -4, flags: OPERATOR, since: "0.1.0", complexity: "O(N) for N slots",
        summary: "Begins to move slots to a group.", syntax: "first-last group [RATE bytes-per-second]", ..ROW },
    Command { name: "moves", since: "0.1.0", summary: "Shows the slots that are on their way.", ..LOOK },
    Command { name: "myid", summary: "Gives the id of this node.", tips: &[], ..LOOK },
    Command { name: "myshardid", since: "7.2.0", summary: "Gives the id of this node's group.", ..LOOK },
    Command { name: "node", arity: -3, flags: STALE.with(ADMIN).with(NOSCRIPT), since: "0.1.0",
        complexity: "O(N) for N groups", summary: "Lists nodes, drains, removes or replaces one, shows what is awaited.",
        syntax: "LIST | AWAITED | DRAIN node | SERVE node | REMOVE node | REPLACE node", ..ROW },
    Command { name: "nodes", complexity: "O(N) for N nodes", summary: "Lists the nodes in the form of a nodes file.",
        ..LOOK },
    Command { name: "replicas", arity: 3, flags: STALE.with(LOADING).with(ADMIN), since: "5.0.0",
        complexity: "O(N) for N replicas", summary: "Lists the replicas of a node.", syntax: "node-id", ..LOOK },
    Command { name: "replicate", arity: 3, syntax: "node-id", ..REFUSED },
    Command { name: "reset", arity: -2, flags: OPERATOR_STALE, syntax: "[{HARD | SOFT}]", ..REFUSED },
    Command { name: "saveconfig", arity: 2, ..REFUSED },
    Command { name: "set-config-epoch", arity: 3, syntax: "config-epoch", ..REFUSED },
    Command { name: "setslot", arity: -4, syntax: "slot {IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE}",
        ..REFUSED },
    Command { name: "shards", since: "7.0.0", complexity: "O(N) for N nodes",
        summary: "Lists slots and nodes by group.", ..LOOK },
    Command { name: "slaves", arity: 3, flags: STALE.with(LOADING).with(ADMIN), complexity: "O(N) for N replicas",
        summary: "Lists the replicas of a node.", syntax: "node-id", deprecated: Some(("5.0.0", "`CLUSTER REPLICAS`")),
        ..LOOK },
    Command { name: "slot-stats", arity: -4, flags: ANYTIME, since: "8.2.0", complexity: "O(N log N) for N slots",
        summary: "Lists the slots that this node leads, with numbers.",
        syntax: "{SLOTSRANGE first last | ORDERBY metric [LIMIT limit] [{ASC | DESC}]}",
        tips: &["nondeterministic_output"], ..ROW },
    Command { name: "slots", complexity: "O(N) for N nodes", summary: "Lists slot ranges with their nodes.",
        deprecated: Some(("7.0.0", "`CLUSTER SHARDS`")), ..LOOK },
    Command { name: "syncslots", since: "8.4.0", syntax: "arg ...", ..REFUSED },
];

/// Keys that one step of a walk over a slot visits.
const STEP: usize = 1000;

/// A slot, as Redis checks it; out of bounds it is `refusal`.
fn slot_of(argv: &Argv, refusal: &'static str) -> Result<u16, Error> {
    let number = number::integer(&argv[2]).ok_or(Error::NotAnInteger)?;
    u16::try_from(number).ok().filter(|slot| *slot < SLOTS).ok_or_else(|| Error::text(refusal))
}

/// CLUSTER COUNTKEYSINSLOT
fn count_keys_in_slot(keyspace: &Keyspace, _: &ReadContext, argv: &Argv) -> CommandResult {
    let slot = slot_of(argv, "ERR Invalid slot")?;
    Ok(Reply::Int(i64::try_from(keyspace.slot_len(slot)).unwrap_or(i64::MAX)))
}

/// CLUSTER GETKEYSINSLOT, of the selected database.
fn get_keys_in_slot(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    const REFUSAL: &str = "ERR Invalid slot or number of keys";
    let slot = slot_of(argv, REFUSAL)?;
    let count = number::integer(&argv[3]).ok_or(Error::NotAnInteger)?;
    let count = usize::try_from(count).map_err(|_| Error::text(REFUSAL))?;
    let mut keys = Vec::new();
    // A cursor is the slot above 32 bits of hash, so a walk may begin at any slot.
    let mut cursor = u64::from(slot) << 32;
    while keys.len() < count {
        cursor = keyspace.scan(context.database, cursor, STEP.min(count), &mut |key, _| {
            if crate::slot(key) == slot {
                keys.push(Reply::bulk(key));
            }
        });
        if cursor == 0 || cursor >> 32 != u64::from(slot) {
            break;
        }
    }
    keys.truncate(count);
    Ok(Reply::Array(keys))
}
