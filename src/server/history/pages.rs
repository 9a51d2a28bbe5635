//! Parts of what groups have told, and waiting for more.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use futures_util::future::{join_all, select_all, try_join_all};
use quoris_engine::events::Event;
use quoris_raft::{Error, GroupId, error_reply, feed::Floor};
use quoris_resp::Reply;
use tokio::time::{sleep, timeout};

use super::{Cursor, Place, Told, channel};
use crate::server::Server;

/// A reply ends behind so many bytes of events of a group.
pub(super) const BYTES_MAX: usize = 8 << 20;
/// Before what was not kept is asked for again.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// Events in the order in which they are to be read.
pub(crate) struct Page {
    /// Each with what has been read up to it, and its own position.
    pub events: Vec<(Cursor, Cursor, Event)>,
    /// What has been read when all of them have.
    pub after: Cursor,
}

/// Why there is no page.
pub(crate) enum Failure {
    /// What comes next is no longer kept; from here on the rest is.
    Floor(Cursor),
    /// A position that no group has reached.
    Ahead(GroupId, Place),
    /// A group cannot be asked.
    Unavailable(Error),
}

impl Failure {
    pub fn reply(&self) -> Reply {
        match self {
            Failure::Floor(rest) => Reply::error(format!(
                "BELOWFLOOR events in front of this are no longer kept, those behind it are: {rest}"
            )),
            Failure::Ahead(group, place) => {
                Reply::error(format!("ERR group {} has not reached the position {}:{}", group.0, group.0, place.index))
            }
            Failure::Unavailable(error) => error_reply(error),
        }
    }
}

/// What one group gives to a page.
struct Part {
    /// Each with the group's clock at its entry.
    events: VecDeque<(u64, Place, Event)>,
    /// Up to where there is nothing more; nothing when there is more.
    end: Option<Place>,
}

/// Why a group gives nothing.
enum Refused {
    Floor(u64),
    Failure(Failure),
}

/// Reads what stands behind a place, `count` events at most: up to another place, or all that was acknowledged before
/// this call.
pub(crate) async fn read(
    server: &Server,
    told: &Told,
    after: &Cursor,
    until: Option<&Cursor>,
    count: usize,
) -> Result<Page, Failure> {
    if let Some(name) = told.channel() {
        return channel::read(server, told, name, after, until, count).await;
    }
    let part = |group: GroupId| part(server, told, group, after.of(group), until.map(|until| until.of(group)), count);
    let parts = timeout(server.node.config().request_timeout, join_all(told.groups.iter().map(|group| part(*group))));
    let parts = parts.await.map_err(|_| late())?;
    let mut floor = None;
    let mut found = BTreeMap::new();
    for (group, part) in told.groups.iter().zip(parts) {
        match part {
            Ok(part) => drop(found.insert(*group, part)),
            Err(Refused::Failure(failure)) => return Err(failure),
            Err(Refused::Floor(index)) => floor.get_or_insert_with(|| after.clone()).set(*group, Place::whole(index)),
        }
    }
    match floor {
        Some(rest) => Err(Failure::Floor(rest)),
        None => Ok(merge(found, after.clone(), count)),
    }
}

pub(super) fn late() -> Failure {
    Failure::Unavailable(Error::Unavailable(
        "the events cannot be had in time: a group has no leader, or no node with a replica of it answers".into(),
    ))
}

async fn part(
    server: &Server,
    told: &Told,
    group: GroupId,
    after: Place,
    until: Option<Place>,
    count: usize,
) -> Result<Part, Refused> {
    let now = server.node.events_now(group).await.map_err(|e| Refused::Failure(Failure::Unavailable(e)))?;
    if after.index > now {
        return Err(Refused::Failure(Failure::Ahead(group, after)));
    }
    let end = Place::whole(now).min(until.unwrap_or(Place::whole(now)));
    let mut stream = server.node.follow_events(group, after.behind());
    let (mut events, mut bytes) = (VecDeque::new(), 0);
    while let Some(batch) = stream.next_upto(end.index).await.map_err(|Floor(index)| Refused::Floor(index))? {
        for (event, number) in batch.events.iter().zip(1..) {
            let place = Place { index: batch.index, number };
            if place <= after || place > end || !told.has(event) {
                continue;
            }
            if events.len() >= count || bytes >= BYTES_MAX {
                return Ok(Part { events, end: None });
            }
            bytes += event.bytes();
            events.push_back((batch.clock_ms, place, event.clone()));
        }
    }
    Ok(Part { events, end: Some(end) })
}

/// Puts the events of all groups in one order, by the groups' clocks.
fn merge(mut parts: BTreeMap<GroupId, Part>, mut after: Cursor, count: usize) -> Page {
    let mut events = Vec::new();
    loop {
        parts.retain(|group, part| {
            // Of whom nothing is left, everything has been read: so say all that stand behind.
            if let Some(end) = part.end.filter(|_| part.events.is_empty()) {
                after.set(*group, end.max(after.of(*group)));
            }
            !part.events.is_empty()
        });
        let first = |part: &Part| part.events.front().map(|(clock_ms, ..)| *clock_ms);
        let next = parts.iter_mut().min_by_key(|(group, part)| (first(part), **group));
        let next = next.filter(|_| events.len() < count);
        let Some((group, (_, place, event))) = next.and_then(|(group, part)| Some((*group, part.events.pop_front()?)))
        else {
            return Page { events, after };
        };
        after.set(group, place);
        events.push((after.clone(), [(group, place)].into_iter().collect(), event));
    }
}

/// Where all groups stand now: everything that was acknowledged before this call is in front of it.
pub(crate) async fn now(server: &Server, told: &Told) -> Result<Cursor, Failure> {
    if let Some(name) = told.channel() {
        return channel::now(server, name).await;
    }
    let places =
        told.groups.iter().map(async |group| Ok((*group, Place::whole(server.node.events_now(*group).await?))));
    Ok(try_join_all(places).await.map_err(Failure::Unavailable)?.into_iter().collect())
}

/// Where what is kept begins.
pub(crate) async fn oldest(server: &Server, told: &Told) -> Result<Cursor, Failure> {
    let floors = told.groups.iter().map(async |group| {
        let floor = match server.node.follow_events(*group, 0).next_upto(1).await {
            Ok(_) => 0,
            Err(Floor(floor)) => floor,
        };
        (*group, Place::whole(floor))
    });
    let floors = timeout(server.node.config().request_timeout, join_all(floors)).await;
    let mut oldest = floors.map_err(|_| late())?.into_iter().collect();
    // What is kept of a channel may begin where its slot came.
    while told.channel().is_some() {
        match read(server, told, &oldest, None, 0).await {
            Err(Failure::Floor(rest)) if rest != oldest => oldest = rest,
            other => return other.map(|_| oldest),
        }
    }
    Ok(oldest)
}

/// Waits until one of these streams has an event behind its place, or has lost it.
pub(crate) async fn news(server: &Server, wanted: &[(Told, Cursor)]) {
    let waits = wanted.iter().flat_map(|(told, after)| {
        after.places().map(move |(group, after)| async move {
            let mut stream = server.node.follow_events(group, after.behind());
            while let Ok(batch) = stream.next().await {
                let place = |number| Place { index: batch.index, number };
                let mut events = batch.events.iter().zip(1..);
                let is_news = |event| told.has(event) || told.passage(event).is_some();
                if events.any(|(event, number)| place(number) > after && is_news(event)) {
                    return;
                }
            }
            // The next reading says what is wrong, or finds another replica.
            sleep(PAUSE).await;
        })
    });
    let waits: Vec<_> = waits.map(Box::pin).collect();
    match waits.is_empty() {
        true => sleep(PAUSE).await,
        false => drop(select_all(waits).await),
    }
}
