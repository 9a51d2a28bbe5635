//! The checkers: from what clients saw to a verdict. None of them knows what it was that they talked to.

pub mod append;
pub mod bank;
pub mod channel;
pub mod counter;
mod edges;
pub mod events;
pub mod expiry;
mod graph;
pub mod lock;
pub mod many;
pub mod queue;
pub mod register;
pub mod set;
pub mod stream;
pub mod wgl;
