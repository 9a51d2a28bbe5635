//! Bad input on the ports of clients and of peers: the answer is Redis's error text or a closed connection,
//! others are not disturbed, memory stays bounded, no leader changes.

mod clients;
mod crowds;
mod peers;
#[path = "../support/mod.rs"]
mod support;
mod watch;
