//! LCS: the longest common subsequence of two strings.
//!
//! Redis keeps a table of lengths, four bytes a cell, and refuses what would need more than 512 MiB. The
//! limit is the same here, because clients see it, but two rows of lengths and one bit a cell are
//! enough: the bit remembers which way the walk back from the end goes.

use quoris_resp::{Argv, Reply};

use super::edit::STRING_BYTES_MAX;
use crate::command::ReadContext;
use crate::number;
use crate::{CommandResult, Error, Keyspace};

/// Bytes that Redis spends per cell; its limit counts in them.
const REDIS_CELL_BYTES: u64 = 4;

#[derive(Default)]
struct Options {
    len: bool,
    idx: bool,
    with_match_len: bool,
    min_match_len: i64,
}

impl Options {
    fn parse(argv: &Argv) -> Result<Options, Error> {
        let mut options = Options::default();
        let mut at = 3;
        while let Some(word) = argv.get(at) {
            match &word.to_ascii_uppercase()[..] {
                b"LEN" => options.len = true,
                b"IDX" => options.idx = true,
                b"WITHMATCHLEN" => options.with_match_len = true,
                b"MINMATCHLEN" if at + 1 < argv.len() => {
                    at += 1;
                    options.min_match_len = number::integer(&argv[at]).ok_or(Error::NotAnInteger)?;
                }
                _ => return Err(Error::Syntax),
            }
            at += 1;
        }
        if options.len && options.idx {
            return Err(Error::text("ERR If you want both the length and indexes, please just use IDX."));
        }
        Ok(options)
    }
}

/// Lengths of the last row, and for each cell whether the walk back goes up.
struct Solution {
    len: usize,
    up: Vec<u64>,
    columns: usize,
}

fn solve(a: &[u8], b: &[u8], with_path: bool) -> Solution {
    let columns = b.len() + 1;
    let cells = if with_path { (a.len() + 1) * columns } else { 0 };
    let mut up = vec![0u64; cells.div_ceil(64)];
    let (mut above, mut row) = (vec![0u32; columns], vec![0u32; columns]);
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate() {
            if x == y {
                row[j + 1] = above[j] + 1;
                continue;
            }
            row[j + 1] = above[j + 1].max(row[j]);
            if with_path && above[j + 1] > row[j] {
                let cell = (i + 1) * columns + j + 1;
                up[cell / 64] |= 1 << (cell % 64);
            }
        }
        std::mem::swap(&mut above, &mut row);
    }
    Solution { len: above[b.len()] as usize, up, columns }
}

/// A run of equal bytes: where it begins in both strings and how long it is.
#[derive(Clone, Copy)]
struct Run {
    a: usize,
    b: usize,
    len: usize,
}

/// The runs of the common subsequence, from the end to the beginning.
fn runs(a: &[u8], b: &[u8], solution: &Solution) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut run = Run { a: 0, b: 0, len: 0 };
    let (mut i, mut j) = (a.len(), b.len());
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            (i, j) = (i - 1, j - 1);
            run = Run { a: i, b: j, len: run.len + 1 };
            continue;
        }
        if run.len > 0 {
            runs.push(run);
            run.len = 0;
        }
        let cell = i * solution.columns + j;
        if solution.up[cell / 64] >> (cell % 64) & 1 == 1 { i -= 1 } else { j -= 1 }
    }
    if run.len > 0 {
        runs.push(run);
    }
    runs
}

fn range(start: usize, len: usize) -> Reply {
    Reply::Array(vec![Reply::Int(start as i64), Reply::Int((start + len - 1) as i64)])
}

fn matches(runs: &[Run], options: &Options) -> Reply {
    let long_enough = runs.iter().filter(|run| run.len as i64 >= options.min_match_len);
    let items = long_enough.map(|run| {
        let mut item = vec![range(run.a, run.len), range(run.b, run.len)];
        if options.with_match_len {
            item.push(Reply::Int(run.len as i64));
        }
        Reply::Array(item)
    });
    Reply::Array(items.collect())
}

/// LCS
pub(super) fn lcs(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let text = |at: usize| match keyspace.value(context.database, &argv[at]).map(|value| value.as_string()) {
        None => Ok(bytes::Bytes::new()),
        Some(Ok(text)) => Ok(text.to_bytes()),
        Some(Err(_)) => Err(Error::text("ERR The specified keys must contain string values")),
    };
    let (a, b) = (text(1)?, text(2)?);
    let options = Options::parse(argv)?;
    let cells = (a.len() as u64 + 1).saturating_mul(b.len() as u64 + 1);
    if cells.saturating_mul(REDIS_CELL_BYTES) > STRING_BYTES_MAX {
        return Err(Error::text("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"));
    }
    let solution = solve(&a, &b, !options.len);
    if options.len {
        return Ok(Reply::Int(solution.len as i64));
    }
    let runs = runs(&a, &b, &solution);
    if options.idx {
        let len = Reply::Int(solution.len as i64);
        return Ok(Reply::Map(vec![(Reply::bulk("matches"), matches(&runs, &options)), (Reply::bulk("len"), len)]));
    }
    let common: Vec<u8> = runs.iter().rev().flat_map(|run| &a[run.a..run.a + run.len]).copied().collect();
    Ok(Reply::Bulk(common.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runs_spell_the_subsequence() {
        let (a, b) = (b"ohmytext", b"mynewtext");
        let solution = solve(a, b, true);
        let runs = runs(a, b, &solution);
        let text: Vec<u8> = runs.iter().rev().flat_map(|run| &a[run.a..run.a + run.len]).copied().collect();
        assert_eq!((solution.len, &text[..]), (6, &b"mytext"[..]));
        assert_eq!(runs.iter().map(|run| (run.a, run.b, run.len)).collect::<Vec<_>>(), [(4, 5, 4), (2, 0, 2)]);
    }
}
