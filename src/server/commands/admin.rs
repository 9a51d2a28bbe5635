//! TIME, MONITOR, SAVE and its kin, SHUTDOWN.

use std::sync::atomic::Ordering::Relaxed;

use quoris_net::OutputClass;
use quoris_resp::{Argv, Reply};

use super::{Served, word};
use crate::{client::Client, clients::flag};

/// What a proxy answers that is asked for its data.
pub(super) const NO_DATA: &str = "ERR a proxy holds no data: send this to a node ('quoris admin status' lists them)";

/// TIME is the group's clock: XADD and relative deadlines go by it.
pub(super) fn time(client: &Client) -> Served {
    let server = &client.server;
    let millis = server.groups().first().map_or_else(crate::server::unix_ms, |group| server.node.clock_ms(*group));
    let micros = (millis % 1000) * 1000
        + u64::from(
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.subsec_micros() % 1000),
        );
    Reply::Array(vec![Reply::bulk((millis / 1000).to_string()), Reply::bulk(micros.to_string())]).into()
}

pub(super) fn monitor(client: &mut Client) -> Served {
    client.info.set(flag::MONITOR, true);
    client.info.link.set_class(OutputClass::Replica);
    client.info.link.keep_idle(true);
    client.server.monitors.add(client.info.link.clone());
    client.server.refresh_watched();
    Reply::Ok.into()
}

pub(super) async fn save(client: &Client) -> Served {
    let server = &client.server;
    if !server.saves.claim() {
        return Served::error("ERR Background save already in progress");
    }
    match server.save_claimed().await {
        Ok(()) => Reply::Ok.into(),
        Err(error) => Served::error(format!("ERR the file could not be written: {error}")),
    }
}

pub(super) fn background_save(client: &Client, argv: &Argv) -> Served {
    if argv.len() > 2 || (argv.len() == 2 && word(argv, 1) != "schedule") {
        return Served::Reply(quoris_engine::Error::Syntax.into());
    }
    let server = client.server.clone();
    if !server.saves.claim() {
        return Served::error("ERR Background save already in progress");
    }
    tokio::spawn(async move { server.save_claimed().await });
    Reply::status("Background saving started").into()
}

pub(super) fn last_save(client: &Client) -> Served {
    Reply::Int(client.server.saves.last_unix_s.load(Relaxed) as i64).into()
}

/// SHUTDOWN: nothing has to be saved, the log is durable. SAVE writes an RDB file first all the same.
pub(super) async fn shutdown(client: &mut Client, argv: &Argv) -> Served {
    let words: Vec<String> = (1..argv.len()).map(|at| word(argv, at)).collect();
    let has = |option: &str| words.iter().any(|word| word == option);
    let known = words.iter().all(|word| ["nosave", "save", "now", "force", "abort"].contains(&word.as_str()));
    if !known || (has("save") && has("nosave")) || (has("abort") && words.len() > 1) {
        return Served::Reply(quoris_engine::Error::Syntax.into());
    }
    if has("abort") {
        return Served::error("ERR No shutdown in progress.");
    }
    if has("save") && client.server.node.is_guest() {
        return Served::error(NO_DATA);
    }
    if has("save") && client.server.saves.claim() && client.server.save_claimed().await.is_err() {
        return Served::error("ERR Errors trying to SHUTDOWN. Check logs.");
    }
    client.server.shutdown.request();
    client.closing = true;
    Served::Nothing
}
