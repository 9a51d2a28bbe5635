//! What several tests share: the engine's commands as a target of scripts, and random commands.

#![allow(dead_code, reason = "each test uses a part of it")]

pub mod differential;
pub mod events;
pub mod generate;
#[path = "../../../../tests/scripts/script.rs"]
pub mod script;

use std::cell::RefCell;

use bytes::BytesMut;
use quoris_engine::command::{Handler, introspect, logged, lookup};
use quoris_engine::{ApplyContext, CommandResult, Error, Keyspace, ReadContext, Rng, Settings, number};
use quoris_resp::{Argv, Protocol, Reply, ReplyDecoder, encode};
use script::{Case, Target};

/// The handlers on a keyspace, with a clock that only `wait` moves.
pub struct InProcess {
    /// The keys.
    pub keyspace: Keyspace,
    database: u32,
    now_ms: u64,
    index: u64,
    protocol: Protocol,
}

const DATABASES: u32 = 16;
const BEGIN_MS: u64 = 1_700_000_000_000;

impl InProcess {
    /// The same, and what happens to keys is told.
    pub fn telling() -> InProcess {
        let mut this = InProcess::new();
        let mut settings = Settings { version: 1, ..Settings::default() };
        settings.set("notify-keyspace-events", events::CLASSES).expect("letters");
        let argv = settings.to_argv();
        if let Handler::Write(write) = logged(&argv).expect("a command of the log").handler {
            let rng = Rng::new(0);
            let mut context = ApplyContext { database: 0, index: 0, now_ms: BEGIN_MS, rng, waits: false, short: false };
            write(&mut this.keyspace, &mut context, &argv).expect("own settings");
        }
        this
    }

    /// Empty databases, at a fixed time.
    pub fn new() -> InProcess {
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
                let mut context = ApplyContext {
                    database: self.database,
                    index: self.index,
                    now_ms: self.now_ms,
                    rng,
                    waits: false,
                    short: false,
                };
                write(&mut self.keyspace, &mut context, argv)
            }
            Handler::Server | Handler::Container => match &argv[0].to_ascii_uppercase()[..] {
                b"SELECT" => {
                    self.database =
                        number::integer(&argv[1]).and_then(|n| u32::try_from(n).ok()).ok_or(Error::NotAnInteger)?;
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
        let tells = self.keyspace.settings().version > 0;
        *self = if tells { InProcess::telling() } else { InProcess::new() };
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
