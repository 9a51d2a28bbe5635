//! DUMP payloads, RDB files and snapshots of our own: what is accepted is written and read again, alike.

use std::ops::ControlFlow;

use quoris_engine::rdb::{ForeignOptions, crc64, dump_value, read_foreign, restore_value};
use quoris_engine::{Engine, Settings};

/// First byte: what the rest is, and whether it gets the checksum that it should have.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let sealed = if choice & 4 == 0 { [bytes, &crc64(bytes).to_le_bytes()].concat() } else { bytes.to_vec() };
    match choice & 3 {
        0 => payload(&sealed),
        1 => file(&sealed, false),
        2 => file(&sealed, true),
        _ => snapshot(&sealed),
    }
}

fn payload(bytes: &[u8]) {
    let Ok(value) = restore_value(bytes, &Settings::default()) else { return };
    let dumped = dump_value(&value);
    let again = restore_value(&dumped, &Settings::default()).expect("a payload of our own");
    assert_eq!((&again, again.encoding()), (&value, value.encoding()));
    assert_eq!(dump_value(&again), dumped);
}

fn file(bytes: &[u8], skip_unsupported: bool) {
    let mut entries = 0;
    let result = read_foreign(&mut &bytes[..], ForeignOptions { skip_unsupported }, &mut |entry, at| {
        assert!(at <= bytes.len() as u64);
        payload(&dump_value(&entry.value));
        entries += 1;
        ControlFlow::Continue(())
    });
    if let Ok(found) = result {
        assert_eq!((found.keys, found.bytes <= bytes.len() as u64), (entries, true));
    }
}

fn snapshot(bytes: &[u8]) {
    let Ok(loaded) = Engine::load(&mut &bytes[..], &mut |_| {}) else { return };
    let mut engine = loaded.engine;
    let saved = engine.snapshot(Vec::new()).expect("none is running");
    let mut again = Engine::load(&mut &saved[..], &mut |_| {}).expect("a snapshot of our own");
    assert_eq!(again.engine.digest(), engine.digest());
    assert_eq!(
        again.engine.snapshot(Vec::new()).expect("none is running"),
        saved,
        "a restored engine writes the same file"
    );
}
