//! Bytes that are no commands: the same answer as redis-server gives to the same bytes.

use std::{
    io::{Read, Write},
    net::Shutdown,
    time::Duration,
};

use quoris_resp::{Argv, Reply};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use crate::{
    support::{Node, WITHIN, bulk, until},
    watch::{Bystander, grew_at_most, resident},
};

/// Far above what a fsync takes here, far below what a client would call an outage.
const CALM: Duration = Duration::from_millis(1500);
const MIB: u64 = 1 << 20;

/// All that a node answers to these bytes until it closes.
fn answer(node: &Node, bytes: &[u8]) -> Vec<u8> {
    let mut stream = node.connect().stream;
    // It may close before it has read everything.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let (mut all, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return all,
            Ok(len) => all.extend_from_slice(&chunk[..len]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return all,
            Err(e) => panic!("{e} after {:?}", String::from_utf8_lossy(&all)),
        }
    }
}

fn same(nodes: &[Node; 2], bytes: &[u8]) {
    let [ours, theirs] = nodes.each_ref().map(|node| answer(node, bytes));
    let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    assert_eq!(text(&ours), text(&theirs), "to {:?}", text(bytes));
    assert_eq!(ours, theirs);
}

const MISTAKES: &[&[u8]] = &[
    b"*3\r\n$3\r\nSET\r\nfoo\r\n",
    b"*1\r\n\r\nPING\r\n",
    b"*1\r\n\nPING\r\n",
    b"*1\r\n\xffPING\r\n",
    b"*x\r\n",
    b"*\r\n",
    b"*-\r\n",
    b"*+1\r\n",
    b"*01\r\n$4\r\nPING\r\n",
    b"*-0\r\n",
    b"* 1\r\n",
    b"*1 \r\n",
    b"*-1\r\nPING\r\n",
    b"*-10\r\nPING\r\n",
    b"*0\r\nPING\r\n",
    b"*2147483647\r\n",
    b"*2147483648\r\n",
    b"*9223372036854775807\r\n",
    b"*9223372036854775808\r\n",
    b"*-9223372036854775809\r\n",
    b"*5500000000000000000\r\n",
    b"*1\r\n$-1\r\n",
    b"*1\r\n$x\r\n",
    b"*1\r\n$\r\n",
    b"*1\r\n$04\r\nPING\r\n",
    b"*1\r\n$536870912\r\n",
    b"*1\r\n$536870913\r\n",
    b"*1\r\n$9223372036854775808\r\n",
    b"*1\r\n$0\r\n\r\n",
    b"*1\rx$4\rxPINGxx*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$4\r\nECHO\r\n$3\r\na\r\nPING\r\n",
    b"PING\r\n*1\r\n$4\r\nPING\r\nECHO hi\n\n\r\nPING\n",
    b"SET \"k\r\nPING\r\n",
    b"SET 'k' 'v'x\r\n",
    b"ECHO \"\\x41\\n\\q\\xZZ\"\r\n",
    b"ECHO 'it\\'s'\r\n",
    b"nosuch a b\r\n",
    b"NOSUCH\xff\xfe \"a\\r\\nb\"\r\n",
    b"GET\r\nGET a b\r\nCONFIG NOSUCH\r\n",
    b"+PING\r\n$4\r\n:1\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
];

#[test]
fn mistakes_are_answered_as_redis_answers_them() {
    let nodes = [Node::start(&[]), Node::redis(&[])];
    MISTAKES.iter().for_each(|bytes| same(&nodes, bytes));
    for head in [&b"*"[..], b"*1\r\n$", b"x"] {
        same(&nodes, &[head, &[b'1'; 64 * 1024 + 1]].concat());
    }
    for len in [10, 127, 128, 129, 200, 1000] {
        let name = "n".repeat(len);
        same(&nodes, format!("{name} {name} {name}\r\nECHO {name} {name}\r\nGET {name} a b\r\n").as_bytes());
    }
}

#[test]
fn random_bytes_are_answered_as_redis_answers_them() {
    const PIECES: &[&[u8]] = &[
        b"*1\r\n",
        b"*2\r\n",
        b"*3\r\n",
        b"$4\r\nPING\r\n",
        b"$4\r\nECHO\r\n",
        b"$3\r\nSET\r\n",
        b"$1\r\nk\r\n",
        b"$3\r\nGET\r\n",
        b"PING\r\n",
        b"GET k\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"*",
        b"$",
        b"-1",
        b"0",
        b"17",
        b" ",
        b"\"",
        b"'",
        b"\\",
        b"\\x4",
        b"a",
        b"\xff",
        b":",
        b"9999999999",
    ];
    let seed = std::env::var("QUORIS_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    println!("seed {seed}");
    let mut dice = Pcg64::seed_from_u64(seed);
    let nodes = [Node::start(&[]), Node::redis(&[])];
    for _ in 0..1500 {
        let pieces = (0..dice.random_range(1..10)).map(|_| PIECES[dice.random_range(0..PIECES.len())]);
        let bytes: Vec<u8> = pieces.collect::<Vec<_>>().concat();
        same(&nodes, &bytes);
    }
}

#[test]
fn before_authentication_little_is_taken_and_nothing_is_held() {
    let settings = ["--requirepass", "secret"];
    let nodes = [Node::start(&settings), Node::redis(&settings)];
    for bytes in [
        &b"*11\r\n"[..],
        b"*10\r\n$16385\r\n",
        b"*1\r\n$16384\r\n",
        b"*2\r\n$4\r\nAUTH\r\n$5\r\nwrong\r\n*11\r\n",
        b"GET k\r\nnosuch\r\nGET\r\nPING\r\n",
        b"AUTH secret\r\n*11\r\n$4\r\nPING\r\n",
    ] {
        same(&nodes, bytes);
    }
    // A stranger who sends and never reads is not read any further.
    let mut c = nodes[0].connect();
    c.ok(&["AUTH", "secret"]);
    let before = resident(&mut c);
    let mut stranger = nodes[0].connect().stream;
    stranger.set_write_timeout(Some(Duration::from_millis(500))).expect("a socket");
    let (chunk, mut sent) = (b"PING\r\n".repeat(10_000), 0);
    while let (Ok(len), true) = (stranger.write(&chunk), sent < 100 * MIB) {
        sent += len as u64;
    }
    assert!(sent < 100 * MIB, "a stranger got rid of {sent} bytes");
    grew_at_most("a stranger's pipeline", &mut c, before, 16 * MIB);
}

#[test]
fn announced_lengths_and_half_commands_cost_nothing() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    let before = resident(&mut c);
    let bystander = Bystander::start(node.port);
    let heads: [&[u8]; 5] = [
        b"*2147483647\r\n",
        b"*1\r\n$536870912\r\nx",
        b"*3\r\n$3\r\nSET\r\n$1\r\n",
        b"SET k \"half",
        b"*2\r\n$4\r\nEC",
    ];
    let half = (0..500).map(|n| {
        let mut c = node.connect();
        c.raw(heads[n % heads.len()]);
        c
    });
    let half: Vec<_> = half.collect();
    until("they are all there", || c.info("connected_clients").parse::<u64>().expect("a number") >= 500);
    grew_at_most("500 half commands", &mut c, before, 48 * MIB);
    drop(half);
    until("they are gone", || c.info("connected_clients") == "2");
    bystander.end("half commands", CALM);
}

#[test]
fn a_million_commands_in_one_go() {
    const COUNT: usize = 1_000_000;
    let node = Node::start(&[]);
    let (mut c, mut deep) = (node.connect(), node.connect());
    let before = resident(&mut c);
    let bystander = Bystander::start(node.port);
    // Nothing is read until all of it is sent.
    deep.raw(&b"PING\r\n".repeat(COUNT));
    deep.raw(&b"INCR n\r\n".repeat(COUNT / 4));
    for _ in 0..COUNT {
        assert_eq!(deep.reply(), Reply::status("PONG"));
    }
    let replies = (1..=COUNT / 4).all(|n| deep.reply() == Reply::Int(n as i64));
    assert!(replies, "in order");
    bystander.end("a million commands", CALM);
    drop(deep);
    grew_at_most("a million commands", &mut c, before, 192 * MIB);
}

#[test]
fn byte_by_byte_and_in_odd_pieces() {
    let node = Node::start(&[]);
    let bystander = Bystander::start(node.port);
    let value = vec![b'v'; 3000];
    let mut bytes = b"\r\nSET \"a b\" 1\r\n".to_vec();
    for parts in [&[&b"SET"[..], b"k", &value], &[b"APPEND", b"k", b"x"]] {
        bytes.extend_from_slice(Argv::from_parts(parts).frame());
    }
    bytes.extend_from_slice(b"STRLEN k\r\n*2\r\n$3\r\nGET\r\n$3\r\na b\r\n");
    for piece in [1, 2, 3, 1000] {
        let mut c = node.connect();
        bytes.chunks(piece).for_each(|piece| c.raw(piece));
        assert_eq!([c.reply(), c.reply(), c.reply()], [Reply::Ok, Reply::Ok, Reply::Int(3001)]);
        assert_eq!([c.reply(), c.reply()], [Reply::Int(3001), bulk("1")]);
    }
    bystander.end("byte by byte", CALM);
}

#[test]
fn who_does_not_read_is_cut_off_after_the_soft_limits_time() {
    let node = Node::start(&["--client-output-buffer-limit", "normal", "0", "1mb", "1"]);
    let mut c = node.connect();
    c.ok(&[b"SET", b"big".as_slice(), &vec![b'v'; 8 << 20]]);
    let before = resident(&mut c);
    let bystander = Bystander::start(node.port);
    let lazy = (0..10).map(|_| {
        let mut lazy = node.connect();
        lazy.send(&["GET", "big"]);
        lazy
    });
    let mut lazy: Vec<_> = lazy.collect();
    until("they are cut off", || c.info("client_output_buffer_limit_disconnections") == "10");
    let mut rest = Vec::new();
    lazy[0].stream.set_read_timeout(Some(WITHIN)).expect("a socket");
    let end = lazy[0].stream.read_to_end(&mut rest);
    assert!(end.is_err() || rest.len() < 8 << 20, "a reply that was cut off arrived");
    until("their memory is given back", || resident(&mut c) < before + 64 * MIB);
    bystander.end("slow readers", CALM);
}
