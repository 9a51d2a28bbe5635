//! All connections, as CLIENT LIST and CLIENT KILL see them.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicI64, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use quoris_engine::command;
use quoris_net::{Link, OutputClass, Settings, Traffic};
use quoris_resp::Protocol;

/// Bits of [`ClientInfo::flags`].
pub(crate) mod flag {
    pub const MONITOR: u32 = 1;
    pub const NO_EVICT: u32 = 1 << 1;
    pub const NO_TOUCH: u32 = 1 << 2;
    pub const READ_ONLY: u32 = 1 << 3;
    /// Waits for something: an element, replicas. Counted as `blocked_clients`.
    pub const BLOCKED: u32 = 1 << 4;
    pub const DIRTY: u32 = 1 << 5;
    /// Waits for something that CLIENT UNBLOCK may end.
    pub const UNBLOCKABLE: u32 = 1 << 6;
    /// Is told when keys change that it has read.
    pub const TRACKING: u32 = 1 << 7;
    pub const TRACKING_BROADCAST: u32 = 1 << 8;
    /// The connection that should get its messages is gone.
    pub const BROKEN_REDIRECT: u32 = 1 << 9;
}

/// Values of [`ClientInfo::unblock_how`].
pub(crate) const UNBLOCK_AS_TIMEOUT: u32 = 1;
pub(crate) const UNBLOCK_WITH_ERROR: u32 = 2;

/// What others may know of a connection.
#[derive(Debug)]
pub(crate) struct ClientInfo {
    pub link: Arc<Link>,
    pub names: Mutex<Names>,
    pub database: AtomicU32,
    /// Queued commands, -1 outside MULTI.
    pub multi: AtomicI32,
    pub multi_bytes: AtomicUsize,
    pub watches: AtomicU32,
    /// Channels, patterns and shard channels that it listens to.
    pub subscriptions: [AtomicU32; 3],
    pub protocol: AtomicU32,
    /// The connection that is told what this one tracks; 0 for itself, -1 when it does not track.
    pub redirect: AtomicI64,
    pub flags: AtomicU32,
    /// The id of the last command's row, `u16::MAX` before the first.
    pub last_command: AtomicU16,
    pub commands: AtomicU64,
    /// The hold that CLIENT UNBLOCK ends.
    pub unblock: tokio::sync::Notify,
    /// How it is to end: [`UNBLOCK_AS_TIMEOUT`] or [`UNBLOCK_WITH_ERROR`], 0 when it is not.
    pub unblock_how: AtomicU32,
}

/// Texts that the client gave.
#[derive(Debug, Default, Clone)]
pub(crate) struct Names {
    pub name: String,
    pub library: String,
    pub library_version: String,
    pub authenticated: bool,
}

impl ClientInfo {
    pub fn new(link: Arc<Link>) -> ClientInfo {
        ClientInfo {
            link,
            names: Mutex::default(),
            database: AtomicU32::new(0),
            multi: AtomicI32::new(-1),
            multi_bytes: AtomicUsize::new(0),
            watches: AtomicU32::new(0),
            subscriptions: Default::default(),
            protocol: AtomicU32::new(2),
            redirect: AtomicI64::new(-1),
            flags: AtomicU32::new(0),
            last_command: AtomicU16::new(u16::MAX),
            commands: AtomicU64::new(0),
            unblock: tokio::sync::Notify::new(),
            unblock_how: AtomicU32::new(0),
        }
    }

    /// Waits for CLIENT UNBLOCK; whether it asks for an error.
    pub async fn unblocked(&self) -> bool {
        loop {
            self.unblock.notified().await;
            // A permit without a reason is left over from an earlier hold.
            match self.unblock_how.load(Relaxed) {
                0 => {}
                how => return how == UNBLOCK_WITH_ERROR,
            }
        }
    }

    pub fn has(&self, flag: u32) -> bool {
        self.flags.load(Relaxed) & flag != 0
    }

    pub fn set(&self, flag: u32, on: bool) {
        if on {
            self.flags.fetch_or(flag, Relaxed)
        } else {
            self.flags.fetch_and(!flag, Relaxed)
        };
    }

    pub fn set_protocol(&self, protocol: Protocol) {
        self.protocol.store(if protocol == Protocol::Resp3 { 3 } else { 2 }, Relaxed);
    }

    /// The version that its messages are encoded in.
    pub fn protocol(&self) -> Protocol {
        if self.protocol.load(Relaxed) == 3 { Protocol::Resp3 } else { Protocol::Resp2 }
    }

    /// The name that CLIENT KILL USER and the line show.
    pub fn user(&self) -> &'static str {
        if self.names.lock().authenticated { "default" } else { "(superuser)" }
    }

    fn letters(&self) -> String {
        let letters: String = [
            (flag::MONITOR, 'O'),
            (flag::BLOCKED, 'b'),
            (flag::TRACKING, 't'),
            (flag::BROKEN_REDIRECT, 'R'),
            (flag::TRACKING_BROADCAST, 'B'),
            (flag::DIRTY, 'd'),
            (flag::READ_ONLY, 'r'),
            (flag::NO_EVICT, 'e'),
            (flag::NO_TOUCH, 'T'),
        ]
        .iter()
        .filter(|(flag, _)| self.has(*flag))
        .map(|(_, letter)| *letter)
        .collect();
        let multi = if self.multi.load(Relaxed) >= 0 { "x" } else { "" };
        let pubsub = if self.link.class() == OutputClass::PubSub { "P" } else { "" };
        match format!("{letters}{multi}{pubsub}") {
            none if none.is_empty() => "N".into(),
            some => some,
        }
    }

    /// The line of CLIENT LIST.
    pub fn line(&self) -> String {
        let link = &self.link;
        let names = self.names.lock().clone();
        let mut line =
            format!("id={} addr={} laddr={} fd={} name={}", link.id, link.peer, link.local, link.fd, names.name);
        let _ = write!(line, " age={} idle={} flags={}", link.age_ms() / 1000, link.idle_ms() / 1000, self.letters());
        let [channels, patterns, shards] = &self.subscriptions.each_ref().map(|n| n.load(Relaxed));
        let _ = write!(line, " db={} sub={channels} psub={patterns} ssub={shards}", self.database.load(Relaxed));
        let _ = write!(line, " multi={}", self.multi.load(Relaxed));
        let (query, free) = (link.query_bytes.load(Relaxed), link.query_free.load(Relaxed));
        let (output, messages) = (link.output_bytes.load(Relaxed), link.message_bytes());
        let multi_bytes = self.multi_bytes.load(Relaxed);
        let _ =
            write!(line, " qbuf={query} qbuf-free={free} argv-mem=0 multi-mem={multi_bytes} rbs={output} rbp={output}");
        let total = query + free + output + messages + multi_bytes + size_of::<ClientInfo>();
        let _ = write!(line, " obl={output} oll={} omem={messages} tot-mem={total} events=r", link.message_count());
        let last = self.last_command.load(Relaxed);
        let command = command::walk().nth(last as usize).map_or_else(|| "NULL".to_string(), |found| found.full_name());
        let user = if names.authenticated { "default" } else { "(superuser)" };
        let redirect = self.redirect.load(Relaxed);
        let _ = write!(line, " cmd={command} user={user} redir={redirect} resp={}", self.protocol.load(Relaxed));
        let _ = write!(line, " lib-name={} lib-ver={}", names.library, names.library_version);
        let (bytes_in, bytes_out) = (link.bytes_in.load(Relaxed), link.bytes_out.load(Relaxed));
        let _ = write!(line, " tot-net-in={bytes_in} tot-net-out={bytes_out} tot-cmds={}", self.commands.load(Relaxed));
        // Redis shows it behind multi= since 7.4; suites of the version that we name want it nowhere there.
        let _ = write!(line, " watch={}", self.watches.load(Relaxed));
        line
    }
}

/// The connections that are open now.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    open: Mutex<BTreeMap<u64, Arc<ClientInfo>>>,
    blocked: AtomicUsize,
}

impl Clients {
    pub fn add(&self, info: Arc<ClientInfo>) {
        self.open.lock().insert(info.link.id, info);
    }

    pub fn remove(&self, id: u64) {
        self.open.lock().remove(&id);
    }

    /// All connections in the order in which they came.
    pub fn all(&self) -> Vec<Arc<ClientInfo>> {
        self.open.lock().values().cloned().collect()
    }

    pub fn get(&self, id: u64) -> Option<Arc<ClientInfo>> {
        self.open.lock().get(&id).cloned()
    }

    /// Connections that wait for something.
    pub fn blocked(&self) -> usize {
        self.blocked.load(Relaxed)
    }

    /// Counts a connection as waiting until the guard is dropped.
    pub fn block(self: &Clients, info: Arc<ClientInfo>) -> Blocked<'_> {
        self.blocked.fetch_add(1, Relaxed);
        info.set(flag::BLOCKED, true);
        info.link.keep_idle(true);
        Blocked { clients: self, info }
    }

    /// The same for what CLIENT UNBLOCK may end and what ends with the connection.
    pub fn hold(self: &Clients, info: Arc<ClientInfo>) -> Blocked<'_> {
        info.unblock_how.store(0, Relaxed);
        info.set(flag::UNBLOCKABLE, true);
        info.link.watch_end(true);
        self.block(info)
    }

    /// Closes what is overdue and takes buffers back from what is idle; once a second.
    pub fn keep_house(&self, settings: &Settings, traffic: &Traffic) {
        for client in self.all() {
            match client.link.overdue(settings) {
                Some(why) => {
                    tracing::debug!(id = client.link.id, ?why, "closing a client");
                    if why == quoris_net::Overdue::Output {
                        traffic.output_limit_closed.fetch_add(1, Relaxed);
                    }
                    client.link.close();
                }
                None if (2000..3000).contains(&client.link.idle_ms()) => client.link.shrink(),
                None => {}
            }
        }
    }
}

/// A connection counts as waiting while this lives.
#[derive(Debug)]
pub(crate) struct Blocked<'a> {
    clients: &'a Clients,
    info: Arc<ClientInfo>,
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.clients.blocked.fetch_sub(1, Relaxed);
        self.info.set(flag::BLOCKED, false);
        self.info.set(flag::UNBLOCKABLE, false);
        self.info.link.watch_end(false);
        self.info.link.keep_idle(false);
    }
}
