//! The handle by which others reach a connection: to close it, to send it messages, to look at it.
//!
//! Invariants:
//! * Whoever sets a flag wakes the task behind it; the task registers before it looks a last time, so
//!   no signal is lost.
//! * Queued messages are whole replies; the task appends them behind whole replies only. Only what is left of one that
//!   others began to write stands in front of everything, and is taken with the socket.
//! * Whoever is not the task writes to the socket only while it is lent, which it is while the task has nothing to
//!   write, and only when no message waits.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    task::Context,
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};

use crate::{Settings, Traffic};

/// Which of the three output limits holds for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum OutputClass {
    /// An ordinary client; monitors count as replicas, as in Redis.
    Normal = 0,
    /// A replica or a monitor.
    Replica = 1,
    /// A subscriber.
    PubSub = 2,
}

/// Why a connection has to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overdue {
    /// Nothing came for longer than `timeout`.
    Idle,
    /// It does not read what it asked for.
    Output,
}

/// The size of a first reply buffer in Redis, in bytes.
const UNCOUNTED_BYTES: usize = 16 * 1024;

const CLOSE: u32 = 1;
const MESSAGES: u32 = 2;
const SHRINK: u32 = 4;
const FINISH: u32 = 8;
const UNSENT: u32 = 16;

/// What others have for a connection.
#[derive(Debug, Default)]
struct Outbox {
    messages: Vec<Bytes>,
    /// The socket, while it is lent.
    socket: Option<TcpStream>,
}

impl Outbox {
    /// Writes a message to the socket, if that is lent; gives what is left of it.
    fn write(&self, message: &Bytes) -> Bytes {
        let socket = self.socket.as_ref().filter(|_| self.messages.is_empty());
        // An error is the task's to find.
        let written = socket.and_then(|mut socket| socket.write(message).ok()).unwrap_or(0);
        message.slice(written..)
    }
}

/// One connection as everybody else sees it.
#[derive(Debug)]
pub struct Link {
    /// Unique in this process, from 1 on.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
    /// The socket's file descriptor, only to be shown.
    pub fd: i32,
    /// When it was accepted.
    pub opened: Instant,
    flags: AtomicU32,
    waker: AtomicWaker,
    class: AtomicU8,
    keep_idle: AtomicBool,
    /// Whether the handler waits for others, see [`Link::watch_end`].
    watches_end: AtomicBool,
    outbox: Mutex<Outbox>,
    message_bytes: AtomicUsize,
    /// Milliseconds since `opened` at the last read.
    last_ms: AtomicU64,
    /// Milliseconds since `opened` at which the soft output limit was passed; 0 when it is not.
    over_soft_ms: AtomicU64,
    /// Bytes read from the client.
    pub bytes_in: AtomicU64,
    /// Bytes written to the client.
    pub bytes_out: AtomicU64,
    /// Bytes that wait in the query buffer.
    pub query_bytes: AtomicUsize,
    /// Room that is left in the query buffer.
    pub query_free: AtomicUsize,
    /// Replies that wait to be written, in bytes.
    pub output_bytes: AtomicUsize,
}

impl Link {
    pub(crate) fn new(id: u64, peer: SocketAddr, local: SocketAddr, fd: i32) -> Link {
        Link {
            id,
            peer,
            local,
            fd,
            opened: Instant::now(),
            flags: AtomicU32::new(0),
            waker: AtomicWaker::new(),
            class: AtomicU8::new(OutputClass::Normal as u8),
            keep_idle: AtomicBool::new(false),
            watches_end: AtomicBool::new(false),
            outbox: Mutex::default(),
            message_bytes: AtomicUsize::new(0),
            last_ms: AtomicU64::new(0),
            over_soft_ms: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            query_bytes: AtomicUsize::new(0),
            query_free: AtomicUsize::new(0),
            output_bytes: AtomicUsize::new(0),
        }
    }

    /// Closes the connection at its next await. Replies that are not written yet are lost.
    pub fn close(&self) {
        self.signal(CLOSE);
    }

    /// Closes the connection once everything that has come is answered.
    pub fn finish(&self) {
        self.signal(FINISH);
    }

    pub(crate) fn is_finishing(&self) -> bool {
        self.flags.load(Ordering::Acquire) & FINISH != 0
    }

    /// Whether it was told to close.
    pub fn is_closing(&self) -> bool {
        self.flags.load(Ordering::Acquire) & CLOSE != 0
    }

    /// Queues encoded replies (messages to a subscriber, lines to a monitor) and closes the connection
    /// when more than its output limit waits. False when it is closing.
    pub fn send(&self, message: Bytes, settings: &Settings) -> bool {
        if self.is_closing() {
            return false;
        }
        let outbox = self.outbox.lock();
        self.queue(outbox, message, settings)
    }

    /// The same, but writes to the socket at once where that can be.
    pub fn deliver(&self, message: &Bytes, settings: &Settings, traffic: &Traffic) -> bool {
        if self.is_closing() {
            return false;
        }
        let outbox = self.outbox.lock();
        let left = outbox.write(message);
        let written = (message.len() - left.len()) as u64;
        if written > 0 {
            self.bytes_out.fetch_add(written, Ordering::Relaxed);
            traffic.bytes_out.fetch_add(written, Ordering::Relaxed);
            traffic.writes.fetch_add(1, Ordering::Relaxed);
        }
        left.is_empty() || self.queue(outbox, left, settings)
    }

    fn queue(&self, mut outbox: MutexGuard<'_, Outbox>, message: Bytes, settings: &Settings) -> bool {
        let waiting = self.message_bytes.fetch_add(message.len(), Ordering::Relaxed) + message.len();
        outbox.messages.push(message);
        // Before the lock is free: whoever takes the socket back then sees that something may have been begun.
        self.flags.fetch_or(MESSAGES, Ordering::AcqRel);
        drop(outbox);
        if self.passes(waiting + self.output_bytes.load(Ordering::Relaxed), settings) {
            self.close();
            return false;
        }
        self.waker.wake();
        true
    }

    /// Something was put off that the socket did not take: the task writes it.
    pub(crate) fn leave_unsent(&self) {
        self.signal(UNSENT);
    }

    pub(crate) fn has_unsent(&self) -> bool {
        self.flags.load(Ordering::Acquire) & UNSENT != 0
    }

    pub(crate) fn take_unsent(&self) {
        self.flags.fetch_and(!UNSENT, Ordering::AcqRel);
    }

    /// Asks an idle connection to give its buffers back.
    pub fn shrink(&self) {
        self.signal(SHRINK);
    }

    /// The output limit that holds.
    pub fn class(&self) -> OutputClass {
        match self.class.load(Ordering::Relaxed) {
            0 => OutputClass::Normal,
            1 => OutputClass::Replica,
            _ => OutputClass::PubSub,
        }
    }

    /// Changes the class: on SUBSCRIBE, on MONITOR.
    pub fn set_class(&self, class: OutputClass) {
        self.class.store(class as u8, Ordering::Relaxed);
    }

    /// Exempts a connection from `timeout`: subscribers, monitors, clients that wait for an element.
    pub fn keep_idle(&self, keep: bool) {
        self.keep_idle.store(keep, Ordering::Relaxed);
    }

    /// Whether the handler waits for what others do, perhaps for ever: meanwhile the connection is read, so that its
    /// end is noticed and drops the handler. Only the handler itself may say so.
    pub fn watch_end(&self, watch: bool) {
        self.watches_end.store(watch, Ordering::Relaxed);
    }

    /// Whether the handler waits for what others do.
    pub fn watches_end(&self) -> bool {
        self.watches_end.load(Ordering::Relaxed)
    }

    /// Time since the last read, in milliseconds.
    pub fn idle_ms(&self) -> u64 {
        self.age_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed))
    }

    /// Time since it was accepted, in milliseconds.
    pub fn age_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Messages that wait, in bytes.
    pub fn message_bytes(&self) -> usize {
        self.message_bytes.load(Ordering::Relaxed)
    }

    /// Everything that waits to be written, in bytes.
    pub fn waiting(&self) -> usize {
        self.output_bytes.load(Ordering::Relaxed) + self.message_bytes()
    }

    /// Messages that wait.
    pub fn message_count(&self) -> usize {
        self.outbox.lock().messages.len()
    }

    /// Lets others write to the socket.
    pub(crate) fn lend(&self, socket: TcpStream) {
        self.outbox.lock().socket = Some(socket);
    }

    /// From now on only the task writes to the socket. What waits comes before anything else.
    pub(crate) fn take_back(&self) -> Option<TcpStream> {
        self.outbox.lock().socket.take()
    }

    /// Whether the connection has to go by now; asked about once a second for every connection.
    pub fn overdue(&self, settings: &Settings) -> Option<Overdue> {
        let idle_seconds_max = settings.idle_seconds_max.load(Ordering::Relaxed);
        if idle_seconds_max > 0 && !self.keep_idle.load(Ordering::Relaxed) && self.idle_ms() > idle_seconds_max * 1000 {
            return Some(Overdue::Idle);
        }
        self.passes(self.waiting(), settings).then_some(Overdue::Output)
    }

    /// Whether `waiting` bytes of output pass the hard limit, or the soft one for too long. As in Redis, what
    /// fits into a connection's first buffer does not count.
    pub(crate) fn passes(&self, waiting: usize, settings: &Settings) -> bool {
        let limit = settings.output(self.class());
        let (waiting, hard, soft) = (
            waiting.saturating_sub(UNCOUNTED_BYTES) as u64,
            limit.hard.load(Ordering::Relaxed),
            limit.soft.load(Ordering::Relaxed),
        );
        if hard > 0 && waiting > hard {
            return true;
        }
        if soft == 0 || waiting <= soft {
            self.over_soft_ms.store(0, Ordering::Relaxed);
            return false;
        }
        let now = self.age_ms().max(1);
        match self.over_soft_ms.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => false,
            Err(since) => now.saturating_sub(since) > limit.soft_seconds.load(Ordering::Relaxed) * 1000,
        }
    }

    pub(crate) fn touch(&self) {
        self.last_ms.store(self.age_ms(), Ordering::Relaxed);
    }

    /// Whether something besides the socket wants the task's attention.
    pub(crate) fn is_signalled(&self) -> bool {
        self.flags.load(Ordering::Acquire) != 0
    }

    /// Registers the task; the caller looks at the flags once more afterwards.
    pub(crate) fn register(&self, context: &Context<'_>) {
        self.waker.register(context.waker());
    }

    /// Moves queued messages behind the replies.
    pub fn take_messages(&self, output: &mut BytesMut) {
        if self.flags.fetch_and(!MESSAGES, Ordering::AcqRel) & MESSAGES == 0 {
            return;
        }
        let messages = std::mem::take(&mut self.outbox.lock().messages);
        for message in messages {
            self.message_bytes.fetch_sub(message.len(), Ordering::Relaxed);
            output.extend_from_slice(&message);
        }
    }

    pub(crate) fn take_shrink(&self) -> bool {
        self.flags.fetch_and(!SHRINK, Ordering::AcqRel) & SHRINK != 0
    }

    fn signal(&self, flag: u32) {
        self.flags.fetch_or(flag, Ordering::AcqRel);
        self.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Link::new(1, address, address, 3)
    }

    #[test]
    fn a_message_beyond_the_hard_limit_closes() {
        let (link, settings) = (link(), Settings::default());
        link.set_class(OutputClass::PubSub);
        settings.output(OutputClass::PubSub).hard.store(5, Ordering::Relaxed);
        assert!(link.send(vec![b'x'; UNCOUNTED_BYTES].into(), &settings));
        assert!(!link.is_closing());
        assert!(!link.send(Bytes::from_static(b"abcdef"), &settings));
        assert!(link.is_closing());
    }

    #[test]
    fn the_soft_limit_starts_a_clock_that_relief_stops() {
        let (link, settings) = (link(), Settings::default());
        let limit = settings.output(OutputClass::Normal);
        limit.soft.store(10, Ordering::Relaxed);
        limit.soft_seconds.store(1000, Ordering::Relaxed);
        assert!(!link.passes(UNCOUNTED_BYTES + 11, &settings));
        assert_ne!(link.over_soft_ms.load(Ordering::Relaxed), 0);
        assert!(!link.passes(UNCOUNTED_BYTES + 10, &settings));
        assert_eq!(link.over_soft_ms.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn messages_are_taken_once_and_in_order() {
        let (link, settings, mut output) = (link(), Settings::default(), BytesMut::new());
        link.send(Bytes::from_static(b"+a\r\n"), &settings);
        link.send(Bytes::from_static(b"+b\r\n"), &settings);
        link.take_messages(&mut output);
        link.take_messages(&mut output);
        assert_eq!(&output[..], b"+a\r\n+b\r\n");
        assert_eq!(link.message_bytes(), 0);
    }

    #[test]
    fn what_others_write_to_a_lent_socket_comes_once_and_in_order() {
        let (link, settings, traffic) = (link(), Settings::default(), Traffic::default());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let socket = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        socket.set_nonblocking(true).expect("a socket");
        let (mut peer, _) = listener.accept().expect("a connection");
        let message = |number: u32| Bytes::from(format!("{number:05000}"));
        link.send(message(0), &settings);
        link.lend(socket);
        // Behind what waits.
        link.deliver(&message(1), &settings, &traffic);
        let mut output = BytesMut::new();
        link.take_messages(&mut output);
        assert_eq!(output.len(), 10_000);
        let mut count = 2;
        while link.message_bytes() == 0 {
            assert!(link.deliver(&message(count), &settings, &traffic) && count < 10_000, "the socket is full at last");
            count += 1;
        }
        link.deliver(&message(count), &settings, &traffic);
        let socket = link.take_back().expect("it was lent");
        link.deliver(&message(count + 1), &settings, &traffic);
        link.take_messages(&mut output);
        drop(socket);
        let mut received = Vec::new();
        std::io::Read::read_to_end(&mut peer, &mut received).expect("it is closed behind the last");
        assert_eq!(traffic.bytes_out.load(Ordering::Relaxed), received.len() as u64);
        let all = [&output[..10_000], &received[..], &output[10_000..]].concat();
        let want: Vec<u8> = (0..count + 2).flat_map(message).collect();
        assert!(all == want, "{} bytes of {}", all.len(), want.len());
    }
}
