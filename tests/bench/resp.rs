//! The RESP side of the load, without any socket: requests that are encoded once and patched,
//! and checks of replies that neither allocate nor build values.
//!
//! A batch of P requests is one byte string. Sending the next batch means writing new key digits
//! and new value bytes over the old ones, so the client's cost per request is a few copies, the
//! same for every server that is measured.
//!
//! Invariants:
//! * every request of a batch has the same length, so request `i` starts at `i * request_bytes`;
//! * a reply is either exactly what was expected, or not yet complete, or an error: nothing is
//!   skipped, so a wrong reply cannot count as an operation.

use crate::random::{KEYS, Random, VALUE_BYTES, ValuePool};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Command {
    Set,
    Get,
    /// Messages from one publisher to so many subscribers, see `messages.rs`.
    Publish(usize),
}

impl Command {
    pub fn name(self) -> &'static str {
        match self {
            Command::Set => "SET",
            Command::Get => "GET",
            Command::Publish(_) => "PUBLISH",
        }
    }
}

/// `key:` and twelve digits, as redis-benchmark names its keys.
pub const KEY_BYTES: usize = 16;
const KEY_DIGITS: usize = 12;
const WAIT_ONE: &[u8] = b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n";
/// Longer lines than this are no reply to anything that is sent here.
const LINE_BYTES_MAX: usize = 4096;

/// The key with number `index`, as bytes.
pub fn key(index: u64) -> [u8; KEY_BYTES] {
    let mut key = *b"key:000000000000";
    write_digits(&mut key[KEY_BYTES - KEY_DIGITS..], index);
    key
}

/// Writes `number` in decimal, right-aligned and padded with zeroes.
fn write_digits(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// One batch of requests, encoded once and patched before every send.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    command: Command,
    pipeline: usize,
    request_bytes: usize,
    key_at: usize,
    value_at: usize,
    wait: bool,
}

impl Batch {
    /// A batch of `pipeline` requests; with `wait`, one `WAIT 1 0` follows them.
    pub fn new(command: Command, pipeline: usize, wait: bool) -> Batch {
        let key = key(0);
        let value = [b'x'; VALUE_BYTES];
        let argv: &[&[u8]] = match command {
            Command::Set => &[b"SET", &key, &value],
            Command::Get => &[b"GET", &key],
            Command::Publish(_) => unreachable!("messages are no batches"),
        };
        let mut request = Vec::new();
        encode(&mut request, argv);
        let key_at = position(&request, b"key:") + KEY_BYTES - KEY_DIGITS;
        let value_at = match command {
            Command::Set => request.len() - VALUE_BYTES - 2,
            Command::Get | Command::Publish(_) => 0,
        };
        let mut bytes = request.repeat(pipeline);
        if wait {
            bytes.extend_from_slice(WAIT_ONE);
        }
        let request_bytes = request.len();
        Batch { bytes, command, pipeline, request_bytes, key_at, value_at, wait }
    }

    /// Writes a key and a value into every request and returns the bytes to send.
    pub fn fill(&mut self, keys: &mut Keys, random: &mut Random, values: &ValuePool) -> &[u8] {
        for index in 0..self.pipeline {
            let request = &mut self.bytes[index * self.request_bytes..][..self.request_bytes];
            let digits = &mut request[self.key_at..][..KEY_DIGITS];
            // KEYS has six digits: the others stay zero.
            write_digits(&mut digits[KEY_DIGITS - 6..], keys.next(random));
            if self.command == Command::Set {
                request[self.value_at..][..VALUE_BYTES].copy_from_slice(values.pick(random));
            }
        }
        &self.bytes
    }

    /// The number of requests that count as operations.
    pub fn operations(&self) -> usize {
        self.pipeline
    }

    /// The number of replies that a batch brings, WAIT's included.
    pub fn replies(&self) -> usize {
        self.pipeline + usize::from(self.wait)
    }

    pub fn has_wait(&self) -> bool {
        self.wait
    }

    /// What the reply with this number within the batch must be.
    pub fn expected(&self, index: usize) -> Expected {
        match self.command {
            _ if index >= self.pipeline => Expected::AtLeastOne,
            Command::Set => Expected::Ok,
            Command::Get | Command::Publish(_) => Expected::Value,
        }
    }
}

/// Which keys a load touches.
#[derive(Debug)]
pub enum Keys {
    Random,
    /// Every key once, from this one on; starts again after the last.
    Sequential(u64),
}

impl Keys {
    pub fn next(&mut self, random: &mut Random) -> u64 {
        match self {
            Keys::Random => random.below(KEYS),
            Keys::Sequential(next) => {
                let key = *next;
                *next = (key + 1) % KEYS;
                key
            }
        }
    }
}

/// The one reply that is right at a place in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// `+OK`
    Ok,
    /// A bulk string of `VALUE_BYTES`.
    Value,
    /// An integer of at least 1: a replica has acknowledged.
    AtLeastOne,
}

/// Looks at the first reply in `input`: `Ok(Some(bytes))` when it is complete and right,
/// `Ok(None)` when more bytes are needed, `Err` with the reply's text when it is wrong.
pub fn check(expected: Expected, input: &[u8]) -> Result<Option<usize>, String> {
    const VALUE_HEAD: &[u8] = b"$64\r\n";
    const VALUE_REPLY: usize = VALUE_HEAD.len() + VALUE_BYTES + 2;
    match expected {
        Expected::Ok if input.starts_with(b"+OK\r\n") => Ok(Some(5)),
        Expected::Value if input.starts_with(VALUE_HEAD) => {
            if input.len() < VALUE_REPLY {
                return Ok(None);
            }
            match &input[VALUE_REPLY - 2..VALUE_REPLY] {
                b"\r\n" => Ok(Some(VALUE_REPLY)),
                _ => Err("a value without its line end".to_owned()),
            }
        }
        _ => check_line(expected, input),
    }
}

/// The slow way: the reply is incomplete, an integer, or wrong.
fn check_line(expected: Expected, input: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = input.windows(2).position(|two| two == b"\r\n") else {
        if input.len() > LINE_BYTES_MAX {
            return Err("a line without end".to_owned());
        }
        return Ok(None);
    };
    let line = String::from_utf8_lossy(&input[..end]);
    if expected == Expected::AtLeastOne
        && let Some(number) = line.strip_prefix(':')
        && number.parse::<i64>().is_ok_and(|number| number >= 1)
    {
        return Ok(Some(end + 2));
    }
    Err(format!("the reply `{line}` where {expected:?} was expected"))
}

/// Appends a command as a RESP array of bulk strings.
pub fn encode(out: &mut Vec<u8>, argv: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", argv.len()).as_bytes());
    for argument in argv {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

fn position(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).position(|window| window == needle).expect("the template has it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = Vec::new();
        encode(&mut out, &[b"WAIT", b"1", b"0"]);
        assert_eq!(out, WAIT_ONE);
    }

    #[test]
    fn a_key_has_sixteen_bytes() {
        assert_eq!(&key(0), b"key:000000000000");
        assert_eq!(&key(99_999), b"key:000000099999");
    }

    #[test]
    fn a_filled_batch_holds_one_valid_request_after_another() {
        let (mut random, values) = (Random::new(1), ValuePool::new(2));
        let mut batch = Batch::new(Command::Set, 3, true);
        let mut keys = Keys::Sequential(KEYS - 2);
        let bytes = batch.fill(&mut keys, &mut random, &values).to_vec();
        let text = String::from_utf8(bytes).expect("printable");
        let requests: Vec<&str> = text.split("*3\r\n").skip(1).collect();
        assert_eq!(requests.len(), 4);
        for (request, number) in requests.iter().zip(["000000099998", "000000099999", "000000000000"]) {
            let fields: Vec<&str> = request.split("\r\n").collect();
            assert_eq!(fields[..4], ["$3", "SET", "$16", format!("key:{number}").as_str()]);
            assert_eq!((fields[4], fields[5].len()), ("$64", VALUE_BYTES));
        }
        assert!(text.as_bytes().ends_with(WAIT_ONE));
        assert_eq!((batch.operations(), batch.replies()), (3, 4));
        assert_eq!(batch.expected(2), Expected::Ok);
        assert_eq!(batch.expected(3), Expected::AtLeastOne);
    }

    #[test]
    fn a_shorter_key_leaves_no_digits_of_the_longer_one() {
        let (mut random, values) = (Random::new(1), ValuePool::new(2));
        let mut batch = Batch::new(Command::Get, 1, false);
        batch.fill(&mut Keys::Sequential(87_654), &mut random, &values);
        let bytes = batch.fill(&mut Keys::Sequential(3), &mut random, &values);
        assert_eq!(bytes, b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000003\r\n");
    }

    #[test]
    fn right_replies_are_consumed_and_split_ones_waited_for() {
        let value = [b"$64\r\n".as_slice(), &[b'v'; 64], b"\r\n"].concat();
        let cases =
            [(Expected::Ok, b"+OK\r\n".to_vec()), (Expected::Value, value), (Expected::AtLeastOne, b":2\r\n".to_vec())];
        for (expected, reply) in cases {
            for cut in 0..reply.len() {
                assert_eq!(check(expected, &reply[..cut]), Ok(None), "{expected:?} cut at {cut}");
            }
            let followed = [reply.as_slice(), b"+O"].concat();
            assert_eq!(check(expected, &followed), Ok(Some(reply.len())));
        }
    }

    #[test]
    fn wrong_replies_are_errors() {
        for (expected, reply) in [
            (Expected::Ok, b"-MISCONF no\r\n".as_slice()),
            (Expected::Ok, b"+QUEUED\r\n"),
            (Expected::Value, b"$-1\r\n"),
            (Expected::Value, b"$63\r\n"),
            (Expected::AtLeastOne, b":0\r\n"),
            (Expected::AtLeastOne, b"+OK\r\n"),
        ] {
            assert!(check(expected, reply).is_err(), "{expected:?} took {reply:?}");
        }
        assert!(check(Expected::Ok, &[b'+'; LINE_BYTES_MAX + 1]).is_err());
    }
}
