//! Money that moves between accounts and is never made or lost: transfers in scripts, balances read in MULTI.

use super::{Dice, Keys, Missed, Question, Work, refused};
use crate::check::bank::{ACCOUNTS, FUNDS};
use crate::client::{Client, Trouble, number, understood};
use crate::history::{F, Value};
use quoris_resp::Reply;

/// Banks at a time.
const BANKS: i64 = 2;

/// An account that does not exist yet has its first funds.
const TRANSFER: &str = "local have = tonumber(redis.call('get', KEYS[1]) or ARGV[2]) \
                        local other = tonumber(redis.call('get', KEYS[2]) or ARGV[2]) \
                        local sum = tonumber(ARGV[1]) if have < sum then return 0 end \
                        redis.call('set', KEYS[1], have - sum) redis.call('set', KEYS[2], other + sum) return 1";

/// See the module.
#[derive(Default)]
pub(super) struct Banks {
    keys: Keys,
}

fn account(client: &Client, question: &Question, at: i64) -> String {
    client.name(&format!("bank:{{{}}}:{at}", question.key.unwrap_or_default()))
}

impl Work for Banks {
    fn next(&self, dice: &mut Dice) -> Question {
        let key = self.keys.pick(dice, BANKS);
        if dice.below(2) == 0 {
            return Question::new(F::Read, key, Value::Null);
        }
        let from = dice.below(ACCOUNTS);
        let to = (from + 1 + dice.below(ACCOUNTS - 1)) % ACCOUNTS;
        Question::new(F::Transfer, key, Value::Ints(vec![from, to, 1 + dice.below(30)]))
    }

    fn perform(&self, client: &mut Client, question: &Question) -> Result<Value, Missed> {
        if let [from, to, sum] = question.asked.ints() {
            let [from, to] = [from, to].map(|at| account(client, question, *at));
            let (sum, funds) = (sum.to_string(), FUNDS.to_string());
            return match client.call(&["EVAL", TRANSFER, "2", &from, &to, &sum, &funds])? {
                Reply::Int(1) => Ok(question.asked.clone()),
                Reply::Int(0) => Err(refused("not enough in the account")),
                other => Err(Trouble::Strange(format!("{other:?} of a script")).into()),
            };
        }
        let accounts: Vec<String> = (0..ACCOUNTS).map(|at| account(client, question, at)).collect();
        let mut commands: Vec<Vec<&str>> = accounts.iter().map(|name| vec!["GET", name.as_str()]).collect();
        commands.insert(0, vec!["MULTI"]);
        commands.push(vec!["EXEC"]);
        let commands: Vec<&[&str]> = commands.iter().map(Vec::as_slice).collect();
        let last = client.exchange(&commands)?.pop();
        match understood(last.unwrap_or(Reply::Null))? {
            Reply::Array(list) => {
                let balance = |reply: &Reply| Ok(number(reply)?.unwrap_or(FUNDS));
                Ok(Value::Ints(list.iter().map(balance).collect::<Result<_, Trouble>>()?))
            }
            other => Err(Trouble::Strange(format!("{other:?} of EXEC")).into()),
        }
    }

    fn last(&self) -> Vec<Question> {
        self.keys.all(BANKS).map(|key| Question::new(F::Read, key, Value::Null)).collect()
    }
}
