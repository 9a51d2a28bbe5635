//! Bytes per key and per element, beside redis-server where one is installed.
//!
//! What the allocator has given out, on both sides: here jemalloc's own count, there `used_memory`, which is
//! jemalloc's count as well. `cargo test -p quoris-engine --test bytes -- --nocapture` prints the table;
//! `QUORIS_MEASURE_KEYS` is the number of string keys, a tenth of them the number of collections. Where it is not
//! given, or without redis-server, the figures of version 7.0.15 that are written down here stand for it.

mod common;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::BytesMut;
use common::script::remote::RedisServer;
use quoris_engine::command::{Handler, lookup};
use quoris_engine::{ApplyContext, Keyspace, ReadContext, Rng};
use quoris_resp::{Argv, Reply, ReplyDecoder};
use tikv_jemalloc_ctl::{epoch, stats};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// So many times Redis's bytes are allowed.
const FACTOR: f64 = 1.3;

/// One kind of dataset: keys with a command each.
struct Kind {
    name: &'static str,
    /// Keys for each hundred string keys.
    share: u64,
    /// Bytes that redis-server 7.0.15 takes for each key.
    redis: f64,
    command: fn(u64) -> Vec<String>,
}

fn words(text: String) -> Vec<String> {
    text.split(' ').map(str::to_string).collect()
}

fn each(count: u64, head: String, part: impl Fn(u64) -> String) -> Vec<String> {
    words((0..count).fold(head, |all, n| format!("{all} {}", part(n))))
}

const KINDS: &[Kind] = &[
    Kind {
        name: "string, 64 bytes",
        share: 100,
        redis: 168.4,
        command: |i| vec!["SET".into(), format!("key:{i:012}"), "v".repeat(64)],
    },
    Kind {
        name: "string, 10 bytes",
        share: 100,
        redis: 104.4,
        command: |i| words(format!("SET key:{i:012} value{i:05}")),
    },
    Kind {
        name: "string, a number",
        share: 100,
        redis: 88.4,
        command: |i| words(format!("SET key:{i:012} {}", i + 100_000)),
    },
    Kind {
        name: "string, with a deadline",
        share: 100,
        redis: 208.8,
        command: |i| {
            vec![
                "SET".into(),
                format!("key:{i:012}"),
                "v".repeat(64),
                "PXAT".into(),
                (4_000_000_000_000 + i).to_string(),
            ]
        },
    },
    Kind {
        name: "hash of 10",
        share: 10,
        redis: 314.7,
        command: |i| each(10, format!("HSET key:{i:012}"), |n| format!("field{n} value{:05}", i + n)),
    },
    Kind {
        name: "set of 10 texts",
        share: 10,
        redis: 826.7,
        command: |i| each(10, format!("SADD key:{i:012}"), |n| format!("member{:05}", i + n)),
    },
    Kind {
        name: "set of 10 numbers",
        share: 10,
        redis: 122.5,
        command: |i| each(10, format!("SADD key:{i:012}"), |n| (1000 * n + i % 1000).to_string()),
    },
    Kind {
        name: "sorted set of 10",
        share: 10,
        redis: 272.3,
        command: |i| each(10, format!("ZADD key:{i:012}"), |n| format!("{} member{n:03}", i + n)),
    },
    Kind {
        name: "list of 10",
        share: 10,
        redis: 346.7,
        command: |i| each(10, format!("RPUSH key:{i:012}"), |n| format!("element{:05}", i + n)),
    },
    Kind {
        name: "hash of many",
        share: 0,
        redis: 72.4,
        command: |i| words(format!("HSET large field{i:07} value{i:07}")),
    },
    Kind { name: "set of many", share: 0, redis: 56.4, command: |i| words(format!("SADD large member{i:07}")) },
    Kind {
        name: "sorted set of many",
        share: 0,
        redis: 109.7,
        command: |i| words(format!("ZADD large {i} member{i:07}")),
    },
    Kind { name: "list of many", share: 0, redis: 16.1, command: |i| words(format!("RPUSH large element{i:07}")) },
];

impl Kind {
    fn commands(&self, keys: u64) -> u64 {
        if self.share == 0 { keys / 4 } else { keys * self.share / 100 }
    }
}

fn allocated() -> u64 {
    epoch::advance().expect("jemalloc counts");
    stats::allocated::read().expect("jemalloc counts") as u64
}

/// Bytes for each command's key by the allocator, and by our own count.
fn ours(kind: &Kind, keys: u64) -> (f64, f64) {
    let count = kind.commands(keys);
    let before = allocated();
    let mut keyspace = Keyspace::new([1, 2], 16);
    let mut context = ApplyContext { database: 0, index: 1, now_ms: 1, rng: Rng::new(1), waits: false, short: false };
    for i in 0..count {
        let argv = Argv::from_parts(&(kind.command)(i));
        let reply = match lookup(&argv).expect("a command").command.handler {
            Handler::Write(write) => write(&mut keyspace, &mut context, &argv),
            Handler::Read(read) => {
                let rng = RefCell::new(Rng::new(1));
                read(&keyspace, &ReadContext { database: 0, now_ms: 1, rng }, &argv)
            }
            Handler::Server | Handler::Container => panic!("not the engine's"),
        };
        assert!(!matches!(reply.expect("it works"), Reply::Error(_)));
    }
    let each = |bytes: u64| bytes as f64 / count as f64;
    (each(allocated() - before), each(keyspace.memory_bytes()))
}

/// A connection that sends many commands at once.
struct Redis(TcpStream, BytesMut);

impl Redis {
    /// The last reply.
    fn call(&mut self, commands: &[Argv]) -> Reply {
        let frames: Vec<u8> = commands.iter().flat_map(|argv| argv.frame().to_vec()).collect();
        self.0.write_all(&frames).expect("redis-server reads");
        let (mut last, mut left) = (Reply::Null, commands.len());
        while left > 0 {
            while let Some(reply) = ReplyDecoder::decode(&mut self.1).expect("replies") {
                (last, left) = (reply, left - 1);
            }
            if left > 0 {
                let mut buffer = vec![0; 1 << 16];
                let len = self.0.read(&mut buffer).expect("redis-server writes");
                assert!(len > 0, "redis-server went");
                self.1.extend_from_slice(&buffer[..len]);
            }
        }
        last
    }

    fn used(&mut self) -> u64 {
        let Reply::Bulk(text) = self.call(&[Argv::from_parts(&["INFO", "memory"])]) else { panic!("INFO is text") };
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("a field");
        line.trim().parse().expect("a number")
    }

    /// Bytes for each command's key.
    fn theirs(&mut self, kind: &Kind, keys: u64) -> f64 {
        let count = kind.commands(keys);
        self.call(&[Argv::from_parts(&["FLUSHALL", "SYNC"])]);
        let before = self.used();
        for from in (0..count).step_by(500) {
            let commands: Vec<Argv> =
                (from..(from + 500).min(count)).map(|i| Argv::from_parts(&(kind.command)(i))).collect();
            self.call(&commands);
        }
        (self.used() - before) as f64 / count as f64
    }
}

#[test]
fn keys_and_elements_take_no_more_than_redis_and_a_third() {
    let given = std::env::var("QUORIS_MEASURE_KEYS").ok().and_then(|n| n.parse().ok());
    let keys = given.unwrap_or(1_000_000u64);
    let server = given.and_then(|_| RedisServer::start());
    let mut redis = server
        .as_ref()
        .map(|server| Redis(TcpStream::connect(&server.address).expect("redis-server listens"), BytesMut::new()));
    println!("{:<26} {:>8} {:>10} {:>10} {:>6}", "", "ours", "own count", "Redis", "ratio");
    let mut worse = Vec::new();
    for kind in KINDS {
        let (ours, counted) = ours(kind, keys);
        let theirs = redis.as_mut().map_or(kind.redis, |redis| redis.theirs(kind, keys));
        let ratio = ours / theirs;
        println!("{:<26} {ours:>8.1} {counted:>10.1} {theirs:>10.1} {ratio:>6.2}", kind.name);
        if ratio > FACTOR {
            worse.push(format!("{}: {ours:.1} bytes, {ratio:.2} times Redis's", kind.name));
        }
    }
    assert!(worse.is_empty(), "\n{}", worse.join("\n"));
}
