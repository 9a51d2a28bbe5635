//! A queue as clients know it: what was pushed, what was taken, what may have been taken for nobody.
//!
//! Invariants: no element is taken that was not pushed, or twice; at the end every acknowledged one was taken or is
//! still there, but for as many as there are clients that ended while they waited.

use std::collections::{BTreeMap, BTreeSet};

use quoris_resp::Reply;

/// See the module.
#[derive(Default)]
pub struct Queue {
    /// Elements that may be there, and whether their push was acknowledged.
    pushed: BTreeMap<String, bool>,
    taken: BTreeSet<String>,
    /// Clients that wait, or of which nobody knows what they took.
    waiting: usize,
}

impl Queue {
    /// An element is on its way.
    pub fn push(&mut self, element: &str) {
        self.pushed.insert(element.to_string(), false);
    }

    /// The push has ended, with or without effect.
    pub fn pushed(&mut self, element: &str, acknowledged: bool) {
        if acknowledged {
            self.pushed.insert(element.to_string(), true);
        } else {
            self.pushed.remove(element);
        }
    }

    /// Somebody begins to wait.
    pub fn wait(&mut self) {
        self.waiting += 1;
    }

    /// Somebody has waited, and certainly taken what the reply says; without a reply nothing.
    ///
    /// # Errors
    /// When that cannot be.
    pub fn waited(&mut self, reply: Option<&Reply>) -> Result<(), String> {
        self.waiting -= 1;
        match reply {
            None | Some(Reply::NullArray) => Ok(()),
            Some(Reply::Array(pair)) => self.take(pair.last()),
            Some(_) => Err("that is no answer to it".into()),
        }
    }

    fn take(&mut self, element: Option<&Reply>) -> Result<(), String> {
        let Some(Reply::Bulk(element)) = element else { return Err("no element".into()) };
        let element = String::from_utf8_lossy(element).into_owned();
        if !self.pushed.contains_key(&element) {
            return Err(format!("{element} was never pushed"));
        }
        if self.taken.insert(element.clone()) { Ok(()) } else { Err(format!("{element} is taken twice")) }
    }

    /// Compares what is left with what clients were told.
    ///
    /// # Errors
    /// When something is lost, or there that may not be.
    pub fn compare(&self, left: &Reply) -> Result<(), String> {
        let Reply::Array(left) = left else { return Err(format!("{left:?} is no list")) };
        let mut seen = self.taken.clone();
        for element in left {
            let Reply::Bulk(text) = element else { return Err(format!("{element:?} is no element")) };
            let text = String::from_utf8_lossy(text).into_owned();
            if !self.pushed.contains_key(&text) || !seen.insert(text.clone()) {
                return Err(format!("{text} may not be there"));
            }
        }
        let lost: Vec<&String> =
            self.pushed.iter().filter(|(e, known)| **known && !seen.contains(*e)).map(|(e, _)| e).collect();
        if lost.len() > self.waiting {
            return Err(format!("{lost:?} are lost, and only {} may be taken for nobody", self.waiting));
        }
        Ok(())
    }
}
