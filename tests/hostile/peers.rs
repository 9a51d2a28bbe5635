//! Strangers on the port of the peers, beside a cluster of three that must not notice.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use crate::{
    support::{
        cluster::Cluster,
        peer::{HEAD_BYTES, frame, prove},
        until,
    },
    watch::{Bystander, grew_at_most, resident},
};

/// Where the cluster's id stands in a first frame.
const CLUSTER: std::ops::Range<usize> = 0..16;
const HELLO: u8 = 1;
/// A peer that says nothing has to go within this time.
const SILENCE_MAX: Duration = Duration::from_secs(8);

struct Peer(TcpStream);

impl Peer {
    fn connect(cluster: &Cluster, node: u16) -> Peer {
        let stream = TcpStream::connect(("127.0.0.1", cluster.port + node - 1 + 10_000)).expect("peers are welcome");
        stream.set_read_timeout(Some(SILENCE_MAX)).expect("a socket");
        Peer(stream)
    }

    /// Somebody who shows that the cluster has no secret.
    fn proven(cluster: &Cluster, node: u16) -> Peer {
        let mut peer = Peer::connect(cluster, node);
        prove(&mut peer.0).expect("the node proves itself");
        peer
    }

    /// The body of the next frame.
    fn body(&mut self) -> Option<Vec<u8>> {
        let mut head = [0; HEAD_BYTES];
        self.0.read_exact(&mut head).ok()?;
        let mut body = vec![0; u32::from_le_bytes(head[..4].try_into().expect("four")) as usize];
        self.0.read_exact(&mut body).ok()?;
        Some(body)
    }

    /// Sends; a node that has closed already is fine.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// Fails unless the node closes; gives what came before.
    fn ends(&mut self, what: &str) -> Vec<u8> {
        let (mut all, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            match self.0.read(&mut chunk) {
                Ok(0) => return all,
                Ok(len) => all.extend_from_slice(&chunk[..len]),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("{what}: not closed"),
                Err(_) => return all,
            }
        }
    }
}

fn elections(cluster: &Cluster) -> [String; 3] {
    [1, 2, 3].map(|node| cluster.connect(node).info("elections"))
}

#[test]
fn strangers_on_the_peer_port_do_not_disturb_a_cluster() {
    let cluster = Cluster::start(&[]);
    let leader = cluster.leader();
    let mut c = cluster.connect(leader);
    until("the cluster is at rest", || c.info("ready") == "1");
    let (before, memory) = (elections(&cluster), resident(&mut c));
    let bystander = Bystander::start(cluster.port + leader % 3);

    let mut silent: Vec<Peer> = (0..100).map(|_| Peer::connect(&cluster, leader)).collect();
    let since = Instant::now();
    noise(&cluster, leader);
    let hello = Peer::proven(&cluster, leader).body().expect("the node introduces itself");
    other_clusters(&cluster, leader, &hello);
    replayed(&cluster, leader, &hello);
    flood(&cluster, leader, &hello);
    silent.iter_mut().for_each(|peer| {
        peer.ends("a silent peer");
    });
    println!("silent peers were gone after {:?}", since.elapsed());

    bystander.end("strangers", Duration::from_millis(1500));
    grew_at_most("strangers", &mut c, memory, 96 << 20);
    assert_eq!(elections(&cluster), before, "no leader has changed");
    assert_eq!(cluster.leader(), leader);
    cluster.stop();
}

/// What is no frame, or not a whole one.
fn noise(cluster: &Cluster, node: u16) {
    let mut dice = Pcg64::seed_from_u64(1);
    for n in 0..60 {
        let mut bytes = vec![0; 1 + n * 20];
        dice.fill_bytes(&mut bytes);
        for begin in [Peer::connect, Peer::proven] {
            let mut peer = begin(cluster, node);
            peer.send(&bytes);
            let _ = peer.0.shutdown(Shutdown::Write);
            peer.ends("random bytes");
        }
    }
    // A huge first frame is refused by its head.
    for len in [u32::MAX, 640 << 20, 1 << 20] {
        let mut peer = Peer::proven(cluster, node);
        peer.send(&[&len.to_le_bytes()[..], &[0; 4], &[HELLO], &[0; 8]].concat());
        peer.ends("a huge first frame");
    }
    // Redis's own protocol and a browser's.
    for text in [&b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n"[..], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut peer = Peer::connect(cluster, node);
        peer.send(text);
        peer.ends("another protocol");
    }
}

/// First frames that are nearly right: each is refused, and nothing behind it is answered.
fn other_clusters(cluster: &Cluster, node: u16, hello: &[u8]) {
    let changed = |at: usize| {
        let mut body = hello.to_vec();
        body[at] ^= 1;
        frame(HELLO, 0, &body)
    };
    let whole = frame(HELLO, 0, hello);
    let mut damaged = whole.clone();
    damaged[HEAD_BYTES + 40] ^= 1;
    let wrong = [changed(CLUSTER.start), changed(CLUSTER.end - 1), damaged, frame(2, 0, hello), frame(99, 0, hello)];
    for first in wrong {
        let mut peer = Peer::proven(cluster, node);
        peer.body().expect("the node introduces itself");
        peer.send(&[first, frame(14, 7, b"")].concat());
        assert_eq!(peer.ends("another cluster"), b"", "nothing is said to another cluster");
    }
    for cut in (0..whole.len()).step_by(7) {
        let mut peer = Peer::proven(cluster, node);
        peer.send(&whole[..cut]);
        let _ = peer.0.shutdown(Shutdown::Write);
        peer.ends("a truncated first frame");
    }
}

/// Somebody who repeats what a node says of itself: whatever comes behind it changes nothing.
fn replayed(cluster: &Cluster, node: u16, hello: &[u8]) {
    let mut dice = Pcg64::seed_from_u64(2);
    for kind in (0..20).chain([99, 255]) {
        for len in [0, 1, 20, 300] {
            let mut body = vec![0; len];
            dice.fill_bytes(&mut body);
            let mut peer = Peer::proven(cluster, node);
            peer.send(&[frame(HELLO, 0, hello), frame(kind, 1, &body), frame(kind, 1, &body)].concat());
            let _ = peer.0.shutdown(Shutdown::Write);
            peer.ends("a replayed introduction");
        }
    }
}

/// Questions without end from somebody who never reads the answers.
fn flood(cluster: &Cluster, node: u16, hello: &[u8]) {
    let mut peer = Peer::proven(cluster, node);
    peer.send(&frame(HELLO, 0, hello));
    peer.0.set_write_timeout(Some(Duration::from_millis(300))).expect("a socket");
    let questions = frame(14, 9, b"").repeat(10_000);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) && peer.0.write_all(&questions).is_ok() {}
}
