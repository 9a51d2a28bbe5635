//! Locks as Redis's users build them: SET with NX and PX, a counter for fencing, both in one script; given back by
//! a script that looks whose it is.

use std::sync::{Mutex, PoisonError};

use super::{Dice, Missed, Question, Serial, Work, refused};
use crate::client::{Client, Trouble};
use crate::history::{F, Value};
use quoris_resp::Reply;

/// Locks, for the whole run.
const LOCKS: i64 = 3;
const MILLISECONDS: i64 = 400;

const ACQUIRE: &str = "if redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then \
                       return redis.call('incr', KEYS[2]) end return 0";
const RELEASE: &str = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0";

/// One that was got and not yet given back.
struct Held {
    key: i64,
    fence: i64,
    token: i64,
}

/// Locks and who holds them.
#[derive(Default)]
pub(super) struct Locks {
    tokens: Serial,
    held: Mutex<Vec<Held>>,
}

impl Work for Locks {
    fn next(&self, dice: &mut Dice) -> Question {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mine) = held.first().filter(|_| dice.below(3) == 0) {
            return Question::new(F::Release, mine.key, Value::Int(mine.fence));
        }
        Question::new(F::Acquire, dice.below(LOCKS), Value::Int(MILLISECONDS))
    }

    fn perform(&self, client: &mut Client, question: &Question) -> Result<Value, Missed> {
        let key = question.key.unwrap_or_default();
        let [lock, fence] = ["lock", "fence"].map(|what| client.name(&format!("{what}:{{{key}}}")));
        if question.f == F::Release {
            let Some(token) = self.give(question.asked.int(), key) else {
                return Err(refused("given back by another"));
            };
            return match client.call(&["EVAL", RELEASE, "1", &lock, &token.to_string()])? {
                Reply::Int(1) => Ok(Value::Null),
                Reply::Int(0) => Err(refused("its time was over")),
                other => Err(Trouble::Strange(format!("{other:?} of a script")).into()),
            };
        }
        let token = self.tokens.next();
        let time = question.asked.int().to_string();
        match client.call(&["EVAL", ACQUIRE, "2", &lock, &fence, &token.to_string(), &time])? {
            Reply::Int(0) => Err(refused("held by another")),
            Reply::Int(fence) => {
                self.held.lock().unwrap_or_else(PoisonError::into_inner).push(Held { key, fence, token });
                Ok(Value::Int(fence))
            }
            other => Err(Trouble::Strange(format!("{other:?} of a script")).into()),
        }
    }

    fn last(&self) -> Vec<Question> {
        Vec::new()
    }
}

impl Locks {
    /// The token of a hold, once.
    fn give(&self, fence: i64, key: i64) -> Option<i64> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let at = held.iter().position(|held| (held.fence, held.key) == (fence, key))?;
        Some(held.remove(at).token)
    }
}
