//! What a peer sends: any bytes are read to the same end however they arrive.

use quoris_raft::hostile;

use crate::feed::Feed;

/// Odd first byte: the rest as it is. Even: messages, each with kind, id and length, that get their head
/// and the right checksum.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let stream = if choice & 1 == 1 { bytes.to_vec() } else { sealed(bytes) };
    let whole = hostile::read(&stream, &[]);
    let (first, second) = stream.split_at(stream.len() * usize::from(choice) / 256);
    assert_eq!(hostile::read(first, second), whole, "split at {}", first.len());
}

fn sealed(bytes: &[u8]) -> Vec<u8> {
    let (mut feed, mut stream) = (Feed(bytes), Vec::new());
    while !feed.is_empty() {
        let (kind, id) = (feed.byte() % 18, u64::from(feed.byte()));
        stream.extend(hostile::seal(kind, id, feed.bytes(1000)).into_iter().flatten());
    }
    stream
}
