//! The program `quoris`: reads the command line and hands over to the library.

use std::process::ExitCode;

const USAGE: &str = "\
Quoris, a strongly consistent store that speaks Redis.

usage: quoris server [--config FILE] [--any-config-key value …]

The server is not wired up in this build yet.
";

fn main() -> ExitCode {
    print!("{USAGE}");
    let asked_for_help = std::env::args().nth(1).is_none_or(|a| a == "help" || a == "--help");
    if asked_for_help { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
