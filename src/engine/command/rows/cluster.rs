//! Rows about slots and nodes.

use super::*;

const ROW: Command = Command { group: Group::Cluster, since: "3.0.0", ..super::ROW };
const CONNECTION_STATE: Command =
    Command { arity: 1, flags: ANYTIME.with(FAST), categories: Some(category::CONNECTION), ..ROW };
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

#[rustfmt::skip]
const SUBCOMMANDS: &[Command] = &[
    Command { name: "confirm-clock", arity: 2, flags: STALE.with(ADMIN).with(NOSCRIPT), since: "0.1.0",
        complexity: "O(N) for N groups", summary: "Confirms the step of every clock that is held and led here.", ..ROW },
    Command { name: "countkeysinslot", arity: 3, flags: STALE, summary: "Counts the keys of a slot.", syntax: "slot",
        ..ROW },
    Command { name: "getkeysinslot", arity: 4, flags: STALE, complexity: "O(N) for N keys given back",
        summary: "Lists keys of a slot.", syntax: "slot count", tips: &["nondeterministic_output"], ..ROW },
    Command { group: Group::Cluster, ..HELP },
    Command { name: "info", summary: "Describes the cluster as this node sees it.", ..LOOK },
    Command { name: "keyslot", arity: 3, flags: ANYTIME, complexity: "O(N) for N bytes of the key",
        summary: "Computes the slot of a key.", syntax: "key", ..ROW },
    Command { name: "links", since: "7.0.0", complexity: "O(N) for N nodes",
        summary: "Lists the connections to the other nodes.", ..LOOK },
    Command { name: "myid", summary: "Gives the id of this node.", tips: &[], ..LOOK },
    Command { name: "myshardid", since: "7.2.0", summary: "Gives the id of this node's group.", ..LOOK },
    Command { name: "nodes", complexity: "O(N) for N nodes", summary: "Lists the nodes in the form of a nodes file.",
        ..LOOK },
    Command { name: "replicas", arity: 3, flags: STALE.with(LOADING).with(ADMIN), since: "5.0.0",
        complexity: "O(N) for N replicas", summary: "Lists the replicas of a node.", syntax: "node-id", ..LOOK },
    Command { name: "shards", since: "7.0.0", complexity: "O(N) for N nodes",
        summary: "Lists slots and nodes by group.", ..LOOK },
    Command { name: "slaves", arity: 3, flags: STALE.with(LOADING).with(ADMIN), complexity: "O(N) for N replicas",
        summary: "Lists the replicas of a node.", syntax: "node-id", deprecated: Some(("5.0.0", "`CLUSTER REPLICAS`")),
        ..LOOK },
    Command { name: "slots", complexity: "O(N) for N nodes", summary: "Lists slot ranges with their nodes.",
        deprecated: Some(("7.0.0", "`CLUSTER SHARDS`")), ..LOOK },
];
