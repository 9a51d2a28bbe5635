//! Workloads on lists: transactions of appends and reads as Jepsen's, and queues with takers that wait.

use super::{Dice, Keys, Missed, Question, Serial, Work};
use crate::client::{Client, Trouble, number, numbers, understood};
use crate::history::{F, Micro, Mop, Value};
use quoris_resp::Reply;

/// Lists at a time that a transaction chooses from, in one slot.
const LISTS: i64 = 3;
/// Such slots at a time.
const SLOTS: i64 = 3;
/// Queues, for the whole run.
const QUEUES: i64 = 4;
/// How long a taker waits for an element.
const WAIT_SECONDS: &str = "0.1";

/// RPUSH and LRANGE, alone or one to four of them in MULTI.
#[derive(Default)]
pub(super) struct Appends {
    keys: Keys,
    values: Serial,
}

impl Work for Appends {
    fn next(&self, dice: &mut Dice) -> Question {
        let slot = self.keys.pick(dice, SLOTS);
        let step = |dice: &mut Dice| {
            let key = slot * LISTS + dice.below(LISTS);
            match dice.below(2) {
                0 => Mop(Micro::Append, key, Value::Int(self.values.next())),
                _ => Mop(Micro::Read, key, Value::Null),
            }
        };
        let steps = (0..=dice.below(4)).map(|_| step(dice)).collect();
        Question { f: F::Txn, key: None, asked: Value::Txn(steps) }
    }

    fn perform(&self, client: &mut Client, question: &Question) -> Result<Value, Missed> {
        let commands: Vec<Vec<String>> = question.asked.steps().iter().map(|step| command(client, step)).collect();
        let replies = transact(client, &commands)?;
        let steps = question.asked.steps().iter().zip(replies);
        Ok(Value::Txn(steps.map(|(step, reply)| answered(step, reply)).collect::<Result<_, Trouble>>()?))
    }

    fn last(&self) -> Vec<Question> {
        let read = |key| Value::Txn(vec![Mop(Micro::Read, key, Value::Null)]);
        let keys = 0..self.keys.all(SLOTS).end * LISTS;
        keys.map(|key| Question { f: F::Txn, key: None, asked: read(key) }).collect()
    }
}

/// One command alone, or several in MULTI; their replies.
pub(super) fn transact(client: &mut Client, commands: &[Vec<String>]) -> Result<Vec<Reply>, Missed> {
    let mut frames: Vec<Vec<&str>> = commands.iter().map(|parts| parts.iter().map(String::as_str).collect()).collect();
    let is_alone = frames.len() == 1;
    if !is_alone {
        frames.insert(0, vec!["MULTI"]);
        frames.push(vec!["EXEC"]);
    }
    let frames: Vec<&[&str]> = frames.iter().map(Vec::as_slice).collect();
    let mut replies = client.exchange(&frames)?;
    if is_alone {
        return Ok(replies);
    }
    let last = replies.pop().ok_or_else(|| Trouble::Strange("no reply of EXEC".to_string()))?;
    match understood(last)? {
        Reply::Array(replies) if replies.len() == commands.len() => Ok(replies),
        other => Err(Trouble::Strange(format!("{other:?} of EXEC")).into()),
    }
}

fn command(client: &Client, Mop(what, key, element): &Mop) -> Vec<String> {
    let name = client.name(&format!("append:{{{}}}:{key}", key / LISTS));
    match what {
        Micro::Append => vec!["RPUSH".to_string(), name, element.int().to_string()],
        Micro::Read | Micro::Write => vec!["LRANGE".to_string(), name, "0".to_string(), "-1".to_string()],
    }
}

fn answered(Mop(what, key, element): &Mop, reply: Reply) -> Result<Mop, Trouble> {
    let reply = understood(reply)?;
    let value = if *what == Micro::Read { Value::Ints(numbers(&reply)?) } else { element.clone() };
    Ok(Mop(*what, *key, value))
}

/// RPUSH, LPOP and BLPOP.
#[derive(Default)]
pub(super) struct Queues {
    values: Serial,
}

impl Work for Queues {
    fn next(&self, dice: &mut Dice) -> Question {
        let key = dice.below(QUEUES);
        // More go in than come out: an empty queue has nothing to lose.
        match dice.below(5) {
            0..3 => Question::new(F::Enqueue, key, Value::Int(self.values.next())),
            _ => Question::new(F::Dequeue, key, Value::Null),
        }
    }

    fn perform(&self, client: &mut Client, question: &Question) -> Result<Value, Missed> {
        let key = question.name(client, "queue");
        if question.f == F::Enqueue {
            client.call(&["RPUSH", &key, &question.asked.int().to_string()])?;
            return Ok(question.asked.clone());
        }
        // Every second queue has takers that wait.
        if question.key.is_some_and(|key| key % 2 == 0) {
            return Ok(number(&client.call(&["LPOP", &key])?)?.map_or(Value::Null, Value::Int));
        }
        match client.call(&["BLPOP", &key, WAIT_SECONDS])? {
            Reply::Null | Reply::NullArray => Ok(Value::Null),
            Reply::Array(pair) if pair.len() == 2 => Ok(number(&pair[1])?.map_or(Value::Null, Value::Int)),
            other => Err(Trouble::Strange(format!("{other:?} of BLPOP")).into()),
        }
    }

    fn last(&self) -> Vec<Question> {
        (0..QUEUES).map(|key| Question::new(F::Dequeue, key, Value::Null)).collect()
    }

    fn is_over(&self, _: &Question, answered: &Value) -> bool {
        *answered == Value::Null
    }
}
