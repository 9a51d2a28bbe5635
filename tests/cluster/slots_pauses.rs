//! How long keys of other slots wait while large values and slots of many keys move; and that a large value which is
//! written all the time moves at all.
//!
//! The measurement: `QUORIS_BIN=… cargo test --release --test cluster pauses -- --ignored --nocapture`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quoris_resp::{Argv, Reply};

use super::client::{Client, Outcome, call};
use super::process::{Cluster, Shape};
use super::slots::{begin, owner, slot_of, wait_until_moved};

const SHAPE: Shape = Shape { nodes: 3, groups: 2, factor: 3, settings: &[] };
/// Elements of a large collection, bytes of a long text, keys of a full slot.
const ELEMENTS: usize = 500_000;
const TEXT_BYTES: usize = 60 << 20;
const KEYS: usize = 200_000;
/// Elements of one command, commands of one pipeline.
const AT_ONCE: usize = 500;
/// Between two looks at a key.
const BEAT: Duration = Duration::from_millis(1);
/// A value that is written all the time may wait so long when it goes, which is many times what it needs.
const HOT_PAUSE_MAX: Duration = Duration::from_secs(20);
/// And another key so long, on a machine that does much else.
const OTHER_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Writes and reads one key again and again.
struct Beat {
    over: Arc<AtomicBool>,
    longest_us: Arc<AtomicU64>,
    thread: JoinHandle<u64>,
}

impl Beat {
    /// `write` is a command that is followed by the number of the round.
    fn start(port: u16, write: &[&str], read: &[&str]) -> Beat {
        let (over, longest_us) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stop, longest) = (over.clone(), longest_us.clone());
        let own = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (write, read) = (own(write), own(read));
        let thread = std::thread::spawn(move || {
            let mut client = Client::connect(port).expect("the node is there");
            let mut round = 0u64;
            while !stop.load(Ordering::SeqCst) {
                round += 1;
                let write = [&write[..], &[round.to_string()]].concat();
                for words in [&write, &read] {
                    let began = Instant::now();
                    match client.call(words) {
                        Outcome::Done(reply) => assert!(!reply.is_error(), "{words:?}: {reply:?}"),
                        other => panic!("{words:?}: {other}"),
                    }
                    longest.fetch_max(began.elapsed().as_micros() as u64, Ordering::SeqCst);
                }
                std::thread::sleep(BEAT);
            }
            round
        });
        Beat { over, longest_us, thread }
    }

    /// The longest wait since the last time.
    fn take(&self) -> Duration {
        Duration::from_micros(self.longest_us.swap(0, Ordering::SeqCst))
    }

    fn forget(&self) {
        self.longest_us.store(0, Ordering::SeqCst);
    }

    /// How many rounds there were.
    fn end(self) -> u64 {
        self.over.store(true, Ordering::SeqCst);
        self.thread.join().expect("every command is answered")
    }
}

/// Sends commands in pipelines.
fn send(port: u16, commands: impl Iterator<Item = Argv>) {
    let mut client = Client::connect(port).expect("the node is there");
    let mut commands = commands.peekable();
    while commands.peek().is_some() {
        let some: Vec<Argv> = commands.by_ref().take(AT_ONCE).collect();
        let replies = client.pipeline(&some).expect("replies");
        let wrong = replies.iter().find(|reply| reply.is_error());
        assert!(wrong.is_none(), "{wrong:?}");
    }
}

/// Commands of [`AT_ONCE`] elements each.
fn of_many(words: [&str; 2], count: usize, element: fn(usize) -> Vec<String>) -> impl Iterator<Item = Argv> {
    let words = words.map(str::to_string);
    (0..count).step_by(AT_ONCE).map(move |from| {
        let elements = (from..count.min(from + AT_ONCE)).flat_map(element);
        Argv::from_parts(&words.iter().cloned().chain(elements).collect::<Vec<_>>())
    })
}

fn text(port: u16, key: &str, bytes: usize) {
    let piece = "x".repeat(1 << 20);
    send(port, (0..bytes >> 20).map(|_| Argv::from_parts(&["APPEND", key, &piece])));
}

fn word(n: usize) -> String {
    format!("element:{n:012}")
}

/// What moves, by its name.
fn fill(port: u16, kind: &str, key: &str) {
    let scored = |n: usize| vec![(n % 1000).to_string(), word(n)];
    match kind {
        "text" => text(port, key, TEXT_BYTES),
        "list" => send(port, of_many(["RPUSH", key], ELEMENTS, |n| vec![word(n)])),
        "set" => send(port, of_many(["SADD", key], ELEMENTS, |n| vec![word(n)])),
        "hash" => send(port, of_many(["HSET", key], ELEMENTS, |n| vec![word(n), n.to_string()])),
        "sorted set" => send(port, of_many(["ZADD", key], ELEMENTS, scored)),
        "stream" => send(port, (0..ELEMENTS).map(|n| Argv::from_parts(&["XADD", key, "*", "field", &word(n)]))),
        _ => send(port, (0..KEYS).map(|n| Argv::from_parts(&["SET", &format!("{key}{n}"), &word(n)]))),
    }
}

/// Names in braces such that their slots are of these groups.
fn tag_of(cluster: &mut Cluster, group: u64, not: u16) -> (String, u16) {
    let port = cluster.nodes[0].port;
    for n in 0.. {
        let tag = format!("{{t{n}}}");
        let slot = slot_of(port, &tag);
        if slot != not && owner(cluster, slot) == group {
            return (tag, slot);
        }
    }
    unreachable!("every group has slots")
}

#[test]
#[ignore = "a measurement: it takes minutes and prints how long other keys wait"]
fn cluster_pauses_of_other_keys_while_large_things_move() {
    let mut cluster = Cluster::start(SHAPE);
    let port = cluster.nodes[0].port;
    let (mine, slot) = tag_of(&mut cluster, 1, u16::MAX);
    let others = [1, 2].map(|group| tag_of(&mut cluster, group, slot).0);
    let beats: Vec<Beat> = others
        .iter()
        .map(|tag| Beat::start(port, &["SET", &format!("{tag}beat")], &["GET", &format!("{tag}beat")]))
        .collect();
    let mut worst = Duration::ZERO;
    for kind in ["nothing", "text", "list", "set", "hash", "sorted set", "stream", "keys"] {
        let key = format!("{mine}{kind}");
        if kind != "nothing" {
            fill(port, kind, &key);
        }
        let dump = |key: &str| call(port, &["OBJECT", "ENCODING", key]);
        let was = dump(&key);
        let own = Beat::start(port, &["SET", &format!("{mine}own")], &["GET", &format!("{mine}own")]);
        for target in [2, 1] {
            let began = Instant::now();
            beats.iter().chain([&own]).for_each(Beat::forget);
            begin(&cluster, 0, (slot, slot), target);
            wait_until_moved(&mut cluster, slot, target);
            let took = began.elapsed();
            let [of_source, of_target] = [&beats[2 - target as usize], &beats[target as usize - 1]].map(Beat::take);
            worst = worst.max(of_source).max(of_target);
            println!(
                "{kind} to group {target}: {took:.1?}; other keys of the source waited {of_source:.1?}, of the target \
                 {of_target:.1?}, keys of the slot {:.1?}",
                own.take()
            );
        }
        own.end();
        assert_eq!(dump(&key), was);
        call(port, &["UNLINK", &key]);
        if kind == "keys" {
            send(port, (0..KEYS).map(|n| Argv::from_parts(&["DEL", &format!("{key}{n}")])));
        }
    }
    println!("the longest of all: {worst:.1?}");
    assert!(beats.into_iter().map(Beat::end).all(|rounds| rounds > 0));
    cluster.wait_for_equal_digests(Duration::from_secs(60));
}

#[test]
fn cluster_moves_a_large_value_that_is_written_all_the_time() {
    let mut cluster = Cluster::start(SHAPE);
    let port = cluster.nodes[0].port;
    let (mine, slot) = tag_of(&mut cluster, 1, u16::MAX);
    let (other, _) = tag_of(&mut cluster, 1, slot);
    let [long, set] = ["long", "set"].map(|name| format!("{mine}{name}"));
    text(port, &long, 12 << 20);
    send(port, of_many(["SADD", &set], 50_000, |n| vec![word(n)]));
    let still = call(port, &["DUMP", &long]);
    assert!(matches!(&still, Reply::Bulk(bytes) if bytes.len() > 12 << 20));
    let hot = [
        Beat::start(port, &["SETRANGE", &long, "1000000"], &["STRLEN", &long]),
        Beat::start(port, &["SADD", &set], &["SCARD", &set]),
    ];
    let beat = Beat::start(port, &["SET", &format!("{other}beat")], &["GET", &format!("{other}beat")]);
    for target in [2, 1] {
        hot.iter().chain([&beat]).for_each(Beat::forget);
        begin(&cluster, 1, (slot, slot), target);
        wait_until_moved(&mut cluster, slot, target);
        let [text, set, other] = [&hot[0], &hot[1], &beat].map(Beat::take);
        println!("to group {target}: the text waited {text:.1?}, the set {set:.1?}, a key of another slot {other:.1?}");
        assert!(text.max(set) < HOT_PAUSE_MAX && other < OTHER_PAUSE_MAX);
    }
    let [rounds, added] = hot.map(Beat::end);
    assert!(beat.end() > 0 && rounds > 0);
    assert_eq!(call(port, &["SCARD", &set]), Reply::Int(50_000 + added as i64));
    assert_eq!(call(port, &["GETRANGE", &long, "1000000", &(999_999 + rounds.to_string().len()).to_string()]), {
        Reply::bulk(rounds.to_string())
    });
    assert_eq!(call(port, &["STRLEN", &long]), Reply::Int(12 << 20));
    cluster.wait_for_equal_digests(Duration::from_secs(60));
}
