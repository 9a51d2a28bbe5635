//! What a redis-server says to our listpacks, and to damaged values of all kinds.
//!
//! Skipped, with a message, where redis-server is not installed.

#[path = "../../../../../tests/scripts/script.rs"]
mod script;

use std::collections::BTreeSet;

use quoris_resp::{Argv, Reply};
use script::Target;
use script::remote::{Connection, RedisServer};

use super::super::super::{VERSION, crc64, write};
use super::*;

/// A redis-server that checks all of what it restores.
struct Judge {
    connection: Connection,
    _server: RedisServer,
}

impl Judge {
    fn start() -> Option<Judge> {
        let server = RedisServer::start()?;
        let connection = Connection::open(&server.address, Some(server.version)).expect("it listens");
        let mut judge = Judge { connection, _server: server };
        for (name, value) in
            [("sanitize-dump-payload", "yes"), ("rdbcompression", "no"), ("hash-max-listpack-value", "100000000")]
        {
            assert_eq!(judge.ask(&[b"CONFIG", b"SET", name.as_bytes(), value.as_bytes()]), Reply::Ok, "{name}");
        }
        Some(judge)
    }

    fn ask(&mut self, parts: &[&[u8]]) -> Reply {
        self.connection.call(&Argv::from_parts(parts))
    }

    /// Redis's packed bytes after a command for the key `k`.
    fn packed_by(&mut self, command: &[&[u8]]) -> Vec<u8> {
        self.ask(&[b"DEL", b"k"]);
        assert!(matches!(self.ask(command), Reply::Int(_)));
        let Reply::Bulk(payload) = self.ask(&[b"DUMP", b"k"]) else { panic!("there is a value") };
        inside(&payload)
    }

    /// The elements that Redis reads, if it accepts the value.
    fn restored(&mut self, kind: u8, packed: &[u8]) -> Option<Vec<Vec<u8>>> {
        let mut payload = if kind == LIST { vec![kind, 1, 2] } else { vec![kind] };
        write::string(packed, &mut payload);
        payload.extend_from_slice(&VERSION.to_le_bytes());
        payload.extend_from_slice(&crc64(&payload).to_le_bytes());
        match self.ask(&[b"RESTORE", b"k", b"0", &payload, b"REPLACE"]) {
            Reply::Ok => {}
            Reply::Error(why) if why.starts_with(b"ERR Bad data format") => return None,
            other => panic!("{other:?}"),
        }
        let reply = match kind {
            HASH | HASH_ZIPMAP => self.ask(&[b"HGETALL", b"k"]),
            SET_INTSET => self.ask(&[b"SMEMBERS", b"k"]),
            _ => self.ask(&[b"LRANGE", b"k", b"0", b"-1"]),
        };
        let Reply::Array(replies) = reply else { panic!("{reply:?}") };
        let bulk = |reply| if let Reply::Bulk(text) = reply { text.to_vec() } else { panic!("{reply:?}") };
        Some(replies.into_iter().map(bulk).collect())
    }
}

/// Whether Redis should accept what we read: no value is empty, and a hash has each field once.
fn acceptable(kind: u8, elements: &[Vec<u8>]) -> bool {
    let fields: BTreeSet<_> = elements.iter().step_by(2).collect();
    !elements.is_empty() && (kind != HASH_ZIPMAP || fields.len() * 2 == elements.len())
}

/// A hash that is no longer packed has no order.
fn in_order(kind: u8, elements: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    if !matches!(kind, HASH | HASH_ZIPMAP) {
        return elements;
    }
    let mut pairs: Vec<_> = elements.chunks(2).collect();
    pairs.sort_unstable();
    pairs.concat()
}

#[test]
fn redis_writes_the_same_listpacks() {
    let Some(mut redis) = Judge::start() else {
        return eprintln!("there is no redis-server here: nothing is compared");
    };
    for len in [0, 63, 64, 124, 125, 126, 127, 4095, 4096].into_iter().chain(16_375..16_382).chain(2_097_143..2_097_150)
    {
        let elements = [b"f".to_vec(), vec![b'x'; len]];
        let theirs = redis.packed_by(&[b"HSET", b"k", &elements[0], &elements[1]]);
        assert!(theirs == written(&elements), "{len} bytes");
        assert!(listpack(&theirs).expect("Redis's own") == elements, "{len} bytes");
    }
    let powers = (0..64).flat_map(|bit| [-1, 0, 1].map(|more| (1i64 << bit).wrapping_add(more)));
    let numbers: Vec<_> = powers.flat_map(|n| [text(n), text(n.wrapping_neg())]).collect();
    let command: Vec<&[u8]> = [&b"RPUSH"[..], b"k"].into_iter().chain(numbers.iter().map(Vec::as_slice)).collect();
    let theirs = redis.packed_by(&command);
    assert_eq!(theirs, written(&numbers));
    assert_eq!(listpack(&theirs), Ok(numbers));
}

#[test]
fn redis_accepts_and_refuses_the_same_values() {
    let Some(mut redis) = Judge::start() else {
        return eprintln!("there is no redis-server here: nothing is compared");
    };
    for elements in [edges(), vec![b"1".to_vec(); 65_534], vec![b"two".to_vec(); 65_535]] {
        assert!(redis.restored(LIST, &written(&elements)).as_ref() == Some(&elements), "{} elements", elements.len());
    }
    // A node of a list cannot have so many.
    let many = in_order(HASH, (0..70_000).map(text).collect());
    let theirs = redis.restored(HASH, &written(&many)).expect("a hash");
    assert!(in_order(HASH, theirs) == many);
    let (mut accepted, mut refused) = (0, 0);
    for (bytes, kind, read) in samples() {
        let cut = (0..bytes.len().min(200)).map(|len| bytes[..len].to_vec());
        for packed in std::iter::once(bytes.clone()).chain(cut).chain(flipped(&bytes)) {
            let ours = read(&packed);
            let theirs = redis.restored(kind, &packed).map(|elements| in_order(kind, elements));
            if ours == Err("listpack element has another length from behind") && theirs.is_some() {
                // Redis takes bits of the data before it for more digits, and is content when they are 0.
                assert_eq!(theirs, read(&bytes).ok(), "only that length is damaged: {packed:x?}");
                continue;
            }
            let ours = ours.ok().filter(|elements| acceptable(kind, elements)).map(|elements| in_order(kind, elements));
            assert!(ours == theirs, "type {kind}, ours and theirs differ: {packed:x?}\n{ours:x?}\n{theirs:x?}");
            *if ours.is_some() { &mut accepted } else { &mut refused } += 1;
        }
    }
    assert!(accepted > 1000 && refused > 1000, "{accepted} accepted, {refused} refused");
}
