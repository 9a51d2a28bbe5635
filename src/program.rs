//! The command line.

mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "quoris", version, about = "A strongly consistent store that speaks Redis.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one node.
    #[command(after_help = SERVER_HELP, override_usage = "quoris server [FILE | --config FILE] [--name value …]")]
    Server {
        /// A configuration file, then settings: --port 7000 --dir /var/lib/quoris.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        arguments: Vec<String>,
    },
}

const SERVER_HELP: &str = "\
FILE is TOML when its name ends in .toml, and is read as a redis.conf otherwise.
Any setting may follow as --name value, as redis-server takes it; it wins over the file.
config/quoris.toml explains every setting.";

/// Runs the program with the process's arguments.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Server { arguments } => serve::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quoris: {error:#}");
            ExitCode::FAILURE
        }
    }
}
