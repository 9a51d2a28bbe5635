//! Clients of one node, each with its own session, one command at a time.

use std::sync::Arc;
use std::time::Duration;

use quoris_engine::command::{self, Handler};
use quoris_raft::{Error, Executed, Node, Operation, Session};
use quoris_resp::{Argv, Reply};

use crate::dice::Dice;
use crate::history::{Action, End};
use crate::host::{Phase, World};

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

fn choose(dice: &mut Dice, name: &str, number: u64) -> Action {
    let shared = dice.below(SHARED_KEYS);
    match dice.below(100) {
        0..40 => Action::Incr(format!("counter:{shared}")),
        40..55 => Action::Read(format!("counter:{shared}")),
        55..80 => Action::Append(format!("list:{shared}"), format!("{name}.{number};")),
        _ => Action::Set(format!("own:{name}"), format!("{number}")),
    }
}
