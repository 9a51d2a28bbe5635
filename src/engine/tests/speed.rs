//! How long the hot path takes: run with `cargo test --release -p quoris-engine --test speed -- --ignored --nocapture`.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use quoris_engine::command::{Handler, lookup};
use quoris_engine::{ApplyContext, Keyspace, ReadContext, Rng};
use quoris_resp::Argv;

fn each(what: &str, mut run: impl FnMut(usize)) -> Duration {
    const ROUNDS: usize = 2_000_000;
    let begin = Instant::now();
    (0..ROUNDS).for_each(&mut run);
    let each = begin.elapsed() / ROUNDS as u32;
    eprintln!("{what}: {each:?}");
    each
}

#[test]
#[ignore = "a measurement, not a check"]
fn lookup_set_and_get() {
    let names = ["GET", "set", "INCRBYFLOAT", "PEXPIREAT", "object"]
        .map(|name| Argv::from_parts(&[name, "encoding", "k", "v"]));
    each("lookup", |i| drop(black_box(lookup(&names[i % 2]))));
    let mut keyspace = Keyspace::new([1, 2], 1);
    let keys: Vec<String> = (0..100_000).map(|n| format!("key:{n:012}")).collect();
    let sets: Vec<Argv> = keys.iter().map(|key| Argv::from_parts(&["SET", key, "xxxxxxxxxxxxxxxx"])).collect();
    let gets: Vec<Argv> = keys.iter().map(|key| Argv::from_parts(&["GET", key])).collect();
    let mut apply = ApplyContext { database: 0, index: 1, now_ms: 1, rng: Rng::new(1), waits: false };
    each("SET of 16 bytes, lookup included", |i| {
        let argv = &sets[i * 7919 % sets.len()];
        let Handler::Write(write) = lookup(argv).expect("SET").command.handler else { panic!("SET writes") };
        black_box(write(&mut keyspace, &mut apply, argv)).expect("SET works");
    });
    let read = ReadContext { database: 0, now_ms: 1, rng: RefCell::new(Rng::new(1)) };
    each("GET of 16 bytes, lookup included", |i| {
        let argv = &gets[i * 7919 % gets.len()];
        let Handler::Read(get) = lookup(argv).expect("GET").command.handler else { panic!("GET reads") };
        black_box(get(&keyspace, &read, argv)).expect("GET works");
    });
}
