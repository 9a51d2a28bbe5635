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
    let mut apply = ApplyContext { database: 0, index: 1, now_ms: 1, rng: Rng::new(1) };
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

#[test]
#[ignore = "a measurement, not a check"]
fn bitmaps_and_hyperloglogs() {
    let mut keyspace = Keyspace::new([1, 2], 1);
    let mut index = 0;
    let mut run = |parts: &[&str]| {
        let argv = Argv::from_parts(parts);
        index += 1;
        match lookup(&argv).expect("a command").command.handler {
            Handler::Read(read) => {
                let context = ReadContext { database: 0, now_ms: 1, rng: RefCell::new(Rng::new(1)) };
                read(&keyspace, &context, &argv).expect("it works")
            }
            Handler::Write(write) => {
                let mut context = ApplyContext { database: 0, index, now_ms: 1, rng: Rng::new(1) };
                write(&mut keyspace, &mut context, &argv).expect("it works")
            }
            Handler::Server | Handler::Container => panic!("the engine's own"),
        }
    };
    let mut time = |what: &str, rounds: usize, parts: &dyn Fn(usize) -> Vec<String>| {
        let begin = Instant::now();
        for round in 0..rounds {
            let parts = parts(round);
            black_box(run(&parts.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        eprintln!("{what}: {:?}", begin.elapsed() / rounds as u32);
    };
    let words = |text: String| text.split(' ').map(str::to_string).collect::<Vec<_>>();
    time("SETBIT, 16 MiB made", 1, &|_| words("SETBIT large 134217727 1".into()));
    time("SETBIT within 16 MiB", 100_000, &|n| words(format!("SETBIT large {} 1", n * 7919 % 134_217_728)));
    time("BITCOUNT of 16 MiB", 20, &|_| words("BITCOUNT large".into()));
    time("BITOP XOR of twice 16 MiB", 20, &|_| words("BITOP XOR zeros large large".into()));
    time("BITPOS of 16 MiB", 20, &|_| words("BITPOS zeros 1".into()));
    time("PFADD, sparse and then dense", 1_000_000, &|n| words(format!("PFADD dense {n}")));
    time("PFADD of what is there", 1_000_000, &|n| words(format!("PFADD dense {n}")));
    time("PFADD, sparse", 700, &|n| words(format!("PFADD sparse {n}")));
    time("PFCOUNT, dense", 1000, &|_| words("PFCOUNT dense".into()));
    time("PFCOUNT, sparse", 1000, &|_| words("PFCOUNT sparse".into()));
    time("PFMERGE, sparse", 1000, &|_| words("PFMERGE merged sparse".into()));
    time("PFMERGE, dense", 1000, &|_| words("PFMERGE merged dense sparse".into()));
}
