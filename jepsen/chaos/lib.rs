//! A harness that tries to prove Quoris wrong, and knows it only as its users do: through RESP and processes.
//!
//! A run starts nodes ([`nodes`]), lets clients work on them ([`lanes`], [`work`]) while faults happen ([`faults`])
//! and operators change it ([`operators`]),
//! writes down what every client asked and was told ([`history`]), judges that afterwards ([`check`], [`judge`]),
//! and shows it ([`report`], [`export`]). Invariants: no client repeats anything by itself; an operation is *ok*,
//! *fail* (certainly no effect) or *info* (nobody knows), as [`outcome`] maps it; a verdict is valid, invalid or
//! unknown, and unknown never passes. Checkers read histories and nothing else, so the history of any other harness
//! can be judged as well.

pub mod cables;
pub mod check;
pub mod client;
pub mod clocks;
pub mod disks;
pub mod export;
pub mod faults;
pub mod history;
pub mod judge;
pub mod lanes;
pub mod matrix;
pub mod mutants;
pub mod nodes;
pub mod operators;
pub mod options;
pub mod outcome;
pub mod report;
pub mod run;
pub mod verdict;
pub mod work;
