//! RESP over TCP: listeners, connections, pipelining, limits. Steps 1 and 10 of a command's way.
//!
//! One task serves one connection: it reads what has arrived, decodes every complete command, hands
//! the batch to a [`Handler`], and writes all replies at once. The server and the proxy both stand on
//! it; which commands exist is none of this crate's business.
//!
//! Invariants:
//! * Commands of a connection run in the order in which they came, replies leave in that order.
//! * Every buffer has a bound: the query buffer, a batch, the replies that wait to be written, and the
//!   messages that others queued for the connection.
//! * A connection that is told to close lets go of its handler, whatever it is waiting for.

mod connection;
mod link;
mod listener;
mod outlet;
mod settings;
mod threads;

use std::{collections::VecDeque, future::Future, sync::Arc};

use bytes::{Bytes, BytesMut};
use quoris_resp::{Argv, Limits};

pub use link::{Link, OutputClass, Overdue};
pub use listener::{BindError, Listener, bind};
pub use settings::{OutputLimit, Settings, Traffic};
pub use threads::Threads;

/// Commands that wait to be handled, in order.
pub type Batch = VecDeque<Argv>;

/// What happens to a connection after a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Everything is handled; read on.
    Read,
    /// Commands remain in the batch: write the replies that are there, then go on.
    Flush,
    /// Write the replies that are there, then close.
    Close,
}

/// The other side of the socket: one value per connection.
pub trait Handler: Send + 'static {
    /// What the client may send now. An unauthenticated client gets one command at a time.
    fn limits(&self) -> Limits;

    /// Takes commands from the front of `batch` and appends their replies to `output`, in order.
    /// Is dropped at its next await when the connection is closed from outside.
    fn run(&mut self, batch: &mut Batch, output: &mut BytesMut) -> impl Future<Output = Next> + Send;
}

/// Makes a handler for each new connection.
pub trait Service: Send + Sync + 'static {
    /// What serves one connection.
    type Handler: Handler;

    /// Takes a new connection.
    ///
    /// # Errors
    /// With the line that the client gets before it is closed, line end included.
    fn accept(&self, link: Arc<Link>) -> Result<Self::Handler, Bytes>;
}
