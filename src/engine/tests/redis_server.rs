//! Both directions with a real redis-server: it loads and checks our snapshots, we read its dumps.
//!
//! Skipped, with a message, where redis-server or redis-check-rdb is not installed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quoris_engine::entry::{CommandMeta, EntryBuilder};
use quoris_engine::rdb::{ForeignOptions, dump_value, read_foreign, restore_value};
use quoris_engine::{Engine, EngineSeed, Settings, StringValue, Value};
use quoris_resp::Argv;

/// Deadlines of this test, far in the future of any wall clock: Unix milliseconds in the year 2100.
const FAR_MS: u64 = 4_102_444_800_000;

fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// A folder that is removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("quoris-rdb-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A redis-server on a free port of the loopback interface.
struct Redis {
    connection: BufReader<TcpStream>,
    _process: Process,
}

impl Redis {
    fn start(folder: &Path) -> Redis {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no", "--dir"])
            .arg(folder)
            .stdout(Stdio::null())
            .spawn()
            .map(Process)
            .expect("redis-server starts");
        let deadline = Instant::now() + Duration::from_secs(20);
        let stream = loop {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                break stream;
            }
            assert!(Instant::now() < deadline, "redis-server does not listen");
            std::thread::yield_now();
        };
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut redis = Redis { connection: BufReader::new(stream), _process: process };
        loop {
            let reply = redis.ask(&[b"PING"]);
            if reply == b"PONG" {
                return redis;
            }
            let loading = reply.starts_with(b"-LOADING");
            assert!(loading && Instant::now() < deadline, "{}", String::from_utf8_lossy(&reply));
            std::thread::yield_now();
        }
    }

    /// The reply to a command: a status, an error or number with its mark, or a string.
    fn ask(&mut self, parts: &[&[u8]]) -> Vec<u8> {
        let argv = Argv::from_parts(parts);
        self.connection.get_mut().write_all(argv.frame()).expect("redis-server reads");
        let mut line = Vec::new();
        self.connection.read_until(b'\n', &mut line).expect("redis-server answers");
        line.truncate(line.len().saturating_sub(2));
        match line.first() {
            Some(b'+') => line.split_off(1),
            Some(b'$') => {
                let len: i64 = String::from_utf8_lossy(&line[1..]).parse().expect("a length");
                let Ok(len) = usize::try_from(len) else { return b"(nil)".to_vec() };
                let mut bytes = vec![0; len + 2];
                self.connection.read_exact(&mut bytes).expect("redis-server answers");
                bytes.truncate(len);
                bytes
            }
            _ => line,
        }
    }
}

fn write(engine: &mut Engine, database: u32, parts: &[&[u8]]) {
    let mut builder = EntryBuilder::default();
    builder.push(&CommandMeta { database, ..CommandMeta::default() }, &Argv::from_parts(parts));
    let index = engine.applied_index() + 1;
    let entry = builder.finish(1_700_000_000_000, index);
    engine.apply_entry(index, &entry, &mut |_, reply, _| assert!(!reply.is_error(), "{reply:?}")).expect("own format");
}

/// Texts of every encoding that RDB has for strings.
fn texts() -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> =
        ["0", "-1", "127", "-129", "40000", "-70000", "2147483648", "9223372036854775807", "007", "", "plain"]
            .map(|t| t.as_bytes().to_vec())
            .into();
    texts.push((0..=255).collect());
    texts.extend([44, 45, 64, 100, 20_000, 300_000].map(|len| vec![b'a'; len]));
    texts.push((0..200_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect());
    texts
}

/// Commands that make sets and hashes of every encoding, each the whole of its key.
fn collections() -> Vec<Vec<Vec<u8>>> {
    let words = |text: &str| text.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    let many = |name: &str, each: &dyn Fn(u32) -> String| {
        words(&(0..700).fold(name.to_string(), |text, n| format!("{text} {}", each(n))))
    };
    let mut all = vec![
        words("SADD set:16 1 2 -3"),
        words("SADD set:32 1 70000"),
        words("SADD set:64 1 -9223372036854775808"),
        words("SADD set:small a b 1"),
        words("HSET hash:small f v g 7 h -300"),
        many("SADD set:ints", &|n| (n * 3).to_string()),
        many("SADD set:large", &|n| format!("member-{n}")),
        many("HSET hash:large", &|n| format!("field-{n} {n}")),
    ];
    all.push([&b"SADD"[..], b"set:odd", b"", &[0, 255], &[b'x'; 100]].map(<[u8]>::to_vec).into());
    all.push([&b"HSET"[..], b"hash:odd", b"", b"", b"f", &[b'y'; 300_000]].map(<[u8]>::to_vec).into());
    all
}

/// Sorted sets, a small one and a large one, and how many members they have.
const SORTED: &[(&[u8], u32)] = &[(b"small", 100), (b"large", 5000)];

/// ZADD of the member of a number: some scores are fractions or infinite.
fn sorted_member(key: &[u8], number: u32) -> [Vec<u8>; 4] {
    let score = if number % 50 == 7 { "inf".into() } else { format!("{:e}", f64::from(number) / 7.0 - 3.0) };
    [b"ZADD".to_vec(), key.to_vec(), score.into_bytes(), format!("member:{number}").into_bytes()]
}

const LIBRARY: &[u8] = b"#!lua name=lib\nredis.register_function{function_name='f', flags={'no-writes'}, \
    callback=function(keys, args) return #keys + #args end}";

fn own_snapshot() -> Vec<u8> {
    let mut engine = Engine::new(EngineSeed { hash_seed: [1, 2], databases: 16 });
    for (i, text) in texts().iter().enumerate() {
        write(&mut engine, 0, &[b"SET", format!("t{i}").as_bytes(), text]);
        write(&mut engine, 9, &[b"SET", format!("d{i}").as_bytes(), text, b"PXAT", FAR_MS.to_string().as_bytes()]);
    }
    (0..3000).for_each(|i| write(&mut engine, 2, &[b"SET", format!("many:{i}").as_bytes(), b"x"]));
    write(&mut engine, 2, &[b"APPEND", b"grown", b"12"]);
    collections()
        .iter()
        .for_each(|command| write(&mut engine, 3, &command.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    for i in 1..=1000 {
        let (id, field) = (format!("{i}-{}", i % 7), format!("field{}", i / 130));
        write(&mut engine, 3, &[b"XADD", b"stream", id.as_bytes(), field.as_bytes(), b"v", b"other", id.as_bytes()]);
    }
    for i in 0..300 {
        write(&mut engine, 3, &[b"XDEL", b"stream", format!("{}-{}", i * 3, i * 3 % 7).as_bytes()]);
    }
    write(&mut engine, 3, &[b"XGROUP", b"CREATE", b"stream", b"g", b"0"]);
    for consumer in [&b"one"[..], b"two"] {
        let read = [&b"XREADGROUP"[..], b"GROUP", b"g", consumer, b"COUNT", b"200", b"STREAMS", b"stream", b">"];
        write(&mut engine, 3, &read);
    }
    write(&mut engine, 3, &[b"XGROUP", b"CREATE", b"empty", b"g", b"$", b"MKSTREAM"]);
    for (key, count) in SORTED {
        (0..*count).for_each(|i| write(&mut engine, 4, &sorted_member(key, i).each_ref().map(Vec::as_slice)));
    }
    write(&mut engine, 0, &[b"FUNCTION", b"LOAD", LIBRARY]);
    engine.snapshot(vec![("quoris-group".into(), b"7".to_vec())]).expect("none is running")
}

#[test]
fn redis_check_rdb_accepts_a_snapshot() {
    if !installed("redis-check-rdb") {
        return;
    }
    let folder = Folder::new("check");
    let path = folder.0.join("dump.rdb");
    std::fs::write(&path, own_snapshot()).expect("the folder is writable");
    let output = Command::new("redis-check-rdb").arg(&path).output().expect("redis-check-rdb runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("RDB looks OK"), "{text}");
    assert!(text.contains("Checksum OK"), "{text}");
}

#[test]
fn redis_server_loads_a_snapshot() {
    if !installed("redis-server") {
        return;
    }
    let folder = Folder::new("load");
    std::fs::write(folder.0.join("dump.rdb"), own_snapshot()).expect("the folder is writable");
    let mut redis = Redis::start(&folder.0);
    for (i, text) in texts().iter().enumerate() {
        assert!(redis.ask(&[b"GET", format!("t{i}").as_bytes()]) == *text, "text {i}");
    }
    assert_eq!(redis.ask(&[b"DBSIZE"]), format!(":{}", texts().len()).as_bytes());
    assert_eq!(redis.ask(&[b"SELECT", b"9"]), b"OK");
    assert_eq!(redis.ask(&[b"PEXPIRETIME", b"d3"]), format!(":{FAR_MS}").as_bytes());
    assert_eq!(redis.ask(&[b"SELECT", b"2"]), b"OK");
    assert_eq!(redis.ask(&[b"DBSIZE"]), b":3001");
    assert_eq!(redis.ask(&[b"GET", b"grown"]), b"12");
    assert_eq!(redis.ask(&[b"SELECT", b"3"]), b"OK");
    let large = Settings {
        set_max_intset_entries: 0,
        set_max_listpack_entries: 0,
        hash_max_listpack_entries: 0,
        ..Settings::default()
    };
    // One encoding for both, so that the order is the same.
    let same = |payload: &[u8]| dump_value(&restore_value(payload, &large).expect("a payload"));
    let mut engine = Engine::new(EngineSeed { hash_seed: [1, 2], databases: 1 });
    for command in collections() {
        let parts: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        write(&mut engine, 0, &parts);
        let value = engine.keyspace().value(0, parts[1]).expect("it was set");
        let (ours, key) = (dump_value(value), String::from_utf8_lossy(parts[1]).into_owned());
        assert!(same(&redis.ask(&[b"DUMP", parts[1]])) == same(&ours), "{key} from the snapshot");
        assert_eq!(redis.ask(&[b"RESTORE", b"again", b"0", &ours, b"REPLACE"]), b"OK", "{key}");
        let theirs = redis.ask(&[b"DUMP", b"again"]);
        assert!(same(&theirs) == same(&ours), "{key} restored");
        let read = restore_value(&theirs, &Settings::default()).expect("a payload of Redis");
        assert_eq!(read.encoding(), value.encoding(), "{key}");
    }
    assert_eq!(redis.ask(&[b"XLEN", b"stream"]), b":701");
    assert_eq!(redis.ask(&[b"XACK", b"stream", b"g", b"1-1", b"3-3", b"571-4"]), b":2");
    assert_eq!(redis.ask(&[b"XGROUP", b"DELCONSUMER", b"stream", b"g", b"two"]), b":199");
    assert!(redis.ask(&[b"XADD", b"stream", b"1000-6", b"f", b"v"]).starts_with(b"-ERR The ID specified"));
    assert_eq!(redis.ask(&[b"XLEN", b"empty"]), b":0");
    assert_eq!(redis.ask(&[b"FCALL_RO", b"f", b"1", b"a", b"b"]), b":2");
    assert_eq!(redis.ask(&[b"XGROUP", b"DESTROY", b"empty", b"g"]), b":1");
}

#[test]
fn sorted_sets_are_exchanged_in_both_directions() {
    if !installed("redis-server") {
        return;
    }
    let folder = Folder::new("sorted");
    std::fs::write(folder.0.join("dump.rdb"), own_snapshot()).expect("the folder is writable");
    let mut redis = Redis::start(&folder.0);
    assert_eq!(redis.ask(&[b"SELECT", b"4"]), b"OK");
    for (key, count) in SORTED {
        let mut engine = Engine::new(EngineSeed { hash_seed: [1, 2], databases: 1 });
        for command in (0..*count).map(|i| sorted_member(key, i)) {
            let parts = command.each_ref().map(Vec::as_slice);
            assert_eq!(redis.ask(&parts), b":0", "it was in the snapshot, with this score");
            write(&mut engine, 0, &parts);
        }
        assert_eq!(redis.ask(&[b"ZCARD", key]), format!(":{count}").as_bytes());
        let value = engine.keyspace().value(0, key).expect("it was made");
        assert_eq!(redis.ask(&[b"OBJECT", b"ENCODING", key]), value.encoding().as_bytes());
        let (ours, theirs) = (dump_value(value), redis.ask(&[b"DUMP", key]));
        assert_eq!(ours == theirs, *key == b"large", "large ones have one form, small ones are packed there");
        assert!(&restore_value(&theirs, &Settings::default()).expect("a payload of Redis") == value);
        assert_eq!(redis.ask(&[b"RESTORE", b"again", b"0", &ours, b"REPLACE"]), b"OK");
        assert_eq!(redis.ask(&[b"DUMP", b"again"]), theirs);
    }
}

/// Values of all other types, small and large, and one more string.
fn fill_with_other_types(redis: &mut Redis) {
    for command in [
        &[&b"RPUSH"[..], b"list", b"a", b"b"][..],
        &[b"SADD", b"ints", b"1", b"2"],
        &[b"SADD", b"set", b"a", b"b"],
        &[b"HSET", b"hash", b"f", b"v"],
        &[b"ZADD", b"zset", b"1.5", b"m"],
        &[b"XADD", b"stream", b"1-1", b"f", b"v"],
        &[b"XGROUP", b"CREATE", b"stream", b"g", b"0"],
        &[b"XREADGROUP", b"GROUP", b"g", b"c", b"STREAMS", b"stream", b">"],
        &[b"SET", b"after", b"x"],
    ] {
        // Arrays are read line by line and are of no interest.
        assert!(!redis.ask(command).starts_with(b"-"), "{command:?}");
        while !redis.connection.buffer().is_empty() {
            redis.connection.consume(redis.connection.buffer().len());
        }
    }
    let mut members: Vec<Vec<u8>> = (0..2000).map(|i| format!("member-{i}").into_bytes()).collect();
    for name in ["SADD", "RPUSH"] {
        let key = format!("large-{name}").into_bytes();
        let mut parts = vec![name.as_bytes(), &key];
        parts.extend(members.iter().map(Vec::as_slice));
        assert_eq!(redis.ask(&parts), b":2000");
    }
    members.truncate(600);
    let pairs: Vec<_> = members.iter().enumerate().flat_map(|(i, m)| [i.to_string().into_bytes(), m.clone()]).collect();
    for name in ["ZADD", "HSET"] {
        let key = format!("large-{name}").into_bytes();
        let mut parts = vec![name.as_bytes(), &key];
        parts.extend(pairs.iter().map(Vec::as_slice));
        assert_eq!(redis.ask(&parts), b":600");
    }
}

#[test]
fn a_dump_of_redis_server_is_read() {
    if !installed("redis-server") {
        return;
    }
    let folder = Folder::new("dump");
    let mut redis = Redis::start(&folder.0);
    for (i, text) in texts().iter().enumerate() {
        assert_eq!(redis.ask(&[b"SET", format!("t{i}").as_bytes(), text]), b"OK");
    }
    assert_eq!(redis.ask(&[b"SET", b"soon", b"x", b"PXAT", FAR_MS.to_string().as_bytes()]), b"OK");
    assert_eq!(redis.ask(&[b"SELECT", b"5"]), b"OK");
    assert_eq!(
        redis.ask(&[b"FUNCTION", b"LOAD", b"#!lua name=f\nredis.register_function('f', function() return 1 end)"]),
        b"f"
    );
    assert_eq!(redis.ask(&[b"SET", b"five", b"5"]), b"OK");
    redis.ask(&[b"CONFIG", b"SET", b"maxmemory-policy", b"allkeys-lfu"]);
    assert_eq!(redis.ask(&[b"SAVE"]), b"OK");
    let strings = std::fs::read(folder.0.join("dump.rdb")).expect("SAVE wrote it");

    let mut keys = Vec::new();
    let report = read_foreign(&mut &strings[..], ForeignOptions::default(), &mut |entry, _| {
        keys.push(entry);
        ControlFlow::Continue(())
    });
    let report = report.expect("a dump of strings");
    assert!(keys.iter().all(|key| key.uses.frequency.is_some()), "the counters of uses are read");
    assert_eq!((report.keys, report.bytes), (texts().len() as u64 + 2, strings.len() as u64));
    assert_eq!(report.functions.len(), 1);
    for (i, text) in texts().iter().enumerate() {
        let key = keys.iter().find(|k| k.key == format!("t{i}").as_bytes()).expect("it was set");
        assert!(key.value == Value::String(StringValue::new(text)) && key.database == 0, "text {i}");
    }
    assert_eq!(keys.iter().find(|k| k.key == b"soon").expect("it was set").expire_at_ms, Some(FAR_MS));
    assert_eq!(keys.iter().find(|k| k.key == b"five").expect("it was set").database, 5);

    fill_with_other_types(&mut redis);
    assert_eq!(redis.ask(&[b"SAVE"]), b"OK");
    let mixed = std::fs::read(folder.0.join("dump.rdb")).expect("SAVE wrote it");
    let all = read_foreign(&mut &mixed[..], ForeignOptions::default(), &mut |_, _| ControlFlow::Continue(()));
    let all = all.expect("values of all types");
    assert_eq!((all.keys, all.bytes), (report.keys + 11, mixed.len() as u64));
    assert!(all.skipped.is_empty());
}

#[test]
fn dump_and_restore_are_understood_on_both_sides() {
    if !installed("redis-server") {
        return;
    }
    let folder = Folder::new("restore");
    let mut redis = Redis::start(&folder.0);
    for text in texts() {
        let value = Value::String(StringValue::new(&text));
        let ours = dump_value(&value);
        assert_eq!(redis.ask(&[b"RESTORE", b"k", b"0", &ours, b"REPLACE"]), b"OK");
        assert!(redis.ask(&[b"GET", b"k"]) == text);
        let theirs = redis.ask(&[b"DUMP", b"k"]);
        assert!(restore_value(&theirs, &Settings::default()).expect("a payload of Redis") == value);
        if text.len() <= 20 {
            assert_eq!(theirs, ours, "{text:?}");
        }
    }
}
