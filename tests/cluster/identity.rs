//! Data folders that are gone, or not where they belong: refused, with a text that names the folder and
//! says what to do, and never a second cluster.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quoris_resp::Reply;

use super::client::{Client, Outcome, REPLY_TIME_MAX};
use super::process::{Cluster, Shape};

const SHAPE: Shape = Shape { nodes: 3, groups: 1, factor: 3, settings: &[] };
const WITHIN: Duration = Duration::from_secs(20);

fn write(cluster: &Cluster, at: usize, value: &str) {
    let mut client = Client::connect(cluster.nodes[at].port).expect("the node is there");
    let end = client.call(&["SET", "k", value]);
    assert!(matches!(end, Outcome::Done(Reply::Ok)), "{end}");
}

fn assert_holds(cluster: &Cluster, value: &str) {
    for node in &cluster.nodes {
        let mut client = Client::connect(node.port).expect("the node is there");
        assert_eq!(client.text(&["GET", "k"], REPLY_TIME_MAX), Ok(Some(value.to_string())));
    }
}

fn aside(dir: &Path) -> PathBuf {
    dir.with_extension("aside")
}

fn put_aside(cluster: &Cluster, at: usize) {
    let dir = cluster.nodes[at].data();
    fs::rename(&dir, aside(&dir)).expect("moved");
}

fn put_back(cluster: &Cluster, at: usize) {
    let dir = cluster.nodes[at].data();
    let _ = fs::remove_dir_all(&dir);
    fs::rename(aside(&dir), &dir).expect("moved");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for file in fs::read_dir(from).expect("readable").map(|file| file.expect("readable").path()) {
        let name = to.join(file.file_name().expect("a name"));
        if file.is_dir() {
            copy(&file, &name);
        } else {
            fs::copy(&file, &name).expect("copied");
        }
    }
}

fn assert_refused(cluster: &mut Cluster, at: usize, parts: &[&str]) {
    let dir = cluster.nodes[at].data().to_string_lossy().into_owned();
    let text = cluster.refusal(at);
    for part in parts.iter().copied().chain([dir.as_str()]) {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn cluster_refuses_wiped_folders_and_never_founds_another() {
    let mut cluster = Cluster::start(SHAPE);
    write(&cluster, 0, "1");
    let wiped = ["the folder was wiped", "quoris admin node replace"];
    // One of three: the others go on.
    cluster.kill(&[2]);
    put_aside(&cluster, 2);
    assert_refused(&mut cluster, 2, &wiped);
    write(&cluster, 0, "2");
    // Two of three, while the third is there and knows.
    cluster.kill(&[1]);
    put_aside(&cluster, 1);
    for at in [1, 2] {
        assert_refused(&mut cluster, at, &wiped);
    }
    // Two of three, and nobody who knows: they wait for the third.
    cluster.kill(&[0]);
    cluster.restart(1);
    cluster.restart(2);
    let deadline = Instant::now() + WITHIN;
    while ![1, 2].iter().all(|at| cluster.nodes[*at].log().contains("waiting for peers")) {
        assert!(Instant::now() < deadline, "they do not wait: {}", cluster.nodes[1].log());
        std::thread::sleep(Duration::from_millis(20));
    }
    cluster.kill(&[1, 2]);
    for at in [1, 2] {
        put_back(&cluster, at);
    }
    (0..3).for_each(|at| cluster.restart(at));
    cluster.wait_until_ready();
    assert_holds(&cluster, "2");
}

#[test]
fn cluster_refuses_folders_of_other_nodes_and_clusters() {
    let mut cluster = Cluster::start(SHAPE);
    write(&cluster, 0, "1");
    cluster.kill(&[1, 2]);
    let (one, two) = (cluster.nodes[1].data(), cluster.nodes[2].data());
    let swap = || {
        fs::rename(&one, aside(&one)).expect("moved");
        fs::rename(&two, &one).expect("moved");
        fs::rename(aside(&one), &two).expect("moved");
    };
    swap();
    assert_refused(&mut cluster, 1, &["this data folder belongs to node", "start it with its own configuration"]);
    assert_refused(&mut cluster, 2, &["this data folder belongs to node"]);
    swap();
    // Another cluster with the same addresses: its folder knows the right nodes, but they do not know it.
    cluster.kill(&[0]);
    (0..3).for_each(|at| put_aside(&cluster, at));
    cluster.forget_digests();
    (0..3).for_each(|at| cluster.restart(at));
    cluster.wait_until_ready();
    write(&cluster, 0, "new");
    cluster.kill(&[2]);
    let stranger = two.with_extension("stranger");
    fs::rename(&two, &stranger).expect("moved");
    fs::rename(aside(&two), &two).expect("moved");
    assert_refused(
        &mut cluster,
        2,
        &["most of its peers are none of its cluster", "has the data folder of another cluster"],
    );
    fs::rename(&two, aside(&two)).expect("moved");
    fs::rename(&stranger, &two).expect("moved");
    cluster.restart(2);
    cluster.wait_until_ready();
    assert_holds(&cluster, "new");
}

#[test]
fn cluster_refuses_a_folder_from_an_older_backup() {
    let mut cluster = Cluster::start(SHAPE);
    write(&cluster, 0, "1");
    cluster.kill(&[2]);
    let dir = cluster.nodes[2].data();
    let backup = dir.with_extension("backup");
    copy(&dir, &backup);
    cluster.restart(2);
    cluster.wait_until_ready();
    write(&cluster, 2, "2");
    cluster.kill(&[2]);
    put_aside(&cluster, 2);
    copy(&backup, &dir);
    let old = [
        "is an older copy",
        "by its own count it has started 2 times, the cluster has seen start 2",
        "quoris admin node replace",
    ];
    assert_refused(&mut cluster, 2, &old);
    // Later starts of the copy do not help it: nothing that it did counts, and others keep to what they saw.
    fs::remove_dir_all(&dir).expect("removed");
    copy(&backup, &dir);
    assert_refused(&mut cluster, 2, &["is an older copy"]);
    // Alone it meets nobody who knows, but it finds out as soon as somebody comes.
    fs::remove_dir_all(&dir).expect("removed");
    copy(&backup, &dir);
    cluster.kill(&[0, 1]);
    let before = cluster.nodes[2].log().len();
    cluster.restart(2);
    std::thread::sleep(Duration::from_millis(500));
    cluster.restart(0);
    let deadline = Instant::now() + WITHIN;
    while !cluster.nodes[2].log()[before..].contains("is an older copy") {
        assert!(Instant::now() < deadline, "node 3 goes on: {}", &cluster.nodes[2].log()[before..]);
        std::thread::sleep(Duration::from_millis(20));
    }
    cluster.kill(&[0, 2]);
    put_back(&cluster, 2);
    (0..3).for_each(|at| cluster.restart(at));
    cluster.wait_until_ready();
    assert_holds(&cluster, "2");
}

#[test]
fn cluster_with_a_secret_drops_whoever_does_not_know_it() {
    let mut cluster = Cluster::start(Shape { settings: &["--cluster-secret", "the one"], ..SHAPE });
    write(&cluster, 0, "1");
    cluster.kill(&[2]);
    cluster.nodes[2].own_settings = ["--cluster-secret", "another"].map(String::from).to_vec();
    assert_refused(&mut cluster, 2, &["the peer has another cluster-secret", "cluster-secret"]);
    cluster.nodes[2].own_settings.clear();
    // A stranger is dropped behind its proof, whatever follows it, and learns nothing.
    let mut stranger = TcpStream::connect(("127.0.0.1", cluster.nodes[0].peer_port)).expect("it listens");
    stranger.set_read_timeout(Some(WITHIN)).expect("a socket");
    let mut bytes = b"QUORIS\x00\x04".to_vec();
    bytes.extend_from_slice(&[7; 64 + 4096]);
    stranger.write_all(&bytes).expect("it reads");
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = stranger.read_to_end(&mut answer);
    assert!(answer.len() <= 40 + 32, "{} bytes", answer.len());
    assert!(!answer.windows(6).skip(1).any(|w| w == b"quoris"), "the name of the cluster was said");
    cluster.restart(2);
    cluster.wait_until_ready();
    assert_holds(&cluster, "1");
}
