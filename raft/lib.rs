//! Multi-Raft: one process, many groups, one log on disk.
//!
//! Steps 5 to 9 of a command's way. The server above hands [`Operation`]s to a [`Session`]; the session
//! finds the leader of the group; the leader's proposer packs them into an entry; openraft replicates it
//! through the log store and the transport; every replica applies it to its engine; the replies return.
//!
//! Invariants:
//! * No write is acknowledged before a majority has it on disk (with `fsync = always`) and it is applied.
//! * No error says "no" to a write that may still happen.
//! * A dead group never lives on in a live process.
//! * openraft is named only here; disk, network, clocks, threads and randomness only in [`seam`] and
//!   [`runtime`].

mod admin;
pub mod aside;
mod backfill;
mod changes;
mod clock;
mod deliver;
mod elsewhere;
mod events;
mod evict;
pub mod feed;
mod follow;
mod forward;
mod forwarder;
mod founding;
mod group;
mod guest;
mod handshake;
mod hint;
mod holding;
#[doc(hidden)]
pub mod hostile;
pub mod interest;
mod join;
pub mod lease;
mod link;
mod lives;
pub mod log_size;
mod machine;
mod maintain;
mod membership;
mod memory;
mod mover;
pub mod mutant;
mod network;
mod node;
pub mod offline;
mod outbox;
mod pack;
mod parcel;
mod pipe;
mod placement;
mod propose;
mod read;
mod rebuild;
mod receive;
mod reconcile;
pub mod record;
mod recover;
mod replica;
mod reroute;
pub mod retained;
mod room;
pub mod runtime;
mod saves;
pub mod seam;
mod serve;
mod service;
mod session;
mod settings;
mod ship;
pub mod skip;
mod slots;
mod snapshot;
mod status;
pub mod store;
mod timekeeper;
mod topology;
mod transfer;
pub mod types;
mod verify;
mod wait;
mod waiters;
mod waiting;
mod wire;
mod write;

pub use admin::{AdminError, NodeSummary, Wish};
pub use changes::Hear;
pub use events::EventStream;
pub use group::{Group, ReadGuard, Timing};
pub use guest::NoDisk;
pub use machine::Machine;
pub use memory::Memory;
pub use node::{Node, NodeConfig, StartError};
pub use parcel::SEQUENCE_MAX;
pub use propose::Operation;
pub use read::ReadAge;
pub use recover::{Recovery, Survivor};
pub use replica::{Fault, Replica, SnapshotFile};
pub use saves::GroupCopy;
pub use session::{Error, Executed, Position, Session, error_reply};
pub use settings::SettingsError;
pub use slots::{Moving, Step};
pub use status::{GroupStatus, NodeInfo, NodeStatus, ReplicaStatus};
pub use topology::NodeState;
pub use types::{GroupId, META, NodeId};
