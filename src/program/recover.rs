//! `quoris admin group recover`: the way out when a majority of a group's disks is lost for good.
//!
//! On the one stopped node that the cluster is to go on from. Without `--accept-data-loss` it only says what it would
//! do, so that the folders of several nodes that are left can be compared first.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use clap::Args;
use quoris_log::{Fsync, RocksDisk};
use quoris_raft::{META, NodeId, Recovery, offline::Folder};

use super::status::table;

/// What is lost.
#[derive(Debug, Args)]
pub(super) struct Recover {
    /// The data folder of the stopped node that the cluster goes on from.
    #[arg(long)]
    dir: PathBuf,
    /// The numbers of the nodes that are lost for good: --lost 2,3.
    #[arg(long, required = true, value_delimiter = ',')]
    lost: Vec<u64>,
    /// Does it. What only the lost nodes had is lost from then on.
    #[arg(long)]
    accept_data_loss: bool,
}

/// Says what would be done, and does it if that is wanted.
pub(super) fn recover(options: &Recover) -> anyhow::Result<()> {
    let lost: BTreeSet<NodeId> = options.lost.iter().copied().map(NodeId).collect();
    // To read first: opening to write would make a new folder where there is none.
    let (folder, recovery) = {
        let folder = Folder::open(Arc::new(RocksDisk::open_read_only(&options.dir)?))?;
        let recovery = folder.plan_recovery(&lost)?;
        (folder.node(), recovery)
    };
    report(folder, &recovery);
    if !options.accept_data_loss {
        println!(
            "Nothing was changed. If several nodes are left, stop them all, look at each folder in this way, and choose \
             the one whose logs end last. Then say --accept-data-loss, on that one node and on no other."
        );
        return Ok(());
    }
    let disk = RocksDisk::open(&options.dir, Fsync::Always, |why| eprintln!("quoris: {why}"))?;
    Folder::open(Arc::new(disk))?.recover(&recovery)?;
    println!(
        "Done. Start this node first, then the others that are left. The lost ones must not come back with their old \
         folders: whoever meets one of them sends it away, but those of them that meet only each other would serve what \
         they have. Nodes with empty folders join with --join."
    );
    Ok(())
}

fn report(own: NodeId, recovery: &Recovery) {
    let lost: Vec<String> = recovery.lost.iter().map(|(id, address)| format!("{id} ({address})")).collect();
    println!("Given up for good: {}.", lost.join(", "));
    println!("These groups go on from {own} alone, with what its folder holds:\n");
    let head = ["group", "replicas", "log ends at", "known to be committed"].map(String::from).to_vec();
    let rows = recovery.groups.iter().map(|one| {
        let group = if one.group == META { "0 (meta)".into() } else { one.group.0.to_string() };
        vec![group, format!("1 of {}", one.replicas), one.last.to_string(), one.committed.to_string()]
    });
    print!("{}", table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    println!(
        "\nWrites of these groups that were acknowledged behind the end of these logs are lost. Those in the logs that \
         were never acknowledged take effect, also where a client was told that they had not happened. Slots that were \
         on their way to another group may have to be moved again."
    );
}
