//! What is told, in which order, and what is not; the bytes of batches.

use bytes::Bytes;
use quoris_resp::Reply;

use super::*;
use crate::testing::{SEED, apply, body, command, exec, for_seeds, random_entry, run};
use crate::{Engine, Rng, Settings};

/// An engine that tells some classes.
fn telling(classes: &str) -> Engine {
    let mut engine = Engine::new(SEED);
    let mut settings = Settings { version: 1, ..Settings::default() };
    settings.set("notify-keyspace-events", classes).expect("letters");
    apply(&mut engine, 1, &[(Default::default(), settings.to_argv())]);
    engine
}

/// Events as `name key`, or `channel<payload`.
fn told(engine: &mut Engine) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = |event: Event| match event {
        Event::Message { channel, payload, sharded } => {
            format!("{}{}{}", text(&channel), if sharded { "<<" } else { "<" }, text(&payload))
        }
        Event::Key { name, database: 0, key, .. } => format!("{name} {}", text(&key)),
        Event::Key { name, database, key, .. } => format!("{name} {database}:{}", text(&key)),
        Event::Moved { range, group, .. } => format!("{}-{} to {group}", range.first, range.last),
        Event::Arrived { range, index } => format!("{}-{} above {index}", range.first, range.last),
    };
    engine.take_events().into_iter().map(line).collect()
}

#[test]
fn a_message_is_an_event_of_its_entry() {
    let mut engine = telling("");
    assert_eq!(run(&mut engine, 1, "PUBLISH news hello"), Reply::Int(0));
    assert_eq!(told(&mut engine), ["news<hello"]);
    assert_eq!(told(&mut engine), [""; 0], "they are handed over once");
    apply(
        &mut engine,
        1,
        &[command("SPUBLISH a 1"), command("SET k v"), exec(vec![], &["PUBLISH b 2", "PUBLISH b 3"])],
    );
    assert_eq!(told(&mut engine), ["a<<1", "b<2", "b<3"]);
    run(&mut engine, 1, "PUBLISH a 1");
    run(&mut engine, 1, "GET k");
    assert_eq!(told(&mut engine), [""; 0], "nobody took those of an entry in time");
}

#[test]
fn a_repeated_command_tells_nothing() {
    let mut engine = telling("KEA");
    let publish = crate::testing::stamped(1, 1, 1, "PUBLISH a 1");
    apply(&mut engine, 1, &[publish.clone(), publish.clone()]);
    assert_eq!(told(&mut engine), ["a<1"]);
    apply(&mut engine, 1, &[publish]);
    assert_eq!(told(&mut engine), [""; 0]);
}

#[test]
fn a_class_without_a_channel_is_not_noted() {
    for (classes, expected) in [("A", &[][..]), ("K$", &["set"]), ("E$n", &["new", "set"]), ("Kg", &[])] {
        let mut engine = telling(classes);
        engine.keyspace.set(0, b"k", crate::Value::String(crate::StringValue::new(b"v")), None);
        engine.keyspace.notify(Class::String, "set", 0, b"k");
        let events = engine.take_events();
        let names: Vec<_> = events
            .iter()
            .map(|event| match event {
                Event::Key { name, keyspace, keyevent, .. } => {
                    assert_eq!((*keyspace, *keyevent), (classes.contains('K'), classes.contains('E')));
                    *name
                }
                Event::Message { .. } => panic!("no message"),
                Event::Moved { .. } | Event::Arrived { .. } => panic!("no slots move"),
            })
            .collect();
        assert_eq!(names, expected, "{classes}");
    }
}

#[test]
fn classes_are_the_letters_of_redis() {
    let letters: String = Class::ALL.iter().map(|class| class.letter()).collect();
    assert_eq!(letters, "g$lshzxetn");
    assert_eq!(crate::settings::events("K"), Some(KEYSPACE));
    assert_eq!(crate::settings::events("E"), Some(KEYEVENT));
    let mut sorted = NAMES.to_vec();
    sorted.dedup();
    assert_eq!(sorted, NAMES);
}

#[test]
fn what_expired_is_told_lazily_and_by_a_tick() {
    let mut engine = telling("KEx");
    apply(&mut engine, 100, &[command("SET a 1 PX 10"), command("SET b 1 PX 20"), command("SET c 1 PX 30")]);
    assert_eq!(told(&mut engine), [""; 0]);
    run(&mut engine, 120, "GET x");
    assert_eq!(told(&mut engine), ["expired a", "expired b"]);
    run(&mut engine, 500, "GET x");
    assert_eq!(told(&mut engine), ["expired c"]);
}

#[test]
fn a_script_that_is_taken_back_tells_nothing() {
    let mut engine = telling("KEA");
    let script = "redis.call('publish','c','m') redis.call('set','k','v') redis.call('set','due','v')";
    apply(&mut engine, 100, &[eval(script)]);
    assert_eq!(told(&mut engine), ["c<m", "set k", "set due"]);
    // More keys are due than an entry removes, so the script meets one of them.
    let many: Vec<_> = (0..300).map(|n| command(&format!("SET x{n:03} 1 PXAT 200"))).collect();
    apply(&mut engine, 100, &many);
    apply(&mut engine, 100, &[command("SET due 1 PXAT 201")]);
    engine.take_events();
    let endless = format!("{script} while true do end");
    let replies = apply(&mut engine, 300, &[command("PUBLISH c before"), eval(&endless), command("PUBLISH c behind")]);
    assert!(replies[1].is_error(), "{replies:?}");
    let told = told(&mut engine);
    assert!(told[..256].iter().all(|event| event.starts_with("expired x")), "{told:?}");
    assert_eq!(told[256..], ["c<before", "expired due", "c<behind"], "a key that had expired is gone all the same");
    assert!(engine.keyspace().value(0, b"due").is_none());
}

#[test]
fn a_script_ends_before_its_events_fill_the_memory() {
    let mut engine = telling("");
    let script = "local m = string.rep('x', 10000000) for n = 1, 100 do redis.call('publish', 'c', m) end";
    let argv = quoris_resp::Argv::from_parts(&["EVAL", script, "0"]);
    let replies = apply(&mut engine, 1, &[(Default::default(), argv)]);
    assert!(matches!(&replies[0], Reply::Error(text) if text.starts_with(b"ERR the script tells more")), "{replies:?}");
    assert_eq!(engine.take_events().len(), 7);
}

fn random_event(rng: &mut Rng) -> Event {
    let text = |rng: &mut Rng| {
        let len = [0, 1, 9, 3000][rng.below(4) as usize];
        Bytes::from((0..len).map(|_| rng.next_u64() as u8).collect::<Vec<u8>>())
    };
    if rng.below(2) == 0 {
        return Event::Message { channel: text(rng), payload: text(rng), sharded: rng.below(2) == 0 };
    }
    Event::Key {
        class: Class::ALL[rng.below(Class::ALL.len() as u64) as usize],
        keyspace: rng.below(2) == 0,
        keyevent: rng.below(2) == 0,
        name: NAMES[rng.below(NAMES.len() as u64) as usize],
        database: rng.below(1 << 16) as u32,
        key: text(rng),
    }
}

#[test]
fn batches_read_back_and_damaged_ones_are_refused() {
    for_seeds(200, |rng| {
        let events: Vec<Event> = (0..rng.below(8)).map(|_| random_event(rng)).collect();
        let bytes = encode(&events);
        assert_eq!(decode(&Bytes::from(bytes.clone())).expect("own bytes"), events);
        let cut = rng.below(bytes.len() as u64) as usize;
        assert!(decode(&Bytes::copy_from_slice(&bytes[..cut])).is_err(), "cut at {cut}");
        assert!(decode(&Bytes::from([&bytes[..], b"x"].concat())).is_err());
        let mut flipped = bytes;
        let at = rng.below(flipped.len() as u64) as usize;
        flipped[at] ^= 1 << rng.below(8);
        if let Ok(other) = decode(&Bytes::from(flipped.clone())) {
            assert_eq!(encode(&other), flipped, "one form only");
        }
    });
    let claims = crate::codec::bytes(&(1u8, u32::MAX));
    assert!(decode(&Bytes::from(claims)).is_err());
}

/// An engine that owns the slot of `a` alone.
fn owning_a() -> Engine {
    let slot = crate::slot(b"a");
    Engine::new(SEED).owning(&[(slot, slot)])
}

fn eval(script: &str) -> (crate::entry::CommandMeta, quoris_resp::Argv) {
    (Default::default(), quoris_resp::Argv::from_parts(&["EVAL", script, "0"]))
}

fn waiting(engine: &Engine) -> Vec<(OutboxPlace, String)> {
    let words = |argv: quoris_resp::Argv| argv.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
    engine.outbox().iter().map(|(place, message)| (place, words(message.to_argv()))).collect()
}

#[test]
fn what_belongs_to_another_group_waits_until_it_was_handed_over() {
    let mut engine = owning_a();
    let many = exec(vec![], &["PUBLISH a 1", "PUBLISH b 2", "SET {a}k v", "SPUBLISH c 3"]);
    let replies =
        apply(&mut engine, 1, &[many, eval("return redis.call('spublish', 'd', '4')"), command("PUBLISH b 5")]);
    assert_eq!(replies[1..], [Reply::Int(0), Reply::Int(0)]);
    assert_eq!(told(&mut engine), ["a<1"]);
    let at = |number, text: &str| ((1, number), text.to_string());
    let expected = [at(1, "PUBLISH b 2"), at(2, "SPUBLISH c 3"), at(3, "SPUBLISH d 4"), at(4, "PUBLISH b 5")];
    assert_eq!(waiting(&engine), expected);
    let drop_some = (Default::default(), delivered(&[(1, 1), (1, 3), (7, 1)]));
    assert_eq!(apply(&mut engine, 1, &[drop_some.clone(), drop_some]), [Reply::Int(2), Reply::Int(2)]);
    run(&mut engine, 1, "PUBLISH b 6");
    assert_eq!(waiting(&engine), [expected[1].clone(), expected[3].clone(), ((3, 1), "PUBLISH b 6".into())]);
    let rest: Vec<OutboxPlace> = engine.outbox().iter().map(|(place, _)| place).collect();
    apply(&mut engine, 1, &[(Default::default(), delivered(&rest))]);
    assert_eq!((engine.outbox(), engine.outbox().digest()), (&Outbox::default(), 0));
    for wrong in
        ["QUORIS.DELIVERED 1", "QUORIS.DELIVERED 1 x", "QUORIS.DELIVERED 1 1 2", "QUORIS.DELIVERED 1 4294967296"]
    {
        assert!(run(&mut engine, 1, wrong).is_error(), "{wrong}");
    }
    let from_client = apply(&mut engine, 1, &[exec(vec![], &["QUORIS.DELIVERED 1 1"])]);
    assert!(matches!(&from_client[0], Reply::Array(replies) if replies[0].is_error()));
}

#[test]
fn what_waits_is_state() {
    let (mut one, mut two) = (owning_a(), owning_a());
    let empty = one.snapshot(vec![]).expect("none is running");
    for engine in [&mut one, &mut two] {
        apply(engine, 1, &[command("PUBLISH b 1"), command("SPUBLISH c 2")]);
    }
    let file = one.snapshot(vec![]).expect("none is running");
    assert_ne!(file, empty);
    let mut again = Engine::load(&mut &file[..], &mut |_| {}).expect("own snapshot").engine;
    assert_eq!((waiting(&again), again.digest()), (waiting(&one), one.digest()));
    assert_eq!(again.snapshot(vec![]).expect("none is running"), file);
    apply(&mut one, 1, &[(Default::default(), delivered(&[(1, 2)]))]);
    apply(&mut two, 1, &[(Default::default(), delivered(&[(1, 1)]))]);
    assert_ne!(one.digest(), two.digest());
    let saved = two.outbox().saved();
    assert_eq!(Outbox::restore(&saved).as_ref(), Ok(two.outbox()));
    assert!(
        Outbox::restore(&saved[..saved.len() - 1]).is_err() && Outbox::restore(&[&saved[..], b"x"].concat()).is_err()
    );
    let twice = crate::codec::bytes(&vec![(1u64, 1u32, false, b"b".to_vec(), b"1".to_vec()); 2]);
    assert!(Outbox::restore(&twice).is_err(), "a place twice");
}

#[test]
fn a_script_that_is_taken_back_leaves_nothing_waiting() {
    let mut engine = owning_a();
    apply(&mut engine, 1, &[command("PUBLISH b before")]);
    let endless = eval("redis.call('publish', 'b', 'x') redis.call('publish', 'a', 'x') while true do end");
    let replies = apply(&mut engine, 1, &[command("PUBLISH b 1"), endless, command("PUBLISH b 2")]);
    assert!(replies[1].is_error());
    let places: Vec<_> = waiting(&engine).into_iter().map(|(place, _)| place).collect();
    assert_eq!((places, told(&mut engine).len()), (vec![(1, 1), (2, 1), (2, 2)], 0));
}

#[test]
fn the_outbox_is_bounded() {
    let mut engine = owning_a();
    let text = "m".repeat(6 << 20);
    let publish = (Default::default(), quoris_resp::Argv::from_parts(&["PUBLISH", "b", &text]));
    let replies = apply(&mut engine, 1, &[publish.clone(), publish.clone(), publish]);
    assert_eq!(replies[..2], [Reply::Int(0), Reply::Int(0)]);
    assert!(replies[2].is_error() && engine.outbox().len() == 2 && engine.outbox().bytes() > 12 << 20);
}

#[test]
fn the_same_entries_tell_the_same() {
    for_seeds(8, |rng| {
        let mut plain = telling("KEAn").owning(&[(0, 12_000)]);
        let mut restarting = telling("KEAn").owning(&[(0, 12_000)]);
        let (mut clock, mut sequence, mut kinds) = (1_000_000, 0, std::collections::BTreeSet::new());
        for index in 2..400 {
            let entry = match rng.below(5) {
                0 => body(clock, &[command(&format!("PUBLISH c{} {index}", rng.below(50))), command("SPUBLISH d x")]),
                _ => random_entry(rng, &mut clock, &mut sequence),
            };
            let [one, other] = [&mut plain, &mut restarting].map(|engine| {
                engine.apply_entry(index, &entry, &mut |_, _, _| {}).expect("own format");
                engine.take_events()
            });
            assert_eq!(one, other, "entry {index}");
            assert_eq!(decode(&encode(&one).into()).expect("own bytes"), one);
            kinds.extend(one.iter().map(|event| match event {
                Event::Message { .. } => "message",
                Event::Key { name, .. } => *name,
                Event::Moved { .. } | Event::Arrived { .. } => "moved",
            }));
            if rng.below(30) == 0 {
                let file = restarting.snapshot(vec![]).expect("none is running");
                restarting = Engine::load(&mut &file[..], &mut |_| {}).expect("own snapshot").engine;
            }
        }
        assert_eq!((plain.digest(), plain.outbox()), (restarting.digest(), restarting.outbox()));
        assert!(kinds.len() > 15 && kinds.contains("expired"), "{kinds:?}");
        assert!(plain.outbox().len() > 5);
    });
}

#[test]
fn fields_that_expire_are_told() {
    let mut engine = telling("KEA");
    run(&mut engine, 100, "HSET h f 1 g 2 i 3");
    engine.take_events();
    for (words, expected) in [
        ("HPEXPIRE h 10 FIELDS 2 f absent", &["hexpire h"][..]),
        ("HPEXPIRE h 10 FIELDS 1 absent", &[]),
        ("HPERSIST h FIELDS 1 f", &["hpersist h"]),
        ("HPERSIST h FIELDS 1 f", &[]),
        ("HGETEX h PX 20 FIELDS 1 f", &["hexpire h"]),
        ("HGETEX h PERSIST FIELDS 1 f", &["hpersist h"]),
        ("HSETEX h PX 20 FIELDS 1 f v", &["hset h", "hexpire h"]),
        ("HSETEX h KEEPTTL FIELDS 1 f w", &["hset h"]),
        ("HPEXPIREAT h 1 FIELDS 1 i", &["hdel h"]),
        ("HGETDEL h FIELDS 2 absent h", &[]),
        ("HSETEX made PXAT 1 FIELDS 1 f v", &["hset made", "hdel made", "del made"]),
        ("HSET short f v", &["hset short"]),
        ("HPEXPIREAT short 1 FIELDS 1 f", &["hdel short", "del short"]),
        ("HSETEX last PX 20 FIELDS 1 f v", &["hset last", "hexpire last"]),
    ] {
        run(&mut engine, 100, words);
        assert_eq!(told(&mut engine), expected, "{words}");
    }
    run(&mut engine, 120, "GET x");
    let mut events = told(&mut engine);
    events.sort();
    assert_eq!(events, ["del last", "hexpired h", "hexpired last"]);
    run(&mut engine, 120, "HGETDEL h FIELDS 1 g");
    assert_eq!(told(&mut engine), ["hdel h", "del h"]);
}
