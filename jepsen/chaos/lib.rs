//! A harness that tries to prove Quoris wrong, and knows it only as its users do: through RESP and processes.
//!
//! A run starts nodes, lets clients work on them while faults happen, writes down what every client asked and was
//! told ([`history`]), and judges that afterwards ([`check`]). Invariants: no client repeats anything by itself;
//! an operation is *ok*, *fail* (certainly no effect) or *info* (nobody knows), as [`outcome`] maps it; a verdict
//! is valid, invalid or unknown, and unknown never passes. Checkers read histories and nothing else, so the
//! history of any other harness can be judged as well.

pub mod check;
pub mod history;
pub mod verdict;
