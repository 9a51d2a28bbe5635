//! Keys with a time to live, and clients that look at them until they are gone.
//!
//! The keys belong to the run, not to the node that made them: what was created before all nodes crashed
//! is looked at by the clients that come after. Judged is that no key is gone before its time, and that
//! none is there that somebody has seen gone.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quoris_raft::Node;
use quoris_resp::Reply;

use crate::clients::execute;
use crate::dice::Dice;
use crate::host::{Phase, WALLS_APART_MS, World};
use crate::net::now;

/// Keys that are looked at.
const KEYS: usize = 8;
/// Looks at a key that is gone; then another takes its place.
const LOOKS_BEHIND: u32 = 10;
/// What a slow network adds to the distance of right clocks, in milliseconds.
const SLOW_MS: u64 = 50;

#[derive(Clone, Debug)]
struct Mortal {
    key: String,
    sent: Duration,
    time_to_live: Duration,
    /// How often somebody was told that it is gone.
    gone: u32,
}

/// All keys that are looked at.
#[derive(Default)]
pub struct Mortals(Mutex<Vec<Mortal>>);

impl Mortals {
    /// Notes what somebody was told of a key.
    ///
    /// # Errors
    /// When it may not be so; `before` is what was known when he asked.
    fn told(&self, before: &Mortal, is_gone: bool) -> Result<(), String> {
        let (lived, key) = (now() - before.sent, &before.key);
        // A cold start may choose any right clock; steering is one percent.
        let early_max = Duration::from_millis(WALLS_APART_MS + SLOW_MS) + before.time_to_live / 100;
        if is_gone && lived + early_max < before.time_to_live {
            return Err(format!("{key} was given {:?} and is gone after {lived:?}", before.time_to_live));
        }
        if before.gone > 0 && !is_gone {
            return Err(format!("{key} came back"));
        }
        let mut keys = self.0.lock();
        keys.iter_mut().filter(|mortal| mortal.key == *key).for_each(|mortal| mortal.gone += u32::from(is_gone));
        keys.retain(|mortal| mortal.gone < LOOKS_BEHIND);
        Ok(())
    }
}

/// One client until the load ends.
pub async fn undertaker(node: Node, world: Arc<World>, name: String, mut dice: Dice) {
    let session = node.session();
    for number in 0.. {
        if world.phase() != Phase::Load {
            break;
        }
        tokio::time::sleep(Duration::from_millis(dice.between(5, 40))).await;
        let keys = world.mortals.0.lock().clone();
        if keys.len() < KEYS {
            let (key, ms) = (format!("mortal:{name}.{number}"), dice.between(700, 5000));
            let mortal = Mortal { key, sent: now(), time_to_live: Duration::from_millis(ms), gone: 0 };
            let set = ["SET", &mortal.key, "alive", "PX", &ms.to_string()].map(String::from);
            if execute(&node, &session, &set).await.is_ok() {
                world.history.trace(format!("{mortal:?}"));
                world.mortals.0.lock().push(mortal);
            }
            continue;
        }
        let mortal = &keys[dice.below(keys.len() as u64) as usize];
        let get = ["GET".to_string(), mortal.key.clone()];
        let Ok(executed) = execute(&node, &session, &get).await else { continue };
        if let Err(text) = world.mortals.told(mortal, executed.replies == [Reply::Null]) {
            world.ledger.violation(text);
        }
    }
    world.client_ended(&name);
}
