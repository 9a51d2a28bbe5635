//! Keys with a time to live, and watchers that see them die.
//!
//! Every node has a watcher that reads all of them through it without a pause. Time is this process's
//! monotonic clock. What is judged: no key is gone before its time, none is read that somebody has
//! seen gone, none is read when it should have been gone for a second.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quoris_resp::Reply;

use super::client::{Client, Outcome};
use super::process::Cluster;

/// The promise: a key outlives its time by no more.
const LATE_MAX: Duration = Duration::from_secs(1);
/// Between two attempts to connect or looks.
const PAUSE: Duration = Duration::from_millis(10);
const JUDGED_TIME_MAX: Duration = Duration::from_secs(40);

/// One key.
#[derive(Debug)]
struct Mortal {
    key: String,
    time_to_live: Duration,
    /// It may be gone so much before its time.
    early_max: Duration,
    sent: Instant,
    acknowledged: Instant,
    /// Somebody was told that it is gone.
    gone: AtomicBool,
    /// Watchers that were told so, a bit for each.
    witnesses: AtomicU64,
}

#[derive(Default)]
struct Shared {
    keys: Mutex<Vec<Arc<Mortal>>>,
    faults: Mutex<Vec<String>>,
    /// Largest distances from the right moment, in milliseconds: early, late.
    early_ms: AtomicU64,
    late_ms: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    /// The keys of now. A watcher that failed has said why.
    fn keys(&self) -> Vec<Arc<Mortal>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fault(&self, text: String) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
}

/// The keys and their watchers.
pub struct Mortals {
    shared: Arc<Shared>,
    watchers: Vec<JoinHandle<()>>,
    created: u64,
}

impl Mortals {
    /// Starts a watcher for each node.
    pub fn watch(cluster: &Cluster) -> Mortals {
        let shared = Arc::<Shared>::default();
        let watch = |(at, port): (usize, u16)| {
            let shared = shared.clone();
            std::thread::spawn(move || watch(&shared, at, port))
        };
        let watchers = cluster.nodes.iter().map(|node| node.port).enumerate().map(watch).collect();
        Mortals { shared, watchers, created: 0 }
    }

    /// Creates keys under a hash tag, one for each time to live, through the node at `port`.
    pub fn create(&mut self, port: u16, tag: &str, times_ms: &[u64], early_max: Duration) {
        let mut client = Client::connect(port).expect("the node is there");
        for ms in times_ms {
            self.created += 1;
            let key = format!("mortal:{tag}:{}", self.created);
            let sent = Instant::now();
            match client.call(&["SET", &key, "alive", "PX", &ms.to_string()]) {
                Outcome::Done(Reply::Ok) => {}
                other => panic!("SET {key}: {other}"),
            }
            let mortal = Mortal {
                key,
                time_to_live: Duration::from_millis(*ms),
                // A clock is steered by one percent.
                early_max: early_max + Duration::from_millis(ms / 100 + 5),
                sent,
                acknowledged: Instant::now(),
                gone: AtomicBool::new(false),
                witnesses: AtomicU64::new(0),
            };
            self.shared.keys.lock().expect("no watcher fails").push(Arc::new(mortal));
        }
    }

    /// Waits until every watcher has seen every key gone; all nodes must be up.
    pub fn wait_until_gone(&self, what: &str) {
        let deadline = Instant::now() + JUDGED_TIME_MAX;
        let everybody = (1 << self.watchers.len()) - 1;
        let lives = |mortal: &Arc<Mortal>| mortal.witnesses.load(Ordering::SeqCst) != everybody;
        let count = self.shared.keys().len();
        loop {
            self.assert_no_fault(what);
            let living: Vec<_> = self.shared.keys().into_iter().filter(lives).collect();
            if living.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "{what}: not gone everywhere: {living:?}");
            std::thread::sleep(PAUSE);
        }
        self.shared.keys.lock().expect("no watcher fails").clear();
        let most = |ms: &AtomicU64| ms.swap(0, Ordering::SeqCst);
        let (early, late) = (most(&self.shared.early_ms), most(&self.shared.late_ms));
        println!("{what}: {count} keys, gone at most {early} ms early, read at most {late} ms late");
    }

    fn assert_no_fault(&self, what: &str) {
        let faults = self.shared.faults.lock().expect("no watcher fails");
        assert!(faults.is_empty(), "{what}: {} faults:\n{}", faults.len(), faults.join("\n"));
    }
}

impl Drop for Mortals {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.watchers.drain(..).for_each(|watcher| drop(watcher.join()));
    }
}

fn watch(shared: &Shared, at: usize, port: u16) {
    let mut client = None;
    while !shared.stop.load(Ordering::SeqCst) {
        let Some(connected) = client.as_mut() else {
            client = Client::connect(port).ok();
            std::thread::sleep(PAUSE);
            continue;
        };
        let keys = shared.keys();
        if keys.is_empty() {
            std::thread::sleep(PAUSE);
        }
        for mortal in keys {
            if let Outcome::Lost(_) = look(shared, at, connected, &mortal) {
                client = None;
                break;
            }
        }
    }
}

/// Reads one key and judges the answer.
fn look(shared: &Shared, at: usize, client: &mut Client, mortal: &Mortal) -> Outcome {
    let was_gone = mortal.gone.load(Ordering::SeqCst);
    let asked = Instant::now();
    let outcome = client.call(&["GET", &mortal.key]);
    let told = Instant::now();
    let fault = |what: String| shared.fault(format!("node {}: {what}: {mortal:?}", at + 1));
    let ms = |time: Duration| time.as_millis() as u64;
    match &outcome {
        Outcome::Done(Reply::Null) => {
            mortal.gone.store(true, Ordering::SeqCst);
            mortal.witnesses.fetch_or(1 << at, Ordering::SeqCst);
            let early = mortal.time_to_live.saturating_sub(told - mortal.sent);
            shared.early_ms.fetch_max(ms(early), Ordering::SeqCst);
            if early > mortal.early_max {
                fault(format!("gone {early:?} before its time"));
            }
        }
        Outcome::Done(Reply::Bulk(_)) => {
            let late = asked.saturating_duration_since(mortal.acknowledged + mortal.time_to_live);
            shared.late_ms.fetch_max(ms(late), Ordering::SeqCst);
            if was_gone {
                fault("came back".to_string());
            }
            if late > LATE_MAX {
                fault(format!("is there {late:?} behind its time"));
            }
        }
        // A node that dies or looks for a leader; it is asked again.
        Outcome::Done(_) | Outcome::Refused(_) | Outcome::Unknown(_) | Outcome::Lost(_) => {}
    }
    outcome
}
