//! A note of what happened to the keys, for tools that print it. A group at work keeps none.
//!
//! Between two settlings the journal collects the keys that were touched; settling looks at what each of
//! them is now. Nothing changes a key but the methods of the keyspace, so no command has to say what it does.
//!
//! Invariant: the journal is settled before databases are emptied or exchanged, so effects are in order.

use std::collections::BTreeSet;

use super::Keyspace;
use crate::Effect;

/// See the module.
#[derive(Debug)]
pub(super) struct Journal {
    /// No other group has keys: what happens to a database can be told in one word.
    whole: bool,
    touched: BTreeSet<(u32, Vec<u8>)>,
    effects: Vec<Effect>,
}

impl Keyspace {
    /// Begins a journal. With `whole` a database that is emptied or exchanged is one effect; without it, as
    /// for one group of several, it is one for each key.
    pub(crate) fn keep_journal(&mut self, whole: bool) {
        self.journal = Some(Box::new(Journal { whole, touched: BTreeSet::new(), effects: Vec::new() }));
    }

    /// Takes what has happened since the last time, in order.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        self.settle_journal();
        self.journal.as_mut().map(|journal| std::mem::take(&mut journal.effects)).unwrap_or_default()
    }

    /// Looks at what the touched keys are now. Called behind each command.
    pub(crate) fn settle_journal(&mut self) {
        let Some(mut journal) = self.journal.take() else { return };
        for (database, key) in std::mem::take(&mut journal.touched) {
            let effect = match self.entry(database, &key) {
                Some(entry) => {
                    let (value, expire_at_ms) = (entry.value.clone(), entry.expire_at_ms);
                    Effect::Set { database, key, value, expire_at_ms }
                }
                None => Effect::Gone { database, key },
            };
            journal.effects.push(effect);
        }
        self.journal = Some(journal);
    }

    /// A key is about to change or has changed.
    pub(super) fn touch(&mut self, database: u32, key: &[u8]) {
        if let Some(awaited) = &mut self.awaited {
            awaited.touch(database, key);
        }
        if let Some(changing) = &mut self.changing {
            changing.touch(key);
        }
        if let Some(tracked) = &mut self.tracked {
            tracked.touch(database, key);
        }
        if self.undo.is_some() {
            self.note_before(database, key);
        }
        if let Some(journal) = &mut self.journal {
            journal.touched.insert((database, key.to_vec()));
        }
    }

    /// A database is about to be emptied.
    pub(super) fn touch_all(&mut self, database: u32) {
        self.note_all_before(&[database]);
        self.touch_databases(&[database], Effect::Emptied { database });
    }

    /// Two databases are about to be exchanged.
    pub(super) fn touch_both(&mut self, one: u32, other: u32) {
        self.note_all_before(&[one, other]);
        self.touch_databases(&[one, other], Effect::Exchanged { one, other });
    }

    fn touch_databases(&mut self, databases: &[u32], effect: Effect) {
        if let Some(awaited) = &mut self.awaited {
            awaited.touch_databases(databases);
        }
        if let Some(changing) = &mut self.changing {
            changing.touch_all();
        }
        if let Some(tracked) = &mut self.tracked {
            tracked.touch_all();
        }
        if self.journal.is_none() || databases.iter().all(|database| self.is_empty(*database)) {
            return;
        }
        self.settle_journal();
        let Some(mut journal) = self.journal.take() else { return };
        if journal.whole {
            journal.effects.push(effect);
        } else {
            for database in databases {
                self.databases[*database as usize].for_each(&mut |entry| {
                    let key = entry.key.bytes();
                    journal.touched.extend(databases.iter().map(|database| (*database, key.to_vec())));
                });
            }
        }
        self.journal = Some(journal);
    }
}
