//! The data of the load: keys, values and a small generator.
//!
//! Values are cut from a pool of random printable bytes, so that no server gains by compressing a
//! constant. The generator is xorshift64*: good enough to spread keys, and cheap enough not to be
//! seen in the client's time.

/// The number of keys that a load touches.
pub const KEYS: u64 = 100_000;
/// The length of every value.
pub const VALUE_BYTES: usize = 64;
const POOL_BYTES: usize = 64 * 1024;

/// A pseudo-random sequence that follows from its seed.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        // Zero is the one state that xorshift never leaves.
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`, which must fit 32 bits.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((self.next() >> 32) * bound) >> 32
    }
}

/// Random bytes from which values are cut.
#[derive(Debug)]
pub struct ValuePool(Vec<u8>);

impl ValuePool {
    pub fn new(seed: u64) -> ValuePool {
        const ALPHABET: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._";
        let mut random = Random::new(seed);
        let pool = (0..POOL_BYTES + VALUE_BYTES).map(|_| ALPHABET[random.below(64) as usize]);
        ValuePool(pool.collect())
    }

    /// A value of `VALUE_BYTES` from a random place of the pool.
    pub fn pick(&self, random: &mut Random) -> &[u8] {
        let start = random.below(POOL_BYTES as u64) as usize;
        &self.0[start..start + VALUE_BYTES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spread_evenly() {
        let mut random = Random::new(7);
        let mut counts = [0_u32; 10];
        for _ in 0..100_000 {
            counts[random.below(10) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn values_differ_and_are_printable() {
        let (pool, mut random) = (ValuePool::new(1), Random::new(2));
        let first = pool.pick(&mut random).to_vec();
        assert_eq!(first.len(), VALUE_BYTES);
        assert!(first.iter().all(u8::is_ascii_graphic));
        assert_ne!(first, pool.pick(&mut random));
    }
}
