//! The wiring of the program: what `main` starts, as a library, so that tests can start it too.
//!
//! Floor 5 of the house (see `src/docs/architecture.md`): it knows every other crate and nothing knows it.

pub mod program;
