//! The commands that the server runs itself, by name.
//!
//! Their rows stand in the engine's table like all others; here is what they do.

mod acl;
mod admin;
mod backup;
mod client;
mod cluster;
mod config;
mod connection;
mod debug;
mod history;
mod info;
mod introspection;
pub(crate) mod memory;
mod pubsub;
mod replication;
mod slots;
mod topology;
mod tracking;

use bytes::BytesMut;
use quoris_engine::command::{self, Found};
use quoris_resp::{Argv, Reply};

use crate::{client::Client, fieldsets, hot_keys, latency, slowlog};

pub(crate) use history::reads_events;
pub(crate) use info::{Snapshot, cpu_seconds};

/// What a command of the server answers.
#[derive(Debug)]
pub(crate) enum Served {
    /// This.
    Reply(Reply),
    /// Nothing: it has written itself, or the connection ends without a word.
    Nothing,
}

impl Served {
    /// An error from its whole text.
    pub fn error(text: impl Into<String>) -> Served {
        Served::Reply(Reply::error(text))
    }

    /// A row without an implementation here: as good as an unknown subcommand.
    pub fn unknown(argv: &Argv) -> Served {
        let container = String::from_utf8_lossy(&argv[0]).to_ascii_uppercase();
        let sub = String::from_utf8_lossy(argv.get(1).unwrap_or_default());
        Served::error(format!("ERR unknown subcommand '{sub}'. Try {container} HELP."))
    }
}

impl From<Reply> for Served {
    fn from(reply: Reply) -> Served {
        Served::Reply(reply)
    }
}

/// An argument as text; what is not UTF-8 cannot name an option.
pub(crate) fn word(argv: &Argv, at: usize) -> String {
    argv.get(at).map_or_else(String::new, |text| String::from_utf8_lossy(text).to_ascii_lowercase())
}

/// An argument as an integer, or Redis's error.
pub(crate) fn integer(argv: &Argv, at: usize) -> Result<i64, Reply> {
    argv.get(at).and_then(quoris_engine::number::integer).ok_or_else(|| quoris_engine::Error::NotAnInteger.into())
}

/// Commands that touch nothing but the connection: they may run while others of the batch wait.
pub(crate) fn light(client: &mut Client, found: &Found, argv: &Argv) -> Option<Reply> {
    match found.container {
        Some(container) if container.name == "client" && found.command.name == "session" => {
            return (word(argv, 2) == "use").then(|| client.use_session(argv).ok()).flatten();
        }
        Some(_) => return None,
        None => {}
    }
    Some(match found.command.name {
        "ping" => connection::ping(client, argv),
        "echo" => Reply::Bulk(argv.slice(1).unwrap_or_default()),
        "select" => connection::select(client, argv),
        "multi" => client.multi(),
        "discard" => client.discard(),
        "unwatch" => {
            client.watches.clear();
            client.show_transaction();
            Reply::Ok
        }
        _ => return None,
    })
}

/// Runs a subcommand.
async fn in_container(client: &mut Client, container: &str, name: &str, argv: &Argv) -> Served {
    match container {
        "client" if name == "tracking" => tracking::run(client, argv).await,
        "client" => client::run(client, name, argv),
        "config" => config::run(client, name, argv).await,
        "command" => introspection::command(argv),
        "slowlog" => slowlog::run(client, name, argv),
        "commandlog" => slowlog::run_any(client, name, argv),
        "hotkeys" => hot_keys::run(client, name, argv),
        "himport" => fieldsets::run(client, name, argv),
        "latency" => latency::run(client, name, argv),
        "memory" => memory::run(client, name, argv),
        "cluster" => cluster_command(client, name, argv).await,
        "acl" => acl::run(client, name, argv),
        "pubsub" => pubsub::ask(client, name, argv),
        "module" if name == "list" => Reply::Array(Vec::new()).into(),
        "module" => Served::error("ERR MODULE command not allowed: there is no interface for modules"),
        _ => Served::unknown(argv),
    }
}

/// CLUSTER and a subcommand of it.
async fn cluster_command(client: &mut Client, name: &str, argv: &Argv) -> Served {
    match name {
        "confirm-clock" => Reply::Int(client.server.node.confirm_clocks().await as i64).into(),
        "backup" => backup::run(client, argv).await,
        "failover" => cluster::failover(&client.server, argv).await,
        "node" => topology::run(client, argv).await,
        "move-slots" | "moves" | "cancel-move" => slots::run(client, name, argv).await,
        _ => {
            cluster::settle(&client.server, name).await;
            cluster::run(client, name, argv)
        }
    }
}

/// Runs any command of the server.
pub(crate) async fn serve(client: &mut Client, found: Found, argv: &Argv, output: &mut BytesMut) -> Served {
    if let Some(reply) = light(client, &found, argv) {
        return Served::Reply(reply);
    }
    if reads_events(&found, argv) {
        return Box::pin(history::run(client, found, argv)).await;
    }
    if let Some(patience_ms) = found.command.patience(argv) {
        return Box::pin(client.wait_for_element(&found, argv, patience_ms)).await;
    }
    let name = found.command.name;
    if let Some(container) = found.container {
        if name == "help" {
            return Served::Reply(command::introspect::help(container));
        }
        return in_container(client, container.name, name, argv).await;
    }
    match name {
        "save" | "bgsave" | "bgrewriteaof" if client.server.node.is_guest() => Served::error(admin::NO_DATA),
        "exec" => Box::pin(client.exec_mixed(output)).await,
        "watch" => client.watch(found, argv).await,
        "hello" => connection::hello(client, argv),
        "auth" => connection::auth(client, argv),
        "quit" => connection::quit(client),
        "reset" => {
            // What it has been sent stands in front of the reply, and nothing comes behind.
            client.forget_subscriptions();
            client.info.link.take_messages(output);
            connection::reset(client)
        }
        "readonly" | "readwrite" | "asking" => cluster::mode(client, name),
        "info" => info::run(client, argv),
        "command" => introspection::command(argv),
        "time" => admin::time(client),
        "lolwut" => introspection::lolwut(),
        "monitor" => admin::monitor(client),
        "save" => admin::save(client).await,
        "bgsave" => admin::background_save(client, argv),
        "lastsave" => admin::last_save(client),
        "bgrewriteaof" => Served::Reply(Reply::status("Background append only file rewriting started")),
        "shutdown" => admin::shutdown(client, argv).await,
        "debug" => debug::run(client, argv, output).await,
        _ if name.ends_with("subscribe") => pubsub::run(client, name, argv, output).await,
        "role" => replication::role(client),
        "wait" => replication::wait(client, argv).await,
        "waitaof" => replication::wait_aof(client, argv).await,
        "replicaof" | "slaveof" | "failover" | "sync" | "psync" | "replconf" => replication::refused(name),
        _ => Served::error(format!("ERR '{name}' is not served yet")),
    }
}
