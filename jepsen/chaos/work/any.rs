//! Commands of every type on a few keys, to see whether replicas stay the same: their answers are not judged, what
//! all replicas hold at the end is.

use super::{Dice, Missed, Question, Serial, Work};
use crate::client::Client;
use crate::history::{F, Value};
use crate::outcome::meaning;
use quoris_resp::Reply;

/// Keys of each type, all in one slot of their own.
const KEYS: i64 = 6;

/// `K` is a key of the type in front of the colon, `L` another one of it, `#` a number, `~` a small one.
const COMMANDS: &[&str] = &[
    "s: SET K # PX 900",
    "s: SET K #",
    "s: APPEND K #",
    "s: SETRANGE K ~ #",
    "s: INCRBY K ~",
    "s: INCRBYFLOAT K 1.5",
    "s: GETDEL K",
    "s: GETEX K PX 300",
    "s: SETBIT K ~ 1",
    "s: BITFIELD K SET u8 ~ 7",
    "s: BITOP XOR K L L",
    "s: MSETNX K # L #",
    "s: PERSIST K",
    "s: PEXPIRE K 200",
    "s: RENAME K L",
    "s: COPY K L REPLACE",
    "s: DEL K L",
    "s: SET K # NX GET",
    "s: GET K",
    "s: TYPE K",
    "s: OBJECT ENCODING K",
    "p: PFADD K # # #",
    "p: PFMERGE K L",
    "p: PFCOUNT K L",
    "l: RPUSH K # # #",
    "l: LPUSH K #",
    "l: LPOP K 2",
    "l: RPOP K",
    "l: LINSERT K BEFORE ~ #",
    "l: LREM K 0 ~",
    "l: LSET K 0 #",
    "l: LTRIM K 0 40",
    "l: LMOVE K L LEFT RIGHT",
    "l: LMPOP 2 K L LEFT COUNT 2",
    "l: SORT K STORE L",
    "l: LRANGE K 0 -1",
    "l: PEXPIRE K 400",
    "l: UNLINK K",
    "h: HSET K ~ # ~ #",
    "h: HINCRBY K ~ ~",
    "h: HDEL K ~ ~",
    "h: HSETNX K ~ #",
    "h: HPEXPIRE K 200 FIELDS 2 ~ ~",
    "h: HGETDEL K FIELDS 1 ~",
    "h: HRANDFIELD K 3",
    "h: HGETALL K",
    "h: COPY K L REPLACE",
    "e: SADD K ~ ~ ~",
    "e: SREM K ~",
    "e: SPOP K",
    "e: SPOP K 3",
    "e: SMOVE K L ~",
    "e: SINTERSTORE K K L",
    "e: SUNIONSTORE K K L",
    "e: SDIFFSTORE K L K",
    "e: SRANDMEMBER K 3",
    "e: SMEMBERS K",
    "z: ZADD K ~ ~ ~ ~",
    "z: ZINCRBY K ~ ~",
    "z: ZREM K ~",
    "z: ZPOPMIN K 2",
    "z: ZUNIONSTORE K 2 K L",
    "z: ZRANGESTORE K L 0 10",
    "z: ZREMRANGEBYRANK K 30 -1",
    "z: ZMPOP 2 K L MAX",
    "z: ZRANGE K 0 -1 WITHSCORES",
    "g: GEOADD K 13.361389 38.115556 ~",
    "g: GEOSEARCHSTORE K L FROMLONLAT 15 37 BYRADIUS 300 km",
    "x: XADD K * v #",
    "x: XADD K MAXLEN 30 * v #",
    "x: XTRIM K MAXLEN 40",
    "x: XGROUP CREATE K ~ 0 MKSTREAM",
    "x: XREADGROUP GROUP ~ c COUNT 2 STREAMS K >",
    "x: XAUTOCLAIM K ~ d 0 0 COUNT 2",
    "x: XLEN K",
];

/// See the module.
#[derive(Default)]
pub(super) struct Anything {
    values: Serial,
}

impl Work for Anything {
    fn next(&self, dice: &mut Dice) -> Question {
        let asked = vec![dice.below(COMMANDS.len() as i64), dice.below(KEYS), dice.below(KEYS), self.values.next()];
        Question { f: F::Write, key: None, asked: Value::Ints(asked) }
    }

    fn perform(&self, client: &mut Client, question: &Question) -> Result<Value, Missed> {
        let [which, key, other, number] = question.asked.ints() else { return Ok(Value::Null) };
        let (kind, words) = COMMANDS[*which as usize].split_once(": ").unwrap_or_default();
        let name = |at: &i64| client.name(&format!("any:{{{kind}}}:{at}"));
        let word = |(place, word): (usize, &str)| match word {
            "K" => name(key),
            "L" => name(other),
            "#" => number.to_string(),
            // More than a listpack holds, together with the other names.
            "~" => ((number + place as i64 * 7) % 200).to_string(),
            word => word.to_string(),
        };
        let words: Vec<String> = words.split(' ').enumerate().map(word).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let reply = client.exchange(&[&words])?.remove(0);
        let is_own = |text: &[u8]| meaning(&String::from_utf8_lossy(text)).is_none();
        match reply {
            // The command's own error is an answer like another.
            Reply::Error(text) if is_own(&text) => Ok(question.asked.clone()),
            reply => crate::client::understood(reply).map(|_| question.asked.clone()).map_err(Missed::from),
        }
    }

    fn last(&self) -> Vec<Question> {
        Vec::new()
    }
}
