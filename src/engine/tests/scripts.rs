//! The scripts of `tests/scripts`, in process and against a redis-server where one is installed.

#[path = "../../../tests/scripts/script.rs"]
mod script;

use std::cell::RefCell;
use std::net::TcpListener;
use std::process::{Child, Command as Process, Stdio};

use bytes::BytesMut;
use quoris_engine::command::{Handler, introspect, lookup, walk};
use quoris_engine::{ApplyContext, CommandResult, Error, Keyspace, ReadContext, Rng, number};
use quoris_resp::{Argv, Protocol, Reply, ReplyDecoder, encode};
use script::{Case, Connection, Step, Target, cases, run};

/// The families that the engine runs by itself.
const FAMILIES: &[&str] = &["string", "generic", "command"];

/// The handlers on a keyspace, with a clock that only `wait` moves.
struct InProcess {
    keyspace: Keyspace,
    database: u32,
    now_ms: u64,
    index: u64,
    protocol: Protocol,
}

const DATABASES: u32 = 16;
const BEGIN_MS: u64 = 1_700_000_000_000;

impl InProcess {
    fn new() -> InProcess {
        let mut keyspace = Keyspace::new([1, 2], DATABASES);
        keyspace.advance(BEGIN_MS);
        InProcess { keyspace, database: 0, now_ms: BEGIN_MS, index: 0, protocol: Protocol::Resp2 }
    }

    fn execute(&mut self, argv: &Argv) -> CommandResult {
        let command = lookup(argv)?.command;
        self.index += 1;
        let rng = Rng::new(self.index);
        match command.handler {
            Handler::Read(read) => {
                let context = ReadContext { database: self.database, now_ms: self.now_ms, rng: RefCell::new(rng) };
                read(&self.keyspace, &context, argv)
            }
            Handler::Write(write) => {
                let mut context = ApplyContext { database: self.database, index: self.index, now_ms: self.now_ms, rng };
                write(&mut self.keyspace, &mut context, argv)
            }
            Handler::Server | Handler::Container => match &argv[0].to_ascii_uppercase()[..] {
                b"SELECT" => {
                    self.database = number::integer(&argv[1]).and_then(|n| u32::try_from(n).ok()).ok_or(Error::NotAnInteger)?;
                    Ok(Reply::Ok)
                }
                b"COMMAND" => introspect::command(argv),
                _ => Ok(introspect::help(command)),
            },
        }
    }
}

impl Target for InProcess {
    fn reset(&mut self, case: &Case) {
        *self = InProcess::new();
        self.protocol = if case.resp3 { Protocol::Resp3 } else { Protocol::Resp2 };
    }

    fn call(&mut self, argv: &Argv) -> Reply {
        let reply = self.execute(argv).unwrap_or_else(Reply::from);
        let mut bytes = BytesMut::new();
        encode(&reply, self.protocol, &mut bytes);
        ReplyDecoder::decode(&mut bytes).expect("our own bytes").expect("a whole reply")
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.keyspace.advance(self.now_ms);
    }

    fn takes(&self, case: &Case) -> bool {
        !case.tcp
    }
}

#[test]
fn the_engine_answers_as_the_scripts_say() {
    run(&mut InProcess::new(), &cases(FAMILIES));
}

/// A redis-server of its own on a free port, stopped at the end.
struct RedisServer {
    process: Child,
    address: String,
    version: (u32, u32),
}

impl RedisServer {
    /// Nothing when there is no redis-server on this machine.
    fn start() -> Option<RedisServer> {
        let version = Process::new("redis-server").arg("--version").output().ok()?;
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let version = script::version_of(version.split("v=").nth(1)?.split(' ').next()?);
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let mut process = Process::new("redis-server");
        process.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        process.args(["--enable-debug-command", "yes"]).current_dir(std::env::temp_dir()).stdout(Stdio::null());
        let server = RedisServer { process: process.spawn().ok()?, address: format!("127.0.0.1:{port}"), version };
        for _ in 0..500 {
            match Connection::open(&server.address, None) {
                Ok(_) => return Some(server),
                // It takes a moment until it listens; there is nothing else to wait for.
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
            }
        }
        panic!("redis-server does not listen");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).expect("our own child");
    }
}

#[test]
fn a_redis_server_answers_as_the_scripts_say() {
    let Some(server) = RedisServer::start() else { return eprintln!("there is no redis-server here: nothing is compared") };
    let mut connection = Connection::open(&server.address, Some(server.version)).expect("it listens");
    run(&mut connection, &cases(FAMILIES));
}

#[test]
fn every_command_has_a_script() {
    let mut called = vec![false; quoris_engine::command::count()];
    for step in cases(FAMILIES).iter().flat_map(|case| &case.steps) {
        if let Step::Call { argv, .. } = step
            && let Ok(found) = lookup(&Argv::from_parts(argv))
        {
            called[found.id as usize] = true;
        }
    }
    let server = |handler| matches!(handler, Handler::Server | Handler::Container);
    let missing = walk().filter(|found| !server(found.command.handler) && !called[found.id as usize]);
    let missing: Vec<String> = missing.map(|found| found.full_name()).collect();
    assert!(missing.is_empty(), "no script calls {missing:?}");
}

/// Rows that newer versions of Redis changed since 7.0, by what differs there: the table follows the newer.
const CHANGED_SINCE_7_0: &[(&str, &str)] = &[
    ("msetnx", "tips"),
    ("scan", "flags"),
    ("scan", "tips"),
    ("randomkey", "flags"),
    ("randomkey", "tips"),
    ("command|getkeys", "arity"),
    ("command|getkeysandflags", "arity"),
    ("config|resetstat", "tips"),
    ("config|rewrite", "tips"),
    ("wait", "flags"),
    ("wait", "categories"),
    ("acl|deluser", "tips"),
    ("acl|setuser", "tips"),
    ("cluster|info", "flags"),
    ("cluster|keyslot", "flags"),
    ("cluster|links", "flags"),
    ("cluster|myid", "flags"),
    ("cluster|nodes", "flags"),
    ("cluster|replicas", "flags"),
    ("cluster|shards", "flags"),
    ("cluster|slaves", "flags"),
    ("cluster|slots", "flags"),
];

/// The fields of a COMMAND INFO reply behind the name, as text, subcommands and free-text notes left out.
fn fields(reply: &Reply) -> Vec<(&'static str, String)> {
    let Reply::Array(items) = reply else { return vec![("known", script::show(reply))] };
    let set = |reply: &Reply| match reply {
        Reply::Array(items) | Reply::Set(items) => {
            let mut items: Vec<String> = items.iter().map(script::show).collect();
            items.sort();
            items.join(" ")
        }
        other => script::show(other),
    };
    let spec = |reply: &Reply| match reply {
        Reply::Array(items) if items.first() == Some(&Reply::bulk("notes")) => script::show(&Reply::Array(items[2..].to_vec())),
        other => script::show(other),
    };
    let specs = match &items[8] {
        Reply::Array(specs) => specs.iter().map(spec).collect(),
        other => script::show(other),
    };
    let range = items[3..6].iter().map(script::show).collect::<Vec<_>>().join(" ");
    vec![("arity", script::show(&items[1])), ("flags", set(&items[2])), ("range", range), ("categories", set(&items[6])),
        ("tips", set(&items[7])), ("key specs", specs)]
}

#[test]
fn rows_agree_with_a_redis_server() {
    let Some(server) = RedisServer::start() else { return eprintln!("there is no redis-server here: nothing is compared") };
    let mut theirs = Connection::open(&server.address, Some(server.version)).expect("it listens");
    let mut ours = InProcess::new();
    let mut wrong = String::new();
    for found in walk() {
        let name = found.full_name();
        let question = Argv::from_parts(&["COMMAND", "INFO", &name]);
        let (Reply::Array(theirs), Reply::Array(ours)) = (theirs.call(&question), ours.call(&question)) else { panic!("{name}: no list") };
        if theirs[0] == Reply::Null || theirs[0] == Reply::NullArray {
            continue;
        }
        for ((field, theirs), (_, ours)) in fields(&theirs[0]).into_iter().zip(fields(&ours[0])) {
            if server.version == (7, 0) && theirs != ours && !CHANGED_SINCE_7_0.contains(&(name.as_str(), field)) {
                wrong += &format!("{name} {field}\n  Redis {theirs}\n  ours  {ours}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
