//! What a checker says: valid, invalid or unknown, with figures, and for what is wrong the operations that show it.

use std::fmt::{Display, Formatter, Result};

use serde::Serialize;

/// The worst of several counts, so the order matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Validity {
    /// Nothing is wrong, and enough was looked at to say so.
    Valid,
    /// Nothing wrong was found, but that means little.
    Unknown,
    /// A promise was broken.
    Invalid,
}

impl Display for Validity {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Validity::Valid => "valid",
            Validity::Unknown => "unknown",
            Validity::Invalid => "invalid",
        })
    }
}

/// One thing that is wrong, or keeps from saying that nothing is.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What this alone makes of the verdict.
    pub validity: Validity,
    /// The anomaly's name.
    pub name: String,
    /// What happened, in words, with the operations that show it.
    pub text: String,
}

/// All that a checker says.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// Names and numbers, in order.
    pub figures: Vec<(&'static str, u64)>,
    /// The first few of each name.
    pub findings: Vec<Finding>,
}

/// More of one name show nothing new.
const SHOWN_MAX: usize = 5;

impl Verdict {
    /// The worst of all findings.
    pub fn validity(&self) -> Validity {
        self.findings.iter().map(|finding| finding.validity).max().unwrap_or(Validity::Valid)
    }

    /// A promise was broken.
    pub fn invalid(&mut self, name: &str, text: impl Into<String>) {
        self.add(Validity::Invalid, name, text.into());
    }

    /// Nothing can be concluded.
    pub fn unknown(&mut self, name: &str, text: impl Into<String>) {
        self.add(Validity::Unknown, name, text.into());
    }

    /// A figure to report.
    pub fn figure(&mut self, name: &'static str, number: usize) {
        self.figures.push((name, number as u64));
    }

    /// The figure of that name.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.figures.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
    }

    /// Whether something of that name was found.
    pub fn has(&self, name: &str) -> bool {
        self.findings.iter().any(|finding| finding.name == name)
    }

    fn add(&mut self, validity: Validity, name: &str, text: String) {
        if self.findings.iter().filter(|finding| finding.name == name).count() < SHOWN_MAX {
            self.findings.push(Finding { validity, name: name.to_string(), text });
        }
    }
}

/// One line.
impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}", self.validity())?;
        for (name, number) in &self.figures {
            write!(f, ", {name} {number}")?;
        }
        let mut names: Vec<&str> = self.findings.iter().map(|finding| finding.name.as_str()).collect();
        names.dedup();
        if names.is_empty() { Ok(()) } else { write!(f, ": {}", names.join(", ")) }
    }
}
