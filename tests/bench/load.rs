//! The RESP load client: one thread, one epoll, closed loop.
//!
//! Every connection sends a batch of P requests in one write, waits for all its replies and sends
//! the next batch, as redis-benchmark does. It drives Quoris and redis-server alike.
//!
//! mio is edge-triggered here. That is safe because a connection is read until a read comes back
//! short of the buffer, and because nothing more can arrive once a batch is answered.
//!
//! Invariants:
//! * every reply is checked; the first wrong one ends the run;
//! * at most one batch per connection is in flight, and a batch is never cut;
//! * `run` returns only when nothing is in flight, so runs on one `Load` never mix.

use crate::interrupt;
use crate::random::{Random, ValuePool};
use crate::resp::{Batch, Command, Keys, check};
use crate::window::{Limit, Sample, Window};
use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Holds all replies of the largest batch (64 values), and keeps reads few.
const READ_BYTES: usize = 64 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    endpoint: SocketAddr,
    /// What a full socket buffer did not take.
    unsent: Vec<u8>,
    /// The start of a reply whose rest has not arrived.
    partial: Vec<u8>,
    /// Replies of the batch that have arrived; equal to the batch's replies when idle.
    replies: usize,
    sent: Instant,
}

/// Connections to a server and the batch they send.
#[derive(Debug)]
pub struct Load {
    poll: Poll,
    connections: Vec<Connection>,
    batch: Batch,
    keys: Keys,
    random: Random,
    values: ValuePool,
    buffer: Vec<u8>,
}

/// What to send.
#[derive(Debug)]
pub struct Workload {
    pub command: Command,
    pub pipeline: usize,
    /// Whether each batch ends with `WAIT 1 0`.
    pub wait: bool,
    pub keys: Keys,
}

impl Load {
    /// Opens `count` connections, spread evenly over the endpoints.
    pub fn connect(endpoints: &[SocketAddr], count: usize, workload: Workload) -> Result<Load> {
        ensure!(!endpoints.is_empty(), "no endpoint to connect to");
        let batch = Batch::new(workload.command, workload.pipeline, workload.wait);
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(count);
        for (index, &endpoint) in endpoints.iter().cycle().take(count).enumerate() {
            let stream = std::net::TcpStream::connect_timeout(&endpoint, CONNECT_TIMEOUT)
                .with_context(|| format!("connection {index} to {endpoint}"))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(index), interest)?;
            connections.push(Connection {
                stream,
                endpoint,
                unsent: Vec::new(),
                partial: Vec::new(),
                replies: batch.replies(),
                sent: Instant::now(),
            });
        }
        let (random, values) = (Random::new(0x51_0715), ValuePool::new(0xBE7C));
        let buffer = vec![0; READ_BYTES];
        Ok(Load { poll, connections, batch, keys: workload.keys, random, values, buffer })
    }

    /// Runs the load until the limit is reached and every reply has arrived.
    pub fn run(&mut self, limit: Limit) -> Result<Sample> {
        let mut window = Window::open(limit);
        let mut events = Events::with_capacity(self.connections.len().max(64));
        let mut busy = 0_usize;
        for index in 0..self.connections.len() {
            busy += usize::from(self.send(index, &mut window, Instant::now())?);
        }
        while busy > 0 {
            match self.poll.poll(&mut events, Some(Duration::from_millis(100))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => other.context("epoll")?,
            }
            interrupt::check()?;
            for event in &events {
                let Token(index) = event.token();
                if event.is_writable() && !self.connections[index].unsent.is_empty() {
                    self.connections[index].flush()?;
                }
                if event.is_readable() && self.receive(index, &mut window)? {
                    let now = Instant::now();
                    busy -= usize::from(!self.send(index, &mut window, now)?);
                }
            }
            if window.is_stalled(Instant::now()) {
                bail!("the server has not answered for {:?}", crate::window::SILENCE_MAX);
            }
        }
        Ok(window.close())
    }

    /// Sends the next batch if the window is open; tells whether it did.
    fn send(&mut self, index: usize, window: &mut Window, now: Instant) -> Result<bool> {
        if !window.issue(now, self.batch.operations() as u64) {
            return Ok(false);
        }
        let connection = &mut self.connections[index];
        connection.replies = 0;
        connection.sent = now;
        let bytes = self.batch.fill(&mut self.keys, &mut self.random, &self.values);
        connection.write(bytes)?;
        Ok(true)
    }

    /// Reads and checks what has arrived; tells whether the batch is complete.
    fn receive(&mut self, index: usize, window: &mut Window) -> Result<bool> {
        let connection = &mut self.connections[index];
        let total = self.batch.replies();
        if connection.replies == total {
            return connection.expect_silence(&mut self.buffer).map(|()| false);
        }
        loop {
            let kept = connection.partial.len();
            self.buffer[..kept].copy_from_slice(&connection.partial);
            connection.partial.clear();
            let read = match connection.stream.read(&mut self.buffer[kept..]) {
                Ok(0) => bail!("{} closed the connection", connection.endpoint),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.partial.extend_from_slice(&self.buffer[..kept]);
                    return Ok(false);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                Err(error) => return Err(error).context(connection.endpoint),
            };
            let full = kept + read == self.buffer.len();
            let arrived = connection.take(&self.batch, &self.buffer[..kept + read])?;
            connection.record(&self.batch, arrived, window);
            if connection.replies == total {
                ensure!(connection.partial.is_empty(), "{} sent more than was asked for", connection.endpoint);
                return Ok(true);
            }
            if !full && read > 0 {
                return Ok(false);
            }
        }
    }
}

impl Connection {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.write_some(bytes)?;
        self.unsent.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let unsent = std::mem::take(&mut self.unsent);
        self.write(&unsent)
    }

    /// Writes until all is written or the socket takes no more.
    fn write_some(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.stream.write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context(self.endpoint),
            }
        }
        Ok(written)
    }

    /// Checks the replies in `input` and keeps an incomplete one; returns how many there were.
    fn take(&mut self, batch: &Batch, mut input: &[u8]) -> Result<usize> {
        let before = self.replies;
        while self.replies < batch.replies() {
            match check(batch.expected(self.replies), input) {
                Ok(Some(bytes)) => input = &input[bytes..],
                Ok(None) => break,
                Err(error) => bail!("{} sent {error}", self.endpoint),
            }
            self.replies += 1;
        }
        ensure!(input.len() < READ_BYTES, "{} sent a reply without end", self.endpoint);
        self.partial.extend_from_slice(input);
        Ok(self.replies - before)
    }

    /// Counts replies as operations. Behind a WAIT a write is only done when WAIT has answered.
    fn record(&self, batch: &Batch, arrived: usize, window: &mut Window) {
        let operations = match batch.has_wait() {
            false => arrived,
            true if self.replies == batch.replies() => batch.operations(),
            true => 0,
        };
        if operations > 0 {
            window.complete(self.sent, Instant::now(), operations as u64);
        }
    }

    /// An idle connection may be reported readable only because of an old edge.
    fn expect_silence(&mut self, buffer: &mut [u8]) -> Result<()> {
        match self.stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error).context(self.endpoint),
            Ok(0) => bail!("{} closed the connection", self.endpoint),
            Ok(_) => bail!("{} sent something unasked", self.endpoint),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    /// Answers every request of `request_bytes` on one connection with `reply`, cut in two.
    fn serve(request_bytes: usize, reply: &'static [u8]) -> (SocketAddr, JoinHandle<u64>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            // Replies go out in two parts on purpose, and must not wait for each other.
            stream.set_nodelay(true).expect("an option of every socket");
            let (mut buffer, mut kept, mut answered) = ([0; 65536], 0, 0);
            loop {
                let Ok(read @ 1..) = stream.read(&mut buffer) else {
                    return answered;
                };
                let requests = (kept + read) / request_bytes;
                kept = (kept + read) % request_bytes;
                let replies = reply.repeat(requests);
                let (first, second) = replies.split_at(replies.len() / 2 + 1);
                if stream.write_all(first).and_then(|()| stream.write_all(second)).is_err() {
                    return answered;
                }
                answered += requests as u64;
            }
        });
        (address, server)
    }

    fn get(pipeline: usize) -> Workload {
        Workload { command: Command::Get, pipeline, wait: false, keys: Keys::Random }
    }

    const GET_BYTES: usize = 36;

    #[test]
    fn a_load_by_count_sends_and_checks_that_many() {
        let value: &[u8] = Box::leak([b"$64\r\n", &[b'v'; 64][..], b"\r\n"].concat().into());
        let (address, server) = serve(GET_BYTES, value);
        let mut load = Load::connect(&[address], 1, get(16)).expect("connects");
        for _ in 0..2 {
            let sample = load.run(Limit::operations(1000)).expect("runs");
            assert_eq!(sample.operations, 1008, "whole batches of 16");
        }
        drop(load);
        assert_eq!(server.join().expect("served"), 2016);
    }

    #[test]
    fn an_error_reply_ends_the_run() {
        let (address, server) = serve(GET_BYTES, b"-ERR no\r\n");
        let mut load = Load::connect(&[address], 1, get(1)).expect("connects");
        let error = load.run(Limit::operations(1000)).expect_err("an error reply");
        assert!(error.to_string().contains("-ERR no"), "{error}");
        drop(load);
        server.join().expect("served");
    }

    #[test]
    fn a_load_by_time_ends_in_time() {
        let value: &[u8] = Box::leak([b"$64\r\n", &[b'v'; 64][..], b"\r\n"].concat().into());
        let (address, server) = serve(GET_BYTES, value);
        let mut load = Load::connect(&[address], 1, get(1)).expect("connects");
        let sample = load.run(Limit::time(Duration::from_millis(50))).expect("runs");
        assert_eq!(sample.elapsed, Duration::from_millis(50));
        assert!(sample.operations > 0);
        drop(load);
        server.join().expect("served");
    }
}
