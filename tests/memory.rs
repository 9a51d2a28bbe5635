//! maxmemory: what gives way, what is refused, and what says so, on one node.

mod support;

use std::fmt::Write;

use quoris_resp::Reply;
use support::{Connection, Node, bulks, until};

const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";
const MIB: u64 = 1 << 20;
/// What a node may be above its limit at the moment of a look: buffers, and entries on their way.
const SLACK: u64 = 2 * MIB;

fn number(c: &mut Connection, field: &str) -> u64 {
    c.info(field).parse().expect("a number")
}

/// What counts: not the entries that the log keeps in memory.
fn counted(c: &mut Connection) -> u64 {
    number(c, "used_memory").saturating_sub(number(c, "mem_not_counted_for_evict"))
}

/// Sets the limit so far above what is in use now.
fn limit(c: &mut Connection, above: u64) -> u64 {
    let limit = counted(c) + above;
    c.ok(&["CONFIG", "SET", "maxmemory", &limit.to_string()]);
    limit
}

/// Writes keys of 1000 bytes in pipelines; gives the errors.
fn fill(c: &mut Connection, name: &str, count: u64, end: &str) -> Vec<String> {
    let value = "v".repeat(1000);
    let mut errors = Vec::new();
    for from in (0..count).step_by(200) {
        let mut text = String::new();
        for i in from..(from + 200).min(count) {
            let _ = write!(text, "SET {name}{i} {value}{end}\r\n");
        }
        c.raw(text.as_bytes());
        for _ in from..(from + 200).min(count) {
            if let Reply::Error(error) = c.reply() {
                errors.push(String::from_utf8_lossy(&error).into_owned());
            }
        }
    }
    errors
}

#[test]
fn the_longest_unused_keys_give_way_and_nothing_is_refused() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    c.ok(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    // Buffers of pipelines on their way count as well, some MiB where all is fast.
    let most = limit(&mut c, 16 * MIB);
    assert_eq!(fill(&mut c, "key", 40_000, "").first(), None);
    let (keys, evicted) = (c.call(&["DBSIZE"]), number(&mut c, "evicted_keys"));
    let Reply::Int(keys) = keys else { panic!("{keys:?}") };
    assert_eq!(keys.cast_unsigned() + evicted, 40_000);
    assert!((3000..20_000).contains(&keys), "{keys} of 40,000 keys are left");
    until("the limit is kept", || counted(&mut c) <= most + SLACK);
    assert_eq!((c.info("maxmemory"), c.info("maxmemory_policy")), (most.to_string(), "allkeys-lru".into()));
    c.ok(&["CONFIG", "RESETSTAT"]);
    assert!(number(&mut c, "evicted_keys") < 1000, "it counts from 0 again");
    // What is lowered is kept without anybody who writes.
    let less = counted(&mut c) - 2 * MIB;
    c.ok(&["CONFIG", "SET", "maxmemory", &less.to_string()]);
    until("the lower limit is kept", || counted(&mut c) <= less + SLACK / 2);
}

#[test]
fn only_keys_with_deadlines_give_way_under_a_volatile_policy() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    c.ok(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]);
    limit(&mut c, 8 * MIB);
    assert_eq!(fill(&mut c, "lasting", 1000, "").first(), None);
    assert_eq!(fill(&mut c, "soon", 10_000, " EX 1000").first(), None);
    assert_eq!(fill(&mut c, "late", 1000, " EX 9000").first(), None);
    assert!(number(&mut c, "evicted_keys") > 1000);
    for name in ["lasting", "late"] {
        let there = (0..1000).filter(|i| c.call(&["EXISTS", &format!("{name}{i}")]) == Reply::Int(1)).count();
        assert_eq!(there, 1000, "{name}");
    }
    // When there is none left, writes are refused.
    let errors = fill(&mut c, "more", 12_000, "");
    assert!(!errors.is_empty() && errors.iter().all(|error| error == OOM), "{:?}", errors.first());
    assert_eq!(c.call(&["EXISTS", "soon0", "soon9999", "late999"]), Reply::Int(0));
    assert_eq!(c.call(&["EXISTS", "lasting0"]), Reply::Int(1));
}

#[test]
fn without_eviction_what_takes_memory_is_refused_in_redis_words() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    c.ok(&["SET", "k", "v"]);
    for policy in ["noeviction", "volatile-lru"] {
        c.ok(&["CONFIG", "SET", "maxmemory-policy", policy, "maxmemory", "1"]);
        for command in ["SET k w", "RPUSH l a", "HSET h f v", "SETRANGE k 0 x", "MSET a 1 b 2"] {
            assert_eq!(c.error(&command.split(' ').collect::<Vec<_>>()), OOM, "{policy}: {command}");
        }
        assert_eq!(c.call(&["GET", "k"]), support::bulk("v"));
        assert_eq!(c.call(&["DEL", "nosuch"]), Reply::Int(0));
        // A pipeline in which some may go on.
        c.raw(b"SET k w\r\nDEL nosuch\r\nSET k x\r\nPERSIST k\r\nGET k\r\n");
        let replies: Vec<String> = (0..5).map(|_| format!("{:?}", c.reply())).collect();
        assert!(replies[0].contains("OOM") && replies[2].contains("OOM"), "{policy}: {replies:?}");
        assert!(!replies[1].contains("OOM") && replies[3].contains("Int(0)"), "{policy}: {replies:?}");
        // A transaction: refused when it is queued or when it runs, but never half of it.
        c.ok(&["MULTI"]);
        let queued = c.call(&["SET", "k", "w"]);
        let _ = c.call(&["DEL", "k"]);
        let refused = c.error(&["EXEC"]);
        let named = format!("EXECABORT Transaction discarded because of: {OOM}");
        match queued {
            Reply::Error(error) => {
                assert_eq!(error, OOM);
                assert_eq!(refused, "EXECABORT Transaction discarded because of previous errors.");
            }
            _ => assert_eq!(refused, named, "{policy}"),
        }
        assert_eq!(c.call(&["EXISTS", "k"]), Reply::Int(1));
        // Scripts run, up to a command that takes memory; one that has written may go on.
        assert_eq!(c.call(&["EVAL", "return redis.call('get', KEYS[1])", "1", "k"]), support::bulk("v"));
        let error = c.error(&["EVAL", "return redis.call('set', KEYS[1], 'w')", "1", "k"]);
        assert!(error.contains(OOM.trim_end_matches('.')), "{policy}: {error}");
        let both = "redis.call('del', KEYS[1]); return redis.call('set', KEYS[1], 'v')";
        c.ok(&["EVAL", both, "1", "k"]);
        c.ok(&["CONFIG", "SET", "maxmemory", "0"]);
        c.ok(&["SET", "k", "v"]);
    }
}

#[test]
fn uses_are_told_by_object_and_restored() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    c.ok(&["SET", "k", "v"]);
    let Reply::Bulk(payload) = c.call(&["DUMP", "k"]) else { panic!("a payload") };
    c.ok(&[b"RESTORE".as_slice(), b"old", b"0", &payload, b"IDLETIME", b"1000"]);
    let idle = |c: &mut Connection, key: &str| match c.call(&["OBJECT", "IDLETIME", key]) {
        Reply::Int(seconds) => seconds,
        other => panic!("{other:?}"),
    };
    assert!((1000..1100).contains(&idle(&mut c, "old")));
    // These are no uses.
    for command in [&["TTL", "old"][..], &["TYPE", "old"], &["EXISTS", "old"], &["OBJECT", "ENCODING", "old"]] {
        c.call(command);
    }
    c.ok(&["CLIENT", "NO-TOUCH", "on"]);
    assert_eq!(c.call(&["GET", "old"]), support::bulk("v"));
    assert!(idle(&mut c, "old") >= 1000);
    assert_eq!(c.call(&["TOUCH", "old"]), Reply::Int(1));
    assert!(idle(&mut c, "old") < 100);
    c.ok(&["CLIENT", "NO-TOUCH", "off"]);
    assert!(c.error(&["OBJECT", "FREQ", "old"]).starts_with("ERR An LFU maxmemory policy is not selected"));
    c.ok(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
    c.ok(&[b"RESTORE".as_slice(), b"often", b"0", &payload, b"FREQ", b"100"]);
    assert_eq!(c.call(&["OBJECT", "FREQ", "often"]), Reply::Int(100));
    assert!(c.error(&["OBJECT", "IDLETIME", "old"]).starts_with("ERR An LFU maxmemory policy is selected"));
    // In the log it is the same for everybody.
    c.ok(&["MULTI"]);
    c.call(&["SET", "other", "v"]);
    c.call(&["OBJECT", "FREQ", "often"]);
    assert_eq!(c.call(&["EXEC"]), Reply::Array(vec![Reply::Ok, Reply::Int(0)]));
    assert_eq!(c.call(&["CONFIG", "GET", "lfu-log-factor"]), bulks(&["lfu-log-factor", "10"]));
}
