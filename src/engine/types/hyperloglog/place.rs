//! Where an element goes: its register and its rank, from one hash.
//!
//! The hash is MurmurHash64A (Austin Appleby) with Redis's seed, which can never change: registers of
//! different hashes have nothing to do with each other.

/// Bits of the hash that choose a register.
const INDEX_BITS: u32 = 14;
/// How many registers there are.
pub(super) const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of the hash that are left for the rank.
pub(super) const RANK_BITS: u32 = 64 - INDEX_BITS;

const SEED: u64 = 0xadc8_3b19;
const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;
const SHIFT: u32 = 47;

fn murmur64a(text: &[u8]) -> u64 {
    let (words, tail) = text.as_chunks::<8>();
    let mut hash = SEED ^ (text.len() as u64).wrapping_mul(MULTIPLIER);
    for word in words {
        let mut k = u64::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        k ^= k >> SHIFT;
        hash = (hash ^ k.wrapping_mul(MULTIPLIER)).wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        let tail = tail.iter().rev().fold(0, |tail, byte| tail << 8 | u64::from(*byte));
        hash = (hash ^ tail).wrapping_mul(MULTIPLIER);
    }
    hash = (hash ^ hash >> SHIFT).wrapping_mul(MULTIPLIER);
    hash ^ hash >> SHIFT
}

/// Where an element goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The register.
    pub(super) index: usize,
    /// One more than the zeros that the rest of the hash begins with: 1 to 51.
    pub(super) rank: u8,
}

impl Place {
    /// The place of an element.
    pub(super) fn of(element: &[u8]) -> Place {
        let hash = murmur64a(element);
        let rest = hash >> INDEX_BITS | 1 << RANK_BITS;
        Place { index: hash as usize % REGISTERS, rank: rest.trailing_zeros() as u8 + 1 }
    }
}
