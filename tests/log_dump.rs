//! `quoris admin log dump`: the log of a stopped node as text, and as effects that a redis-server takes.

#[path = "scripts/script.rs"]
mod script;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use quoris_engine::command::{self, Handler};
use quoris_resp::{Argv, Reply};
use script::{Step, remote::RedisServer};
use support::{Connection, Node, program, until};

const DATABASES: u32 = 16;

/// Values and deadlines of all keys of all databases.
type Keys = BTreeMap<(u32, Vec<u8>), (Vec<u8>, i64)>;

fn bulk(reply: Reply) -> Option<Vec<u8>> {
    match reply {
        Reply::Bulk(text) => Some(text.to_vec()),
        Reply::Null => None,
        other => panic!("{other:?}"),
    }
}

/// All of a key's value as text, the same for equal values; nothing when the key is gone.
fn value(c: &mut Connection, name: &[u8]) -> Option<Vec<u8>> {
    let Reply::Status(kind) = c.call(&[b"TYPE", name]) else { panic!("a type") };
    let mut read: Vec<&[u8]> = match &kind[..] {
        b"none" => return None,
        b"string" => vec![b"GET"],
        b"list" => vec![b"LRANGE", b"0", b"-1"],
        b"set" => vec![b"SMEMBERS"],
        b"hash" => vec![b"HGETALL"],
        b"zset" => vec![b"ZRANGE", b"0", b"-1", b"WITHSCORES"],
        b"stream" => vec![b"XRANGE", b"-", b"+"],
        other => panic!("{other:?}"),
    };
    read.insert(1, name);
    let mut reply = c.call(&read);
    if let (Reply::Array(members), b"SMEMBERS") = (&mut reply, read[0]) {
        members.sort_by_key(|member| format!("{member:?}"));
    }
    if let (Reply::Array(parts), b"HGETALL") = (&mut reply, read[0]) {
        let mut pairs: Vec<String> = parts.chunks(2).map(|pair| format!("{pair:?}")).collect();
        pairs.sort();
        return Some(pairs.concat().into_bytes());
    }
    if let (Reply::Array(parts), b"ZRANGE") = (&mut reply, read[0]) {
        // Redis 7.0 prints more digits of a score.
        for score in parts.iter_mut().skip(1).step_by(2) {
            let text = bulk(score.clone()).and_then(|text| String::from_utf8(text).ok()).expect("a score");
            *score = Reply::Double(text.parse().expect("a number"));
        }
    }
    Some(format!("{reply:?}").into_bytes())
}

fn keys(c: &mut Connection) -> Keys {
    let mut all = Keys::new();
    for database in 0..DATABASES {
        c.ok(&["SELECT", &database.to_string()]);
        let Reply::Array(names) = c.call(&["KEYS", "*"]) else { panic!("a list") };
        for name in names.into_iter().filter_map(bulk) {
            let value = value(c, &name);
            let Reply::Int(deadline) = c.call(&[b"PEXPIRETIME", &name[..]]) else { panic!("a number") };
            all.extend(value.map(|value| ((database, name), (value, deadline))));
        }
    }
    all
}

/// Keys as a person reads them.
fn shown<'a>(keys: impl Iterator<Item = (&'a (u32, Vec<u8>), &'a (Vec<u8>, i64))>) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    keys.map(|((database, key), (value, at))| format!("{database} {} = {} until {at}", text(key), text(value)))
        .collect()
}

/// Two servers were looked at one after the other: what had a deadline until now may have gone in between.
fn assert_same(ours: Keys, theirs: Keys) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let lasting = |keys: Keys| -> Keys { keys.into_iter().filter(|(_, (_, at))| *at < 0 || *at > now).collect() };
    let (ours, theirs) = (lasting(ours), lasting(theirs));
    assert!(ours.len() > 5 && ours.values().any(|(_, at)| *at > 0), "{} keys are no test", ours.len());
    let differ = shown(ours.iter().filter(|(key, value)| theirs.get(key) != Some(value)));
    let more = shown(theirs.iter().filter(|(key, _)| !ours.contains_key(key)));
    assert!(differ.is_empty() && more.is_empty(), "missing or different: {differ:#?}; only there: {more:#?}");
}

/// Runs every script of commands on keys, each case with keys of its own; gives the names of the commands.
fn run_scripts(node: &Node, run: usize) -> BTreeSet<&'static str> {
    let mut called = BTreeSet::new();
    let families = ["generic", "string", "list", "set", "hash", "zset", "geo", "stream", "bitmap", "hyperloglog"];
    let all = script::cases(&families);
    // Fields of hashes that expire, and whatever else the redis-server here may not know, have no effect there.
    for (number, case) in all.iter().enumerate().filter(|(_, case)| case.redis.is_none_or(|since| since <= (7, 0))) {
        let mut c = node.connect();
        c.ok(&["SELECT", &(number % 5).to_string()]);
        for step in &case.steps {
            let Step::Call { argv, .. } = step else { continue };
            let found = command::lookup(&Argv::from_parts(argv)).ok();
            let mut argv = argv.clone();
            let keys = found.and_then(|found| found.command.keys(&Argv::from_parts(&argv)).ok());
            for at in keys.unwrap_or_default() {
                argv[at] = [format!("{run}:{number}:").as_bytes(), &argv[at][..]].concat();
            }
            let name = found.map_or("", |found| found.command.name);
            called.insert(name);
            // They would leave too little to compare; the test has its own.
            if name != "flushall" && name != "flushdb" {
                c.call(&argv);
            }
        }
    }
    called
}

/// What the scripts do not do: several databases, and keys that end by the clock.
fn run_more(c: &mut Connection, run: usize) {
    let script = format!(
        "SELECT 0|SET r{run} v EX 1000|SET p{run} 5 PX 900000|EXPIRE r{run} 2000|INCRBY p{run} 7|COPY p{run} c{run} DB 9\
         |MOVE r{run} 8|RENAME p{run} q{run}|SETRANGE s{run} 3 \0x\"|MULTI|SET m{run} 1|SWAPDB 0 3|SET m{run} 2|SELECT 3\
         |SET n{run} 3|EXEC|SELECT 7|MSET a 1 b 2|FLUSHDB|SET c{run} 4 EXAT 99999999999|SWAPDB 7 2|GETEX nosuch PX 5\
         |SELECT 10|SET x 1|SET y 2|SELECT 11|SET gone{run} v PX 1|SET gone{run}b v PX 30"
    );
    for words in script.split('|') {
        let reply = c.call(&words.split(' ').collect::<Vec<_>>());
        assert!(!reply.is_error(), "{words}: {reply:?}");
    }
    until("keys expire", || c.call(&["DBSIZE"]) == Reply::Int(0));
}

fn flush_some(c: &mut Connection) {
    c.ok(&["SELECT", "10"]);
    c.ok(&["FLUSHDB"]);
}

fn dump(data: &Path, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let output = program().args(["admin", "log", "dump", "--dir"]).arg(data).args(arguments).output();
    let output = output.expect("the program starts");
    if output.status.success() { Ok(output.stdout) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
}

/// The only snapshot of the only group: its file and index.
fn snapshot(data: &Path) -> Option<(PathBuf, u64)> {
    let files = std::fs::read_dir(data.join("snapshots/group-1")).ok()?;
    let path =
        files.filter_map(|file| Some(file.ok()?.path())).find(|path| path.extension().is_some_and(|e| e == "rdb"))?;
    let index = path.file_name()?.to_string_lossy().split('-').next()?.parse().ok()?;
    Some((path, index))
}

/// What a redis-server holds that loaded a file and was given effects.
fn replayed(file: Option<&Path>, effects: &[u8]) -> Keys {
    let folder = tempfile::tempdir().expect("a folder");
    file.map(|file| std::fs::copy(file, folder.path().join("dump.rdb")).expect("a copy"));
    let redis = RedisServer::start_in(folder.path()).expect("redis-server is installed");
    let port: u16 = redis.address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address");
    let mut c = Connection::open(port);
    until("the file is loaded", || c.call(&["PING"]) == Reply::status("PONG"));
    let mut cli = Command::new("redis-cli");
    cli.args(["-p", &port.to_string(), "--pipe"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut cli = cli.spawn().expect("redis-cli is installed");
    cli.stdin.take().expect("piped").write_all(effects).expect("redis-cli reads");
    let output = cli.wait_with_output().expect("our own child");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("errors: 0,"), "{text}");
    keys(&mut c)
}

/// Whether Redis 7.0 has it.
fn is_old(since: &str) -> bool {
    let numbers: Vec<u32> = since.split('.').filter_map(|n| n.parse().ok()).collect();
    numbers[..2] <= [7, 0][..]
}

#[test]
fn effects_give_a_redis_server_the_same_keys_values_and_deadlines() {
    let mut node = Node::start(&[]);
    let mut c = node.connect();
    let called = run_scripts(&node, 1);
    let writes = command::walk().filter(|found| matches!(found.command.handler, Handler::Write(_)));
    let keeps = |group| !matches!(group, command::Group::Scripting | command::Group::PubSub);
    let old = writes.filter(|found| keeps(found.command.group) && is_old(found.command.since));
    let missing: Vec<_> = old.map(|found| found.command.name).filter(|name| !called.contains(name)).collect();
    assert!(missing.is_empty(), "no script writes with {missing:?}");
    run_more(&mut c, 1);
    c.ok(&["SAVE"]);
    let (file, index) = snapshot(&node.data()).expect("a snapshot");
    assert!(dump(&node.data(), &[]).expect_err("the node runs").contains("stop it first"));
    run_scripts(&node, 2);
    run_more(&mut c, 2);
    flush_some(&mut c);
    let ours = keys(&mut c);
    assert_eq!(node.stop(), Some(0));
    let data = node.data();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();

    let from = (index + 1).to_string();
    let effects = dump(&data, &["--as-effects", "--from", &from]).expect("effects");
    assert!(text(&effects).contains("\r\nDEL\r\n$5\r\ngone2\r\n") && !text(&effects).contains("gone1"));
    assert_same(ours.clone(), replayed(Some(&file), &effects));

    let effects = dump(&data, &["--as-effects", "--group", "1"]).expect("effects");
    assert!(text(&effects).contains("gone1"), "from the beginning");
    assert_same(ours.clone(), replayed(None, &effects));

    let raw = text(&dump(&data, &[]).expect("a log"));
    assert!(raw.starts_with("# group 1, known to be committed up to "), "{}", &raw[..200]);
    for line in
        ["  db 0  \"SETRANGE\" \"s1\" \"3\" \"\\x00x\\\"\"", "  db 0  transaction", "    \"SWAPDB\" \"0\" \"3\""]
    {
        assert!(raw.lines().any(|l| l == line), "{line}");
    }
    let one = text(&dump(&data, &["--group", "1", "--from", &from, "--to", &from]).expect("a log"));
    assert!(one.contains(&format!("\nindex {from}  term 1  leader ")) && one.matches("index ").count() == 1, "{one}");
    let meta = text(&dump(&data, &["--group", "0"]).expect("a log"));
    assert!(meta.contains("\"SET\" \"topology\""), "{meta}");
    assert!(dump(&data, &["--group", "0", "--as-effects"]).is_err());
    assert!(dump(&data, &["--group", "7"]).expect_err("no such group").contains("group 7 has no replica"));

    // Reading has left no trace.
    node.restart();
    assert_same(ours, keys(&mut node.connect()));
}

#[test]
fn effects_begin_at_the_snapshot_when_the_log_in_front_of_it_is_purged() {
    let mut node = Node::start(&["--snapshot-log-bytes", "1048576"]);
    let mut c = node.connect();
    run_more(&mut c, 1);
    let large = "v".repeat(64 * 1024);
    c.ok(&["SELECT", "4"]);
    until("the log is purged", || {
        c.ok(&["SET", "large", &large]);
        snapshot(&node.data()).is_some() && c.info("log_bytes").parse::<u64>().expect("a number") < 1 << 20
    });
    run_more(&mut c, 2);
    let ours = keys(&mut c);
    assert_eq!(node.stop(), Some(0));
    let data = node.data();
    let (file, index) = snapshot(&data).expect("a snapshot");
    let why = dump(&data, &["--as-effects", "--from", "1"]).expect_err("purged");
    assert!(why.contains(&format!("from index {} on", index + 1)), "{why}");
    let effects = dump(&data, &["--as-effects"]).expect("effects");
    assert_same(ours, replayed(Some(&file), &effects));
}

#[test]
fn effects_of_several_groups_do_not_disturb_each_other() {
    let mut node = Node::start(&["--groups", "3"]);
    let mut c = node.connect();
    for n in 0..60 {
        let key = format!("k{n}");
        c.ok(&["SELECT", &(n % 3).to_string()]);
        c.ok(&["SET", &key, &n.to_string(), "EX", "1000"]);
        if n == 30 {
            c.ok(&["FLUSHDB"]);
        }
    }
    let ours = keys(&mut c);
    assert_eq!(node.stop(), Some(0));
    assert!(dump(&node.data(), &["--from", "1"]).expect_err("which group?").contains("--group"));
    let effects = dump(&node.data(), &["--as-effects"]).expect("effects");
    assert_same(ours, replayed(None, &effects));
}

#[test]
fn what_is_no_data_folder_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let why = dump(folder.path(), &[]).expect_err("an empty folder");
    assert!(why.contains("is no data folder of a node"), "{why}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing is made there");
}
