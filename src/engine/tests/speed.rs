//! How long the hot path takes: run with `cargo test --release -p quoris-engine --test speed -- --ignored --nocapture`.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use quoris_engine::command::{Handler, lookup};
use quoris_engine::{ApplyContext, Keyspace, ReadContext, Rng};
use quoris_resp::Argv;

fn each(what: &str, mut run: impl FnMut(usize)) -> Duration {
    const ROUNDS: usize = 2_000_000;
    let begin = Instant::now();
    (0..ROUNDS).for_each(&mut run);
    let each = begin.elapsed() / ROUNDS as u32;
    eprintln!("{what}: {each:?}");
    each
}

#[test]
#[ignore = "a measurement, not a check"]
fn lookup_set_and_get() {
    let names = ["GET", "set", "INCRBYFLOAT", "PEXPIREAT", "object"]
        .map(|name| Argv::from_parts(&[name, "encoding", "k", "v"]));
    each("lookup", |i| drop(black_box(lookup(&names[i % 2]))));
    let mut keyspace = Keyspace::new([1, 2], 1);
    let keys: Vec<String> = (0..100_000).map(|n| format!("key:{n:012}")).collect();
    let sets: Vec<Argv> = keys.iter().map(|key| Argv::from_parts(&["SET", key, "xxxxxxxxxxxxxxxx"])).collect();
    let gets: Vec<Argv> = keys.iter().map(|key| Argv::from_parts(&["GET", key])).collect();
    let mut apply = ApplyContext { database: 0, index: 1, now_ms: 1, rng: Rng::new(1), waits: false, short: false };
    each("SET of 16 bytes, lookup included", |i| {
        let argv = &sets[i * 7919 % sets.len()];
        let Handler::Write(write) = lookup(argv).expect("SET").command.handler else { panic!("SET writes") };
        black_box(write(&mut keyspace, &mut apply, argv)).expect("SET works");
    });
    let read = ReadContext { database: 0, now_ms: 1, rng: RefCell::new(Rng::new(1)) };
    each("GET of 16 bytes, lookup included", |i| {
        let argv = &gets[i * 7919 % gets.len()];
        let Handler::Read(get) = lookup(argv).expect("GET").command.handler else { panic!("GET reads") };
        black_box(get(&keyspace, &read, argv)).expect("GET works");
    });
}

/// Runs a command as apply does.
fn apply(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) {
    let reply = match lookup(argv).expect("a command").command.handler {
        Handler::Write(write) => write(keyspace, context, argv),
        Handler::Read(read) => {
            let context = ReadContext { database: 0, now_ms: 1, rng: RefCell::new(context.rng.clone()) };
            read(keyspace, &context, argv)
        }
        _ => panic!("not the engine's"),
    };
    black_box(reply).expect("it works");
}

#[test]
#[ignore = "a measurement, not a check"]
fn scripts_and_functions() {
    let mut keyspace = Keyspace::new([1, 2], 1);
    let mut context = ApplyContext { database: 0, index: 1, now_ms: 1, rng: Rng::new(1), waits: false, short: false };
    let library =
        "#!lua name=lib\nredis.register_function('get', function(keys) return redis.call('GET', keys[1]) end)";
    apply(&mut keyspace, &mut context, &Argv::from_parts(&["FUNCTION", "LOAD", library]));
    let many: String = (0..50).map(|n| format!("redis.register_function('f{n}', function() end)\n")).collect();
    apply(&mut keyspace, &mut context, &Argv::from_parts(&["FUNCTION", "LOAD", &format!("#!lua name=many\n{many}")]));
    let mut time = |what: &str, parts: &[&str]| {
        const ROUNDS: u32 = 100_000;
        let argv = Argv::from_parts(parts);
        let begin = Instant::now();
        (0..ROUNDS).for_each(|_| apply(&mut keyspace, &mut context, &argv));
        eprintln!("{what}: {:?}", begin.elapsed() / ROUNDS);
    };
    time("SET", &["SET", "k", "v"]);
    time("EVAL return 1", &["EVAL", "return 1", "0"]);
    time("EVAL GET", &["EVAL", "return redis.call('GET', KEYS[1])", "1", "k"]);
    time("EVAL_RO GET", &["EVAL_RO", "return redis.call('GET', KEYS[1])", "1", "k"]);
    let limit = "local n = redis.call('INCR', KEYS[1]) if n == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end \
        if n > tonumber(ARGV[2]) then return 0 end return n";
    time("EVAL of a rate limit", &["EVAL", limit, "1", "n", "60", "1000000"]);
    time("EVAL cjson", &["EVAL", "return cjson.encode(cjson.decode(ARGV[1]))", "0", "{\"a\":[1,2,3],\"b\":\"c\"}"]);
    time("EVAL gsub", &["EVAL", "return (ARGV[1]:gsub('%d+', '#'))", "0", "user:1234:name:5678"]);
    time("EVAL of 100 calls", &["EVAL", "for i = 1, 100 do redis.call('GET', KEYS[1]) end", "1", "k"]);
    time("FCALL GET", &["FCALL", "get", "1", "k"]);
    time("FCALL of a library of 50", &["FCALL", "f7", "0"]);
}

#[test]
#[ignore = "a measurement, not a check"]
fn bitmaps_and_hyperloglogs() {
    let mut keyspace = Keyspace::new([1, 2], 1);
    let mut context = ApplyContext { database: 0, index: 1, now_ms: 1, rng: Rng::new(1), waits: false, short: false };
    let mut time = |what: &str, rounds: usize, parts: &dyn Fn(usize) -> Vec<String>| {
        let begin = Instant::now();
        for round in 0..rounds {
            let parts = parts(round);
            apply(&mut keyspace, &mut context, &Argv::from_parts(&parts));
        }
        eprintln!("{what}: {:?}", begin.elapsed() / rounds as u32);
    };
    let words = |text: String| text.split(' ').map(str::to_string).collect::<Vec<_>>();
    time("SETBIT, 16 MiB made", 1, &|_| words("SETBIT large 134217727 1".into()));
    time("SETBIT within 16 MiB", 100_000, &|n| words(format!("SETBIT large {} 1", n * 7919 % 134_217_728)));
    time("BITCOUNT of 16 MiB", 20, &|_| words("BITCOUNT large".into()));
    time("BITOP XOR of twice 16 MiB", 20, &|_| words("BITOP XOR zeros large large".into()));
    time("BITPOS of 16 MiB", 20, &|_| words("BITPOS zeros 1".into()));
    time("PFADD, sparse and then dense", 1_000_000, &|n| words(format!("PFADD dense {n}")));
    time("PFADD of what is there", 1_000_000, &|n| words(format!("PFADD dense {n}")));
    time("PFADD, sparse", 700, &|n| words(format!("PFADD sparse {n}")));
    time("PFCOUNT, dense", 1000, &|_| words("PFCOUNT dense".into()));
    time("PFCOUNT, sparse", 1000, &|_| words("PFCOUNT sparse".into()));
    time("PFMERGE, sparse", 1000, &|_| words("PFMERGE merged sparse".into()));
    time("PFMERGE, dense", 1000, &|_| words("PFMERGE merged dense sparse".into()));
}

#[test]
#[ignore = "a measurement, not a check"]
fn sets_and_hashes_of_a_million() {
    const MILLION: usize = 1_000_000;
    let mut keyspace = Keyspace::new([1, 2], 1);
    let mut context = ApplyContext { database: 0, index: 1, now_ms: 1, rng: Rng::new(1), waits: false, short: false };
    let mut each = |what: &str, count: usize, argv: &dyn Fn(usize) -> Argv| {
        let argvs: Vec<Argv> = (0..count).map(|n| argv(n.wrapping_mul(7_919) % MILLION)).collect();
        let begin = Instant::now();
        argvs.iter().for_each(|argv| apply(&mut keyspace, &mut context, argv));
        eprintln!("{what}: {:?}", begin.elapsed() / count as u32);
    };
    each("SADD", MILLION, &|n| Argv::from_parts(&["SADD", "s", &format!("member:{n:012}")]));
    each("SISMEMBER", MILLION, &|n| Argv::from_parts(&["SISMEMBER", "s", &format!("member:{n:012}")]));
    each("SRANDMEMBER", 100_000, &|_| Argv::from_parts(&["SRANDMEMBER", "s"]));
    each("SSCAN of 10", 100_000, &|n| Argv::from_parts(&["SSCAN", "s", &(n * 4000).to_string()]));
    each("SPOP", 100_000, &|_| Argv::from_parts(&["SPOP", "s"]));
    each("SREM", 100_000, &|n| Argv::from_parts(&["SREM", "s", &format!("member:{n:012}")]));
    each("HSET", MILLION, &|n| Argv::from_parts(&["HSET", "h", &format!("field:{n:012}"), "value"]));
    each("HGET", MILLION, &|n| Argv::from_parts(&["HGET", "h", &format!("field:{n:012}")]));
    each("HINCRBY", 100_000, &|n| Argv::from_parts(&["HINCRBY", "h", &format!("count:{n}"), "1"]));
    each("HPEXPIRE", 100_000, &|n| {
        Argv::from_parts(&["HPEXPIRE", "h", "9999999", "FIELDS", "1", &format!("field:{n:012}")])
    });
    each("HGET with deadlines", MILLION, &|n| Argv::from_parts(&["HGET", "h", &format!("field:{n:012}")]));
    each("HRANDFIELD", 100_000, &|_| Argv::from_parts(&["HRANDFIELD", "h"]));
    each("HDEL", 100_000, &|n| Argv::from_parts(&["HDEL", "h", &format!("field:{n:012}")]));
    each("HSET of 100 small hashes", MILLION, &|n| {
        Argv::from_parts(&["HSET", &format!("small:{}", n % 100), &format!("f{}", n % 37), "value"])
    });
    each("SADD to 100 small sets", MILLION, &|n| {
        Argv::from_parts(&["SADD", &format!("tiny:{}", n % 100), &format!("m{}", n % 37)])
    });
}

#[test]
#[ignore = "a measurement, not a check"]
fn a_sorted_set_of_a_million() {
    const MILLION: usize = 1_000_000;
    let mut keyspace = Keyspace::new([1, 2], 1);
    let mut context = ApplyContext { database: 0, index: 1, now_ms: 1, rng: Rng::new(1), waits: false, short: false };
    let mut each = |what: &str, words: &dyn Fn(usize) -> String| {
        let argv = |n: usize| Argv::from_parts(&words(n * 7919 % MILLION).split(' ').collect::<Vec<_>>());
        let argvs: Vec<Argv> = (0..MILLION).map(argv).collect();
        let begin = Instant::now();
        argvs.iter().for_each(|argv| apply(&mut keyspace, &mut context, argv));
        eprintln!("{what}: {:?}", begin.elapsed() / MILLION as u32);
    };
    each("ZADD of a new member", &|n| format!("ZADD z {n} member:{n}"));
    each("ZADD of a new score", &|n| format!("ZADD z {} member:{n}", n * 31 % MILLION));
    each("ZSCORE", &|n| format!("ZSCORE z member:{n}"));
    each("ZRANK", &|n| format!("ZRANK z member:{n}"));
    each("ZRANGE of ten by rank", &|n| format!("ZRANGE z {n} {}", n + 9));
    each("ZCOUNT", &|n| format!("ZCOUNT z {n} +inf"));
    each("ZPOPMIN", &|_| "ZPOPMIN z".into());
}
