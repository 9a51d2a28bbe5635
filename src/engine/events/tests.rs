//! What is told, in which order, and what is not; the bytes of batches.

use bytes::Bytes;
use quoris_resp::Reply;

use super::*;
use crate::testing::{SEED, apply, command, exec, for_seeds, run};
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
    let eval = |script: &str| (Default::default(), quoris_resp::Argv::from_parts(&["EVAL", script, "0"]));
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
