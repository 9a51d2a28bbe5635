//! Commands from bytes: arrays of bulk strings, and inline commands as a person types them. Step 2.
//!
//! The decoder remembers how far it came in a frame that is still arriving, so a large argument is
//! scanned once, and it hands out slices of the read buffer: no argument is copied here. The limits
//! and the error texts are Redis's (`networking.c` names them; clients and suites compare them).
//!
//! Invariants: nothing is allocated for an announced length, and after an error the decoder must not
//! be used again, because the position in the stream is lost.

use bytes::{Buf, BytesMut};
use smallvec::SmallVec;

use crate::{Argv, Reply};

/// Inline commands and header lines are at most this long, in bytes, as in Redis.
const INLINE_BYTES_MAX: usize = 64 * 1024;
/// What an unauthenticated client may send: ten arguments of 16 KiB, as in Redis.
const UNAUTHENTICATED_ARGUMENTS_MAX: i64 = 10;
const UNAUTHENTICATED_BULK_BYTES_MAX: i64 = 16 * 1024;

/// What a connection may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest argument, in bytes (`proto-max-bulk-len`).
    pub bulk_bytes_max: u64,
    /// The most arguments of a command; Redis allows 2^31 - 1 announced, memory bounds the rest.
    pub arguments_max: i64,
    /// Whether the small limits for unknown clients hold.
    pub authenticated: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bulk_bytes_max: 512 * 1024 * 1024, arguments_max: i64::from(i32::MAX), authenticated: true }
    }
}

/// The stream cannot be understood any more; the text goes to the client, then the connection ends.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
#[error("Protocol error: {0}")]
pub struct ProtocolError(pub String);

impl ProtocolError {
    /// What the client is told. A byte that is quoted stands in the text as the character of its number.
    pub fn reply(&self) -> Reply {
        Reply::Error(format!("ERR {self}").chars().map(|c| c as u8).collect())
    }
}

/// Finds commands in a read buffer.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of the current frame that are already understood.
    at: usize,
    /// Arguments that are still to come; nothing before the header line is read.
    pending: Option<i64>,
    /// The announced length of the argument that is arriving.
    bulk: Option<usize>,
    ranges: SmallVec<[(u32, u32); 6]>,
    /// A header was not written canonically, so the frame must be printed anew.
    sloppy: bool,
}

impl Decoder {
    /// Takes the next command from `buffer`, or nothing when it has not all arrived.
    ///
    /// # Errors
    /// With Redis's text when the bytes are no command or pass a limit.
    pub fn decode(&mut self, buffer: &mut BytesMut, limits: &Limits) -> Result<Option<Argv>, ProtocolError> {
        loop {
            if self.pending.is_none() {
                match buffer.first() {
                    None => return Ok(None),
                    Some(b'*') => {
                        if !self.array_header(buffer, limits)? {
                            return Ok(None);
                        }
                    }
                    Some(_) => match inline(buffer)? {
                        Inline::Partial => return Ok(None),
                        Inline::Empty => continue,
                        Inline::Command(argv) => return Ok(Some(argv)),
                    },
                }
                if self.pending.is_some_and(|n| n <= 0) {
                    // Redis ignores empty and null arrays.
                    buffer.advance(self.at);
                    *self = Decoder::default();
                    continue;
                }
            }
            return if self.arguments(buffer, limits)? { Ok(Some(self.finish(buffer))) } else { Ok(None) };
        }
    }

    /// Bytes that the current frame still needs at least; lets the reader grow its buffer once.
    pub fn missing(&self, buffered: usize) -> usize {
        self.bulk.map_or(0, |len| (self.at + len + 2).saturating_sub(buffered))
    }

    fn array_header(&mut self, buffer: &BytesMut, limits: &Limits) -> Result<bool, ProtocolError> {
        let Some((n, sloppy)) = self.header(buffer, "too big mbulk count string", "invalid multibulk length")? else {
            return Ok(false);
        };
        if n > limits.arguments_max {
            return Err(ProtocolError("invalid multibulk length".into()));
        }
        if n > UNAUTHENTICATED_ARGUMENTS_MAX && !limits.authenticated {
            return Err(ProtocolError("unauthenticated multibulk length".into()));
        }
        self.sloppy |= sloppy;
        self.pending = Some(n);
        Ok(true)
    }

    fn arguments(&mut self, buffer: &BytesMut, limits: &Limits) -> Result<bool, ProtocolError> {
        while self.pending.is_some_and(|n| n > 0) {
            if self.bulk.is_none() {
                let Some((len, sloppy)) = self.header(buffer, "too big bulk count string", "invalid bulk length")?
                else {
                    return Ok(false);
                };
                if len < 0 || len as u64 > limits.bulk_bytes_max {
                    return Err(ProtocolError("invalid bulk length".into()));
                }
                if len > UNAUTHENTICATED_BULK_BYTES_MAX && !limits.authenticated {
                    return Err(ProtocolError("unauthenticated bulk length".into()));
                }
                self.sloppy |= sloppy;
                self.bulk = Some(len as usize);
            }
            let len = self.bulk.expect("set above");
            let end = self.at + len;
            if buffer.len() < end + 2 {
                return Ok(false);
            }
            let too_long = |_| ProtocolError("frame of more than 4 GiB".into());
            self.ranges.push((u32::try_from(self.at).map_err(too_long)?, u32::try_from(end).map_err(too_long)?));
            // Redis does not look at the two bytes behind an argument; a frame must be canonical here.
            self.sloppy |= &buffer[end..end + 2] != b"\r\n";
            self.at = end + 2;
            self.bulk = None;
            self.pending = self.pending.map(|n| n - 1);
        }
        Ok(true)
    }

    /// Reads `<kind><number>\r\n` at the current position; also says whether it was sloppy.
    fn header(
        &mut self,
        buffer: &BytesMut,
        too_long: &str,
        invalid: &str,
    ) -> Result<Option<(i64, bool)>, ProtocolError> {
        let rest = &buffer[self.at..];
        let window = &rest[..rest.len().min(INLINE_BYTES_MAX)];
        let Some(cr) = memchr::memchr(b'\r', window) else {
            let full = window.len() == INLINE_BYTES_MAX;
            return if full { Err(ProtocolError(too_long.into())) } else { Ok(None) };
        };
        if rest.len() < cr + 2 {
            return Ok(None);
        }
        // As in Redis, a wrong kind shows only when its line is whole. Arrays were told apart before.
        if self.pending.is_some() && rest[0] != b'$' {
            return Err(ProtocolError(format!("expected '$', got '{}'", rest[0] as char)));
        }
        let digits = &rest[1..cr];
        let n = number(digits).ok_or_else(|| ProtocolError(invalid.into()))?;
        let canonical = rest[cr + 1] == b'\n' && n >= 0;
        self.at += cr + 2;
        Ok(Some((n, !canonical)))
    }

    fn finish(&mut self, buffer: &mut BytesMut) -> Argv {
        let done = std::mem::take(self);
        let frame = buffer.split_to(done.at).freeze();
        if !done.sloppy {
            return Argv::from_frame(frame, done.ranges);
        }
        let parts: Vec<&[u8]> = done.ranges.iter().map(|&(start, end)| &frame[start as usize..end as usize]).collect();
        Argv::from_parts(&parts)
    }
}

/// A number as `string2ll` reads it: digits with an optional minus, no leading zero, nothing else.
fn number(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = digits.first().is_some_and(|d| (b'1'..=b'9').contains(d)) || text == b"0";
    if !canonical || text.len() > 20 {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

enum Inline {
    Partial,
    Empty,
    Command(Argv),
}

fn inline(buffer: &mut BytesMut) -> Result<Inline, ProtocolError> {
    let Some(end) = memchr::memchr(b'\n', &buffer[..buffer.len().min(INLINE_BYTES_MAX)]) else {
        let full = buffer.len() >= INLINE_BYTES_MAX;
        return if full { Err(ProtocolError("too big inline request".into())) } else { Ok(Inline::Partial) };
    };
    let line = buffer.split_to(end + 1);
    let line = line[..end].strip_suffix(b"\r").unwrap_or(&line[..end]);
    let parts = split_quoted(line).ok_or_else(|| ProtocolError("unbalanced quotes in request".into()))?;
    Ok(if parts.is_empty() { Inline::Empty } else { Inline::Command(Argv::from_parts(&parts)) })
}

/// Splits a line at blanks, with the quotes and escapes of Redis's command line and configuration files;
/// nothing when a quote is not closed.
pub fn split_quoted(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut parts = Vec::new();
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|b| b.is_ascii_whitespace()) {
            at += 1;
        }
        if at == line.len() {
            return Some(parts);
        }
        let mut part = Vec::new();
        while let Some(&b) = line.get(at).filter(|b| !b.is_ascii_whitespace() && **b != 0) {
            at += 1;
            match b {
                b'"' => at = double_quoted(line, at, &mut part)?,
                b'\'' => at = single_quoted(line, at, &mut part)?,
                other => part.push(other),
            }
        }
        if line.get(at) == Some(&0) {
            at = line.len();
        }
        parts.push(part);
    }
}

/// Reads up to the closing quote, which must end the word. Returns the position behind it.
fn double_quoted(line: &[u8], mut at: usize, part: &mut Vec<u8>) -> Option<usize> {
    let hex = |b: Option<&u8>| b.and_then(|b| (*b as char).to_digit(16)).map(|d| d as u8);
    loop {
        match line.get(at)? {
            b'\\'
                if line.get(at + 1) == Some(&b'x')
                    && hex(line.get(at + 2)).is_some()
                    && hex(line.get(at + 3)).is_some() =>
            {
                part.push(hex(line.get(at + 2))? * 16 + hex(line.get(at + 3))?);
                at += 4;
            }
            b'\\' => {
                part.push(match line.get(at + 1)? {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                at += 2;
            }
            b'"' => return closed(line, at + 1),
            other => {
                part.push(*other);
                at += 1;
            }
        }
    }
}

fn single_quoted(line: &[u8], mut at: usize, part: &mut Vec<u8>) -> Option<usize> {
    loop {
        match line.get(at)? {
            b'\\' if line.get(at + 1) == Some(&b'\'') => {
                part.push(b'\'');
                at += 2;
            }
            b'\'' => return closed(line, at + 1),
            other => {
                part.push(*other);
                at += 1;
            }
        }
    }
}

fn closed(line: &[u8], at: usize) -> Option<usize> {
    line.get(at).is_none_or(|b| b.is_ascii_whitespace()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(input: &[u8], step: usize, limits: &Limits) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let (mut decoder, mut buffer, mut out) = (Decoder::default(), BytesMut::new(), Vec::new());
        for chunk in input.chunks(step.max(1)) {
            buffer.extend_from_slice(chunk);
            while let Some(argv) = decoder.decode(&mut buffer, limits)? {
                assert_eq!(Argv::parse(argv.frame().clone()).as_ref(), Ok(&argv), "frames are canonical");
                out.push(argv.iter().map(<[u8]>::to_vec).collect());
            }
        }
        Ok(out)
    }

    fn words(parts: &[&str]) -> Vec<Vec<u8>> {
        parts.iter().map(|p| p.as_bytes().to_vec()).collect()
    }

    #[test]
    fn arrays_inline_and_sloppy_headers() {
        let input = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING  \"a\\x41\\n\" 'b\\'c'\r\n\r\n*0\r\n*-1\r\n*1\rx$4\rxPINGxx";
        for step in [1, 2, 3, 7, 100] {
            let got = all(input, step, &Limits::default()).expect("valid");
            assert_eq!(got, [words(&["GET", "k"]), words(&["PING", "aA\n", "b'c"]), words(&["PING"])]);
        }
    }

    #[test]
    fn errors_carry_the_texts_of_redis() {
        let unknown = Limits { authenticated: false, ..Limits::default() };
        for (input, limits, text) in [
            ("*x\r\n", Limits::default(), "invalid multibulk length"),
            ("*01\r\n", Limits::default(), "invalid multibulk length"),
            ("*-0\r\n", Limits::default(), "invalid multibulk length"),
            ("*1\r\n$04\r\n", Limits::default(), "invalid bulk length"),
            ("*3000000000\r\n", Limits::default(), "invalid multibulk length"),
            ("*1\r\nfoo\r\n", Limits::default(), "expected '$', got 'f'"),
            ("*1\r\n$-1\r\n", Limits::default(), "invalid bulk length"),
            ("*1\r\n$9999999999\r\n", Limits::default(), "invalid bulk length"),
            ("\"a\r\n", Limits::default(), "unbalanced quotes in request"),
            ("*11\r\n", unknown, "unauthenticated multibulk length"),
            ("*1\r\n$16385\r\n", unknown, "unauthenticated bulk length"),
        ] {
            assert_eq!(all(input.as_bytes(), 1, &limits), Err(ProtocolError(text.into())), "{input:?}");
        }
        let long = "x".repeat(70_000);
        assert_eq!(all(long.as_bytes(), 999, &Limits::default()), Err(ProtocolError("too big inline request".into())));
        let long = format!("*{}", "1".repeat(70_000));
        assert_eq!(
            all(long.as_bytes(), 999, &Limits::default()),
            Err(ProtocolError("too big mbulk count string".into()))
        );
    }

    #[test]
    fn a_quoted_byte_goes_back_as_it_came_and_cannot_end_the_line() {
        for (byte, want) in [(b'f', b'f'), (0xff, 0xff), (b'\r', b' '), (0, 0)] {
            let (mut buffer, mut out) = (BytesMut::from(&[b'*', b'1', b'\r', b'\n', byte][..]), BytesMut::new());
            let mut decoder = Decoder::default();
            assert_eq!(decoder.decode(&mut buffer, &Limits::default()), Ok(None), "its line is not whole");
            buffer.extend_from_slice(b"\r\n");
            let error = decoder.decode(&mut buffer, &Limits::default()).expect_err("no bulk string");
            crate::encode(&error.reply(), crate::Protocol::Resp2, &mut out);
            assert_eq!(&out[..], [&b"-ERR Protocol error: expected '$', got '"[..], &[want], b"'\r\n"].concat());
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_commands(input in proptest::collection::vec(
            proptest::sample::select(b"*$0123\r\n-ab \"'\\x".to_vec()), 0..60), step in 1usize..9) {
            prop_assert_eq!(all(&input, step, &Limits::default()), all(&input, 1, &Limits::default()));
        }
    }
}
