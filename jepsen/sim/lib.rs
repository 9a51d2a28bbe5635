//! Simulated clusters: the real Raft layer over a disk, a network and clocks that one seed decides.
//!
//! A run starts three nodes on turmoil's hosts, loads them through their own sessions, crashes them with
//! the loss of what was not flushed, cuts links, heals everything, and then compares what clients were
//! told with what the replicas hold. The nodes run the code of production above [`quoris_raft::seam`].
//!
//! Invariants: a run is a function of its seed, so it has a thread of its own and nothing in it asks the
//! machine for time, randomness or threads; a broken rule is noted in the [`ledger::Ledger`] at the moment
//! of its breaking and ends the run.

pub mod clients;
pub mod dice;
pub mod disk;
pub mod durable;
pub mod faults;
pub mod history;
pub mod host;
pub mod ledger;
pub mod mortals;
pub mod movers;
pub mod net;
pub mod queue;
pub mod run;
pub mod seeds;

pub use run::{Failure, Summary, run};

/// Nodes of a simulated cluster.
pub const NODES: usize = 3;

/// The host name of a node.
pub fn name(node: usize) -> String {
    format!("n{}", node + 1)
}
