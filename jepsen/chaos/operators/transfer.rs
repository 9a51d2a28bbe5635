//! Leaders that move: nodes that lead nothing are told to lead, by CLUSTER FAILOVER, as long as the fault lasts.

use std::time::{Duration, Instant};

use super::{Operator, say};

/// A leader stays for so long, at the least, and for so much longer.
const STAY_MS: (i64, i64) = (50, 400);

impl Operator {
    /// One after the other, and one at the least; tells which nodes led.
    pub(super) fn transfer(&self, took_part: &mut Vec<usize>) -> Result<(), String> {
        // Who is asked first is chance: all do not lead the same.
        self.turn.set(self.turn.get() + self.below(self.scene.groups.max(2)) as usize);
        while took_part.is_empty() || Instant::now() < self.until {
            let led = self.persist("CLUSTER FAILOVER", || self.lead_elsewhere(!took_part.is_empty()))?;
            took_part.extend(led.filter(|at| !took_part.contains(at)));
            std::thread::sleep(Duration::from_millis((STAY_MS.0 + self.below(STAY_MS.1)).unsigned_abs()));
        }
        Ok(())
    }

    /// A node leads that did not; nothing when it is time to end and it need not be.
    fn lead_elsewhere(&self, may_end: bool) -> Result<Option<usize>, String> {
        let address = self.someone();
        match say(address, &["CLUSTER", "FAILOVER"]) {
            Ok(_) => Ok(self.nodes().addresses.iter().position(|other| *other == address)),
            Err(_) if may_end && Instant::now() >= self.until => Ok(None),
            Err(why) => Err(why),
        }
    }
}
