//! The program `quoris`: one binary for a node, a local cluster, and administration.

use std::process::ExitCode;

/// jemalloc holds less memory for many small values than the system's allocator, and tells how much.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    quoris::program::run()
}
