//! `quoris admin restore`: a backup goes into a cluster of any shape.
//!
//! Keys go one by one to whoever owns their slots now, so the number of groups and nodes does not matter. Nothing is
//! written before every sum of the folder was right and the cluster was seen to be empty. All of it is done by
//! commands that may be repeated: a restore that broke off is begun again with `--replace`.

use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use quoris_resp::Reply;

use super::{
    At,
    client::Client,
    manifest::Manifest,
    transfer::{Import, bar, check_way, load, setting},
};

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The folder that `quoris admin backup` wrote.
    dir: PathBuf,
    #[command(flatten)]
    at: At,
    /// Overwrites keys of the same names, and leaves others as they are; also to go on with a restore that broke off.
    #[arg(long)]
    replace: bool,
}

/// Restores a folder.
pub(super) async fn restore(options: Restore) -> anyhow::Result<()> {
    let dir = &options.dir;
    let checking = bar(0, "bytes");
    let manifest = Manifest::read_checked(dir, &mut |bytes| {
        checking.inc_length(bytes);
        checking.inc(bytes);
    })?;
    checking.finish_and_clear();
    let mut client = options.at.connect().await?;
    check_target(&mut client, &manifest, options.replace).await?;
    if !manifest.settings.is_empty() {
        let pairs = manifest.settings.iter().flat_map(|(name, value)| [name.as_str(), value]);
        let command: Vec<&str> = ["CONFIG", "SET"].into_iter().chain(pairs).collect();
        client.ask(&command).await.context("the settings of the backup")?;
    }
    let progress = bar(manifest.groups.iter().map(|group| group.bytes).sum(), "bytes");
    // Every group's file has the same libraries of functions.
    let how = Import { skip_unsupported: false, replace: options.replace, replace_functions: true };
    let mut keys = 0;
    for group in &manifest.groups {
        let path = dir.join(&group.file);
        let done = load(&mut client, &path, how, &progress).await.map_err(explained);
        keys += done.with_context(|| format!("{}: the restore stops", path.display()))?.keys;
    }
    progress.finish();
    println!("{keys} keys restored from {}", dir.display());
    Ok(())
}

/// Whether the cluster can take the backup.
async fn check_target(client: &mut Client, manifest: &Manifest, replace: bool) -> anyhow::Result<()> {
    check_way(client, "restore").await?;
    let databases: u64 = setting(client, "databases").await?.parse()?;
    if databases < manifest.databases {
        bail!(
            "the backup has keys in {} numbered databases and the cluster has {databases}: found it with databases = {}",
            manifest.databases,
            manifest.databases
        );
    }
    for database in (0..databases).filter(|_| !replace) {
        client.ask(&["SELECT", &database.to_string()]).await?;
        let found = client.ask(&["DBSIZE"]).await?;
        if found != Reply::Int(0) {
            bail!(
                "the cluster has keys already, in database {database}: restore into a new one, or say --replace to \
                 overwrite keys of the same names"
            );
        }
    }
    Ok(())
}

/// What to do about the errors that a restore can meet.
fn explained(error: anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    let hint = if text.contains("entry-bytes-max") {
        "start every node with a larger entry-bytes-max, and go on with --replace"
    } else if text.starts_with("OOM") {
        "give the nodes more maxmemory, and go on with --replace"
    } else {
        "go on with --replace when the cause is gone"
    };
    anyhow!("{text}: {hint}")
}
