//! PFDEBUG and PFSELFTEST, with which Redis's own tests look inside.

use quoris_resp::{Argv, Reply};

use super::dense;
use super::estimate::Histogram;
use super::header::{self, Encoding};
use super::place::Place;
use super::sparse::{self, Run};
use super::value::{self, Union};
use crate::command::ReadContext;
use crate::types::string;
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// PFDEBUG: GETREG makes the registers dense, as in Redis.
pub(super) fn pfdebug(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (word, key) = (&argv[1], &argv[2]);
    let text = string::text(keyspace, context.database, key)?;
    let text = text.ok_or_else(|| Error::text("ERR The specified key does not exist"))?;
    let encoding = Encoding::of(&text)?;
    let is = |known: &[u8]| word.eq_ignore_ascii_case(known);
    if is(b"ENCODING") {
        return Ok(Reply::status(if encoding == Encoding::Dense { "dense" } else { "sparse" }));
    }
    if is(b"DECODE") {
        return match encoding {
            Encoding::Dense => Err(Error::text("ERR HLL encoding is not sparse")),
            Encoding::Sparse => decode(&text[header::LEN..]),
        };
    }
    if !is(b"GETREG") && !is(b"TODENSE") {
        return Err(Error::quoting(&[b"ERR Unknown PFDEBUG subcommand '", word, b"'"]));
    }
    let mut dense = text.into_owned();
    let made = value::make_dense(&mut dense)?;
    let registers = || dense::registers(&dense[header::LEN..]).map(|rank| Reply::Int(i64::from(rank))).collect();
    let reply = if is(b"GETREG") { Reply::Array(registers()) } else { Reply::Int(i64::from(made)) };
    if made {
        string::change(keyspace, context.database, key, value::empty, |text| *text = dense)?;
    }
    Ok(reply)
}

/// The runs as text: `z:12 v:3,1 Z:16371`.
fn decode(body: &[u8]) -> CommandResult {
    let shown = |run: Run| match run {
        Run { rank: 0, bytes: 1, len, .. } => format!("z:{len}"),
        Run { rank: 0, len, .. } => format!("Z:{len}"),
        Run { rank, len, .. } => format!("v:{rank},{len}"),
    };
    let runs: Vec<String> = sparse::runs(body).map(|run| run.map(shown)).collect::<Result<_, _>>()?;
    Ok(Reply::bulk(runs.join(" ")))
}

/// Elements of the test of sparse registers.
const SPARSE_ELEMENTS: u64 = 1000;
/// Elements of the whole test.
const ELEMENTS: u64 = 50_000;
/// Four times the standard error of 16384 registers.
const ERROR_MAX: f64 = 4.0 * 1.04 / 128.0;

fn registers(text: &[u8]) -> Result<Vec<u8>, Error> {
    let mut union = Union::new();
    union.add(text)?;
    Ok(union.registers)
}

/// PFSELFTEST: adds the same elements, always the same, to both representations.
pub(super) fn pfselftest(_keyspace: &Keyspace, _context: &ReadContext, _argv: &Argv) -> CommandResult {
    let failed = |what: String| Err(Error::text(format!("ERR TESTFAILED {what}")));
    let (mut sparse, mut dense) = (value::empty(), value::empty());
    value::make_dense(&mut dense)?;
    for element in 1..=ELEMENTS {
        let place = Place::of(&element.to_le_bytes());
        value::raise(&mut dense, place, 0)?;
        if element <= SPARSE_ELEMENTS {
            value::raise(&mut sparse, place, i64::MAX)?;
        }
        if element == SPARSE_ELEMENTS && registers(&sparse)? != registers(&dense)? {
            return failed("sparse and dense registers differ".into());
        }
        if [10, 100, SPARSE_ELEMENTS, ELEMENTS].contains(&element) {
            let estimate = Histogram::of(&dense)?.estimate();
            if (estimate as f64 - element as f64).abs() > (element as f64 * ERROR_MAX).max(1.0) {
                return failed(format!("{element} elements are estimated as {estimate}"));
            }
        }
    }
    Ok(Reply::Ok)
}
