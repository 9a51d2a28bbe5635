//! Bytes from a reader, with offset and checksum, and the encodings of lengths and strings.
//!
//! Invariants:
//! * No more is allocated than has arrived, but for the block that is being read.
//! * The checksum covers exactly what was taken.

use std::io::Read;

use super::RdbError;

/// Read at once, and allocated at most before the bytes are there.
const BLOCK: usize = 64 * 1024;
/// LZF copies at most 264 bytes for three bytes of input.
const LZF_EXPANSION_MAX: usize = 88;

/// See the module.
pub(crate) struct Source<'a> {
    reader: &'a mut dyn Read,
    block: Box<[u8]>,
    start: usize,
    end: usize,
    /// How much of the block the checksum covers.
    summed: usize,
    /// Offset of the block.
    base: u64,
    checksum: crc_fast::Digest,
}

/// A length, or a special encoding of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Plain(u64),
    Encoded(u8),
}

impl<'a> Source<'a> {
    /// Reads in blocks: it may take more from `reader` than it gives out.
    pub(crate) fn new(reader: &'a mut dyn Read) -> Source<'a> {
        Source::of(reader, BLOCK)
    }

    /// The same for a reader that has `len` bytes.
    pub(crate) fn of(reader: &'a mut dyn Read, len: usize) -> Source<'a> {
        let checksum = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Redis);
        let block = vec![0; len.clamp(1, BLOCK)].into_boxed_slice();
        Source { reader, block, start: 0, end: 0, summed: 0, base: 0, checksum }
    }

    /// Offset of the next byte.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// An error at the present offset.
    pub(crate) fn malformed(&self, why: impl Into<String>) -> RdbError {
        RdbError::Malformed { at: self.offset(), why: why.into() }
    }

    /// The checksum of all that was taken.
    pub(crate) fn checksum(&mut self) -> u64 {
        self.checksum.update(&self.block[self.summed..self.start]);
        self.summed = self.start;
        self.checksum.finalize()
    }

    /// Makes sure that a byte is there.
    fn fill(&mut self) -> Result<(), RdbError> {
        if self.start < self.end {
            return Ok(());
        }
        self.checksum.update(&self.block[self.summed..self.start]);
        self.base += self.end as u64;
        (self.start, self.end, self.summed) = (0, 0, 0);
        loop {
            match self.reader.read(&mut self.block) {
                Ok(0) => return Err(self.malformed("the data ends here")),
                Ok(count) => {
                    self.end = count;
                    return Ok(());
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(RdbError::Io { at: self.offset(), error }),
            }
        }
    }

    /// One byte.
    pub(crate) fn byte(&mut self) -> Result<u8, RdbError> {
        self.fill()?;
        self.start += 1;
        Ok(self.block[self.start - 1])
    }

    /// A fixed number of bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        Ok(bytes)
    }

    /// `len` bytes; grows as they arrive.
    pub(super) fn bytes(&mut self, len: u64) -> Result<Vec<u8>, RdbError> {
        let mut left = usize::try_from(len).map_err(|_| self.malformed(format!("{len} bytes")))?;
        let mut out = Vec::with_capacity(left.min(BLOCK));
        while left > 0 {
            self.fill()?;
            let part = left.min(self.end - self.start);
            if out.capacity() - out.len() < part {
                // Exact for what is announced as soon as half of it has arrived, else by doubling.
                out.reserve_exact(if left <= out.len() { left } else { part.max(out.len()) });
            }
            out.extend_from_slice(&self.block[self.start..self.start + part]);
            self.start += part;
            left -= part;
        }
        out.shrink_to_fit();
        Ok(out)
    }

    /// Passes over `len` bytes.
    pub(super) fn pass(&mut self, len: u64) -> Result<(), RdbError> {
        let mut left = len;
        while left > 0 {
            self.fill()?;
            let part = left.min((self.end - self.start) as u64);
            self.start += part as usize;
            left -= part;
        }
        Ok(())
    }

    /// A length or the mark of an encoding.
    pub(super) fn length_or_encoding(&mut self) -> Result<Length, RdbError> {
        let first = self.byte()?;
        let low = first & 0x3f;
        Ok(match first >> 6 {
            0 => Length::Plain(u64::from(low)),
            1 => Length::Plain(u64::from(low) << 8 | u64::from(self.byte()?)),
            2 if first == 0x80 => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
            2 if first == 0x81 => Length::Plain(u64::from_be_bytes(self.array()?)),
            2 => return Err(self.malformed(format!("length encoding {first:#04x}"))),
            _ => Length::Encoded(low),
        })
    }

    /// A length.
    pub(crate) fn length(&mut self) -> Result<u64, RdbError> {
        match self.length_or_encoding()? {
            Length::Plain(len) => Ok(len),
            Length::Encoded(_) => Err(self.malformed("a string encoding instead of a length")),
        }
    }

    /// A string in any of its encodings.
    pub(crate) fn string(&mut self) -> Result<Vec<u8>, RdbError> {
        let text = |n: i32| n.to_string().into_bytes();
        Ok(match self.length_or_encoding()? {
            Length::Plain(len) => self.bytes(len)?,
            Length::Encoded(0) => text(i32::from(i8::from_le_bytes(self.array()?))),
            Length::Encoded(1) => text(i32::from(i16::from_le_bytes(self.array()?))),
            Length::Encoded(2) => text(i32::from_le_bytes(self.array()?)),
            Length::Encoded(3) => self.compressed()?,
            Length::Encoded(other) => return Err(self.malformed(format!("string encoding {other}"))),
        })
    }

    /// A string that holds elements in a packed form.
    pub(crate) fn packed<T>(&mut self, decode: fn(&[u8]) -> Result<T, &'static str>) -> Result<T, RdbError> {
        let bytes = self.string()?;
        decode(&bytes).map_err(|why| self.malformed(why))
    }

    fn compressed(&mut self) -> Result<Vec<u8>, RdbError> {
        let (packed, len) = (self.length()?, self.length()?);
        let packed = self.bytes(packed)?;
        let len = usize::try_from(len).ok().filter(|len| *len <= packed.len().saturating_mul(LZF_EXPANSION_MAX));
        let len = len.ok_or_else(|| self.malformed("compressed string announces too much"))?;
        let out = lzf::decompress(&packed, len).map_err(|e| self.malformed(format!("compressed string: {e}")))?;
        if out.len() == len {
            Ok(out)
        } else {
            Err(self.malformed(format!("compressed string of {} instead of {len} bytes", out.len())))
        }
    }

    /// Passes over a string.
    pub(super) fn pass_string(&mut self) -> Result<(), RdbError> {
        match self.length_or_encoding()? {
            Length::Plain(len) => self.pass(len),
            Length::Encoded(n @ 0..=2) => self.pass(1 << n),
            Length::Encoded(3) => {
                let packed = self.length()?;
                self.length()?;
                self.pass(packed)
            }
            Length::Encoded(other) => Err(self.malformed(format!("string encoding {other}"))),
        }
    }
}
