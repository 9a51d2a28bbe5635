//! A part of Redis's own tests, from outside, against the real program: the units of `units-quick`.
//!
//! The tests come from Debian's source package of redis; `./dev deps` fetches it into the cache. Where it is not
//! there, or no tclsh, this is skipped and says so. All of them: `./dev compat`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// As in .dev/compat.sh.
const TAGS: &str = "-slow -needs:repl";
const SETTINGS: &str = "--enable-debug-command yes --enable-protected-configs yes --encoding-names 7.0";

/// The folder of the suite, if it was fetched.
fn suite() -> Option<PathBuf> {
    let cache = match (std::env::var_os("QUORIS_CACHE"), std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, home) => Path::new(&home?).join(".cache/quoris"),
    };
    Some(cache.join("compat/redis")).filter(|folder| folder.join("runtest").exists())
}

fn runs(program: &str, argument: &str) -> bool {
    let status = Command::new(program).arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[test]
fn redis_own_tests_pass() {
    let Some(suite) = suite().filter(|_| runs("tclsh", "/dev/null") && runs("python3", "--version")) else {
        return eprintln!("SKIPPED: Redis's own tests are not here, or no tclsh; ./dev deps fetches both");
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat");
    let server = format!("{} server --port {{port}} --dir {{dir}} {SETTINGS}", env!("CARGO_BIN_EXE_quoris"));
    let mut command = Command::new("python3");
    command.arg(here.join("suite.py")).arg("quick").arg(suite).args(["--tags", TAGS, "--server", &server]);
    command.arg("--units").arg(here.join("units-quick")).arg("--left-out").arg(here.join("left-out.tsv"));
    let output = command.output().expect("python3 starts");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    println!("{said}");
    assert!(output.status.success(), "{said}");
}
