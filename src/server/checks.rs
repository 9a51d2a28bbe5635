//! What a command has to pass before it runs: replies switched off, authentication, MULTI, CLIENT PAUSE,
//! monitors. The row and the arity have been checked already.

use std::{sync::atomic::Ordering::Relaxed, time::Instant};

use bytes::BytesMut;
use quoris_engine::command::{self, DENYOOM, Found, Group, MAY_REPLICATE, NO_AUTH, SKIP_MONITOR};
use quoris_resp::{Argv, Reply};

use crate::{
    client::{Client, Replies},
    server::Server,
};

impl Client {
    /// Decides about a command on a connection that is not in its ordinary state; false when it is answered.
    pub(crate) fn admit(&mut self, server: &Server, found: &Found, argv: &Argv, output: &mut BytesMut) -> bool {
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
        let listens =
            matches!(found.command.name, "ping" | "quit" | "reset") || found.command.name.ends_with("subscribe");
        if self.only_listens() && (!listens || found.container.is_some()) {
            let text = format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                found.full_name()
            );
            self.reject(server, found, Reply::error(text), output);
            return false;
        }
        let leaves = found.container.is_none() && matches!(found.command.name, "exec" | "discard" | "quit" | "reset");
        if self.queue.is_some() && !leaves {
            if found.command.flags.has(DENYOOM) && server.is_out_of_memory() {
                self.reject(server, found, Reply::error(quoris_engine::outcome::OUT_OF_MEMORY), output);
                return false;
            }
            let reply = self.enqueue(*found, argv);
            self.emit(reply, found.id, output);
            return false;
        }
        if server.is_watched() {
            if found.command.name == "exec" {
                self.show_queue_to_monitors(server);
            }
            self.show_to_monitors(server, found, argv);
        }
        true
    }

    /// Queued commands are shown when they are about to run.
    fn show_queue_to_monitors(&self, server: &Server) {
        let queue = self.queue.iter().filter(|queue| !queue.refused);
        for (found, argv) in queue.flat_map(|queue| &queue.commands) {
            self.show_to_monitors(server, found, argv);
        }
    }

    pub(crate) fn reject(&mut self, server: &Server, found: &Found, reply: Reply, output: &mut BytesMut) {
        server.stats.row(found.id).rejected.fetch_add(1, Relaxed);
        self.spoil();
        self.emit(reply, found.id, output);
    }

    /// A command without a row, or with the wrong number of arguments.
    pub(crate) fn unknown(&mut self, argv: &Argv, reply: Reply, output: &mut BytesMut) {
        self.silent = self.replies != Replies::On;
        if self.replies == Replies::SkipNext {
            self.replies = Replies::On;
        }
        let server = self.server.clone();
        let found = command::by_name(&argv[0]);
        match found {
            Some(found) if found.command.name == "exec" => {
                self.end_transaction();
                let why = match &reply {
                    Reply::Error(text) => {
                        String::from_utf8_lossy(text.strip_prefix(b"ERR ").unwrap_or(text)).into_owned()
                    }
                    _ => String::new(),
                };
                let reply = Reply::error(format!("EXECABORT Transaction discarded because of: {why}"));
                self.reject(&server, &found, reply, output);
            }
            Some(found) => self.reject(&server, &found, reply, output),
            None => {
                self.spoil();
                self.emit(reply, 0, output);
            }
        }
    }

    /// Until when a pause holds a command back.
    pub(crate) fn held(&self, found: &Found, argv: &Argv) -> Option<Instant> {
        if found.container.is_some_and(|c| c.name == "client") {
            return None;
        }
        self.server.gate.holds(|| self.may_change(found, argv))
    }

    /// Whether a command may change something: not what only reads, scripts that promise so included.
    fn may_change(&self, found: &Found, argv: &Argv) -> bool {
        let row = found.command;
        if row.name == "exec" && found.container.is_none() {
            return self
                .queue
                .iter()
                .flat_map(|queue| &queue.commands)
                .any(|(found, argv)| self.may_change(found, argv));
        }
        let promises = || {
            let groups = self.server.groups();
            let promises = |group| self.server.peek(group, |engine| engine.keyspace().promises_no_writes(argv));
            row.group == Group::Scripting && groups.first().is_some_and(|group| promises(*group) == Some(true))
        };
        // To keep a script changes no key.
        let keeps = found.container.is_some_and(|container| container.name == "script");
        (row.is_write() || row.flags.has(MAY_REPLICATE)) && !keeps && !promises()
    }

    pub(crate) fn show_to_monitors(&self, server: &Server, found: &Found, argv: &Argv) {
        if found.command.name == "reset" && found.container.is_none() {
            // A monitor that ends does not see that it ended.
            server.monitors.remove(self.info.link.id);
        }
        let hidden = found.command.flags.has(SKIP_MONITOR) || matches!(found.command.name, "auth" | "hello");
        if !server.monitors.is_empty() && !hidden {
            server.monitors.feed(&self.info.link, self.database, argv, &server.settings);
        }
    }
}
