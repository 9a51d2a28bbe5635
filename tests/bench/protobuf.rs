//! The few etcd messages of the benchmark, written by hand: Put, Range and Status.
//!
//! Field numbers are those of etcd's `rpc.proto` and `kv.proto`. Unknown fields are skipped, as
//! protobuf demands. A gRPC message is preceded by one byte (0: not compressed) and its length in
//! four bytes, big-endian.

use anyhow::{Result, bail, ensure};

pub const PUT: &str = "/etcdserverpb.KV/Put";
pub const RANGE: &str = "/etcdserverpb.KV/Range";
pub const STATUS: &str = "/etcdserverpb.Maintenance/Status";

/// `PutRequest { key = 1, value = 2 }` as a gRPC message.
pub fn put(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(key.len() + value.len() + 16);
    field(&mut message, 1, key);
    field(&mut message, 2, value);
    frame(&message)
}

/// `RangeRequest { key = 1 }` as a gRPC message. `serializable` (7) is left at false, so the read
/// is linearizable.
pub fn range(key: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(key.len() + 8);
    field(&mut message, 1, key);
    frame(&message)
}

/// `StatusRequest {}` as a gRPC message.
pub fn status() -> Vec<u8> {
    frame(&[])
}

/// What a Status reply says of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub member: u64,
    /// 0 while there is none.
    pub leader: u64,
    pub term: u64,
}

/// Reads `StatusResponse { header = 1 { member_id = 2 }, leader = 4, raftTerm = 6 }`.
pub fn read_status(message: &[u8]) -> Result<Status> {
    let mut status = Status::default();
    for item in fields(message) {
        match item? {
            (1, Value::Bytes(header)) => {
                for item in fields(header) {
                    if let (2, Value::Number(member)) = item? {
                        status.member = member;
                    }
                }
            }
            (4, Value::Number(leader)) => status.leader = leader,
            (6, Value::Number(term)) => status.term = term,
            _ => {}
        }
    }
    Ok(status)
}

/// Checks `PutResponse { header = 1 }`: the header is what shows that it is a reply to a Put.
pub fn check_put(message: &[u8]) -> Result<()> {
    for item in fields(message) {
        if let (1, Value::Bytes(_)) = item? {
            return Ok(());
        }
    }
    bail!("a put reply without a header")
}

/// Checks `RangeResponse { kvs = 2 { key = 1, value = 5 } }`: exactly one pair, of this key and
/// of `value_bytes`.
pub fn check_range(message: &[u8], key: &[u8], value_bytes: usize) -> Result<()> {
    let mut pairs = 0;
    for item in fields(message) {
        let (2, Value::Bytes(pair)) = item? else {
            continue;
        };
        pairs += 1;
        let (mut found, mut length) = (false, 0);
        for item in fields(pair) {
            match item? {
                (1, Value::Bytes(name)) => found = name == key,
                (5, Value::Bytes(value)) => length = value.len(),
                _ => {}
            }
        }
        ensure!(found, "a range reply with another key");
        ensure!(length == value_bytes, "a value of {length} bytes");
    }
    ensure!(pairs == 1, "a range reply with {pairs} pairs");
    Ok(())
}

/// The message in a gRPC body that carries exactly one.
pub fn unframe(body: &[u8]) -> Result<&[u8]> {
    let [compressed, a, b, c, d, message @ ..] = body else { bail!("a body of {} bytes", body.len()) };
    ensure!(*compressed == 0, "a compressed reply");
    let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
    ensure!(length == message.len(), "{} bytes where {length} were announced", message.len());
    Ok(message)
}

fn frame(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 5);
    out.push(0);
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
    out
}

/// Appends a length-delimited field.
fn field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in order.
fn fields(mut input: &[u8]) -> impl Iterator<Item = Result<(u64, Value<'_>)>> {
    std::iter::from_fn(move || {
        if input.is_empty() {
            return None;
        }
        let item = read_field(&mut input);
        if item.is_err() {
            input = &[];
        }
        Some(item)
    })
}

fn read_field<'a>(input: &mut &'a [u8]) -> Result<(u64, Value<'a>)> {
    let tag = read_varint(input)?;
    let value = match tag & 7 {
        0 => Value::Number(read_varint(input)?),
        1 => Value::Bytes(read_bytes(input, 8)?),
        2 => {
            let length = read_varint(input)?;
            Value::Bytes(read_bytes(input, length)?)
        }
        5 => Value::Bytes(read_bytes(input, 4)?),
        other => bail!("a field of wire type {other}"),
    };
    Ok((tag >> 3, value))
}

fn read_bytes<'a>(input: &mut &'a [u8], length: u64) -> Result<&'a [u8]> {
    let Some((bytes, rest)) = usize::try_from(length).ok().and_then(|at| input.split_at_checked(at)) else {
        bail!("a field of {length} bytes in a message of {}", input.len())
    };
    *input = rest;
    Ok(bytes)
}

fn read_varint(input: &mut &[u8]) -> Result<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = input.split_first() else { bail!("a cut number") };
        *input = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    bail!("a number of more than 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_is_framed_key_then_value() {
        assert_eq!(put(b"k", b"vv"), b"\0\0\0\0\x07\x0a\x01k\x12\x02vv");
        assert_eq!(range(b"k"), b"\0\0\0\0\x03\x0a\x01k");
        assert_eq!(status(), b"\0\0\0\0\0");
    }

    #[test]
    fn numbers_of_all_sizes_survive() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            varint(&mut bytes, value);
            let mut input = bytes.as_slice();
            assert_eq!(read_varint(&mut input).expect("valid"), value);
            assert!(input.is_empty());
        }
        assert!(read_varint(&mut [0xFF; 11].as_slice()).is_err());
        assert!(read_varint(&mut [0x80].as_slice()).is_err());
    }

    fn range_reply(key: &[u8], value: &[u8]) -> Vec<u8> {
        let (mut pair, mut reply) = (Vec::new(), Vec::new());
        field(&mut pair, 1, key);
        varint(&mut pair, 2 << 3);
        varint(&mut pair, 77);
        field(&mut pair, 5, value);
        field(&mut reply, 1, b"");
        field(&mut reply, 2, &pair);
        varint(&mut reply, 4 << 3);
        varint(&mut reply, 1);
        reply
    }

    #[test]
    fn a_range_reply_must_hold_the_key_and_a_value_of_the_size() {
        assert!(check_range(&range_reply(b"k", &[1; 64]), b"k", 64).is_ok());
        assert!(check_range(&range_reply(b"k", &[1; 63]), b"k", 64).is_err());
        assert!(check_range(&range_reply(b"j", &[1; 64]), b"k", 64).is_err());
        assert!(check_range(b"", b"k", 64).is_err());
        let cut = range_reply(b"k", &[1; 64]);
        assert!(check_range(&cut[..30], b"k", 64).is_err());
    }

    #[test]
    fn a_status_names_member_leader_and_term() {
        let (mut header, mut reply) = (Vec::new(), Vec::new());
        varint(&mut header, 2 << 3);
        varint(&mut header, 9);
        field(&mut reply, 1, &header);
        field(&mut reply, 2, b"3.4.23");
        for (number, value) in [(4_u64, 9), (5, 1000), (6, 2)] {
            varint(&mut reply, number << 3);
            varint(&mut reply, value);
        }
        let expected = Status { member: 9, leader: 9, term: 2 };
        assert_eq!(read_status(&reply).expect("valid"), expected);
    }

    #[test]
    fn a_body_must_be_one_whole_message() {
        assert_eq!(unframe(b"\0\0\0\0\x01x").expect("valid"), b"x");
        assert!(unframe(b"\0\0\0\0\x02x").is_err());
        assert!(unframe(b"\x01\0\0\0\x01x").is_err());
        assert!(unframe(b"\0\0").is_err());
    }
}
