//! CLIENT SESSION: a session that the client itself holds, over connections, nodes and their deaths.
//!
//! OPEN gives a ticket: the session's id, 128 random bits that nobody can guess, and the time. USE says in
//! front of commands which ticket they were first sent with and which numbers they have; it is answered
//! with the ticket to use from then on. Nothing of it outlives the commands it speaks of, so the same bytes
//! mean the same on any connection: that is how a client sends again. `src/docs/sessions.md` tells it to
//! users.
//!
//! Invariants:
//! * A command's number follows from the bytes behind USE alone, never from what became of the others.
//! * No command runs without the mark that its client meant it to have: a wrong USE ends the connection.

use quoris_engine::entry::{SessionId, SessionStamp};
use quoris_raft::SEQUENCE_MAX;
use quoris_resp::{Argv, Reply};

use crate::{
    chance,
    client::Client,
    commands::{Served, word},
    server::Server,
};

/// Commands that one USE speaks of at most.
const COUNT_MAX: u64 = 1 << 32;

/// What USE said, for the commands that are still to come.
#[derive(Debug)]
pub(crate) struct Own {
    next: SessionStamp,
    left: u64,
}

/// A session, and a moment before the commands were first sent.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ticket {
    session: SessionId,
    since_ms: u64,
}

impl Ticket {
    /// 32 hexadecimal digits, a hyphen, milliseconds.
    fn text(&self) -> String {
        format!("{:016x}{:016x}-{}", self.session.origin, self.session.connection, self.since_ms)
    }

    fn parse(text: &[u8]) -> Option<Ticket> {
        let (id, since) = std::str::from_utf8(text).ok()?.split_once('-')?;
        let id = Some(id).filter(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let half = |text| u64::from_str_radix(text, 16).ok();
        let session = SessionId { origin: half(&id[..16])?, connection: half(&id[16..])? };
        // The sessions of nodes are not for clients.
        let since_ms = whole(since.as_bytes())?;
        session.is_clients_own().then_some(Ticket { session, since_ms })
    }
}

fn whole(text: &[u8]) -> Option<u64> {
    quoris_engine::number::integer(text).and_then(|n| u64::try_from(n).ok())
}

/// `CLIENT SESSION USE ticket number [COUNT count] [ACKED number]`.
fn parse_use(argv: &Argv) -> Result<(Ticket, Own), &'static str> {
    let ticket = argv.get(3).and_then(Ticket::parse).ok_or("ERR invalid session ticket")?;
    let number = argv.get(4).and_then(whole).filter(|n| (1..=SEQUENCE_MAX - COUNT_MAX).contains(n));
    let number = number.ok_or("ERR invalid number of a session's command")?;
    let (mut left, mut acknowledged_below) = (1, number);
    for at in (5..argv.len()).step_by(2) {
        let value = argv.get(at + 1).and_then(whole);
        match (word(argv, at).as_str(), value) {
            ("count", Some(count)) if (1..=COUNT_MAX).contains(&count) => left = count,
            ("acked", Some(below)) if below <= number => acknowledged_below = below,
            ("count", _) => return Err("ERR invalid COUNT of a session's commands"),
            ("acked", _) => return Err("ERR ACKED must be a number up to that of the next command"),
            _ => return Err("ERR syntax error"),
        }
    }
    let (session, first_sent_ms) = (ticket.session, ticket.since_ms);
    let next = SessionStamp { session, sequence: number, acknowledged_below, first_sent_ms };
    Ok((ticket, Own { next, left }))
}

/// The time that tickets carry: the clock of the first group, which all nodes know.
fn now_ms(server: &Server) -> u64 {
    server.groups().first().map_or(0, |group| server.node.clock_ms(*group))
}

impl Client {
    /// CLIENT SESSION USE. It touches nothing but the connection.
    pub(crate) fn use_session(&mut self, argv: &Argv) -> Result<Reply, &'static str> {
        let (ticket, own) = parse_use(argv)?;
        self.own = Some(own);
        let since_ms = now_ms(&self.server).max(ticket.since_ms);
        Ok(Reply::bulk(Ticket { since_ms, ..ticket }.text()))
    }

    /// CLIENT SESSION.
    pub(crate) fn session_command(&mut self, argv: &Argv) -> Served {
        match word(argv, 2).as_str() {
            "open" if argv.len() == 3 => {
                let session = SessionId::of_client([chance::bits(), chance::bits()]);
                Reply::bulk(Ticket { session, since_ms: now_ms(&self.server) }.text()).into()
            }
            "use" => match self.use_session(argv) {
                Ok(reply) => reply.into(),
                Err(text) => {
                    // What stands behind it must not run as if it belonged to no session.
                    self.closing = true;
                    Served::error(text)
                }
            },
            _ => Served::Reply(quoris_engine::Error::Syntax.into()),
        }
    }

    /// Gives the command that comes now its mark. Every command behind USE has a number, whatever it is, so
    /// that a client need not know which ones are writes; of a transaction that of EXEC counts.
    pub(crate) fn take_number(&mut self) {
        self.own_stamp = self.own.as_ref().map(|own| own.next);
        if let Some(own) = &mut self.own {
            own.next.sequence += 1;
            own.left -= 1;
            if own.left == 0 {
                self.own = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<(u64, u64, u64), &'static str> {
        let argv = Argv::from_parts(&words.split(' ').collect::<Vec<_>>());
        parse_use(&argv).map(|(_, own)| (own.next.sequence, own.left, own.next.acknowledged_below))
    }

    #[test]
    fn tickets_read_back_and_are_never_of_a_node() {
        let session = SessionId::of_client([u64::MAX, 7]);
        let ticket = Ticket { session, since_ms: 1_234 };
        assert_eq!(ticket.text(), "fffffffffffffffe0000000000000007-1234");
        assert_eq!(Ticket::parse(ticket.text().as_bytes()), Some(ticket));
        for wrong in [
            "",
            "-",
            "fffffffffffffffe0000000000000007",
            "fffffffffffffffe0000000000000007-",
            "fffffffffffffffe0000000000000007--1",
            "ffffffffffffffff0000000000000007-1234",
            "fffffffffffffffe000000000000007-1234",
            "+ffffffffffffffe0000000000000007-1234",
        ] {
            assert_eq!(Ticket::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(Ticket::parse("é".repeat(16).as_bytes()), None);
    }

    #[test]
    fn numbers_are_checked_before_a_command_can_have_them() {
        let text = |rest: &str| format!("CLIENT SESSION USE {:032}-5 {rest}", 0);
        assert_eq!(parsed(&text("1")), Ok((1, 1, 1)));
        assert_eq!(parsed(&text("9 count 3 ACKED 2")), Ok((9, 3, 2)));
        for wrong in ["0", "-1", "x", "4611686018427387904", "1 COUNT 0", "1 COUNT", "1 ACKED 2", "1 ACKED", "1 NOW 1"]
        {
            assert!(parsed(&text(wrong)).is_err(), "{wrong}");
        }
        assert!(parsed("CLIENT SESSION USE").is_err() && parsed("CLIENT SESSION USE x 1").is_err());
    }
}
