//! Clients at work: each asks one question after the other and writes down both ends of it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::client::{Client, Session, Trouble};
use crate::history::{Event, Kind, Value, write_event};
use crate::nodes::ready::is_primary;
use crate::work::{Dice, Missed, Question, Work, refused};

mod sessions;

/// A reply is waited for so long; nodes that are started here answer within a shorter limit.
const PATIENCE: Duration = Duration::from_secs(6);
/// Between two attempts to connect.
const KNOCK_PAUSE: Duration = Duration::from_millis(20);
/// So many questions are thought of by a client that only reads, for one to ask.
const QUESTIONS_MAX: usize = 30;
/// How often a last question is asked until it has an answer.
const LAST_ATTEMPTS_MAX: u32 = 20;

/// What all clients of a run share.
pub struct Stage {
    /// When the run began.
    pub began: Instant,
    /// The nodes.
    pub addresses: Vec<SocketAddr>,
    /// Only one that says that it leads is asked, as clients of Sentinel do.
    pub has_primary: bool,
    /// The clients end.
    pub stop: AtomicBool,
    /// What the names of keys begin with.
    pub prefix: String,
    /// The next process without a name.
    pub processes: AtomicU64,
    /// Answers so far: ok, fail, info.
    pub counts: [AtomicU64; 3],
    /// Why nothing of the run can be trusted.
    pub strange: Mutex<Option<String>>,
}

impl Stage {
    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn give_up(&self, why: String) {
        self.strange.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A workload and its history.
pub struct Book {
    work: Box<dyn Work>,
    file: Mutex<BufWriter<File>>,
}

impl Book {
    /// An empty history at this path.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(work: Box<dyn Work>, path: &Path) -> std::io::Result<Book> {
        Ok(Book { work, file: Mutex::new(BufWriter::new(File::create(path)?)) })
    }

    fn write(&self, event: &Event) -> std::io::Result<()> {
        write_event(&mut *self.file.lock().unwrap_or_else(PoisonError::into_inner), event)
    }

    /// What was written reaches the file.
    ///
    /// # Errors
    /// When it does not.
    pub fn flush(&self) -> std::io::Result<()> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

/// One client.
pub struct Lane {
    stage: Arc<Stage>,
    book: Arc<Book>,
    dice: Dice,
    process: u64,
    node: usize,
    client: Option<Client>,
    only_reads: bool,
    /// It holds sessions of its own, and this one at the moment.
    holds_sessions: bool,
    session: Option<Session>,
}

impl Lane {
    /// A client without a connection.
    pub fn new(stage: Arc<Stage>, book: Arc<Book>, seed: u64) -> Lane {
        let process = stage.processes.fetch_add(1, Ordering::Relaxed);
        Lane {
            stage,
            book,
            dice: Dice::new(seed),
            process,
            node: 0,
            client: None,
            only_reads: false,
            holds_sessions: false,
            session: None,
        }
    }

    /// It asks only what changes nothing, where its workload has such questions. The others wait with a write once
    /// their node is cut off from a majority; this one sees what that node says then.
    pub fn only_reads(self) -> Lane {
        Lane { only_reads: true, ..self }
    }

    /// It asks again what has no answer, under the same number of a session: writes of one command.
    pub fn with_session(self) -> Lane {
        Lane { holds_sessions: true, ..self }
    }

    /// What to ask next.
    fn question(&mut self) -> Question {
        let mut question = self.book.work.next(&mut self.dice);
        for _ in 0..QUESTIONS_MAX {
            if !self.only_reads || question.changes_nothing() {
                break;
            }
            question = self.book.work.next(&mut self.dice);
        }
        question
    }

    /// Asks until the run stops, no more often than once in `pace`.
    pub fn run(mut self, pace: Duration) {
        let mut due = Instant::now();
        while !self.stage.stop.load(Ordering::Relaxed) {
            due = due.max(Instant::now() - pace) + pace;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.is_connected() {
                let question = self.question();
                self.ask(&question);
            }
        }
    }

    /// Asks the last questions, each until it is answered; whether all are.
    pub fn finish(mut self) -> bool {
        let questions = self.book.work.last();
        questions.into_iter().all(|question| {
            let mut attempts = 0;
            while attempts < LAST_ATTEMPTS_MAX && !self.stage.stop.load(Ordering::Relaxed) {
                let answered = if self.is_connected() { self.ask(&question) } else { None };
                match answered {
                    Some(answered) if self.book.work.is_over(&question, &answered) => return true,
                    Some(_) => {}
                    None => attempts += 1,
                }
            }
            false
        })
    }

    /// Connects to any node if it has to.
    fn is_connected(&mut self) -> bool {
        // Whoever asks on a connection that has ended would never know what became of it.
        if self.client.as_ref().is_none_or(|client| client.is_broken() || client.is_over()) {
            let node = self.dice.below(self.stage.addresses.len() as i64) as usize;
            self.connect(node);
        }
        self.client.is_some()
    }

    /// Connects to another node than before, if there is one that takes it.
    fn connect_elsewhere(&mut self) {
        let count = self.stage.addresses.len();
        let further = 1 + self.dice.below(count as i64 - 1) as usize;
        self.connect((self.node + further) % count);
    }

    fn connect(&mut self, node: usize) {
        self.node = node;
        self.client = Client::connect(self.stage.addresses[node], PATIENCE, &self.stage.prefix).ok();
        if self.stage.has_primary {
            self.client.take_if(|client| !client.call(&["ROLE"]).is_ok_and(|role| is_primary(&role)));
        }
        if self.client.is_none() {
            std::thread::sleep(KNOCK_PAUSE);
        }
    }

    fn perform(&mut self, question: &Question) -> Result<Value, Missed> {
        match &mut self.client {
            None => Err(refused("nobody to ask")),
            Some(_) if self.holds_sessions && !question.changes_nothing() => self.ask_once(question),
            Some(client) => self.book.work.perform(client, question),
        }
    }

    /// One question; its answer, if there is one.
    fn ask(&mut self, question: &Question) -> Option<Value> {
        let process = self.process;
        let event = |kind, node, value: Value, time, error| Event {
            process,
            kind,
            f: question.f,
            key: question.key,
            value,
            time,
            node: Some(node as u64 + 1),
            error,
            position: None,
        };
        let begin = event(Kind::Invoke, self.node, question.asked.clone(), self.stage.now(), None);
        let written = self.book.write(&begin);
        let performed = self.perform(question);
        let now = self.stage.now();
        let (kind, value, error) = match performed {
            Ok(value) => (Kind::Ok, value, None),
            Err(missed) => match missed.trouble {
                Trouble::Refused(why) => (Kind::Fail, missed.value, Some(why)),
                Trouble::Open(why) => (Kind::Info, missed.value, Some(why)),
                Trouble::Strange(why) => {
                    self.stage.give_up(format!("{question:?}: {why}"));
                    (Kind::Info, missed.value, Some(why))
                }
            },
        };
        let written = written.and(self.book.write(&event(kind, self.node, value.clone(), now, error)));
        if let Err(why) = written {
            self.stage.give_up(format!("the history cannot be written: {why}"));
        }
        let count = match kind {
            Kind::Ok => 0,
            Kind::Fail => 1,
            Kind::Info | Kind::Invoke => 2,
        };
        self.stage.counts[count].fetch_add(1, Ordering::Relaxed);
        if kind == Kind::Info {
            self.process = self.stage.processes.fetch_add(1, Ordering::Relaxed);
            self.client = None;
        }
        (kind == Kind::Ok).then_some(value)
    }
}
