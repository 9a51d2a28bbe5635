//! What is packed and who is told what, on an engine without Raft.

use bytes::Bytes;
use quoris_engine::entry::{SessionId, SessionStamp};
use quoris_engine::{Engine, EngineSeed};
use tokio::sync::oneshot;

use super::*;
use crate::deliver::Delivery;
use crate::pack::Packing;
use crate::propose::Outcome;
use crate::record::LogIdRecord;

/// A leader whose entries are applied as soon as they are packed.
struct Leader {
    engine: Engine,
    waiters: Arc<Waiters>,
    index: u64,
}

fn operation(words: &str) -> Operation {
    let argv = Argv::from_parts(&words.split(' ').collect::<Vec<_>>());
    let command = command::logged(&argv).expect("a command");
    Operation { command, argv, database: 0, user: 0, transaction: false, own: None, write: command.is_write() }
}

fn marked(words: &str, sequence: u64) -> Operation {
    let session = SessionId { origin: 1, connection: 1 };
    let own = Some(SessionStamp { session, sequence, acknowledged_below: 1, first_sent_ms: 1 });
    Operation { own, ..operation(words) }
}

impl Leader {
    fn new() -> Leader {
        let engine = Engine::new(EngineSeed { hash_seed: [1, 2], databases: 2 });
        Leader { engine, waiters: Arc::default(), index: 0 }
    }

    fn arm(&self, operation: Operation) -> Waiting {
        self.waiters.arm(operation).unwrap_or_else(|_| panic!("too many"))
    }

    /// One entry with a submission of these commands: their replies, and how many attempts it held.
    fn entry(&mut self, commands: &[&str]) -> (Vec<Reply>, usize) {
        self.index += 1;
        let now_ms = 1000 + self.index;
        let (done, mut outcome) = oneshot::channel();
        let operations = commands.iter().map(|words| operation(words)).collect();
        let submission = Submission { operations, stamp: None, verify: None, short: false, done };
        let mut packing = Packing::begin(&self.waiters, now_ms);
        packing.push(&submission);
        let attempts = packing.attempts.len();
        let body: Bytes = packing.builder.finish(now_ms, self.index);
        let log_id = LogIdRecord { term: 1, leader: 1, index: self.index }.into();
        let mut delivery = Delivery::new(vec![submission], packing.attempts, self.waiters.clone(), log_id);
        let deliver = &mut |place, reply, engine: &mut Engine| delivery.reply(place, reply, engine, now_ms);
        self.engine.apply_entry(self.index, &body, deliver).expect("our own entry");
        self.waiters.settle(&mut self.engine, now_ms);
        delivery.end();
        match outcome.try_recv() {
            Ok(Outcome::Applied(replies, ..)) => (replies, attempts),
            other => panic!("{other:?}"),
        }
    }
}

/// What was told by now, in words.
fn told(waiting: &mut Waiting) -> Vec<String> {
    let mut all = Vec::new();
    while let Ok(told) = waiting.told.try_recv() {
        all.push(match told {
            Told::Waits(_) => "waits".to_string(),
            Told::Ended(Ended::Reply(Reply::Array(pair), _)) => match pair.last() {
                Some(Reply::Bulk(text)) => String::from_utf8_lossy(text).into_owned(),
                other => panic!("{other:?}"),
            },
            Told::Ended(Ended::Reply(Reply::Bulk(text), _)) => String::from_utf8_lossy(&text).into_owned(),
            Told::Ended(other) => format!("{other:?}"),
        });
    }
    all
}

#[test]
fn who_waits_is_served_between_a_push_and_the_next_command() {
    let mut leader = Leader::new();
    let mut waiting: Vec<Waiting> = (0..3).map(|_| leader.arm(operation("BLPOP q 0"))).collect();
    assert_eq!(leader.entry(&[]).1, 3, "everybody is tried once");
    assert_eq!(leader.entry(&["SET k v"]).1, 0, "and not again without a reason");
    waiting.iter_mut().for_each(|waiting| assert_eq!(told(waiting), ["waits"]));
    let (replies, attempts) = leader.entry(&["RPUSH q a b", "LLEN q", "LPOP q", "RPUSH q c", "LLEN q"]);
    assert_eq!(replies, [Reply::Int(2), Reply::Int(0), Reply::Null, Reply::Int(1), Reply::Int(0)]);
    assert_eq!(attempts, 3);
    let elements: Vec<String> = waiting.iter_mut().flat_map(told).collect();
    assert_eq!(elements, ["a", "b", "c"]);
    assert_eq!(leader.entry(&["RPUSH q d"]).1, 0, "nobody is left");
    assert!(!leader.waiters.busy.load(Ordering::Acquire));
}

#[test]
fn a_feeding_that_is_not_seen_beforehand_is_seen_behind_the_entry() {
    let mut leader = Leader::new();
    leader.entry(&["RPUSH k a b"]);
    let mut waiting: Vec<Waiting> = (0..3).map(|_| leader.arm(operation("BRPOP nosuch q 0"))).collect();
    leader.entry(&[]);
    assert_eq!(leader.entry(&["RENAME k q"]).1, 3, "how much it brings cannot be seen");
    assert_eq!(told(&mut waiting[0]), ["waits", "b"]);
    assert_eq!(told(&mut waiting[1]), ["waits", "a"]);
    assert_eq!(told(&mut waiting[2]), ["waits"]);
    drop(waiting);
    // SWAPDB says nothing about keys.
    let swapped = Operation { database: 1, ..operation("BLPOP x 0") };
    let mut other = leader.arm(swapped);
    leader.entry(&["RPUSH x e"]);
    leader.entry(&["SWAPDB 0 1"]);
    assert_eq!(told(&mut other), ["waits"]);
    assert_eq!(leader.entry(&[]).1, 1, "as many as there are elements");
    assert_eq!(told(&mut other), ["e"]);
}

#[test]
fn an_element_that_one_did_not_take_goes_to_the_next() {
    let mut leader = Leader::new();
    leader.entry(&["SET text t", "RPUSH k a"]);
    let mut failing = leader.arm(operation("BLMOVE q text LEFT LEFT 0"));
    let mut next = leader.arm(operation("BLPOP q 0"));
    leader.entry(&[]);
    // Only one is tried behind the push; it fails, and what it left is looked at.
    leader.entry(&["RPUSH q a"]);
    assert!(told(&mut failing)[1].contains("WRONGTYPE"));
    leader.entry(&[]);
    assert_eq!(told(&mut next), ["waits", "a"]);
    // Who leaves when it is about to be tried leaves it to others as well.
    let elsewhere = || Operation { database: 1, ..operation("BLPOP q 0") };
    let first = leader.arm(elsewhere());
    let mut second = leader.arm(elsewhere());
    leader.entry(&[]);
    leader.entry(&["RPUSH q x", "MOVE q 1"]);
    drop(first);
    leader.entry(&[]);
    assert_eq!(leader.entry(&[]).1, 1);
    assert_eq!(told(&mut second), ["waits", "x"]);
}

#[test]
fn a_command_that_comes_again_keeps_its_place_and_takes_once() {
    let mut leader = Leader::new();
    let mut one = leader.arm(marked("BLPOP q 0", 1));
    let mut two = leader.arm(marked("BLPOP q 0", 2));
    leader.entry(&[]);
    let mut again = leader.arm(marked("BLPOP q 0", 1));
    assert_eq!(told(&mut one), ["waits", "Unknown"]);
    drop(one);
    assert_eq!(leader.entry(&["RPUSH q a"]).1, 1);
    assert_eq!(told(&mut again), ["waits", "a"]);
    assert_eq!(told(&mut two), ["waits"]);
    // Its reply was lost, and it is asked for at the next leader.
    leader.waiters.step_down();
    assert_eq!(told(&mut two), ["NotLeader"]);
    let mut repeated = leader.arm(marked("BLPOP q 0", 1));
    let mut two = leader.arm(marked("BLPOP q 0", 2));
    leader.entry(&["RPUSH q b"]);
    leader.entry(&[]);
    assert_eq!(told(&mut repeated), ["a"], "from the window");
    assert_eq!(told(&mut two), ["waits", "b"]);
}

#[test]
fn who_stops_while_an_attempt_is_on_its_way_hears_of_it() {
    let mut leader = Leader::new();
    let mut waiting = leader.arm(operation("BLPOP q 0"));
    waiting.stop();
    leader.entry(&["RPUSH q a"]);
    assert_eq!(told(&mut waiting), ["Stopped"], "it was tried once, in front of the push");
    assert_eq!(leader.entry(&["LPOP q"]).0, [Reply::bulk("a")]);
    let mut waiting = leader.arm(operation("BLPOP q 0"));
    leader.entry(&[]);
    waiting.stop();
    assert_eq!(told(&mut waiting), ["waits", "Stopped"], "nothing is on its way");
    let mut on_its_way = leader.arm(operation("BLPOP q 0"));
    let tried = leader.waiters.take_due(1);
    on_its_way.stop();
    assert_eq!(told(&mut on_its_way), [] as [&str; 0]);
    leader.waiters.lost(tried[0].waiter);
    assert_eq!(told(&mut on_its_way), ["Unknown"]);
}

#[test]
fn a_read_waits_without_the_log() {
    let mut leader = Leader::new();
    leader.entry(&["XADD s 1-1 f v"]);
    let read = operation("XREAD BLOCK 0 STREAMS s $");
    let arm = |leader: &mut Leader| leader.waiters.clone().arm_read(read.clone(), &mut leader.engine);
    let mut waiting = arm(&mut leader).unwrap_or_else(|_| panic!("too many"));
    match waiting.told.try_recv() {
        Ok(Told::Waits(Some(argv))) => assert_eq!(&argv[5], b"1-1"),
        other => panic!("{other:?}"),
    }
    assert_eq!(leader.entry(&["XADD s 2-1 f v", "XADD s 3-1 f v"]).1, 0);
    let Ok(Told::Ended(Ended::Reply(reply, None))) = waiting.told.try_recv() else { panic!("no reply") };
    let text = format!("{reply:?}");
    assert!(text.contains("2-1") && text.contains("3-1") && !text.contains("1-1\""), "{text}");
}
