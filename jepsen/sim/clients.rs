//! Clients of one node, each with its own session, one command at a time.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use quoris_engine::command::{self, Handler};
use quoris_raft::{Error, Executed, GroupId, Node, Operation, Session};
use quoris_resp::{Argv, Reply};

use crate::dice::Dice;
use crate::history::{Action, End};
use crate::host::{Phase, World};

/// Keys that all clients share.
const SHARED_KEYS: u64 = 4;

/// A command and the group of its key.
fn operation(node: &Node, parts: &[String]) -> Result<(GroupId, Operation), Error> {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let argv = Argv::from_parts(&parts);
    let found = command::lookup(&argv).map_err(|_| Error::Refused(format!("{parts:?} is not known")))?;
    let write = matches!(found.command.handler, Handler::Write(_));
    let slot = quoris_engine::slot(parts[1].as_bytes());
    let group = node.group_of(slot).ok_or_else(|| Error::Refused(format!("slot {slot} has no owner")))?;
    let operation =
        Operation { command: found.command, argv, database: 0, user: 0, transaction: false, own: None, write };
    Ok((group, operation))
}

/// Runs one command where its key belongs.
pub async fn execute(node: &Node, session: &Session, parts: &[String]) -> Result<Executed, Error> {
    let (group, operation) = operation(node, parts)?;
    session.execute(group, vec![operation], true).await
}

/// Runs what a client does; a command that waits does so for its time.
async fn act(node: &Node, session: &Session, action: &Action) -> Result<Reply, Error> {
    let Action::Take(_, ms) = action else {
        let executed = execute(node, session, &action.argv()).await?;
        return Ok(executed.replies.into_iter().next().unwrap_or(Reply::None));
    };
    let (group, operation) = operation(node, &action.argv())?;
    let end = pin!(tokio::time::sleep(Duration::from_millis(*ms)));
    let executed = session.wait(group, operation, true, end, || {}).await?;
    Ok(executed.map_or(Reply::NullArray, |executed| executed.replies.into_iter().next().unwrap_or(Reply::None)))
}

/// One client until the load ends.
pub async fn client(node: Node, world: Arc<World>, name: String, mut dice: Dice) {
    let session = node.session();
    let mut number = 0;
    while world.phase() == Phase::Load {
        number += 1;
        let action = choose(&mut dice, &name, number);
        ask(&node, &world, &session, &name, &action).await;
        tokio::time::sleep(Duration::from_micros(dice.between(500, 15_000))).await;
    }
    world.client_ended(&name);
}

/// One client that only reads. The others wait for a majority with their first write; it sees what a node says that
/// is cut off from one.
pub async fn reader(node: Node, world: Arc<World>, name: String, mut dice: Dice) {
    let session = node.session();
    while world.phase() == Phase::Load {
        let action = Action::Read(format!("counter:{}", dice.below(SHARED_KEYS)));
        ask(&node, &world, &session, &name, &action).await;
        tokio::time::sleep(Duration::from_micros(dice.between(500, 15_000))).await;
    }
    world.client_ended(&name);
}

/// Asks, and notes what came of it.
async fn ask(node: &Node, world: &World, session: &Session, name: &str, action: &Action) {
    let known = world.history.begin(action);
    let end = match act(node, session, action).await {
        Ok(reply) => End::Acknowledged(reply),
        Err(Error::Unknown(_)) => End::Unknown,
        Err(_) => End::Failed,
    };
    if let Err(text) = world.history.end(name, action, known, &end) {
        world.ledger.violation(text);
    }
}

fn choose(dice: &mut Dice, name: &str, number: u64) -> Action {
    let shared = dice.below(SHARED_KEYS);
    match dice.below(100) {
        0..30 => Action::Incr(format!("counter:{shared}")),
        30..40 => Action::Read(format!("counter:{shared}")),
        40..50 => Action::Push(format!("queue:{}", shared / 2), format!("{name}.{number}")),
        50..60 => Action::Take(format!("queue:{}", shared / 2), dice.between(1, 400)),
        60..80 => Action::Append(format!("list:{shared}"), format!("{name}.{number};")),
        _ => Action::Set(format!("own:{name}"), format!("{number}")),
    }
}
