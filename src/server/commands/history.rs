//! XREAD, XRANGE and XINFO STREAM on the names of streams of events.

use std::{future::pending, time::Duration};

use bytes::Bytes;
use quoris_engine::{
    Error, Reading,
    command::{Found, Group},
    number,
};
use quoris_resp::{Argv, Reply};
use tokio::time::{Instant, sleep_until};

use super::Served;
use crate::{
    client::Client,
    history::{self, Cursor, PREFIX, Page, Place, Told},
    outcome,
};

/// Streams of which a connection remembers up to where there was nothing.
const REMEMBERED_MAX: usize = 64;

/// Whether a command reads events by their reserved names.
pub(crate) fn reads_events(found: &Found, argv: &Argv) -> bool {
    found.command.group == Group::Stream
        && matches!(found.command.name, "xread" | "xrange" | "xrevrange" | "stream")
        && argv.iter().skip(1).any(|word| word.starts_with(PREFIX))
}

/// Runs such a command.
pub(super) async fn run(client: &mut Client, found: Found, argv: &Argv) -> Served {
    let result = match found.command.name {
        "xread" => read(client, argv).await,
        "xrange" => range(client, argv).await,
        "stream" => about(client, argv).await,
        _ => Err(Reply::error("ERR events are read in the order in which they were told: use XRANGE")),
    };
    result.unwrap_or_else(|error| error).into()
}

/// The stream of a name.
fn told(client: &Client, name: &[u8]) -> Result<Told, Reply> {
    let rest = name.strip_prefix(PREFIX);
    let rest = rest.ok_or_else(|| Reply::error("ERR events and other streams cannot be read by one command"))?;
    Told::named(&client.server, rest, client.database)
}

/// A number of events, 0 for all.
fn most(count: u64) -> usize {
    if count == 0 { usize::MAX } else { usize::try_from(count).unwrap_or(usize::MAX) }
}

fn entries(page: &Page) -> Vec<Reply> {
    page.events.iter().map(|(id, position, event)| history::entry(id, position, event)).collect()
}

/// XRANGE.
async fn range(client: &Client, argv: &Argv) -> Result<Reply, Reply> {
    let told = told(client, &argv[1])?;
    let (mut count, mut at) = (0, 4);
    while let Some(word) = argv.get(at) {
        let value = argv.get(at + 1).filter(|_| word.eq_ignore_ascii_case(b"count")).ok_or(Error::Syntax)?;
        count = u64::try_from(number::integer(value).ok_or(Error::NotAnInteger)?).unwrap_or(0);
        if count == 0 {
            return Ok(Reply::NullArray);
        }
        at += 2;
    }
    let inclusive = |text: &[u8]| text.strip_prefix(b"(").is_none();
    let bound = |text: &Bytes| Bytes::copy_from_slice(text.strip_prefix(b"(").unwrap_or(text));
    let words = [2, 3].map(|at| argv.slice(at).unwrap_or_default());
    let mut after = told.start(&client.server, &bound(&words[0])).await?;
    // What is kept begins behind a place, and so does what comes from now on.
    if inclusive(&words[0]) && !matches!(&words[0][..], b"-" | b"$") {
        after = after.map(Place::previous);
    }
    let until = match &words[1][..] {
        b"+" => None,
        _ => Some(told.start(&client.server, &bound(&words[1])).await?),
    };
    let until = until.map(|until| match inclusive(&words[1]) {
        true => until,
        false => until.map(Place::before),
    });
    let page = history::read(&client.server, &told, &after, until.as_ref(), most(count)).await;
    page.map(|page| Reply::Array(entries(&page))).map_err(|failure| failure.reply())
}

/// XREAD.
async fn read(client: &mut Client, argv: &Argv) -> Result<Reply, Reply> {
    let reading = Reading::parse(argv, false)?;
    let server = client.server.clone();
    let (mut names, mut wanted) = (Vec::new(), Vec::new());
    for (name, id) in reading.pairs() {
        let key = (Bytes::copy_from_slice(&argv[name]), client.database);
        let told = told(client, &argv[name])?;
        let after = match client.read_up_to.get(&key) {
            Some((known, cursor)) if *known == argv[id] && &argv[id] != b"$" => cursor.clone(),
            _ => told.start(&server, &argv[id]).await?,
        };
        names.push((key, Bytes::copy_from_slice(&argv[id])));
        wanted.push((told, after));
    }
    let millis = reading.block;
    let deadline =
        millis.filter(|millis| *millis > 0).and_then(|m| Instant::now().checked_add(Duration::from_millis(m)));
    client.info.unblock_how.store(0, std::sync::atomic::Ordering::Relaxed);
    let mut held = None;
    loop {
        let mut found = Vec::new();
        for ((name, _), (told, after)) in names.iter().zip(&mut wanted) {
            let page = history::read(&server, told, after, None, most(reading.count)).await;
            let page = page.map_err(|failure| failure.reply())?;
            if !page.events.is_empty() {
                found.push((Reply::Bulk(name.0.clone()), Reply::Array(entries(&page))));
            }
            *after = page.after;
        }
        if !found.is_empty() {
            return Ok(Reply::Keyed(found));
        }
        if millis.is_some() && held.is_none() {
            held = Some(server.clients.hold(client.info.clone()));
        }
        let end = async {
            match (millis, deadline) {
                (None, _) => {}
                (Some(_), Some(deadline)) => sleep_until(deadline).await,
                (Some(_), None) => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = end => break,
            with_error = client.info.unblocked() => match with_error {
                true => return Err(Reply::error(outcome::UNBLOCKED)),
                false => break,
            },
            () = history::news(&server, &wanted) => {}
        }
    }
    drop(held);
    remember(client, names, wanted);
    Ok(Reply::NullArray)
}

/// There was nothing: who asks for the same again goes on from here, and does not fall behind what is kept.
fn remember(client: &mut Client, names: Vec<((Bytes, u32), Bytes)>, wanted: Vec<(Told, Cursor)>) {
    if client.read_up_to.len() + names.len() > REMEMBERED_MAX {
        client.read_up_to.clear();
    }
    for ((key, id), (_, cursor)) in names.into_iter().zip(wanted) {
        client.read_up_to.insert(key, (id, cursor));
    }
}

/// XINFO STREAM: where the history begins and ends.
async fn about(client: &Client, argv: &Argv) -> Result<Reply, Reply> {
    let told = told(client, &argv[2])?;
    // Everything that is told behind this call stands behind the end.
    let end = told.start(&client.server, b"$").await?;
    let floor = told.start(&client.server, b"-").await?;
    let text = |cursor: &Cursor| Reply::bulk(cursor.to_string());
    Ok(Reply::Map(vec![
        (Reply::bulk("last-generated-id"), text(&end)),
        (Reply::bulk("max-deleted-entry-id"), text(&floor)),
        (Reply::bulk("groups"), Reply::Int(0)),
        (Reply::bulk("first-entry"), Reply::Null),
        (Reply::bulk("last-entry"), Reply::Null),
    ]))
}
