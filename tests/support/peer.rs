//! The greeting and the frames of a false peer, written down a second time.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// First bytes of a connection; a random number of 32 bytes and the proof follow.
const MAGIC: &[u8; 8] = b"QUORIS\x00\x05";
/// A frame begins with its length, checksum, kind and id.
pub const HEAD_BYTES: usize = 17;

/// A frame with the checksum that it should have.
pub fn frame(kind: u8, id: u64, body: &[u8]) -> Vec<u8> {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&[kind]);
    digest.update(&id.to_le_bytes());
    digest.update(body);
    let (len, sum) = (body.len() as u32, digest.finalize() as u32);
    [&len.to_le_bytes()[..], &sum.to_le_bytes(), &[kind], &id.to_le_bytes(), body].concat()
}

/// Shows, as the end that has dialled, that the cluster has no secret.
///
/// # Errors
/// When the node ends the connection or does not accept the proof.
pub fn prove(stream: &mut TcpStream) -> io::Result<()> {
    let (mut theirs, mut shown, own) = ([0; MAGIC.len() + 32], [0; 32], [7; 32]);
    stream.write_all(&[&MAGIC[..], &own].concat())?;
    stream.read_exact(&mut theirs)?;
    let mut proof = Hmac::<Sha256>::new_from_slice(b"").expect("a key may have any length");
    for bytes in [&MAGIC[..], &[1], &own, &theirs[MAGIC.len()..]] {
        proof.update(bytes);
    }
    stream.write_all(&proof.finalize().into_bytes())?;
    stream.read_exact(&mut shown)?;
    if shown == [0; 32] { Err(io::Error::other("the proof was wrong")) } else { Ok(()) }
}
