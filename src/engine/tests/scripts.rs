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
