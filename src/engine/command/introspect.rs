//! placeholder
use quoris_resp::Reply;
use super::Command;
/// help
pub fn help(container: &Command) -> Reply { Reply::Array(container.subcommands.iter().map(|c| Reply::status(c.summary)).collect()) }
