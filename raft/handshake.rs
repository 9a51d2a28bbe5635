//! The first bytes of a connection between nodes: who is there, and may it be?
//!
//! Both ends send a magic and a random number; then each proves with them that it knows the
//! `cluster-secret`, the one that dialled first; only then do they say who they are. A stranger is
//! dropped before anything of it is parsed, and learns nothing but that it is one. Without a secret the
//! same goes on with an empty one, which keeps out only other protocols and typing errors.
//!
//! Invariants: nothing that a peer sends is interpreted before its proof was checked; the two proofs
//! differ, so that none can be sent back; a hello has a small limit of its own.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lives::{Heard, is_given_up};
use crate::node::{Inner, Node};
use crate::runtime::random_u64;
use crate::seam::Stream;
use crate::types::NodeId;
use crate::wire::{Frame, HELLO_BYTES_MAX, Hello, Kind, MAGIC, message, part, read_frame_within};

const NONCE_BYTES: usize = 32;
const PROOF_BYTES: usize = 32;
/// Of so many refused peers one is said.
const REFUSED_PER_LINE: u64 = 100;

/// Which end of a connection this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// It connects.
    Dials = 1,
    /// It listens.
    Accepts = 2,
}

/// Who greets a peer.
pub trait Greeter: Send + Sync + 'static {
    /// What this node says of itself.
    fn hello(&self) -> Hello;
    /// What all nodes of the cluster know and nobody else.
    fn secret(&self) -> &str;
    /// Decides about a peer that knows the secret.
    ///
    /// # Errors
    /// When it must not be talked to.
    fn meet(&self, peer: &Hello) -> io::Result<()>;
}

fn refused(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, text.into())
}

fn nonce() -> [u8; NONCE_BYTES] {
    // Hashed, so that it tells nothing about the generator that it comes from.
    let mut hash = Sha256::new();
    (0..4).for_each(|_| hash.update(random_u64().to_le_bytes()));
    hash.finalize().into()
}

/// What an end proves with; the numbers in the order of the ends.
struct Proofs<'a> {
    secret: &'a str,
    dialled: [u8; NONCE_BYTES],
    accepted: [u8; NONCE_BYTES],
}

impl Proofs<'_> {
    fn mac(&self, of: Side) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("a key may have any length");
        for bytes in [MAGIC.as_slice(), &[of as u8], &self.dialled, &self.accepted] {
            mac.update(bytes);
        }
        mac
    }

    fn of(&self, side: Side) -> [u8; PROOF_BYTES] {
        self.mac(side).finalize().into_bytes().into()
    }
}

/// Greets the peer at the other end.
///
/// # Errors
/// With `PermissionDenied` when it is none of this cluster; the text says why.
pub async fn shake_hands(
    stream: &mut Box<dyn Stream>,
    buffer: &mut BytesMut,
    greeter: &dyn Greeter,
    side: Side,
) -> io::Result<Hello> {
    let met = greet(stream, buffer, greeter, side).await;
    if let Err(e) = &met
        && e.kind() == io::ErrorKind::PermissionDenied
    {
        say_refused(e);
    }
    met
}

/// Somebody was turned away; said now and then, however often it knocks.
fn say_refused(why: &io::Error) {
    static REFUSED: AtomicU64 = AtomicU64::new(0);
    let times = REFUSED.fetch_add(1, Ordering::Relaxed);
    if times.is_multiple_of(REFUSED_PER_LINE) {
        tracing::warn!(%why, times = times + 1, "a connection between nodes was refused");
    }
}

async fn greet(
    stream: &mut Box<dyn Stream>,
    buffer: &mut BytesMut,
    greeter: &dyn Greeter,
    side: Side,
) -> io::Result<Hello> {
    // Who ends it within the proof says as much as who resets it.
    prove(stream, greeter.secret(), side).await.map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => io::ErrorKind::ConnectionReset.into(),
        _ => e,
    })?;
    let own = Frame { kind: Kind::Hello, id: 0, body: vec![part(&greeter.hello())] };
    stream.write_all(&own.head()).await?;
    stream.write_all(&own.body[0]).await?;
    stream.flush().await?;
    let frame = read_frame_within(stream, buffer, HELLO_BYTES_MAX).await?;
    let frame = frame.ok_or_else(|| io::Error::new(io::ErrorKind::ConnectionReset, "the peer ended the handshake"))?;
    if frame.kind != Kind::Hello {
        return Err(io::Error::other("the peer did not introduce itself"));
    }
    let peer: Hello = message(&frame.body[0])?;
    greeter.meet(&peer)?;
    Ok(peer)
}

async fn prove(stream: &mut Box<dyn Stream>, secret: &str, side: Side) -> io::Result<()> {
    let own = nonce();
    stream.write_all(&[MAGIC.as_slice(), own.as_slice()].concat()).await?;
    stream.flush().await?;
    let mut magic = [0; MAGIC.len()];
    stream.read_exact(&mut magic).await?;
    if magic != MAGIC {
        return Err(refused("the peer speaks another protocol, or another version of it"));
    }
    let mut theirs = [0; NONCE_BYTES];
    stream.read_exact(&mut theirs).await?;
    let (dialled, accepted) = if side == Side::Dials { (own, theirs) } else { (theirs, own) };
    let proofs = Proofs { secret, dialled, accepted };
    if side == Side::Dials {
        stream.write_all(&proofs.of(Side::Dials)).await?;
        stream.flush().await?;
    }
    let mut shown = [0; PROOF_BYTES];
    stream.read_exact(&mut shown).await?;
    let other = if side == Side::Dials { Side::Accepts } else { Side::Dials };
    let right = proofs.mac(other).verify_slice(&shown).is_ok();
    if side == Side::Accepts {
        // A wrong one is answered in kind, so that a node with another secret hears why.
        let answer = if right { proofs.of(Side::Accepts) } else { [0; PROOF_BYTES] };
        stream.write_all(&answer).await?;
        stream.flush().await?;
    }
    if right { Ok(()) } else { Err(refused("the peer has another cluster-secret")) }
}

impl Greeter for Inner {
    fn hello(&self) -> Hello {
        let identity = self.identity.load();
        let identity = identity.as_ref().as_ref();
        Hello {
            cluster: identity.map_or(0, |i| i.topology.cluster),
            name: self.config.cluster_name.clone(),
            node: identity.map_or(NodeId(0), |i| i.node),
            boot: self.boot,
            client_addr: self.config.client_addr.clone(),
            lives: identity.map_or_else(BTreeMap::new, |_| self.lives.known()),
        }
    }

    fn secret(&self) -> &str {
        &self.config.secret
    }

    fn meet(&self, peer: &Hello) -> io::Result<()> {
        if peer.name != self.config.cluster_name {
            return Err(refused(format!(
                "the peer belongs to cluster-name {:?}, this node to {:?}",
                peer.name, self.config.cluster_name
            )));
        }
        let identity = self.identity.load();
        let Some(own) = identity.as_ref().as_ref() else { return Ok(()) };
        let cluster = own.topology.cluster;
        if peer.cluster == 0 {
            return Ok(());
        }
        if peer.cluster != cluster {
            return Err(refused(format!(
                "the peer belongs to cluster {:032x}, this node to {cluster:032x}: one of the two has the data folder of another cluster",
                peer.cluster
            )));
        }
        match self.lives.hear(own.node, peer.node, &peer.lives)? {
            Heard::Well => Ok(()),
            Heard::PeerIsOld { starts, seen } => Err(refused(older(peer.node, starts, seen))),
            Heard::OwnIsOld { starts, seen } => {
                let text = older(own.node, starts, seen);
                self.health.failed.send_if_modified(|f| f.is_none() && f.replace(text.clone()).is_none());
                Err(refused(text))
            }
        }
    }
}

fn older(node: NodeId, starts: u64, seen: u64) -> String {
    if is_given_up(seen) {
        return format!(
            "{node} was given up: its cluster went on without it (quoris admin group recover), and nothing that its data \
             folder holds counts any more. Put that folder aside; with an empty one it can join again (--join)"
        );
    }
    format!(
        "the data folder of {node} is an older copy: by its own count it has started {starts} times, the cluster has seen \
         start {seen}. What {node} acknowledged since then is not in it. Put the newest folder back, or replace the node \
         (quoris admin node replace)"
    )
}

impl Greeter for Node {
    fn hello(&self) -> Hello {
        self.inner().hello()
    }

    fn secret(&self) -> &str {
        self.inner().secret()
    }

    fn meet(&self, peer: &Hello) -> io::Result<()> {
        self.inner().meet(peer)
    }
}
