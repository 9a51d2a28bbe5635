//! The commands of the connection that a transaction runs in the log.

use quoris_resp::{Argv, Reply};

use super::Engine;
use crate::command::ApplyContext;
use crate::{Error, number};

impl Engine {
    /// SELECT inside a transaction.
    pub(super) fn select(&self, context: &mut ApplyContext, argv: &Argv) -> Result<Reply, Error> {
        if argv.len() != 2 {
            return Err(Error::Arity("select".into()));
        }
        let number = number::integer(&argv[1]).ok_or(Error::NotAnInteger)?;
        let known = u32::try_from(number).ok().filter(|n| *n < self.keyspace.databases());
        context.database = known.ok_or_else(|| Error::text("ERR DB index is out of range"))?;
        Ok(Reply::Ok)
    }
}

/// PING inside a transaction.
pub(super) fn pong(argv: &Argv) -> Result<Reply, Error> {
    match argv.len() {
        1 => Ok(Reply::status("PONG")),
        2 => Ok(Reply::bulk(&argv[1])),
        _ => Err(Error::Arity("ping".into())),
    }
}
