//! Limits and mistakes on the wire: what the client is told, and when the connection ends.

mod support;

use std::io::{Read, Write};

use quoris_resp::{Argv, Reply};
use support::{Node, bulk, until};

#[test]
fn mistakes_are_answered_behind_the_commands_in_front_of_them() {
    let node = Node::start(&[]);
    for (bytes, text) in [
        (&b"*3\r\n$3\r\nSET\r\nfoo\r\n"[..], "ERR Protocol error: expected '$', got 'f'"),
        (b"*1\r\n$-10\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*x\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"SET \"k\r\n", "ERR Protocol error: unbalanced quotes in request"),
    ] {
        let mut c = node.connect();
        c.raw(b"*1\r\n$4\r\nPING\r\n");
        c.raw(bytes);
        assert_eq!(c.reply(), Reply::status("PONG"));
        assert_eq!(c.reply(), Reply::error(text));
        assert!(c.ends(), "{text}");
    }
}

#[test]
fn inline_commands_and_empty_lines_work() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    c.raw(b"\r\n\r\nset key \"a b\"\r\nget key\r\n*0\r\nPING\r\n");
    assert_eq!([c.reply(), c.reply(), c.reply()], [Reply::Ok, bulk("a b"), Reply::status("PONG")]);
}

#[test]
fn before_authentication_little_may_be_sent() {
    let node = Node::start(&["--requirepass", "secret"]);
    let mut c = node.connect();
    c.raw(b"*11\r\n");
    assert_eq!(c.reply(), Reply::error("ERR Protocol error: unauthenticated multibulk length"));
    assert!(c.ends());
    let mut c = node.connect();
    c.raw(b"*2\r\n$4\r\nAUTH\r\n$16385\r\n");
    assert_eq!(c.reply(), Reply::error("ERR Protocol error: unauthenticated bulk length"));
    assert!(c.ends());
    // In one packet: the limits are lifted by the command in front.
    let mut c = node.connect();
    let value = vec![b'x'; 100_000];
    let mut bytes = Argv::from_parts(&["AUTH", "secret"]).frame().to_vec();
    bytes.extend_from_slice(Argv::from_parts(&[b"SET", b"k".as_slice(), &value]).frame());
    c.raw(&bytes);
    assert_eq!([c.reply(), c.reply()], [Reply::Ok, Reply::Ok]);
}

#[test]
fn long_arguments_end_at_the_limit() {
    let node = Node::start(&["--proto-max-bulk-len", "2mb"]);
    let mut c = node.connect();
    let value = vec![b'v'; 2 * 1024 * 1024];
    c.ok(&[b"SET", b"k".as_slice(), &value]);
    assert_eq!(c.call(&["GET", "k"]), Reply::Bulk(value.into()));
    c.raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2097153\r\n");
    assert_eq!(c.reply(), Reply::error("ERR Protocol error: invalid bulk length"));
    assert!(c.ends());
}

#[test]
fn a_query_buffer_above_its_limit_ends_the_connection() {
    let node = Node::start(&["--client-query-buffer-limit", "1mb"]);
    let mut c = node.connect();
    c.raw(b"*2\r\n$4\r\nECHO\r\n$400000000\r\n");
    let chunk = vec![b'x'; 64 * 1024];
    // The node closes while we still write: either call may be the one that notices.
    let closed = (0..1000).any(|_| c.stream.write_all(&chunk).is_err());
    assert!(closed || c.ends());
    assert_eq!(node.connect().info("client_query_buffer_limit_disconnections"), "1");
}

#[test]
fn a_client_that_does_not_read_is_cut_off_at_its_output_limit() {
    let node = Node::start(&["--client-output-buffer-limit", "normal", "1mb", "0", "0"]);
    let mut c = node.connect();
    c.ok(&[b"SET", b"big".as_slice(), &vec![b'v'; 4 * 1024 * 1024]]);
    let mut lazy = node.connect();
    lazy.send(&["GET", "big"]);
    until("the lazy client is cut off", || c.info("client_output_buffer_limit_disconnections") == "1");
}

#[test]
fn a_pipeline_may_be_sent_before_anything_is_read() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    c.ok(&[b"SET", b"k".as_slice(), &vec![b'v'; 10_000]]);
    // 200 MB of replies: far more than socket buffers hold, and nobody reads while we send.
    const COUNT: usize = 20_000;
    let request = Argv::from_parts(&["GET", "k"]).frame().repeat(COUNT);
    c.raw(&request);
    for _ in 0..COUNT {
        assert!(matches!(c.reply(), Reply::Bulk(value) if value.len() == 10_000));
    }
}

#[test]
fn a_client_that_ends_its_side_gets_its_replies() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    c.raw(b"SET k v\r\nGET k\r\n");
    c.stream.shutdown(std::net::Shutdown::Write).expect("a socket");
    let mut all = Vec::new();
    c.stream.read_to_end(&mut all).expect("the node closes in order");
    assert_eq!(all, b"+OK\r\n$1\r\nv\r\n");
}

#[test]
fn more_clients_than_allowed_are_told_so() {
    let node = Node::start(&["--maxclients", "3"]);
    let mut one = node.connect();
    // The connections of the start are gone only when the node has noticed.
    until("the probe is gone", || one.info("connected_clients") == "1");
    let (mut two, mut three) = (node.connect(), node.connect());
    assert_eq!([two.call(&["PING"]), three.call(&["PING"])], [Reply::status("PONG"), Reply::status("PONG")]);
    let mut four = node.connect();
    assert_eq!(four.reply(), Reply::error("ERR max number of clients reached"));
    assert!(four.ends());
    drop(two);
    until("a place is free again", || one.info("connected_clients") == "2");
    assert_eq!(node.connect().call(&["PING"]), Reply::status("PONG"));
    assert_eq!(one.info("rejected_connections"), "1");
}

#[test]
fn idle_clients_are_closed() {
    let node = Node::start(&["--timeout", "1"]);
    let mut c = node.connect();
    assert_eq!(c.call(&["PING"]), Reply::status("PONG"));
    assert!(c.ends());
}

#[test]
fn replies_keep_the_order_of_a_mixed_pipeline() {
    let node = Node::start(&["--groups", "4"]);
    let mut c = node.connect();
    c.raw(b"SET a 1\r\nGET a\r\nPING\r\nINCR b\r\nNOSUCH\r\nGET b\r\nSELECT 1\r\nGET b\r\nSELECT 0\r\nINCR b\r\nINFO server\r\nGET b\r\n");
    assert_eq!([c.reply(), c.reply()], [Reply::Ok, bulk("1")]);
    assert_eq!([c.reply(), c.reply()], [Reply::status("PONG"), Reply::Int(1)]);
    assert!(c.reply().is_error());
    assert_eq!([c.reply(), c.reply(), c.reply()], [bulk("1"), Reply::Ok, Reply::Null]);
    assert_eq!([c.reply(), c.reply()], [Reply::Ok, Reply::Int(2)]);
    assert!(matches!(c.reply(), Reply::Bulk(text) if text.starts_with(b"# Server")));
    assert_eq!(c.reply(), bulk("2"));
}
