//! The packed encodings that fill one string of an RDB file: listpack, ziplist, intset, zipmap.
//!
//! Redis keeps small lists, hashes, sets, sorted sets and the entries of streams as one run of bytes and
//! writes that run as it is. Redis 7 and 8 write listpacks and intsets; ziplists are of versions up to 6,
//! zipmaps of 2.4 and before. Numbers are little-endian where nothing else is said:
//! * listpack: bytes in all (32 bits), elements (16), the elements, `0xff`. An element is its encoding,
//!   its data, and the length of both once more, to be read from behind.
//! * ziplist: bytes in all (32 bits), offset of the last element (32), elements (16), the elements, `0xff`.
//!   An element is the length of the one before it, its encoding, its data.
//! * intset: width of a number (32 bits), numbers (32), the numbers in ascending order.
//! * zipmap: pairs (8 bits), the pairs, `0xff`. A pair is length, field, length, unused bytes, value.
//!
//! Invariants:
//! * Reading is total: any bytes give elements or the reason why not, and nothing is read past them.
//! * An element takes a byte of input at least and is allocated when it is there: what is allocated is
//!   bounded by the input, whatever lengths and counts it announces.
//! * What says the same thing twice (lengths, counts, offsets) is compared; nothing follows the end.
//! * Empty is read as empty. Redis refuses keys without elements, which is for the caller to say.

use crate::number;

/// Behind the last element; no element begins with it.
const END: u8 = 0xff;
/// The count of elements that a listpack or ziplist cannot express: to be counted.
const COUNT_UNKNOWN: u16 = u16::MAX;
/// In front of a length of four bytes, where one byte does not do.
const LONG_LENGTH: u8 = 0xfe;
/// A listpack's length and count.
const LISTPACK_HEADER: usize = 6;

type Result<T> = std::result::Result<T, &'static str>;

/// What is left of the input.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or("packed value ends within an element")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or("packed value ends within a number")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// A length, count or offset of 32 bits.
    fn u32(&mut self) -> Result<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| "packed value is too large")
    }

    /// A string of that length.
    fn string(&mut self, len: usize) -> Result<Vec<u8>> {
        Ok(self.take(len)?.to_vec())
    }

    /// An integer of that many bytes, as text.
    fn int(&mut self, width: usize) -> Result<Vec<u8>> {
        Ok(text(signed(self.take(width)?)))
    }
}

fn text(n: i64) -> Vec<u8> {
    itoa::Buffer::new().format(n).as_bytes().to_vec()
}

/// A signed number of up to eight bytes.
fn signed(bytes: &[u8]) -> i64 {
    let sign = if bytes.last().is_some_and(|high| high & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().rev().fold(sign, |n, byte| n << 8 | i64::from(*byte))
}

/// Room for as many elements as are announced, if the input can hold them.
fn room(count: u16, input: &[u8]) -> Vec<Vec<u8>> {
    Vec::with_capacity(usize::from(count).min(input.len() / 2))
}

/// The elements, when as many as announced were found and nothing follows their end.
fn counted(elements: Vec<Vec<u8>>, count: u16, rest: &Rest<'_>) -> Result<Vec<Vec<u8>>> {
    if !rest.0.is_empty() {
        Err("packed value goes on behind its end")
    } else if count != COUNT_UNKNOWN && usize::from(count) != elements.len() {
        Err("packed value has another number of elements than it says")
    } else {
        Ok(elements)
    }
}

/// The elements of a listpack, integers as decimal text.
///
/// # Errors
/// What is wrong with the bytes.
pub(crate) fn listpack(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut rest = Rest(bytes);
    let (len, count) = (rest.u32()?, rest.u16()?);
    if len != bytes.len() {
        return Err("listpack has another length than it says");
    }
    let mut elements = room(count, bytes);
    loop {
        let before = rest.0.len();
        let first = rest.byte()?;
        if first == END {
            return counted(elements, count, &rest);
        }
        elements.push(listpack_element(first, &mut rest)?);
        let (back, back_len) = back_length(before - rest.0.len());
        if rest.take(back_len)? != &back[..back_len] {
            return Err("listpack element has another length from behind");
        }
    }
}

/// An element from its first byte on, without the length behind it.
fn listpack_element(first: u8, rest: &mut Rest<'_>) -> Result<Vec<u8>> {
    match first {
        0x00..=0x7f => Ok(text(i64::from(first))),
        0x80..=0xbf => rest.string(usize::from(first & 0x3f)),
        0xc0..=0xdf => {
            // The sign is the highest of 13 bits.
            let n = i16::from_be_bytes([first << 3, 0]) | i16::from(rest.byte()?) << 3;
            Ok(text(i64::from(n >> 3)))
        }
        0xe0..=0xef => {
            let len = usize::from(first & 0x0f) << 8 | usize::from(rest.byte()?);
            rest.string(len)
        }
        0xf0 => {
            let len = rest.u32()?;
            rest.string(len)
        }
        0xf1 => rest.int(2),
        0xf2 => rest.int(3),
        0xf3 => rest.int(4),
        0xf4 => rest.int(8),
        _ => Err("listpack element of an unknown encoding"),
    }
}

/// The length of an element as it stands behind it, and how many bytes that takes: seven bits in each,
/// the highest first, and the eighth bit where another one stands before.
fn back_length(len: usize) -> ([u8; 5], usize) {
    // One less than what would fit, from two bytes on: so Redis decides, and it checks it.
    let width = match len {
        0..=127 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    };
    let mut bytes = [0; 5];
    for (i, byte) in bytes[..width].iter_mut().rev().enumerate() {
        *byte = (len >> (7 * i)) as u8 & 0x7f | 0x80;
    }
    bytes[0] &= 0x7f;
    (bytes, width)
}

/// The elements of a ziplist, integers as decimal text.
///
/// # Errors
/// What is wrong with the bytes.
pub(crate) fn ziplist(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut rest = Rest(bytes);
    let (len, tail, count) = (rest.u32()?, rest.u32()?, rest.u16()?);
    if len != bytes.len() {
        return Err("ziplist has another length than it says");
    }
    let mut elements = room(count, bytes);
    let mut last = bytes.len() - rest.0.len();
    let mut before_len = 0;
    loop {
        let at = bytes.len() - rest.0.len();
        let back = match rest.byte()? {
            END if tail == last => return counted(elements, count, &rest),
            END => return Err("ziplist has its last element elsewhere than it says"),
            LONG_LENGTH => rest.u32()?,
            back => usize::from(back),
        };
        if back != before_len {
            return Err("ziplist element has another length before it");
        }
        elements.push(ziplist_element(&mut rest)?);
        (last, before_len) = (at, bytes.len() - rest.0.len() - at);
    }
}

/// An element from its encoding on. Lengths of strings are big-endian.
fn ziplist_element(rest: &mut Rest<'_>) -> Result<Vec<u8>> {
    match rest.byte()? {
        first @ 0x00..=0x3f => rest.string(usize::from(first)),
        first @ 0x40..=0x7f => {
            let len = usize::from(first & 0x3f) << 8 | usize::from(rest.byte()?);
            rest.string(len)
        }
        // The lower six bits are unused; Redis does not look at them.
        0x80..=0xbf => {
            let len = u32::from_be_bytes(rest.array()?);
            rest.string(usize::try_from(len).map_err(|_| "packed value is too large")?)
        }
        0xc0 => rest.int(2),
        0xd0 => rest.int(4),
        0xe0 => rest.int(8),
        0xf0 => rest.int(3),
        0xfe => rest.int(1),
        first @ 0xf1..=0xfd => Ok(text(i64::from(first - 0xf1))),
        _ => Err("ziplist element of an unknown encoding"),
    }
}

/// The numbers of an intset, ascending.
///
/// # Errors
/// What is wrong with the bytes.
pub(crate) fn intset(bytes: &[u8]) -> Result<Vec<i64>> {
    let mut rest = Rest(bytes);
    let (width, count) = (rest.u32()?, rest.u32()?);
    if !matches!(width, 2 | 4 | 8) {
        return Err("intset of an unknown width");
    }
    if rest.0.len() / width != count || rest.0.len() % width != 0 {
        return Err("intset has another number of elements than it says");
    }
    let numbers: Vec<i64> = rest.0.chunks_exact(width).map(signed).collect();
    if numbers.is_sorted_by(|a, b| a < b) { Ok(numbers) } else { Err("intset is not in order") }
}

/// The fields and values of a zipmap, in turn.
///
/// # Errors
/// What is wrong with the bytes.
pub(crate) fn zipmap(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut rest = Rest(bytes);
    let pairs = rest.byte()?;
    let mut elements = room(u16::from(pairs) * 2, bytes);
    while let Some(len) = zipmap_length(&mut rest)? {
        elements.push(rest.string(len)?);
        let len = zipmap_length(&mut rest)?.ok_or("zipmap ends behind a field")?;
        let unused = rest.byte()?;
        elements.push(rest.string(len)?);
        rest.take(usize::from(unused))?;
    }
    let count = if pairs < LONG_LENGTH { u16::from(pairs) * 2 } else { COUNT_UNKNOWN };
    counted(elements, count, &rest)
}

/// A length, or nothing at the end.
fn zipmap_length(rest: &mut Rest<'_>) -> Result<Option<usize>> {
    Ok(match rest.byte()? {
        END => None,
        LONG_LENGTH => Some(rest.u32()?),
        len => Some(usize::from(len)),
    })
}

/// Makes a listpack as Redis makes it, byte for byte.
///
/// Redis's own limit is 1 GiB, far below what the length can express; [`ListpackWriter::len`] is for
/// callers to begin another one in time. The nodes of a list hold at most 65535 elements, because Redis
/// counts those in 16 bits; other values may have more.
#[derive(Debug)]
pub(crate) struct ListpackWriter {
    bytes: Vec<u8>,
    count: usize,
}

impl ListpackWriter {
    pub(crate) fn new() -> ListpackWriter {
        ListpackWriter { bytes: vec![0; LISTPACK_HEADER], count: 0 }
    }

    /// Bytes that it has when it is finished now.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + 1
    }

    /// Adds an element; text that reads as an integer becomes one.
    pub(crate) fn push(&mut self, text: &[u8]) {
        let begin = self.bytes.len();
        match number::integer(text) {
            Some(n) => self.int(n),
            None => self.string(text),
        }
        let (back, back_len) = back_length(self.bytes.len() - begin);
        self.bytes.extend_from_slice(&back[..back_len]);
        self.count += 1;
    }

    fn int(&mut self, n: i64) {
        let bytes = n.to_le_bytes();
        let (mark, width) = match n {
            0..=127 => return self.bytes.push(bytes[0]),
            -4096..=4095 => return self.bytes.extend_from_slice(&[0xc0 | bytes[1] & 0x1f, bytes[0]]),
            -0x8000..=0x7fff => (0xf1, 2),
            -0x80_0000..=0x7f_ffff => (0xf2, 3),
            -0x8000_0000..=0x7fff_ffff => (0xf3, 4),
            _ => (0xf4, 8),
        };
        self.bytes.push(mark);
        self.bytes.extend_from_slice(&bytes[..width]);
    }

    fn string(&mut self, text: &[u8]) {
        let len = u32::try_from(text.len()).expect("a listpack is far below 4 GiB");
        match len {
            0..64 => self.bytes.push(0x80 | len as u8),
            64..4096 => self.bytes.extend_from_slice(&[0xe0 | (len >> 8) as u8, len as u8]),
            _ => {
                self.bytes.push(0xf0);
                self.bytes.extend_from_slice(&len.to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(text);
    }

    /// The listpack.
    ///
    /// # Panics
    /// When it has 4 GiB or more.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.push(END);
        let len = u32::try_from(self.bytes.len()).expect("a listpack is far below 4 GiB");
        let count = u16::try_from(self.count).unwrap_or(COUNT_UNKNOWN);
        self.bytes[..4].copy_from_slice(&len.to_le_bytes());
        self.bytes[4..LISTPACK_HEADER].copy_from_slice(&count.to_le_bytes());
        self.bytes
    }
}

#[cfg(test)]
mod tests;
