//! Frames on their way out: many per system call, and a large one in turns.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::wire::{Frame, TURN_BYTES};

/// The writer gathers about this many bytes into one system call.
const WRITE_BYTES: usize = 1 << 20;

/// A part of at most this many bytes is copied rather than counted, carried and handed to the kernel by itself.
const SMALL_BYTES: usize = 4 << 10;

/// The same bytes in fewer parts: small ones that follow each other become one.
pub fn gather<'a>(parts: impl IntoIterator<Item = &'a Bytes>) -> Vec<Bytes> {
    let (mut gathered, mut small) = (Vec::new(), BytesMut::new());
    for part in parts {
        if part.len() <= SMALL_BYTES {
            small.extend_from_slice(part);
            continue;
        }
        if !small.is_empty() {
            gathered.push(std::mem::take(&mut small).freeze());
        }
        gathered.push(part.clone());
    }
    if !small.is_empty() {
        gathered.push(small.freeze());
    }
    gathered
}

/// Writes queued frames, many per system call, until the queue or the stream ends.
pub async fn write_frames(mut queue: mpsc::Receiver<Frame>, mut stream: impl AsyncWrite + Unpin) -> io::Result<()> {
    while let Some(first) = queue.recv().await {
        // Whoever woke together with the sender, as the groups do that tick together, has something to add.
        tokio::task::yield_now().await;
        let mut parts = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(frame) = next {
            parts.push(frame.head());
            parts.extend(frame.body.into_iter().filter(|p| !p.is_empty()));
            bytes += parts.iter().rev().take(2).map(Bytes::len).sum::<usize>();
            next = if bytes < WRITE_BYTES && parts.len() < 512 { queue.try_recv().ok() } else { None };
        }
        write_parts(&mut stream, gather(&parts)).await?;
    }
    Ok(())
}

async fn write_parts(stream: &mut (impl AsyncWrite + Unpin), mut parts: Vec<Bytes>) -> io::Result<()> {
    let (mut from, mut turn) = (0, 0);
    while from < parts.len() {
        let slices: Vec<io::IoSlice<'_>> = parts[from..].iter().take(64).map(|p| io::IoSlice::new(p)).collect();
        let mut written = stream.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        turn += written;
        while written > 0 {
            let len = parts[from].len();
            if written >= len {
                written -= len;
                from += 1;
            } else {
                parts[from].advance(written);
                written = 0;
            }
        }
        if turn >= TURN_BYTES {
            turn = 0;
            tokio::task::yield_now().await;
        }
    }
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_parts_become_one_and_large_ones_are_not_copied() {
        let part = |len: usize| Bytes::from(vec![b'x'; len]);
        let parts = [part(1), part(SMALL_BYTES), part(SMALL_BYTES + 1), part(0), part(7)];
        let gathered = gather(&parts);
        assert_eq!(gathered.iter().map(Bytes::len).collect::<Vec<_>>(), [SMALL_BYTES + 1, SMALL_BYTES + 1, 7]);
        assert_eq!(gathered[1].as_ptr(), parts[2].as_ptr());
        assert_eq!(gathered.concat(), parts.concat());
    }
}
