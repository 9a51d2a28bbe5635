//! Frames on their way out: many per system call, and a large one in turns.

use std::io;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::wire::{Frame, TURN_BYTES};

/// The writer gathers about this many bytes into one system call.
const WRITE_BYTES: usize = 1 << 20;

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
        write_parts(&mut stream, parts).await?;
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
