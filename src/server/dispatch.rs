//! From a batch of commands to replies. Steps 3 to 6 and 10 of a command's way.
//!
//! Reads that this node may answer at once are answered under one guard as long as they follow each
//! other, straight into the output. Commands that go through Raft are gathered until the batch ends or
//! something stands in the way that has to see their effects.
//!
//! Invariants:
//! * Replies leave in the order of the commands.
//! * A read never overtakes a write of the same connection to the same group.
//! * No guard lives across an await.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use bytes::BytesMut;
use quoris_engine::{
    ReadContext,
    command::{self, Found, Handler, NO_AUTH, SKIP_MONITOR},
};
use quoris_net::{Batch, Next};
use quoris_raft::{GroupId, Operation, ReadGuard};
use quoris_resp::{Argv, Reply};

use crate::{
    client::{Client, Replies},
    commands::{self, Served},
    multi::Exec,
    outcome,
    server::Server,
    slowlog,
    split::Route,
};

/// Replies above this are written before more commands run, in bytes.
const OUTPUT_FLUSH_BYTES: usize = 256 * 1024;
/// A guard is let go after so many reads or microseconds, so that writes get through.
const GUARD_READS_MAX: u32 = 256;
const GUARD_MICROS_MAX: u128 = 1000;

/// Why the fast loop stopped.
enum Step {
    /// The batch is empty, or the gathered operations are enough.
    Send,
    /// The output is long enough.
    Flush,
    /// A command of the server.
    Serve(Found, Argv),
    /// CLIENT PAUSE holds the first command of the batch.
    Paused(Instant),
}

/// Read access to one group, kept over consecutive reads.
struct Reader<'a> {
    server: &'a Server,
    open: Option<(GroupId, ReadGuard)>,
    context: ReadContext,
    left: u32,
    since: Instant,
}

impl<'a> Reader<'a> {
    fn new(server: &'a Server, now: Instant) -> Reader<'a> {
        let context = ReadContext { database: 0, now_ms: 0, rng: server.rng().into() };
        Reader { server, open: None, context, left: 0, since: now }
    }

    /// Opens a group, if this node may read it now.
    fn enter(&mut self, group: GroupId, now: Instant) -> bool {
        if let Some((open, _)) = &self.open {
            let rested = self.left == 0 || (now - self.since).as_micros() > GUARD_MICROS_MAX;
            if *open == group && !rested {
                self.left -= 1;
                return true;
            }
            self.open = None;
        }
        let Some(guard) = self.server.node.try_read(group) else { return false };
        self.context.now_ms = self.server.node.clock_ms(group);
        (self.open, self.left, self.since) = (Some((group, guard)), GUARD_READS_MAX, now);
        true
    }
}

impl Client {
    /// Runs a batch.
    pub(crate) async fn dispatch(&mut self, batch: &mut Batch, output: &mut BytesMut) -> Next {
        let server = self.server.clone();
        loop {
            match self.advance(&server, batch, output) {
                Step::Send => {
                    self.send_gathered(output).await;
                    if batch.is_empty() {
                        return Next::Read;
                    }
                }
                Step::Flush => return Next::Flush,
                Step::Serve(found, argv) => {
                    self.send_gathered(output).await;
                    Box::pin(self.serve(&server, found, argv, output)).await;
                    if self.closing {
                        return Next::Close;
                    }
                }
                Step::Paused(until) => {
                    self.send_gathered(output).await;
                    let _blocked = server.clients.block(self.info.clone());
                    server.gate.wait(until).await;
                }
            }
            if output.len() >= OUTPUT_FLUSH_BYTES && !batch.is_empty() {
                return Next::Flush;
            }
        }
    }

    /// Takes commands from the batch for as long as nothing has to be waited for.
    fn advance(&mut self, server: &Arc<Server>, batch: &mut Batch, output: &mut BytesMut) -> Step {
        let mut clock = Instant::now();
        let mut reader = Reader::new(server, clock);
        let mut commands = 0;
        let step = loop {
            if output.len() >= OUTPUT_FLUSH_BYTES && self.gather.is_empty() {
                break if batch.is_empty() { Step::Send } else { Step::Flush };
            }
            let Some(argv) = batch.pop_front() else { break Step::Send };
            let found = match command::lookup(&argv) {
                Ok(found) => found,
                Err(error) => {
                    self.unknown(&argv, error.into(), output);
                    continue;
                }
            };
            if server.is_watched() {
                if let Some(until) = self.held(&found) {
                    batch.push_front(argv);
                    break Step::Paused(until);
                }
                if !self.is_special() {
                    self.show_to_monitors(server, &found, &argv);
                }
            }
            commands += 1;
            self.info.last_command.store(found.id, Relaxed);
            if self.is_special() && !self.admit(server, &found, &argv, output) {
                continue;
            }
            match found.command.handler {
                Handler::Read(run) => match server.route(&found, &argv, self.database) {
                    Route::One(group, _) if found.command.name != "watch" && !self.gather.holds(group) && reader.enter(group, clock) => {
                        let (_, engine) = reader.open.as_ref().expect("entered");
                        reader.context.database = self.database;
                        let reply = run(engine.keyspace(), &reader.context, &argv).unwrap_or_else(Reply::from);
                        clock = self.timed(&found, &argv, clock, reply.is_error());
                        self.emit(reply, found.id, output);
                    }
                    _ if found.command.name == "watch" => break Step::Serve(found, argv),
                    route => self.push(server, &found, argv, route, output),
                },
                Handler::Write(_) => {
                    let route = server.route(&found, &argv, self.database);
                    self.push(server, &found, argv, route, output);
                }
                Handler::Server | Handler::Container => match found.command.name {
                    "exec" if found.container.is_none() => {
                        if let Some(step) = self.start_exec(&found, argv, &mut reader, clock, output) {
                            break step;
                        }
                    }
                    _ => match commands::light(self, &found, &argv) {
                        Some(reply) => {
                            clock = self.timed(&found, &argv, clock, reply.is_error());
                            self.emit(reply, found.id, output);
                        }
                        None => break Step::Serve(found, argv),
                    },
                },
            }
            if self.gather.is_full() {
                break Step::Send;
            }
        };
        self.info.commands.fetch_add(commands, Relaxed);
        step
    }

    /// EXEC: answered at once, gathered, or left to the slow way.
    fn start_exec(&mut self, found: &Found, argv: Argv, reader: &mut Reader<'_>, clock: Instant, output: &mut BytesMut) -> Option<Step> {
        match self.exec() {
            Exec::Mixed => return Some(Step::Serve(*found, argv)),
            Exec::Answer(reply) => self.emit(reply, found.id, output),
            Exec::Plain(plain) => {
                let at_once = plain.reads.is_some() && !self.gather.holds(plain.group) && reader.enter(plain.group, clock);
                let reply = if at_once {
                    reader.context.database = plain.database;
                    reader.open.as_ref().and_then(|(_, engine)| plain.read(engine.keyspace(), &reader.context))
                } else {
                    None
                };
                match reply {
                    Some(reply) => self.emit(reply, found.id, output),
                    None => {
                        let silent = std::mem::take(&mut self.silent);
                        self.gather.push(plain.group, plain.operation(), found.id, plain.slot, silent);
                    }
                }
            }
        }
        None
    }

    /// Gathers a command that goes through Raft.
    fn push(&mut self, server: &Server, found: &Found, argv: Argv, route: Route, output: &mut BytesMut) {
        if found.command.is_write() && server.is_out_of_memory(found) {
            let text = "OOM command not allowed when used memory > 'maxmemory'.";
            server.stats.row(found.id).rejected.fetch_add(1, Relaxed);
            return self.emit(Reply::error(text), found.id, output);
        }
        match route {
            Route::One(group, slot) => {
                let operation: Operation = server.operation(found, argv, self.database);
                let silent = std::mem::take(&mut self.silent);
                self.gather.push(group, operation, found.id, slot, silent);
            }
            Route::Split(plan) => {
                let silent = std::mem::take(&mut self.silent);
                self.gather.push_split(plan.join, plan.parts, found.id, silent);
            }
            Route::NoOwner(slot) => self.emit(Reply::error(format!("CLUSTERDOWN Hash slot not served: {slot}")), found.id, output),
            Route::Cross => self.emit(outcome::cross_slot(), found.id, output),
        }
    }

    /// Decides about a command on a connection that is not in its ordinary state; false when it is answered.
    fn admit(&mut self, server: &Server, found: &Found, argv: &Argv, output: &mut BytesMut) -> bool {
        self.silent = match self.replies {
            Replies::On => false,
            Replies::Off => true,
            Replies::SkipNext => {
                self.replies = Replies::On;
                true
            }
        };
        if !self.authenticated && !found.command.flags.has(NO_AUTH) {
            self.reject(server, found, Reply::error("NOAUTH Authentication required."), output);
            return false;
        }
        let leaves = found.container.is_none() && matches!(found.command.name, "exec" | "discard" | "quit" | "reset");
        if self.queue.is_some() && !leaves {
            let reply = self.enqueue(*found, argv);
            self.emit(reply, found.id, output);
            return false;
        }
        if server.is_watched() {
            self.show_to_monitors(server, found, argv);
        }
        true
    }

    fn reject(&mut self, server: &Server, found: &Found, reply: Reply, output: &mut BytesMut) {
        server.stats.row(found.id).rejected.fetch_add(1, Relaxed);
        self.spoil();
        self.emit(reply, found.id, output);
    }

    /// A command without a row, or with the wrong number of arguments.
    fn unknown(&mut self, argv: &Argv, reply: Reply, output: &mut BytesMut) {
        self.silent = self.replies != Replies::On;
        if self.replies == Replies::SkipNext {
            self.replies = Replies::On;
        }
        let server = self.server.clone();
        let found = command::by_name(&argv[0]);
        match found {
            Some(found) => self.reject(&server, &found, reply, output),
            None => {
                self.spoil();
                self.emit(reply, 0, output);
            }
        }
    }

    /// Until when a pause holds a command back.
    fn held(&self, found: &Found) -> Option<Instant> {
        if found.container.is_some_and(|c| c.name == "client") {
            return None;
        }
        self.server.gate.holds(found.command)
    }

    fn show_to_monitors(&self, server: &Server, found: &Found, argv: &Argv) {
        let hidden = found.command.flags.has(SKIP_MONITOR) || matches!(found.command.name, "auth" | "hello" | "exec");
        if !server.monitors.is_empty() && !hidden {
            server.monitors.feed(&self.info.link, self.database, argv, &server.settings);
        }
    }

    /// Counts a command that ran from `since` to now and gives the time now.
    fn timed(&mut self, found: &Found, argv: &Argv, since: Instant, failed: bool) -> Instant {
        let now = Instant::now();
        let took = now - since;
        let server = &self.server;
        self.tally.add(&server.stats, found.id, took.as_nanos() as u64, failed);
        let micros = took.as_micros();
        let threshold = server.tunables.slow_micros.load(Relaxed);
        if threshold >= 0 && micros >= threshold as u128 && !found.command.flags.has(command::SKIP_SLOWLOG) {
            let name = self.info.names.lock().name.clone();
            let length_max = server.config.count("slowlog-max-len");
            server.slowlog.add(slowlog::shortened(argv), took, self.info.link.peer.to_string(), name, length_max);
        }
        let threshold = server.tunables.latency_ms.load(Relaxed);
        if threshold > 0 && micros >= threshold as u128 * 1000 {
            let event = if found.command.flags.has(command::FAST) { "fast-command" } else { "command" };
            server.latency.add(event, took.as_millis() as u64);
        }
        now
    }

    /// Runs a command of the server; everything before it has been answered.
    async fn serve(&mut self, server: &Arc<Server>, found: Found, argv: Argv, output: &mut BytesMut) {
        let started = Instant::now();
        let replies_before = self.replies;
        let served = commands::serve(self, found, &argv, output).await;
        let failed = matches!(&served, Served::Reply(reply) if reply.is_error());
        self.timed(&found, &argv, started, failed);
        // CLIENT REPLY itself is answered by the mode that it sets.
        if self.replies != replies_before {
            self.silent = self.replies != Replies::On;
        }
        match served {
            Served::Reply(reply) => self.emit(reply, found.id, output),
            Served::Nothing => self.silent = false,
        }
        self.tally.flush(&server.stats);
    }
}

impl Server {
    /// Whether a write that needs memory has to be refused.
    fn is_out_of_memory(&self, found: &Found) -> bool {
        let most = self.tunables.memory_max.load(Relaxed);
        most > 0 && found.command.flags.has(command::DENYOOM) && commands::memory::used(self) > most
    }
}
