//! Clusters of real processes on this machine, killed without warning.
//!
//! `QUORIS_BIN` names another program to test; with `QUORIS_KEEP` the folders of a failed run stay.

mod blocking;
mod catch_up;
mod check;
mod client;
mod kill;
mod load;
mod own_session;
mod process;
mod redis;
mod settings;
mod verify;
mod view;
