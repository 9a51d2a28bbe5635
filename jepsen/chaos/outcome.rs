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

/// The first words of errors.
pub const CODES: &[(&str, Meaning)] = &[
    ("ASK", Meaning::No),
    ("BELOWFLOOR", Meaning::No),
    ("BUSY", Meaning::No),
    ("BUSYGROUP", Meaning::No),
    ("CLUSTERDOWN", Meaning::No),
    ("CROSSSLOT", Meaning::No),
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
    let code = error.split(' ').next().unwrap_or_default();
    CODES.iter().find(|(known, _)| *known == code).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_decides() {
        assert_eq!(meaning("MOVED 5 127.0.0.1:7001"), Some(Meaning::No));
        assert_eq!(meaning("TIMEOUT the leader was lost"), Some(Meaning::Perhaps));
        assert_eq!(meaning("ERR something new"), None);
    }
}
