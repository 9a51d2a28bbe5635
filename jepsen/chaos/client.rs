//! A connection that asks once and never again: no retry, no redirection, no reconnection.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quoris_resp::{Argv, Reply, ReplyDecoder};

use crate::outcome::{Meaning, meaning};

/// The variable that holds the password of the default user.
const PASSWORD: &str = "CHAOS_PASSWORD";
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);

/// Why a command has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It certainly had no effect.
    Refused(String),
    /// It may have had one, or may still.
    Open(String),
    /// The harness does not understand: nothing of the run can be trusted.
    Strange(String),
}

/// A session of a client's own, and the number in it that comes next or was the last.
#[derive(Clone, Debug)]
pub struct Session {
    ticket: String,
    /// Of the next command.
    pub number: u64,
}

impl Session {
    /// A new one.
    pub fn new(ticket: &[u8]) -> Session {
        Session { ticket: String::from_utf8_lossy(ticket).into_owned(), number: 0 }
    }
}

/// One connection to one node.
pub struct Client {
    /// What the next commands belong to; with the next ticket once they have replies.
    pub session: Option<Session>,
    stream: TcpStream,
    input: BytesMut,
    patience: Duration,
    prefix: String,
    broken: bool,
}

impl Client {
    /// Connects; a reply is waited for as long as `patience`, and keys begin with `prefix`. A password comes from
    /// the environment, where it is in no file and no list of processes.
    ///
    /// # Errors
    /// When nobody takes the connection, or not with this password.
    pub fn connect(address: SocketAddr, patience: Duration, prefix: &str) -> std::io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIME_MAX)?;
        stream.set_nodelay(true)?;
        let prefix = prefix.to_string();
        let mut client = Client { stream, session: None, input: BytesMut::new(), patience, prefix, broken: false };
        if let Ok(password) = std::env::var(PASSWORD) {
            let refused = |trouble| std::io::Error::other(format!("AUTH: {trouble:?}"));
            client.call(&["AUTH", &password]).map_err(refused)?;
        }
        Ok(client)
    }

    /// The whole name of a key.
    pub fn name(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// A reply is missing: what comes next could not be told from it.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The other end has closed the connection, or has said something that nobody asked for: nothing should be sent.
    pub fn is_over(&self) -> bool {
        let peeked = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut [0]));
        let is_quiet = peeked.is_err_and(|why| why.kind() == ErrorKind::WouldBlock);
        !is_quiet || self.stream.set_nonblocking(false).is_err()
    }

    /// Gives the connection up.
    pub fn give_up(&mut self) {
        self.broken = true;
    }

    /// One command.
    ///
    /// # Errors
    /// With what an error or a missing reply means.
    pub fn call(&mut self, parts: &[&str]) -> Result<Reply, Trouble> {
        let reply = self.exchange(&[parts])?.remove(0);
        understood(reply)
    }

    /// Several commands in one write; their replies, errors among them, once all are there.
    ///
    /// # Errors
    /// When one is missing.
    pub fn exchange(&mut self, commands: &[&[&str]]) -> Result<Vec<Reply>, Trouble> {
        let Some(mut session) = self.session.take() else { return self.converse(commands) };
        let (number, count) = (session.number.to_string(), commands.len().to_string());
        let first: &[&str] = &["CLIENT", "SESSION", "USE", &session.ticket, &number, "COUNT", &count];
        let mut replies = self.converse(&[&[first], commands].concat())?;
        match understood(replies.remove(0))? {
            Reply::Bulk(ticket) => session.ticket = String::from_utf8_lossy(&ticket).into_owned(),
            other => return Err(Trouble::Strange(format!("{other:?} is no ticket"))),
        }
        self.session = Some(session);
        Ok(replies)
    }

    fn converse(&mut self, commands: &[&[&str]]) -> Result<Vec<Reply>, Trouble> {
        let deadline = Instant::now() + self.patience;
        self.send(commands)?;
        let replies: Result<Vec<Reply>, String> = commands.iter().map(|_| self.next(deadline)).collect();
        replies.map_err(|why| {
            self.broken = true;
            Trouble::Open(why)
        })
    }

    /// Subscribes to a channel, and gives the messages that come for so long.
    ///
    /// # Errors
    /// When the connection ends, or says something else.
    pub fn listen(&mut self, channel: &str, time: Duration) -> Result<Vec<Reply>, Trouble> {
        self.call(&["SUBSCRIBE", channel])?;
        let until = Instant::now() + time;
        let mut heard = Vec::new();
        while let Some(push) = self.next_before(until)? {
            heard.push(message(push)?);
        }
        self.send(&[&["UNSUBSCRIBE", channel]])?;
        let deadline = Instant::now() + self.patience;
        loop {
            match self.next_before(deadline)? {
                Some(Reply::Array(words)) if words.first() == Some(&Reply::bulk("unsubscribe")) => return Ok(heard),
                Some(push) => heard.push(message(push)?),
                None => {
                    self.broken = true;
                    return Err(Trouble::Open("no reply in time".to_string()));
                }
            }
        }
    }

    /// The next reply, if it comes in time.
    fn next_before(&mut self, deadline: Instant) -> Result<Option<Reply>, Trouble> {
        match self.next(deadline) {
            Ok(reply) => Ok(Some(reply)),
            Err(_) if Instant::now() >= deadline => Ok(None),
            Err(why) => {
                self.broken = true;
                Err(Trouble::Open(why))
            }
        }
    }

    fn send(&mut self, commands: &[&[&str]]) -> Result<(), Trouble> {
        let frames: Vec<u8> = commands.iter().flat_map(|parts| Argv::from_parts(parts).frame().to_vec()).collect();
        self.stream.write_all(&frames).map_err(|why| {
            self.broken = true;
            Trouble::Open(format!("write: {why}"))
        })
    }

    fn next(&mut self, deadline: Instant) -> Result<Reply, String> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(reply) = ReplyDecoder::decode(&mut self.input)? {
                return Ok(reply);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("no reply in time".to_string());
            }
            self.stream.set_read_timeout(Some(left)).map_err(|why| why.to_string())?;
            match self.stream.read(&mut chunk).map_err(|why| format!("read: {why}"))? {
                0 => return Err("closed".to_string()),
                len => self.input.extend_from_slice(&chunk[..len]),
            }
        }
    }
}

/// What was published, of a push.
fn message(push: Reply) -> Result<Reply, Trouble> {
    match push {
        Reply::Array(mut words) if words.len() == 3 && words[0] == Reply::bulk("message") => Ok(words.remove(2)),
        other => Err(Trouble::Strange(format!("{other:?} to a subscriber"))),
    }
}

/// Turns an error reply into what it means.
///
/// # Errors
/// For every error reply.
pub fn understood(reply: Reply) -> Result<Reply, Trouble> {
    let Reply::Error(text) = &reply else { return Ok(reply) };
    let text = String::from_utf8_lossy(text).into_owned();
    Err(match meaning(&text) {
        Some(Meaning::No) => Trouble::Refused(text),
        Some(Meaning::Perhaps) => Trouble::Open(text),
        None => Trouble::Strange(text),
    })
}

/// The number in a reply; nothing for a null.
///
/// # Errors
/// When it is neither.
pub fn number(reply: &Reply) -> Result<Option<i64>, Trouble> {
    let text = match reply {
        Reply::Null | Reply::NullArray => return Ok(None),
        Reply::Int(n) => return Ok(Some(*n)),
        Reply::Bulk(text) => std::str::from_utf8(text).ok(),
        _ => None,
    };
    let number = text.and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| Trouble::Strange(format!("{reply:?} is no number")))
}

/// The numbers in an array.
///
/// # Errors
/// When it is none, or something else is in it.
pub fn numbers(reply: &Reply) -> Result<Vec<i64>, Trouble> {
    let strange = || Trouble::Strange(format!("{reply:?} is no list of numbers"));
    let (Reply::Array(list) | Reply::Set(list)) = reply else { return Err(strange()) };
    list.iter().map(|item| number(item)?.ok_or_else(strange)).collect()
}
