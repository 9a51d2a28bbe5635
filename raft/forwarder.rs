//! Batches for leaders elsewhere, as many in one message as wait.
//!
//! Step 5, where another node leads. Every connection has a batch of its own on the way, and most batches are
//! one small command: a message for each would cost more than the command. One task per peer and thread of clients
//! takes what waits, without a timer, and sends one message per group; the leader answers all of its batches
//! together. Task and connection live on the runtime of those whose commands they carry: on its way out and back a
//! command meets no other thread of this process.
//!
//! Invariant: every batch learns what became of it, also when the connection or this task ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::{Handle, Id};
use tokio::sync::{mpsc, oneshot};

use crate::forward::{self, Forwarded};
use crate::link::{Connection, Links, Slot};
use crate::parcel::{self, BATCHES_MAX, Parcel};
use crate::types::{GroupId, NodeId};
use crate::wire::Kind;

/// Batches that wait for a peer; a connection has one per group, so this bounds busy connections.
const WAITING_MAX: usize = 16_384;
/// A message is closed when it has passed this many bytes; one larger batch still fits.
const MESSAGE_BYTES: usize = 1 << 20;

/// What became of a batch that was to be sent.
#[derive(Debug)]
pub enum Sent {
    /// The peer's answer.
    Answered(Forwarded),
    /// Certainly not sent: the peer cannot be reached.
    Unsent,
    /// Sent, and the answer was lost.
    Lost,
}

struct Waiting {
    group: GroupId,
    parcel: Parcel,
    done: oneshot::Sender<Sent>,
}

/// The way to all other leaders.
pub struct Forwarder {
    links: Arc<Links>,
    /// One for each runtime that sends and peer; never walked through, so that its order does not matter.
    ways: Mutex<HashMap<(Id, NodeId), mpsc::Sender<Waiting>>>,
}

impl Forwarder {
    /// Sends over these links.
    pub fn new(links: Arc<Links>) -> Forwarder {
        Forwarder { links, ways: Mutex::default() }
    }

    /// Sends a batch and waits for its answer. When this future is dropped the batch may still be executed.
    pub async fn send(&self, peer: NodeId, group: GroupId, parcel: Parcel) -> Sent {
        let queue = self.queue(peer);
        let (done, answer) = oneshot::channel();
        if queue.send(Waiting { group, parcel, done }).await.is_err() {
            return Sent::Unsent;
        }
        answer.await.unwrap_or(Sent::Lost)
    }

    fn queue(&self, peer: NodeId) -> mpsc::Sender<Waiting> {
        let runtime = Handle::current();
        let mut ways = self.ways.lock();
        if let Some(queue) = ways.get(&(runtime.id(), peer)).filter(|queue| !queue.is_closed()) {
            return queue.clone();
        }
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        runtime.spawn(run(self.links.clone(), peer, waiting));
        ways.insert((runtime.id(), peer), queue.clone());
        queue
    }
}

async fn run(links: Arc<Links>, peer: NodeId, mut queue: mpsc::Receiver<Waiting>) {
    let mut way = Slot::default();
    while let Some(first) = queue.recv().await {
        let connection = links.connect_here(&mut way, peer).await;
        // Whoever was woken together with the first sender has something to add.
        tokio::task::yield_now().await;
        let (mut groups, mut bytes, mut count) = (BTreeMap::<GroupId, Vec<Waiting>>::new(), 0, 0);
        let mut next = Some(first);
        while let Some(waiting) = next {
            (bytes, count) = (bytes + waiting.parcel.bytes, count + 1);
            groups.entry(waiting.group).or_default().push(waiting);
            next = if bytes < MESSAGE_BYTES && count < BATCHES_MAX { queue.try_recv().ok() } else { None };
        }
        for (group, batches) in groups {
            match &connection {
                Ok(connection) => drop(tokio::spawn(call(connection.clone(), group, batches))),
                Err(_) => batches.into_iter().for_each(|waiting| drop(waiting.done.send(Sent::Unsent))),
            }
        }
    }
}

/// Sends one message; waits for its answer and hands it on.
async fn call(connection: Arc<Connection>, group: GroupId, batches: Vec<Waiting>) {
    let (parcels, waiters): (Vec<_>, Vec<_>) = batches.into_iter().map(|w| (w.parcel, w.done)).unzip();
    let answer = connection.call(Kind::Forward, parcel::request(group, parcels.into_iter())).await;
    let answers = answer.and_then(|body| forward::read_answer(&body)).unwrap_or_default();
    let mut answers = answers.into_iter().map(Sent::Answered);
    for waiter in waiters {
        let _ = waiter.send(answers.next().unwrap_or(Sent::Lost));
    }
}
