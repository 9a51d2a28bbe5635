//! Clients of one node, each with its own session, one command at a time.

use std::sync::Arc;
use std::time::Duration;

use quoris_engine::command::{self, Handler};
use quoris_raft::{Error, Executed, Node, Operation, Session};
use quoris_resp::{Argv, Reply};

use crate::dice::Dice;
use crate::history::{Action, End};
use crate::host::{Phase, WALLS_APART_MS, World};
use crate::net::now;

/// Looks at a key that is gone: it must not come back.
const LOOKS_BEHIND: u64 = 10;
/// What a slow network adds to the distance of right clocks, in milliseconds.
const EARLY_MAX_MS: u64 = 50;
/// Keys that all clients share.
const SHARED_KEYS: u64 = 4;

/// Runs one command where its key belongs.
pub async fn execute(node: &Node, session: &Session, parts: &[String]) -> Result<Executed, Error> {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let argv = Argv::from_parts(&parts);
    let found = command::lookup(&argv).map_err(|_| Error::Refused(format!("{parts:?} is not known")))?;
    let write = matches!(found.command.handler, Handler::Write(_));
    let slot = quoris_engine::slot(parts[1].as_bytes());
    let group = node.group_of(slot).ok_or_else(|| Error::Refused(format!("slot {slot} has no owner")))?;
    let operation =
        Operation { command: found.command, argv, database: 0, user: 0, transaction: false, own: None, write };
    session.execute(group, vec![operation], true).await
}

/// One client until the load ends.
pub async fn client(node: Node, world: Arc<World>, name: String, mut dice: Dice) {
    let session = node.session();
    let mut number = 0;
    while world.phase() == Phase::Load {
        number += 1;
        let action = choose(&mut dice, &name, number);
        let known = world.history.begin(&action);
        let end = match execute(&node, &session, &action.argv()).await {
            Ok(executed) => End::Acknowledged(executed.replies.into_iter().next().unwrap_or(Reply::None)),
            Err(Error::Unknown(_)) => End::Unknown,
            Err(_) => End::Failed,
        };
        if let Err(text) = world.history.end(&name, &action, known, &end) {
            world.ledger.violation(text);
        }
        tokio::time::sleep(Duration::from_micros(dice.between(500, 15_000))).await;
    }
    world.client_ended(&name);
}

/// One client that gives keys a time to live and looks at them until they are gone.
pub async fn undertaker(node: Node, world: Arc<World>, name: String, mut dice: Dice) {
    let session = node.session();
    let mut number = 0;
    while world.phase() == Phase::Load {
        number += 1;
        let (key, time_to_live) = (format!("mortal:{name}.{number}"), dice.between(700, 3000));
        let set = ["SET", &key, "alive", "PX", &time_to_live.to_string()].map(String::from);
        let sent = now();
        if execute(&node, &session, &set).await.is_err() {
            continue;
        }
        let mut gone = 0;
        while gone < LOOKS_BEHIND && world.phase() == Phase::Load {
            tokio::time::sleep(Duration::from_millis(dice.between(20, 80))).await;
            let get = ["GET".to_string(), key.clone()];
            let Ok(executed) = execute(&node, &session, &get).await else { continue };
            let (is_gone, told) = (executed.replies == [Reply::Null], now());
            world.history.trace(format!("{name} {key} gone: {is_gone}"));
            // A cold start may choose any right clock, and a leader asks for them over a slow network.
            let early_max = WALLS_APART_MS + EARLY_MAX_MS + time_to_live / 100;
            if is_gone && told + Duration::from_millis(early_max) < sent + Duration::from_millis(time_to_live) {
                let lived = told - sent;
                world.ledger.violation(format!("{key} was given {time_to_live} ms and is gone after {lived:?}"));
            }
            if gone > 0 && !is_gone {
                world.ledger.violation(format!("{key} came back"));
            }
            gone += u64::from(is_gone);
        }
    }
    world.client_ended(&name);
}

fn choose(dice: &mut Dice, name: &str, number: u64) -> Action {
    let shared = dice.below(SHARED_KEYS);
    match dice.below(100) {
        0..40 => Action::Incr(format!("counter:{shared}")),
        40..55 => Action::Read(format!("counter:{shared}")),
        55..80 => Action::Append(format!("list:{shared}"), format!("{name}.{number};")),
        _ => Action::Set(format!("own:{name}"), format!("{number}")),
    }
}
