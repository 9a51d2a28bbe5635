//! Two versions at once: one node after the other ends in good order and starts with another program, and later with
//! the first one again.

use std::path::Path;

use super::{Operator, say};

impl Operator {
    /// All nodes become the other program one by one, and then what they were.
    pub(super) fn upgrade(&self, took_part: &mut Vec<usize>) -> Result<(), String> {
        let places = self.nodes().members().len();
        for program in [&self.scene.other, &self.scene.program] {
            for place in 0..places {
                let at = self.restart(place, program)?;
                if !took_part.contains(&at) {
                    took_part.push(at);
                }
            }
        }
        Ok(())
    }

    fn restart(&self, place: usize, program: &Path) -> Result<usize, String> {
        let at = self.persist(&format!("place {place} ends"), || {
            let mut nodes = self.nodes();
            let at = nodes.seat(place);
            if !nodes.is_well(at) || !nodes.runs(at) {
                return Err("a fault is on it".to_string());
            }
            nodes.is_in_work(at, true);
            nodes.terminate(at).map_err(|why| format!("{why:#}"))?;
            Ok(at)
        })?;
        self.persist(&format!("node {} starts", at + 1), || {
            let mut nodes = self.nodes();
            if nodes.runs(at) {
                return Err("it has not ended yet".to_string());
            }
            nodes.is_in_work(at, false);
            nodes.start_as(at, program).map_err(|why| format!("{why:#}"))
        })?;
        let address = self.nodes().addresses[at];
        // Faults may come, but no other node goes before this one has been there.
        self.persist(&format!("node {} answers", at + 1), || {
            // Another operator may have removed it meanwhile.
            let is_member = self.nodes().seat(place) == at;
            if is_member { say(address, &["GET", "chaos:ready"]).map(drop) } else { Ok(()) }
        })?;
        Ok(at)
    }
}
