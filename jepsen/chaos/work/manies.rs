//! Transactions that read and write several registers at once.

use super::lists::transact;
use super::{Dice, Keys, Missed, Question, Serial, Work};
use crate::check::many::WIDTH;
use crate::client::{Client, Trouble, number, understood};
use crate::history::{F, Micro, Mop, Value};

/// Groups of registers at a time; those of one are in one slot.
const SLOTS: i64 = 3;

/// GET and SET, one to four of them in MULTI.
#[derive(Default)]
pub(super) struct Manies {
    keys: Keys,
    values: Serial,
}

impl Work for Manies {
    fn next(&self, dice: &mut Dice) -> Question {
        let slot = self.keys.pick(dice, SLOTS);
        let step = |dice: &mut Dice| {
            let key = slot * WIDTH + dice.below(WIDTH);
            match dice.below(5) {
                0 | 1 => Mop(Micro::Write, key, Value::Int(self.values.next())),
                _ => Mop(Micro::Read, key, Value::Null),
            }
        };
        let steps = (0..=dice.below(4)).map(|_| step(dice)).collect();
        Question { f: F::Txn, key: None, asked: Value::Txn(steps) }
    }

    fn perform(&self, client: &mut Client, question: &Question) -> Result<Value, Missed> {
        let steps = question.asked.steps();
        let commands: Vec<Vec<String>> = steps.iter().map(|step| command(client, step)).collect();
        let replies = transact(client, &commands)?;
        let answered = steps.iter().zip(replies).map(|(Mop(what, key, value), reply)| {
            let reply = understood(reply)?;
            let read = || Ok::<_, Trouble>(number(&reply)?.map_or(Value::Null, Value::Int));
            Ok(Mop(*what, *key, if *what == Micro::Read { read()? } else { value.clone() }))
        });
        Ok(Value::Txn(answered.collect::<Result<_, Trouble>>()?))
    }

    fn last(&self) -> Vec<Question> {
        let read = |slot: i64| (0..WIDTH).map(|at| Mop(Micro::Read, slot * WIDTH + at, Value::Null)).collect();
        self.keys.all(SLOTS).map(|slot| Question { f: F::Txn, key: None, asked: Value::Txn(read(slot)) }).collect()
    }
}

fn command(client: &Client, Mop(what, key, value): &Mop) -> Vec<String> {
    let name = client.name(&format!("many:{{{}}}:{key}", key / WIDTH));
    match what {
        Micro::Write => vec!["SET".to_string(), name, value.int().to_string()],
        Micro::Read | Micro::Append => vec!["GET".to_string(), name],
    }
}
