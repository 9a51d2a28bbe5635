//! Clients with a session of their own: what they ask takes effect once, however often they have to ask.
//!
//! A question without an answer is sent again under its number, through another node, until there is the last word.
//! Invariants: one question at a time has a session's number; what may have been sent once never ends as refused.

use std::time::{Duration, Instant};

use quoris_resp::Reply;

use super::Lane;
use crate::client::{Session, Trouble};
use crate::history::Value;
use crate::work::{Missed, Question, refused};

/// When there is no answer for so long, nobody waits for it any more.
const PERSIST_TIME_MAX: Duration = Duration::from_secs(30);
/// The window does not hold the answer any more: to ask again is of no use.
const GONE: &str = "UNKNOWN";

impl Lane {
    /// Asks until the answer is definite, or certainly will never be.
    pub(super) fn ask_once(&mut self, question: &Question) -> Result<Value, Missed> {
        let deadline = Instant::now() + PERSIST_TIME_MAX;
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.open()?,
        };
        session.number += 1;
        let mut may_be_there = false;
        loop {
            let missed = match self.ask_under(&mut session, question) {
                Ok(value) => {
                    self.session = Some(session);
                    return Ok(value);
                }
                Err(missed) => missed,
            };
            match &missed.trouble {
                Trouble::Refused(_) if !may_be_there => {
                    self.session = Some(session);
                    return Err(missed);
                }
                Trouble::Strange(_) => return Err(missed),
                Trouble::Open(why) if why.starts_with(GONE) => return Err(missed),
                Trouble::Open(_) => may_be_there = true,
                // That speaks of this sending only.
                Trouble::Refused(_) => {}
            }
            if Instant::now() > deadline {
                let why = format!("asked again for {PERSIST_TIME_MAX:?}: {:?}", missed.trouble);
                return Err(Missed { trouble: Trouble::Open(why), value: missed.value });
            }
            self.connect_elsewhere();
        }
    }

    fn open(&mut self) -> Result<Session, Missed> {
        let Some(client) = &mut self.client else { return Err(refused("nobody to open a session")) };
        match client.call(&["CLIENT", "SESSION", "OPEN"]) {
            Ok(Reply::Bulk(ticket)) => Ok(Session::new(&ticket)),
            Ok(other) => Err(Trouble::Strange(format!("{other:?} is no ticket")).into()),
            Err(Trouble::Strange(why)) => Err(Trouble::Strange(why).into()),
            Err(Trouble::Refused(why) | Trouble::Open(why)) => Err(refused(&format!("no session: {why}"))),
        }
    }

    fn ask_under(&mut self, session: &mut Session, question: &Question) -> Result<Value, Missed> {
        let Some(client) = &mut self.client else { return Err(refused("nobody to ask")) };
        client.session = Some(session.clone());
        let answered = self.book.work.perform(client, question);
        let next = client.session.take();
        // Who has an answer goes on with the new ticket; who asks again takes the one from before.
        if let (Ok(_), Some(next)) = (&answered, next) {
            *session = next;
        }
        answered
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::history::F;
    use crate::lanes::{Book, Stage};
    use crate::work::by_name;

    fn stage(listener: &TcpListener) -> Arc<Stage> {
        Arc::new(Stage {
            began: Instant::now(),
            addresses: vec![listener.local_addr().unwrap()],
            has_primary: false,
            prefix: "p:".to_string(),
            stop: false.into(),
            processes: 0.into(),
            counts: Default::default(),
            strange: Mutex::new(None),
        })
    }

    /// What was sent in one write.
    fn heard(stream: &mut TcpStream) -> String {
        let mut chunk = [0; 1024];
        let len = stream.read(&mut chunk).unwrap();
        String::from_utf8_lossy(&chunk[..len]).into_owned()
    }

    #[test]
    fn a_question_without_an_answer_is_asked_again_under_its_number() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let root = tempfile::tempdir().unwrap();
        let book = Book::create(by_name("counter").unwrap(), &root.path().join("history")).unwrap();
        let mut lane = Lane::new(stage(&listener), Arc::new(book), 1).with_session();
        let server = std::thread::spawn(move || {
            let (mut first, _) = listener.accept().unwrap();
            heard(&mut first);
            first.write_all(b"$2\r\nt0\r\n").unwrap();
            let asked = heard(&mut first);
            drop(first);
            let (mut second, _) = listener.accept().unwrap();
            let again = heard(&mut second);
            // Who asks again may be told that this sending had no effect, and asks once more.
            second.write_all(b"$2\r\nt0\r\n-CLUSTERDOWN no leader\r\n").unwrap();
            let (mut third, _) = listener.accept().unwrap();
            let (once_more, _) = (heard(&mut third), third.write_all(b"$2\r\nt1\r\n:5\r\n").unwrap());
            let (next, _) = (heard(&mut third), third.write_all(b"$2\r\nt1\r\n-UNKNOWN gone\r\n").unwrap());
            [asked, again, once_more, next]
        });
        let question = Question { f: F::Add, key: Some(1), asked: Value::Int(5) };
        lane.connect_elsewhere();
        assert_eq!(lane.ask_once(&question).unwrap(), Value::Int(5));
        let gone = lane.ask_once(&question).unwrap_err();
        assert!(matches!(gone.trouble, Trouble::Open(_)), "{gone:?}");
        assert!(lane.session.is_none(), "the next one has a session of its own");
        let [asked, again, once_more, next] = server.join().unwrap();
        assert!(asked.contains("USE\r\n$2\r\nt0\r\n$1\r\n1\r\n") && asked.contains("INCRBY"), "{asked}");
        assert_eq!([&again, &once_more], [&asked, &asked]);
        assert!(next.contains("USE\r\n$2\r\nt1\r\n$1\r\n2\r\n"), "{next}");
    }
}
