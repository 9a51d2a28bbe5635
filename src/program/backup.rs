//! `quoris admin backup`: a copy of a whole cluster, taken while it serves.
//!
//! The leader of every group takes a snapshot, all of them at about the same moment, and gives it over an ordinary
//! connection. Each file is read back before the folder gets its name, and together they must hold every slot once:
//! that, and nothing else, says that no key was missed or copied twice while slots moved.
//!
//! Invariant: a folder under its final name is complete and durable.

use std::{
    fs::File,
    io::{BufReader, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use clap::Args;
use indicatif::ProgressBar;
use quoris_engine::{
    Summary,
    rdb::{ForeignOptions, read_foreign},
};
use quoris_resp::Reply;
use tokio::{task::JoinSet, time::Instant};

use super::{
    At,
    client::Client,
    manifest::{GroupFile, Manifest, NodeLine, check_slots},
    status::{View, field},
    transfer::bar,
};

/// How long a group may have no leader that takes a snapshot, and between two attempts.
const LEADER_TIME_MAX: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);
/// Pieces that are asked for before the first one is there.
const PIECES_AHEAD: usize = 4;

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The folder to write; it must not be there yet.
    dir: PathBuf,
    #[command(flatten)]
    at: At,
}

/// What was fetched of a group.
struct Fetched {
    file: GroupFile,
    summary: Summary,
    databases: u64,
}

/// Copies the cluster into a folder.
pub(super) async fn backup(options: Backup) -> anyhow::Result<()> {
    let dir = std::path::absolute(&options.dir)?;
    let name = dir.file_name().context("a folder needs a name")?.to_string_lossy().into_owned();
    if dir.exists() {
        bail!("{} is there already: a backup needs a folder of its own", dir.display());
    }
    let unfinished = dir.with_file_name(format!("{name}.partial"));
    std::fs::create_dir(&unfinished).with_context(|| {
        format!("{} (where a backup is being taken, or broke off, delete it first)", unfinished.display())
    })?;
    let manifest = match take(&options.at, &unfinished).await {
        Ok(manifest) => manifest,
        Err(error) => {
            // What is left of it is no backup, and the next attempt needs the name.
            let _ = std::fs::remove_dir_all(&unfinished);
            return Err(error);
        }
    };
    std::fs::rename(&unfinished, &dir).with_context(|| dir.display().to_string())?;
    File::open(dir.parent().context("a folder stands in another")?)?.sync_all()?;
    println!("{} keys of {} groups are in {}", manifest.keys(), manifest.groups.len(), dir.display());
    for group in &manifest.groups {
        println!("group {}: {} keys, up to index {} of its log", group.id, group.keys, group.index);
    }
    Ok(())
}

async fn take(at: &At, dir: &Path) -> anyhow::Result<Manifest> {
    if at.connect().await?.ask(&["CLUSTER", "MOVES"]).await? != Reply::Null {
        bail!("slots are moving: wait for their end, or quoris admin slots cancel");
    }
    let view = View::ask(&at.address(), at.password.as_deref()).await?;
    let mut manifest = Manifest::new(&view.cluster, now_ms());
    for node in &view.nodes {
        let text = |name| field(node, name).to_string();
        manifest.nodes.push(NodeLine { id: text("id").parse()?, clients: text("addr"), peers: text("peer") });
    }
    let progress = bar(0, "bytes");
    let mut fetching = JoinSet::new();
    for group in view.groups.iter().map(|group| field(group, "id")).filter(|id| *id != "0") {
        let (id, at, dir, progress) = (group.parse()?, at.clone(), dir.to_path_buf(), progress.clone());
        fetching.spawn(async move { fetch(&at, id, &dir, &progress).await.with_context(|| format!("group {id}")) });
    }
    let mut fetched = Vec::new();
    while let Some(done) = fetching.join_next().await {
        fetched.push(done??);
    }
    progress.finish();
    fetched.sort_by_key(|one| one.file.id);
    check_slots(&fetched.iter().map(|one| (one.file.id, one.summary.slots.clone())).collect::<Vec<_>>())?;
    manifest.ended_ms = now_ms();
    manifest.databases = fetched.iter().map(|one| one.databases).max().unwrap_or(0);
    // A change of settings reaches the groups one after the other.
    if let Some(newest) = fetched.iter().map(|one| one.summary.settings).max_by_key(|settings| settings.version) {
        let text = newest.to_string();
        let pairs = text.split(' ').filter_map(|word| word.split_once('='));
        manifest.settings = pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect();
    }
    manifest.groups = fetched.into_iter().map(|one| one.file).collect();
    manifest.write(dir)?;
    Ok(manifest)
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Copies one group into its file, and reads the file back.
async fn fetch(at: &At, id: u64, dir: &Path, progress: &ProgressBar) -> anyhow::Result<Fetched> {
    let (mut client, [index, term, bytes]) = begin(at, id).await?;
    progress.inc_length(bytes);
    let name = format!("group-{id}.rdb");
    let path = dir.join(&name);
    download(&mut client, &path, bytes, progress).await?;
    let read = path.clone();
    let checked = tokio::task::spawn_blocking(move || read_back(&read)).await?;
    let (keys, databases, summary) = checked.with_context(|| path.display().to_string())?;
    if summary.index != index {
        bail!("{} stands at index {}, and the node said {index}", path.display(), summary.index);
    }
    let slots: Vec<String> = summary.slots.iter().map(|(first, last)| format!("{first}-{last}")).collect();
    let (slots, clock_ms) = (slots.join(" "), summary.clock_ms);
    Ok(Fetched { file: GroupFile { id, file: name, bytes, keys, index, term, clock_ms, slots }, summary, databases })
}

/// Has the leader take a snapshot; the connection to it, and index, term and length.
async fn begin(at: &At, id: u64) -> anyhow::Result<(Client, [u64; 3])> {
    let deadline = Instant::now() + LEADER_TIME_MAX;
    loop {
        match try_begin(at, id).await {
            Ok(begun) => return Ok(begun),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn try_begin(at: &At, id: u64) -> anyhow::Result<(Client, [u64; 3])> {
    let view = View::ask(&at.address(), at.password.as_deref()).await?;
    let group = view.groups.iter().find(|group| field(group, "id") == id.to_string()).context("it is gone")?;
    let leader = view.nodes.iter().find(|node| field(node, "id") == field(group, "leader"));
    let leader = leader.context("it has no leader")?;
    let mut client = Client::connect(field(leader, "addr"), at.password.as_deref()).await?;
    let Reply::Array(parts) = client.ask(&["CLUSTER", "BACKUP", &id.to_string()]).await? else {
        bail!("the leader answers something else");
    };
    let number = |name: &str| {
        let at = parts.iter().position(|part| *part == Reply::bulk(name));
        match at.and_then(|at| parts.get(at + 1)) {
            Some(Reply::Int(n)) => u64::try_from(*n).ok(),
            _ => None,
        }
        .with_context(|| format!("the leader does not say {name}"))
    };
    let numbers = [number("index")?, number("term")?, number("bytes")?];
    Ok((client, numbers))
}

async fn download(client: &mut Client, path: &Path, bytes: u64, progress: &ProgressBar) -> anyhow::Result<()> {
    let mut file = File::create_new(path).with_context(|| path.display().to_string())?;
    let (mut asked, mut got) = (0, 0);
    loop {
        while asked < PIECES_AHEAD {
            client.send(&["CLUSTER", "BACKUP", "NEXT"]);
            asked += 1;
        }
        client.flush().await?;
        asked -= 1;
        match client.receive().await? {
            Reply::Bulk(piece) if piece.is_empty() => break,
            Reply::Bulk(piece) => {
                file.write_all(&piece).with_context(|| path.display().to_string())?;
                progress.inc(piece.len() as u64);
                got += piece.len() as u64;
            }
            Reply::Error(text) => bail!("{}", String::from_utf8_lossy(&text)),
            other => bail!("a piece of a snapshot was expected, not {other:?}"),
        }
    }
    if got != bytes {
        bail!("the snapshot should have {bytes} bytes, and {got} have come");
    }
    file.sync_all().with_context(|| path.display().to_string())
}

/// Keys and databases of a file whose checksum is right, and what it says of its group.
fn read_back(path: &Path) -> anyhow::Result<(u64, u64, Summary)> {
    let mut databases = 0;
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    let read = read_foreign(&mut reader, ForeignOptions::default(), &mut |entry, _| {
        databases = databases.max(entry.database + 1);
        ControlFlow::Continue(())
    })?;
    let summary = read.summary().map_err(anyhow::Error::msg)?;
    Ok((read.keys, databases, summary))
}
