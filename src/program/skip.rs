//! `quoris admin group skip`: passes over an entry that cannot be applied.
//!
//! The last resort of an operator, on stopped nodes: the entry counts as a blank one from then on. It has to
//! be done on every replica of the group, and the output names them.

use std::{path::PathBuf, sync::Arc};

use anyhow::bail;
use clap::Args;
use quoris_log::{Fsync, RocksDisk};
use quoris_raft::{
    GroupId,
    offline::{Folder, GroupLog},
    record::LogIdRecord,
    types::Payload,
};

use super::dump;

/// Which entry.
#[derive(Debug, Args)]
pub(super) struct Skip {
    /// The data folder of the stopped node.
    #[arg(long)]
    dir: PathBuf,
    /// The group.
    #[arg(long)]
    group: u32,
    /// The entry's index.
    #[arg(long)]
    index: u64,
    /// Why; the node logs it at every start.
    #[arg(long)]
    reason: String,
}

/// Records that the entry is passed over.
pub(super) fn skip(options: &Skip) -> anyhow::Result<()> {
    if options.reason.trim().is_empty() {
        bail!("a reason is needed: whoever reads the log of this node later will ask for it");
    }
    let group = GroupId(options.group);
    // To read first: opening to write would make a new folder where there is none.
    let (id, payload) = {
        let folder = Folder::open(Arc::new(RocksDisk::open_read_only(&options.dir)?))?;
        folder.log(group)?.skippable(options.index)?
    };
    let disk = RocksDisk::open(&options.dir, Fsync::Always, |why| eprintln!("quoris: {why}"))?;
    let folder = Folder::open(Arc::new(disk))?;
    let mut log: GroupLog = folder.log(group)?;
    log.skip(id, &options.reason)?;
    report(&folder, group, &id, &payload);
    Ok(())
}

fn report(folder: &Folder, group: GroupId, id: &LogIdRecord, payload: &Payload) {
    println!("{} is passed over by {} from its next start on.", dump::place(group, id), folder.node());
    if let Payload::Normal(body) = payload {
        println!("Without effect will be:\n{}", dump::commands(&body.0).trim_end());
    }
    let others: Vec<_> = folder.holders(group).into_iter().filter(|(node, _)| *node != folder.node()).collect();
    if others.is_empty() {
        println!("This is the only replica of {group}.");
        return;
    }
    println!("Every replica of {group} needs the same before it starts, or replicas will differ:");
    others.iter().for_each(|(node, addr)| println!("  {node} at {addr}"));
}
