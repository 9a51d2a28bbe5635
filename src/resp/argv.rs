//! A command's arguments as slices of one frame.
//!
//! The frame is the canonical RESP array of bulk strings. It is copied once, from the read buffer
//! into the log entry, and sliced from then on.
//!
//! Invariants: the ranges lie within the frame, and the frame is exactly what [`Argv::from_parts`]
//! would print for the same arguments.

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

/// Start and end of one argument within the frame, in bytes. Frames stay below 4 GiB.
type Range = (u32, u32);

/// The arguments of one command, its name first. Never empty. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Argv {
    frame: Bytes,
    ranges: SmallVec<[Range; 6]>,
}

/// Why bytes that should be a canonical frame are not one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a canonical RESP array of bulk strings, at byte {at}")]
pub struct ArgvError {
    /// Offset of the first wrong byte.
    pub at: usize,
}

impl Argv {
    /// Takes a frame and ranges that the decoder found in it.
    pub(crate) fn from_frame(frame: Bytes, ranges: SmallVec<[Range; 6]>) -> Argv {
        debug_assert!(!ranges.is_empty(), "a command has a name");
        Argv { frame, ranges }
    }

    /// Encodes arguments into a new canonical frame.
    ///
    /// # Panics
    /// When there is no argument, or when the frame would pass 4 GiB; callers bound their input.
    pub fn from_parts<T: AsRef<[u8]>>(parts: &[T]) -> Argv {
        assert!(!parts.is_empty(), "a command has a name");
        let size = parts.iter().map(|p| p.as_ref().len() + 16).sum::<usize>() + 16;
        let mut frame = BytesMut::with_capacity(size);
        let mut ranges = SmallVec::with_capacity(parts.len());
        put_header(&mut frame, b'*', parts.len());
        for part in parts {
            let part = part.as_ref();
            put_header(&mut frame, b'$', part.len());
            let start = frame.len();
            frame.put_slice(part);
            ranges.push((offset(start), offset(frame.len())));
            frame.put_slice(b"\r\n");
        }
        Argv { frame: frame.freeze(), ranges }
    }

    /// Parses exactly one canonical frame, as a log entry holds it. Slices, never copies.
    ///
    /// # Errors
    /// With the offset of the first byte that is not canonical; trailing bytes count as wrong.
    pub fn parse(frame: Bytes) -> Result<Argv, ArgvError> {
        let mut at = 0;
        let ranges = places(&frame, &mut at)?;
        if at == frame.len() { Ok(Argv { frame, ranges }) } else { Err(ArgvError { at }) }
    }

    /// Parses the canonical frame that begins at `at`, and moves `at` behind it. Slices, never copies.
    ///
    /// # Errors
    /// With the offset, from the beginning of the frame, of the first byte that is not canonical.
    pub fn read(bytes: &Bytes, at: &mut usize) -> Result<Argv, ArgvError> {
        let mut len = 0;
        let ranges = places(&bytes[*at..], &mut len)?;
        let frame = bytes.slice(*at..*at + len);
        *at += len;
        Ok(Argv { frame, ranges })
    }

    /// The number of arguments, the name included; at least 1.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Argument `i`, or nothing when there are fewer.
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        self.ranges.get(i).map(|&(start, end)| &self.frame[start as usize..end as usize])
    }

    /// Argument `i` as a counted slice of the frame, without a copy.
    pub fn slice(&self, i: usize) -> Option<Bytes> {
        self.ranges.get(i).map(|&(start, end)| self.frame.slice(start as usize..end as usize))
    }

    /// All arguments, the name first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + DoubleEndedIterator + Clone + '_ {
        self.ranges.iter().map(|&(start, end)| &self.frame[start as usize..end as usize])
    }

    /// The canonical encoding.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The same command in an allocation of its own, so that it does not pin a read buffer.
    pub fn detached(&self) -> Argv {
        Argv { frame: Bytes::copy_from_slice(&self.frame), ranges: self.ranges.clone() }
    }
}

impl std::ops::Index<usize> for Argv {
    type Output = [u8];

    /// Argument `i`. Panics when there are fewer: arity is checked before a handler runs.
    fn index(&self, i: usize) -> &[u8] {
        let (start, end) = self.ranges[i];
        &self.frame[start as usize..end as usize]
    }
}

impl std::fmt::Debug for Argv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|a| String::from_utf8_lossy(a).into_owned())).finish()
    }
}

fn offset(n: usize) -> u32 {
    u32::try_from(n).expect("frames are bounded by the query buffer limit, below 4 GiB")
}

/// Prints `*3\r\n` or `$3\r\n`.
pub(crate) fn put_header(out: &mut BytesMut, kind: u8, n: usize) {
    let mut digits = itoa::Buffer::new();
    out.put_u8(kind);
    out.put_slice(digits.format(n).as_bytes());
    out.put_slice(b"\r\n");
}

/// The places of the arguments of the canonical frame that begins at `at`, which moves behind it.
fn places(frame: &[u8], at: &mut usize) -> Result<SmallVec<[Range; 6]>, ArgvError> {
    let count = header(frame, at, b'*')?;
    if count == 0 {
        return Err(ArgvError { at: 1 });
    }
    // The count is not trusted: an argument takes at least five bytes ("$0\r\n\r\n" is six).
    let mut ranges = SmallVec::with_capacity(count.min(frame.len() / 5));
    for _ in 0..count {
        let len = header(frame, at, b'$')?;
        // What is left decides, so that no announced length can overflow.
        if len > (frame.len() - *at).saturating_sub(2) || frame.len() < *at + 2 {
            return Err(ArgvError { at: *at });
        }
        let end = *at + len;
        if &frame[end..end + 2] != b"\r\n" {
            return Err(ArgvError { at: end });
        }
        ranges.push((offset(*at), offset(end)));
        *at = end + 2;
    }
    Ok(ranges)
}

/// Reads a canonical `<kind><digits>\r\n` and moves `at` behind it.
fn header(frame: &[u8], at: &mut usize, kind: u8) -> Result<usize, ArgvError> {
    let wrong = |at| Err(ArgvError { at });
    if frame.get(*at) != Some(&kind) {
        return wrong(*at);
    }
    *at += 1;
    let start = *at;
    let mut n = 0usize;
    while let Some(digit) = frame.get(*at).filter(|b| b.is_ascii_digit()) {
        n = match n.checked_mul(10).and_then(|n| n.checked_add((digit - b'0') as usize)) {
            Some(n) => n,
            None => return wrong(*at),
        };
        *at += 1;
    }
    let digits = *at - start;
    let canonical = digits == 1 || (digits > 1 && frame[start] != b'0');
    if !canonical || frame.get(*at..*at + 2) != Some(b"\r\n") {
        return wrong(*at);
    }
    *at += 2;
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_parse_agree() {
        let argv = Argv::from_parts(&["SET", "key", ""]);
        assert_eq!(&argv.frame()[..], b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$0\r\n\r\n");
        let parsed = Argv::parse(argv.frame().clone()).expect("canonical");
        assert_eq!(parsed, argv);
        assert_eq!(&parsed[1], b"key");
    }

    #[test]
    fn frames_that_stand_one_behind_the_other_are_read_in_turn() {
        let (first, second) = (Argv::from_parts(&["GET", "a"]), Argv::from_parts(&["SET", "b", "value"]));
        let (bytes, mut at) = (Bytes::from([&first.frame()[..], second.frame()].concat()), 0);
        assert_eq!([Argv::read(&bytes, &mut at), Argv::read(&bytes, &mut at)], [Ok(first), Ok(second)]);
        assert_eq!(at, bytes.len());
        assert_eq!(Argv::read(&bytes, &mut at), Err(ArgvError { at: 0 }));
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        for wrong in [
            "",
            "*0\r\n",
            "*01\r\n$1\r\na\r\n",
            "*1\r\n$01\r\na\r\n",
            "*1\r\n$1\r\na\r\nx",
            "*9\r\n$1\r\na\r\n",
            "*1\r\n$99999999999999999999999\r\na\r\n",
            "*1\r\n$18446744073709551615\r\na\r\n",
            "*1\r\n$18446744073709551586\r\na\r\n",
            "*1\r\n$0\r\n\r",
            "*1\r\n$2\r\na\r\n",
        ] {
            assert!(Argv::parse(Bytes::from(wrong)).is_err(), "{wrong:?}");
        }
    }
}
