//! Everything that reaches the world goes through here, so that a simulation can stand in for it:
//! disk, network, clocks, blocking work. Randomness is in [`crate::runtime`].
//!
//! Invariants: production and simulation run the same code above these traits; nothing above them opens
//! a file or a socket, reads a clock or starts a thread.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::log_size::LogSize;
use crate::types::GroupId;

/// What to do about a data folder whose log or snapshots are damaged.
pub const BROKEN_FOLDER: &str = "Leave this folder as it is and replace the node (quoris admin node replace): a new one with an \
    empty folder copies its groups from the others, which is safe as long as a majority of each group's replicas is \
    whole. A cluster of one node comes back from a backup (quoris admin restore)";

/// A boxed future.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// Called once when an operation is durable, or has failed.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// One change of a group's log.
#[derive(Debug)]
pub enum DiskOp {
    /// Stores entries: index, head, payload.
    Append(Vec<(u64, Vec<u8>, Bytes)>),
    /// Deletes all entries behind the index.
    TruncateAfter(Option<u64>),
    /// Deletes all entries up to the index, and keeps the record of what was purged.
    Purge(u64, Vec<u8>),
    /// Stores the vote.
    Vote(Vec<u8>),
    /// Stores the committed log id; needs no flush of its own.
    Committed(Vec<u8>),
    /// Stores events of entries, by index; needs no flush of its own.
    Events(Vec<(u64, Bytes)>),
    /// Deletes the events up to an index, and keeps the record of the floor.
    DropEvents {
        /// The last index whose events are deleted.
        upto: u64,
        /// What [`Disk::events_floor`] gives from now on.
        floor: u64,
    },
    /// Nothing: but everything in front of it is flushed.
    Barrier,
}

/// What a group has on disk at start.
#[derive(Debug, Default)]
pub struct GroupRecords {
    /// As given to [`DiskOp::Vote`].
    pub vote: Option<Vec<u8>>,
    /// As given to [`DiskOp::Committed`].
    pub committed: Option<Vec<u8>>,
    /// As given to [`DiskOp::Purge`].
    pub purged: Option<Vec<u8>>,
    /// The last entry: index and bytes.
    pub last: Option<(u64, Bytes)>,
    /// Every entry's index and bytes, counted.
    pub size: LogSize,
}

/// The logs of all groups of a node, and their snapshot files. What waits for the disk lets the other tasks of its
/// thread go on meanwhile.
pub trait Disk: Send + Sync + 'static {
    /// Puts an operation into the one queue of the node; never blocks. Operations become durable in
    /// the order of the calls, and `done` runs after the flush that covers its operation. After an
    /// error nothing is ever reported durable again.
    fn submit(&self, group: GroupId, op: DiskOp, done: Option<Done>);

    /// While this is on, `submit` may write at once and block for it: for a node that has nothing else to do.
    fn submit_may_block(&self, _yes: bool) {}

    /// Reads what a group has; called once, before its first `submit`.
    ///
    /// # Errors
    /// When the disk fails or its records are damaged.
    fn load(&self, group: GroupId) -> io::Result<GroupRecords>;

    /// Entries from `from` up to, not including, `to`: consecutive, at least one if there is one, and
    /// no further one once `bytes_max` is passed.
    ///
    /// # Errors
    /// When the disk fails.
    fn read(&self, group: GroupId, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<(u64, Bytes)>>;

    /// Events of entries behind `after`, in order: at least one if there is one, and no further one once `bytes_max`
    /// is passed.
    ///
    /// # Errors
    /// When the disk fails.
    fn events(&self, group: GroupId, after: u64, bytes_max: usize) -> io::Result<Vec<(u64, Bytes)>>;

    /// As given to [`DiskOp::DropEvents`] last.
    ///
    /// # Errors
    /// When the disk fails.
    fn events_floor(&self, group: GroupId) -> io::Result<Option<u64>>;

    /// Removes everything of a group.
    fn remove(&self, group: GroupId, done: Done);

    /// Finished snapshot files of a group, by name.
    ///
    /// # Errors
    /// When the disk fails.
    fn snapshots(&self, group: GroupId) -> io::Result<Vec<String>>;

    /// Opens a finished snapshot: its length in bytes, and a reader.
    ///
    /// # Errors
    /// When it is not there or the disk fails.
    fn open_snapshot(&self, group: GroupId, name: &str) -> io::Result<(u64, Box<dyn SnapshotSource>)>;

    /// Begins a snapshot file; it exists under its name only once it is finished.
    ///
    /// # Errors
    /// When the disk fails.
    fn create_snapshot(&self, group: GroupId, name: &str) -> io::Result<Box<dyn SnapshotSink>>;

    /// Deletes a snapshot file.
    ///
    /// # Errors
    /// When the disk fails.
    fn remove_snapshot(&self, group: GroupId, name: &str) -> io::Result<()>;

    /// The number of flushes so far.
    fn flushes(&self) -> u64;

    /// Lets the next flush fail, as a broken disk would: for tests of what happens then.
    fn fail_next_flush(&self) {}

    /// Bytes that are left on the file system.
    ///
    /// # Errors
    /// When the disk fails.
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    /// Small records of the node itself (identity), replaced atomically and durable on return.
    ///
    /// # Errors
    /// When the disk fails.
    fn write_record(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Reads a record back.
    ///
    /// # Errors
    /// When the disk fails; an absent record is not an error.
    fn read_record(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
}

/// A snapshot file that is being read.
pub trait SnapshotSource: io::Read + io::Seek + Send {}
impl<T: io::Read + io::Seek + Send> SnapshotSource for T {}

/// A snapshot file that is being written.
pub trait SnapshotSink: Send {
    /// Appends bytes.
    ///
    /// # Errors
    /// When the disk fails.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Flushes the file, gives it its name and flushes the folder.
    ///
    /// # Errors
    /// When the disk fails; the file does not exist then.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// A byte stream to a peer.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Accepts peers.
pub trait Listener: Send {
    /// The next connection.
    fn accept(&mut self) -> BoxFutureRef<'_, io::Result<Box<dyn Stream>>>;
}

/// A boxed future that borrows.
pub type BoxFutureRef<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Connections between nodes.
pub trait Net: Send + Sync + 'static {
    /// Connects to a peer address.
    fn connect(&self, addr: String) -> BoxFuture<io::Result<Box<dyn Stream>>>;
    /// Listens on the own peer address.
    fn listen(&self, addr: String) -> BoxFuture<io::Result<Box<dyn Listener>>>;
}

/// The clocks of this machine.
pub trait Clock: Send + Sync + 'static {
    /// Time since some fixed moment; never jumps.
    fn monotonic(&self) -> Duration;
    /// The same, and time in which the machine slept counts.
    fn boottime(&self) -> Duration;
    /// Unix time in milliseconds, as the machine believes it to be.
    fn wall_ms(&self) -> u64;
}

/// All of it together.
#[derive(Clone)]
pub struct Seams {
    /// Logs and snapshots.
    pub disk: Arc<dyn Disk>,
    /// Connections.
    pub net: Arc<dyn Net>,
    /// Clocks.
    pub clock: Arc<dyn Clock>,
    /// Runs work that blocks, away from the tasks.
    pub blocking: fn(Box<dyn FnOnce() + Send>),
}

impl Seams {
    /// Runs `work` where blocking is allowed.
    ///
    /// # Errors
    /// When the process is going down.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        (self.blocking)(Box::new(move || {
            let _ = tx.send(work());
        }));
        rx.await.map_err(|_| io::Error::other("shutting down"))
    }
}

/// TCP.
#[derive(Debug, Default)]
pub struct TcpNet;

/// A connection on which the peer's kernel is silent for so long is ended. Left alone, the kernel tries for
/// a quarter of an hour, in steps that double: after a cut of a minute it may stay silent for another one.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// An idle connection asks the peer's kernel so often whether it is there.
const ASK_EVERY: Duration = Duration::from_secs(1);

fn prepare(stream: &tokio::net::TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(ASK_EVERY).with_interval(ASK_EVERY))?;
    socket.set_tcp_user_timeout(Some(SILENCE_MAX))
}

impl Net for TcpNet {
    fn connect(&self, addr: String) -> BoxFuture<io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect(addr).await?;
            prepare(&stream)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn listen(&self, addr: String) -> BoxFuture<io::Result<Box<dyn Listener>>> {
        Box::pin(async move { Ok(Box::new(TcpPeers(tokio::net::TcpListener::bind(addr).await?)) as Box<dyn Listener>) })
    }
}

struct TcpPeers(tokio::net::TcpListener);

impl Listener for TcpPeers {
    fn accept(&mut self) -> BoxFutureRef<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let (stream, _) = self.0.accept().await?;
            prepare(&stream)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// The machine's own clocks.
#[derive(Debug)]
pub struct SystemClock(std::time::Instant);

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock(std::time::Instant::now())
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn boottime(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    }

    fn wall_ms(&self) -> u64 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
    }
}

/// Work that blocks, on tokio's threads for it.
pub fn blocking_threads(work: Box<dyn FnOnce() + Send>) {
    tokio::task::spawn_blocking(work);
}
