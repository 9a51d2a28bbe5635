//! A few registers that clients of all nodes write and read as fast as they can, and the record of it.
//!
//! Each client has one command in flight. All times are those of the test's own clock, taken before a command is
//! sent and after its reply was read. What certainly did not happen, and reads without a reply, are not recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use super::client::{Client, Outcome};
use super::linear::{Op, Value, is_linearizable};
use super::process::Cluster;

/// Few, so that clients meet.
const KEYS: usize = 3;
/// One writes, the others read: they are what waits in the sockets of a paused node.
const CLIENTS_PER_NODE: usize = 4;
/// Between two attempts to connect.
const KNOCK_PAUSE: Duration = Duration::from_millis(5);
/// A client rests this long after a reply: the history stays short enough to be checked.
const REST: Duration = Duration::from_millis(1);

/// One operation, on which register and through which node.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The node that the client was connected to.
    pub node: usize,
    /// The register.
    pub key: usize,
    /// What happened.
    pub op: Op,
}

/// Clients at work.
pub struct Registers {
    began: Instant,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Seen>>>,
}

impl Registers {
    /// Sets every register to nothing known, and lets the clients begin.
    pub fn start(cluster: &Cluster, name: &str) -> Registers {
        let (began, stop) = (Instant::now(), Arc::<AtomicBool>::default());
        let values = Arc::new(AtomicU64::new(1));
        let nodes = cluster.nodes.iter().map(|node| node.port).enumerate();
        let clients = nodes.flat_map(|node| (0..CLIENTS_PER_NODE).map(move |n| (node, n))).map(|((node, port), n)| {
            let client = Worker {
                node,
                port,
                name: name.to_string(),
                writes: n == 0,
                began,
                dice: Pcg64::seed_from_u64((node * CLIENTS_PER_NODE + n) as u64),
                stop: stop.clone(),
                values: values.clone(),
                seen: Vec::new(),
            };
            std::thread::spawn(move || client.run())
        });
        Registers { began, clients: clients.collect(), stop }
    }

    /// The time on the clock of the history.
    pub fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Ends the clients and gives all that they saw.
    pub fn stop(mut self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.drain(..).flat_map(|client| client.join().expect("no client panics")).collect()
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Fails unless each register was one register.
pub fn check(history: &[Seen]) {
    for key in 0..KEYS {
        let ops: Vec<Op> = history.iter().filter(|seen| seen.key == key).map(|seen| seen.op).collect();
        assert!(is_linearizable(&ops), "register {key} is not linearizable: {ops:#?}");
    }
    let (reads, writes) = (history.iter().filter(|seen| !seen.op.write).count(), history.len());
    let open = history.iter().filter(|seen| seen.op.returned.is_none()).count();
    println!("{reads} reads and {} writes, {open} of them with unknown end, are linearizable", writes - reads);
    assert!(reads > 0 && reads < writes, "nothing happened");
}

struct Worker {
    node: usize,
    port: u16,
    name: String,
    /// False for one that only reads.
    writes: bool,
    began: Instant,
    dice: Pcg64,
    stop: Arc<AtomicBool>,
    values: Arc<AtomicU64>,
    seen: Vec<Seen>,
}

impl Worker {
    fn run(mut self) -> Vec<Seen> {
        let mut connection = None;
        while !self.stop.load(Ordering::Relaxed) {
            match &mut connection {
                None => {
                    connection = Client::connect(self.port).ok();
                    if connection.is_none() {
                        std::thread::sleep(KNOCK_PAUSE);
                    }
                }
                Some(client) => {
                    if !self.act(client) {
                        connection = None;
                    }
                    std::thread::sleep(REST);
                }
            }
        }
        self.seen
    }

    /// One operation; false when the connection is of no more use.
    fn act(&mut self, client: &mut Client) -> bool {
        let key = self.dice.next_u32() as usize % KEYS;
        let write = self.writes && !self.dice.next_u32().is_multiple_of(4);
        let name = format!("register:{}:{key}", self.name);
        let value = if write { self.values.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let now = || self.began.elapsed().as_nanos() as u64;
        let called = now();
        let outcome =
            if write { client.call(&["SET", &name, &value.to_string()]) } else { client.call(&["GET", &name]) };
        let returned = now();
        let usable = !matches!(outcome, Outcome::Lost(_));
        let op = match outcome {
            Outcome::Done(_) if write => Some(Op { write, value, called, returned: Some(returned) }),
            Outcome::Done(reply) => Some(Op { write, value: read(&reply), called, returned: Some(returned) }),
            Outcome::Unknown(_) | Outcome::Lost(_) if write => Some(Op { write, value, called, returned: None }),
            Outcome::Unknown(_) | Outcome::Lost(_) | Outcome::Refused(_) => None,
        };
        self.seen.extend(op.map(|op| Seen { node: self.node, key, op }));
        usable
    }
}

fn read(reply: &quoris_resp::Reply) -> Value {
    match reply {
        quoris_resp::Reply::Null => 0,
        quoris_resp::Reply::Bulk(text) => {
            std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).expect("a value that was written")
        }
        other => panic!("{other:?} is no value"),
    }
}
