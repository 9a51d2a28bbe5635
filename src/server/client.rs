//! One connection's state: who it is, what it selected, what it queued.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use quoris_engine::{
    command::Found,
    entry::{SessionStamp, Watch},
};
use quoris_net::{Batch, Handler, Link, Next};
use quoris_raft::{GroupCopy, Position, Session};
use quoris_resp::{Argv, Limits, Protocol, Reply};

use crate::{
    clients::{ClientInfo, flag},
    fieldsets::Fieldsets,
    gather::{self, Gather},
    history::{Cursor, Subscription},
    multi::Queue,
    own_session::Own,
    sent_away::SentAway,
    server::Server,
    stats::Tally,
    tracking::Tracks,
};

/// What CLIENT REPLY asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Replies {
    On,
    Off,
    /// Not for the next command.
    SkipNext,
}

/// The server's side of a connection.
pub struct Client {
    pub(crate) server: Arc<Server>,
    pub(crate) info: Arc<ClientInfo>,
    pub(crate) session: Session,
    /// What CLIENT SESSION USE said about the next commands.
    pub(crate) own: Option<Own>,
    /// The mark of the command that runs now, if it belongs to a session that the client holds.
    pub(crate) own_stamp: Option<SessionStamp>,
    pub(crate) protocol: Protocol,
    pub(crate) database: u32,
    pub(crate) authenticated: bool,
    pub(crate) queue: Option<Queue>,
    pub(crate) watches: Vec<Watch>,
    /// What HIMPORT PREPARE has prepared.
    pub(crate) fieldsets: Fieldsets,
    /// Channels, patterns and shard channels that it listens to.
    pub(crate) subscriptions: [BTreeSet<Bytes>; 3],
    /// Those of the patterns that began at a position.
    pub(crate) resumed: BTreeMap<Bytes, Subscription>,
    /// Streams of events by name and database: what was asked for last, and up to where there was nothing.
    pub(crate) read_up_to: BTreeMap<(Bytes, u32), (Bytes, Cursor)>,
    /// What CLIENT TRACKING asked for.
    pub(crate) tracks: Option<Box<Tracks>>,
    pub(crate) replies: Replies,
    /// Whether the command that runs now is answered with nothing.
    pub(crate) silent: bool,
    /// A command that waits, and was about to run before what stands in front of it was written.
    pub(crate) stalled: Option<(Found, Argv)>,
    /// The connection ends behind the reply of the command that runs now.
    pub(crate) closing: bool,
    /// The snapshot that CLUSTER BACKUP opened.
    pub(crate) copy: Option<Arc<Mutex<GroupCopy>>>,
    /// Where its last write of each group stands; for WAIT.
    pub(crate) positions: Vec<Position>,
    pub(crate) gather: Gather,
    pub(crate) sent_away: SentAway,
    pub(crate) tally: Tally,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("id", &self.info.link.id).finish_non_exhaustive()
    }
}

impl Client {
    pub(crate) fn new(server: Arc<Server>, link: Arc<Link>) -> Client {
        let info = Arc::new(ClientInfo::new(link));
        let authenticated = server.users.is_open();
        info.names.lock().authenticated = authenticated;
        server.clients.add(info.clone());
        Client {
            session: server.node.session(),
            own: None,
            own_stamp: None,
            server,
            info,
            protocol: Protocol::Resp2,
            database: 0,
            authenticated,
            queue: None,
            watches: Vec::new(),
            fieldsets: Fieldsets::default(),
            subscriptions: Default::default(),
            resumed: BTreeMap::new(),
            read_up_to: BTreeMap::new(),
            tracks: None,
            replies: Replies::On,
            silent: false,
            stalled: None,
            closing: false,
            copy: None,
            positions: Vec::new(),
            gather: Gather::default(),
            sent_away: SentAway::default(),
            tally: Tally::default(),
        }
    }

    /// Whether a command cannot simply run.
    pub(crate) fn is_special(&self) -> bool {
        !self.authenticated || self.queue.is_some() || self.replies != Replies::On || self.only_listens()
    }

    pub(crate) fn set_authenticated(&mut self, authenticated: bool) {
        self.authenticated = authenticated;
        self.info.names.lock().authenticated = authenticated;
    }

    pub(crate) fn set_database(&mut self, database: u32) {
        self.database = database;
        self.info.database.store(database, Relaxed);
    }

    pub(crate) fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.info.set_protocol(protocol);
    }

    /// Leaves MULTI and forgets the watched keys.
    pub(crate) fn end_transaction(&mut self) {
        self.queue = None;
        self.watches.clear();
        self.show_transaction();
        self.info.set(flag::DIRTY, false);
    }

    pub(crate) fn show_transaction(&self) {
        let (queued, bytes) = self.queue.as_ref().map_or((-1, 0), |queue| (queue.commands.len() as i32, queue.bytes));
        self.info.multi.store(queued, Relaxed);
        self.info.multi_bytes.store(bytes, Relaxed);
        self.info.watches.store(self.watches.len() as u32, Relaxed);
    }

    /// Counts a reply's error and appends the reply, or puts it behind those that wait.
    pub(crate) fn emit(&mut self, reply: Reply, id: u16, output: &mut BytesMut) {
        self.count_error(&reply);
        let silent = std::mem::take(&mut self.silent);
        if self.gather.is_empty() {
            gather::put(&reply, silent, self.protocol, output);
        } else if !silent {
            self.gather.push_reply(reply, id);
        }
    }

    /// Counts the error of a reply, and remembers it when it sends the client away.
    pub(crate) fn count_error(&mut self, reply: &Reply) {
        if let Reply::Error(text) = reply {
            self.server.stats.error(text);
            self.sent_away.note(text);
        }
    }

    /// Counts the commands of a transaction that ran; their time is the transaction's.
    pub(crate) fn count_inner(&mut self, ids: &[u16], reply: &Reply) {
        let Reply::Array(replies) = reply else { return };
        let server = self.server.clone();
        for (id, reply) in ids.iter().zip(replies) {
            self.count_error(reply);
            self.tally.add(&server.stats, *id, 0, reply.is_error());
        }
    }

    /// Who is sent to the leader: the command, or the client. `asks_for` knows the slots of what is to be sent.
    pub(crate) fn forwards_for(&self, asks_for: impl Fn(u16) -> bool) -> gather::Forwards {
        match self.server.redirects() {
            false => gather::Forwards::All,
            true if self.sent_away.is_back(asks_for) => gather::Forwards::All,
            true if self.info.has(flag::READ_ONLY) => gather::Forwards::Reads(self.server.read_age()),
            true => gather::Forwards::KeylessReads,
        }
    }

    /// Sends what is gathered and answers in order.
    pub(crate) async fn send_gathered(&mut self, output: &mut BytesMut) {
        if self.gather.is_empty() {
            return;
        }
        let started = std::time::Instant::now();
        let server = self.server.clone();
        let forwards = self.forwards_for(|slot| self.gather.asks_for(slot));
        let tracked = self.tracks.is_some().then(|| self.gather.groups());
        let mut answers = self.gather.send(&self.session, forwards).await;
        let landed = match tracked {
            Some(groups) => self.hear_up_to(groups, &answers, output).await,
            None => Default::default(),
        };
        let took = started.elapsed();
        let share = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / answers.slots.len().max(1) as u64;
        let mut counted = None;
        for slot in std::mem::take(&mut answers.slots) {
            let lanes = &mut answers.lanes;
            let reply = match slot.what {
                gather::Waits::Nothing(reply) => {
                    gather::put(&reply, slot.silent, self.protocol, output);
                    continue;
                }
                gather::Waits::One(lane) => lanes[lane as usize].next(slot.slot, &server.node),
                gather::Waits::Publish(lane, kin, channel) => {
                    match lanes[lane as usize].next(slot.slot, &server.node) {
                        Reply::Int(_) => server.receivers(kin, &channel, &mut counted),
                        other => other,
                    }
                }
                gather::Waits::Transaction(lane, inner) => {
                    let mut reply = lanes[lane as usize].next(slot.slot, &server.node);
                    inner.count_receivers(&server, &mut reply);
                    self.count_inner(&inner.ids, &reply);
                    let replies = if let Reply::Array(replies) = &reply { &replies[..] } else { &[] };
                    inner.said.iter().zip(replies).for_each(|(argv, reply)| self.note_said(argv, took, reply));
                    reply
                }
                gather::Waits::Many(join, parts) => {
                    let replies = parts.into_iter().map(|lane| lanes[lane as usize].next(slot.slot, &server.node));
                    join.join(replies.collect())
                }
            };
            self.count_error(&reply);
            self.tally.add(&server.stats, slot.id, share, reply.is_error());
            if let Some(argv) = &slot.said {
                self.note_said(argv, took, &reply);
            }
            gather::put(&reply, slot.silent, self.protocol, output);
        }
        for lane in &answers.lanes {
            if let gather::Answered::Done { executed: Some(position), .. } = lane {
                self.remember(*position);
            }
        }
        self.gather.recycle(answers);
        self.land(&landed);
    }

    pub(crate) fn remember(&mut self, position: Position) {
        match self.positions.iter_mut().find(|known| known.group == position.group) {
            Some(known) => *known = position,
            None => self.positions.push(position),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.forget_subscriptions();
        self.stop_tracking();
        self.server.clients.remove(self.info.link.id);
        if self.info.has(flag::MONITOR) {
            self.server.monitors.remove(self.info.link.id);
            self.server.refresh_watched();
        }
        self.tally.flush(&self.server.stats);
    }
}

impl Handler for Client {
    fn limits(&self) -> Limits {
        let bulk_bytes_max = self.server.settings.bulk_bytes_max.load(Relaxed);
        Limits { bulk_bytes_max, authenticated: self.authenticated, ..Limits::default() }
    }

    async fn run(&mut self, batch: &mut Batch, output: &mut BytesMut) -> Next {
        let next = self.dispatch(batch, output).await;
        self.tally.flush(&self.server.stats);
        next
    }
}
