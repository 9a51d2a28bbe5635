//! `VERIFY`: the replicas of a group compare their digests through its log.
//!
//! A mark in the log makes every replica remember its digest at that index. A verdict behind it names the
//! index and the digest that a majority had there; a replica that remembers another one has gone astray.
//! Both are of the group itself: no client can send them, no session records them, nothing of them is in
//! the state. What is remembered is not in a snapshot either: a restored replica can be judged from the
//! next mark on.

use std::collections::VecDeque;

use quoris_resp::Argv;

use crate::entry::{CommandMeta, EntryError};
use crate::number;

/// Marks that are remembered. The leader sets one every few seconds and asks for it at once.
const MARKS_MAX: usize = 16;

/// What the group writes into its own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Every replica remembers its digest behind this entry.
    Mark,
    /// A majority had this digest at that mark.
    Verdict {
        /// The mark's index.
        index: u64,
        /// The digest.
        digest: u64,
    },
}

impl Verify {
    /// As a command of an entry.
    pub fn to_command(self) -> (CommandMeta, Argv) {
        let argv = match self {
            Verify::Mark => Argv::from_parts(&["VERIFY"]),
            Verify::Verdict { index, digest } => {
                Argv::from_parts(&["VERIFY", &index.to_string(), &format!("{digest:016x}")])
            }
        };
        (CommandMeta { verify: true, ..CommandMeta::default() }, argv)
    }

    /// Reads it back.
    ///
    /// # Errors
    /// When the bytes are damaged.
    pub fn from_argv(argv: &Argv) -> Result<Verify, EntryError> {
        if argv.len() == 1 {
            return Ok(Verify::Mark);
        }
        let index = argv.get(1).and_then(number::integer).and_then(|n| u64::try_from(n).ok());
        let digest = argv.get(2).and_then(|hex| std::str::from_utf8(hex).ok());
        let digest = digest.and_then(|hex| u64::from_str_radix(hex, 16).ok());
        match (index, digest) {
            (Some(index), Some(digest)) => Ok(Verify::Verdict { index, digest }),
            _ => Err(EntryError::Malformed("VERIFY without index and digest".into())),
        }
    }
}

/// A verdict that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the digest at index {index} is {own:016x} here and {majority:016x} on a majority of the replicas")]
pub struct Difference {
    /// The mark's index.
    pub index: u64,
    /// The digest that was here.
    pub own: u64,
    /// The majority's.
    pub majority: u64,
}

/// What a replica remembers.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    marks: VecDeque<(u64, u64)>,
    /// The last mark whose verdict fitted.
    index: u64,
    difference: Option<Difference>,
}

impl Verified {
    /// Remembers the digest at a mark.
    pub(crate) fn mark(&mut self, index: u64, digest: u64) {
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back((index, digest));
    }

    /// Compares with a verdict; a mark that is not remembered cannot be judged.
    pub(crate) fn judge(&mut self, index: u64, majority: u64) {
        match self.digest_at(index) {
            Some(own) if own != majority => self.difference = Some(Difference { index, own, majority }),
            Some(_) => self.index = index,
            None => {}
        }
    }

    /// The digest at a mark.
    pub(crate) fn digest_at(&self, index: u64) -> Option<u64> {
        self.marks.iter().find(|(at, _)| *at == index).map(|(_, digest)| *digest)
    }
}

impl crate::Engine {
    /// The digest at a mark, if it is remembered.
    pub fn digest_at(&self, index: u64) -> Option<u64> {
        self.verified.digest_at(index)
    }

    /// The last mark at which this replica was found to be what a majority is; 0 before the first.
    pub fn verified_index(&self) -> u64 {
        self.verified.index
    }

    /// The last verdict that did not fit: this replica has gone astray.
    pub fn difference(&self) -> Option<Difference> {
        self.verified.difference
    }

    /// What the entry at `index` asks for, behind its commands.
    pub(crate) fn verify(&mut self, index: u64, verify: Verify) {
        match verify {
            Verify::Mark => {
                let digest = self.digest();
                self.verified.mark(index, digest);
            }
            Verify::Verdict { index, digest } => self.verified.judge(index, digest),
        }
    }

    /// [`crate::Keyspace::settle`] for those who hold the engine.
    pub fn settle(&mut self) {
        self.keyspace.settle();
    }

    /// A failpoint: flips one bit of a value on this replica alone. With `counted` the digest follows, as if
    /// replicas had run different programs; without, as if memory had failed. False when there is nothing to
    /// flip.
    pub fn flip_bit(&mut self, database: u32, key: &[u8], counted: bool) -> bool {
        self.keyspace.flip_bit(database, key, counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryBuilder;
    use crate::testing::{SEED, run};
    use crate::{Engine, Scrub};

    fn verify(engine: &mut Engine, verify: Verify) -> u64 {
        let (meta, argv) = verify.to_command();
        let mut builder = EntryBuilder::default();
        builder.push(&meta, &argv);
        let index = engine.applied_index() + 1;
        let entry = builder.finish(1, 7);
        engine.apply_entry(index, &entry, &mut |_, reply, _| panic!("{reply:?}")).expect("own format");
        index
    }

    fn scrubbed(engine: &Engine) -> bool {
        let mut at = Scrub::default();
        loop {
            match engine.keyspace().scrub(&mut at, 1) {
                Ok(false) => {}
                Ok(true) => return true,
                Err(_) => return false,
            }
        }
    }

    #[test]
    fn a_replica_judges_itself_by_the_majoritys_digest() {
        let (mut one, mut two) = (Engine::new(SEED), Engine::new(SEED));
        for replica in [&mut one, &mut two] {
            run(replica, 1, "SET k value");
            run(replica, 1, "SET n 7");
        }
        assert!(two.flip_bit(0, b"n", true));
        let mark = verify(&mut one, Verify::Mark);
        assert_eq!(verify(&mut two, Verify::Mark), mark);
        let digest = one.digest_at(mark).expect("remembered");
        for replica in [&mut one, &mut two] {
            verify(replica, Verify::Verdict { index: 999, digest: 1 });
            verify(replica, Verify::Verdict { index: mark, digest });
        }
        assert_eq!((one.difference(), one.verified_index()), (None, mark));
        let difference = two.difference().expect("it differs");
        assert_eq!((difference.index, difference.majority, two.verified_index()), (mark, digest, 0));
        assert!(scrubbed(&two), "what was counted is no flaw of the memory");
        for _ in 0..MARKS_MAX {
            verify(&mut one, Verify::Mark);
        }
        assert_eq!(one.digest_at(mark), None, "a bounded number is remembered");
    }

    #[test]
    fn marks_and_verdicts_leave_no_trace_in_the_state() {
        let (mut one, mut two) = (Engine::new(SEED), Engine::new(SEED));
        run(&mut one, 1, "SET k v");
        run(&mut two, 1, "SET k v");
        verify(&mut one, Verify::Mark);
        verify(&mut one, Verify::Verdict { index: 2, digest: 3 });
        assert_eq!(one.digest(), two.digest());
    }

    #[test]
    fn a_damaged_verify_is_an_error() {
        for words in [&["VERIFY", "1"][..], &["VERIFY", "x", "1"], &["VERIFY", "1", "-"], &["VERIFY", "-1", "1"]] {
            assert!(Verify::from_argv(&Argv::from_parts(words)).is_err(), "{words:?}");
        }
        for known in [Verify::Mark, Verify::Verdict { index: 7, digest: u64::MAX }] {
            assert_eq!(Verify::from_argv(&known.to_command().1).expect("own format"), known);
        }
    }
}
