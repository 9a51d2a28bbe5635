//! `quoris admin import` and `quoris admin export`: RDB files over an ordinary connection.
//!
//! Import restores key by key, in a pipeline bounded in bytes, so it works against any number of groups
//! and while clients write. Export walks the keys with SCAN: keys that change meanwhile are exported as
//! they are when their turn comes, so the file is no point in time.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Seek, Write},
    ops::ControlFlow,
    path::Path,
};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use quoris_engine::rdb::{FileWriter, Foreign, ForeignEntry, ForeignOptions, dump_value, read_foreign};
use quoris_resp::Reply;
use tokio::sync::mpsc;

use super::client::Client;

/// Bytes of a pipeline.
const PIPELINE_BYTES: usize = 1 << 20;
/// Commands of a pipeline.
const PIPELINE_COMMANDS: usize = 1000;
/// Entries that are read ahead.
const READ_AHEAD: usize = 1000;
/// Keys that SCAN looks at per step.
const SCAN_COUNT: &str = "1000";

pub(super) fn bar(length: u64, unit: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let shown = if unit == "bytes" { "{bytes}/{total_bytes}" } else { "{pos}/{len} keys" };
    let style = ProgressStyle::with_template(&format!("{{bar:40}} {shown}  {{per_sec}}  {{eta}} left"));
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// What becomes of keys and libraries that are there already, and of keys that cannot be held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Import {
    pub skip_unsupported: bool,
    pub replace: bool,
    pub replace_functions: bool,
}

/// Loads a dump of any Redis into the cluster.
pub(super) async fn import(mut client: Client, path: &Path, how: Import) -> anyhow::Result<()> {
    let progress = bar(std::fs::metadata(path).with_context(|| path.display().to_string())?.len(), "bytes");
    let done = load(&mut client, path, how, &progress).await.context("the import stops")?;
    progress.finish();
    println!("{} keys imported from RDB version {}", done.keys, done.version);
    for (kind, count) in &done.skipped {
        println!("{count} keys of type {kind} were passed over: this version does not know it");
    }
    if !done.functions.is_empty() {
        println!("{} function libraries imported", done.functions.len());
    }
    Ok(())
}

/// The same without a word; `progress` counts bytes.
pub(super) async fn load(
    client: &mut Client,
    path: &Path,
    how: Import,
    progress: &ProgressBar,
) -> anyhow::Result<Foreign> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let (sender, mut entries) = mpsc::channel::<(ForeignEntry, u64)>(READ_AHEAD);
    let reading = tokio::task::spawn_blocking(move || -> anyhow::Result<Foreign> {
        let options = ForeignOptions { skip_unsupported: how.skip_unsupported };
        let mut visit = |entry, at| match sender.blocking_send((entry, at)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        Ok(read_foreign(&mut BufReader::with_capacity(1 << 20, file), options, &mut visit)?)
    });
    let (mut database, mut waiting, mut told) = (None, 0, 0);
    while let Some((entry, at)) = entries.recv().await {
        if database.replace(entry.database) != Some(entry.database) {
            client.send(&["SELECT", &entry.database.to_string()]);
            waiting += 1;
        }
        send_entry(client, &entry, how.replace);
        waiting += 1;
        if waiting >= PIPELINE_COMMANDS || client.unsent() >= PIPELINE_BYTES {
            finish(client, &mut waiting).await?;
            progress.inc(at - std::mem::replace(&mut told, at));
        }
    }
    finish(client, &mut waiting).await?;
    let done = reading.await??;
    for code in &done.functions {
        let replaces: &[&[u8]] = if how.replace_functions { &[b"REPLACE"] } else { &[] };
        client.send(&[&[&b"FUNCTION"[..], b"LOAD"], replaces, &[code.as_slice()]].concat());
        waiting += 1;
    }
    finish(client, &mut waiting).await?;
    progress.inc(done.bytes - told);
    Ok(done)
}

fn send_entry(client: &mut Client, entry: &ForeignEntry, replace: bool) {
    let deadline = entry.expire_at_ms.unwrap_or(0).to_string();
    let payload = dump_value(&entry.value);
    let mut command: Vec<&[u8]> = vec![b"RESTORE", &entry.key, deadline.as_bytes(), &payload, b"ABSTTL"];
    if replace {
        command.push(b"REPLACE");
    }
    let uses = match (entry.uses.idle_s, entry.uses.frequency) {
        (Some(seconds), _) => Some(("IDLETIME", seconds.min(i64::MAX as u64).to_string())),
        (None, Some(frequency)) => Some(("FREQ", frequency.to_string())),
        (None, None) => None,
    };
    if let Some((word, number)) = &uses {
        command.extend([word.as_bytes(), number.as_bytes()]);
    }
    client.send(&command);
}

async fn finish(client: &mut Client, waiting: &mut usize) -> anyhow::Result<()> {
    client.flush().await?;
    for _ in 0..std::mem::take(waiting) {
        if let Reply::Error(text) = client.receive().await? {
            bail!("{}", String::from_utf8_lossy(&text));
        }
    }
    Ok(())
}

/// Writes all keys into an RDB file that redis-server loads.
pub(super) async fn export(mut client: Client, path: &Path) -> anyhow::Result<()> {
    check_way(&mut client, "export").await?;
    let databases = databases(&mut client).await?;
    let progress = bar(databases.iter().map(|(_, keys)| keys).sum(), "keys");
    let temporary = path.with_extension("partial");
    let out =
        BufWriter::with_capacity(1 << 20, File::create(&temporary).with_context(|| temporary.display().to_string())?);
    let fields = [
        ("redis-ver", quoris_server::version::REDIS),
        ("quoris-ver", quoris_server::version::QUORIS),
        ("redis-bits", "64"),
    ];
    let mut file = FileWriter::new(out, &fields)?;
    match client.ask(&["FUNCTION", "DUMP"]).await? {
        Reply::Bulk(payload) => file.push_functions(&payload)?,
        other => bail!("the export stops: FUNCTION DUMP answered {other:?}"),
    }
    let mut keys = 0;
    for (database, _) in databases {
        client.ask(&["SELECT", &database.to_string()]).await?;
        keys += export_database(&mut client, database, &mut file, &progress).await?;
    }
    let mut out = file.finish()?;
    out.flush()?;
    out.get_ref().sync_all()?;
    std::fs::rename(&temporary, path)?;
    progress.finish();
    println!("{keys} keys exported to {}", path.display());
    Ok(())
}

async fn export_database<W: Write + Seek>(
    client: &mut Client,
    database: u32,
    file: &mut FileWriter<W>,
    progress: &ProgressBar,
) -> anyhow::Result<u64> {
    // SCAN may give a key twice; in a file it must stand once.
    let mut seen = std::collections::HashSet::new();
    let mut cursor = String::from("0");
    loop {
        let (next, keys) = scanned(client.ask(&["SCAN", &cursor, "COUNT", SCAN_COUNT]).await?)?;
        let fresh: Vec<Vec<u8>> = keys.into_iter().filter(|key| seen.insert(key.clone())).collect();
        for key in &fresh {
            client.send(&[b"DUMP", key.as_slice()]);
            client.send(&[b"PEXPIRETIME", key.as_slice()]);
        }
        client.flush().await?;
        for key in &fresh {
            let (payload, deadline) = (client.receive().await?, client.receive().await?);
            match (payload, deadline) {
                // It has gone meanwhile.
                (Reply::Null, _) => {}
                (Reply::Bulk(payload), Reply::Int(at)) => file.push(database, key, u64::try_from(at).ok(), &payload)?,
                (Reply::Error(text), _) | (_, Reply::Error(text)) => {
                    bail!("the export stops: {}", String::from_utf8_lossy(&text))
                }
                other => bail!("the export stops: {other:?} is no DUMP"),
            }
        }
        progress.inc(fresh.len() as u64);
        if next == "0" {
            return Ok(seen.len() as u64);
        }
        cursor = next;
    }
}

fn scanned(reply: Reply) -> anyhow::Result<(String, Vec<Vec<u8>>)> {
    let Reply::Array(parts) = reply else { bail!("SCAN answered {reply:?}") };
    let [Reply::Bulk(cursor), Reply::Array(keys)] = parts.as_slice() else { bail!("SCAN answered {parts:?}") };
    let keys = keys.iter().filter_map(|key| if let Reply::Bulk(key) = key { Some(key.to_vec()) } else { None });
    Ok((String::from_utf8_lossy(cursor).into_owned(), keys.collect()))
}

/// Databases with keys, and how many, over all groups: INFO knows those of this node's replicas alone.
async fn databases(client: &mut Client) -> anyhow::Result<Vec<(u32, u64)>> {
    let count: u32 = setting(client, "databases").await?.parse()?;
    let mut found = Vec::new();
    for database in 0..count {
        client.ask(&["SELECT", &database.to_string()]).await?;
        match client.ask(&["DBSIZE"]).await? {
            Reply::Int(0) => {}
            Reply::Int(keys) => found.push((database, keys as u64)),
            other => bail!("DBSIZE answered {other:?}"),
        }
    }
    Ok(found)
}

/// A setting of the node.
pub(super) async fn setting(client: &mut Client, name: &str) -> anyhow::Result<String> {
    match client.ask(&["CONFIG", "GET", name]).await? {
        Reply::Array(pair) => match pair.as_slice() {
            [_, Reply::Bulk(value)] => Ok(String::from_utf8_lossy(value).into_owned()),
            _ => bail!("the node has no setting {name}"),
        },
        other => bail!("CONFIG GET answered {other:?}"),
    }
}

/// Refuses a node that sends its clients elsewhere: it answers for its own groups alone.
pub(super) async fn check_way(client: &mut Client, what: &str) -> anyhow::Result<()> {
    if setting(client, "cluster-redirects").await? == "yes" {
        bail!(
            "this node sends clients elsewhere (cluster-redirects = yes): {what} through a proxy, or turn it off here \
             meanwhile (CONFIG SET cluster-redirects no)"
        );
    }
    Ok(())
}
