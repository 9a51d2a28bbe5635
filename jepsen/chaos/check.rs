//! The checkers: from what clients saw to a verdict. None of them knows what it was that they talked to.

pub mod append;
pub mod counter;
mod edges;
pub mod expiry;
mod graph;
pub mod lock;
pub mod queue;
pub mod register;
pub mod set;
pub mod wgl;
