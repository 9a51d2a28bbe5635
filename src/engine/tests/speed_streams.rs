//! How long streams take at a million entries: run with
//! `cargo test --release -p quoris-engine --test speed_streams -- --ignored --nocapture`.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::Instant;

use quoris_engine::command::{Handler, lookup};
use quoris_engine::{ApplyContext, Keyspace, ReadContext, Rng};
use quoris_resp::Argv;

#[test]
#[ignore = "a measurement, not a check"]
fn a_stream_of_a_million() {
    const COUNT: usize = 1_000_000;
    let mut keyspace = Keyspace::new([1, 2], 1);
    let mut now_ms = 1;
    let mut call = |what: &str, count: usize, words: &dyn Fn(usize) -> String| {
        let argvs: Vec<Argv> = (0..count).map(|i| Argv::from_parts(&words(i).split(' ').collect::<Vec<_>>())).collect();
        let begin = Instant::now();
        for argv in &argvs {
            now_ms += 1;
            let reply = match lookup(argv).expect("a command").command.handler {
                Handler::Write(write) => {
                    let mut context =
                        ApplyContext { database: 0, index: 1, now_ms, rng: Rng::new(1), waits: false, short: false };
                    write(&mut keyspace, &mut context, argv)
                }
                Handler::Read(read) => {
                    read(&keyspace, &ReadContext { database: 0, now_ms, rng: RefCell::new(Rng::new(1)) }, argv)
                }
                _ => panic!("it reads or writes"),
            };
            black_box(reply).expect("it works");
        }
        eprintln!("{what}: {:?}", begin.elapsed() / count as u32);
        (now_ms, keyspace.memory_bytes())
    };
    call("XADD", COUNT, &|i| format!("XADD s {}-1 field value-{i} other 1", i + 1));
    call("XADD *", COUNT / 10, &|_| "XADD s * field value".into());
    call("XRANGE of 10", COUNT / 10, &|i| format!("XRANGE s {} + COUNT 10", i * 7919 % COUNT));
    call("XREAD of 1", COUNT / 10, &|i| format!("XREAD COUNT 1 STREAMS s {}", i * 7919 % COUNT));
    call("XGROUP CREATE", 1, &|_| "XGROUP CREATE s g 0".into());
    call("XREADGROUP of 10", COUNT / 10, &|i| format!("XREADGROUP GROUP g c{} COUNT 10 STREAMS s >", i % 10));
    call("XPENDING of 10", COUNT / 10, &|i| format!("XPENDING s g {} + 10", i * 7919 % COUNT));
    call("XCLAIM", COUNT / 10, &|i| format!("XCLAIM s g c1 0 {}-1", 1 + i * 7919 % COUNT));
    call("XACK", COUNT, &|i| format!("XACK s g {}-1", 1 + i * 7919 % COUNT));
    call("XDEL", COUNT / 10, &|i| format!("XDEL s {}-1", 1 + i * 7919 % COUNT));
    let (_, bytes) = call("XINFO STREAM", 1000, &|_| "XINFO STREAM s".into());
    eprintln!("{bytes} bytes by our own count");
    call("XTRIM of all", 1, &|_| "XTRIM s MAXLEN 1000".into());
}
