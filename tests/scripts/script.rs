//! Reads script files and runs them against a target: see README.md beside this file.
//!
//! Not a test of its own: tests that have a target take this file in with `#[path]`. It needs nothing
//! but the codec and the engine's glob patterns.

#![allow(dead_code, reason = "each test that takes this file in uses a part of it")]

#[path = "remote.rs"]
pub mod remote;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use quoris_engine::glob;
use quoris_resp::{Argv, Reply};

/// A part of a script that stands for itself: it begins with empty databases and a fresh connection.
#[derive(Debug, Default)]
pub struct Case {
    /// `string/set: nx_keeps_the_old_value`
    pub name: String,
    /// The version of redis-server that a target must have at least, `@redis 8.4`.
    pub redis: Option<(u32, u32)>,
    /// Quoris answers otherwise than Redis on purpose, `@ours`.
    pub ours: bool,
    /// Needs a real connection, `@tcp`.
    pub tcp: bool,
    /// Speaks RESP3, `@resp3`.
    pub resp3: bool,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// One step of a case.
#[derive(Debug)]
pub enum Step {
    /// `wait 20`: the target's clock moves on by so many milliseconds.
    Wait(u64),
    /// `> …` and the `<` lines behind it.
    Call {
        /// File and line, for messages.
        place: String,
        /// The command.
        argv: Vec<Vec<u8>>,
        /// `>~`: the order of the reply's items does not matter.
        sorted: bool,
        /// The expected reply as [`show`] prints it; a pattern when `glob` is set.
        reply: Vec<u8>,
        /// `<*`: the expected reply is a pattern.
        glob: bool,
    },
}

/// What can run a script.
pub trait Target {
    /// Empties all databases and begins a fresh connection in the case's protocol.
    fn reset(&mut self, case: &Case);
    /// Runs one command and gives its reply as it arrives at a client.
    fn call(&mut self, argv: &Argv) -> Reply;
    /// Lets time pass.
    fn wait(&mut self, ms: u64);
    /// Whether the target can run the case.
    fn takes(&self, case: &Case) -> bool;
}

/// The families that the engine runs by itself.
pub const ENGINE_FAMILIES: &[&str] = &[
    "string",
    "list",
    "set",
    "hash",
    "zset",
    "geo",
    "stream",
    "bitmap",
    "hyperloglog",
    "scripting",
    "pubsub",
    "generic",
    "command",
];
/// The families that need a server around it.
pub const SERVER_FAMILIES: &[&str] = &["connection", "server", "transactions"];

/// The folder of the scripts.
pub fn folder() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found =
        here.ancestors().map(|top| top.join("tests/scripts")).find(|scripts| scripts.join("README.md").exists());
    found.expect("a folder above the crate holds tests/scripts")
}

/// All cases of some families: the names of folders.
pub fn cases(families: &[&str]) -> Vec<Case> {
    let mut all = Vec::new();
    for family in families {
        let folder = folder().join(family);
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
        files.sort();
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            all.extend(parse(&format!("{family}/{stem}"), &text));
        }
    }
    assert!(!all.is_empty(), "no script in {families:?}");
    all
}

/// Reads one script; `name` is for messages.
///
/// # Panics
/// When a line is none of the format's.
pub fn parse(name: &str, text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", number + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(fact) = line.strip_prefix("== ") {
            cases.push(Case { name: format!("{name}: {fact}"), ..Case::default() });
            continue;
        }
        let case = cases.last_mut().unwrap_or_else(|| panic!("{place}: a line before the first `== `"));
        if let Some(rest) = line.strip_prefix('@') {
            match rest.split_once(' ') {
                Some(("redis", version)) => case.redis = Some(version_of(version)),
                None if rest == "ours" => case.ours = true,
                None if rest == "tcp" => case.tcp = true,
                None if rest == "resp3" => case.resp3 = true,
                _ => panic!("{place}: unknown mark @{rest}"),
            }
        } else if let Some(ms) = line.strip_prefix("wait ") {
            case.steps.push(Step::Wait(ms.parse().unwrap_or_else(|e| panic!("{place}: {e}"))));
        } else if let Some(rest) = line.strip_prefix('>') {
            let sorted = rest.starts_with('~');
            let argv = words(rest.trim_start_matches('~'), &place);
            case.steps.push(Step::Call { place, argv, sorted, reply: Vec::new(), glob: false });
        } else if let Some(rest) = line.strip_prefix('<') {
            let Some(Step::Call { reply, glob, .. }) = case.steps.last_mut() else {
                panic!("{place}: a reply without a command")
            };
            *glob |= rest.starts_with('*');
            let more = repeat(rest.trim_start_matches('*').trim_start().as_bytes());
            if !reply.is_empty() {
                reply.push(b' ');
            }
            reply.extend(more);
        } else {
            panic!("{place}: what is {line:?}?");
        }
    }
    cases
}

/// `7.0.15` as (7, 0).
pub fn version_of(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().expect("a version is numbers"));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Splits a line into arguments as redis-cli does: bare words, `'as it is'`, `"with \n \x00"`.
fn words(line: &str, place: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start().as_bytes();
    while let Some(&first) = rest.first() {
        let word;
        (word, rest) = match first {
            b'"' => quoted(&rest[1..]).unwrap_or_else(|| panic!("{place}: no closing quote")),
            b'\'' => {
                let end =
                    rest[1..].iter().position(|b| *b == b'\'').unwrap_or_else(|| panic!("{place}: no closing quote"));
                (rest[1..=end].to_vec(), &rest[end + 2..])
            }
            _ => {
                let end = rest.iter().position(|b| *b == b' ').unwrap_or(rest.len());
                (rest[..end].to_vec(), &rest[end..])
            }
        };
        words.push(repeat(&word));
        rest = rest.trim_ascii_start();
    }
    assert!(!words.is_empty(), "{place}: a command has a name");
    words
}

/// The text up to the closing quote, escapes resolved, and what is behind it.
fn quoted(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut text = Vec::new();
    loop {
        (text, rest) = match rest {
            [b'"', behind @ ..] => return Some((text, behind)),
            [b'\\', b'x', high, low, behind @ ..] => {
                let hex = |b: u8| (b as char).to_digit(16).map(|n| n as u8);
                text.push(hex(*high)? << 4 | hex(*low)?);
                (text, behind)
            }
            [b'\\', escaped, behind @ ..] => {
                text.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    plain => *plain,
                });
                (text, behind)
            }
            [plain, behind @ ..] => {
                text.push(*plain);
                (text, behind)
            }
            [] => return None,
        };
    }
}

/// `{ab*3}` as `ababab`, wherever it stands.
fn repeat(text: &[u8]) -> Vec<u8> {
    let Some(open) = text.iter().position(|b| *b == b'{') else { return text.to_vec() };
    let inner = &text[open + 1..];
    let expanded = inner.iter().position(|b| *b == b'}').and_then(|close| {
        let star = inner[..close].iter().rposition(|b| *b == b'*')?;
        let times: usize = std::str::from_utf8(&inner[star + 1..close]).ok()?.parse().ok()?;
        Some((inner[..star].repeat(times), close))
    });
    let mut whole = text[..open].to_vec();
    match expanded {
        Some((middle, close)) => {
            whole.extend(middle);
            whole.extend(repeat(&inner[close + 1..]));
        }
        None => {
            whole.push(b'{');
            whole.extend(repeat(inner));
        }
    }
    whole
}

/// A reply as scripts write it.
pub fn show(reply: &Reply) -> String {
    let list = |open: &str, items: &[Reply]| {
        let items: Vec<String> = items.iter().map(item).collect();
        format!("{open}{}]", items.join(" "))
    };
    match reply {
        Reply::None | Reply::Elsewhere => "none".into(),
        Reply::Ok => "+OK".into(),
        Reply::Status(text) => format!("+{}", String::from_utf8_lossy(text)),
        Reply::Error(text) => format!("-{}", String::from_utf8_lossy(text)),
        Reply::Int(n) => format!(":{n}"),
        Reply::Bulk(text) => format!("\"{}\"", escape(text)),
        Reply::Null => "nil".into(),
        Reply::NullArray => "nil-array".into(),
        Reply::Double(n) => format!(",{n}"),
        Reply::Bool(b) => format!("#{}", if *b { 't' } else { 'f' }),
        Reply::Decimal(text) => format!(",{}", String::from_utf8_lossy(text)),
        Reply::BigNumber(digits) => format!("({}", String::from_utf8_lossy(digits)),
        Reply::Verbatim(_, text) => format!("=\"{}\"", escape(text)),
        Reply::Array(items) => list("[", items),
        Reply::Set(items) => list("~[", items),
        Reply::Push(items) => list(">[", items),
        Reply::Map(pairs) | Reply::Pairs(pairs) | Reply::Keyed(pairs) => {
            let pairs: Vec<String> =
                pairs.iter().map(|(key, value)| format!("{}: {}", item(key), item(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

/// Within a list, a status or error with blanks is quoted.
fn item(reply: &Reply) -> String {
    let shown = show(reply);
    match reply {
        Reply::Status(_) | Reply::Error(_) if shown.contains(' ') => {
            format!("{}\"{}\"", &shown[..1], escape(&shown.as_bytes()[1..]))
        }
        _ => shown,
    }
}

fn escape(text: &[u8]) -> String {
    let mut out = String::new();
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend(['\\', byte as char]),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b' '..=b'~' => out.push(byte as char),
            other => write!(out, "\\x{other:02x}").expect("writing to a string does not fail"),
        }
    }
    out
}

/// Runs the cases that the target takes and reports all that went wrong, at the end.
///
/// # Panics
/// When a reply is not the expected one.
pub fn run(target: &mut dyn Target, cases: &[Case]) {
    let mut wrong = String::new();
    let mut calls = 0;
    for case in cases {
        if !target.takes(case) {
            continue;
        }
        target.reset(case);
        for step in &case.steps {
            match step {
                Step::Wait(ms) => target.wait(*ms),
                Step::Call { place, argv, sorted, reply: expected, glob } => {
                    calls += 1;
                    let argv = Argv::from_parts(argv);
                    let mut reply = target.call(&argv);
                    if let (true, Reply::Array(items) | Reply::Set(items)) = (sorted, &mut reply) {
                        items.sort_by_cached_key(show);
                    }
                    let got = show(&reply);
                    let fits =
                        if *glob { glob::matches(expected, got.as_bytes()) } else { got.as_bytes() == &expected[..] };
                    if !fits {
                        let expected = String::from_utf8_lossy(expected);
                        writeln!(wrong, "{place}: {argv:?}\n  got      {got}\n  expected {expected}")
                            .expect("a string takes it");
                    }
                }
            }
        }
    }
    assert!(calls > 0, "the target takes no case");
    assert!(wrong.is_empty(), "{calls} commands, some answered otherwise:\n{wrong}");
}
