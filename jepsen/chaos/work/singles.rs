//! Workloads of single commands: registers, counters, sets, and keys that expire.

use super::{Dice, Keys, Missed, Question, Serial, Work, refused};
use crate::client::{Client, Trouble, number, numbers, understood};
use crate::history::{F, Value};
use quoris_resp::Reply;

/// Keys at a time.
const HOT: i64 = 4;

fn value(number: Option<i64>) -> Value {
    number.map_or(Value::Null, Value::Int)
}

/// GET, SET, and compare-and-set: with WATCH, and of even values by a script.
#[derive(Default)]
pub(super) struct Registers {
    keys: Keys,
    values: Serial,
}

impl Work for Registers {
    fn next(&self, dice: &mut Dice) -> Question {
        let key = self.keys.pick(dice, HOT);
        match dice.below(5) {
            0 => Question::new(F::Cas, key, Value::Int(self.values.next())),
            1 => Question::new(F::Write, key, Value::Int(self.values.next())),
            _ => Question::new(F::Read, key, Value::Null),
        }
    }

    fn perform(&self, client: &mut Client, question: &Question) -> Result<Value, Missed> {
        let (key, new) = (question.name(client, "register"), question.asked.int().to_string());
        match question.f {
            F::Read => Ok(value(number(&client.call(&["GET", &key])?)?)),
            F::Write => Ok(client.call(&["SET", &key, &new]).map(|_| question.asked.clone())?),
            _ if question.asked.int() % 2 == 0 => swap_by_script(client, &key, question.asked.int()),
            _ => swap(client, &key, question.asked.int()),
        }
    }

    fn last(&self) -> Vec<Question> {
        self.keys.all(HOT).map(|key| Question::new(F::Read, key, Value::Null)).collect()
    }
}

/// Nothing happens unless EXEC is sent, and what it replaces is known by then.
fn swap(client: &mut Client, key: &str, new: i64) -> Result<Value, Missed> {
    let seen = client.exchange(&[&["WATCH", key], &["GET", key]]);
    let seen = seen.and_then(|replies| replies.into_iter().map(understood).collect::<Result<Vec<Reply>, Trouble>>());
    let old = match seen.and_then(|replies| number(&replies[1])) {
        Ok(old) => old.unwrap_or(0),
        Err(trouble) => {
            // It may still watch.
            client.give_up();
            return Err(unsent(trouble));
        }
    };
    let both = Value::Ints(vec![old, new]);
    let open = |trouble| Missed { trouble, value: both.clone() };
    let mut replies = client.exchange(&[&["MULTI"], &["SET", key, &new.to_string()], &["EXEC"]]).map_err(open)?;
    match understood(replies.remove(2)).map_err(open)? {
        Reply::Null | Reply::NullArray => Err(refused("somebody else wrote")),
        Reply::Array(done) if matches!(done[..], [Reply::Ok]) => Ok(both),
        other => Err(Trouble::Strange(format!("{other:?} of EXEC")).into()),
    }
}

/// Puts the second value in place of the first, if that is what is there.
const SWAP: &str = "if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return 0 end \
                    redis.call('SET', KEYS[1], ARGV[2]) return 1";

fn swap_by_script(client: &mut Client, key: &str, new: i64) -> Result<Value, Missed> {
    let seen = client.call(&["GET", key]).and_then(|reply| number(&reply));
    let old = seen.map_err(unsent)?.unwrap_or(0);
    let both = Value::Ints(vec![old, new]);
    let open = |trouble| Missed { trouble, value: both.clone() };
    let reply = client.call(&["EVAL", SWAP, "1", key, &old.to_string(), &new.to_string()]).map_err(open)?;
    match reply {
        Reply::Int(1) => Ok(both),
        Reply::Int(0) => Err(refused("somebody else wrote")),
        other => Err(Trouble::Strange(format!("{other:?} of EVAL")).into()),
    }
}

/// What changes something was not sent yet.
fn unsent(trouble: Trouble) -> Missed {
    match trouble {
        Trouble::Strange(why) => Trouble::Strange(why).into(),
        Trouble::Refused(why) | Trouble::Open(why) => refused(&format!("nothing was sent: {why}")),
    }
}

/// INCRBY and GET.
#[derive(Default)]
pub(super) struct Counters {
    keys: Keys,
}

impl Work for Counters {
    fn next(&self, dice: &mut Dice) -> Question {
        let key = self.keys.pick(dice, HOT);
        if dice.below(3) == 0 {
            return Question::new(F::Read, key, Value::Null);
        }
        Question::new(F::Add, key, Value::Int(1 + dice.below(5)))
    }

    fn perform(&self, client: &mut Client, question: &Question) -> Result<Value, Missed> {
        let (key, n) = (question.name(client, "counter"), question.asked.int().to_string());
        let parts: &[&str] = if question.f == F::Read { &["GET", &key] } else { &["INCRBY", &key, &n] };
        Ok(value(number(&client.call(parts)?)?))
    }

    fn last(&self) -> Vec<Question> {
        self.keys.all(HOT).map(|key| Question::new(F::Read, key, Value::Null)).collect()
    }
}

/// SADD and SMEMBERS.
#[derive(Default)]
pub(super) struct Sets {
    keys: Keys,
    values: Serial,
}

impl Work for Sets {
    fn next(&self, dice: &mut Dice) -> Question {
        let key = self.keys.pick(dice, HOT);
        match dice.below(3) {
            0 => Question::new(F::Read, key, Value::Null),
            _ => Question::new(F::Add, key, Value::Int(self.values.next())),
        }
    }

    fn perform(&self, client: &mut Client, question: &Question) -> Result<Value, Missed> {
        let key = question.name(client, "set");
        if question.f == F::Read {
            return Ok(Value::Ints(numbers(&client.call(&["SMEMBERS", &key])?)?));
        }
        match client.call(&["SADD", &key, &question.asked.int().to_string()])? {
            Reply::Int(1) => Ok(question.asked.clone()),
            other => Err(Trouble::Strange(format!("{other:?} of SADD with a new element")).into()),
        }
    }

    fn last(&self) -> Vec<Question> {
        self.keys.all(HOT).map(|key| Question::new(F::Read, key, Value::Null)).collect()
    }
}

/// SET with PX, once for each key, and GET of the latest ones.
#[derive(Default)]
pub(super) struct Mortals {
    keys: Serial,
}

/// Keys that are still looked at.
const LATEST: i64 = 10;

impl Work for Mortals {
    fn next(&self, dice: &mut Dice) -> Question {
        if dice.below(8) == 0 || self.keys.last() == 0 {
            let key = self.keys.next();
            return Question::new(F::Write, key, Value::Ints(vec![key, 200 + dice.below(1500)]));
        }
        let latest = self.keys.last();
        Question::new(F::Read, (latest - dice.below(LATEST)).max(1), Value::Null)
    }

    fn perform(&self, client: &mut Client, question: &Question) -> Result<Value, Missed> {
        let key = question.name(client, "expiry");
        match question.asked.ints() {
            [value, time] => {
                client.call(&["SET", &key, &value.to_string(), "PX", &time.to_string()])?;
                Ok(question.asked.clone())
            }
            _ => Ok(value(number(&client.call(&["GET", &key])?)?)),
        }
    }

    fn last(&self) -> Vec<Question> {
        (1..=self.keys.last()).map(|key| Question::new(F::Read, key, Value::Null)).collect()
    }
}
