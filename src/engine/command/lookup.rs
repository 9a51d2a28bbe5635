//! From a name to a row, on the hot path of every command.
//!
//! A flat open-addressing table over all top-level names, built once; a lookup hashes the first and
//! last bytes of the name and compares one or two candidates. No allocation unless there is an error.

use std::sync::LazyLock;

use quoris_resp::Argv;

use super::{Command, FAMILIES, INTERNAL};
use crate::Error;

/// A row that was looked up.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The row; of a subcommand its own.
    pub command: &'static Command,
    /// The row that holds it, for a subcommand.
    pub container: Option<&'static Command>,
    /// A dense number below [`count`], the same in one build of the program: an index for counters.
    pub id: u16,
}

impl Found {
    /// `get`, or `client|list`.
    pub fn full_name(&self) -> String {
        match self.container {
            Some(container) => format!("{}|{}", container.name, self.command.name),
            None => self.command.name.to_string(),
        }
    }
}

/// More than twice the number of commands of Redis 8, so that probes are short.
const BUCKETS: usize = 2048;

struct Table {
    /// Position in `rows` plus one; 0 is free.
    buckets: Box<[u16; BUCKETS]>,
    /// Every row in table order, each container directly before its subcommands.
    rows: Vec<Found>,
}

fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| {
        let mut table = Table { buckets: Box::new([0; BUCKETS]), rows: Vec::new() };
        for command in FAMILIES.iter().copied().flatten() {
            let id = u16::try_from(table.rows.len()).expect("a few hundred commands");
            table.rows.push(Found { command, container: None, id });
            let subs = command.subcommands.iter().zip(id + 1..);
            table.rows.extend(subs.map(|(sub, id)| Found { command: sub, container: Some(command), id }));
            let mut bucket = bucket(command.name.as_bytes());
            while table.buckets[bucket] != 0 {
                bucket = (bucket + 1) % BUCKETS;
            }
            table.buckets[bucket] = id + 1;
        }
        table
    });
    &TABLE
}

/// Hashes the first and the last eight bytes and the length; letters without case.
fn bucket(name: &[u8]) -> usize {
    let (head, tail) = if let (Some(head), Some(tail)) = (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (u64::from_le_bytes(*head), u64::from_le_bytes(*tail))
    } else if let (Some(head), Some(tail)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        (u64::from(u32::from_le_bytes(*head)), u64::from(u32::from_le_bytes(*tail)))
    } else {
        // At most three bytes: the first, the middle and the last are all of them.
        let byte = |at: usize| u64::from(name.get(at).copied().unwrap_or(0));
        (byte(0) | byte(name.len() / 2) << 8, byte(name.len().wrapping_sub(1)))
    };
    const LOWER: u64 = 0x2020_2020_2020_2020;
    let mixed = (head | LOWER) ^ (tail | LOWER).rotate_left(29) ^ name.len() as u64;
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - BUCKETS.ilog2())) as usize
}

/// The top-level row of a name in any case.
fn top(name: &[u8]) -> Option<Found> {
    let table = table();
    let mut bucket = bucket(name);
    loop {
        let at = table.buckets[bucket].checked_sub(1)?;
        let found = table.rows[at as usize];
        if found.command.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(found);
        }
        bucket = (bucket + 1) % BUCKETS;
    }
}

/// The subcommand of a row by its name in any case.
fn sub(container: Found, name: &[u8]) -> Option<Found> {
    let at = container.command.subcommands.iter().position(|c| c.name.as_bytes().eq_ignore_ascii_case(name))?;
    let command = &container.command.subcommands[at];
    Some(Found { command, container: Some(container.command), id: container.id + 1 + at as u16 })
}

/// The row that an argv names, its arity checked.
///
/// # Errors
/// As Redis words them: unknown command, unknown subcommand, wrong number of arguments.
pub fn lookup(argv: &Argv) -> Result<Found, Error> {
    let mut found = top(&argv[0]).ok_or_else(|| unknown_command(argv))?;
    if let (false, Some(name)) = (found.command.subcommands.is_empty(), argv.get(1)) {
        found = sub(found, name).ok_or_else(|| unknown_subcommand(found.command, name))?;
    }
    if found.command.fits_arity(argv.len()) { Ok(found) } else { Err(Error::Arity(found.full_name())) }
}

/// The row of a command of the log: one that a client can send, or one that only nodes propose.
///
/// # Errors
/// As [`lookup`].
pub fn logged(argv: &Argv) -> Result<&'static Command, Error> {
    lookup(argv).map(|found| found.command).or_else(|error| {
        let is = |row: &&&Command| row.name.as_bytes().eq_ignore_ascii_case(&argv[0]) && row.fits_arity(argv.len());
        INTERNAL.iter().find(is).copied().ok_or(error)
    })
}

/// The row of a full name such as `get` or `client|list`, in any case.
pub fn by_name(name: &[u8]) -> Option<Found> {
    match name.iter().position(|&b| b == b'|') {
        None => top(name),
        Some(at) => sub(top(&name[..at])?, &name[at + 1..]),
    }
}

/// The number of rows, subcommands included: one more than the greatest [`Found::id`].
pub fn count() -> usize {
    table().rows.len()
}

/// Every row in the order of the table, each container directly before its subcommands.
pub fn walk() -> impl Iterator<Item = Found> {
    table().rows.iter().copied()
}

/// Names and arguments in errors are cut here, in bytes, as Redis cuts them.
const QUOTED_MAX: usize = 128;

/// What a client sent, as an error quotes it: at most `max` bytes and, as C prints it, up to the first
/// zero byte.
pub(crate) fn quoted(text: &[u8], max: usize) -> &[u8] {
    let text = &text[..text.len().min(max)];
    let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
    &text[..end]
}

fn unknown_command(argv: &Argv) -> Error {
    let mut arguments = Vec::new();
    for argument in argv.iter().skip(1) {
        if arguments.len() >= QUOTED_MAX {
            break;
        }
        let room = QUOTED_MAX - arguments.len();
        arguments.extend_from_slice(&[b"'", quoted(argument, room), b"' "].concat());
    }
    let name = quoted(&argv[0], QUOTED_MAX);
    Error::quoting(&[b"ERR unknown command '", name, b"', with args beginning with: ", &arguments])
}

fn unknown_subcommand(container: &Command, name: &[u8]) -> Error {
    let (name, container) = (quoted(name, QUOTED_MAX), container.name.to_ascii_uppercase());
    Error::quoting(&[b"ERR unknown subcommand '", name, b"'. Try ", container.as_bytes(), b" HELP."])
}
