//! CLUSTER MOVE-SLOTS, MOVES and CANCEL-MOVE: slots that go to another group.

use quoris_engine::{SLOTS, moves::Range, number};
use quoris_raft::{GroupId, Moving, Step};
use quoris_resp::{Argv, Reply};

use super::{Served, word};
use crate::client::Client;

const SYNTAX: &str = "ERR CLUSTER MOVE-SLOTS first-last group [RATE bytes-per-second]";

pub(super) async fn run(client: &Client, name: &str, argv: &Argv) -> Served {
    let node = &client.server.node;
    let result = match name {
        "moves" => return node.moving().as_ref().map_or(Reply::Null, show).into(),
        "cancel-move" => node.cancel_move().await.map(|was| Reply::Int(was.into())),
        _ => match parse(argv) {
            Some((range, group, rate)) => node.move_slots(range, group, rate).await.map(|()| Reply::Ok),
            None => return Served::error(SYNTAX),
        },
    };
    match result {
        Ok(reply) => reply.into(),
        Err(error) => Served::error(format!("ERR {error}")),
    }
}

/// The slots, the group, and how many bytes go in a second.
fn parse(argv: &Argv) -> Option<(Range, GroupId, u64)> {
    let text = std::str::from_utf8(&argv[2]).ok()?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = Range { first: first.parse().ok()?, last: last.parse().ok()? };
    let group = number::integer(&argv[3]).and_then(|n| u32::try_from(n).ok()).map(GroupId)?;
    let rate = match argv.len() {
        4 => 0,
        6 if word(argv, 4) == "rate" => number::integer(&argv[5]).and_then(|n| u64::try_from(n).ok())?,
        _ => return None,
    };
    (range.first <= range.last && range.last < SLOTS).then_some((range, group, rate))
}

/// Name and value in turn, as Redis shows such things.
fn show(moving: &Moving) -> Reply {
    let step = match moving.step {
        Step::Copying => "copying",
        Step::Switched { .. } => "switched",
        Step::Cancelled => "cancelled",
    };
    let int = |n: u32| Reply::Int(n.into());
    Reply::Map(vec![
        (Reply::bulk("source"), int(moving.source.0)),
        (Reply::bulk("target"), int(moving.target.0)),
        (Reply::bulk("first"), int(moving.left.first.into())),
        (Reply::bulk("last"), int(moving.left.last.into())),
        (Reply::bulk("slots"), int(moving.total.into())),
        (Reply::bulk("step"), Reply::bulk(step)),
        (Reply::bulk("attempt"), Reply::Int(moving.attempt as i64)),
    ])
}
