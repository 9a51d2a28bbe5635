//! HELLO, AUTH, PING, SELECT, QUIT, RESET.

use std::sync::atomic::Ordering::Relaxed;

use quoris_net::OutputClass;
use quoris_resp::{Argv, Protocol, Reply};

use super::{Served, integer, word};
use crate::{
    client::{Client, Replies},
    clients::flag,
    version,
};

pub(super) fn ping(client: &Client, argv: &Argv) -> Reply {
    match argv.len() {
        1 | 2 if client.only_listens() => {
            Reply::Array(vec![Reply::bulk("pong"), Reply::Bulk(argv.slice(1).unwrap_or_default())])
        }
        1 => Reply::status("PONG"),
        2 => Reply::Bulk(argv.slice(1).unwrap_or_default()),
        _ => Reply::error("ERR wrong number of arguments for 'ping' command"),
    }
}

pub(super) fn select(client: &mut Client, argv: &Argv) -> Reply {
    let index = match integer(argv, 1) {
        Ok(index) => index,
        Err(reply) => return reply,
    };
    if index != 0 && client.server.tunables.redirects.load(Relaxed) {
        return Reply::error("ERR SELECT is not allowed in cluster mode");
    }
    match u32::try_from(index) {
        Ok(index) if index < client.server.tunables.databases => {
            client.set_database(index);
            Reply::Ok
        }
        _ => Reply::error("ERR DB index is out of range"),
    }
}

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

pub(super) fn auth(client: &mut Client, argv: &Argv) -> Served {
    let users = &client.server.users;
    let (name, password) = match argv.len() {
        2 if users.is_open() => {
            return Served::error(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
            );
        }
        2 => (&b"default"[..], &argv[1]),
        3 => (&argv[1], &argv[2]),
        _ => return Served::Reply(quoris_engine::Error::Syntax.into()),
    };
    match log_in(client, name, password) {
        Ok(()) => Served::Reply(Reply::Ok),
        Err(reply) => Served::Reply(reply),
    }
}

fn log_in(client: &mut Client, name: &[u8], password: &[u8]) -> Result<(), Reply> {
    if client.server.users.check(name, password) {
        client.set_authenticated(true);
        return Ok(());
    }
    client.server.stats.auth_failures.fetch_add(1, Relaxed);
    Err(Reply::error(WRONG_PASSWORD))
}

/// What HELLO was given.
#[derive(Default)]
struct Hello<'a> {
    protocol: Option<Protocol>,
    login: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

fn parse_hello(argv: &Argv) -> Result<Hello<'_>, Reply> {
    let mut hello = Hello::default();
    if argv.len() == 1 {
        return Ok(hello);
    }
    let version =
        integer(argv, 1).map_err(|_| Reply::error("ERR Protocol version is not an integer or out of range"))?;
    hello.protocol = Some(match version {
        2 => Protocol::Resp2,
        3 => Protocol::Resp3,
        _ => return Err(Reply::error("NOPROTO unsupported protocol version")),
    });
    let mut at = 2;
    while at < argv.len() {
        match (word(argv, at).as_str(), argv.get(at + 1), argv.get(at + 2)) {
            ("auth", Some(name), Some(password)) => {
                hello.login = Some((name, password));
                at += 3;
            }
            ("setname", Some(name), _) => {
                hello.name = Some(name);
                at += 2;
            }
            _ => {
                return Err(Reply::error(format!(
                    "ERR Syntax error in HELLO option '{}'",
                    String::from_utf8_lossy(&argv[at])
                )));
            }
        }
    }
    Ok(hello)
}

pub(super) fn hello(client: &mut Client, argv: &Argv) -> Served {
    let hello = match parse_hello(argv) {
        Ok(hello) => hello,
        Err(reply) => return Served::Reply(reply),
    };
    if let Some((name, password)) = hello.login
        && let Err(reply) = log_in(client, name, password)
    {
        return Served::Reply(reply);
    }
    if !client.authenticated {
        return Served::error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        );
    }
    if let Some(name) = hello.name
        && let Err(reply) = super::client::set_name(client, name)
    {
        return Served::Reply(reply);
    }
    if let Some(protocol) = hello.protocol {
        client.set_protocol(protocol);
    }
    let redirects = client.server.tunables.redirects.load(Relaxed);
    Served::Reply(Reply::Map(vec![
        (Reply::bulk("server"), Reply::bulk("redis")),
        (Reply::bulk("version"), Reply::bulk(version::REDIS)),
        (Reply::bulk("proto"), Reply::Int(if client.protocol == Protocol::Resp3 { 3 } else { 2 })),
        (Reply::bulk("id"), Reply::Int(client.info.link.id as i64)),
        (Reply::bulk("mode"), Reply::bulk(if redirects { "cluster" } else { "standalone" })),
        (Reply::bulk("role"), Reply::bulk("master")),
        (Reply::bulk("modules"), Reply::Array(Vec::new())),
    ]))
}

pub(super) fn quit(client: &mut Client) -> Served {
    client.closing = true;
    Served::Reply(Reply::Ok)
}

/// RESET: the connection as it was when it was new.
pub(super) fn reset(client: &mut Client) -> Served {
    client.end_transaction();
    if client.info.has(flag::MONITOR) {
        client.server.monitors.remove(client.info.link.id);
        client.server.refresh_watched();
        client.info.link.set_class(OutputClass::Normal);
        client.info.link.keep_idle(false);
    }
    client.stop_tracking();
    for bit in [flag::MONITOR, flag::READ_ONLY, flag::NO_EVICT, flag::NO_TOUCH] {
        client.info.set(bit, false);
    }
    client.info.names.lock().name.clear();
    client.set_database(0);
    client.set_protocol(Protocol::Resp2);
    client.replies = Replies::On;
    client.own = None;
    client.fieldsets.clear();
    let open = client.server.users.is_open();
    client.set_authenticated(open);
    Served::Reply(Reply::status("RESET"))
}
