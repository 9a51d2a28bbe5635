//! What the client libraries send when they connect, and what they rely on in the answers.

mod support;

use quoris_resp::Reply;
use support::{Connection, Node, bulk};

fn hello(reply: &Reply) -> Vec<(String, Reply)> {
    let Reply::Map(pairs) = reply else { panic!("HELLO 3 answers a map, not {reply:?}") };
    let name = |key: &Reply| {
        if let Reply::Bulk(text) = key { String::from_utf8_lossy(text).into_owned() } else { panic!("{key:?}") }
    };
    pairs.iter().map(|(key, value)| (name(key), value.clone())).collect()
}

#[test]
fn hello_tells_what_clients_ask_for_in_their_order() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    let fields = hello(&c.call(&["HELLO", "3"]));
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["server", "version", "proto", "id", "mode", "role", "modules"]);
    assert_eq!(
        (&fields[0].1, &fields[2].1, &fields[4].1, &fields[5].1),
        (&bulk("redis"), &Reply::Int(3), &bulk("standalone"), &bulk("master"))
    );
    assert_eq!(c.call(&["GET", "nothing"]), Reply::Null);
    // Back to RESP2 in the middle of a connection: the same null is now a null bulk string.
    assert!(matches!(c.call(&["HELLO", "2"]), Reply::Array(fields) if fields.len() == 14));
    c.raw(b"GET nothing\r\n");
    let mut bytes = [0; 5];
    std::io::Read::read_exact(&mut c.stream, &mut bytes).expect("a reply");
    assert_eq!(&bytes, b"$-1\r\n");
}

#[test]
fn redis_py_connects() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    hello(&c.call(&["HELLO", "3"]));
    assert!(c.call(&["CLIENT", "MAINT_NOTIFICATIONS", "ON", "moving-endpoint-type", "internal-ip"]).is_error());
    c.ok(&["CLIENT", "SETNAME", "app"]);
    c.ok(&["CLIENT", "SETINFO", "LIB-NAME", "redis-py"]);
    c.ok(&["CLIENT", "SETINFO", "LIB-VER", "8.0.0"]);
    c.ok(&["SELECT", "3"]);
    assert_eq!(c.call(&["PING"]), Reply::status("PONG"));
    let line = c.text(&["CLIENT", "INFO"]);
    for part in ["name=app", "lib-name=redis-py", "lib-ver=8.0.0", "db=3", "resp=3", "cmd=client|info", "user=default"]
    {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[test]
fn ioredis_sends_all_at_once_and_looks_at_info() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    c.raw(b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n*1\r\n$8\r\nREADONLY\r\n*4\r\n$6\r\nCLIENT\r\n$7\r\nSETINFO\r\n$7\r\nLIB-VER\r\n$3\r\n6.0\r\n*1\r\n$4\r\nINFO\r\n");
    hello(&c.reply());
    assert_eq!([c.reply(), c.reply(), c.reply()], [Reply::Ok, Reply::Ok, Reply::Ok]);
    let Reply::Verbatim(_, info) = c.reply() else { panic!("INFO is a verbatim text in RESP3") };
    let info = String::from_utf8_lossy(&info).into_owned();
    assert!(info.contains("\r\nloading:0\r\n") && info.contains("\r\nrole:master\r\n"));
}

#[test]
fn node_redis_and_redis_rs_connect() {
    let node = Node::start(&["--requirepass", "secret"]);
    let mut c = node.connect();
    hello(&c.call(&["HELLO", "3", "AUTH", "default", "secret", "SETNAME", "n"]));
    c.ok(&["CLIENT", "TRACKING", "ON"]);
    assert_eq!(c.text(&["CLIENT", "GETNAME"]), "n");
    // redis-rs: one pipeline, RESP2 with AUTH.
    let mut c = node.connect();
    for parts in [&["AUTH", "secret"][..], &["SELECT", "1"], &["CLIENT", "SETINFO", "LIB-NAME", "redis-rs"]] {
        c.send(parts);
    }
    assert_eq!([c.reply(), c.reply(), c.reply()], [Reply::Ok, Reply::Ok, Reply::Ok]);
}

#[test]
fn cluster_clients_find_the_table_and_the_slots() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    let Reply::Array(commands) = c.call(&["COMMAND"]) else { panic!("COMMAND is an array") };
    assert!(commands.len() > 80, "{}", commands.len());
    assert!(commands.iter().all(|command| matches!(command, Reply::Array(fields) if fields.len() == 10)));
    let Reply::Array(ranges) = c.call(&["CLUSTER", "SLOTS"]) else { panic!("CLUSTER SLOTS is an array") };
    let [Reply::Array(range)] = ranges.as_slice() else { panic!("one range: {ranges:?}") };
    assert_eq!(range[..2], [Reply::Int(0), Reply::Int(16383)]);
    let Reply::Array(master) = &range[2] else { panic!("{range:?}") };
    assert_eq!(master[..2], [bulk("127.0.0.1"), Reply::Int(i64::from(node.port))]);
    assert_eq!(c.info("cluster_enabled"), "0");
}

#[test]
fn hello_refuses_what_redis_refuses() {
    let node = Node::start(&["--requirepass", "secret"]);
    let mut c: Connection = node.connect();
    assert_eq!(c.error(&["HELLO", "4"]), "NOPROTO unsupported protocol version");
    assert_eq!(c.error(&["HELLO", "x"]), "ERR Protocol version is not an integer or out of range");
    assert!(c.error(&["HELLO", "3"]).starts_with("NOAUTH HELLO must be called with the client already authenticated"));
    let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
    assert_eq!(c.error(&["HELLO", "3", "AUTH", "default", "wrong"]), wrong);
    assert_eq!(c.error(&["AUTH", "wrong"]), wrong);
    assert_eq!(c.error(&["GET", "k"]), "NOAUTH Authentication required.");
    assert_eq!(
        c.error(&["HELLO", "3", "AUTH", "default", "secret", "nosuch"]),
        "ERR Syntax error in HELLO option 'nosuch'"
    );
    c.ok(&["AUTH", "default", "secret"]);
    assert_eq!(c.call(&["RESET"]), Reply::status("RESET"));
    assert_eq!(c.error(&["GET", "k"]), "NOAUTH Authentication required.");
}
