//! `quoris server` and `quoris proxy`: one node, or one guest of a cluster, in the foreground.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use quoris_log::{Fsync, RocksDisk};
use quoris_net::Threads;
use quoris_raft::NoDisk;
use quoris_raft::seam::{Disk, Seams, SystemClock, TcpNet, blocking_threads};
use quoris_server::{
    Role, Running,
    config::{
        Config,
        file::{Directive, parse_arguments},
    },
    log, version,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;
use tracing_subscriber::{
    filter::{LevelFilter, filter_fn},
    prelude::*,
};

/// Descriptors that are needed beside those of clients: data files, peers, listeners.
const SPARE_FILES: u64 = 512;

/// Runs a node or a proxy until it is told to stop.
pub(super) fn run(arguments: &[String], role: Role) -> anyhow::Result<()> {
    if matches!(arguments.first().map(String::as_str), Some("-h" | "--help")) {
        let usage = match role {
            Role::Node => "quoris server [FILE | --config FILE] [--name value …]",
            Role::Proxy => "quoris proxy [FILE | --config FILE] --nodes HOST:PEERPORT,… [--name value …]",
        };
        println!("usage: {usage}\n\n{}", super::SERVER_HELP);
        return Ok(());
    }
    let (file, directives) = split_arguments(arguments)?;
    let config = Config::load(file.as_deref(), &directives)?;
    log::set_level(&config.text("loglevel"));
    init_log(&config.text("logfile"))?;
    abort_on_panic();
    let clients: u64 = config.count("maxclients");
    raise_file_limit(clients)?;
    // Raft's heartbeats must not stand in line behind a storm of clients. More threads than cores that are
    // free for them only take turns: the writer of the log and whatever else runs here need some too.
    let half = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
    let mut raft = tokio::runtime::Builder::new_multi_thread();
    let raft = raft.worker_threads(half).enable_all().thread_name("quoris-raft").build()?;
    let rest = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let threads = Arc::new(Threads::start(match config.count("io-threads") {
        0 => half,
        written => written,
    })?);
    let result = rest.block_on(serve(config, role, raft.handle(), threads.clone()));
    if let Some(threads) = Arc::into_inner(threads) {
        threads.shutdown(std::time::Duration::from_secs(1));
    }
    raft.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}

/// The file, if there is one, and the settings behind it.
fn split_arguments(arguments: &[String]) -> anyhow::Result<(Option<PathBuf>, Vec<Directive>)> {
    let (mut file, mut rest) = (None, arguments);
    if let [first, more @ ..] = rest
        && !first.starts_with("--")
    {
        (file, rest) = (Some(PathBuf::from(first)), more);
    }
    let mut directives = parse_arguments(rest).map_err(anyhow::Error::msg)?;
    if let Some(at) = directives.iter().position(|directive| directive.name == "config") {
        let directive = directives.remove(at);
        match (directive.words.as_slice(), &file) {
            ([path], None) => file = Some(PathBuf::from(path)),
            ([_], Some(_)) => bail!("two configuration files"),
            _ => bail!("--config needs one file"),
        }
    }
    Ok((file, directives))
}

fn init_log(file: &str) -> anyhow::Result<()> {
    // Settings decide how much of our own is logged. Others only warn, and openraft, whose warnings are about
    // what is ordinary at a start or an election, only says what has failed.
    let filter = filter_fn(|metadata| {
        let most = match metadata.target() {
            own if own.starts_with("quoris") => Level::DEBUG,
            raft if raft.starts_with("openraft") => Level::ERROR,
            _ => Level::WARN,
        };
        *metadata.level() <= most && log::is_enabled(metadata.level())
    })
    .with_max_level_hint(LevelFilter::DEBUG);
    let layer = tracing_subscriber::fmt::layer().with_target(false).with_ansi(io::stdout().is_terminal());
    let registry = tracing_subscriber::registry();
    if file.is_empty() {
        return registry.with(layer.with_filter(filter)).try_init().context("the log is set up already");
    }
    let out =
        std::fs::OpenOptions::new().create(true).append(true).open(file).with_context(|| format!("logfile {file}"))?;
    registry
        .with(layer.with_ansi(false).with_writer(std::sync::Mutex::new(out)).with_filter(filter))
        .try_init()
        .context("the log is set up already")
}

/// A panic anywhere is a defect after which nothing can be promised: the process ends, others take over.
fn abort_on_panic() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        tracing::error!("panic: {info}");
        std::process::abort();
    }));
}

/// Each client takes a descriptor, and one that listens to a channel another, if there is one.
fn raise_file_limit(clients: u64) -> anyhow::Result<()> {
    let wanted = clients + SPARE_FILES;
    let got = rlimit::increase_nofile_limit(wanted + clients).context("the limit on open files")?;
    if got < wanted {
        tracing::warn!(wanted, got, "fewer files may be open than maxclients asks for; raise the limit with ulimit -n");
    }
    Ok(())
}

/// The world that Raft runs in: RocksDB in the data folder, TCP, this machine's clocks.
fn seams(config: &Config, role: Role) -> io::Result<Seams> {
    let disk: Arc<dyn Disk> = match role {
        Role::Node => Arc::new(disk(config)?),
        Role::Proxy => Arc::new(NoDisk),
    };
    let (net, clock) = (Arc::new(TcpNet), Arc::new(SystemClock::default()));
    Ok(Seams { disk, net, clock, blocking: blocking_threads })
}

fn disk(config: &Config) -> io::Result<RocksDisk> {
    let fsync = match config.text("appendfsync").as_str() {
        "always" => Fsync::Always,
        "everysec" => Fsync::EverySecond,
        _ => Fsync::No,
    };
    // What a failed fsync has left on the disk cannot be known: the process must not go on.
    let failed = |why: String| {
        tracing::error!("the log cannot be written: {why}");
        std::process::abort();
    };
    RocksDisk::open(Path::new(&config.text("dir")), fsync, failed)
}

async fn serve(config: Config, role: Role, raft: &tokio::runtime::Handle, threads: Arc<Threads>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Starting may wait for peers, or a proxy for any node, and must be interruptible.
    let running = tokio::select! {
        running = quoris_server::start(config, role, raft, threads, |config| seams(config, role)) => running?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    banner(&running, role);
    let end = tokio::select! {
        end = running.wait() => end,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    match end {
        Ok(()) => {
            tracing::info!("stopping");
            // A second signal ends the wait.
            tokio::select! {
                () = running.stop() => tracing::info!("stopped"),
                _ = terminate.recv() => tracing::warn!("stopped at once"),
                _ = interrupt.recv() => tracing::warn!("stopped at once"),
            }
            Ok(())
        }
        Err(why) => bail!("this node cannot go on: {why}"),
    }
}

fn banner(running: &Running, role: Role) {
    let (config, status) = (&running.server.config, running.server.node.status());
    let addresses: Vec<String> = running.addresses.iter().map(ToString::to_string).collect();
    let dir = std::path::absolute(Path::new(&config.text("dir"))).unwrap_or_default();
    tracing::info!("Quoris {} (speaks Redis {}), process {}", version::QUORIS, version::REDIS, std::process::id());
    tracing::info!(
        "cluster {} ({}), {} of {} nodes, {} data groups",
        status.cluster_name,
        status.cluster_id,
        status.node,
        status.nodes.len(),
        running.server.node.groups().len()
    );
    if role == Role::Node {
        tracing::info!("data in {}, appendfsync {}", dir.display(), config.text("appendfsync"));
    }
    if !config.ignored().is_empty() {
        tracing::info!("settings without effect here: {}", config.ignored().join(", "));
    }
    let admin = config.text("admin-port");
    if admin != "0" {
        tracing::info!("admin HTTP on 127.0.0.1:{admin}");
    }
    tracing::info!("ready for clients on {}", addresses.join(" "));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(words: &[&str]) -> anyhow::Result<(Option<PathBuf>, Vec<Directive>)> {
        split_arguments(&words.iter().map(|w| w.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn a_file_comes_first_or_as_config() {
        let (file, settings) = split(&["a.conf", "--port", "1"]).expect("valid");
        assert_eq!((file, settings.len()), (Some("a.conf".into()), 1));
        let (file, settings) = split(&["--port", "1", "--config", "b.toml"]).expect("valid");
        assert_eq!((file, settings.len()), (Some("b.toml".into()), 1));
        assert!(split(&["a", "--config", "b"]).is_err());
        assert!(split(&["a", "b"]).is_err());
    }
}
