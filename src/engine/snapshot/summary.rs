//! What a snapshot says of its group, for a reader that wants its keys alone: a backup.

use super::{field, load::read_own_slots};
use crate::rdb::Foreign;
use crate::{SLOTS, Settings};

/// Where a group stood when its snapshot was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The last entry that is in it.
    pub index: u64,
    /// The group's clock there, Unix milliseconds.
    pub clock_ms: u64,
    /// The slots whose keys it holds, as inclusive ranges.
    pub slots: Vec<(u16, u16)>,
    /// The settings of the cluster, as the group had them.
    pub settings: Settings,
}

impl Foreign {
    /// What the file says of the group whose snapshot it is.
    ///
    /// # Errors
    /// When it is no snapshot of Quoris, or of another version.
    pub fn summary(&self) -> Result<Summary, String> {
        let text = |name: &str| {
            let value = self.fields.get(name).ok_or_else(|| format!("no field {name}: no snapshot of Quoris"))?;
            std::str::from_utf8(value).map_err(|_| format!("field {name} is not text"))
        };
        let number = |name| text(name)?.parse().map_err(|_| format!("field {name} is not a number"));
        let slots = read_own_slots(text(field::OWN)?)?;
        Ok(Summary {
            index: number(field::INDEX)?,
            clock_ms: number(field::CLOCK)?,
            slots: slots.map_or_else(|| vec![(0, SLOTS - 1)], Vec::from),
            settings: Settings::parse(text(field::SETTINGS)?.as_bytes())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use crate::rdb::{ForeignOptions, read_foreign};
    use crate::testing::{SEED, run};
    use crate::{Engine, SLOTS, Settings};

    #[test]
    fn a_snapshot_tells_what_a_backup_has_to_know() {
        for slots in [None, Some(vec![(3, 5), (16_000, 16_383)]), Some(vec![])] {
            let mut engine = Engine::new(SEED);
            run(&mut engine, 1, "SET k v");
            engine.keyspace.set_slots(slots.clone().map(Vec::into_boxed_slice));
            let file = engine.snapshot(vec![]).expect("none is running");
            let read = read_foreign(&mut &file[..], ForeignOptions::default(), &mut |_, _| ControlFlow::Continue(()));
            let summary = read.expect("an RDB file").summary().expect("a snapshot");
            assert_eq!((summary.index, summary.clock_ms), (engine.applied_index(), engine.clock_ms()));
            assert_eq!(summary.slots, slots.unwrap_or_else(|| vec![(0, SLOTS - 1)]));
            assert_eq!(summary.settings, Settings::default());
        }
    }
}
