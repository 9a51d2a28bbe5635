//! Subscribers that come back: they read a channel's messages by XREAD from the position where they were, each time
//! through another node, if that is what their clients are connected to by then.
//!
//! A subscriber is used by one client at a time, and goes from one to the next with its position.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quoris_resp::Reply;

use super::{Dice, Missed, Question, Serial, Work};
use crate::client::{Client, Trouble, number};
use crate::history::{F, Value};

/// Channels, for the whole run.
const CHANNELS: i64 = 2;
/// Subscribers of each, at the least.
const SUBSCRIBERS: usize = 3;
/// What a subscriber asks for that does not want all at once; and that wants all.
const FEW: i64 = 5;
const ALL: i64 = 0;
/// Before the first event.
const BEGINNING: &str = "0";
/// The answer to a position that is not kept any more, and behind it the first one that is.
const FLOOR: &str = "BELOWFLOOR";

/// Who reads on.
#[derive(Clone)]
struct Subscriber {
    name: i64,
    cursor: String,
}

/// See the module.
#[derive(Default)]
pub(super) struct Events {
    values: Serial,
    names: Serial,
    idle: Mutex<HashMap<i64, Vec<Subscriber>>>,
}

impl Events {
    fn idle(&self) -> MutexGuard<'_, HashMap<i64, Vec<Subscriber>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one who has waited for the longest time, or a new one.
    fn take(&self, key: i64) -> Subscriber {
        let mut idle = self.idle();
        let idle = idle.entry(key).or_default();
        if idle.len() < SUBSCRIBERS && self.names.last() < CHANNELS * SUBSCRIBERS as i64 || idle.is_empty() {
            return Subscriber { name: self.names.next(), cursor: BEGINNING.to_string() };
        }
        idle.remove(0)
    }

    fn read(&self, client: &mut Client, question: &Question, channel: &str) -> Result<Value, Missed> {
        let key = question.key.unwrap_or_default();
        let mut subscriber = self.take(key);
        let name = format!("quoris:events:channel:{channel}");
        let count = question.asked.int().to_string();
        let mut words = vec!["XREAD"];
        if question.asked.int() != ALL {
            words.extend(["COUNT", &count]);
        }
        words.extend(["STREAMS", &name, &subscriber.cursor]);
        let read = client.call(&words).and_then(|reply| messages(&reply, channel));
        let answered = match read {
            Ok((cursor, messages)) => {
                subscriber.cursor = cursor.unwrap_or(subscriber.cursor);
                Ok(Value::Ints([vec![subscriber.name], messages].concat()))
            }
            Err(Trouble::Refused(why)) if why.starts_with(FLOOR) => {
                // It has missed something, and knows it.
                let kept = why.rsplit(' ').next().unwrap_or_default().to_string();
                subscriber = Subscriber { name: self.names.next(), cursor: kept };
                Err(Trouble::Refused(why).into())
            }
            Err(trouble) => Err(trouble.into()),
        };
        self.idle().entry(key).or_default().push(subscriber);
        answered
    }
}

/// The cursor behind what was read, if there was anything, and the messages; the name of another channel's is 0.
fn messages(reply: &Reply, channel: &str) -> Result<(Option<String>, Vec<i64>), Trouble> {
    let strange = || Trouble::Strange(format!("{reply:?} are no events"));
    if matches!(reply, Reply::Null | Reply::NullArray) {
        return Ok((None, Vec::new()));
    }
    let list = |reply: &Reply| if let Reply::Array(list) = reply { Some(list.clone()) } else { None };
    let stream = list(reply).and_then(|streams| list(streams.first()?)).ok_or_else(strange)?;
    let entries = stream.get(1).and_then(list).ok_or_else(strange)?;
    let (mut cursor, mut messages) = (None, Vec::new());
    for entry in entries {
        let pair = list(&entry).ok_or_else(strange)?;
        let [Reply::Bulk(id), Reply::Array(fields)] = &pair[..] else { return Err(strange()) };
        let field =
            |name: &str| fields.chunks(2).find(|pair| pair[0] == Reply::bulk(name)).and_then(|pair| pair.get(1));
        let message = number(field("message").unwrap_or(&Reply::Null))?.ok_or_else(strange)?;
        messages.push(if field("channel") == Some(&Reply::bulk(channel)) { message } else { 0 });
        cursor = Some(String::from_utf8_lossy(id).into_owned());
    }
    Ok((cursor, messages))
}

impl Work for Events {
    fn next(&self, dice: &mut Dice) -> Question {
        let key = dice.below(CHANNELS);
        match dice.below(8) {
            0..4 => Question::new(F::Publish, key, Value::Ints(vec![self.values.next()])),
            4 => Question::new(F::Listen, key, Value::Int(FEW)),
            _ => Question::new(F::Listen, key, Value::Int(ALL)),
        }
    }

    fn perform(&self, client: &mut Client, question: &Question) -> Result<Value, Missed> {
        let channel = question.name(client, "events");
        match question.asked.ints() {
            [message] => {
                client.call(&["PUBLISH", &channel, &message.to_string()])?;
                Ok(question.asked.clone())
            }
            _ => self.read(client, question, &channel),
        }
    }

    /// Each subscriber reads to the end, and some do so twice.
    fn last(&self) -> Vec<Question> {
        let of = |key| (0..2 * SUBSCRIBERS).map(move |_| Question::new(F::Listen, key, Value::Int(ALL)));
        (0..CHANNELS).flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_gives_the_next_cursor_and_what_was_heard() {
        let text = |words: &[&str]| Reply::Array(words.iter().map(Reply::bulk).collect());
        let entry = |id, channel, message| {
            Reply::Array(vec![Reply::bulk(id), text(&["channel", channel, "message", message, "position", id])])
        };
        let stream = vec![Reply::bulk("name"), Reply::Array(vec![entry("1:5-1", "c", "7"), entry("1:6-1", "d", "8")])];
        let reply = Reply::Array(vec![Reply::Array(stream)]);
        assert_eq!(messages(&reply, "c").unwrap(), (Some("1:6-1".to_string()), vec![7, 0]));
        assert_eq!(messages(&Reply::NullArray, "c").unwrap(), (None, Vec::new()));
    }
}
