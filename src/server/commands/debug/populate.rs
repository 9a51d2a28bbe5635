//! DEBUG POPULATE: many keys at once, through the log like any others.

use std::collections::BTreeMap;

use quoris_engine::{command, number, slot};
use quoris_raft::{GroupId, Operation};
use quoris_resp::{Argv, Reply};

use crate::{client::Client, commands::Served, outcome};

/// Keys that one round makes.
const ROUND: u64 = 256;
/// More are a mistake.
const KEYS_MAX: u64 = 100_000_000;
/// Bytes of a value at most.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// A value as Redis makes it: cut or filled with zeros to the size that was asked for.
fn value(at: u64, size: Option<usize>) -> Vec<u8> {
    let mut value = format!("value:{at}").into_bytes();
    if let Some(size) = size {
        value.resize(size, 0);
    }
    value
}

/// `DEBUG POPULATE count [prefix] [size]`: a key that is there stays as it is.
pub(super) async fn run(client: &mut Client, argv: &Argv) -> Served {
    let natural = |at: usize| argv.get(at).map(|text| number::integer(text).and_then(|n| u64::try_from(n).ok()));
    let (count, size) = match (natural(2).flatten().filter(|n| *n <= KEYS_MAX), natural(4)) {
        (Some(count), None) => (count, None),
        (Some(count), Some(Some(size))) if size <= VALUE_BYTES_MAX as u64 => (count, Some(size as usize)),
        _ => return Served::error("ERR value is out of range, must be positive"),
    };
    let prefix = argv.get(3).unwrap_or(b"key").to_vec();
    let command = command::by_name(b"setnx").expect("SETNX has a row").command;
    for start in (0..count).step_by(ROUND as usize) {
        let mut parts: BTreeMap<GroupId, (u16, Vec<Operation>)> = BTreeMap::new();
        for at in start..count.min(start + ROUND) {
            let key = [&prefix[..], format!(":{at}").as_bytes()].concat();
            let slot = slot(&key);
            let Some(group) = client.server.node.group_of(slot) else { return no_owner(slot) };
            let argv = Argv::from_parts(&[&b"SETNX"[..], &key, &value(at, size)]);
            let (database, own) = (client.database, None);
            let operation = Operation { command, argv, database, user: 0, transaction: false, own, write: true };
            parts.entry(group).or_insert((slot, Vec::new())).1.push(operation);
        }
        for (group, (slot, operations)) in parts {
            let forward = client.forwards_for(|asked| asked == slot).cover(&operations);
            if let Err(error) = client.session.execute(group, operations, forward).await {
                return Served::Reply(outcome::reply(&error, slot, || client.server.node.status()));
            }
        }
    }
    Reply::Ok.into()
}

fn no_owner(slot: u16) -> Served {
    Served::error(format!("CLUSTERDOWN Hash slot not served: {slot}"))
}
