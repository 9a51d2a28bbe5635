//! What an error of the server says about the command: the one table.
//!
//! It is the server's documented contract (`src/docs/sessions.md`, *What an error says*) and agrees with what
//! Jepsen's own Redis client takes for definite. An error that is not here is a failure of the harness: somebody
//! has to decide what it means.

/// Whether a command that was answered like this may have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Certainly not, now or later.
    No,
    /// Perhaps.
    Perhaps,
}

/// How errors begin: their code, and for the few refusals without a code of their own as much as tells them apart.
pub const CODES: &[(&str, Meaning)] = &[
    ("ASK", Meaning::No),
    ("BELOWFLOOR", Meaning::No),
    ("BUSY", Meaning::No),
    ("BUSYGROUP", Meaning::No),
    ("CLUSTERDOWN", Meaning::No),
    ("CROSSSLOT", Meaning::No),
    ("ERR the command was first sent in the future", Meaning::No),
    ("EXECABORT", Meaning::No),
    ("LOADING", Meaning::No),
    ("MASTERDOWN", Meaning::No),
    ("MISCONF", Meaning::No),
    ("MOVED", Meaning::No),
    ("NOAUTH", Meaning::No),
    ("NOCLUSTER", Meaning::No),
    ("NOGROUP", Meaning::No),
    ("NOLEADER", Meaning::No),
    ("NOPERM", Meaning::No),
    ("NOREPLICAS", Meaning::No),
    ("OOM", Meaning::No),
    ("READONLY", Meaning::No),
    ("TRYAGAIN", Meaning::No),
    ("UNBLOCKED", Meaning::No),
    ("TIMEOUT", Meaning::Perhaps),
    ("UNKNOWN", Meaning::Perhaps),
];

/// What an error means, if it is known.
pub fn meaning(error: &str) -> Option<Meaning> {
    let begins = |known: &str| error.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    CODES.iter().find(|(known, _)| begins(known)).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_first_words_decide() {
        assert_eq!(meaning("MOVED 5 127.0.0.1:7001"), Some(Meaning::No));
        assert_eq!(meaning("TIMEOUT the leader was lost"), Some(Meaning::Perhaps));
        assert_eq!(meaning("ERR the command was first sent in the future of the group's clock"), Some(Meaning::No));
        assert_eq!(meaning("ERR something new"), None);
        assert_eq!(meaning("MOVEDX 5"), None);
    }
}
