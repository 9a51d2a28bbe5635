//! Clusters of real processes on this machine, killed without warning.
//!
//! `QUORIS_BIN` names another program to test; with `QUORIS_KEEP` the folders of a failed run stay.

mod awaited;
mod backup;
mod blocking;
mod cables;
mod catch_up;
mod check;
mod client;
mod counting;
mod disk;
mod due;
mod events;
#[path = "../support/peer.rs"]
mod greeting;
mod grow;
mod history;
mod identity;
mod key_events;
mod kill;
mod lease;
mod linear;
mod load;
mod memory;
mod mortals;
mod outbox;
mod own_session;
mod peer;
mod power;
mod process;
mod proxies;
mod proxy;
mod quiet;
mod recover;
mod redis;
mod redis_cluster;
mod registers;
mod settings;
mod slots;
mod slots_history;
mod slots_kills;
mod slots_pauses;
mod tracking;
mod ttl;
mod verify;
mod view;
mod walls;
#[path = "../support/workload.rs"]
mod workload;
