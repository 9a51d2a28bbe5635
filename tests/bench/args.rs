//! The options of the program.

use crate::measure::Plan;
use crate::rows::Row;
use crate::sides::{Commands, find_program};
use crate::window::Limit;
use anyhow::{Context, Result, ensure};
use clap::{Parser, value_parser};
use std::path::PathBuf;
use std::time::Duration;

/// Measures Quoris beside redis-server and etcd on this machine and checks the floors.
///
/// Exits with 0 when every measured ratio holds, 1 when one does not, 2 when the harness failed.
#[derive(Clone, Debug, Parser)]
#[command(name = "quoris-bench")]
pub struct Args {
    /// The program to measure [default: `quoris` beside this program]
    #[arg(long, value_name = "PATH")]
    pub quoris: Option<PathBuf>,
    /// Starts one node by this template instead, with {port} and {dir}; EMPTY is an empty word
    #[arg(long, value_name = "TEMPLATE")]
    pub quoris_one_cmd: Option<String>,
    /// Starts three nodes by this template instead, with {port}, {port+1} and {port+2} for the
    /// clients; may be given several times, for a process each
    #[arg(long, value_name = "TEMPLATE")]
    pub quoris_three_cmd: Vec<String>,
    /// The redis-server to compare with
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    pub redis_server: String,
    /// The etcd to compare with
    #[arg(long, value_name = "PATH", default_value = "etcd")]
    pub etcd: String,
    /// Runs per side
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u16).range(1..=100))]
    pub runs: u16,
    /// Seconds that each run measures
    #[arg(long, default_value_t = 5.0, conflicts_with = "requests")]
    pub seconds: f64,
    /// Requests that each run measures, instead of seconds
    #[arg(long, value_parser = value_parser!(u64).range(1..))]
    pub requests: Option<u64>,
    /// Only the rows of this name, or whose name begins with these words; may be repeated
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Connects to the leader only, and holds that to the floors
    #[arg(long)]
    pub leader_only: bool,
    /// HTTP/2 connections of the etcd clients
    #[arg(long, default_value_t = 6, value_parser = value_parser!(u16).range(1..=200))]
    pub etcd_connections: u16,
    /// Spreads the etcd clients over all members, instead of the leader alone, which is faster
    #[arg(long)]
    pub etcd_spread: bool,
    /// Seconds to spend, all in all, on waiting for a quiet machine and repeating disturbed runs
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub patience: u32,
    /// Where the servers keep their files: the disk to measure [default: the temporary one]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Writes the report into this file as well
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Prints the names of the rows and ends
    #[arg(long)]
    pub list: bool,
}

impl Args {
    pub fn plan(&self) -> Result<Plan> {
        ensure!(
            (0.1..300.0).contains(&self.seconds),
            "--seconds must be at least 0.1 and below 300, not {}",
            self.seconds
        );
        let time = Duration::from_secs_f64(self.seconds);
        Ok(Plan {
            runs: usize::from(self.runs),
            limit: self.requests.map_or_else(|| Limit::time(time), Limit::operations),
            warm_up: time.min(Duration::from_secs(1)),
            etcd_connections: usize::from(self.etcd_connections),
            etcd_spread: self.etcd_spread,
            patience: Duration::from_secs(u64::from(self.patience)),
        })
    }

    /// The directory in which servers keep theirs.
    pub fn directory(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// The program to measure.
    pub fn program(&self) -> Result<PathBuf> {
        match &self.quoris {
            Some(path) => Ok(path.clone()),
            None => Ok(std::env::current_exe().context("this program's path")?.with_file_name("quoris")),
        }
    }

    /// How to start the servers that the rows need.
    pub fn commands(&self, rows: &[Row]) -> Result<Commands> {
        let program = self.program()?;
        let started = |row: &Row| match row.subject.setting.nodes() {
            1 => self.quoris_one_cmd.is_none(),
            _ => self.quoris_three_cmd.is_empty(),
        };
        if rows.iter().any(started) {
            ensure!(program.is_file(), "{} is no program; give --quoris", program.display());
            let blank = program.to_string_lossy().contains(char::is_whitespace);
            ensure!(!blank, "the path {} has a blank", program.display());
        }
        let quoris = program.display();
        let one = format!("{quoris} server --port {{port}} --dir {{dir}}");
        let three = format!("{quoris} cluster start --nodes 3 --port {{port}} --dir {{dir}}");
        Ok(Commands {
            subject_one: vec![self.quoris_one_cmd.clone().unwrap_or(one)],
            subject_three: match self.quoris_three_cmd.as_slice() {
                [] => vec![three],
                templates => templates.to_vec(),
            },
            redis: find_program(&self.redis_server),
            etcd: find_program(&self.etcd),
            parent: self.directory(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::select;
    use clap::CommandFactory;

    #[test]
    fn the_options_are_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn requests_replace_seconds() {
        let args = Args::try_parse_from(["quoris-bench", "--requests", "1000"]).expect("valid");
        assert_eq!(args.plan().expect("a plan").limit.operations, 1000);
        assert!(Args::try_parse_from(["quoris-bench", "--requests", "1", "--seconds", "1"]).is_err());
        let args = Args::try_parse_from(["quoris-bench", "--seconds", "nan"]).expect("parses");
        assert!(args.plan().is_err());
    }

    #[test]
    fn a_program_that_is_not_there_is_refused() {
        let args = Args::try_parse_from(["quoris-bench", "--quoris", "/no/such/file"]).expect("valid");
        assert!(args.commands(&select(&[], false)).is_err());
    }
}
