//! Keys whose time has come: reads do not see them, and a million of them disturb nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quoris_resp::{Argv, Reply};

use super::client::{Client, REPLY_TIME_MAX};
use super::process::{Cluster, Shape};
use super::quiet::undisturbed;

const ALONE: Shape = Shape { nodes: 1, groups: 1, factor: 1, settings: &[] };
const KEYS: u64 = 1_000_000;
const PIPELINE: u64 = 5000;
/// The promise for everybody else.
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// Time to load the keys, before they are due.
const LOAD_TIME_MAX: Duration = Duration::from_secs(30);
const REMOVAL_TIME_MAX: Duration = Duration::from_secs(60);
/// The removal is watched from so long before it begins.
const WARNING_MS: u64 = 100;
/// Between two looks at how far the removal is.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// The group's clock in milliseconds, from a reply to TIME.
fn clock_ms(time: &Reply) -> u64 {
    let Reply::Array(parts) = time else { panic!("TIME says {time:?}") };
    let number = |part: &Reply| match part {
        Reply::Bulk(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok()),
        _ => None,
    };
    let parts: Vec<u64> = parts.iter().filter_map(number).collect();
    parts[0] * 1000 + parts[1] / 1000
}

fn command(text: &str) -> Argv {
    Argv::from_parts(&text.split(' ').collect::<Vec<_>>())
}

/// Nobody writes here, so the applied clock follows by ticks alone, and a read behind the deadline that did not
/// wait for the tick would see the key.
#[test]
fn cluster_of_one_shows_no_key_behind_its_deadline() {
    let cluster = Cluster::start(ALONE);
    let mut client = Client::connect(cluster.nodes[0].port).expect("the node is there");
    let look: Vec<Argv> =
        ["TIME", "PTTL mortal", "GET mortal", "TIME"].iter().cycle().take(400).map(|c| command(c)).collect();
    let (mut seen, mut smallest) = (0, i64::MAX);
    for _ in 0..100 {
        let now = clock_ms(&client.pipeline(&[command("TIME")]).expect("the node lives")[0]);
        let deadline = now + 20;
        client.pipeline(&[command(&format!("SET mortal x PXAT {deadline}"))]).expect("the node lives");
        let mut gone = false;
        while !gone {
            for four in client.pipeline(&look).expect("the node lives").chunks(4) {
                let (Reply::Int(left), is_there) = (&four[1], four[2] != Reply::Null) else { panic!("{four:?}") };
                let (before, after) = (clock_ms(&four[0]), clock_ms(&four[3]));
                assert!(before < deadline || (*left == -2 && !is_there), "{four:?}, due at {deadline}");
                assert!(after >= deadline || (*left > 0 && is_there), "{four:?}, due at {deadline}");
                assert!(!gone || !is_there, "came back");
                (gone, seen) = (!is_there, seen + u64::from(is_there));
                if is_there {
                    smallest = smallest.min(*left);
                }
            }
        }
    }
    println!("{seen} times there, at the smallest with {smallest} ms left");
    assert!(smallest == 1 && seen > 100, "PTTL follows the clock of now");
}

#[test]
fn cluster_of_one_is_not_paused_by_a_million_keys_that_are_due_at_once() {
    let cluster = Cluster::start(ALONE);
    undisturbed(|| {
        let slowest = slowest_beside_a_million(cluster.nodes[0].port);
        if slowest <= PAUSE_MAX { Ok(()) } else { Err(format!("another client waited {slowest:?}")) }
    });
}

/// Loads the keys and lets them expire; the longest that another client waited meanwhile.
fn slowest_beside_a_million(port: u16) -> Duration {
    let mut client = Client::connect(port).expect("the node is there");
    let loading = Instant::now();
    let now = clock_ms(&client.pipeline(&[command("TIME")]).expect("the node lives")[0]);
    let deadline = now + LOAD_TIME_MAX.as_millis() as u64;
    let set =
        |n: u64| [command(&format!("SET mortal:{n} value:{n}")), command(&format!("PEXPIREAT mortal:{n} {deadline}"))];
    for first in (0..KEYS).step_by(PIPELINE as usize) {
        let commands: Vec<Argv> = (first..first + PIPELINE).flat_map(set).collect();
        let replies = client.pipeline(&commands).expect("the node lives");
        assert!(replies.iter().all(|reply| !reply.is_error()), "{replies:?}");
    }
    let loaded = loading.elapsed();
    assert!(loaded < LOAD_TIME_MAX, "the machine is too slow: {KEYS} keys took {loaded:?}");
    let count = |client: &mut Client, name: &str| {
        let text = client.text(&["INFO", "stats"], REPLY_TIME_MAX).expect("an answer").expect("a text");
        let line = text.lines().find_map(|line| line.strip_prefix(name).map(str::to_string));
        line.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
    };
    let expired = count(&mut client, "expired_keys:") + KEYS;

    let (stop, slowest_us) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let (stopped, slowest) = (stop.clone(), slowest_us.clone());
    let other = std::thread::spawn(move || pinging(port, &stopped, &slowest));
    while clock_ms(&client.pipeline(&[command("TIME")]).expect("the node lives")[0]) + WARNING_MS < deadline {
        std::thread::sleep(LOOK_PAUSE);
    }
    // What was slow before is not the removal's.
    let (began, before) = (Instant::now(), slowest_us.swap(0, Ordering::SeqCst));
    while count(&mut client, "expired_keys:") < expired {
        assert!(began.elapsed() < REMOVAL_TIME_MAX, "the removal takes too long");
        std::thread::sleep(LOOK_PAUSE);
    }
    let took = began.elapsed().saturating_sub(Duration::from_millis(WARNING_MS));
    stop.store(true, Ordering::SeqCst);
    let commands = other.join().expect("the other client is served");
    let during = Duration::from_micros(slowest_us.load(Ordering::SeqCst));
    println!(
        "{KEYS} keys loaded in {loaded:?}, removed in {took:?}; {commands} GETs and SETs of another client, the slowest \
         {during:?} (before the removal {:?}), {:.0} times below the promise",
        Duration::from_micros(before),
        PAUSE_MAX.as_secs_f64() / during.as_secs_f64()
    );
    assert_eq!(client.text(&["DBSIZE"], REPLY_TIME_MAX), Ok(Some("1".to_string())));
    during
}

/// Writes and reads one key without a pause; how often.
fn pinging(port: u16, stop: &AtomicBool, slowest_us: &AtomicU64) -> u64 {
    let mut client = Client::connect(port).expect("the node is there");
    let mut commands = 0;
    while !stop.load(Ordering::SeqCst) {
        for parts in [&["SET", "other", "x"][..], &["GET", "other"]] {
            let sent = Instant::now();
            assert!(client.text(parts, REPLY_TIME_MAX).is_ok_and(|reply| reply.is_some()));
            slowest_us.fetch_max(sent.elapsed().as_micros() as u64, Ordering::SeqCst);
            commands += 1;
        }
    }
    commands
}
