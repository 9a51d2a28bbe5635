//! Commands from a client: however the bytes are split the same commands come out, and the same error.

use bytes::BytesMut;
use quoris_resp::{Argv, Decoder, Limits, Protocol, Reply, ReplyDecoder, encode};

/// Bytes per read.
const STEPS: [usize; 4] = [1, 2, 7, 64];

/// First byte: limits. Rest: what the client sends.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, input)) = data.split_first() else { return };
    let limits = Limits {
        authenticated: choice & 1 == 0,
        bulk_bytes_max: if choice & 2 == 0 { 512 << 20 } else { 64 },
        ..Limits::default()
    };
    let whole = commands(input, input.len().max(1), &limits);
    for step in STEPS {
        assert_eq!(commands(input, step, &limits), whole, "split into {step}");
    }
    replies(input);
}

/// The commands in front of the first error, and the error.
fn commands(input: &[u8], step: usize, limits: &Limits) -> (Vec<Argv>, Option<String>) {
    let (mut decoder, mut buffer, mut found) = (Decoder::default(), BytesMut::new(), Vec::new());
    for chunk in input.chunks(step) {
        buffer.extend_from_slice(chunk);
        loop {
            match decoder.decode(&mut buffer, limits) {
                Ok(Some(argv)) => {
                    assert_eq!(Argv::parse(argv.frame().clone()).as_ref(), Ok(&argv), "frames are canonical");
                    found.push(argv);
                }
                Ok(None) => break,
                Err(error) => {
                    let mut line = BytesMut::new();
                    encode(&error.reply(), Protocol::Resp2, &mut line);
                    let ends = line.iter().filter(|b| **b == b'\n').count();
                    assert_eq!(ends, 1, "an error is one line: {line:?}");
                    return (found, Some(error.to_string()));
                }
            }
        }
        assert!(decoder.missing(buffer.len()) <= limits.bulk_bytes_max as usize + 2);
    }
    (found, None)
}

/// The same bytes as replies, as sessions and tools read them: what is understood is printed, and reads back
/// as something that is printed alike. (A line loses its stray line ends when it is printed.)
fn replies(input: &[u8]) {
    let print = |reply: &Reply| {
        let mut printed = BytesMut::new();
        encode(reply, Protocol::Internal, &mut printed);
        printed
    };
    let mut buffer = BytesMut::from(input);
    while let Ok(Some(reply)) = ReplyDecoder::decode(&mut buffer) {
        let printed = print(&reply);
        let mut rest = printed.clone();
        let again = ReplyDecoder::decode(&mut rest).expect("our own bytes").expect("whole");
        assert!(rest.is_empty());
        assert_eq!(print(&again), printed, "a reply reads back");
    }
}
