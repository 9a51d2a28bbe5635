//! Channels: PUBLISH, alone and in MULTI behind a write of another slot, and clients that listen for a while.

use std::time::Duration;

use super::lists::transact;
use super::{Dice, Missed, Question, Serial, Work};
use crate::client::Client;
use crate::history::{F, Value};
use quoris_resp::Reply;

/// Channels, for the whole run.
const CHANNELS: i64 = 2;
/// How long somebody listens, at the least; and how much longer.
const LISTEN_MS: i64 = 400;
/// A message that was published alone, and one of a transaction.
const ALONE: i64 = 0;
const BESIDE: i64 = 1;

/// See the module.
#[derive(Default)]
pub(super) struct Channels {
    values: Serial,
}

impl Work for Channels {
    fn next(&self, dice: &mut Dice) -> Question {
        let key = dice.below(CHANNELS);
        match dice.below(12) {
            0 => Question::new(F::Listen, key, Value::Null),
            1..4 => Question::new(F::Publish, key, Value::Ints(vec![self.values.next(), BESIDE])),
            _ => Question::new(F::Publish, key, Value::Ints(vec![self.values.next(), ALONE])),
        }
    }

    fn perform(&self, client: &mut Client, question: &Question) -> Result<Value, Missed> {
        let channel = question.name(client, "channel");
        let [message, how] = question.asked.ints() else {
            let time = LISTEN_MS + question.key.unwrap_or_default() * LISTEN_MS;
            let heard = client.listen(&channel, Duration::from_millis(time.unsigned_abs()))?;
            let number = |text: &Reply| match text {
                Reply::Bulk(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
                _ => None,
            };
            return Ok(Value::Ints(heard.iter().filter_map(number).collect()));
        };
        let message = message.to_string();
        if *how == ALONE {
            client.call(&["PUBLISH", &channel, &message])?;
            return Ok(question.asked.clone());
        }
        let beside = client.name("beside");
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let commands = [words(&["SET", &beside, &message]), words(&["PUBLISH", &channel, &message])];
        for reply in transact(client, &commands)? {
            crate::client::understood(reply)?;
        }
        Ok(question.asked.clone())
    }

    fn last(&self) -> Vec<Question> {
        Vec::new()
    }
}
