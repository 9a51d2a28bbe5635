//! Golden bytes, damaged input, and round trips.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::testing::{SEED, apply, command, random_entry};
use crate::types::string::StringValue;
use crate::{Engine, Settings, payload};

fn string(text: &[u8]) -> Value {
    payload::from_bytes(text.to_vec())
}

fn foreign(file: &[u8], skip_unsupported: bool) -> Result<(Foreign, Vec<ForeignEntry>), RdbError> {
    let mut keys = Vec::new();
    let options = ForeignOptions { skip_unsupported };
    let report = read_foreign(&mut &file[..], options, &mut |entry, _| {
        keys.push(entry);
        ControlFlow::Continue(())
    })?;
    Ok((report, keys))
}

/// A file from its body, with the right checksum.
fn file(version: u16, body: &[u8]) -> Vec<u8> {
    let mut out = format!("REDIS{version:04}").into_bytes();
    out.extend_from_slice(body);
    out.push(opcode::EOF);
    out.extend_from_slice(&crc64(&out).to_le_bytes());
    out
}

#[test]
fn the_checksum_is_the_one_of_redis() {
    assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
}

#[test]
fn dump_payloads_are_those_of_redis() {
    // What redis-server 7.0.15 answers to DUMP.
    let cases: &[(&[u8], &[u8])] = &[
        (b"10", b"\x00\xc0\n\n\x00\xa2\x6e\x3c\x28\x06\x4c\x1f\x3c"),
        (b"hello", b"\x00\x05hello\n\x00"),
        (b"-300", b"\x00\xc1\xd4\xfe\n\x00"),
        (b"2000000000", b"\x00\xc2\x00\x94\x35\x77\n\x00"),
        (b"20000000000", b"\x00\x0b20000000000\n\x00"),
    ];
    for (text, begin) in cases {
        let value = string(text);
        let dumped = dump_value(&value);
        let shown = begin.len().min(dumped.len() - 8);
        assert_eq!(&dumped[..shown], &begin[..shown], "{text:?}");
        assert_eq!(restore_value(&dumped, &Settings::default()).expect("own payload"), value);
    }
}

#[test]
fn lengths_of_every_size_read_back() {
    for len in [0u64, 63, 64, 16383, 16384, u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX] {
        let mut out = Vec::new();
        write::length(len, &mut out);
        let mut reader = &out[..];
        assert_eq!(Source::new(&mut reader).length().expect("own length"), len);
    }
}

#[test]
fn strings_of_every_encoding_read_back() {
    let texts =
        [&b""[..], b"0", b"-1", b"127", b"128", b"-129", b"32768", b"2147483648", b"007", &[b'a'; 1000], &[7; 70_000]];
    for (text, from) in texts.iter().flat_map(|text| [None, Some(21)].map(|from| (text, from))) {
        let mut out = Vec::new();
        write::string_compressed(text, from, &mut out);
        assert!(from.is_none() || text.len() < 1000 || out.len() < text.len() / 10, "compressed");
        let mut reader = &out[..];
        assert_eq!(Source::new(&mut reader).string().expect("own string"), *text);
    }
}

#[test]
fn no_announced_length_is_trusted() {
    let huge = [
        &[0x81, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, b'x'][..],
        &[0x80, 0xff, 0xff, 0xff, 0xff, b'x'],
        // Compressed: one byte that claims to be four billion.
        &[0xc3, 0x01, 0x80, 0xff, 0xff, 0xff, 0xff, 0x00],
        &[0xc3, 0x00, 0x00],
        &[0xc4],
        &[0x82],
        &[],
    ];
    for bytes in huge {
        let mut reader = bytes;
        assert!(matches!(Source::new(&mut reader).string(), Err(RdbError::Malformed { .. })), "{bytes:?}");
    }
}

#[test]
fn values_of_other_types_are_named_or_passed_over() {
    let samples: &[(u8, &[u8], &str)] =
        &[(7, b"\x05\x02\x09\x05\x01a\x03\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00", "module value")];
    for (kind, body, name) in samples {
        let mut keys = vec![opcode::SELECTDB, 3, *kind, 3];
        keys.extend_from_slice(b"odd");
        keys.extend_from_slice(body);
        keys.extend_from_slice(b"\x00\x01k\x01v");
        let file = file(10, &keys);
        match foreign(&file, false) {
            Err(RdbError::Unsupported { kind, key, .. }) => assert_eq!((kind, &*key), (*name, "odd")),
            other => panic!("{other:?}"),
        }
        let (report, keys) = foreign(&file, true).expect("passed over");
        assert_eq!((report.keys, report.skipped[name], keys[0].database), (1, 1, 3), "type {kind}");
        assert_eq!((&keys[0].key[..], &keys[0].value), (&b"k"[..], &string(b"v")));
    }
}

/// A packed value as one string.
fn packed_string(items: &[&str]) -> Vec<u8> {
    let mut list = packed::ListpackWriter::new();
    items.iter().for_each(|item| list.push(item.as_bytes()));
    let mut out = Vec::new();
    write::string(&list.finish(), &mut out);
    out
}

#[test]
fn sets_and_hashes_of_every_form_are_read() {
    let mut engine = Engine::new(SEED);
    let commands = ["SADD ints 1 2 3", "SADD texts b a 1", "HSET plain f v g 7", "HSET timed f v g 7 h w"];
    apply(&mut engine, 1000, &commands.map(command));
    apply(
        &mut engine,
        1000,
        &[command("HPEXPIREAT timed 5000 FIELDS 1 f"), command("HPEXPIREAT timed 6000 FIELDS 1 g")],
    );
    let value = |key: &str| engine.keyspace().value(0, key.as_bytes()).expect("it was set").clone();
    let first = 5000u64.to_le_bytes().to_vec();
    let triples = ["f", "v", "5000", "g", "7", "6000", "h", "w", "0"];
    let forms: &[(&str, u8, Vec<u8>)] = &[
        ("ints", 2, b"\x03\x013\xc0\x01\x012".to_vec()),
        ("ints", 11, b"\x0e\x02\0\0\0\x03\0\0\0\x01\0\x02\0\x03\0".to_vec()),
        ("ints", 20, packed_string(&["2", "1", "3"])),
        ("texts", 2, b"\x03\x01b\x01a\xc0\x01".to_vec()),
        ("texts", 20, packed_string(&["b", "a", "1"])),
        ("plain", 4, b"\x02\x01f\x01v\x01g\xc0\x07".to_vec()),
        ("plain", 9, b"\x0c\x02\x01f\x01\0v\x01g\x01\0\x37\xff".to_vec()),
        ("plain", 13, b"\x16\x16\0\0\0\x13\0\0\0\x04\0\0\x01f\x03\x01v\x03\x01g\x03\xf8\xff".to_vec()),
        ("plain", 16, packed_string(&["f", "v", "g", "7"])),
        ("timed", 22, b"\x03\x53\x88\x01f\x01v\x57\x70\x01g\xc0\x07\x00\x01h\x01w".to_vec()),
        ("timed", 23, packed_string(&triples)),
        ("timed", 24, [&first[..], b"\x03\x01\x01f\x01v\x43\xe9\x01g\xc0\x07\x00\x01h\x01w"].concat()),
        ("timed", 25, [first.clone(), packed_string(&triples)].concat()),
    ];
    for (key, kind, body) in forms {
        let file = file(12, &[&[*kind, 1, b'k'][..], body].concat());
        let (_, keys) = foreign(&file, false).unwrap_or_else(|e| panic!("type {kind}: {e}"));
        assert_eq!((&keys[0].value, keys[0].value.encoding()), (&value(key), value(key).encoding()), "type {kind}");
    }
    for (kind, body) in [
        (2, b"\x00".to_vec()),
        (2, b"\x02\x01a\x01a".to_vec()),
        (2, b"\x02\x011\xc0\x01".to_vec()),
        (4, b"\x02\x01a\x01x\x01a\x01y".to_vec()),
        (16, packed_string(&["f", "v", "g"])),
        (16, packed_string(&[])),
        (23, packed_string(&["f", "v"])),
        (23, packed_string(&["f", "v", "-1"])),
        (23, packed_string(&["f", "v", "281474976710656"])),
        (24, [&[0xff; 8][..], b"\x01\x02\x01f\x01v"].concat()),
    ] {
        let file = file(12, &[&[kind, 1, b'k'][..], &body].concat());
        assert!(matches!(foreign(&file, false), Err(RdbError::Malformed { .. })), "type {kind}: {body:?}");
    }
}

#[test]
fn a_snapshot_has_the_version_that_its_keys_need() {
    let mut engine = Engine::new(SEED);
    apply(&mut engine, 1000, &[command("HSET h f v g w"), command("SADD s 1 b")]);
    let plain = engine.snapshot(vec![]).expect("none is running");
    assert_eq!(&plain[..9], b"REDIS0010");
    apply(&mut engine, 1000, &[command("HPEXPIRE h 500 FIELDS 1 f")]);
    let timed = engine.snapshot(vec![]).expect("none is running");
    assert_eq!(&timed[..9], b"REDIS0012");
    let mut again = load(&timed).expect("own snapshot").engine;
    assert_eq!((again.digest(), again.keyspace().next_deadline()), (engine.digest(), Some(1500)));
    apply(&mut again, 2000, &[]);
    assert_eq!(&again.snapshot(vec![]).expect("none is running")[..9], b"REDIS0010");
}

#[test]
fn everything_around_the_keys_is_understood() {
    let body = b"\xfa\x03abc\x01x\xf5\x04code\xf7\x05\x02\x01\x05\x01a\x00\xfe\x02\xfb\x02\x01\xf4\x01\x01\x00\
        \xfd\x10\x00\x00\x00\xf8\x40\x80\x00\x01a\x01b\xfc\x10\x00\x00\x00\x00\x00\x00\x00\xf9\x07\x00\x01c\x01d";
    let (report, keys) = foreign(&file(12, body), false).expect("understood");
    assert_eq!((report.version, report.keys, report.functions), (12, 2, vec![b"code".to_vec()]));
    let deadlines: Vec<_> = keys.iter().map(|k| (k.database, k.expire_at_ms)).collect();
    assert_eq!(deadlines, [(2, Some(16_000)), (2, Some(16))]);
    assert!(matches!(foreign(&file(13, body), false), Err(RdbError::Malformed { at: 5, .. })));
    assert!(matches!(foreign(b"REDIX0010", false), Err(RdbError::Malformed { at: 0, .. })));
}

#[test]
fn a_wrong_checksum_is_an_error_and_a_missing_one_is_not() {
    let mut bytes = file(10, b"\x00\x01k\x01v");
    let end = bytes.len();
    bytes[end - 8..].fill(0);
    assert!(foreign(&bytes, false).is_ok(), "rdbchecksum no");
    bytes[end - 1] = 1;
    assert!(matches!(foreign(&bytes, false), Err(RdbError::Checksum { at, .. }) if at == end as u64 - 8));
}

/// A small snapshot with all that there is in one: deadlines, sessions, several databases.
fn own_snapshot() -> &'static [u8] {
    static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut engine = Engine::new(SEED);
        let (mut clock, mut sequence) = (1000, 0);
        let mut rng = crate::Rng::new(5);
        for index in 1..60 {
            let entry = random_entry(&mut rng, &mut clock, &mut sequence);
            engine.apply_entry(index, &entry, &mut |_, _, _| {}).expect("own format");
        }
        engine.snapshot(vec![("caller".into(), b"field".to_vec())]).expect("none is running")
    });
    &FILE
}

fn load(file: &[u8]) -> Result<crate::Loaded, RdbError> {
    Engine::load(&mut &file[..], &mut |_| {})
}

#[test]
fn a_cut_snapshot_is_refused_at_every_length() {
    let file = own_snapshot();
    assert!(load(file).is_ok());
    for len in (0..file.len()).step_by(if cfg!(miri) { 997 } else { 7 }) {
        assert!(load(&file[..len]).is_err(), "{len} of {}", file.len());
    }
}

#[test]
fn a_flipped_bit_is_never_loaded() {
    let file = own_snapshot();
    for at in (0..file.len()).step_by(11) {
        let mut damaged = file.to_vec();
        damaged[at] ^= 1 << (at % 8);
        assert!(load(&damaged).is_err(), "byte {at}");
    }
}

#[test]
fn a_snapshot_reads_as_a_dump_of_redis() {
    let mut engine = Engine::new(SEED);
    apply(&mut engine, 1000, &[command("SET a 1"), command("SET b text PX 500"), command("APPEND c 12")]);
    let bytes = engine.snapshot(vec![]).expect("none is running");
    let (report, mut keys) = foreign(&bytes, false).expect("own snapshot");
    keys.sort_by(|a, b| a.key.cmp(&b.key));
    let found: Vec<_> = keys.iter().map(|k| (&k.key[..], k.value.clone(), k.expire_at_ms)).collect();
    assert_eq!(
        found,
        [(&b"a"[..], string(b"1"), None), (b"b", string(b"text"), Some(1500)), (b"c", string(b"12"), None)]
    );
    assert_eq!((report.version, report.bytes), (10, bytes.len() as u64));
    assert!(matches!(load(&file(10, b"\x00\x01k\x01v")), Err(RdbError::Malformed { .. })), "a dump is no snapshot");
}

#[test]
fn a_snapshot_whose_fields_lie_is_refused() {
    let engine_file = |aux: &[(&str, &str)], keys: &[u8]| {
        let mut body = Vec::new();
        let own = [
            ("quoris-format", "1"),
            ("quoris-applied-index", "5"),
            ("quoris-clock-ms", "7"),
            ("quoris-hash-seed", "00000000000000010000000000000002"),
            ("quoris-databases", "2"),
            ("quoris-exchanges", "AA"),
            ("quoris-expired", "0"),
            ("quoris-slot-versions", ""),
            ("quoris-settings", "3 list-compress-depth=2 notify-keyspace-events="),
            ("quoris-scripts", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            ("quoris-own-slots", "0-99 200-299"),
        ];
        for (name, value) in own {
            let value = aux.iter().find(|(other, _)| *other == name).map_or(value, |(_, value)| value);
            write::aux(name, value.as_bytes(), &mut body);
        }
        body.extend_from_slice(keys);
        file(10, &body)
    };
    assert!(load(&engine_file(&[], b"")).is_ok());
    for (name, value) in [
        ("quoris-format", "2"),
        ("quoris-databases", "0"),
        ("quoris-databases", "4000000000"),
        ("quoris-databases", "3"),
        ("quoris-hash-seed", "0000"),
        ("quoris-hash-seed", "ä000000000000001000000000000000"),
        ("quoris-clock-ms", "-1"),
        ("quoris-slot-versions", "AAB"),
        ("quoris-slot-versions", "gggA"),
        ("quoris-slot-versions", "AB"),
        ("quoris-settings", ""),
        ("quoris-scripts", "\0\0\0"),
        ("quoris-own-slots", "0-99 200"),
        ("quoris-own-slots", "9-1"),
        ("quoris-own-slots", "0-16384"),
        ("quoris-settings", "3 list-compress-depth=-2"),
        ("quoris-settings", "3 of-a-newer-version=1"),
    ] {
        assert!(load(&engine_file(&[(name, value)], b"")).is_err(), "{name} = {value}");
    }
    let mut young = Vec::new();
    write::aux("quoris-key-versions", b"E", &mut young);
    young.extend_from_slice(b"\x00\x01k\x01v");
    assert!(load(&engine_file(&[], &young)).is_err(), "a key that is younger than its slot");
    assert!(load(&engine_file(&[], b"\x00\x01k\x01v")).is_err(), "a key without a version");
}

#[test]
fn restore_refuses_what_is_no_payload() {
    let mut dumped = dump_value(&string(b"hello"));
    for version in [1u16, 9, 11, 12] {
        let end = dumped.len() - 10;
        dumped.truncate(end);
        dumped.extend_from_slice(&version.to_le_bytes());
        dumped.extend_from_slice(&crc64(&dumped).to_le_bytes());
        assert_eq!(restore_value(&dumped, &Settings::default()).expect("older and newer versions"), string(b"hello"));
    }
    let sum = |body: &[u8]| [body, &crc64(body).to_le_bytes()].concat();
    assert!(
        matches!(restore_value(&sum(b"\x00\x01a\x0d\x00"), &Settings::default()), Err(RdbError::Checksum { .. })),
        "a version of the future"
    );
    assert!(
        matches!(restore_value(&sum(b"\x00\x01ab\x0a\x00"), &Settings::default()), Err(RdbError::Malformed { .. })),
        "bytes behind the value"
    );
    assert!(matches!(
        restore_value(&sum(b"\x07\x01a\x0a\x00"), &Settings::default()),
        Err(RdbError::Unsupported { kind: "module value", .. })
    ));
    assert!(
        restore_value(b"", &Settings::default()).is_err() && restore_value(b"short", &Settings::default()).is_err()
    );
}

#[test]
fn the_longest_numbers_are_strings_again() {
    for n in [i64::MIN, i64::MAX, i64::from(i32::MAX) + 1] {
        let value = Value::String(StringValue::Int(n));
        assert_eq!(restore_value(&dump_value(&value), &Settings::default()).expect("own payload"), value);
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), version in 1u16..13) {
        let _ = restore_value(&bytes, &Settings::default());
        let with_sum = [&bytes[..], &crc64(&bytes).to_le_bytes()].concat();
        let _ = restore_value(&with_sum, &Settings::default());
        for body in [&bytes[..], &file(version, &bytes)] {
            let _ = foreign(body, true);
            let _ = load(body);
        }
    }

    #[test]
    fn damaged_opcodes_never_panic(kind in 0u8..=255, bytes in prop::collection::vec(0u8..8, 0..60)) {
        let mut body = vec![kind];
        body.extend_from_slice(&bytes);
        let _ = foreign(&file(10, &body), true);
    }

    #[test]
    fn every_string_survives_dump_and_restore(text in prop::collection::vec(any::<u8>(), 0..300)) {
        let value = string(&text);
        prop_assert_eq!(restore_value(&dump_value(&value), &Settings::default()).expect("own payload"), value);
    }

    #[test]
    fn a_damaged_snapshot_with_a_right_checksum_never_panics(at in 0usize..4000, byte in any::<u8>()) {
        let mut bytes = own_snapshot().to_vec();
        let end = bytes.len() - 8;
        bytes[9 + at % (end - 10)] = byte;
        let sum = crc64(&bytes[..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&sum);
        if let Ok(mut loaded) = load(&bytes) {
            loaded.engine.digest();
            apply(&mut loaded.engine, u64::MAX, &[command("SET a b")]);
        }
    }
}
