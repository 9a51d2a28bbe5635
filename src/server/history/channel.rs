//! The events of one channel: one group at a time tells them, the one that has the channel's slot. Where the slot
//! goes, its log says, and the reader goes along.
//!
//! Invariants:
//! * Behind a place comes everything that is published behind it, each message once and in order, over any number of
//!   moves.
//! * What another group has told before the slot came is not passed over in silence.

use bytes::Bytes;
use quoris_engine::{events::Event, slot};
use quoris_raft::{GroupId, feed::Floor};
use tokio::time::{sleep, timeout};

use super::pages::{BYTES_MAX, Failure, PAUSE, Page, late};
use super::{Choice, Cursor, Place, Told};
use crate::server::Server;

/// What an event says of the group that tells a channel's events.
pub(super) enum Passage {
    /// They go on in another group, behind this place.
    To(GroupId, Place),
    /// Those in front of this place were told by another group.
    From(Place),
}

impl Told {
    /// The one channel whose events these are.
    pub(super) fn channel(&self) -> Option<&Bytes> {
        match &self.choice {
            Choice::Channel(name) | Choice::Shard(name) => Some(name),
            Choice::Channels(_) | Choice::Keys(_) => None,
        }
    }

    /// What an event says of the channel's slot.
    pub(super) fn passage(&self, event: &Event) -> Option<Passage> {
        let slot = slot(self.channel()?);
        match event {
            Event::Moved { range, group, index } if range.holds(slot) => {
                Some(Passage::To(GroupId(*group), Place::whole(*index)))
            }
            Event::Arrived { range, index } if range.holds(slot) => Some(Passage::From(Place::whole(*index))),
            _ => None,
        }
    }
}

/// How far a channel has been read.
struct Reader<'a> {
    server: &'a Server,
    told: &'a Told,
    /// Events that are wanted at most.
    count: usize,
    group: GroupId,
    place: Place,
    /// Where reading in this group began.
    entered: Place,
    events: Vec<(GroupId, Place, Event)>,
    bytes: usize,
}

/// How a stretch of reading in one group ended.
enum End {
    Reached,
    /// There is more than was wanted.
    Full,
    /// The rest is in another group, where the reader stands by now.
    Moved,
}

/// Reads what stands behind a place, `count` events at most: up to another place, or all that was acknowledged before
/// this call.
pub(super) async fn read(
    server: &Server,
    told: &Told,
    name: &[u8],
    after: &Cursor,
    until: Option<&Cursor>,
    count: usize,
) -> Result<Page, Failure> {
    let Some((group, place)) = after.first() else { return Err(late()) };
    let (events, bytes) = (Vec::new(), 0);
    let mut reader = Reader { server, told, count, group, place, entered: place, events, bytes };
    let whole = reader.run(name, until);
    timeout(server.node.config().request_timeout, whole).await.map_err(|_| late())??;
    let cursor = |group, place| [(group, place)].into_iter().collect::<Cursor>();
    let events = reader.events.into_iter().map(|(group, place, event)| {
        let at = cursor(group, place);
        (at.clone(), at, event)
    });
    Ok(Page { events: events.collect(), after: cursor(reader.group, reader.place) })
}

/// Where a channel stands now, in the group that has its slot.
pub(super) async fn now(server: &Server, name: &[u8]) -> Result<Cursor, Failure> {
    let owner = async || server.owner_now(name).await.map_err(Failure::Unavailable)?.ok_or_else(late);
    let mut group = owner().await?;
    loop {
        let now = server.node.events_now(group).await.map_err(Failure::Unavailable)?;
        // Behind the slot's leave there would be nothing more.
        match owner().await? {
            still if still == group => return Ok([(group, Place::whole(now))].into_iter().collect()),
            other => group = other,
        }
    }
}

impl Reader<'_> {
    async fn run(&mut self, name: &[u8], until: Option<&Cursor>) -> Result<(), Failure> {
        loop {
            // Asked first: what was acknowledged before is then in front of where the owner stands.
            let owner = self.server.owner_now(name).await.map_err(Failure::Unavailable)?.ok_or_else(late)?;
            let now = self.server.node.events_now(self.group).await.map_err(Failure::Unavailable)?;
            if self.place.index > now {
                return Err(Failure::Ahead(self.group, self.place));
            }
            let now = Place::whole(now);
            let end = until.filter(|until| until.names(self.group)).map_or(now, |until| until.of(self.group).min(now));
            match self.stretch(end, owner).await? {
                End::Full => return Ok(()),
                End::Moved => {}
                End::Reached => {
                    self.place = end.max(self.place);
                    if end < now || self.group == owner {
                        return Ok(());
                    }
                    // The group is about to say that it has given the slot up.
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Reads on in the present group up to a place there.
    async fn stretch(&mut self, end: Place, owner: GroupId) -> Result<End, Failure> {
        let mut stream = self.server.node.follow_events(self.group, self.place.behind());
        let below = |Floor(index): Floor, group| match group == owner {
            true => kept_behind(group, Place::whole(index)),
            // It may be long ago that the slot left.
            false => kept_behind(owner, Place::default()),
        };
        while let Some(batch) = stream.next_upto(end.index).await.map_err(|floor| below(floor, self.group))? {
            for (event, number) in batch.events.iter().zip(1..) {
                let here = Place { index: batch.index, number };
                if here <= self.place || here > end {
                    continue;
                }
                match self.told.passage(event) {
                    Some(Passage::To(group, place)) => {
                        (self.group, self.place, self.entered) = (group, place, place);
                        return Ok(End::Moved);
                    }
                    Some(Passage::From(place)) if self.entered < place => {
                        return Err(kept_behind(self.group, place));
                    }
                    Some(Passage::From(_)) => {}
                    None if !self.told.has(event) => {}
                    None if self.events.len() >= self.count || self.bytes >= BYTES_MAX => return Ok(End::Full),
                    None => {
                        self.bytes += event.bytes();
                        self.events.push((self.group, here, event.clone()));
                        self.place = here;
                    }
                }
            }
        }
        Ok(End::Reached)
    }
}

fn kept_behind(group: GroupId, place: Place) -> Failure {
    Failure::Floor([(group, place)].into_iter().collect())
}
