//! CLUSTER FAILOVER and SLOT-STATS, and the steps by which Redis builds a cluster: here the administration does that,
//! and each of them is refused with the command to run.

use std::cmp::Reverse;

use quoris_engine::number;
use quoris_raft::GroupStatus;
use quoris_resp::{Argv, Reply};

use super::{Served, Server, followed, is_master, shown};
use crate::commands::word;

/// What does here what a subcommand does in Redis; nothing for one that is not refused.
pub(super) fn refused(sub: &str) -> Option<&'static str> {
    Some(match sub {
        "meet" => "ERR nodes do not meet by CLUSTER MEET: a node joins with 'quoris admin node add'",
        "forget" | "reset" => "ERR a node leaves with 'quoris admin node drain' and 'quoris admin node remove'",
        "replicate" => {
            "ERR the cluster places replicas by itself: see 'quoris admin node add' and 'quoris admin node replace'"
        }
        "addslots" | "addslotsrange" | "delslots" | "delslotsrange" | "flushslots" | "setslot" => {
            "ERR every slot always has one owner: 'quoris admin slots move' and 'quoris admin slots rebalance' change it"
        }
        "migration" | "migrateslots" | "cancelslotmigrations" | "getslotmigrations" | "syncslots" => {
            "ERR slots move with 'quoris admin slots move' and 'quoris admin slots rebalance'"
        }
        "saveconfig" => "ERR there is no nodes file: the topology is in the log, 'quoris admin status' shows it",
        "set-config-epoch" => {
            "ERR the epoch grows with each change of the topology ('quoris admin node', 'quoris admin slots')"
        }
        _ => return None,
    })
}

/// CLUSTER FAILOVER: this node leads from now on what the node leads that it is shown as a replica of. There is no
/// way to lose writes by it, so FORCE and TAKEOVER ask for nothing else: a leader that is dead is replaced already.
pub(in crate::commands) async fn failover(server: &Server, argv: &Argv) -> Served {
    let option = word(argv, 2);
    if argv.len() > 3 || !["", "force", "takeover"].contains(&option.as_str()) {
        return Served::Reply(quoris_engine::Error::Syntax.into());
    }
    if server.node.is_guest() {
        return Served::error("ERR a proxy leads nothing: send CLUSTER FAILOVER to a node");
    }
    let status = shown(server);
    if is_master(&status, status.node) {
        return Served::error("ERR You should send CLUSTER FAILOVER to a replica");
    }
    let master = followed(&status, status.node);
    let wanted = status.groups.iter().filter(|group| group.local && group.leader.is_some() && group.leader == master);
    let wanted: Vec<_> = wanted.map(|group| group.id).collect();
    if wanted.is_empty() {
        return Served::error("ERR Master is down or failed, please use CLUSTER FAILOVER FORCE");
    }
    for group in wanted {
        if let Err(error) = server.node.take_lead(group).await {
            return Served::error(format!("ERR {group} is not led here: {error}"));
        }
    }
    Reply::Ok.into()
}

/// CLUSTER SLOT-STATS: keys and their bytes of the slots that this node leads. A proxy leads none.
pub(super) fn slot_stats(server: &Server, argv: &Argv) -> Served {
    match (word(argv, 2).as_str(), argv.len()) {
        ("slotsrange", 5) => match (slot_at(argv, 3), slot_at(argv, 4)) {
            (Some(first), Some(last)) if first > last => {
                Served::error(format!("ERR Start slot number {first} is greater than end slot number {last}"))
            }
            (Some(first), Some(last)) => shown_slots(counted(server, first, last)),
            _ => Served::error("ERR Invalid or out of range slot"),
        },
        ("orderby", _) => match ordered(argv) {
            Ok((limit, descending)) => {
                let mut slots = counted(server, 0, quoris_engine::SLOTS - 1);
                if descending {
                    slots.sort_by_key(|(slot, keys)| (Reverse(*keys), *slot));
                } else {
                    slots.sort_by_key(|(slot, keys)| (*keys, *slot));
                }
                slots.truncate(limit);
                shown_slots(slots)
            }
            Err(text) => Served::error(text),
        },
        _ => Served::Reply(quoris_engine::Error::Syntax.into()),
    }
}

fn slot_at(argv: &Argv, at: usize) -> Option<u16> {
    let number = argv.get(at).and_then(number::integer)?;
    u16::try_from(number).ok().filter(|slot| *slot < quoris_engine::SLOTS)
}

/// How many of the slots ORDERBY asks for, and whether the largest come first.
fn ordered(argv: &Argv) -> Result<(usize, bool), &'static str> {
    if word(argv, 3) != "key-count" {
        return Err("ERR Unrecognized sort metric for ORDERBY.");
    }
    let (mut limit, mut descending, mut at) = (usize::from(quoris_engine::SLOTS), true, 4);
    while at < argv.len() {
        match (word(argv, at).as_str(), argv.get(at + 1).and_then(number::integer)) {
            ("limit", Some(n @ 1..=16384)) => (limit, at) = (n as usize, at + 2),
            ("limit", _) => return Err("ERR Limit has to lie in between 1 and 16384 (maximum number of slots)."),
            ("asc", _) => (descending, at) = (false, at + 1),
            ("desc", _) => (descending, at) = (true, at + 1),
            _ => return Err("ERR syntax error"),
        }
    }
    Ok((limit, descending))
}

/// The slots within bounds that this node leads, and how many keys they hold.
fn counted(server: &Server, first: u16, last: u16) -> Vec<(u16, u64)> {
    let status = shown(server);
    let led = |group: &&GroupStatus| group.local && group.leader == Some(status.node);
    let mut slots = Vec::new();
    for group in status.groups.iter().filter(led) {
        server.peek(group.id, |engine| {
            let owned = group.slots.iter().flat_map(|(from, to)| (*from).max(first)..=(*to).min(last));
            slots.extend(owned.map(|slot| (slot, engine.keyspace().slot_len(slot))));
        });
    }
    slots.sort_unstable();
    slots
}

fn shown_slots(slots: Vec<(u16, u64)>) -> Served {
    let one = |(slot, keys): (u16, u64)| {
        let stats = Reply::Map(vec![(Reply::bulk("key-count"), Reply::Int(keys as i64))]);
        Reply::Array(vec![Reply::Int(i64::from(slot)), stats])
    };
    Reply::Array(slots.into_iter().map(one).collect()).into()
}
