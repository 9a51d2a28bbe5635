//! Limits, determinism, and what a stopped script leaves behind.

use quoris_resp::Reply;

use crate::entry::CommandMeta;
use crate::testing::{SEED, apply, for_seeds, run};
use crate::{Engine, Settings};

fn eval(engine: &mut Engine, script: &str, words: &[&str]) -> Reply {
    let parts: Vec<&str> = ["EVAL", script].into_iter().chain(words.iter().copied()).collect();
    let argv = quoris_resp::Argv::from_parts(&parts);
    apply(engine, 1000, &[(CommandMeta::default(), argv)]).pop().expect("one reply")
}

/// An engine whose scripts have a small budget.
fn hurried() -> Engine {
    let mut engine = Engine::new(SEED);
    let mut settings = Settings { version: 1, ..Settings::default() };
    settings.set("busy-reply-threshold", "10").expect("a setting");
    apply(&mut engine, 1, &[(CommandMeta::default(), settings.to_argv())]);
    engine
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Error(text) => String::from_utf8_lossy(text).into_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_script_that_does_not_end_is_stopped_and_leaves_nothing() {
    let loops = [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local function f() return f() end return f()",
        "while true do pcall(redis.call, 'nosuch') end",
        "while true do local ok = xpcall(error, function() return 1 end) end",
    ];
    for body in loops {
        let mut engine = hurried();
        for words in ["SET a 1", "SET ttl x PX 50000", "RPUSH l 1 2", "SET gone x"] {
            run(&mut engine, 10, words);
        }
        let before: Vec<Reply> = ["GET a", "PEXPIRETIME ttl", "LRANGE l 0 -1", "GET gone", "DBSIZE"]
            .map(|words| run(&mut engine, 10, words))
            .to_vec();
        let writes = "redis.call('set', 'a', 2) redis.call('persist', 'ttl') redis.call('rpush', 'l', 3) \
            redis.call('del', 'gone') redis.call('set', 'new', 1) redis.call('swapdb', 0, 1) redis.call('flushall') ";
        let reply = eval(&mut engine, &format!("{writes} {body}"), &["0"]);
        assert!(text(&reply).contains("was stopped and its writes were taken back"), "{body}: {}", text(&reply));
        let after: Vec<Reply> = ["GET a", "PEXPIRETIME ttl", "LRANGE l 0 -1", "GET gone", "DBSIZE"]
            .map(|words| run(&mut engine, 10, words))
            .to_vec();
        assert_eq!(after, before, "{body}");
        assert_eq!(engine.keyspace.digest(), engine.keyspace.digest_from_scratch());
    }
}

#[test]
fn a_script_that_takes_all_memory_fails() {
    let mut engine = Engine::new(SEED);
    let greedy = [
        "local t = {} while true do t[#t + 1] = ('x'):rep(1000000) .. #t end",
        "local s = 'x' while true do s = s .. s end",
        "return ('x'):rep(1e15)",
        "return (''):rep(1e15)",
    ];
    for body in greedy {
        let reply = eval(&mut engine, body, &["0"]);
        assert!(reply.is_error() || reply == Reply::bulk(""), "{body}: {reply:?}");
    }
    assert_eq!(eval(&mut engine, "return 1", &["0"]), Reply::Int(1));
}

#[test]
fn what_a_script_leaves_behind_reaches_no_other() {
    let mut engine = Engine::new(SEED);
    for body in [
        "string.len = function() return 42 end",
        "rawset(_G, 'left', 1)",
        "redis.call = nil",
        "table.insert(string, 1)",
        "getmetatable('').__index = nil",
        "rawset(string, 'left', 1)",
    ] {
        eval(&mut engine, body, &["0"]);
        let probe =
            "return {('abc'):len(), type(redis.call), #string, tostring(rawget(_G, 'left')), rawget(string, 'left')}";
        let clean = Reply::Array(vec![Reply::Int(3), Reply::bulk("function"), Reply::Int(0), Reply::bulk("nil")]);
        assert_eq!(eval(&mut engine, probe, &["0"]), clean, "{body}");
    }
}

#[test]
fn a_script_keeps_to_the_slots_of_its_group() {
    let (inside, outside) = ("return redis.call('set', 'b', 1)", "return redis.call('set', 'a', 1)");
    assert_eq!((crate::slot(b"b"), crate::slot(b"a")), (3300, 15495));
    let mut engine = Engine::new(SEED).owning(&[(0, 8191)]);
    for _ in 0..2 {
        assert_eq!(eval(&mut engine, inside, &["0"]), Reply::status("OK"));
        let reply = eval(&mut engine, outside, &["0"]);
        assert!(text(&reply).starts_with("ERR Script attempted to access a non local key"), "{reply:?}");
        let file = engine.snapshot(vec![]).expect("none is running");
        engine = Engine::load(&mut &file[..], &mut |_| {}).expect("own snapshot").engine;
    }
    assert_eq!(eval(&mut Engine::new(SEED).owning(&[(0, 16383)]), outside, &["0"]), Reply::status("OK"));
}

#[test]
fn replicas_agree_on_scripts() {
    let bodies = [
        "return redis.call('incrby', 'n', math.random(1000))",
        "local t = {} for i = 1, 50 do t['k' .. math.random(100)] = i end \
         for k, v in pairs(t) do redis.call('rpush', 'order', k) end return #t",
        "redis.call('set', 'f', tostring(math.sqrt(2) * ARGV[1])) return redis.call('get', 'f')",
        "return redis.call('lpop', 'order', 3)",
        "return tostring({}) .. tostring(print)",
        "redis.call('set', 'late', 1) error('x')",
        "return redis.call('randomkey')",
        "while true do redis.call('incr', 'n') end",
    ];
    for_seeds(10, |rng| {
        let (mut one, mut other) = (hurried(), hurried());
        for step in 0..60 {
            let body = bodies[rng.below(bodies.len() as u64) as usize];
            let seed = rng.below(1000).to_string();
            let replies = [&mut one, &mut other].map(|engine| eval(engine, body, &["0", &seed]));
            assert_eq!(replies[0], replies[1], "{body}");
            assert_eq!(one.digest(), other.digest(), "{body}");
            if step % 20 == 10 {
                let file = other.snapshot(vec![]).expect("none is running");
                other = Engine::load(&mut &file[..], &mut |_| {}).expect("own snapshot").engine;
                assert_eq!(one.digest(), other.digest());
            }
        }
    });
}
