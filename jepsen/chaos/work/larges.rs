//! Large values in few keys. Each is whole or not there; and logs grow by them until they are cut behind snapshots, so
//! that whoever was away gets one.

use quoris_resp::Reply;

use super::{Dice, Keys, Missed, Question, Serial, Work};
use crate::client::{Client, Trouble};
use crate::history::{F, Value};

/// Keys at a time.
const HOT: i64 = 4;
const BYTES: usize = 32 * 1024;
/// What is read as this was never written by anybody.
const TORN: i64 = -1;

/// See the module.
#[derive(Default)]
pub(super) struct Larges {
    keys: Keys,
    values: Serial,
}

fn text(number: i64) -> String {
    let letter = char::from(b'a' + (number % 26) as u8);
    format!("{number}:{}", letter.to_string().repeat(BYTES))
}

/// The number that a value was made of.
fn number(reply: &Reply) -> Result<Value, Trouble> {
    match reply {
        Reply::Null => Ok(Value::Null),
        Reply::Bulk(found) => {
            let end = found.iter().position(|byte| *byte == b':').unwrap_or(0);
            let number = std::str::from_utf8(&found[..end]).ok().and_then(|digits| digits.parse::<i64>().ok());
            let whole = number.filter(|number| *number > 0 && text(*number).as_bytes() == &found[..]);
            Ok(Value::Int(whole.unwrap_or(TORN)))
        }
        other => Err(Trouble::Strange(format!("{other:?} of GET"))),
    }
}

impl Work for Larges {
    fn next(&self, dice: &mut Dice) -> Question {
        let key = self.keys.pick(dice, HOT);
        match dice.below(2) {
            0 => Question::new(F::Write, key, Value::Int(self.values.next())),
            _ => Question::new(F::Read, key, Value::Null),
        }
    }

    fn perform(&self, client: &mut Client, question: &Question) -> Result<Value, Missed> {
        let key = question.name(client, "large");
        if question.f == F::Read {
            return Ok(number(&client.call(&["GET", &key])?)?);
        }
        client.call(&["SET", &key, &text(question.asked.int())])?;
        Ok(question.asked.clone())
    }

    fn last(&self) -> Vec<Question> {
        self.keys.all(HOT).map(|key| Question::new(F::Read, key, Value::Null)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_whole_or_nobody_wrote_it() {
        assert_eq!(number(&Reply::bulk(text(27))).unwrap(), Value::Int(27));
        assert_eq!(number(&Reply::Null).unwrap(), Value::Null);
        for torn in [&text(27)[..100], &text(27).replace("27:", "28:"), "", "x", ":"] {
            assert_eq!(number(&Reply::bulk(torn)).unwrap(), Value::Int(TORN), "{torn}");
        }
    }
}
