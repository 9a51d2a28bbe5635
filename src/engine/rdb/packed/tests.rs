//! Bytes that redis-server made, bytes made by hand, and damaged bytes.

mod redis;

use proptest::prelude::*;

use super::super::source::Source;
use super::*;

/// Types of values, as RDB numbers them.
const HASH_ZIPMAP: u8 = 9;
const LIST_ZIPLIST: u8 = 10;
const SET_INTSET: u8 = 11;
const HASH: u8 = 16;
const LIST: u8 = 18;
const STREAM: u8 = 19;

/// What redis-server 7.0.15 answered to DUMP.
mod golden {
    /// `HSET h field value n -5 big 9223372036854775807 f 007`
    pub(super) const HASH: &str = "1032320000000800856669656c64068576616c756506816e02dffb028362696704f4ffffffffffffff7f\
        098166028330303704ff0a0076b089d4b04c654f";
    /// `ZADD z 1.5 m -3 n inf o`
    pub(super) const ZSET: &str = "111d1d0000000600816e02dffd02816d0283312e3504816f0283696e6604ff0a0063fe02cf7c871605";
    /// `RPUSH l` with [`super::edges`].
    pub(super) const LIST: &str = "\
        12010240e2e20000001d0000017f01c08002dfff02cfff02f1001003d00002f1ffef03f1ff7f03f200800004f1008003f2ff\
        7fff04f2ffff7f04f30000800005f200008004f3ffff7fff05f3ffffff7f05f4000000800000000009f30000008005f4ffff\
        ff7fffffffff09f4ffffffffffffff7f09f40000000000000080098001816102822d300382303103822b3103933932323333\
        373230333638353437373538303814bf78787878787878787878787878787878787878787878787878787878787878787878\
        787878787878787878787878787878787878787878787878787878787840ff0a0064096b5db593f840";
    /// `XADD x 5-1 f v g 1`, `XADD x 5-2 f w g 2`, `XADD x 6-0 q 300`
    pub(super) const STREAM: &str = "130110000000000000000500000000000000014040400000001900030100010201816602816702\
        0001020100010001817602010105010201000101018177020201050100010101dfff020101817102c12c020601ff03060005010000030\
        00a00d65c7e6597146b40";
    /// `SADD s 3 -2 32767`
    pub(super) const INTSET_16: &str = "0b0e0200000003000000feff0300ff7f0a0044a75e34c5e38add";
    /// `SADD s 3 -70000`
    pub(super) const INTSET_32: &str = "0b10040000000200000090eefeff030000000a005714a59719ee8fe9";
    /// `SADD s 3 -9223372036854775808 9223372036854775807`
    pub(super) const INTSET_64: &str =
        "0b20080000000300000000000000000000800300000000000000ffffffffffffff7f0a00790b3fbda68291ef";
}

/// Around every border between two encodings, and texts that are almost integers.
fn edges() -> Vec<Vec<u8>> {
    let mut texts = words(
        "0 127 128 -1 4095 4096 -4096 -4097 32767 32768 -32768 -32769 8388607 8388608 -8388608 -8388609 2147483647 \
        2147483648 -2147483648 -2147483649 9223372036854775807 -9223372036854775808",
    );
    texts.push(Vec::new());
    texts.extend(words("a -0 01 +1 9223372036854775808"));
    texts.push(vec![b'x'; 63]);
    texts
}

fn words(text: &str) -> Vec<Vec<u8>> {
    text.split_ascii_whitespace().map(|word| word.as_bytes().to_vec()).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The packed value in a payload of DUMP.
fn inside(payload: &[u8]) -> Vec<u8> {
    let mut reader = payload;
    let mut source = Source::new(&mut reader);
    match source.byte().expect("a type") {
        LIST => assert_eq!((source.length().ok(), source.length().ok()), (Some(1), Some(2)), "one packed node"),
        STREAM => {
            assert_eq!(source.length().expect("listpacks"), 1);
            source.string().expect("the first id");
        }
        _ => {}
    }
    source.string().expect("a packed value")
}

fn written(elements: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = ListpackWriter::new();
    elements.iter().for_each(|element| writer.push(element));
    let len = writer.len();
    let bytes = writer.finish();
    assert_eq!(bytes.len(), len);
    bytes
}

/// A ziplist from encoded elements; the layout once more, by hand.
fn ziplist_of(encoded: &[&[u8]]) -> Vec<u8> {
    let (mut body, mut tail, mut before) = (Vec::new(), 10, 0);
    for element in encoded {
        tail = 10 + body.len() as u32;
        match u8::try_from(before) {
            Ok(short @ 0..254) => body.push(short),
            _ => body.extend_from_slice(&[&[254][..], &(before as u32).to_le_bytes()].concat()),
        }
        body.extend_from_slice(element);
        before = 10 + body.len() - tail as usize;
    }
    let (len, count) = (body.len() as u32 + 11, encoded.len().min(0xffff) as u16);
    [&len.to_le_bytes()[..], &tail.to_le_bytes(), &count.to_le_bytes(), &body, &[0xff]].concat()
}

/// One element of each encoding of ziplists, and what they are.
fn ziplist_of_all_encodings() -> (Vec<u8>, Vec<Vec<u8>>) {
    let middle = [&[0x41, 0x2c][..], &[b'm'; 300]].concat();
    let long = [&[0x80, 0, 0, 0x40, 0x01][..], &[b'l'; 0x4001]].concat();
    let encoded: [&[u8]; 15] = [
        b"\x00",
        b"\x02hi",
        &middle,
        b"\x0212",
        &long,
        b"\xf1",
        b"\xfd",
        b"\xfe\x0d",
        b"\xfe\x80",
        b"\xc0\x00\x80",
        b"\xf0\xff\xff\x7f",
        b"\xf0\x00\x00\x80",
        b"\xd0\xff\xff\xff\x7f",
        b"\xe0\x00\x00\x00\x00\x00\x00\x00\x80",
        b"\xe0\xff\xff\xff\xff\xff\xff\xff\x7f",
    ];
    let mut elements = vec![vec![], b"hi".to_vec(), vec![b'm'; 300], b"12".to_vec(), vec![b'l'; 0x4001]];
    elements.extend(words("0 12 13 -128 -32768 8388607 -8388608 2147483647 -9223372036854775808 9223372036854775807"));
    (ziplist_of(&encoded), elements)
}

/// Two pairs, unused bytes behind the first value, a field that needs a long length.
fn zipmap_by_hand() -> (Vec<u8>, Vec<Vec<u8>>) {
    let bytes = [&b"\x02\x01a\x02\x0312\0\0\0\xfe\xfe\0\0\0"[..], &[b'f'; 254], b"\0\0\xff"].concat();
    (bytes, vec![b"a".to_vec(), b"12".to_vec(), vec![b'f'; 254], vec![]])
}

#[test]
fn what_redis_dumps_is_read_and_written_the_same() {
    let stream = words("3 0 2 f g 0 2 0 0 v 1 5 2 0 1 w 2 5 0 1 -1 1 q 300 6");
    for (dump, elements) in [
        (golden::HASH, words("field value n -5 big 9223372036854775807 f 007")),
        (golden::ZSET, words("n -3 m 1.5 o inf")),
        (golden::LIST, edges()),
        (golden::STREAM, stream),
    ] {
        let bytes = inside(&hex(dump));
        assert_eq!(listpack(&bytes), Ok(elements.clone()), "{dump}");
        assert_eq!(written(&elements), bytes, "{dump}");
    }
    for (dump, numbers) in [
        (golden::INTSET_16, vec![-2, 3, 32767]),
        (golden::INTSET_32, vec![-70000, 3]),
        (golden::INTSET_64, vec![i64::MIN, 3, i64::MAX]),
    ] {
        assert_eq!(intset(&inside(&hex(dump))), Ok(numbers), "{dump}");
    }
}

#[test]
fn ziplists_and_zipmaps_are_read() {
    assert_eq!(
        ziplist(b"\x12\0\0\0\x0d\0\0\0\x02\0\0\x01x\x03\xfe\xff\xff"),
        Err("ziplist has another length than it says")
    );
    assert_eq!(ziplist(b"\x11\0\0\0\x0d\0\0\0\x02\0\0\x01x\x03\xfe\xff\xff"), Ok(words("x -1")));
    let (bytes, elements) = ziplist_of_all_encodings();
    assert_eq!(ziplist(&bytes), Ok(elements));
    let (bytes, elements) = zipmap_by_hand();
    assert_eq!(zipmap(&bytes), Ok(elements.clone()));
    for pairs in [1, 3, 253] {
        assert!(zipmap(&[&[pairs], &bytes[1..]].concat()).is_err(), "{pairs} pairs");
    }
    assert_eq!(zipmap(&[&[254], &bytes[1..]].concat()), Ok(elements), "pairs that have to be counted");
}

#[test]
fn empty_and_uncounted_values_are_read() {
    assert_eq!(listpack(&written(&[])), Ok(vec![]));
    assert_eq!(ziplist(&ziplist_of(&[])), Ok(vec![]));
    assert_eq!(zipmap(b"\0\xff"), Ok(vec![]));
    assert_eq!(intset(b"\x02\0\0\0\0\0\0\0"), Ok(vec![]));
    for count in [65_534, 65_535, 65_536, 70_000] {
        let elements = vec![b"1".to_vec(); count];
        let bytes = written(&elements);
        assert_eq!(u16::from_le_bytes([bytes[4], bytes[5]]), count.min(0xffff) as u16);
        assert_eq!(listpack(&bytes).expect("our own").len(), count);
        assert_eq!(ziplist(&ziplist_of(&vec![&b"\xf2"[..]; count])).expect("by hand").len(), count);
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let listpack_of = |len: i32, count: u16, body: &[u8]| {
        listpack(&[&(body.len() as i32 + 6 + len).to_le_bytes()[..], &count.to_le_bytes(), body].concat())
    };
    let good = b"\x81a\x02\x01\x01\xff";
    assert_eq!(listpack_of(0, 2, good), Ok(words("a 1")));
    for (len, count) in [(0, 1), (0, 3), (0, 65_534), (1, 2), (-1, 2)] {
        assert!(listpack_of(len, count, good).is_err(), "{len} {count}");
    }
    let others: [&[u8]; 10] = [
        b"",
        b"\x01\x01",
        b"\x81a\x02",
        b"\xff\xff",
        b"\x81a\x03\xff",
        b"\x81a\x82\xff",
        b"\x81a\xff",
        b"\xbfa\x02\xff",
        b"\xf0\xff\xff\xff\xff\xff",
        b"\xc0\xff",
    ];
    others.iter().for_each(|body| assert!(listpack_of(0, 0xffff, body).is_err(), "{body:x?}"));
    for first in 0xf5..=0xfe {
        assert!(listpack_of(0, 0xffff, &[first, 1, 0xff]).is_err(), "encoding {first:#x}");
    }
    for width in [0u32, 1, 3, 16, u32::MAX] {
        assert!(intset(&[width.to_le_bytes(), [0; 4]].concat()).is_err(), "width {width}");
    }
    for numbers in [[1u16, 1], [2, 1], [0, 0xffff]] {
        let bytes: Vec<u8> = [2, 0, 2, 0].iter().chain(&numbers).flat_map(|n: &u16| n.to_le_bytes()).collect();
        assert_eq!(intset(&bytes), Err("intset is not in order"), "{numbers:?}");
    }
    assert!(zipmap(b"\xfe\x01a\xff").is_err() && zipmap(b"\0\xff\xff").is_err() && zipmap(b"\0").is_err());
}

/// A packed value, the type of an RDB value that is just this, and its reader.
type Sample = (Vec<u8>, u8, fn(&[u8]) -> Result<Vec<Vec<u8>>>);

fn texts_of_intset(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    Ok(intset(bytes)?.into_iter().map(text).collect())
}

fn samples() -> Vec<Sample> {
    let listpacks = [golden::HASH, golden::ZSET, golden::LIST, golden::STREAM];
    let intsets = [golden::INTSET_16, golden::INTSET_32, golden::INTSET_64];
    let mut samples: Vec<Sample> = listpacks.iter().map(|dump| (inside(&hex(dump)), LIST, listpack as _)).collect();
    samples.push((written(&[vec![b'm'; 300], vec![b'l'; 5000]]), LIST, listpack));
    samples.extend(intsets.iter().map(|dump| (inside(&hex(dump)), SET_INTSET, texts_of_intset as _)));
    samples.push((ziplist_of_all_encodings().0, LIST_ZIPLIST, ziplist));
    samples.push((zipmap_by_hand().0, HASH_ZIPMAP, zipmap));
    samples
}

/// Each bit turned around, but for those in the long strings of one letter.
fn flipped(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let places = (0..bytes.len()).filter(|&i| !b"lmf".contains(&bytes[i]) || i % 97 == 0);
    places.flat_map(|i| (0..8).map(move |bit| (i, 1 << bit))).map(|(i, bit)| {
        let mut damaged = bytes.to_vec();
        damaged[i] ^= bit;
        damaged
    })
}

#[test]
fn damaged_values_are_refused_or_read() {
    for (bytes, kind, read) in samples() {
        assert!(read(&bytes).is_ok());
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "type {kind}, {len} bytes");
        }
        assert!(read(&[&bytes[..], b"\xff"].concat()).is_err(), "type {kind}, one byte more");
        let refused = flipped(&bytes).filter(|damaged| read(damaged).is_err()).count();
        assert!(refused > 0, "type {kind}");
    }
}

fn element() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..80),
        3 => (any::<i64>(), 0u32..64).prop_map(|(n, shift)| text(n >> shift)),
        1 => "[-+]?[0-9]{1,21}".prop_map(String::into_bytes),
        1 => (any::<u8>(), 4000usize..20_000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

proptest! {
    #[test]
    fn listpacks_read_back(elements in prop::collection::vec(element(), 0..60)) {
        prop_assert_eq!(listpack(&written(&elements)), Ok(elements));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let len = |header: usize| (bytes.len() as u32 + header as u32).to_le_bytes();
        let headed = [&len(6)[..], &[0xff; 2], &bytes].concat();
        let ziplist_headed = [&len(10)[..], &[10, 0, 0, 0, 0xff, 0xff, 0], &bytes[..bytes.len().saturating_sub(1)]].concat();
        for bytes in [&bytes, &headed, &ziplist_headed] {
            for read in [listpack, ziplist, zipmap, texts_of_intset] {
                if let Ok(elements) = read(bytes) {
                    let held: usize = elements.iter().map(Vec::len).sum();
                    prop_assert!(elements.len() <= bytes.len() && held <= bytes.len() * 3);
                }
            }
        }
    }
}
