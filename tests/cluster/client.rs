//! A small blocking client that knows three ends of a command: done, certainly not, nobody knows.
//!
//! The difference decides what a checker may conclude, so it is made here and nowhere else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quoris_resp::{Argv, Reply, ReplyDecoder};

/// A node answers every command within its request timeout of 10 s, if only with an error.
pub const REPLY_TIME_MAX: Duration = Duration::from_secs(15);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
/// Nothing that tests wait for takes longer.
pub const WITHIN: Duration = Duration::from_secs(20);
/// Between two looks.
pub const PAUSE: Duration = Duration::from_millis(5);

/// A command as a client sends it.
pub fn frame(parts: &[&str]) -> Vec<u8> {
    Argv::from_parts(parts).frame().to_vec()
}

/// The reply of a node that is there to a command that must be done, over a connection of its own.
pub fn call(port: u16, parts: &[&str]) -> Reply {
    match Client::connect(port).expect("the node is there").call(parts) {
        Outcome::Done(reply) => reply,
        other => panic!("{parts:?}: {other}"),
    }
}

/// Asks until the answer is yes.
pub fn until(what: &str, mut ask: impl FnMut() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !ask() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// What became of one command.
pub enum Outcome {
    /// Executed; this is the reply.
    Done(Reply),
    /// The node said that it was not and never will be executed.
    Refused(String),
    /// It may have been executed, or may still be.
    Unknown(String),
    /// The connection ended before the reply: the command may have been executed.
    Lost(String),
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Done(reply) => write!(f, "{reply:?}"),
            Outcome::Refused(text) => write!(f, "refused with {text}"),
            Outcome::Unknown(text) => write!(f, "unknown, {text}"),
            Outcome::Lost(why) => write!(f, "no reply, {why}"),
        }
    }
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    input: BytesMut,
}

impl Client {
    /// Connects to a node of this machine.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(port: u16) -> std::io::Result<Client> {
        let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), CONNECT_TIME_MAX)?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, input: BytesMut::new() })
    }

    /// Sends one command and waits for its reply. After `Lost` the connection is of no use.
    pub fn call<T: AsRef<[u8]>>(&mut self, parts: &[T]) -> Outcome {
        self.call_within(parts, REPLY_TIME_MAX)
    }

    /// The same with another patience.
    pub fn call_within<T: AsRef<[u8]>>(&mut self, parts: &[T], patience: Duration) -> Outcome {
        match self.exchange(Argv::from_parts(parts).frame(), Instant::now() + patience) {
            Ok(Reply::Error(text)) => classify(&String::from_utf8_lossy(&text)),
            Ok(reply) => Outcome::Done(reply),
            Err(why) => Outcome::Lost(why),
        }
    }

    /// The reply as text, nothing for a null.
    ///
    /// # Errors
    /// With a description of every other end.
    pub fn text<T: AsRef<[u8]>>(&mut self, parts: &[T], patience: Duration) -> Result<Option<String>, String> {
        match self.call_within(parts, patience) {
            Outcome::Done(Reply::Bulk(text) | Reply::Status(text) | Reply::Verbatim(_, text)) => {
                Ok(Some(String::from_utf8_lossy(&text).into_owned()))
            }
            Outcome::Done(Reply::Int(n)) => Ok(Some(n.to_string())),
            Outcome::Done(Reply::Ok) => Ok(Some("OK".to_string())),
            Outcome::Done(Reply::Null) => Ok(None),
            other => Err(other.to_string()),
        }
    }

    /// Sends all commands at once and waits for all replies.
    ///
    /// # Errors
    /// When the connection ends or a reply is late.
    pub fn pipeline(&mut self, commands: &[Argv]) -> Result<Vec<Reply>, String> {
        let frames: Vec<&[u8]> = commands.iter().map(|command| &command.frame()[..]).collect();
        self.send(&frames.concat())?;
        let deadline = Instant::now() + REPLY_TIME_MAX;
        commands.iter().map(|_| self.next(deadline)).collect()
    }

    fn exchange(&mut self, frame: &[u8], deadline: Instant) -> Result<Reply, String> {
        self.send(frame)?;
        self.next(deadline)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|e| format!("write: {e}"))
    }

    /// The next reply.
    ///
    /// # Errors
    /// When the connection ends or the reply is late.
    pub fn next(&mut self, deadline: Instant) -> Result<Reply, String> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(reply) = ReplyDecoder::decode(&mut self.input)? {
                return Ok(reply);
            }
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).map_err(|e| e.to_string())?;
            match self.stream.read(&mut chunk).map_err(|e| format!("read: {e}"))? {
                0 => return Err("closed".to_string()),
                len => self.input.extend_from_slice(&chunk[..len]),
            }
        }
    }
}

/// Only the codes TIMEOUT and UNKNOWN leave it open whether a command took effect.
fn classify(text: &str) -> Outcome {
    let open = ["TIMEOUT ", "UNKNOWN "].iter().any(|code| text.starts_with(code));
    if open { Outcome::Unknown(text.to_string()) } else { Outcome::Refused(text.to_string()) }
}
