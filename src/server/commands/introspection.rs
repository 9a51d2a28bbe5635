//! COMMAND and LOLWUT: what the table says about itself.

use quoris_resp::{Argv, Reply};

use super::Served;
use crate::version;

pub(super) fn command(argv: &Argv) -> Served {
    match quoris_engine::command::introspect::command(argv) {
        Ok(reply) => reply.into(),
        Err(error) => Served::Reply(error.into()),
    }
}

/// A drawing, as the command is meant: three nodes that agree.
pub(super) fn lolwut() -> Served {
    let text = format!(
        "\n        ( 1 )\n        /   \\\n    ( 2 )---( 3 )\n\n    two of three are enough\n\nQuoris {} speaking Redis ver. {}\n",
        version::QUORIS,
        version::REDIS
    );
    Reply::Verbatim(*b"txt", text.into()).into()
}
