//! A reply as a value: what handlers return, the session window keeps and tools read.
//!
//! Replies travel between nodes and rest in snapshots as RESP3; [`ReplyDecoder`] reads that back
//! without loss from [`crate::Protocol::Internal`].

use bytes::{Bytes, BytesMut};

/// One reply. The protocol version is applied only when it is printed.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Nothing is written at all (`CLIENT REPLY OFF`).
    None,
    /// The command had no effect: its slots are not served where it was run. Only nodes see it.
    Elsewhere,
    /// `+OK`, the most frequent status, without an allocation.
    Ok,
    /// A status line.
    Status(Bytes),
    /// An error line without the `-`; its first word is the code.
    Error(Bytes),
    /// A 64-bit signed integer.
    Int(i64),
    /// A binary-safe string.
    Bulk(Bytes),
    /// No value: `$-1` in RESP2, `_` in RESP3.
    Null,
    /// No array: `*-1` in RESP2, `_` in RESP3.
    NullArray,
    /// A double; a bulk string in RESP2.
    Double(f64),
    /// A double with decimals of its own (GEOPOS); a bulk string in RESP2.
    Decimal(Bytes),
    /// A boolean; an integer in RESP2.
    Bool(bool),
    /// Decimal digits of any length; a bulk string in RESP2.
    BigNumber(Bytes),
    /// Text with a three-letter format; a bulk string in RESP2.
    Verbatim([u8; 3], Bytes),
    /// Replies in order.
    Array(Vec<Reply>),
    /// Pairs; a flat array in RESP2.
    Map(Vec<(Reply, Reply)>),
    /// Members without order; an array in RESP2.
    Set(Vec<Reply>),
    /// Out-of-band data; an array in RESP2.
    Push(Vec<Reply>),
    /// Member and score: a flat array in RESP2, an array of pairs in RESP3 (ZRANGE WITHSCORES).
    Pairs(Vec<(Reply, Reply)>),
    /// Name and content: an array of pairs in RESP2, a map in RESP3 (XREAD).
    Keyed(Vec<(Reply, Reply)>),
}

impl Reply {
    /// An error from its whole text, the code first.
    pub fn error(text: impl Into<String>) -> Reply {
        Reply::Error(Bytes::from(text.into()))
    }

    /// A status from its text.
    pub fn status(text: &'static str) -> Reply {
        Reply::Status(Bytes::from_static(text.as_bytes()))
    }

    /// A bulk string, copied.
    pub fn bulk(bytes: impl AsRef<[u8]>) -> Reply {
        Reply::Bulk(Bytes::copy_from_slice(bytes.as_ref()))
    }

    /// Whether this is an error.
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }

    /// Whether this is one of the two nulls.
    pub fn is_null(&self) -> bool {
        matches!(self, Reply::Null | Reply::NullArray)
    }

    /// A rough size in memory in bytes, for windows and output limits.
    pub fn size(&self) -> usize {
        let own = std::mem::size_of::<Reply>();
        own + match self {
            Reply::Status(b)
            | Reply::Error(b)
            | Reply::Bulk(b)
            | Reply::Decimal(b)
            | Reply::BigNumber(b)
            | Reply::Verbatim(_, b) => b.len(),
            Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => items.iter().map(Reply::size).sum(),
            Reply::Map(pairs) | Reply::Pairs(pairs) | Reply::Keyed(pairs) => {
                pairs.iter().map(|(a, b)| a.size() + b.size()).sum()
            }
            Reply::None
            | Reply::Elsewhere
            | Reply::Ok
            | Reply::Int(_)
            | Reply::Null
            | Reply::NullArray
            | Reply::Double(_)
            | Reply::Bool(_) => 0,
        }
    }
}

/// Whole numbers up to this size print all their digits.
const WHOLE_MAX: f64 = (1u64 << 62) as f64;

/// A double as Redis 7.2 and later prints it: the shortest digits that read back the same, whole numbers without
/// a fraction, `inf`, `-inf` and `nan` in lower case. With an exponent where the text would be long otherwise,
/// by Redis's own rule: `12345.5`, but `1.23456789012345e+4`.
pub fn double_text(n: f64) -> String {
    if n.is_nan() {
        return "nan".into();
    }
    if n.is_infinite() {
        return if n > 0.0 { "inf".into() } else { "-inf".into() };
    }
    if n == 0.0 {
        return if n.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    if n.abs() <= WHOLE_MAX && n.trunc() == n {
        return (n as i64).to_string();
    }
    let text = format!("{:e}", n.abs());
    let (mantissa, exponent) = text.split_once('e').expect("LowerExp prints an exponent");
    let digits = mantissa.replace('.', "");
    let exponent: i32 = exponent.parse().expect("LowerExp prints a number");
    format!("{}{}", if n < 0.0 { "-" } else { "" }, placed(&digits, exponent))
}

/// Digits, the first of which stands for 10^`exponent`.
fn placed(digits: &str, exponent: i32) -> String {
    let count = digits.len() as i32;
    let last = exponent + 1 - count;
    if last >= 0 && exponent.abs() < count + 7 {
        return format!("{digits}{}", "0".repeat(last as usize));
    }
    if last < 0 && (last > -7 || exponent.abs() < 4) {
        if exponent < 0 {
            return format!("0.{}{digits}", "0".repeat((-exponent - 1) as usize));
        }
        let (whole, fraction) = digits.split_at(exponent as usize + 1);
        return format!("{whole}.{fraction}");
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    format!("{first}{point}{rest}e{exponent:+}")
}

/// Reads replies from bytes as they arrive: RESP2 and RESP3.
#[derive(Debug, Default)]
pub struct ReplyDecoder;

/// Replies nest no deeper than this; deeper input is refused instead of exhausting the stack. What a script gives
/// back nests up to 1000, and nodes have to read it from each other.
const DEPTH_MAX: usize = 1024;

impl ReplyDecoder {
    /// Takes one whole reply from the front of `buffer`, or nothing when it has not all arrived.
    ///
    /// # Errors
    /// With a description when the bytes are not RESP; the connection is of no use afterwards.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Reply>, String> {
        let mut at = 0;
        if skip(buffer, &mut at, 0)?.is_none() {
            return Ok(None);
        }
        parse(&buffer.split_to(at).freeze(), &mut 0).map(Some)
    }

    /// The whole reply that begins at `at`, which moves behind it; nothing when it is not all there. Its texts are
    /// slices.
    ///
    /// # Errors
    /// With a description when the bytes are not RESP.
    pub fn read(bytes: &Bytes, at: &mut usize) -> Result<Option<Reply>, String> {
        let mut end = *at;
        match skip(bytes, &mut end, 0)? {
            Some(()) => parse(bytes, at).map(Some),
            None => Ok(None),
        }
    }
}

/// Moves `at` behind one reply if all of it is there. Checks everything that `parse` relies on.
fn skip(buffer: &[u8], at: &mut usize, depth: usize) -> Result<Option<()>, String> {
    if depth > DEPTH_MAX {
        return Err(format!("reply nests deeper than {DEPTH_MAX}"));
    }
    let Some(end) = memchr::memchr(b'\n', &buffer[*at..]).map(|i| *at + i) else { return Ok(None) };
    if end < *at + 2 || buffer[end - 1] != b'\r' {
        return Err("reply line without CRLF".into());
    }
    let (kind, body) = (buffer[*at], &buffer[*at + 1..end - 1]);
    *at = end + 1;
    let items = match kind {
        b'+' | b'-' | b':' | b'_' | b'@' | b',' | b';' | b'#' | b'(' => return Ok(Some(())),
        b'$' | b'=' | b'!' => {
            let Some(len) = length(body)? else { return Ok(Some(())) };
            let Some(next) = at.checked_add(len).and_then(|n| n.checked_add(2)) else {
                return Err(format!("reply announces {len} bytes"));
            };
            if next > buffer.len() {
                return Ok(None);
            }
            *at = next;
            return Ok(Some(()));
        }
        b'*' | b'~' | b'>' => length(body)?.unwrap_or(0),
        b'%' | b'&' | b'^' => length(body)?.unwrap_or(0).saturating_mul(2),
        other => return Err(format!("unknown reply type {:?}", other as char)),
    };
    for _ in 0..items {
        if skip(buffer, at, depth + 1)?.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(()))
}

/// A length, or nothing for the null `-1`.
fn length(body: &[u8]) -> Result<Option<usize>, String> {
    let text = std::str::from_utf8(body).map_err(|_| "reply length is not a number")?;
    match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(n) if n >= 0 => Ok(Some(n as usize)),
        _ => Err(format!("reply length {text:?}")),
    }
}

fn text(line: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(line).map_err(|_| "reply is not text".to_string())
}

/// The reply at `at`, all of which `skip` has seen.
fn parse(bytes: &Bytes, at: &mut usize) -> Result<Reply, String> {
    let end = *at + memchr::memchr(b'\n', &bytes[*at..]).expect("skip saw the line end");
    let (kind, place) = (bytes[*at], *at + 1..end - 1);
    let line = &bytes[place.clone()];
    let kept = || bytes.slice(place.clone());
    *at = end + 1;
    let many = |at: &mut usize, n: usize| (0..n).map(|_| parse(bytes, at)).collect::<Result<Vec<_>, _>>();
    Ok(match kind {
        b'+' if line == b"OK" => Reply::Ok,
        b'+' => Reply::Status(kept()),
        b'-' => Reply::Error(kept()),
        b':' => Reply::Int(text(line)?.parse().map_err(|_| "reply integer")?),
        b'_' => Reply::Null,
        b'@' => Reply::Elsewhere,
        b',' => Reply::Double(text(line)?.parse().map_err(|_| "reply double")?),
        b';' => Reply::Decimal(kept()),
        b'#' => Reply::Bool(line == b"t"),
        b'(' => Reply::BigNumber(kept()),
        kind @ (b'$' | b'=' | b'!') => {
            let Some(len) = length(line)? else { return Ok(Reply::Null) };
            let body = bytes.slice(*at..*at + len);
            *at += len + 2;
            match kind {
                b'$' => Reply::Bulk(body),
                b'!' => Reply::Error(body),
                _ if len >= 4 => Reply::Verbatim([body[0], body[1], body[2]], body.slice(4..)),
                _ => return Err("verbatim reply without a format".into()),
            }
        }
        b'*' => match length(line)? {
            None => Reply::NullArray,
            Some(n) => Reply::Array(many(at, n)?),
        },
        b'~' => Reply::Set(many(at, length(line)?.unwrap_or(0))?),
        b'>' => Reply::Push(many(at, length(line)?.unwrap_or(0))?),
        kind @ (b'%' | b'&' | b'^') => {
            let n = length(line)?.unwrap_or(0);
            let pairs = (0..n).map(|_| Ok((parse(bytes, at)?, parse(bytes, at)?)));
            let pairs = pairs.collect::<Result<Vec<_>, String>>()?;
            match kind {
                b'%' => Reply::Map(pairs),
                b'&' => Reply::Pairs(pairs),
                _ => Reply::Keyed(pairs),
            }
        }
        other => return Err(format!("unknown reply type {:?}", other as char)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Protocol, encode};

    #[test]
    fn every_reply_reads_back_from_the_internal_encoding() {
        let all = Reply::Array(vec![
            Reply::Ok,
            Reply::Elsewhere,
            Reply::status("QUEUED"),
            Reply::error("ERR no"),
            Reply::Int(-3),
            Reply::bulk("a\r\nb"),
            Reply::Null,
            Reply::NullArray,
            Reply::Pairs(vec![(Reply::bulk("m"), Reply::Double(1.5))]),
            Reply::Keyed(vec![(Reply::bulk("k"), Reply::Array(vec![Reply::Null]))]),
            Reply::Double(0.1),
            Reply::Decimal("0.10000000000000001".into()),
            Reply::Bool(true),
            Reply::BigNumber("123456789012345678901".into()),
            Reply::Verbatim(*b"txt", "hi".into()),
            Reply::Map(vec![(Reply::Int(1), Reply::Int(2))]),
            Reply::Set(vec![Reply::Int(1)]),
            Reply::Push(vec![Reply::Int(1)]),
            Reply::Array(vec![]),
        ]);
        let mut bytes = BytesMut::new();
        encode(&all, Protocol::Internal, &mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(ReplyDecoder::decode(&mut BytesMut::from(&bytes[..cut])), Ok(None), "cut at {cut}");
        }
        let twice = Bytes::from([&bytes[..], &bytes[..]].concat());
        let (mut at, mut cut) = (0, bytes.len());
        for _ in 0..2 {
            assert_eq!(ReplyDecoder::read(&twice, &mut at), Ok(Some(all.clone())));
        }
        assert_eq!(at, twice.len());
        assert_eq!(ReplyDecoder::read(&twice.slice(..at - 1), &mut cut), Ok(None));
        assert_eq!(ReplyDecoder::decode(&mut bytes), Ok(Some(all)));
        assert!(bytes.is_empty());
    }

    #[test]
    fn a_line_cannot_forge_a_reply() {
        let mut bytes = BytesMut::new();
        encode(&Reply::error("ERR a\r\n+OK"), Protocol::Resp2, &mut bytes);
        encode(&Reply::error("ERR b: \n\r\n"), Protocol::Resp2, &mut bytes);
        encode(&Reply::status("c\n"), Protocol::Resp2, &mut bytes);
        assert_eq!(&bytes[..], b"-ERR a  +OK\r\n-ERR b: \r\n+c \r\n");
    }

    #[test]
    fn doubles_print_as_redis_prints_them() {
        for (n, text) in [
            (3.0, "3"),
            (-3.0, "-3"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (0.1 + 0.2, "0.30000000000000004"),
            (0.00001, "0.00001"),
            (0.000001, "0.000001"),
            (0.0000001, "1e-7"),
            (1.5e-7, "1.5e-7"),
            (-0.0001234567, "-1.234567e-4"),
            (0.001234567, "0.001234567"),
            (123.456, "123.456"),
            (1234.567891234, "1234.567891234"),
            (12345.5, "12345.5"),
            (12345.6789012345, "1.23456789012345e+4"),
            (1234567.123456, "1234567.123456"),
            (1234567.1234567, "1.2345671234567e+6"),
            (1e15, "1000000000000000"),
            (4611686018427387904.0, "4611686018427387904"),
            (9.3e18, "9.3e+18"),
            (1e21, "1e+21"),
            (12345678901234567000.0, "12345678901234567000"),
            (1.5e300, "1.5e+300"),
            (-5e-324, "-5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(double_text(n), text, "{n:e}");
        }
    }
}
