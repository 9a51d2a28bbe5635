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

/// What a script can reach: every table, function and text from `_G` on, by the way to it.
const REACHABLE: &str = "
    local seen, found = {}, {}
    local function walk(value, way)
      if #found > 1000 then return end
      found[#found + 1] = way .. ' ' .. type(value)
      if type(value) ~= 'table' or seen[value] then return end
      seen[value] = true
      local names = {}
      for name in pairs(value) do names[#names + 1] = tostring(name) end
      table.sort(names)
      for _, name in ipairs(names) do walk(rawget(value, name), way .. '.' .. name) end
      if getmetatable(value) then walk(getmetatable(value), way .. '#') end
    end
    walk(_G, '_G')
    walk(getmetatable(''), 'text')
    return found";

#[test]
fn what_a_script_leaves_behind_reaches_no_other() {
    let mut engine = Engine::new(SEED);
    let clean = eval(&mut engine, REACHABLE, &["0"]);
    let Reply::Array(ways) = &clean else { panic!("{clean:?}") };
    assert!(ways.len() > 120 && ways.contains(&Reply::bulk("_G.table.insert function")), "{ways:?}");
    let attempts = [
        "string.len = function() return 42 end",
        "rawset(_G, 'left', 1)",
        "rawset(string, 'left', 1)",
        "rawset(getmetatable(_G), '__index', {})",
        "redis.call = nil",
        "table.insert(string, 1)",
        "table.insert(string, 1, 1)",
        "table.remove(string)",
        "table.sort(string)",
        "table.foreach(string, function(k) string[k] = 1 end)",
        "getmetatable('').__index = nil",
        "getmetatable('').__index.len = nil",
        "setmetatable(string, {})",
        "setmetatable(_G, {__index = function() return 1 end})",
        "for name, value in pairs(_G) do if type(value) == 'table' then value.left = 1 end end",
        "error(string)",
        "error(_G)",
        "pcall(error, redis)",
        "KEYS.left = 1 ARGV.left = 1 KEYS, ARGV = nil, nil",
        "loadstring('left = 1')()",
        "loadstring('string.left = 1')()",
        "redis.setresp(3) math.randomseed(7)",
        "local t = setmetatable({}, {__index = function(_, k) return _G[k] end}) t.string.left = 1",
        "xpcall(function() error(string) end, function(e) e.left = 1 end)",
        "string.gsub('x', 'x', function() string.left = 1 end)",
        "cjson.decode('{\"a\":1}').left = 1 cjson.null = 1 struct.left = 1 bit.left = 1 cmsgpack.left = 1",
    ];
    let random = |engine: &mut Engine| eval(engine, "return math.random(1000000)", &["0"]);
    for body in attempts {
        eval(&mut engine, body, &["0"]);
        eval(&mut engine, &format!("pcall(function() {body} end) return 1"), &["0"]);
        assert_eq!(eval(&mut engine, REACHABLE, &["0"]), clean, "{body}");
        let probe = "return {('abc'):len(), #KEYS, #ARGV, redis.call('hgetall', 'nosuch')}";
        let expected = vec![Reply::Int(3), Reply::Int(0), Reply::Int(0), Reply::Array(vec![])];
        assert_eq!(eval(&mut engine, probe, &["0"]), Reply::Array(expected), "{body}");
        let fresh = random(&mut Engine::new(SEED));
        assert_eq!(random(&mut engine), fresh, "{body}: the entry alone decides");
    }
    let library = "#!lua name=lib\nlocal n = 0 redis.register_function('f', function() n = n + 1 return n end)";
    run(&mut engine, 10, "FUNCTION FLUSH");
    let load = quoris_resp::Argv::from_parts(&["FUNCTION", "LOAD", library]);
    apply(&mut engine, 1000, &[(CommandMeta::default(), load)]);
    for _ in 0..3 {
        assert_eq!(run(&mut engine, 1000, "FCALL f 0"), Reply::Int(1));
        assert_eq!(eval(&mut engine, REACHABLE, &["0"]), clean);
    }
}

#[test]
fn a_single_call_ends_within_the_budget() {
    let mut engine = hurried();
    let hostile = [
        "return ARGV[1]:find('.-.-.-.-.-.-b')",
        "return ARGV[1]:match('a*a*a*a*a*a*a*b')",
        "return ARGV[1]:find('(.-)%1(.-)%2(.-)%3b')",
        "return ARGV[1]:gsub('.-.-.-.-b', '')",
        "return ARGV[1]:gsub('.-.-.-.-b', {})",
        "for w in ARGV[1]:gmatch('.-.-.-.-b') do end",
        "return ARGV[1]:find('[' .. ('a'):rep(5000) .. 'b]-[' .. ('a'):rep(5000) .. 'c]-b')",
        "return ('%('):rep(1000):find(('%b()'):rep(1000))",
        "return ARGV[1]:rep(1000):find(('a'):rep(500000) .. 'b', 1, true)",
        "local t = {} for i = 1, 5000 do t[i] = i end while true do for i = 1, 300 do table.insert(t, 1, i) end end",
        "local t = {} for i = 1, 5000 do t[i] = i % 7 end while true do table.sort(t) end",
        "local s = ('x'):rep(100000) while true do local t = string.format('%s%s', s, s) end",
        "local s = ('x'):rep(10000) local t = {} for i = 1, 100 do t[i] = s end while true do table.concat(t) end",
        "while true do string.rep('x', 1000000) end",
        "while true do redis.call('get', 'nosuch') end",
        "pcall(string.find, ARGV[1], '.-.-.-.-.-.-b') redis.call('set', 'caught', 1) return 1",
    ];
    for body in hostile {
        let reply = eval(&mut engine, body, &["0", &"a".repeat(5000)]);
        assert!(text(&reply).contains("was stopped and its writes were taken back"), "{body}: {}", text(&reply));
    }
    assert_eq!(run(&mut engine, 1000, "EXISTS caught"), Reply::Int(0));
    let bounded = [
        ("return ('x'):rep(2000):find(('x?'):rep(2000) .. 'y')", "pattern too complex"),
        ("local t = {} for i = 1, 40 do t = {t, t} end return cjson.encode(t)", "excessive length"),
        ("local t = {} for i = 1, 40 do t = {t, t} end return t", "too long"),
        ("local s, t = ('x'):rep(1000000), {} for i = 1, 5000 do t[i] = s end return t", "too long"),
        (
            "local s, t = ('x'):rep(1000000), {} for i = 1, 5000 do t[i] = s end redis.call('del', unpack(t))",
            "too long",
        ),
    ];
    let mut engine = Engine::new(SEED);
    for (body, expected) in bounded {
        let reply = eval(&mut engine, body, &["0"]);
        assert!(text(&reply).contains(expected), "{body}: {}", text(&reply));
    }
}

#[test]
fn a_script_that_needs_more_memory_runs_once() {
    let bodies = [
        "for i = 1, 10 do redis.call('incr', 'n') end local s = ('x'):rep(20000000) redis.call('incr', 'n') \
         return {#s, redis.call('get', 'n'), math.random(1000)}",
        "redis.call('select', 3) redis.call('incr', 'n') local t = {} for i = 1, 300000 do t[i] = {i} end \
         redis.call('incr', 'n') return redis.call('get', 'n')",
        "redis.call('incr', 'n') local ok = pcall(function() return ('x'):rep(20000000) end) \
         redis.call('incr', 'n') return {tostring(ok), redis.call('get', 'n')}",
        "for i = 1, 150000 do redis.call('incr', 'n') end return redis.call('get', 'n')",
        "for i = 1, 20 do redis.call('rpush', 'l', ('x'):rep(1000000)) end return redis.call('lrange', 'l', 0, -1)",
    ];
    let expected = [
        Reply::Array(vec![Reply::Int(20_000_000), Reply::bulk("11")]),
        Reply::bulk("2"),
        Reply::Array(vec![Reply::bulk("true"), Reply::bulk("2")]),
        Reply::bulk("150000"),
    ];
    for (place, body) in bodies.iter().enumerate() {
        let (mut one, mut other) = (Engine::new(SEED), Engine::new(SEED));
        let reply = eval(&mut one, body, &["0"]);
        // The other has a state that has seen much.
        (0..200).for_each(|n| drop(eval(&mut Engine::new(SEED), &format!("return ('{n}'):rep(10000)"), &["0"])));
        assert_eq!(eval(&mut other, body, &["0"]), reply, "{body}");
        assert_eq!(one.digest(), other.digest(), "{body}");
        match (&reply, expected.get(place)) {
            (Reply::Array(parts), Some(Reply::Array(wanted))) => assert_eq!(parts[..2], wanted[..], "{body}"),
            (Reply::Array(parts), None) => assert_eq!(parts.len(), 20),
            (reply, wanted) => assert_eq!(Some(reply), wanted, "{body}"),
        }
    }
}

#[test]
fn functions_survive_a_snapshot_and_are_part_of_the_digest() {
    let load = |engine: &mut Engine, code: &str| {
        let argv = quoris_resp::Argv::from_parts(&["FUNCTION", "LOAD", "REPLACE", code]);
        apply(engine, 1000, &[(CommandMeta::default(), argv)]).pop().expect("one reply")
    };
    let mut engine = Engine::new(SEED);
    let empty = engine.digest();
    for (name, n) in [("b", 1), ("a", 2)] {
        let code = format!("#!lua name={name}\nredis.register_function('{name}', function() return {n} end)");
        assert_eq!(load(&mut engine, &code), Reply::bulk(name));
    }
    assert_ne!(engine.digest(), empty);
    let file = engine.snapshot(vec![]).expect("none is running");
    let mut again = Engine::load(&mut &file[..], &mut |_| {}).expect("own snapshot").engine;
    assert_eq!(again.digest(), engine.digest());
    assert_eq!(again.snapshot(vec![]).expect("none is running"), file);
    assert_eq!(run(&mut again, 1000, "FCALL A 0"), Reply::Int(2));
    assert_eq!(run(&mut again, 1000, "FUNCTION LIST"), run(&mut engine, 1000, "FUNCTION LIST"));
    run(&mut again, 1000, "FUNCTION DELETE a");
    assert_ne!(again.digest(), engine.digest());
    let endless = load(&mut engine, "#!lua name=e\nwhile true do end");
    assert_eq!(text(&endless), "ERR Error registering functions: ERR FUNCTION LOAD timeout");
    let reply = load(&mut engine, "#!lua name=e\nredis.register_function('e', function() while true do end end)");
    assert_eq!(reply, Reply::bulk("e"));
    let mut engine = hurried();
    load(
        &mut engine,
        "#!lua name=e\nredis.register_function('e', function() redis.call('set', 'k', 1) while true do end end)",
    );
    assert!(text(&run(&mut engine, 1000, "FCALL e 0")).contains("script e was stopped"));
    assert_eq!(run(&mut engine, 1000, "EXISTS k"), Reply::Int(0));
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
    let mut engine = Engine::new(SEED).owning(&[(0, 8191)]);
    assert_eq!((crate::slot(b"f"), crate::slot(b"j")), (3168, 3564));
    let both = "redis.call('set', 'f', 1) return redis.call('set', KEYS[1], 1)";
    assert_eq!(eval(&mut engine, both, &["1", "j"]), Reply::status("OK"));
    let reply = eval(&mut engine, &format!("#!lua\n{both}"), &["1", "j"]);
    assert!(text(&reply).contains("keys that do not hash to the same slot"), "{reply:?}");
    let flagged = format!("#!lua flags=allow-cross-slot-keys\n{both}");
    assert_eq!(eval(&mut engine, &flagged, &["1", "j"]), Reply::status("OK"));
    let reply = eval(&mut engine, "#!lua flags=no-cluster\nreturn 1", &["0"]);
    assert_eq!(text(&reply), "ERR Can not run script on cluster, 'no-cluster' flag is set.");
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
