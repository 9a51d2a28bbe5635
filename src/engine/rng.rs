//! Random numbers that are a function of the log: seeded by the entry, the same on every replica.
//!
//! SplitMix64 (Steele, Lea, Flood 2014): its outputs are fixed by definition, so a change of a crate's
//! version can never make replicas disagree.

/// A deterministic generator. Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator for `seed`.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0, without bias.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        let zone = u64::MAX - u64::MAX % bound;
        loop {
            let n = self.next_u64();
            if n < zone {
                return n % bound;
            }
        }
    }
}
