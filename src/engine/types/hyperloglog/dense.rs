//! Registers side by side, 6 bits each, from the lowest bit of the first byte on.

use super::place::REGISTERS;

/// Length in bytes.
pub(super) const LEN: usize = REGISTERS * BITS / 8;

const BITS: usize = 6;
const MASK: u8 = (1 << BITS) - 1;

/// One register.
pub(super) fn get(body: &[u8], index: usize) -> u8 {
    let (at, shift) = (index * BITS / 8, index * BITS % 8);
    let high = body.get(at + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([body[at], high]) >> shift) as u8 & MASK
}

/// Raises a register; false when it is as high already.
pub(super) fn raise(body: &mut [u8], index: usize, rank: u8) -> bool {
    if get(body, index) >= rank {
        return false;
    }
    let (at, shift) = (index * BITS / 8, index * BITS % 8);
    let (mask, bits) = (u16::from(MASK) << shift, u16::from(rank) << shift);
    body[at] = body[at] & !(mask as u8) | bits as u8;
    if mask > 0xff {
        body[at + 1] = body[at + 1] & !((mask >> 8) as u8) | (bits >> 8) as u8;
    }
    true
}

/// All registers, in order.
pub(super) fn registers(body: &[u8]) -> impl Iterator<Item = u8> {
    let (groups, _) = body.as_chunks::<3>();
    groups.iter().flat_map(|[a, b, c]| [a & MASK, (a >> 6 | b << 2) & MASK, (b >> 4 | c << 4) & MASK, c >> 2])
}
