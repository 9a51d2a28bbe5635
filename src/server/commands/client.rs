//! CLIENT and its subcommands.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use quoris_net::OutputClass;
use quoris_resp::{Argv, Reply};

use super::{Served, integer, tracking, word};
use crate::{
    client::{Client, Replies},
    clients::{ClientInfo, UNBLOCK_AS_TIMEOUT, UNBLOCK_WITH_ERROR, flag},
    gate::Pause,
};

pub(super) fn run(client: &mut Client, sub: &str, argv: &Argv) -> Served {
    match sub {
        "id" => Reply::Int(client.info.link.id as i64).into(),
        "getname" => match client.info.names.lock().name.as_str() {
            "" => Reply::Null.into(),
            name => Reply::bulk(name).into(),
        },
        "session" => client.session_command(argv),
        "setname" => set_name(client, &argv[2]).map_or_else(Served::Reply, |()| Reply::Ok.into()),
        "setinfo" => set_info(client, argv),
        "info" => text(format!("{}\n", client.info.line())),
        "list" => list(client, argv),
        "kill" => kill(client, argv),
        "pause" => pause(client, argv),
        "unpause" => {
            client.server.gate.unpause();
            client.server.refresh_watched();
            Reply::Ok.into()
        }
        "reply" => reply(client, argv),
        "no-evict" => switch(client, flag::NO_EVICT, argv),
        "no-touch" => switch(client, flag::NO_TOUCH, argv),
        "unblock" => unblock(client, argv),
        // Nobody is redirected by a failover here, and there is no import that would stop expiry.
        "capa" => Reply::Ok.into(),
        "import-source" => import_source(argv),
        "getredir" => tracking::redirect(client).into(),
        "trackinginfo" => tracking::info(client).into(),
        "caching" => tracking::caching(client, argv),
        _ => Served::unknown(argv),
    }
}

fn text(text: String) -> Served {
    Reply::Verbatim(*b"txt", text.into()).into()
}

/// Names must be printable in one word.
fn is_word(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}

pub(super) fn set_name(client: &Client, name: &[u8]) -> Result<(), Reply> {
    match String::from_utf8(name.to_vec()) {
        Ok(name) if is_word(name.as_bytes()) => {
            client.info.names.lock().name = name;
            Ok(())
        }
        _ => Err(Reply::error("ERR Client names cannot contain spaces, newlines or special characters.")),
    }
}

fn set_info(client: &Client, argv: &Argv) -> Served {
    let option = word(argv, 2);
    let value = &argv[3];
    if !is_word(value) {
        return Served::error(format!("ERR {option} cannot contain spaces, newlines or special characters."));
    }
    let value = String::from_utf8_lossy(value).into_owned();
    let mut names = client.info.names.lock();
    match option.as_str() {
        "lib-name" => names.library = value,
        "lib-ver" => names.library_version = value,
        _ => return Served::error(format!("ERR Unrecognized option '{}'", String::from_utf8_lossy(&argv[2]))),
    }
    Reply::Ok.into()
}

fn switch(client: &Client, bit: u32, argv: &Argv) -> Served {
    match word(argv, 2).as_str() {
        "on" => client.info.set(bit, true),
        "off" => client.info.set(bit, false),
        _ => return Served::Reply(quoris_engine::Error::Syntax.into()),
    }
    Reply::Ok.into()
}

fn reply(client: &mut Client, argv: &Argv) -> Served {
    match word(argv, 2).as_str() {
        "on" => client.replies = Replies::On,
        "off" => client.replies = Replies::Off,
        // When replies are off already there is nothing to skip.
        "skip" if client.replies == Replies::Off => {}
        "skip" => client.replies = Replies::SkipNext,
        _ => return Served::Reply(quoris_engine::Error::Syntax.into()),
    }
    client.silent = client.replies != Replies::On;
    Reply::Ok.into()
}

fn pause(client: &Client, argv: &Argv) -> Served {
    let millis = match argv.get(2).and_then(quoris_engine::number::integer) {
        Some(n) if n >= 0 => n as u64,
        Some(_) => return Served::error("ERR timeout is negative"),
        None => return Served::error("ERR timeout is not an integer or out of range"),
    };
    let what = match (argv.len(), word(argv, 3).as_str()) {
        (3, _) | (4, "all") => Pause::All,
        (4, "write") => Pause::Writes,
        (4, _) => return Served::error("ERR CLIENT PAUSE mode must be WRITE or ALL"),
        _ => {
            return Served::error("ERR unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT HELP.");
        }
    };
    client.server.gate.pause(what, Duration::from_millis(millis));
    client.server.refresh_watched();
    Reply::Ok.into()
}

fn unblock(client: &Client, argv: &Argv) -> Served {
    let how = match (argv.len(), word(argv, 3).as_str()) {
        (3, _) | (4, "timeout") => UNBLOCK_AS_TIMEOUT,
        (4, "error") => UNBLOCK_WITH_ERROR,
        _ => return Served::error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
    };
    let id = match integer(argv, 2) {
        Ok(id) => id,
        Err(reply) => return reply.into(),
    };
    let target = u64::try_from(id).ok().and_then(|id| client.server.clients.get(id));
    match target.filter(|target| target.has(flag::UNBLOCKABLE)) {
        Some(target) => {
            target.unblock_how.store(how, Relaxed);
            target.unblock.notify_one();
            Reply::Int(1).into()
        }
        None => Reply::Int(0).into(),
    }
}

fn import_source(argv: &Argv) -> Served {
    match word(argv, 2).as_str() {
        "on" => Served::error("ERR Server is not in import mode"),
        "off" => Reply::Ok.into(),
        _ => Served::Reply(quoris_engine::Error::Syntax.into()),
    }
}

/// The classes that CLIENT LIST TYPE and CLIENT KILL TYPE name.
fn is_of_type(info: &ClientInfo, name: &str) -> bool {
    match name {
        "pubsub" => info.link.class() == OutputClass::PubSub,
        "replica" | "slave" => info.has(flag::MONITOR),
        "normal" => info.link.class() == OutputClass::Normal,
        _ => false,
    }
}

fn check_type(name: &str) -> Result<(), Served> {
    if ["normal", "master", "replica", "slave", "pubsub"].contains(&name) {
        return Ok(());
    }
    Err(Served::error(format!("ERR Unknown client type '{name}'")))
}

fn list(client: &Client, argv: &Argv) -> Served {
    let mut all = client.server.clients.all();
    match (argv.len(), word(argv, 2).as_str()) {
        (2, _) => {}
        (4, "type") => {
            let name = word(argv, 3);
            if let Err(served) = check_type(&name) {
                return served;
            }
            all.retain(|info| is_of_type(info, &name));
        }
        (4.., "id") => {
            let ids: Option<Vec<u64>> = argv
                .iter()
                .skip(3)
                .map(|id| quoris_engine::number::integer(id).and_then(|n| u64::try_from(n).ok()))
                .collect();
            let Some(ids) = ids else { return Served::error("ERR Invalid client ID") };
            all.retain(|info| ids.contains(&info.link.id));
        }
        _ => return Served::Reply(quoris_engine::Error::Syntax.into()),
    }
    let lines: String = all.iter().map(|info| info.line() + "\n").collect();
    text(lines)
}

/// What CLIENT KILL looks for; all that is given must fit.
#[derive(Default)]
struct Filter {
    id: Option<u64>,
    kind: Option<String>,
    user: Option<String>,
    address: Option<String>,
    local_address: Option<String>,
    age_seconds_min: Option<u64>,
    skip_me: bool,
}

impl Filter {
    fn fits(&self, info: &ClientInfo, me: u64) -> bool {
        let link = &info.link;
        self.id.is_none_or(|id| id == link.id)
            && self.kind.as_ref().is_none_or(|kind| is_of_type(info, kind))
            && self.user.as_ref().is_none_or(|user| user == info.user())
            && self.address.as_ref().is_none_or(|address| *address == link.peer.to_string())
            && self.local_address.as_ref().is_none_or(|address| *address == link.local.to_string())
            && self.age_seconds_min.is_none_or(|age| link.age_ms() / 1000 >= age)
            && !(self.skip_me && link.id == me)
    }
}

fn parse_filter(argv: &Argv) -> Result<Filter, Served> {
    let mut filter = Filter { skip_me: true, ..Filter::default() };
    if !argv.len().is_multiple_of(2) {
        return Err(Served::Reply(quoris_engine::Error::Syntax.into()));
    }
    for at in (2..argv.len()).step_by(2) {
        let (value, text) = (&argv[at + 1], String::from_utf8_lossy(&argv[at + 1]).into_owned());
        match word(argv, at).as_str() {
            "id" => match quoris_engine::number::integer(value).filter(|n| *n > 0) {
                Some(id) => filter.id = Some(id as u64),
                None => return Err(Served::error("ERR client-id should be greater than 0")),
            },
            "type" => {
                let name = text.to_ascii_lowercase();
                check_type(&name)?;
                filter.kind = Some(name);
            }
            "user" if text == "default" => filter.user = Some(text),
            "user" => return Err(Served::error(format!("ERR No such user '{text}'"))),
            "addr" => filter.address = Some(text),
            "laddr" => filter.local_address = Some(text),
            "maxage" => match quoris_engine::number::integer(value).filter(|n| *n > 0) {
                Some(age) => filter.age_seconds_min = Some(age as u64),
                None => return Err(Served::error("ERR maxage should be greater than 0")),
            },
            "skipme" => match text.to_ascii_lowercase().as_str() {
                "yes" => filter.skip_me = true,
                "no" => filter.skip_me = false,
                _ => return Err(Served::Reply(quoris_engine::Error::Syntax.into())),
            },
            _ => return Err(Served::Reply(quoris_engine::Error::Syntax.into())),
        }
    }
    Ok(filter)
}

fn kill(client: &mut Client, argv: &Argv) -> Served {
    // The old form names an address and may hit the caller.
    let old_form = argv.len() == 3;
    let filter = if old_form {
        Filter { address: Some(String::from_utf8_lossy(&argv[2]).into_owned()), ..Filter::default() }
    } else {
        match parse_filter(argv) {
            Ok(filter) => filter,
            Err(served) => return served,
        }
    };
    let me = client.info.link.id;
    let hit: Vec<Arc<ClientInfo>> =
        client.server.clients.all().into_iter().filter(|info| filter.fits(info, me)).collect();
    for info in &hit {
        if info.link.id == me {
            client.closing = true;
        } else {
            info.link.close();
            // Whoever asks next must not see it any more.
            client.server.clients.remove(info.link.id);
        }
    }
    match (old_form, hit.len()) {
        (true, 0) => Served::error("ERR No such client"),
        (true, _) => Reply::Ok.into(),
        (false, n) => Reply::Int(n as i64).into(),
    }
}
