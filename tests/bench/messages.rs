//! The load of messages: one publisher, many subscribers, one thread, one epoll.
//!
//! At most [`WINDOW`] messages are under way: published, and not yet answered and received by every subscriber. An
//! operation is one delivery, and its latency is the time from PUBLISH to the receipt.
//!
//! Invariants:
//! * every message is checked: each subscriber gets each number once and in order;
//! * `run` returns only when nothing is under way, so runs on one `Audience` never mix.

use crate::interrupt;
use crate::random::VALUE_BYTES;
use crate::resp::encode;
use crate::window::{Limit, SILENCE_MAX, Sample, Window};
use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Messages under way.
pub const WINDOW: usize = 64;
const CHANNEL: &[u8] = b"bench:messages";
/// A payload begins with its number.
const DIGITS: usize = 16;
const READ_BYTES: usize = 256 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A publisher and its subscribers.
#[derive(Debug)]
pub struct Audience {
    poll: Poll,
    publisher: TcpStream,
    /// The start of a reply whose rest has not arrived.
    partial: Vec<u8>,
    /// Messages that were answered.
    answered: u64,
    subscribers: Vec<Subscriber>,
    /// Messages that were published.
    sent: u64,
    /// When those under way were.
    times: VecDeque<Instant>,
    /// What a subscriber gets, with the payload's number at `number_at`.
    frame: Vec<u8>,
    number_at: usize,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Subscriber {
    stream: TcpStream,
    partial: Vec<u8>,
    received: u64,
}

fn connect(endpoint: SocketAddr) -> Result<std::net::TcpStream> {
    let stream = std::net::TcpStream::connect_timeout(&endpoint, CONNECT_TIMEOUT).context(endpoint)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection that listens by now.
fn listen(endpoint: SocketAddr) -> Result<std::net::TcpStream> {
    let mut stream = connect(endpoint)?;
    let (mut request, mut confirmed) = (Vec::new(), Vec::new());
    encode(&mut request, &[b"SUBSCRIBE", CHANNEL]);
    encode(&mut confirmed, &[b"subscribe", CHANNEL]);
    // The third part is a number.
    confirmed.splice(..4, *b"*3\r\n");
    confirmed.extend_from_slice(b":1\r\n");
    stream.write_all(&request)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let mut reply = vec![0; confirmed.len()];
    stream.read_exact(&mut reply).context(endpoint)?;
    ensure!(reply == confirmed, "{endpoint} sent {}", String::from_utf8_lossy(&reply));
    Ok(stream)
}

fn payload(number: u64) -> [u8; VALUE_BYTES] {
    let mut payload = [b'x'; VALUE_BYTES];
    payload[..DIGITS].copy_from_slice(format!("{number:0DIGITS$}").as_bytes());
    payload
}

impl Audience {
    /// Opens so many subscribers, spread over the endpoints, and the publisher at the first of them.
    pub fn connect(endpoints: &[SocketAddr], count: usize) -> Result<Audience> {
        ensure!(!endpoints.is_empty(), "no endpoint to connect to");
        let poll = Poll::new()?;
        let register = |stream: std::net::TcpStream, token| -> Result<TcpStream> {
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
            Ok(stream)
        };
        let mut subscribers = Vec::new();
        for (at, endpoint) in endpoints.iter().cycle().take(count).enumerate() {
            let stream = register(listen(*endpoint)?, at)?;
            subscribers.push(Subscriber { stream, partial: Vec::new(), received: 0 });
        }
        let publisher = register(connect(endpoints[0])?, count)?;
        let mut frame = Vec::new();
        encode(&mut frame, &[b"message", CHANNEL, &payload(0)]);
        let number_at = frame.len() - 2 - VALUE_BYTES;
        Ok(Audience {
            poll,
            publisher,
            partial: Vec::new(),
            answered: 0,
            subscribers,
            sent: 0,
            times: VecDeque::new(),
            frame,
            number_at,
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Publishes until the limit is reached and everything has arrived.
    pub fn run(&mut self, limit: Limit) -> Result<Sample> {
        let mut window = Window::open(limit);
        let mut events = Events::with_capacity(self.subscribers.len().max(64));
        let mut open = self.publish(&mut window)?;
        while open || !self.times.is_empty() {
            match self.poll.poll(&mut events, Some(Duration::from_millis(100))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => other.context("epoll")?,
            }
            interrupt::check()?;
            for event in events.iter().filter(|event| event.is_readable()) {
                let Token(at) = event.token();
                if at == self.subscribers.len() { self.take_answers()? } else { self.take_messages(at, &mut window)? }
            }
            self.settle();
            open = self.publish(&mut window)?;
            if window.is_stalled(Instant::now()) {
                bail!("the server has not delivered for {SILENCE_MAX:?}");
            }
        }
        Ok(window.close())
    }

    /// Sends as many messages as the window lets; tells whether more may follow later.
    fn publish(&mut self, window: &mut Window) -> Result<bool> {
        let (now, mut bytes, mut open) = (Instant::now(), Vec::new(), true);
        while self.times.len() < WINDOW {
            open = window.issue(now, self.subscribers.len() as u64);
            if !open {
                break;
            }
            encode(&mut bytes, &[b"PUBLISH", CHANNEL, &payload(self.sent)]);
            self.sent += 1;
            self.times.push_back(now);
        }
        // It is less than the buffer of any socket.
        self.publisher.write_all(&bytes).context("publishing")?;
        Ok(open)
    }

    fn take_answers(&mut self) -> Result<()> {
        loop {
            let read = match self.publisher.read(&mut self.buffer) {
                Ok(0) => bail!("the publisher's connection was closed"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("the publisher"),
            };
            self.partial.extend_from_slice(&self.buffer[..read]);
            let mut rest = &self.partial[..];
            while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
                let line = &rest[..end];
                let counts = line.len() > 1 && line[0] == b':' && line[1..].iter().all(u8::is_ascii_digit);
                ensure!(counts, "PUBLISH was answered with {}", String::from_utf8_lossy(line));
                self.answered += 1;
                rest = &rest[end + 2..];
            }
            self.partial = rest.to_vec();
        }
    }

    fn take_messages(&mut self, at: usize, window: &mut Window) -> Result<()> {
        let oldest = self.sent - self.times.len() as u64;
        let (subscriber, frame) = (&mut self.subscribers[at], &self.frame);
        loop {
            let kept = subscriber.partial.len();
            self.buffer[..kept].copy_from_slice(&subscriber.partial);
            subscriber.partial.clear();
            let read = match subscriber.stream.read(&mut self.buffer[kept..]) {
                Ok(0) => bail!("subscriber {at} was disconnected"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    subscriber.partial.extend_from_slice(&self.buffer[..kept]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                Err(error) => return Err(error).with_context(|| format!("subscriber {at}")),
            };
            let now = Instant::now();
            let messages = self.buffer[..kept + read].chunks_exact(frame.len());
            subscriber.partial.extend_from_slice(messages.remainder());
            for message in messages {
                let number = &message[self.number_at..][..DIGITS];
                let number = str::from_utf8(number).ok().and_then(|digits| digits.parse::<u64>().ok());
                let next = number.filter(|number| *number == subscriber.received && *number < self.sent);
                let next = next.filter(|_| message.starts_with(&frame[..self.number_at]));
                let next = next.with_context(|| {
                    let text = String::from_utf8_lossy(message);
                    format!("subscriber {at} waits for message {} and got {text}", subscriber.received)
                })?;
                window.complete(self.times[(next - oldest) as usize], now, 1);
                subscriber.received += 1;
            }
        }
    }

    /// Forgets what everybody has.
    fn settle(&mut self) {
        let least = self.subscribers.iter().map(|subscriber| subscriber.received).min().unwrap_or(self.answered);
        let oldest = self.sent - self.times.len() as u64;
        self.times.drain(..(least.min(self.answered) - oldest) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// One subscriber and one publisher; every message goes out as often as `times` says.
    fn serve(times: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            let (mut subscriber, _) = listener.accept().expect("a subscriber");
            let mut buffer = [0; 65536];
            let _ = subscriber.read(&mut buffer).expect("SUBSCRIBE");
            subscriber.write_all(b"*3\r\n$9\r\nsubscribe\r\n$14\r\nbench:messages\r\n:1\r\n").expect("it reads");
            let (mut publisher, _) = listener.accept().expect("a publisher");
            let mut request = Vec::new();
            encode(&mut request, &[b"PUBLISH", CHANNEL, &payload(0)]);
            while publisher.read_exact(&mut request).is_ok() {
                let mut message = Vec::new();
                encode(
                    &mut message,
                    &[b"message", CHANNEL, &request[request.len() - 2 - VALUE_BYTES..][..VALUE_BYTES]],
                );
                let sent = subscriber.write_all(&message.repeat(times)).and_then(|()| publisher.write_all(b":1\r\n"));
                if sent.is_err() {
                    return;
                }
            }
        });
        address
    }

    #[test]
    fn every_message_is_counted_once_per_subscriber() {
        let mut audience = Audience::connect(&[serve(1)], 1).expect("connects");
        for _ in 0..2 {
            let sample = audience.run(Limit::operations(1000)).expect("runs");
            assert_eq!(sample.operations, 1000);
        }
    }

    #[test]
    fn a_message_that_comes_twice_ends_the_run() {
        let mut audience = Audience::connect(&[serve(2)], 1).expect("connects");
        let error = audience.run(Limit::operations(1000)).expect_err("a repeat");
        assert!(error.to_string().contains("waits for message 1"), "{error}");
    }
}
