//! Rows of the commands that the server runs itself: connection state, administration, introspection.
//!
//! They stand here and not in the server, because the table is shared with the proxy and because ACL
//! rules, arity and COMMAND are about every command.

mod acl;
mod cluster;
mod connection;
mod pubsub;
mod server;

pub use acl::ACL;
pub use cluster::CLUSTER;
pub use connection::{CONNECTION, TRANSACTIONS};
pub use pubsub::PUBSUB_ROWS;
pub use server::SERVER;

use super::*;

const ANYTIME: Flags = LOADING.with(STALE);
const OWN: Flags = ANYTIME.with(NOSCRIPT);
const OPERATOR: Flags = OWN.with(ADMIN);

/// A HELP subcommand.
const HELP: Command = Command {
    name: "help",
    arity: 2,
    flags: ANYTIME,
    since: "5.0.0",
    summary: "Lists these subcommands.",
    group: Group::Server,
    ..ROW
};

/// A row that only holds subcommands.
const CONTAINER: Command =
    Command { arity: -2, complexity: "See the subcommands.", handler: Handler::Container, group: Group::Server, ..ROW };
