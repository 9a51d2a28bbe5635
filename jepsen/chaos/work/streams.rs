//! Streams: XADD, XRANGE, and consumers of one group that acknowledge what they get.

use super::{Dice, Missed, Question, Serial, Work, refused};
use crate::check::stream::READ_MAX;
use crate::client::{Client, Trouble, number};
use crate::history::{F, Value};
use quoris_resp::Reply;

/// Streams, for the whole run.
const STREAMS: i64 = 3;
const GROUP: &str = "group";
/// Entries that a consumer asks for.
const COUNT: &str = "3";

/// See the module.
#[derive(Default)]
pub(super) struct Streams {
    values: Serial,
}

/// An id as two numbers.
fn id(reply: &Reply) -> Option<[i64; 2]> {
    let Reply::Bulk(text) = reply else { return None };
    let (ms, sequence) = std::str::from_utf8(text).ok()?.split_once('-')?;
    Some([ms.parse().ok()?, sequence.parse().ok()?])
}

/// Ids and values of entries, one behind the other.
fn entries(reply: &Reply) -> Result<Vec<i64>, Trouble> {
    let strange = || Trouble::Strange(format!("{reply:?} are no entries"));
    let Reply::Array(list) = reply else { return Err(strange()) };
    let mut all = Vec::with_capacity(list.len() * 3);
    for entry in list {
        let Reply::Array(pair) = entry else { return Err(strange()) };
        let (Some(first), Some(Reply::Array(fields))) = (pair.first(), pair.get(1)) else { return Err(strange()) };
        all.extend(id(first).ok_or_else(strange)?);
        all.push(number(fields.get(1).unwrap_or(&Reply::Null))?.ok_or_else(strange)?);
    }
    Ok(all)
}

impl Work for Streams {
    fn next(&self, dice: &mut Dice) -> Question {
        let key = dice.below(STREAMS);
        match dice.below(5) {
            0 | 1 => Question::new(F::Add, key, Value::Int(self.values.next())),
            2 => Question::new(F::Read, key, Value::Null),
            _ => Question::new(F::Dequeue, key, Value::Null),
        }
    }

    fn perform(&self, client: &mut Client, question: &Question) -> Result<Value, Missed> {
        let key = question.name(client, "stream");
        match question.f {
            F::Add => {
                let reply = client.call(&["XADD", &key, "*", "v", &question.asked.int().to_string()])?;
                let id = id(&reply).ok_or_else(|| Trouble::Strange(format!("{reply:?} of XADD")))?;
                Ok(Value::Ints(id.into()))
            }
            F::Read => Ok(Value::Ints(entries(&client.call(&[
                "XREVRANGE",
                &key,
                "+",
                "-",
                "COUNT",
                &READ_MAX.to_string(),
            ])?)?)),
            _ => take(client, &key),
        }
    }

    fn last(&self) -> Vec<Question> {
        let reads = (0..STREAMS).map(|key| Question::new(F::Read, key, Value::Null));
        (0..STREAMS).map(|key| Question::new(F::Dequeue, key, Value::Null)).chain(reads).collect()
    }

    fn is_over(&self, question: &Question, answered: &Value) -> bool {
        question.f == F::Read || answered.ints().is_empty()
    }
}

/// What nobody of the group has got yet.
fn take(client: &mut Client, key: &str) -> Result<Value, Missed> {
    let read = ["XREADGROUP", "GROUP", GROUP, "consumer", "COUNT", COUNT, "STREAMS", key, ">"];
    let reply = match client.call(&read) {
        Err(Trouble::Refused(why)) if why.starts_with("NOGROUP") => {
            match client.call(&["XGROUP", "CREATE", key, GROUP, "0", "MKSTREAM"]) {
                Ok(_) | Err(Trouble::Refused(_)) => {}
                Err(Trouble::Open(_)) => client.give_up(),
                Err(strange @ Trouble::Strange(_)) => return Err(strange.into()),
            }
            return Err(refused(&why));
        }
        other => other?,
    };
    let got = match &reply {
        Reply::Null | Reply::NullArray => return Ok(Value::Ints(Vec::new())),
        Reply::Array(streams) => match streams.first() {
            Some(Reply::Array(pair)) if pair.len() == 2 => entries(&pair[1])?,
            other => return Err(Trouble::Strange(format!("{other:?} of XREADGROUP")).into()),
        },
        other => return Err(Trouble::Strange(format!("{other:?} of XREADGROUP")).into()),
    };
    let ids: Vec<String> = got.chunks(3).map(|entry| format!("{}-{}", entry[0], entry[1])).collect();
    let mut words = vec!["XACK", key, GROUP];
    words.extend(ids.iter().map(String::as_str));
    match client.call(&words) {
        Ok(_) | Err(Trouble::Refused(_)) => {}
        // Whether it was acknowledged is nobody's question here.
        Err(Trouble::Open(_)) => client.give_up(),
        Err(strange @ Trouble::Strange(_)) => return Err(strange.into()),
    }
    Ok(Value::Ints(got.chunks(3).map(|entry| entry[2]).collect()))
}
