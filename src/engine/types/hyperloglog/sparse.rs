//! Registers as runs of equal ones: small while most are zero.
//!
//! | byte | run |
//! | --- | --- |
//! | `00nnnnnn` | n + 1 zeros |
//! | `01nnnnnn nnnnnnnn` | n + 1 zeros |
//! | `1vvvvvnn` | n + 1 registers of v + 1 |
//!
//! Which of several possible sequences a change leaves is Redis's choice, to the byte: a run is split into
//! what lies before, at and behind the register, then neighbours are joined, but no more than five runs
//! from the one before are looked at.

use super::place::{Place, REGISTERS};
use crate::Error;

/// The highest register that a run can have.
pub(super) const RANK_MAX: u8 = 32;

/// The most zeros that take one byte.
const ZEROS_SHORT_MAX: usize = 64;
/// The most registers that a run above zero can have.
const VALUES_MAX: usize = 4;
/// How many runs are looked at to join neighbours.
const JOINED_MAX: usize = 5;

/// A run of equal registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Its first byte.
    pub(super) at: usize,
    /// How many bytes it takes.
    pub(super) bytes: usize,
    /// How many registers there are.
    pub(super) len: usize,
    /// What they hold.
    pub(super) rank: u8,
}

/// `INVALIDOBJ`
pub(super) fn corrupt() -> Error {
    Error::text("INVALIDOBJ Corrupted HLL object detected")
}

/// The run at a place; nothing at the end, and an error where a second byte is missing.
fn run(body: &[u8], at: usize) -> Result<Option<Run>, Error> {
    let Some(&byte) = body.get(at) else { return Ok(None) };
    let low = usize::from(byte & 0x3f);
    Ok(Some(match byte >> 6 {
        0 => Run { at, bytes: 1, len: low + 1, rank: 0 },
        1 => {
            let second = *body.get(at + 1).ok_or_else(corrupt)?;
            Run { at, bytes: 2, len: (low << 8 | usize::from(second)) + 1, rank: 0 }
        }
        _ => Run { at, bytes: 1, len: usize::from(byte & 3) + 1, rank: (byte >> 2 & 0x1f) + 1 },
    }))
}

/// All runs; an error is the last item.
pub(super) fn runs(body: &[u8]) -> impl Iterator<Item = Result<Run, Error>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let next = run(body, at).transpose()?;
        at = next.as_ref().map_or(body.len(), |run| run.at + run.bytes);
        Some(next)
    })
}

/// Gives `take` the first register and the run, for each run.
///
/// # Errors
/// When the runs are not 16384 registers long together.
pub(super) fn each_run(body: &[u8], mut take: impl FnMut(usize, Run)) -> Result<(), Error> {
    let mut first = 0;
    for run in runs(body) {
        let run = run?;
        if first + run.len > REGISTERS {
            return Err(corrupt());
        }
        take(first, run);
        first += run.len;
    }
    if first == REGISTERS { Ok(()) } else { Err(corrupt()) }
}

/// The run that covers a register, where that run begins, and the run before it.
fn cover(body: &[u8], index: usize) -> Result<(Run, usize, Option<Run>), Error> {
    let (mut first, mut before) = (0, None);
    for run in runs(body) {
        let run = run?;
        if index < first + run.len {
            return Ok((run, first, before));
        }
        first += run.len;
        before = Some(run);
    }
    Err(corrupt())
}

/// One register.
///
/// # Errors
/// When no run covers it.
pub(super) fn get(body: &[u8], index: usize) -> Result<u8, Error> {
    Ok(cover(body, index)?.0.rank)
}

/// Some runs that replace one.
#[derive(Debug, Default)]
struct Sequence {
    bytes: [u8; 5],
    len: usize,
}

impl Sequence {
    fn push(&mut self, len: usize, rank: u8) {
        match len {
            0 => {}
            _ if rank > 0 => self.byte(values(len, rank)),
            1..=ZEROS_SHORT_MAX => self.byte(len as u8 - 1),
            _ => {
                self.byte(0x40 | ((len - 1) >> 8) as u8);
                self.byte((len - 1) as u8);
            }
        }
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn values(len: usize, rank: u8) -> u8 {
    0x80 | (rank - 1) << 2 | (len as u8 - 1)
}

/// What a change came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Raised {
    /// The register is as high already.
    Already,
    /// It is raised.
    Done,
    /// The runs would take more than the bytes that they may: nothing has changed.
    TooLong,
}

/// Raises a register in a value whose runs begin at `body`.
///
/// # Errors
/// When no run covers the register.
pub(super) fn raise(text: &mut Vec<u8>, body: usize, place: Place, bytes_max: i64) -> Result<Raised, Error> {
    let (run, first, before) = cover(&text[body..], place.index)?;
    if run.rank >= place.rank {
        return Ok(Raised::Already);
    }
    if place.rank > RANK_MAX {
        return Ok(Raised::TooLong);
    }
    let mut sequence = Sequence::default();
    sequence.push(place.index - first, run.rank);
    sequence.push(1, place.rank);
    sequence.push(first + run.len - 1 - place.index, run.rank);
    let grows = sequence.len > run.bytes;
    if grows && (text.len() + sequence.len - run.bytes) as u64 > bytes_max.max(0).cast_unsigned() {
        return Ok(Raised::TooLong);
    }
    let at = body + run.at;
    if sequence.len == run.bytes {
        text[at..at + run.bytes].copy_from_slice(sequence.bytes());
    } else {
        text.splice(at..at + run.bytes, sequence.bytes().iter().copied());
    }
    join(text, body + before.map_or(0, |before| before.at));
    Ok(Raised::Done)
}

/// Joins equal neighbours, as far as one run can hold them, among the few runs from `at` on.
fn join(text: &mut Vec<u8>, mut at: usize) {
    for _ in 0..JOINED_MAX {
        let Ok(Some(one)) = run(text, at) else { return };
        let next = if one.rank > 0 { run(text, at + 1).ok().flatten() } else { None };
        match next {
            Some(other) if other.rank == one.rank && one.len + other.len <= VALUES_MAX => {
                text[at + 1] = values(one.len + other.len, one.rank);
                text.remove(at);
            }
            _ => at += one.bytes,
        }
    }
}
