//! Events read from positions over several nodes: whoever is cut off goes on behind his last cursor and has
//! everything; and a replica that lacks the past sends nobody on with a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quoris_resp::{Argv, Reply};

use super::client::{Client, Outcome, PAUSE, REPLY_TIME_MAX, call, frame};
use super::events::{Door, END, Sitting};
use super::process::{Cluster, Shape};
use super::view::NodeView;

/// All channels together.
pub const ALL: &str = "channels:channel:*";
/// What is told of keys by name begins so.
pub const OF_KEYS: &str = "__keyspace@0__:";
pub const PREFIX: &str = "quoris:events:";
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
pub fn entries(reply: &Reply) -> Vec<(String, BTreeMap<String, String>)> {
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
    /// In the order in which it came.
    seen: Sitting,
    ended: BTreeSet<String>,
}

impl Got {
    /// Takes a message of a channel, or what happened to a key.
    fn take(&mut self, cursor: String, name: String, what: String) {
        self.cursor = cursor;
        if what == END || name.starts_with(END) {
            self.ended.insert(name);
        } else {
            self.seen.push((name, what));
        }
    }

    /// Reads until so many names have ended.
    fn read(&mut self, client: &mut Client, stream: &str, ends: usize) -> Result<(), String> {
        let stream = format!("{PREFIX}{stream}");
        while self.ended.len() < ends {
            client.send(&frame(&["XREAD", "COUNT", "100", "BLOCK", "1000", "STREAMS", &stream, &self.cursor]))?;
            let streams = match client.next(Instant::now() + REPLY_TIME_MAX)? {
                Reply::Error(text) => return Err(String::from_utf8_lossy(&text).into_owned()),
                other => list(&other),
            };
            for (id, mut fields) in streams.iter().flat_map(|stream| entries(&list(stream)[1])) {
                let mut field = |names: [&str; 2]| names.iter().find_map(|name| fields.remove(*name));
                let (name, what) = (field(["channel", "key"]), field(["message", "event"]));
                self.take(id, name.expect("a name"), what.expect("an event"));
            }
        }
        Ok(())
    }

    /// The same by a subscription.
    fn listen(&mut self, client: &mut Client, stream: &str, ends: usize) -> Result<(), String> {
        client.send(&frame(&["PSUBSCRIBE", &format!("{PREFIX}from:{}:{stream}", self.cursor)]))?;
        while self.ended.len() < ends {
            let parts = match client.next(Instant::now() + TIME_MAX)? {
                Reply::Error(text) => return Err(String::from_utf8_lossy(&text).into_owned()),
                other => list(&other),
            };
            if let [_, _, place, payload] = &parts[..] {
                let place = text(place);
                let (cursor, channel) = place.split_once(' ').expect("a cursor and a channel");
                let name = channel.strip_prefix(OF_KEYS).unwrap_or(channel);
                self.take(cursor.to_string(), name.to_string(), text(payload));
            }
        }
        Ok(())
    }
}

/// Reads a stream of events behind a cursor, at its node whenever that lives, until so many names have ended; gives
/// what came, in order.
pub fn resume(door: &Door, how: How, stream: &str, cursor: String, ends: usize, cut: &AtomicU64) -> Sitting {
    let mut got = Got { cursor, seen: Sitting::new(), ended: BTreeSet::new() };
    let deadline = Instant::now() + TIME_MAX;
    loop {
        assert!(Instant::now() < deadline, "{how:?} at port {}: {:?} have ended", door.port, got.ended);
        if let Some(mut client) = door.lives().then(|| Client::connect(door.port).ok()).flatten() {
            let result = match how {
                How::Read => got.read(&mut client, stream, ends),
                How::Subscribe => got.listen(&mut client, stream, ends),
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

/// A small log, so that a replica that was away gets a snapshot.
const SHORT_LOG: Shape = Shape { nodes: 3, groups: 1, factor: 3, settings: &["--snapshot-log-bytes", "1048576"] };
const NEWS: &str = "quoris:events:channel:news";
/// Messages that are asked for, and the larger ones behind them, which take a while to get back.
const EARLY: usize = 5;
const LARGE: usize = 384;
const LARGE_BYTES: usize = 64 << 10;
/// A replica may have everything again before it is asked.
const TRIES: usize = 8;

/// What a replica of the one group keeps, and whether it got a snapshot since its node started.
fn floor(port: u16) -> Option<(u64, bool)> {
    let view = NodeView::ask(port)?;
    let group = view.group(1)?;
    Some((group.events_floor, group.snapshots_installed > 0))
}

/// The index of a cursor of one group.
fn index(cursor: &str) -> u64 {
    cursor.split([':', '-']).nth(1).expect("a group and an index").parse().expect("a number")
}

/// At most so many messages behind a cursor, with their ids; a reply may hold fewer.
fn behind(port: u16, cursor: &str, count: usize) -> Vec<(String, String)> {
    let (mut cursor, mut found) = (cursor.to_string(), Vec::new());
    while found.len() < count {
        let left = (count - found.len()).to_string();
        let reply = call(port, &["XREAD", "COUNT", &left, "STREAMS", NEWS, &cursor]);
        let part: Vec<_> = list(&reply).iter().flat_map(|stream| entries(&list(stream)[1])).collect();
        let Some((id, _)) = part.last() else { break };
        cursor.clone_from(id);
        found.extend(part.into_iter().map(|(id, fields)| (id, fields["message"].clone())));
    }
    found
}

/// A follower is away until its log is cut, and comes back. What was told before is asked for at its node as long as
/// the replica lacks it; gives the cursor in front of that, and whether there was such a moment.
fn reads_what_its_replica_lacks(cluster: &mut Cluster, follower: usize) -> (String, bool) {
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    let leader = cluster.leader_of(1);
    let start = end(ports[leader], "channel:news");
    for n in 0..EARLY {
        call(ports[leader], &["PUBLISH", "news", &format!("early {n}")]);
    }
    cluster.kill(&[follower]);
    let has = cluster
        .wait_for("a leader", REPLY_TIME_MAX, |views| views.iter().filter_map(|view| Some(view.group(1)?.last)).max());
    let mut client = Client::connect(ports[leader]).expect("the node is there");
    let large = Argv::from_parts(&["PUBLISH", "news", &"n".repeat(LARGE_BYTES)]);
    for _ in 0..LARGE / 16 {
        client.pipeline(&vec![large.clone(); 16]).expect("all are acknowledged");
    }
    cluster.wait_for("logs that begin behind what it has", REPLY_TIME_MAX, |views| {
        let purged = |view: &NodeView| view.group(1).is_some_and(|group| group.purged > has);
        views.iter().all(purged).then_some(())
    });
    cluster.restart(follower);
    let (deadline, mut seen) = (Instant::now() + REPLY_TIME_MAX, false);
    let lacks = |port| floor(port).is_some_and(|(floor, installed)| installed && floor > index(&start));
    loop {
        assert!(Instant::now() < deadline, "it gets a snapshot, and what is kept");
        let Some((floor, installed)) = floor(ports[follower]) else { continue };
        if installed && floor <= index(&start) {
            break;
        }
        if installed {
            let found = behind(ports[follower], &start, EARLY);
            let early: Vec<String> = (0..EARLY).map(|n| format!("early {n}")).collect();
            assert_eq!(found.into_iter().map(|(_, message)| message).collect::<Vec<_>>(), early);
            seen |= lacks(ports[follower]);
        }
    }
    assert_eq!(behind(ports[follower], &start, EARLY + LARGE + 1).len(), EARLY + LARGE);
    (start, seen)
}

#[test]
fn cluster_serves_what_a_replica_with_a_snapshot_lacks_or_says_where_the_rest_begins() {
    let mut cluster = Cluster::start(SHORT_LOG);
    let leaders = [0, 1].map(|group| cluster.leader_of(group));
    let follower = (0..3).find(|at| !leaders.contains(at)).expect("two groups have at most two leaders");
    let mut tries = (1..=TRIES).map(|_| reads_what_its_replica_lacks(&mut cluster, follower));
    let (start, _) = tries.by_ref().find(|(_, seen)| *seen).expect("it was asked while its floor was high");
    drop(tries);
    cluster.wait_until_ready();

    // Now nobody keeps it.
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    let few = (64 * LARGE_BYTES).to_string();
    assert_eq!(call(ports[0], &["CONFIG", "SET", "event-retention-bytes", &few]), Reply::Ok);
    call(ports[0], &["PUBLISH", "news", "last"]);
    let refused = |port: u16, command: &[&str]| {
        let mut client = Client::connect(port).expect("the node is there");
        let Outcome::Refused(text) = client.call(command) else { return None };
        let cursor = text.strip_prefix("BELOWFLOOR ")?.rsplit(' ').next().expect("it ends with a cursor");
        Some(cursor.to_string())
    };
    let (read, subscription) = (["XREAD", "STREAMS", NEWS, &start], format!("{PREFIX}from:{start}:channel:news"));
    let (mut rests, deadline) = (Vec::new(), Instant::now() + REPLY_TIME_MAX);
    // Each replica drops for itself.
    while rests.len() < ports.len() || rests.iter().any(|rest| *rest != rests[0]) {
        let floors: Vec<_> = ports.iter().map(|port| floor(*port)).collect();
        assert!(Instant::now() < deadline, "all nodes say where the rest begins: {rests:?}, floors {floors:?}");
        std::thread::sleep(PAUSE);
        rests = ports.iter().filter_map(|port| refused(*port, &read)).collect();
    }
    for port in &ports {
        assert_eq!(refused(*port, &["PSUBSCRIBE", &subscription]).as_ref(), rests.first(), "a subscription as well");
    }
    let rest = behind(ports[follower], &rests[0], LARGE);
    assert!(rest.len() > 1 && rest.len() < LARGE, "{} are left", rest.len());
    assert_eq!(rest.last().map(|(_, message)| &message[..]), Some("last"));
    assert!(ports.iter().all(|port| behind(*port, &rests[0], LARGE) == rest), "the same on all nodes");
}
