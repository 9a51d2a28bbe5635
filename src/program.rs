//! The command line.

mod backup;
mod client;
mod cluster;
mod dump;
mod manifest;
mod node;
mod recover;
mod restore;
mod serve;
mod skip;
mod slots;
mod status;
mod transfer;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use quoris_server::Role;

use client::Client;
use status::View;

#[derive(Debug, Parser)]
#[command(name = "quoris", version, about = "A strongly consistent store that speaks Redis.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one node.
    #[command(override_usage = "quoris server [FILE | --config FILE] [--name value …]", disable_help_flag = true)]
    Server {
        /// A configuration file, then settings: --port 7000 --dir /var/lib/quoris.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        arguments: Vec<String>,
    },
    /// Runs a proxy: any client works through it, and it holds no data.
    #[command(
        override_usage = "quoris proxy [FILE | --config FILE] --nodes HOST:PEERPORT,… [--name value …]",
        disable_help_flag = true
    )]
    Proxy {
        /// A configuration file, then settings: --nodes 10.0.0.1:16379,10.0.0.2:16379 --port 6380.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        arguments: Vec<String>,
    },
    /// Runs a local cluster.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Looks after a running cluster.
    #[command(subcommand)]
    Admin(AdminCommand),
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Starts the nodes as child processes and stays in the foreground.
    Start(cluster::Start),
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Shows nodes, groups, leaders and how far replicas are behind.
    Status(At),
    /// Loads an RDB file of any Redis.
    Import {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        at: At,
        /// Overwrites keys that exist; otherwise the first one ends the import.
        #[arg(long)]
        replace: bool,
        /// Passes over keys of types that this version does not know.
        #[arg(long)]
        skip_unsupported: bool,
    },
    /// Writes all keys into an RDB file.
    Export {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        at: At,
    },
    /// Copies the whole cluster into a folder, while it serves.
    Backup(backup::Backup),
    /// Puts a backup into a cluster, of whatever shape.
    Restore(restore::Restore),
    /// Reads the log of a stopped node.
    #[command(subcommand)]
    Log(LogCommand),
    /// Looks after the clocks of the groups.
    #[command(subcommand)]
    Clock(ClockCommand),
    /// Repairs a group on stopped nodes.
    #[command(subcommand)]
    Group(GroupCommand),
    /// Looks after nodes that come and go.
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Moves slots between groups, under load.
    #[command(subcommand)]
    Slots(slots::SlotsCommand),
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Prints entries, or what they did.
    Dump(dump::Dump),
}

#[derive(Debug, Subcommand)]
enum ClockCommand {
    /// Says that the time is right after a start: what nothing expired for may expire.
    Confirm(At),
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// Passes over an entry that no version of the program can apply; the last resort.
    Skip(skip::Skip),
    /// Goes on without nodes that are lost for good, although groups had their majority on them; loses writes.
    Recover(recover::Recover),
}

/// Where a node is.
#[derive(Clone, Debug, Args)]
struct At {
    /// The node's client port.
    #[arg(long, default_value_t = 6379)]
    port: u16,
    /// The node's host.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The default user's password.
    #[arg(long)]
    password: Option<String>,
}

impl At {
    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    async fn connect(&self) -> anyhow::Result<Client> {
        Client::connect(&self.address(), self.password.as_deref()).await
    }
}

const SERVER_HELP: &str = "\
FILE is TOML when its name ends in .toml, and is read as a redis.conf otherwise.
Any setting may follow as --name value, as redis-server takes it; it wins over the file.
config/quoris.toml explains every setting.";

/// Runs the program with the process's arguments.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Server { arguments } => serve::run(&arguments, Role::Node),
        Command::Proxy { arguments } => serve::run(&arguments, Role::Proxy),
        Command::Admin(AdminCommand::Log(LogCommand::Dump(options))) => dump::dump(&options),
        Command::Admin(AdminCommand::Group(GroupCommand::Skip(options))) => skip::skip(&options),
        Command::Admin(AdminCommand::Group(GroupCommand::Recover(options))) => recover::recover(&options),
        other => in_one_thread(other),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quoris: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn in_one_thread(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Server { .. }
            | Command::Proxy { .. }
            | Command::Admin(AdminCommand::Log(_) | AdminCommand::Group(_)) => {
                unreachable!("they need no runtime or have their own")
            }
            Command::Cluster(ClusterCommand::Start(options)) => cluster::start(options).await,
            Command::Admin(AdminCommand::Status(at)) => {
                let first = View::ask(&at.address(), at.password.as_deref()).await?;
                let views = status::everybody(&first, at.password.as_deref()).await;
                print!("{}", status::tables(&first, &views));
                Ok(())
            }
            Command::Admin(AdminCommand::Clock(ClockCommand::Confirm(at))) => {
                let first = View::ask(&at.address(), at.password.as_deref()).await?;
                let confirmed = status::confirm_clocks(&first, at.password.as_deref()).await?;
                println!("{confirmed} clocks confirmed");
                Ok(())
            }
            Command::Admin(AdminCommand::Node(command)) => node::run(command).await,
            Command::Admin(AdminCommand::Import { file, at, replace, skip_unsupported }) => {
                let how = transfer::Import { skip_unsupported, replace, replace_functions: replace };
                transfer::import(at.connect().await?, &file, how).await
            }
            Command::Admin(AdminCommand::Backup(options)) => backup::backup(options).await,
            Command::Admin(AdminCommand::Restore(options)) => restore::restore(options).await,
            Command::Admin(AdminCommand::Slots(command)) => slots::run(command).await,
            Command::Admin(AdminCommand::Export { file, at }) => transfer::export(at.connect().await?, &file).await,
        }
    })
}
