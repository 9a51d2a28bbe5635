//! Every setting: the one table.
//!
//! The sample file, CONFIG GET and SET, the command line and both file formats derive from it. Names
//! are Redis's wherever Redis has the setting. Settings that Redis has and that mean nothing here are in
//! `remembered.rs`: they are accepted, kept and read back.

use super::kind::Kind;
pub use super::remembered::REMEMBERED;

/// When a setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// At once.
    Live,
    /// When the program starts; it cannot be changed afterwards.
    Start,
    /// Never: it is only kept.
    None,
    /// Never, and as in Redis it cannot be changed at run time.
    Fixed,
}

/// Whose a setting is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each node has its own.
    Node,
    /// Part of the group's state: the file only seeds it when the cluster is created.
    Replicated,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Other names that Redis has or had for it.
    pub aliases: &'static [&'static str],
    /// What it may be.
    pub kind: Kind,
    /// What it is when nobody says anything.
    pub default: &'static str,
    /// When it takes effect.
    pub effect: Effect,
    /// Whose it is.
    pub scope: Scope,
    /// What is counted; empty where nothing is.
    pub unit: &'static str,
    /// The version that brought it.
    pub since: &'static str,
    /// What it does, in one or two sentences.
    pub meaning: &'static str,
}

const fn live(name: &'static str, kind: Kind, default: &'static str, unit: &'static str, meaning: &'static str) -> Key {
    Key { name, aliases: &[], kind, default, effect: Effect::Live, scope: Scope::Node, unit, since: "0.1.0", meaning }
}

const fn start(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    unit: &'static str,
    meaning: &'static str,
) -> Key {
    Key { effect: Effect::Start, ..live(name, kind, default, unit, meaning) }
}

const fn replicated(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    unit: &'static str,
    meaning: &'static str,
) -> Key {
    Key { scope: Scope::Replicated, ..live(name, kind, default, unit, meaning) }
}

const fn also(key: Key, aliases: &'static [&'static str]) -> Key {
    Key { aliases, ..key }
}

const PORT: Kind = Kind::Number { min: 0, max: 65535 };
const COUNT: Kind = Kind::Number { min: 0, max: i32::MAX as i64 };
const LONG: Kind = Kind::Number { min: 0, max: i64::MAX };
const ANY: Kind = Kind::Number { min: i32::MIN as i64, max: i32::MAX as i64 };
/// A threshold, or -1 for none.
const OR_NEVER: Kind = Kind::Number { min: -1, max: i64::MAX };
const MEMORY: Kind = Kind::Bytes { min: 0, max: i64::MAX };
const LOCAL_YES_NO: Kind = Kind::Choice(&["no", "yes", "local"]);

/// Settings that do something here.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    // Where clients come in.
    start("bind", Kind::Words, "127.0.0.1 -::1", "addresses", "Addresses to listen on. A leading - marks one that may be missing; * means every address."),
    start("port", PORT, "6379", "port", "Where clients connect. 0 listens for no client."),
    start("tcp-backlog", COUNT, "511", "connections", "Connections that may wait to be accepted; the kernel's somaxconn bounds it as well."),
    start("io-threads", Kind::Number { min: 0, max: 128 }, "0", "threads", "Threads that serve clients; 0 is half as many as the machine has processors."),
    live("tcp-keepalive", COUNT, "300", "seconds", "Idle time after which a connection is probed; 0 never probes."),
    live("timeout", COUNT, "0", "seconds", "Idle time after which a client is disconnected; 0 never disconnects."),
    live("maxclients", Kind::Number { min: 1, max: u32::MAX as i64 }, "10000", "connections", "The most clients at a time. At start the limit on open files is raised to fit."),
    live("protected-mode", Kind::Flag, "yes", "", "Refuses clients from other machines while no password is set."),
    live("requirepass", Kind::Text, "", "", "The default user's password; empty lets everybody in."),
    live("proto-max-bulk-len", Kind::Bytes { min: 1024 * 1024, max: i64::MAX }, "536870912", "bytes", "The longest argument that a client may send."),
    live("client-query-buffer-limit", Kind::Bytes { min: 1024 * 1024, max: i64::MAX }, "1073741824", "bytes", "The most that may wait unprocessed for one client."),
    live("client-output-buffer-limit", Kind::OutputLimits, "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60", "bytes, bytes, seconds",
        "How much may wait to be read by a client of a class before it is disconnected: at once, and for some seconds."),
    // Who this node is.
    start("dir", Kind::Text, "data", "path", "The data folder. It belongs to one node of one cluster, and refuses to be another's."),
    start("cluster-name", Kind::Text, "quoris", "", "The cluster's name. Nodes of different names never join."),
    start("cluster-secret", Kind::Text, "", "", "What all nodes of the cluster know and nobody else. A peer that does not prove it is turned away before it can say anything."),
    start("client-address", Kind::Text, "", "host:port", "The address that other nodes and clients are told; by default the first of bind, with port."),
    start("peer-address", Kind::Text, "", "host:port", "Where the other nodes reach this one; by default the client address with 10000 added to its port."),
    start("peer-bind", Kind::Text, "", "host:port", "Where this node listens for the others, when a forwarded port or an address translation makes that differ from peer-address."),
    start("nodes", Kind::Words, "", "host:port …", "For `quoris proxy` alone: peer addresses of nodes of the cluster that it serves, with blanks or commas between them. One that answers is enough, which tells it the others."),
    start("peers", Kind::Words, "", "host:port …", "Every node's peer address, this one's included, to found a cluster of several nodes. Empty is a cluster of one node, which others can join."),
    start("join", Kind::Text, "", "host:port", "The peer address of any node of a running cluster, which a node with an empty folder joins. Afterwards it means nothing."),
    start("zone", Kind::Text, "", "", "Where this node stands, a rack or a data centre: copies of a group are placed in different zones as far as there are any."),
    start("groups", Kind::Number { min: 1, max: 1024 }, "1", "groups", "Raft groups that share the slots, decided when the cluster is created. One keeps every command atomic over any keys."),
    start("replication-factor", Kind::Number { min: 1, max: 9 }, "3", "nodes", "Copies of each group, decided when the cluster is created; no more than there are nodes."),
    start("databases", Kind::Number { min: 1, max: 16384 }, "16", "databases", "Numbered databases for SELECT, decided when the cluster is created."),
    live("cluster-redirects", Kind::Flag, "no", "", "Answers MOVED, as Redis Cluster does, instead of forwarding a command to the node that leads its group."),
    live("replica-read-age-ms", OR_NEVER, "0", "milliseconds", "With cluster-redirects, how old what a replica answers may be on connections that said READONLY. 0: as new as the leader. More: everything that was acknowledged so long ago is in it, and the leader is asked that often. -1: whatever the replica has, also when it is cut off."),
    // The log.
    start("appendfsync", Kind::Choice(&["always", "everysec", "no"]), "always", "",
        "When the log is made durable. always: before a write is acknowledged. everysec: a power failure of a majority loses up to a second. no: whenever the system writes."),
    live("disk-reserve", MEMORY, "268435456", "bytes", "Below so much room on the disk of the data folder, writes are refused with MISCONF; reads, purging and snapshots go on. It has to hold a snapshot; 0 is no limit."),
    start("heartbeat-ms", Kind::Number { min: 10, max: 60_000 }, "100", "milliseconds", "How often a leader tells its followers that it is there."),
    start("election-ms-min", Kind::Number { min: 50, max: 600_000 }, "400", "milliseconds", "The shortest silence after which a follower wants to lead."),
    start("election-ms-max", Kind::Number { min: 50, max: 600_000 }, "600", "milliseconds", "The longest silence after which a follower wants to lead."),
    start("read-lease", Kind::Flag, "yes", "", "A leader that a majority has confirmed answers reads for 80 ms without asking again. It relies on clocks that run at nearly the same speed; no asks a majority for every batch of reads."),
    start("request-timeout-ms", Kind::Number { min: 100, max: 600_000 }, "10000", "milliseconds", "How long a command waits for a leader before it is answered with an error."),
    start("entry-bytes-max", Kind::Bytes { min: 1024 * 1024, max: 1 << 30 }, "67108864", "bytes", "The largest log entry, and so the largest write."),
    start("snapshot-log-bytes", Kind::Bytes { min: 1024 * 1024, max: i64::MAX }, "67108864", "bytes", "The log is cut by a snapshot when it is larger than this and than the data. A follower that lags may hold twice as much before it gets the snapshot."),
    start("clock-step-max", Kind::Number { min: 1, max: i32::MAX as i64 }, "604800", "seconds", "The largest step of a group's clock when a cluster that did not run starts. After a larger one nothing expires until `quoris admin clock confirm`."),
    // Operation.
    start("admin-port", PORT, "0", "port", "Where /health, /ready and /metrics are served over HTTP, on loopback only; 0 is off."),
    live("loglevel", Kind::Choice(&["debug", "verbose", "notice", "warning", "nothing"]), "notice", "", "How much is logged."),
    start("logfile", Kind::Text, "", "path", "Where the log goes; empty is standard output."),
    also(live("slowlog-log-slower-than", OR_NEVER, "10000", "microseconds", "Commands that take longer are kept in the slow log; -1 keeps none."), &["commandlog-execution-slower-than"]),
    also(live("slowlog-max-len", LONG, "128", "entries", "The length of the slow log."), &["commandlog-slow-execution-max-len"]),
    live("commandlog-request-larger-than", OR_NEVER, "1048576", "bytes", "Commands of so many bytes are kept for COMMANDLOG; -1 keeps none."),
    live("commandlog-large-request-max-len", LONG, "128", "entries", "How many of them are kept."),
    live("commandlog-reply-larger-than", OR_NEVER, "1048576", "bytes", "Commands whose replies have so many bytes are kept for COMMANDLOG; -1 keeps none."),
    live("commandlog-large-reply-max-len", LONG, "128", "entries", "How many of them are kept."),
    live("latency-monitor-threshold", LONG, "0", "milliseconds", "Events that take longer are kept for LATENCY; 0 keeps none."),
    live("tracking-table-max-keys", LONG, "1000000", "keys", "Keys that this node remembers for clients that cache; for more the oldest are invalidated. 0 is any number."),
    live("latency-tracking", Kind::Flag, "yes", "", "Keeps a histogram of latencies per command."),
    live("latency-tracking-info-percentiles", Kind::Words, "50 99 99.9", "percent", "What INFO latencystats shows."),
    live("maxmemory", MEMORY, "0", "bytes", "What this node may have in memory; 0 is no limit. Above it keys give way as maxmemory-policy says, or writes that need memory are refused. The leader of a group decides before it proposes, and its groups have equal shares."),
    live("maxmemory-samples", Kind::Number { min: 1, max: 64 }, "5", "keys", "How many keys are looked at for each that gives way."),
    start("enable-debug-command", LOCAL_YES_NO, "no", "", "Who may use DEBUG: nobody, everybody, or connections from this machine."),
    start("enable-protected-configs", LOCAL_YES_NO, "no", "", "Who may change protected settings at run time."),
    // What apply can observe.
    also(replicated("hash-max-listpack-entries", LONG, "512", "fields", "Hashes up to this size are packed."), &["hash-max-ziplist-entries"]),
    also(replicated("hash-max-listpack-value", LONG, "64", "bytes", "Hashes with longer values are not packed."), &["hash-max-ziplist-value"]),
    also(replicated("list-max-listpack-size", ANY, "-2", "", "The size of a list's nodes: elements, or -1 to -5 for 4 to 64 KiB."), &["list-max-ziplist-size"]),
    replicated("list-compress-depth", COUNT, "0", "nodes", "List nodes at each end that stay uncompressed; 0 compresses none."),
    replicated("set-max-intset-entries", LONG, "512", "members", "Sets of numbers up to this size are packed."),
    replicated("set-max-listpack-entries", LONG, "128", "members", "Sets up to this size are packed."),
    replicated("set-max-listpack-value", LONG, "64", "bytes", "Sets with longer members are not packed."),
    also(replicated("zset-max-listpack-entries", LONG, "128", "members", "Sorted sets up to this size are packed."), &["zset-max-ziplist-entries"]),
    also(replicated("zset-max-listpack-value", LONG, "64", "bytes", "Sorted sets with longer members are not packed."), &["zset-max-ziplist-value"]),
    replicated("hll-sparse-max-bytes", MEMORY, "3000", "bytes", "A HyperLogLog above this size becomes dense."),
    replicated("stream-node-max-bytes", MEMORY, "4096", "bytes", "The size of a stream's nodes."),
    replicated("stream-node-max-entries", LONG, "100", "entries", "Entries in a stream's node."),
    replicated("notify-keyspace-events", Kind::Events, "", "", "Classes of keyspace notifications that are published, as Redis's letters."),
    also(replicated("busy-reply-threshold", LONG, "5000", "milliseconds", "How long a script may run before others are told that it is busy."), &["lua-time-limit"]),
    replicated("maxmemory-policy", Kind::Choice(&["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl", "allkeys-lru", "allkeys-lfu", "allkeys-random", "noeviction"]),
        "noeviction", "", "What gives way when memory is short."),
    replicated("lfu-log-factor", COUNT, "10", "", "How slowly the counter of uses grows under the LFU policies."),
    replicated("lfu-decay-time", COUNT, "1", "minutes", "How long it takes that the counter falls by one; 0 never lets it fall."),
    replicated("session-ttl", Kind::Number { min: 1, max: i32::MAX as i64 }, "600", "seconds", "How long the replies of a session are kept after its last use, so that a command that is sent again gets the one it had."),
    replicated("encoding-names", Kind::Choice(&["8", "7.0"]), "8", "", "What OBJECT ENCODING calls small lists and sets: listpack as Redis 8, or quicklist and hashtable as Redis 7.0."),
    replicated("event-retention-bytes", MEMORY, "67108864", "bytes", "Events (messages and what happened to keys) that each replica of a group keeps for those who come back, up to so many bytes; 0 keeps only the latest, in memory."),
    replicated("event-retention-time", Kind::Number { min: 1, max: i32::MAX as i64 }, "3600", "seconds", "How old kept events become before they are dropped."),
];

/// All settings, those that do something first.
pub fn all() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().chain(REMEMBERED)
}

/// The position of a setting in [`all`], by its name or an alias, in any case.
pub fn position(name: &str) -> Option<usize> {
    all().position(|key| {
        key.name.eq_ignore_ascii_case(name) || key.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_defaults_valid() {
        let mut names = HashSet::new();
        for key in all() {
            for name in std::iter::once(&key.name).chain(key.aliases) {
                assert!(names.insert(*name), "{name} twice");
            }
            assert_eq!(key.kind.normalise(key.default, "").as_deref(), Ok(key.default), "default of {}", key.name);
        }
    }
}
