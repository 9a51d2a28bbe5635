//! Replies as bytes, in the protocol version of the connection. Step 10.

use bytes::{BufMut, Bytes, BytesMut};

use crate::Reply;
use crate::argv::put_header;

/// The protocol version that a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// RESP2, what a connection starts with.
    #[default]
    Resp2,
    /// RESP3, after `HELLO 3`.
    Resp3,
    /// RESP3 that loses nothing, between nodes and in session windows: a null array stays one, and
    /// pairs, keyed replies and decimals have types of their own, `&`, `^` and `;`, and what belongs elsewhere is `@`.
    /// No client ever sees it.
    Internal,
}

/// Nodes keep it to themselves and go on elsewhere; a client that sees it may send the command again.
const ELSEWHERE: &[u8] = b"-TRYAGAIN the slots of the command are moving\r\n";

/// Appends `reply` to `out`.
pub fn encode(reply: &Reply, protocol: Protocol, out: &mut BytesMut) {
    let resp3 = protocol != Protocol::Resp2;
    match reply {
        Reply::None => {}
        Reply::Elsewhere if protocol == Protocol::Internal => out.put_slice(b"@\r\n"),
        Reply::Elsewhere => out.put_slice(ELSEWHERE),
        Reply::Ok => out.put_slice(b"+OK\r\n"),
        Reply::Status(text) => put_line(out, b'+', text),
        Reply::Error(text) => put_line(out, b'-', text),
        Reply::Int(n) => put_int(out, b':', *n),
        Reply::Bulk(bytes) => put_bulk(out, bytes),
        Reply::Null => out.put_slice(if resp3 { b"_\r\n" } else { b"$-1\r\n" }),
        Reply::NullArray => out.put_slice(if protocol == Protocol::Resp3 { b"_\r\n" } else { b"*-1\r\n" }),
        Reply::Double(n) => put_double(out, *n, resp3),
        Reply::Decimal(text) if resp3 => put_line(out, if protocol == Protocol::Resp3 { b',' } else { b';' }, text),
        Reply::Decimal(text) => put_bulk(out, text),
        Reply::Bool(b) if resp3 => out.put_slice(if *b { b"#t\r\n" } else { b"#f\r\n" }),
        Reply::Bool(b) => put_int(out, b':', i64::from(*b)),
        Reply::BigNumber(digits) if resp3 => put_line(out, b'(', digits),
        Reply::BigNumber(digits) => put_bulk(out, digits),
        Reply::Verbatim(format, text) if resp3 => {
            put_header(out, b'=', text.len() + 4);
            out.put_slice(format);
            out.put_u8(b':');
            out.put_slice(text);
            out.put_slice(b"\r\n");
        }
        Reply::Verbatim(_, text) => put_bulk(out, text),
        Reply::Array(items) => put_items(out, b'*', items, protocol),
        Reply::Set(items) => put_items(out, if resp3 { b'~' } else { b'*' }, items, protocol),
        Reply::Push(items) => put_items(out, if resp3 { b'>' } else { b'*' }, items, protocol),
        Reply::Map(pairs) => {
            if resp3 {
                put_header(out, b'%', pairs.len());
            } else {
                put_header(out, b'*', pairs.len() * 2);
            }
            put_pairs(out, pairs, protocol);
        }
        Reply::Pairs(pairs) if protocol == Protocol::Internal => {
            put_header(out, b'&', pairs.len());
            put_pairs(out, pairs, protocol);
        }
        Reply::Keyed(pairs) if resp3 => {
            put_header(out, if protocol == Protocol::Internal { b'^' } else { b'%' }, pairs.len());
            put_pairs(out, pairs, protocol);
        }
        Reply::Pairs(pairs) if resp3 => put_nested(out, pairs, protocol),
        Reply::Keyed(pairs) => put_nested(out, pairs, protocol),
        Reply::Pairs(pairs) => {
            put_header(out, b'*', pairs.len() * 2);
            put_pairs(out, pairs, protocol);
        }
    }
}

/// Appends a message, a word and these parts: as a [`Reply::Push`] of bulks, without the making of one.
pub fn encode_message(word: &str, parts: &[&Bytes], protocol: Protocol, out: &mut BytesMut) {
    put_header(out, if protocol == Protocol::Resp2 { b'*' } else { b'>' }, parts.len() + 1);
    put_bulk(out, word.as_bytes());
    parts.iter().for_each(|part| put_bulk(out, part));
}

/// An array of arrays of two.
fn put_nested(out: &mut BytesMut, pairs: &[(Reply, Reply)], protocol: Protocol) {
    put_header(out, b'*', pairs.len());
    for (first, second) in pairs {
        out.put_slice(b"*2\r\n");
        encode(first, protocol, out);
        encode(second, protocol, out);
    }
}

fn put_items(out: &mut BytesMut, kind: u8, items: &[Reply], protocol: Protocol) {
    put_header(out, kind, items.len());
    for item in items {
        encode(item, protocol, out);
    }
}

fn put_pairs(out: &mut BytesMut, pairs: &[(Reply, Reply)], protocol: Protocol) {
    for (first, second) in pairs {
        encode(first, protocol, out);
        encode(second, protocol, out);
    }
}

fn put_bulk(out: &mut BytesMut, bytes: &[u8]) {
    put_header(out, b'$', bytes.len());
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

fn put_int(out: &mut BytesMut, kind: u8, n: i64) {
    let mut digits = itoa::Buffer::new();
    out.put_u8(kind);
    out.put_slice(digits.format(n).as_bytes());
    out.put_slice(b"\r\n");
}

/// A line must not carry line ends of its own: they would let a value forge a reply. Redis takes them off the end of
/// an error's text, and writes blanks for others.
fn put_line(out: &mut BytesMut, kind: u8, mut text: &[u8]) {
    while kind == b'-'
        && let [rest @ .., b'\r' | b'\n'] = text
    {
        text = rest;
    }
    out.put_u8(kind);
    if memchr::memchr2(b'\r', b'\n', text).is_none() {
        out.put_slice(text);
    } else {
        out.extend(text.iter().map(|&b| if b == b'\r' || b == b'\n' { b' ' } else { b }));
    }
    out.put_slice(b"\r\n");
}

fn put_double(out: &mut BytesMut, n: f64, resp3: bool) {
    let text = crate::reply::double_text(n);
    if resp3 { put_line(out, b',', text.as_bytes()) } else { put_bulk(out, text.as_bytes()) }
}
