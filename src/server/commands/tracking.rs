//! CLIENT TRACKING, CACHING, GETREDIR and TRACKINGINFO.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use quoris_engine::number;
use quoris_resp::{Argv, Reply};
use tokio::time::{Instant, sleep};

use super::{Served, word};
use crate::{
    client::Client,
    clients::flag,
    tracking::{Choice, Tracks},
};

/// So long CLIENT TRACKING ON waits until changes of all groups are heard of.
const FOLLOW_TIME_MAX: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);

/// The options of CLIENT TRACKING.
#[derive(Default)]
struct Options {
    redirect: Option<u64>,
    prefixes: Vec<Bytes>,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    no_loop: bool,
}

/// CLIENT TRACKING.
pub(super) async fn run(client: &mut Client, argv: &Argv) -> Served {
    let options = match parse(client, argv) {
        Ok(options) => options,
        Err(served) => return served,
    };
    match word(argv, 2).as_str() {
        "on" => {}
        "off" => {
            client.stop_tracking();
            return Reply::Ok.into();
        }
        _ => return Served::Reply(quoris_engine::Error::Syntax.into()),
    }
    if let Some(text) = contradiction(client, &options) {
        return Served::error(text);
    }
    let mut prefixes = BTreeSet::new();
    if options.broadcast {
        let before = client.tracks.as_mut().and_then(|tracks| tracks.prefixes.take());
        prefixes = before.unwrap_or_default();
        let none = options.prefixes.is_empty().then(Bytes::new);
        prefixes.extend(options.prefixes.into_iter().chain(none));
    }
    let choice = match (options.opt_in, options.opt_out) {
        (true, _) => Choice::OptIn,
        (_, true) => Choice::OptOut,
        _ => Choice::All,
    };
    client.start_tracking(Tracks {
        redirect: options.redirect,
        prefixes: options.broadcast.then_some(prefixes),
        choice,
        no_loop: options.no_loop,
        ..Tracks::default()
    });
    wait_until_heard(client).await;
    Reply::Ok.into()
}

/// Groups without a replica here are followed from now on. Where that takes too long, all that a connection reads of
/// them is said to have changed at once.
async fn wait_until_heard(client: &Client) {
    let (server, deadline) = (&client.server, Instant::now() + FOLLOW_TIME_MAX);
    while !server.groups().iter().all(|group| server.node.hears(*group)) && Instant::now() < deadline {
        sleep(PAUSE).await;
    }
}

fn parse(client: &Client, argv: &Argv) -> Result<Options, Served> {
    let mut options = Options::default();
    let mut at = 3;
    while at < argv.len() {
        match (word(argv, at).as_str(), argv.get(at + 1)) {
            ("redirect", Some(id)) => {
                if options.redirect.is_some() {
                    return Err(Served::error("ERR A client can only redirect to a single other client"));
                }
                let id = number::integer(id).ok_or_else(|| Served::Reply(quoris_engine::Error::NotAnInteger.into()))?;
                let known = u64::try_from(id).ok().filter(|id| client.server.clients.get(*id).is_some());
                options.redirect =
                    Some(known.ok_or_else(|| Served::error("ERR The client ID you want redirect to does not exist"))?);
                at += 1;
            }
            ("prefix", Some(prefix)) => {
                options.prefixes.push(Bytes::copy_from_slice(prefix));
                at += 1;
            }
            ("bcast", _) => options.broadcast = true,
            ("optin", _) => options.opt_in = true,
            ("optout", _) => options.opt_out = true,
            ("noloop", _) => options.no_loop = true,
            _ => return Err(Served::Reply(quoris_engine::Error::Syntax.into())),
        }
        at += 1;
    }
    Ok(options)
}

/// Why options do not go together, or not with what holds now.
fn contradiction(client: &Client, options: &Options) -> Option<String> {
    let now = client.tracks.as_deref();
    let switches = |from, to| options_choose(options, to) && now.is_some_and(|now| now.choice == from);
    let text = if !options.broadcast && !options.prefixes.is_empty() {
        "ERR PREFIX option requires BCAST mode to be enabled"
    } else if now.is_some_and(|now| now.prefixes.is_some() != options.broadcast) {
        "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode."
    } else if options.broadcast && (options.opt_in || options.opt_out) {
        "ERR OPTIN and OPTOUT are not compatible with BCAST"
    } else if options.opt_in && options.opt_out {
        "ERR You can't specify both OPTIN mode and OPTOUT mode"
    } else if switches(Choice::OptOut, Choice::OptIn) || switches(Choice::OptIn, Choice::OptOut) {
        "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode."
    } else {
        return overlap(now.and_then(|now| now.prefixes.as_ref()), &options.prefixes);
    };
    Some(text.into())
}

fn options_choose(options: &Options, choice: Choice) -> bool {
    match choice {
        Choice::OptIn => options.opt_in,
        Choice::OptOut => options.opt_out,
        Choice::All => false,
    }
}

/// A prefix that begins another one, among those given and those that hold.
fn overlap(held: Option<&BTreeSet<Bytes>>, given: &[Bytes]) -> Option<String> {
    let overlaps = |one: &Bytes, other: &Bytes| one.starts_with(other) || other.starts_with(one);
    let text = |one: &Bytes, what: &str, other: &Bytes| {
        let [one, other] = [one, other].map(|prefix| String::from_utf8_lossy(prefix).into_owned());
        format!(
            "ERR Prefix '{one}' overlaps with {what} prefix '{other}'. Prefixes for a single client must not overlap."
        )
    };
    given.iter().enumerate().find_map(|(at, prefix)| {
        if let Some(other) = held.into_iter().flatten().find(|other| overlaps(prefix, other)) {
            return Some(text(prefix, "an existing", other));
        }
        let other = given[at + 1..].iter().find(|other| overlaps(prefix, other))?;
        Some(text(prefix, "another provided", other))
    })
}

/// CLIENT CACHING.
pub(super) fn caching(client: &mut Client, argv: &Argv) -> Served {
    let Some(tracks) = &mut client.tracks else {
        return Served::error(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        );
    };
    match (word(argv, 2).as_str(), tracks.choice) {
        ("yes", Choice::OptIn) | ("no", Choice::OptOut) => tracks.caching = true,
        ("yes", _) => {
            return Served::error("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.");
        }
        ("no", _) => {
            return Served::error("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.");
        }
        _ => return Served::Reply(quoris_engine::Error::Syntax.into()),
    }
    Reply::Ok.into()
}

/// CLIENT GETREDIR.
pub(super) fn redirect(client: &Client) -> Reply {
    Reply::Int(client.tracks.as_ref().map_or(-1, |tracks| tracks.redirect.map_or(0, |id| id as i64)))
}

/// CLIENT TRACKINGINFO.
pub(super) fn info(client: &Client) -> Reply {
    let mut flags = Vec::new();
    let mut prefixes = Vec::new();
    match &client.tracks {
        None => flags.push("off"),
        Some(tracks) => {
            flags.push("on");
            flags.extend(tracks.prefixes.is_some().then_some("bcast"));
            match tracks.choice {
                Choice::All => {}
                Choice::OptIn => flags.extend(["optin"].into_iter().chain(tracks.caching.then_some("caching-yes"))),
                Choice::OptOut => flags.extend(["optout"].into_iter().chain(tracks.caching.then_some("caching-no"))),
            }
            flags.extend(tracks.no_loop.then_some("noloop"));
            flags.extend(client.info.has(flag::BROKEN_REDIRECT).then_some("broken_redirect"));
            prefixes = tracks.prefixes.iter().flatten().cloned().map(Reply::Bulk).collect();
        }
    }
    Reply::Map(vec![
        (Reply::bulk("flags"), Reply::Set(flags.into_iter().map(Reply::bulk).collect())),
        (Reply::bulk("redirect"), redirect(client)),
        (Reply::bulk("prefixes"), Reply::Array(prefixes)),
    ])
}
