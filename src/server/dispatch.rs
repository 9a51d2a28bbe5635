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
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quoris_engine::{
    ReadContext, WARM_MAX,
    command::{self, BLOCKING, DENYOOM, Found, Handler},
};
use quoris_net::{Batch, Next};
use quoris_raft::Operation;
use quoris_resp::{Argv, Reply};

use crate::{
    client::{Client, Replies},
    clients::flag,
    commands::{self, Served},
    gather::published,
    multi::Exec,
    outcome,
    server::Server,
    split::Route,
};

/// Replies above this are written before more commands run, in bytes.
const OUTPUT_FLUSH_BYTES: usize = 256 * 1024;
/// A guard is let go after so many reads or so long, so that writes get through.
const GUARD_READS_MAX: u32 = 256;
const GUARD_TIME_MAX: Duration = Duration::from_millis(1);

/// What the front of a batch turned out to be.
enum Taken {
    /// To be run.
    Command(Found, Argv),
    /// Refused, or queued.
    Answered,
    /// The batch is empty.
    Nothing,
    /// Held back by CLIENT PAUSE, and still in the batch.
    Paused(Instant),
}

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

/// A command that was looked up and still has to run.
type Pending = (Found, Argv);

/// One pass over a batch.
struct Pass<'a> {
    server: &'a Server,
    /// When the last command ended.
    clock: Instant,
    commands: u64,
}

impl Client {
    /// Runs a batch.
    pub(crate) async fn dispatch(&mut self, batch: &mut Batch, output: &mut BytesMut) -> Next {
        let server = self.server.clone();
        loop {
            let step = match self.stalled.take() {
                Some((found, argv)) => Step::Serve(found, argv),
                None => self.advance(&server, batch, output),
            };
            match step {
                Step::Send => {
                    self.send_gathered(output).await;
                    if batch.is_empty() {
                        return Next::Read;
                    }
                }
                Step::Flush => return Next::Flush,
                Step::Serve(found, argv) => {
                    self.send_gathered(output).await;
                    if found.command.flags.has(BLOCKING) && !output.is_empty() {
                        // What stands in front of it must not wait as well.
                        self.stalled = Some((found, argv));
                        return Next::Flush;
                    }
                    Box::pin(self.serve(&server, found, argv, output)).await;
                    if self.closing {
                        // Whoever has read its last reply finds it gone.
                        server.clients.remove(self.info.link.id);
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
    fn advance(&mut self, server: &Server, batch: &mut Batch, output: &mut BytesMut) -> Step {
        let mut pass = Pass { server, clock: Instant::now(), commands: 0 };
        let mut next = None;
        let step = loop {
            if output.len() >= OUTPUT_FLUSH_BYTES && self.gather.is_empty() && next.is_none() {
                break if batch.is_empty() { Step::Send } else { Step::Flush };
            }
            let (found, argv) = match next.take() {
                Some(pending) => pending,
                None => match self.take(&mut pass, batch, output) {
                    Taken::Command(found, argv) => (found, argv),
                    Taken::Answered => continue,
                    Taken::Nothing => break Step::Send,
                    Taken::Paused(until) => break Step::Paused(until),
                },
            };
            if found.command.patience(&argv).is_some() || commands::reads_events(&found, &argv) {
                break Step::Serve(found, argv);
            }
            match found.command.handler {
                Handler::Read(_) if found.command.name == "watch" => break Step::Serve(found, argv),
                Handler::Read(_) => {
                    let route = server.route(&found, &argv, self.database);
                    match self.read_at_once(&mut pass, (found, argv), &route, batch, output) {
                        Ok(pending) => next = pending,
                        Err((found, argv)) => self.push(server, &found, argv, route, output),
                    }
                }
                Handler::Write(_) => {
                    let route = server.route(&found, &argv, self.database);
                    self.push(server, &found, argv, route, output);
                }
                Handler::Server | Handler::Container if found.command.name == "exec" && found.container.is_none() => {
                    if let Some(step) = self.start_exec(server, &found, argv, output) {
                        break step;
                    }
                }
                // As in Redis what has changed goes out behind what stands in front.
                Handler::Server | Handler::Container if self.tracks.is_some() => break Step::Serve(found, argv),
                Handler::Server | Handler::Container => match commands::light(self, &found, &argv) {
                    Some(reply) => {
                        pass.clock = self.timed(&found, &argv, pass.clock, &reply);
                        self.emit(reply, found.id, output);
                    }
                    None => break Step::Serve(found, argv),
                },
            }
            if self.gather.is_full() && next.is_none() {
                break Step::Send;
            }
        };
        self.info.commands.fetch_add(pass.commands, Relaxed);
        step
    }

    /// Takes the next command of the batch that is not answered by a check.
    fn take(&mut self, pass: &mut Pass<'_>, batch: &mut Batch, output: &mut BytesMut) -> Taken {
        let Some(argv) = batch.pop_front() else { return Taken::Nothing };
        let found = match command::lookup(&argv) {
            Ok(found) => found,
            Err(error) => {
                self.take_number();
                self.unknown(&argv, error.into(), output);
                return Taken::Answered;
            }
        };
        let server = pass.server;
        if server.is_watched() {
            if let Some(until) = self.held(&found, &argv) {
                batch.push_front(argv);
                return Taken::Paused(until);
            }
            if !self.is_special() {
                self.show_to_monitors(server, &found, &argv);
            }
        }
        self.take_number();
        self.begin_caching(&found);
        pass.commands += 1;
        self.info.last_command.store(found.id, Relaxed);
        let argv = match self.written_out(&found, argv) {
            Ok(argv) => argv,
            Err(reply) => {
                self.reject(server, &found, reply, output);
                return Taken::Answered;
            }
        };
        if self.is_special() && !self.admit(server, &found, &argv, output) {
            return Taken::Answered;
        }
        Taken::Command(found, argv)
    }

    /// Answers a read and the reads of the same group behind it, under one guard. Gives the read back when
    /// this node may not answer it now, else the command that ended the run of reads.
    fn read_at_once(
        &mut self,
        pass: &mut Pass<'_>,
        first: Pending,
        route: &Route,
        batch: &mut Batch,
        output: &mut BytesMut,
    ) -> Result<Option<Pending>, Pending> {
        let server = pass.server;
        let Route::One(group, _) = *route else { return Err(first) };
        if self.gather.holds(group) {
            return Err(first);
        }
        let Some(local) = server.node.group(group) else { return Err(first) };
        let Some(engine) = local.try_read() else { return Err(first) };
        let mut context =
            ReadContext { database: self.database, now_ms: local.replica.clock.now_ms(), rng: server.rng().into() };
        self.say_what_changed(output);
        let untouched = self.info.has(flag::NO_TOUCH);
        let (since, mut left, mut pending) = (pass.clock, GUARD_READS_MAX, first);
        loop {
            if (left as usize).is_multiple_of(WARM_MAX) && !batch.is_empty() {
                // Most commands have their key first; a wrong guess costs little.
                engine.keyspace().warm(self.database, batch.iter().filter_map(|argv| argv.get(1)));
            }
            let (found, argv) = &pending;
            let Handler::Read(run) = found.command.handler else { return Ok(Some(pending)) };
            if !engine.keyspace().serves_command(found.command, argv) {
                // The slow way finds out where it belongs.
                return if left == GUARD_READS_MAX { Err(pending) } else { Ok(Some(pending)) };
            }
            context.database = self.database;
            let read = || run(engine.keyspace(), &context, argv).unwrap_or_else(Reply::from);
            let reply = if untouched && found.command.name != "touch" {
                let keys = found.command.keys(argv).unwrap_or_default();
                let keys = keys.iter().filter_map(|at| argv.get(*at));
                engine.keyspace().without_use(self.database, keys, read)
            } else {
                read()
            };
            pass.clock = self.timed(found, argv, pass.clock, &reply);
            self.emit(reply, found.id, output);
            self.has_read(found, argv);
            left -= 1;
            if left == 0 || output.len() >= OUTPUT_FLUSH_BYTES || pass.clock - since > GUARD_TIME_MAX {
                return Ok(None);
            }
            pending = match self.take(pass, batch, output) {
                Taken::Command(found, argv) => (found, argv),
                // Whatever it was, the outer loop looks again.
                Taken::Answered | Taken::Nothing | Taken::Paused(_) => return Ok(None),
            };
            let (found, argv) = &pending;
            let stays = matches!(found.command.handler, Handler::Read(_))
                && found.command.name != "watch"
                && found.command.waits.is_none()
                && !commands::reads_events(found, argv);
            if !stays || !matches!(server.route(found, argv, self.database), Route::One(other, _) if other == group) {
                return Ok(Some(pending));
            }
        }
    }

    /// EXEC: answered at once, gathered, or left to the slow way.
    fn start_exec(&mut self, server: &Server, found: &Found, argv: Argv, output: &mut BytesMut) -> Option<Step> {
        match self.exec() {
            Exec::Mixed => return Some(Step::Serve(*found, argv)),
            Exec::Answer(reply) => self.emit(reply, found.id, output),
            Exec::Plain(plain) => {
                let at_once = plain.reads.is_some() && !self.gather.holds(plain.group);
                let local = if at_once { server.node.group(plain.group) } else { None };
                let reply = local.as_ref().and_then(|local| local.try_read()).and_then(|engine| {
                    let now_ms = server.node.clock_ms(plain.group);
                    self.say_what_changed(output);
                    self.has_read_all(&plain.transaction.commands);
                    plain.read(
                        engine.keyspace(),
                        &ReadContext { database: plain.database, now_ms, rng: server.rng().into() },
                    )
                });
                match reply {
                    Some(reply) => {
                        self.count_inner(&plain.inner.ids, &reply);
                        self.emit(reply, found.id, output);
                    }
                    None => {
                        self.will_read_all(&plain.transaction.commands);
                        let silent = std::mem::take(&mut self.silent);
                        let operation = plain.operation(self.own_stamp);
                        self.gather.push_transaction(plain.group, operation, plain.inner, found.id, plain.slot, silent);
                    }
                }
            }
        }
        None
    }

    /// Gathers a command that goes through Raft.
    fn push(&mut self, server: &Server, found: &Found, argv: Argv, route: Route, output: &mut BytesMut) {
        if found.command.flags.has(DENYOOM) && server.is_out_of_memory() {
            return self.reject(server, found, Reply::error(quoris_engine::outcome::OUT_OF_MEMORY), output);
        }
        if matches!(route, Route::One(..) | Route::Split(_)) {
            self.will_read(found, &argv);
        }
        match route {
            Route::One(group, slot) => {
                let own = self.own_stamp;
                let operation = Operation { own, ..server.operation(found, argv, self.database) };
                let silent = std::mem::take(&mut self.silent);
                match published(found, &operation.argv) {
                    Some(to) => self.gather.push_publish(group, operation, found.id, to, silent),
                    None => self.gather.push(group, operation, found.id, slot, silent),
                }
            }
            Route::Split(mut plan) => {
                plan.parts.iter_mut().for_each(|(_, part)| part.own = self.own_stamp);
                let silent = std::mem::take(&mut self.silent);
                self.gather.push_split(plan.join, plan.parts, argv, found.id, silent);
            }
            Route::NoOwner(slot) => self.emit(outcome::no_owner(slot), found.id, output),
            Route::Cross => self.emit(outcome::cross_slot(), found.id, output),
        }
    }

    /// Runs a command of the server; everything before it has been answered.
    async fn serve(&mut self, server: &Arc<Server>, found: Found, argv: Argv, output: &mut BytesMut) {
        let mut started = Instant::now();
        self.say_what_changed(output);
        let (replies_before, reads) = (self.replies, self.reads_somewhen(&found, &argv));
        let served = commands::serve(self, found, &argv, output).await;
        if found.command.flags.has(BLOCKING) {
            // To wait is not to be slow.
            started = Instant::now();
        }
        let nothing = Reply::None;
        self.timed(&found, &argv, started, if let Served::Reply(reply) = &served { reply } else { &nothing });
        // CLIENT REPLY itself is answered by the mode that it sets.
        if self.replies != replies_before {
            self.silent = self.replies != Replies::On;
        }
        match served {
            Served::Reply(reply) => self.emit(reply, found.id, output),
            Served::Nothing => self.silent = false,
        }
        if !reads.is_empty() {
            server.tracking.refuse(server, self.info.link.id, &reads);
        }
        self.tally.flush(&server.stats);
    }
}
