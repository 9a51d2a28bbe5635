//! How many elements there were, from how often each register value occurs.
//!
//! The estimator is Otmar Ertl's ("New cardinality estimation algorithms for HyperLogLog sketches", 2017),
//! with which Redis counts as well. It needs only the four operations and the square root, which IEEE 754
//! rounds in one way: replicas cannot disagree.

use super::dense;
use super::header::{self, Encoding};
use super::place::{RANK_BITS, REGISTERS};
use super::sparse;
use crate::Error;

/// 1 / (2 ln 2).
const ALPHA: f64 = 0.721_347_520_444_481_7;
/// What six bits can hold.
const VALUES: usize = 64;
/// The highest rank that an element has.
const RANK_MAX: usize = RANK_BITS as usize + 1;

/// How many registers have each value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Histogram([u32; VALUES]);

impl Histogram {
    /// Of registers.
    pub(super) fn new(registers: impl Iterator<Item = u8>) -> Histogram {
        let mut counts = [0; VALUES];
        registers.for_each(|rank| counts[usize::from(rank) % VALUES] += 1);
        Histogram(counts)
    }

    /// Of a value.
    ///
    /// # Errors
    /// When it is no HyperLogLog or a damaged one.
    pub(super) fn of(text: &[u8]) -> Result<Histogram, Error> {
        let encoding = Encoding::of(text)?;
        let body = &text[header::LEN..];
        if encoding == Encoding::Dense {
            return Ok(Histogram::new(dense::registers(body)));
        }
        let mut counts = [0; VALUES];
        sparse::each_run(body, |_, run| counts[usize::from(run.rank)] += run.len as u32)?;
        Ok(Histogram(counts))
    }

    /// The number of elements.
    pub(super) fn estimate(&self) -> i64 {
        let registers = REGISTERS as f64;
        let count = |rank: usize| f64::from(self.0[rank]);
        let mut sum = registers * tau((registers - count(RANK_MAX)) / registers);
        for rank in (1..RANK_MAX).rev() {
            sum = (sum + count(rank)) * 0.5;
        }
        sum += registers * sigma(count(0) / registers);
        (ALPHA * registers * registers / sum).round() as i64
    }
}

/// The share of registers that no element has fallen into.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// The share of registers that are below the highest rank.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}
