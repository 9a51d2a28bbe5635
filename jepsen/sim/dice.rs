//! Random choices that a seed decides.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// A generator whose sequence never changes with a version.
#[derive(Debug)]
pub struct Dice(Pcg64Mcg);

impl Dice {
    /// One generator for each seed and stream.
    pub fn new(seed: u64, stream: u64) -> Dice {
        Dice(Pcg64Mcg::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stream))
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64() % n
    }

    /// A number of `from..=to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True in `percent` of the cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
