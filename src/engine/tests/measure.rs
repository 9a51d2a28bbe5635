//! What the engine costs: memory per key, nanoseconds per command, the longest pauses.
//!
//! `cargo test --release -p quoris-engine --test measure -- --ignored --nocapture`, with the number of keys in
//! `QUORIS_MEASURE_KEYS`. Times per command are processor time; the longest entry is wall time and means
//! something on an idle machine only. With `LD_PRELOAD=libjemalloc.so.2` the memory is that of the
//! allocator we ship with.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quoris_engine::command::lookup;
use quoris_engine::entry::{CommandMeta, EntryBuilder};
use quoris_engine::{Engine, EngineSeed, ReadContext, Rng, Scrub};
use quoris_resp::Argv;

const BATCH: u64 = 64;

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Processor time of this thread. The kernel counts in ticks of a few milliseconds.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0))
}

fn key(i: u64) -> String {
    format!("key:{i:012}")
}

fn entries(keys: impl Iterator<Item = u64>, clock_ms: u64, parts: impl Fn(u64) -> Vec<Vec<u8>>) -> Vec<Bytes> {
    let mut bodies = Vec::new();
    let mut builder = EntryBuilder::default();
    for i in keys {
        builder.push(&CommandMeta::default(), &Argv::from_parts(&parts(i)));
        if u64::from(builder.commands()) == BATCH {
            bodies.push(std::mem::take(&mut builder).finish(clock_ms, i));
        }
    }
    bodies.push(builder.finish(clock_ms, 1));
    bodies
}

fn words(parts: &[&str]) -> Vec<Vec<u8>> {
    parts.iter().map(|part| part.as_bytes().to_vec()).collect()
}

/// Applies entries; the processor time of all, and the longest one.
fn apply(engine: &mut Engine, bodies: impl Iterator<Item = Bytes>) -> (Duration, Duration) {
    let mut longest = Duration::ZERO;
    let whole = processor_time();
    for body in bodies {
        let begin = Instant::now();
        let index = engine.applied_index() + 1;
        engine.apply_entry(index, &body, &mut |_, reply, _| drop(black_box(reply))).expect("own format");
        longest = longest.max(begin.elapsed());
    }
    (processor_time().saturating_sub(whole), longest)
}

fn told(what: &str, count: u64, (whole, longest): (Duration, Duration)) {
    println!("{what:<44} {:>8} ns each, longest entry {longest:?}", whole.as_nanos() / u128::from(count.max(1)));
}

fn shuffled(count: u64) -> impl Iterator<Item = u64> {
    let mut rng = Rng::new(1);
    (0..count).map(move |_| rng.below(count))
}

fn reads(engine: &Engine, count: u64) {
    let context = ReadContext { database: 0, now_ms: engine.clock_ms(), rng: RefCell::new(Rng::new(1)) };
    let mut keys = shuffled(count);
    let mut batches = Duration::ZERO;
    let whole = processor_time();
    for _ in 0..count / 1000 {
        let begin = Instant::now();
        let argvs: Vec<Argv> = keys.by_ref().take(1000).map(|i| Argv::from_parts(&["GET", &key(i)])).collect();
        batches += begin.elapsed();
        for argv in &argvs {
            let found = lookup(argv).expect("GET is a command");
            black_box(engine.read(found.command, &context, argv));
        }
    }
    let whole = processor_time().saturating_sub(whole + batches);
    told("GET, random keys, with lookup of the row", count, (whole, Duration::ZERO));
}

/// One pass over all keys, in the steps that a replica takes.
fn scrub(engine: &Engine, count: u64) {
    let (mut at, mut longest) = (Scrub::default(), Duration::ZERO);
    let whole = processor_time();
    loop {
        let begin = Instant::now();
        let done = engine.keyspace().scrub(&mut at, 256 << 10).expect("memory is sound");
        longest = longest.max(begin.elapsed());
        if done {
            break;
        }
    }
    told("scrub, longest a step of 256 KiB", count, (processor_time().saturating_sub(whole), longest));
}

/// A snapshot in steps of 64 KiB with an entry of SETs between each two.
fn snapshot(engine: &mut Engine, count: u64) {
    let value = "w".repeat(64);
    let mut writes = entries(shuffled(count), 1, |i| words(&["SET", &key(i), &value])).into_iter().cycle();
    let begin = Instant::now();
    engine.begin_snapshot(vec![]).expect("none is running");
    let begin_took = begin.elapsed();
    let (mut out, mut bytes, mut steps, mut whole, mut longest) = (Vec::new(), 0, 0, Duration::ZERO, Duration::ZERO);
    let mut writing = (Duration::ZERO, Duration::ZERO);
    let resident = resident_bytes();
    let mut most = resident;
    loop {
        let begin = Instant::now();
        let done = engine.step_snapshot(&mut out, 64 * 1024);
        let took = begin.elapsed();
        whole += took;
        longest = longest.max(took);
        steps += 1;
        bytes += out.len();
        out.clear();
        let (took, long) = apply(engine, writes.by_ref().take(4));
        writing = (writing.0 + took, writing.1.max(long));
        if steps % 64 == 0 {
            most = most.max(resident_bytes());
        }
        if done {
            break;
        }
    }
    println!(
        "snapshot: begin {begin_took:?}, {steps} steps, {bytes} bytes, {whole:?} in all, longest step {longest:?}"
    );
    println!("snapshot: memory grew by {} KiB while writing", (most - resident) / 1024);
    told("SET during the snapshot", steps * 4 * BATCH, writing);
}

fn load(engine: &mut Engine) {
    let file = engine.snapshot(vec![]).expect("none is running");
    let begin = Instant::now();
    let loaded = Engine::load(&mut &file[..], &mut |_| {}).expect("own snapshot");
    println!("load: {:?} for {} bytes", begin.elapsed(), file.len());
    let begin = Instant::now();
    drop(loaded);
    println!("dropping a whole engine: {:?}", begin.elapsed());
}

/// A hash tag puts everything into one slot.
fn one_slot(count: u64) {
    let mut engine = Engine::new(EngineSeed { hash_seed: [1, 2], databases: 16 });
    let sets = entries(0..count, 1, |i| words(&["SET", &format!("{{tag}}{i:011}"), "value"]));
    told("SET, new keys in one slot", count, apply(&mut engine, sets.into_iter()));
    let dels = entries(0..count, 1, |i| words(&["DEL", &format!("{{tag}}{i:011}")]));
    told("DEL, all keys of one slot", count, apply(&mut engine, dels.into_iter()));
}

#[test]
#[ignore = "takes long and asserts nothing: it prints numbers"]
fn costs() {
    let count = std::env::var("QUORIS_MEASURE_KEYS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000u64);
    let mut engine = Engine::new(EngineSeed { hash_seed: [1, 2], databases: 16 });
    let value = "v".repeat(64);
    let before = resident_bytes();
    let mut filling = (Duration::ZERO, Duration::ZERO);
    for from in (0..count).step_by(10_000) {
        let some = entries(from..(from + 10_000).min(count), 1, |i| words(&["SET", &key(i), &value]));
        let took = apply(&mut engine, some.into_iter());
        filling = (filling.0 + took.0, filling.1.max(took.1));
    }
    println!("{count} keys of 16 bytes, values of 64: {} bytes resident each", (resident_bytes() - before) / count);
    println!("by our own count {} bytes each", engine.stats().memory_bytes / count);
    told("SET, new keys", count, filling);
    let again = entries(shuffled(count), 1, |i| words(&["SET", &key(i), &value]));
    told("SET, keys that are there", count, apply(&mut engine, again.into_iter()));
    let numbers = entries(shuffled(count), 1, |i| words(&["INCR", &format!("n{}", i % 1000)]));
    told("INCR, 1000 keys", count, apply(&mut engine, numbers.into_iter()));
    reads(&engine, count);
    let begin = Instant::now();
    black_box(engine.digest());
    println!("digest: {:?}", begin.elapsed());
    scrub(&engine, count);
    snapshot(&mut engine, count);
    load(&mut engine);

    one_slot(count);
    let due = entries(0..count, 2, |i| words(&["SET", &key(i), &value, "PX", "1000"]));
    told("SET with a deadline, keys without", count, apply(&mut engine, due.into_iter()));
    let ticks = entries(0..0, 2_000_000, |_| words(&[])).into_iter().cycle().take((count / 256 + 1) as usize);
    told("expiry of all at the same millisecond", count, apply(&mut engine, ticks));
    println!("{} keys are left", engine.stats().keys);
    let some = entries(0..count, 3, |i| words(&["SET", &key(i), &value]));
    told("SET, new keys again", count, apply(&mut engine, some.into_iter()));
    let flush = entries(0..1, 4, |_| words(&["FLUSHALL"]));
    told("FLUSHALL", 1, apply(&mut engine, flush.into_iter()));
    let ticks = entries(0..0, 5, |_| words(&[])).into_iter().cycle().take(3000);
    told("entries that free what was flushed", 3000, apply(&mut engine, ticks));
}
