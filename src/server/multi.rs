//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! Commands are checked and queued at the connection; EXEC sends them as one operation of one group,
//! with the versions of the watched keys, which apply compares. Commands that belong to the server
//! (PING, INFO, SELECT …) run at the connection when the transaction has run, and their replies take
//! their places among the others. A transaction that only reads needs no log: it runs under one guard.

use std::collections::BTreeMap;

use bytes::BytesMut;
use quoris_engine::{
    Keyspace, ReadContext,
    command::{self, DENYOOM, Found, Handler, NO_MULTI},
    entry::{SessionStamp, Transaction, Watch},
    slot,
};
use quoris_raft::{GroupId, Operation};
use quoris_resp::{Argv, Protocol, Reply, ReplyDecoder, encode};

use crate::{
    client::Client,
    clients::flag,
    commands::Served,
    gather::{Inner, published},
    outcome,
    split::Route,
};

/// What MULTI has collected.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub commands: Vec<(Found, Argv)>,
    pub bytes: usize,
    /// A command was refused, so EXEC will be.
    pub refused: bool,
}

/// What EXEC has to do.
pub(crate) enum Exec {
    /// Answer this.
    Answer(Reply),
    /// Everything goes to one group.
    Plain(Box<Plain>),
    /// Commands of the server are among them.
    Mixed,
}

pub(crate) struct Plain {
    pub group: GroupId,
    pub slot: u16,
    pub transaction: Transaction,
    pub reads: Option<Vec<Found>>,
    /// The commands, for counters and for what PUBLISH answers.
    pub inner: Inner,
    pub database: u32,
}

impl Plain {
    /// The whole as one operation, with the mark of the client's own session.
    pub fn operation(&self, own: Option<SessionStamp>) -> Operation {
        let exec = command::by_name(b"exec").expect("EXEC has a row").command;
        let argv = self.transaction.to_argv();
        Operation { command: exec, argv, database: self.database, user: 0, transaction: true, own, write: true }
    }

    /// Runs a transaction that only reads, all of it on one state.
    pub fn read(&self, keyspace: &Keyspace, context: &ReadContext) -> Option<Reply> {
        let reads = self.reads.as_ref()?;
        let mut rows = reads.iter().zip(&self.transaction.commands);
        let watched = &self.transaction.watches;
        if !rows.all(|(found, argv)| keyspace.serves_command(found.command, argv))
            || !watched.iter().all(|watch| keyspace.serves_key(&watch.key))
        {
            return None;
        }
        let unchanged = |watch: &Watch| keyspace.version(watch.database, &watch.key) == watch.version;
        if !self.transaction.watches.iter().all(unchanged) {
            return Some(Reply::NullArray);
        }
        let replies = reads.iter().zip(&self.transaction.commands).map(|(found, argv)| match found.command.handler {
            Handler::Read(run) => run(keyspace, context, argv).unwrap_or_else(Reply::from),
            Handler::Write(_) | Handler::Server | Handler::Container => unreachable!("only reads are here"),
        });
        Some(Reply::Array(replies.collect()))
    }
}

impl Client {
    pub(crate) fn multi(&mut self) -> Reply {
        if self.queue.is_some() {
            return Reply::error("ERR MULTI calls can not be nested");
        }
        self.queue = Some(Queue::default());
        self.show_transaction();
        Reply::Ok
    }

    pub(crate) fn discard(&mut self) -> Reply {
        if self.queue.is_none() {
            return Reply::error("ERR DISCARD without MULTI");
        }
        self.end_transaction();
        Reply::Ok
    }

    /// Queues a command that has passed the checks of its row.
    pub(crate) fn enqueue(&mut self, found: Found, argv: &Argv) -> Reply {
        let bytes_max = self.server.tunables.entry_bytes_max;
        let Some(queue) = &mut self.queue else { return Reply::error("ERR not in a transaction") };
        if found.command.flags.has(NO_MULTI) || found.command.name == "watch" || found.command.name == "multi" {
            return self.refuse_queued(match found.command.name {
                "watch" => "ERR WATCH inside MULTI is not allowed",
                "multi" => "ERR MULTI calls can not be nested",
                _ => "ERR Command not allowed inside a transaction",
            });
        }
        if crate::commands::reads_events(&found, argv) {
            return self.refuse_queued("ERR events cannot be read inside a transaction");
        }
        queue.bytes += argv.frame().len();
        if queue.bytes as u64 > bytes_max {
            return self.refuse_queued("ERR transaction is larger than entry-bytes-max");
        }
        // The queue may live long: it must not pin read buffers.
        queue.commands.push((found, argv.detached()));
        self.show_transaction();
        Reply::status("QUEUED")
    }

    fn refuse_queued(&mut self, text: &'static str) -> Reply {
        // As in Redis, nesting MULTI or WATCH is only an error; what else is refused spoils the transaction.
        if !text.contains("MULTI") {
            self.spoil();
        }
        Reply::error(text)
    }

    /// A command was refused while queueing.
    pub(crate) fn spoil(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.refused = true;
            self.info.set(flag::DIRTY, true);
        }
    }

    /// Decides about EXEC; leaves MULTI unless the transaction is mixed.
    pub(crate) fn exec(&mut self) -> Exec {
        let Some(queue) = &self.queue else { return Exec::Answer(Reply::error("ERR EXEC without MULTI")) };
        if queue.refused {
            self.end_transaction();
            return Exec::Answer(Reply::error("EXECABORT Transaction discarded because of previous errors."));
        }
        let takes_memory = queue.commands.iter().any(|(found, _)| found.command.flags.has(DENYOOM));
        if takes_memory && self.server.is_out_of_memory() {
            self.end_transaction();
            return Exec::Answer(Reply::error(quoris_engine::outcome::EXEC_OUT_OF_MEMORY));
        }
        if queue.commands.iter().any(|(found, _)| !is_data(found)) {
            return Exec::Mixed;
        }
        let commands = self.queue.take().map(|queue| queue.commands).unwrap_or_default();
        let exec = self.plan(commands);
        self.end_transaction();
        exec
    }

    /// Finds the one group of all keys.
    fn plan(&mut self, commands: Vec<(Found, Argv)>) -> Exec {
        let watches = std::mem::take(&mut self.watches);
        if commands.is_empty() && watches.is_empty() {
            return Exec::Answer(Reply::Array(Vec::new()));
        }
        let (group, slot) = match self.transaction_group(&commands, &watches) {
            Ok(place) => place,
            Err(reply) => return Exec::Answer(reply),
        };
        let only_reads = commands.iter().all(|(found, _)| matches!(found.command.handler, Handler::Read(_)));
        let reads = only_reads.then(|| commands.iter().map(|(found, _)| *found).collect());
        let mut inner = Inner::default();
        commands.iter().for_each(|(found, argv)| inner.push(found, argv));
        let transaction = Transaction { watches, commands: commands.into_iter().map(|(_, argv)| argv).collect() };
        Exec::Plain(Box::new(Plain { group, slot, transaction, reads, inner, database: self.database }))
    }

    fn transaction_group(&self, commands: &[(Found, Argv)], watches: &[Watch]) -> Result<(GroupId, u16), Reply> {
        let server = &self.server;
        let mut place: Option<(GroupId, u16)> = None;
        let mut join = |group, slot| match place {
            Some((known, _)) if known != group => Err(outcome::cross_slot()),
            Some(_) => Ok(()),
            None => {
                place = Some((group, slot));
                Ok(())
            }
        };
        // What is published inside goes along with the rest, wherever its channel is at home.
        let publishes = |found: &Found| found.command.channel.is_some() && found.command.keys.is_empty();
        let others = || commands.iter().filter(|(found, _)| !publishes(found));
        let leading = commands.first().filter(|_| others().next().is_none() && watches.is_empty());
        for (found, argv) in others().chain(leading) {
            match server.route(found, argv, self.database) {
                Route::One(group, slot) => join(group, slot)?,
                Route::NoOwner(slot) => return Err(outcome::no_owner(slot)),
                Route::Split(_) | Route::Cross => return Err(outcome::cross_slot()),
            }
        }
        for watch in watches {
            let slot = slot(&watch.key);
            join(server.node.group_of(slot).ok_or_else(|| outcome::no_owner(slot))?, slot)?;
        }
        place.ok_or_else(|| Reply::error("CLUSTERDOWN there is no group"))
    }

    /// EXEC with commands of the server among the queued ones.
    pub(crate) async fn exec_mixed(&mut self, output: &mut BytesMut) -> Served {
        let queued = self.queue.take().map(|queue| queue.commands).unwrap_or_default();
        // SELECT is both: apply follows it inside the transaction, and the connection afterwards.
        let data: Vec<_> =
            queued.iter().filter(|(found, _)| is_data(found) || found.command.name == "select").cloned().collect();
        let needs_group = !self.watches.is_empty() || data.iter().any(|(found, _)| is_data(found));
        let exec = if needs_group { self.plan_with_select(data) } else { Exec::Answer(Reply::Array(Vec::new())) };
        self.end_transaction();
        let mut landed = BTreeMap::new();
        let answered = match exec {
            Exec::Answer(reply) => reply,
            Exec::Mixed => unreachable!("a plan is plain"),
            Exec::Plain(plain) => {
                self.will_read_all(&plain.transaction.commands);
                self.gather.push(plain.group, plain.operation(self.own_stamp), exec_id(), plain.slot, false);
                let forwards = self.forwards_for(|slot| slot == plain.slot);
                let mut answers = self.gather.send(&self.session, forwards).await;
                if self.tracks.is_some() {
                    landed = self.hear_up_to(vec![plain.group], &answers, output).await;
                }
                if let Some(crate::gather::Answered::Done { executed: Some(position), .. }) = answers.lanes.first() {
                    self.positions.retain(|known| known.group != position.group);
                    self.positions.push(*position);
                }
                answers.lanes[0].next(plain.slot, &self.server.node)
            }
        };
        let served = match answered {
            Reply::Array(replies) => self.merge(queued, replies, needs_group, output).await,
            other => Served::Reply(other),
        };
        self.land(&landed);
        served
    }

    fn plan_with_select(&mut self, data: Vec<(Found, Argv)>) -> Exec {
        let keyed: Vec<_> = data.iter().filter(|(found, _)| is_data(found)).cloned().collect();
        let watches = std::mem::take(&mut self.watches);
        match self.transaction_group(&keyed, &watches) {
            Err(reply) => Exec::Answer(reply),
            Ok((group, slot)) => {
                let transaction = Transaction { watches, commands: data.into_iter().map(|(_, argv)| argv).collect() };
                Exec::Plain(Box::new(Plain {
                    group,
                    slot,
                    transaction,
                    reads: None,
                    inner: Inner::default(),
                    database: self.database,
                }))
            }
        }
    }

    /// Runs the server's commands and puts all replies in order.
    async fn merge(
        &mut self,
        queued: Vec<(Found, Argv)>,
        replies: Vec<Reply>,
        ran: bool,
        output: &mut BytesMut,
    ) -> Served {
        let mut replies = replies.into_iter();
        let mut all = Vec::with_capacity(queued.len());
        for (found, argv) in queued {
            if is_data(&found) {
                let mut reply = replies.next().unwrap_or(Reply::Null);
                if let (Reply::Int(_), Some((kin, channel))) = (&reply, published(&found, &argv)) {
                    // What stands in front may have listened.
                    reply = self.server.receivers(kin, &channel, &mut None);
                }
                self.count_inner(&[found.id], &Reply::Array(vec![reply.clone()]));
                all.push(reply);
                continue;
            }
            if found.command.name == "select" && ran {
                // Apply has answered it; the connection follows.
                replies.next();
            }
            let started = std::time::Instant::now();
            let mut own = BytesMut::new();
            let served = Box::pin(crate::commands::serve(self, found, &argv, &mut own)).await;
            let reply = match served {
                Served::Reply(reply) => reply,
                Served::Nothing => self.first_of(&mut own),
            };
            output.extend_from_slice(&own);
            self.timed(&found, &argv, started, &reply);
            self.count_error(&reply);
            all.push(reply);
        }
        Served::Reply(Reply::Array(all))
    }

    /// What a command that writes for itself answers in a transaction: with RESP2 its first confirmation, as in Redis;
    /// further ones come behind the transaction. With RESP3 they are messages, which stay what they are.
    fn first_of(&self, own: &mut BytesMut) -> Reply {
        if self.protocol == Protocol::Resp3 {
            return Reply::Null;
        }
        let (mut input, mut first) = (std::mem::take(own), None);
        while let Ok(Some(reply)) = ReplyDecoder::decode(&mut input) {
            let confirms = |reply: &Reply| match reply {
                Reply::Array(parts) => matches!(&parts[..], [Reply::Bulk(word), ..] if word.ends_with(b"subscribe")),
                _ => false,
            };
            match (&first, confirms(&reply)) {
                (None, true) => first = Some(reply),
                (None, false) => encode(&reply, self.protocol, own),
                (Some(_), _) => {
                    let mut behind = BytesMut::new();
                    encode(&reply, self.protocol, &mut behind);
                    self.info.link.send(behind.freeze(), &self.server.settings);
                }
            }
        }
        first.unwrap_or(Reply::Null)
    }

    /// WATCH: remembers the versions that the keys have now.
    pub(crate) async fn watch(&mut self, found: Found, argv: &Argv) -> Served {
        for at in 1..argv.len() {
            let key = &argv[at];
            if self.watches.iter().any(|watch| watch.database == self.database && watch.key == key) {
                continue;
            }
            let slot = slot(key);
            let Some(group) = self.server.node.group_of(slot) else { return Served::Reply(outcome::no_owner(slot)) };
            let here = self.server.node.try_read(group);
            let here = here.filter(|engine| engine.keyspace().serves_key(key));
            let here = here.map(|engine| engine.keyspace().version(self.database, key));
            let version = match here {
                Some(version) => version,
                None => match self.remote_version(found, group, slot, key).await {
                    Ok(version) => version,
                    Err(reply) => return Served::Reply(reply),
                },
            };
            self.watches.push(Watch { database: self.database, key: key.to_vec(), version });
        }
        self.show_transaction();
        Served::Reply(Reply::Ok)
    }

    /// Asks the group's leader: WATCH as a read answers the version.
    async fn remote_version(&mut self, found: Found, group: GroupId, slot: u16, key: &[u8]) -> Result<u64, Reply> {
        let argv = Argv::from_parts(&[b"WATCH", key]);
        let operation = Operation {
            command: found.command,
            argv,
            database: self.database,
            user: 0,
            transaction: false,
            own: None,
            write: false,
        };
        let forward = self.forwards_for(|asked| asked == slot).cover(std::slice::from_ref(&operation));
        let result = self.session.execute(group, vec![operation], forward).await;
        let executed = result.map_err(|error| outcome::reply(&error, slot, || self.server.node.status()))?;
        match executed.replies.into_iter().next() {
            Some(Reply::Array(versions)) => match versions.first() {
                Some(Reply::Int(version)) => Ok(*version as u64),
                _ => Err(Reply::error("ERR no version for the key")),
            },
            Some(error @ Reply::Error(_)) => Err(error),
            _ => Err(Reply::error("ERR no version for the key")),
        }
    }
}

fn exec_id() -> u16 {
    command::by_name(b"exec").expect("EXEC has a row").id
}

/// Whether a command runs in a group.
fn is_data(found: &Found) -> bool {
    matches!(found.command.handler, Handler::Read(_) | Handler::Write(_))
}
