//! `quoris admin backup` and `restore`: a whole cluster, copied while clients write, comes back in another shape; and
//! `export`, which any node does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use quoris_resp::{Argv, Reply};

use super::client::{Client, Outcome, REPLY_TIME_MAX, call, until};
use super::process::{Cluster, Shape, program};

const FROM: Shape = Shape { nodes: 3, groups: 2, factor: 3, settings: &[] };
const TO: Shape = Shape { nodes: 1, groups: 3, factor: 1, settings: &[] };
const LIBRARY: &str = "#!lua name=lib\nredis.register_function('put', function(keys, args) \
    return redis.call('set', keys[1], args[1]) end)";

fn admin(words: &[&str], dir: &Path, port: u16, more: &[&str]) -> (bool, String) {
    let mut command = Command::new(program());
    command.arg("admin").args(words).arg(dir).args(["--port", &port.to_string()]).args(more);
    let output = command.output().expect("the program starts");
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.success(), text)
}

fn succeed(words: &[&str], dir: &Path, port: u16) -> String {
    let (done, said) = admin(words, dir, port, &[]);
    assert!(done, "{words:?}: {said}");
    said
}

fn refused(words: &[&str], dir: &Path, port: u16, parts: &[&str]) {
    let (done, said) = admin(words, dir, port, &[]);
    assert!(!done, "{words:?}: {said}");
    parts.iter().for_each(|part| assert!(said.contains(part), "{part:?} is not in: {said}"));
}

/// Keys of every type over all slots, with deadlines of keys and fields, in two databases.
fn fill(port: u16) {
    let mut client = Client::connect(port).expect("a node");
    let mut commands = Vec::new();
    let mut push = |words: &str| commands.push(Argv::from_parts(&words.split(' ').collect::<Vec<_>>()));
    for n in 0..200 {
        push(&format!("SET string:{n} {}", "v".repeat(n)));
        push(&format!("RPUSH list:{n} a b {n}"));
        push(&format!("SADD set:{n} 1 2 {n} x"));
        push(&format!("ZADD zset:{n} 1 a 2.5 b {n} c"));
        push(&format!("HSET hash:{n} f 1 g {n}"));
        push(&format!("HPEXPIREAT hash:{n} 4102444800000 FIELDS 1 g"));
        push(&format!("XADD stream:{n} {}-1 f v", n + 1));
    }
    push("PEXPIREAT string:7 99999999999999");
    push("XGROUP CREATE stream:7 workers 0");
    push("XREADGROUP GROUP workers alice STREAMS stream:7 >");
    push("SETBIT bits 100000 1");
    push("PFADD hll a b c");
    push("SELECT 3");
    push("SET three 3");
    push("CONFIG SET hash-max-listpack-entries 77 notify-keyspace-events KEx");
    let replies = client.pipeline(&commands).expect("replies");
    let wrong = replies.iter().zip(&commands).find(|(reply, _)| reply.is_error());
    assert!(wrong.is_none(), "{wrong:?}");
    assert_eq!(call(port, &["FUNCTION", "LOAD", LIBRARY]), Reply::bulk("lib"));
}

/// Every key that `fill` made, with its value and its deadline.
fn all(port: u16) -> Vec<(String, Vec<Reply>)> {
    let mut client = Client::connect(port).expect("a node");
    let mut ask = |parts: &[&str]| match client.call(parts) {
        Outcome::Done(reply) => reply,
        other => panic!("{parts:?}: {other}"),
    };
    let mut found = Vec::new();
    for database in ["3", "0"] {
        ask(&["SELECT", database]);
        let Reply::Array(keys) = ask(&["KEYS", "*"]) else { panic!("a list") };
        for key in keys {
            let Reply::Bulk(key) = key else { panic!("a key") };
            let key = String::from_utf8(key.to_vec()).expect("text");
            if !key.starts_with('{') {
                let value = ["DUMP", "PEXPIRETIME", "TYPE"].map(|word| ask(&[word, &key]));
                found.push((format!("{database}:{key}"), value.into()));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Counts up in one slot: each transaction adds the next key and raises the counter.
struct Writer {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(port: u16, tag: &'static str) -> Writer {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (stop.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            let mut client = Client::connect(port).expect("a node");
            for n in 1.. {
                let key = format!("{tag}:{n}");
                let words: [&[&str]; 4] = [&["MULTI"], &["SET", &key, "1"], &["INCR", tag], &["EXEC"]];
                let replies = client.pipeline(&words.map(Argv::from_parts)).expect("replies");
                assert_eq!(replies[3], Reply::Array(vec![Reply::Ok, Reply::Int(n)]));
                count.store(n as u64, Ordering::SeqCst);
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        Writer { stop, done, thread }
    }

    fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("every write was acknowledged");
    }
}

/// The counter, and that exactly the keys up to it are there.
fn count(port: u16, tag: &str) -> u64 {
    let mut client = Client::connect(port).expect("a node");
    let text = client.text(&["GET", tag], REPLY_TIME_MAX).expect("an answer");
    let count: u64 = text.map_or(0, |text| text.parse().expect("a number"));
    let keys: Vec<Argv> = (1..=count + 50).map(|n| Argv::from_parts(&["EXISTS", &format!("{tag}:{n}")])).collect();
    let there = client.pipeline(&keys).expect("replies");
    let there = there.iter().position(|reply| *reply == Reply::Int(0)).expect("an end");
    assert_eq!(there as u64, count, "{tag}: keys without a gap, as many as the counter says");
    count
}

fn single() -> Cluster {
    let mut cluster = Cluster::prepare(TO, &[String::new()]);
    cluster.nodes[0].begin = super::process::Begin::Alone;
    cluster.launch();
    cluster
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn a_cluster_comes_back_in_another_shape() {
    let cluster = Cluster::start(FROM);
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    fill(ports[0]);
    let root = tempfile::tempdir().expect("a folder");
    let dir: PathBuf = root.path().join("backup");
    let tags = ["{a}", "{b}"];
    let writers: Vec<Writer> = tags.iter().zip(&ports).map(|(tag, port)| Writer::start(*port, tag)).collect();
    until("they write", || writers.iter().all(|writer| writer.done.load(Ordering::SeqCst) > 20));
    let before: Vec<u64> = writers.iter().map(|writer| writer.done.load(Ordering::SeqCst)).collect();
    let said = succeed(&["backup"], &dir, ports[2]);
    let after: Vec<u64> = writers.iter().map(|writer| writer.done.load(Ordering::SeqCst) + 1).collect();
    writers.into_iter().for_each(Writer::end);
    println!("{said}");
    assert!(said.contains("of 2 groups") && said.contains("group 2: "), "{said}");
    refused(&["backup"], &dir, ports[0], &["is there already"]);
    assert!(!root.path().join("backup.partial").exists());
    let wanted = all(ports[0]);
    assert_eq!(wanted.len(), 6 * 200 + 3);
    drop(cluster);

    let single = single();
    let port = single.nodes[0].port;
    let groups = ["group-1.rdb", "group-2.rdb"].map(|name| dir.join(name));
    flip(&groups[1]);
    refused(&["restore"], &dir, port, &["group-2.rdb is damaged", "SHA256SUMS", "Use another copy of this backup"]);
    flip(&groups[1]);
    std::fs::rename(&groups[0], root.path().join("aside")).expect("moved");
    refused(&["restore"], &dir, port, &["group-1.rdb", "use another copy of this backup"]);
    std::fs::rename(root.path().join("aside"), &groups[0]).expect("moved");
    assert_eq!(call(port, &["DBSIZE"]), Reply::Int(0), "nothing is written of a backup that is not whole");
    let said = succeed(&["restore"], &dir, port);
    assert!(said.contains("keys restored"), "{said}");
    let found = all(port);
    for (found, wanted) in found.iter().zip(&wanted) {
        assert_eq!(found, wanted);
    }
    assert_eq!(found.len(), wanted.len());
    for (tag, (before, after)) in tags.iter().zip(before.iter().zip(&after)) {
        let count = count(port, tag);
        println!("{tag}: {before} acknowledged before, {after} begun by the end, {count} in the backup");
        assert!((*before..=*after).contains(&count), "{tag}: {before}..={after}, not {count}");
    }
    assert_eq!(call(port, &["FCALL", "put", "1", "k", "v"]), Reply::Ok);
    let Reply::Array(pair) = call(port, &["CONFIG", "GET", "hash-max-listpack-entries"]) else { panic!("a pair") };
    assert_eq!(pair[1], Reply::bulk("77"));
    refused(&["restore"], &dir, port, &["the cluster has keys already", "--replace"]);
    let (done, said) = admin(&["restore"], &dir, port, &["--replace"]);
    assert!(done, "{said}");
}

#[test]
fn an_export_has_every_key_whichever_node_is_asked() {
    // Two of the five hold no key.
    let cluster = Cluster::start(Shape { nodes: 5, groups: 1, factor: 3, settings: &[] });
    fill(cluster.nodes[4].port);
    let wanted = all(cluster.nodes[0].port);
    let root = tempfile::tempdir().expect("a folder");
    let single = single();
    for node in &cluster.nodes {
        let file = root.path().join(format!("{}.rdb", node.port));
        let said = succeed(&["export"], &file, node.port);
        assert!(said.contains(&format!("{} keys exported", wanted.len())), "{said}");
        let (done, said) = admin(&["import"], &file, single.nodes[0].port, &["--replace"]);
        assert!(done && all(single.nodes[0].port) == wanted, "{said}");
        assert_eq!(call(single.nodes[0].port, &["FLUSHALL"]), Reply::Ok);
    }
    let port = cluster.nodes[1].port;
    assert_eq!(call(port, &["CONFIG", "SET", "cluster-redirects", "yes"]), Reply::Ok);
    refused(&["export"], &root.path().join("none.rdb"), port, &["cluster-redirects = yes", "through a proxy"]);
    assert!(!root.path().join("none.rdb").exists());
}

#[test]
fn what_cannot_be_copied_or_taken_is_said() {
    let single = single();
    let port = single.nodes[0].port;
    let root = tempfile::tempdir().expect("a folder");
    let dir = root.path().join("backup");
    let mut client = Client::connect(port).expect("the node");
    let Outcome::Refused(text) = client.call(&["CLUSTER", "BACKUP", "NEXT"]) else { panic!("refused") };
    assert!(text.contains("CLUSTER BACKUP group"), "{text}");
    let Outcome::Refused(text) = client.call(&["CLUSTER", "BACKUP", "9"]) else { panic!("refused") };
    assert!(text.contains("group 9 is not led here"), "{text}");
    refused(&["restore"], &dir, port, &["is no backup", "SHA256SUMS"]);
    succeed(&["backup"], &dir, port);
    assert_eq!(call(port, &["CONFIG", "SET", "cluster-redirects", "yes"]), Reply::Ok);
    refused(&["restore"], &dir, port, &["cluster-redirects = yes", "through a proxy"]);
    assert_eq!(call(port, &["CONFIG", "SET", "cluster-redirects", "no"]), Reply::Ok);
    // A value of more than one entry: what to do is said.
    let long = "v".repeat(1 << 20);
    for _ in 0..3 {
        assert!(matches!(call(port, &["RPUSH", "list", &long]), Reply::Int(_)));
    }
    let second = root.path().join("second");
    succeed(&["backup"], &second, port);
    let mut small = Cluster::prepare(TO, &[String::new()]);
    small.nodes[0].begin = super::process::Begin::Alone;
    small.nodes[0].own_settings = ["--entry-bytes-max", "2mb"].map(String::from).to_vec();
    small.launch();
    refused(&["restore"], &second, small.nodes[0].port, &["the restore stops", "entry-bytes-max", "--replace"]);
}
