//! The greeting of a false peer, written down a second time.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// First bytes of a connection; a random number of 32 bytes and the proof follow.
const MAGIC: &[u8; 8] = b"QUORIS\x00\x02";

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
