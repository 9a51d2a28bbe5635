//! Subscriptions that begin at a position: first what stands behind it, as fast as the client takes it, then what
//! comes.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use quoris_engine::events::Event;
use quoris_raft::{GroupId, feed::Batch};
use quoris_resp::{Reply, encode_message};
use tokio::task::JoinSet;

use super::{Cursor, PREFIX, Place, Told, channel::Passage, message, read};
use crate::{clients::ClientInfo, server::Server};

/// A subscription that begins at a position: the position follows, and then the rest of a stream's name.
const FROM: &[u8] = b"from:";
/// Bytes that wait for a connection before more is read for it.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Between two looks whether it has taken them.
const PAUSE: Duration = Duration::from_millis(5);

/// A subscription that began at a position; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Subscription {
    _tasks: JoinSet<()>,
}

/// The stream and the place that such a subscription names; nothing when the name is an ordinary one.
pub(crate) async fn wanted(server: &Server, name: &[u8], database: u32) -> Result<Option<(Told, Cursor)>, Reply> {
    let Some(rest) = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix(FROM)) else { return Ok(None) };
    let end = rest.iter().position(|byte| !b"0123456789:,-$".contains(byte)).unwrap_or(rest.len());
    let (position, stream) = rest.split_at(end);
    let told = Told::named(server, stream, database)?;
    let from = told.start(server, position.strip_suffix(b":").unwrap_or(position)).await?;
    // It says what is wrong before anything is confirmed.
    read(server, &told, &from, None, 0).await.map_err(|failure| failure.reply())?;
    Ok(Some((told, from)))
}

/// Sends what is told behind a place to a connection, as messages of the pattern `name`. The channel of each is its
/// cursor, a blank, and the channel that it is of.
pub(crate) fn subscribe(
    server: &Arc<Server>,
    info: &Arc<ClientInfo>,
    name: Bytes,
    told: Told,
    from: Cursor,
) -> Subscription {
    let mut tasks = JoinSet::new();
    let shared = Arc::new(Mutex::new(from.clone()));
    for (group, after) in from.places() {
        let (server, info, name) = (server.clone(), info.clone(), name.clone());
        let (told, shared) = (told.clone(), shared.clone());
        let follower = Follower { server, info, name, told, shared, group, after, entered: after };
        tasks.spawn(follower.run());
    }
    Subscription { _tasks: tasks }
}

/// Follows the events of one group, or of one channel from group to group.
struct Follower {
    server: Arc<Server>,
    info: Arc<ClientInfo>,
    name: Bytes,
    told: Told,
    /// What has been sent of all groups.
    shared: Arc<Mutex<Cursor>>,
    group: GroupId,
    /// What has been sent of this one.
    after: Place,
    /// Where it began in this one.
    entered: Place,
}

/// Where the next events are.
enum Next {
    Here,
    /// In another group: the one that is followed by now.
    Elsewhere,
}

/// Some events are no longer kept, or were told by another group.
struct Lost;

impl Follower {
    async fn run(mut self) {
        let mut stream = self.server.node.follow_events(self.group, self.after.behind());
        while let Ok(batch) = stream.next().await {
            match self.take(&batch).await {
                Ok(Next::Here) => {}
                Ok(Next::Elsewhere) => stream = self.server.node.follow_events(self.group, self.after.behind()),
                Err(Lost) => break,
            }
        }
        tracing::warn!(group = self.group.0, "events are no longer kept: a subscriber is disconnected");
        self.info.link.close();
    }

    /// Sends what belongs to it.
    async fn take(&mut self, batch: &Batch) -> Result<Next, Lost> {
        for (event, number) in batch.events.iter().zip(1..) {
            let place = Place { index: batch.index, number };
            if place <= self.after {
                continue;
            }
            match self.told.passage(event) {
                Some(Passage::To(group, place)) => {
                    (self.group, self.after, self.entered) = (group, place, place);
                    *self.shared.lock() = [(group, place)].into_iter().collect();
                    return Ok(Next::Elsewhere);
                }
                Some(Passage::From(place)) if self.entered < place => return Err(Lost),
                _ if !self.told.has(event) => continue,
                _ => {}
            }
            while self.info.link.waiting() > WAITING_BYTES_MAX {
                tokio::time::sleep(PAUSE).await;
            }
            let mut cursor = self.shared.lock();
            cursor.set(self.group, place);
            send(&self.server, &self.info, &self.name, &cursor, event);
        }
        self.after = Place::whole(batch.index);
        self.shared.lock().set(self.group, self.after);
        Ok(Next::Here)
    }
}

fn send(server: &Server, info: &ClientInfo, name: &Bytes, cursor: &Cursor, event: &Event) {
    let (channel, payload) = message(event);
    let place = Bytes::from([cursor.to_string().as_bytes(), b" ", &channel].concat());
    let mut bytes = BytesMut::new();
    encode_message("pmessage", &[name, &place, &payload], info.protocol(), &mut bytes);
    let sent = info.link.send(bytes.freeze(), &server.settings);
    server.pubsub.count_sent(sent);
}
