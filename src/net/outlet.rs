//! Replies that go out together: when their thread has nothing else to do, and before it waits.
//!
//! A reply that is sent at once wakes its client in the middle of the work for others. Those of all
//! connections that were ready together are sent behind each other instead, as in Redis.
//!
//! Invariants:
//! * Bytes leave a connection in the order in which they were put here; whoever writes in another way takes back
//!   first what waits here.
//! * A thread does not sleep over what waits here, and handles no more than [`BATCHES_MAX`] batches meanwhile.

use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::net::tcp::OwnedWriteHalf;

use crate::{Link, OutputClass, Traffic, connection::KEPT_BYTES_MAX};

/// A reply waits for so many batches of other connections at most.
const BATCHES_MAX: usize = 64;
/// Replies above this are not put off, in bytes.
const PUT_OFF_BYTES_MAX: usize = 16 * 1024;

/// A connection's way out.
#[derive(Debug)]
pub(crate) struct Outlet {
    socket: OwnedWriteHalf,
    link: Arc<Link>,
    traffic: Arc<Traffic>,
    /// What was put off, or was begun and is not written yet.
    waiting: Mutex<BytesMut>,
}

impl Outlet {
    pub fn new(socket: OwnedWriteHalf, link: Arc<Link>, traffic: Arc<Traffic>) -> Outlet {
        Outlet { socket, link, traffic, waiting: Mutex::default() }
    }

    /// Counts what was written.
    pub fn account(&self, bytes: usize) {
        self.link.bytes_out.fetch_add(bytes as u64, Relaxed);
        self.traffic.bytes_out.fetch_add(bytes as u64, Relaxed);
        self.traffic.writes.fetch_add(1, Relaxed);
    }

    /// Writes some of `bytes`.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.socket.try_write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
            ready!(self.socket.as_ref().poll_write_ready(cx))?;
        }
    }

    /// Writes the rest of what was begun; the task is woken when the socket takes more.
    pub fn poll_rest(&self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut waiting = self.waiting.lock();
        while !waiting.is_empty() {
            let Poll::Ready(written) = self.poll_write(cx, &waiting) else { return Ok(()) };
            let written = written?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.account(written);
            waiting.advance(written);
        }
        self.link.take_unsent();
        Ok(())
    }

    /// Moves what waits in front of `output`.
    pub fn take_back(&self, output: &mut BytesMut) {
        let mut waiting = self.waiting.lock();
        if !waiting.is_empty() {
            waiting.extend_from_slice(output);
            output.clear();
            std::mem::swap(&mut *waiting, output);
        }
    }

    /// Gives the room back.
    pub fn shrink(&self) {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() {
            *waiting = BytesMut::new();
        }
    }

    /// Writes what waits. What the socket does not take, and an error, are the task's to deal with.
    fn write(&self) {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() {
            return;
        }
        let written = self.socket.try_write(&waiting).unwrap_or(0);
        if written > 0 {
            self.account(written);
        }
        if written == waiting.len() {
            waiting.clear();
            if waiting.capacity() > KEPT_BYTES_MAX {
                *waiting = BytesMut::new();
            }
        } else {
            waiting.advance(written);
            self.link.leave_unsent();
        }
    }
}

/// What the connections of one thread have put off.
#[derive(Debug, Default)]
pub(crate) struct Outgoing(Mutex<Together>);

#[derive(Debug, Default)]
struct Together {
    outlets: Vec<Arc<Outlet>>,
    /// Batches of the thread that were handled since the first of them.
    batches: usize,
}

impl Outgoing {
    /// Sends `output`, which is then empty, when the thread has nothing else to do; false when it has to go at once.
    pub fn put_off(&self, outlet: &Arc<Outlet>, output: &mut BytesMut) -> bool {
        let (is_small, link) = ((1..=PUT_OFF_BYTES_MAX).contains(&output.len()), &outlet.link);
        if !is_small || link.class() != OutputClass::Normal || link.is_signalled() {
            return false;
        }
        let mut waiting = outlet.waiting.lock();
        let is_listed = !waiting.is_empty();
        if is_listed {
            waiting.extend_from_slice(output);
            output.clear();
        } else {
            std::mem::swap(&mut *waiting, output);
        }
        drop(waiting);
        if !is_listed {
            self.0.lock().outlets.push(outlet.clone());
        }
        self.handled();
        true
    }

    /// The thread has handled a batch. One that always has something to do must not keep replies back.
    pub fn handled(&self) {
        let mut together = self.0.lock();
        if together.outlets.is_empty() {
            return;
        }
        together.batches += 1;
        let is_due = together.batches >= BATCHES_MAX;
        drop(together);
        if is_due {
            self.send();
        }
    }

    /// Sends everything.
    pub fn send(&self) {
        let mut outlets = {
            let mut together = self.0.lock();
            together.batches = 0;
            std::mem::take(&mut together.outlets)
        };
        outlets.drain(..).for_each(|outlet| outlet.write());
        let mut together = self.0.lock();
        if together.outlets.is_empty() {
            // Its room is used again.
            together.outlets = outlets;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpStream, time::Duration};

    use super::*;

    /// Both ends of a connection.
    async fn pair() -> (Arc<Outlet>, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        peer.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        let (ours, address) = listener.accept().expect("a connection");
        ours.set_nonblocking(true).expect("a socket");
        let ours = tokio::net::TcpStream::from_std(ours).expect("a reactor");
        ours.writable().await.expect("an open socket");
        let link = Arc::new(Link::new(1, address, address, 0));
        (Arc::new(Outlet::new(ours.into_split().1, link, Arc::default())), peer)
    }

    fn read(mut peer: &TcpStream, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        peer.read_exact(&mut read).expect("it was sent");
        read
    }

    fn put_off(outgoing: &Outgoing, outlet: &Arc<Outlet>, bytes: &[u8]) -> bool {
        outgoing.put_off(outlet, &mut bytes.into())
    }

    #[tokio::test]
    async fn what_was_put_off_goes_in_order_and_behind_a_bounded_number_of_batches() {
        let (outgoing, (outlet, peer)) = (Outgoing::default(), pair().await);
        let sent = || outlet.link.bytes_out.load(Relaxed);
        assert!(put_off(&outgoing, &outlet, b"a") && put_off(&outgoing, &outlet, b"b"));
        (2..BATCHES_MAX - 1).for_each(|_| outgoing.handled());
        assert_eq!(sent(), 0);
        outgoing.handled();
        assert_eq!((sent(), read(&peer, 2)), (2, b"ab".to_vec()));
        assert!(put_off(&outgoing, &outlet, b"c"));
        let mut output = BytesMut::from("d");
        outlet.take_back(&mut output);
        assert_eq!(&output[..], b"cd", "whoever writes in another way has both");
        outgoing.send();
        assert_eq!(sent(), 2);
        assert!(put_off(&outgoing, &outlet, b"e"));
        outgoing.send();
        assert_eq!(read(&peer, 1), b"e");
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_is_left_to_the_task() {
        let (outgoing, (outlet, mut peer)) = (Outgoing::default(), pair().await);
        let (mut put, mut received) = (Vec::new(), Vec::new());
        while !outlet.link.has_unsent() {
            let piece = [(put.len() / 10_000) as u8; 10_000];
            put.extend(piece);
            assert!(put_off(&outgoing, &outlet, &piece) && put.len() < 100_000_000, "the socket is full at last");
            outgoing.send();
        }
        assert!(!put_off(&outgoing, &outlet, b"x"), "no more is put off");
        peer.set_nonblocking(true).expect("a socket");
        std::future::poll_fn(|cx| {
            let _ = peer.read_to_end(&mut received);
            outlet.poll_rest(cx).expect("an open socket");
            if outlet.link.has_unsent() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        peer.set_nonblocking(false).expect("a socket");
        let rest = read(&peer, put.len() - received.len());
        received.extend(rest);
        assert!(received == put, "{} bytes of {}", received.len(), put.len());
    }
}
