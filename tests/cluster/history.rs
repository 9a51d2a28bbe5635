//! Events read from positions over several nodes: whoever is cut off goes on behind his last cursor and has
//! everything; and what was told of keys is what replaying the log tells.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quoris_resp::Reply;

use super::client::{Client, PAUSE, REPLY_TIME_MAX, call, frame, until};
use super::events::{Door, END, FIVE_NODES, depose};
use super::process::{Cluster, program};

/// All channels together.
pub const ALL: &str = "channels:channel:*";
const PREFIX: &str = "quoris:events:";
/// Nothing keeps a reader from the end for longer.
const TIME_MAX: Duration = Duration::from_secs(1200);

/// How somebody reads who goes on where he was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Read,
    Subscribe,
}

fn text(reply: &Reply) -> String {
    let Reply::Bulk(text) = reply else { panic!("a text, not {reply:?}") };
    String::from_utf8_lossy(text).into_owned()
}

fn list(reply: &Reply) -> Vec<Reply> {
    match reply {
        Reply::Array(list) => list.clone(),
        Reply::NullArray => Vec::new(),
        other => panic!("an array, not {other:?}"),
    }
}

/// Where a stream of events ends now.
pub fn end(port: u16, stream: &str) -> String {
    text(&list(&call(port, &["XINFO", "STREAM", &format!("{PREFIX}{stream}")]))[1])
}

/// The id of each entry, and its fields.
fn entries(reply: &Reply) -> Vec<(String, BTreeMap<String, String>)> {
    let entry = |entry: &Reply| {
        let entry = list(entry);
        let fields = list(&entry[1]);
        (text(&entry[0]), fields.chunks(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect())
    };
    list(reply).iter().map(entry).collect()
}

/// What a reader has so far.
struct Got {
    cursor: String,
    /// The messages of each channel.
    seen: BTreeMap<String, Vec<String>>,
    ended: BTreeSet<String>,
}

impl Got {
    fn take(&mut self, cursor: String, channel: String, payload: String) {
        self.cursor = cursor;
        if payload == END {
            self.ended.insert(channel);
        } else {
            self.seen.entry(channel).or_default().push(payload);
        }
    }

    /// Reads until all channels have ended.
    fn read(&mut self, client: &mut Client, channels: usize) -> Result<(), String> {
        let stream = format!("{PREFIX}{ALL}");
        while self.ended.len() < channels {
            client.send(&frame(&["XREAD", "COUNT", "100", "BLOCK", "1000", "STREAMS", &stream, &self.cursor]))?;
            let streams = match client.next(Instant::now() + REPLY_TIME_MAX)? {
                Reply::Error(text) => return Err(String::from_utf8_lossy(&text).into_owned()),
                other => list(&other),
            };
            for (id, fields) in streams.iter().flat_map(|stream| entries(&list(stream)[1])) {
                self.take(id, fields["channel"].clone(), fields["message"].clone());
            }
        }
        Ok(())
    }

    /// The same by a subscription.
    fn listen(&mut self, client: &mut Client, channels: usize) -> Result<(), String> {
        client.send(&frame(&["PSUBSCRIBE", &format!("{PREFIX}from:{}:{ALL}", self.cursor)]))?;
        while self.ended.len() < channels {
            let parts = match client.next(Instant::now() + TIME_MAX)? {
                Reply::Error(text) => return Err(String::from_utf8_lossy(&text).into_owned()),
                other => list(&other),
            };
            if let [_, _, place, payload] = &parts[..] {
                let place = text(place);
                let (cursor, channel) = place.split_once(' ').expect("a cursor and a channel");
                self.take(cursor.to_string(), channel.to_string(), text(payload));
            }
        }
        Ok(())
    }
}

/// Reads the messages of all channels behind a cursor, at its node whenever that lives, until so many channels have
/// ended; gives those of each channel in order.
pub fn resume(
    door: &Door,
    how: How,
    cursor: String,
    channels: usize,
    cut: &AtomicU64,
) -> BTreeMap<String, Vec<String>> {
    let mut got = Got { cursor, seen: BTreeMap::new(), ended: BTreeSet::new() };
    let deadline = Instant::now() + TIME_MAX;
    loop {
        assert!(Instant::now() < deadline, "{how:?} at port {}: {:?} have ended", door.port, got.ended);
        if let Some(mut client) = door.lives().then(|| Client::connect(door.port).ok()).flatten() {
            let result = match how {
                How::Read => got.read(&mut client, channels),
                How::Subscribe => got.listen(&mut client, channels),
            };
            match result {
                Ok(()) => return got.seen,
                Err(why) => assert!(!why.starts_with("BELOWFLOOR") && !why.starts_with("ERR"), "{how:?}: {why}"),
            }
            cut.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(PAUSE);
    }
}

/// What was told of keys, by group, index and number: the event and the key.
type Told = BTreeMap<(u64, u64, u64), (String, String)>;

fn place(text: &str) -> (u64, u64, u64) {
    let numbers: Vec<u64> = text.split([':', '-']).map(|n| n.parse().expect("a number")).collect();
    (numbers[0], numbers[1], numbers[2])
}

fn told(port: u16) -> Told {
    let all = entries(&call(port, &["XRANGE", &format!("{PREFIX}keys:*"), "-", "+"]));
    let event = |fields: &BTreeMap<String, String>| (fields["event"].clone(), fields["key"].clone());
    all.iter().map(|(_, fields)| (place(&fields["position"]), event(fields))).collect()
}

/// What the log of a stopped node tells when it is replayed.
fn replayed(cluster: &Cluster, at: usize) -> Told {
    let mut told = Told::new();
    for group in 1..=4 {
        let dir = cluster.nodes[at].data();
        let mut command = Command::new(program());
        command.args(["admin", "log", "dump", "--as-events", "--group", &group.to_string(), "--to", "9999999"]);
        let output = command.arg(dir).output().expect("the program starts");
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [position, event, "db", "0", key] = words[..] else { panic!("{line}") };
            told.insert(place(position), (event.to_string(), key.trim_matches('"').to_string()));
        }
    }
    told
}

#[test]
fn cluster_tells_of_keys_what_replaying_the_log_gives() {
    const KEYS: usize = 300;
    let mut cluster = Cluster::start(FIVE_NODES);
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    assert_eq!(call(ports[0], &["CONFIG", "SET", "notify-keyspace-events", "KEA"]), Reply::Ok);
    for round in 0..3 {
        for key in 0..KEYS {
            let time = (50 + key * 3).to_string();
            assert_eq!(call(ports[4], &["SET", &format!("key:{round}:{key}"), "v", "PX", &time]), Reply::Ok);
            call(ports[key % 5], &["LPUSH", &format!("list:{}", key % 7), "v"]);
        }
        depose(&mut cluster, 1 + round, 4);
    }
    let mut all = Told::new();
    until("everything has expired", || {
        all = told(ports[4]);
        all.values().filter(|(event, _)| event == "expired").count() == 3 * KEYS
    });
    for port in &ports {
        assert!(told(*port) == all, "the node at {port} tells something else");
    }
    (0..5).for_each(|at| cluster.terminate(at));
    let mut groups = BTreeSet::new();
    for at in 0..5 {
        let replayed = replayed(&cluster, at);
        let of = |told: &Told| told.keys().map(|(group, ..)| *group).collect::<BTreeSet<u64>>();
        let here = of(&replayed);
        let told: Told =
            all.iter().filter(|((group, ..), _)| here.contains(group)).map(|(k, v)| (*k, v.clone())).collect();
        assert!(told == replayed, "node {}: {} events told, {} replayed", at + 1, told.len(), replayed.len());
        groups.extend(here);
    }
    assert_eq!(groups, BTreeSet::from([1, 2, 3, 4]));
}
