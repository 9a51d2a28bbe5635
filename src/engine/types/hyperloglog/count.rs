//! PFCOUNT.

use quoris_resp::{Argv, Reply};

use super::change::union;
use super::estimate::Histogram;
use super::{header, value};
use crate::command::ReadContext;
use crate::types::string;
use crate::{CommandResult, Keyspace};

/// PFCOUNT: of one key with the estimate that it may hold already.
pub(super) fn pfcount(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    if argv.len() > 2 {
        let registers = union(keyspace, context.database, argv)?.registers;
        return Ok(Reply::Int(Histogram::new(registers.into_iter()).estimate()));
    }
    let Some(text) = string::text(keyspace, context.database, &argv[1])? else { return Ok(Reply::Int(0)) };
    value::check(&text)?;
    match header::estimate(&text) {
        Some(estimate) => Ok(Reply::Int(estimate)),
        None => Ok(Reply::Int(Histogram::of(&text)?.estimate())),
    }
}
