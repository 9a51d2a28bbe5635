//! A false peer that asks a node for its vote.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::client::REPLY_TIME_MAX;
use super::greeting::{HEAD_BYTES, frame, prove};
use super::process::Cluster;

const HELLO: u8 = 1;
const REPLY: u8 = 2;
const VOTE: u8 = 7;
/// A term that no honest cluster reaches within a test.
const TERM: u64 = 1000;

/// A connection with the peer port of a node.
pub struct Peer(TcpStream);

impl Peer {
    /// Connects and greets; nothing when nobody listens.
    pub fn connect(cluster: &Cluster, node: usize) -> Option<Peer> {
        let mut stream = TcpStream::connect(("127.0.0.1", cluster.nodes[node].peer_port)).ok()?;
        stream.set_read_timeout(Some(REPLY_TIME_MAX)).ok()?;
        prove(&mut stream).ok()?;
        Some(Peer(stream))
    }

    /// The body of the next frame, behind the byte of its kind.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        let mut head = [0; HEAD_BYTES];
        self.0.read_exact(&mut head).ok()?;
        let mut body = vec![0; u32::from_le_bytes(head[..4].try_into().ok()?) as usize + 1];
        body[0] = head[8];
        self.0.read_exact(&mut body[1..]).ok()?;
        Some(body)
    }

    /// Introduces itself with the words of another and asks for a vote in the meta group, as if its leader handed
    /// over. In it, and in no other, a replica has the id of its node.
    /// Whether it was given; nothing when the node cannot answer that yet.
    pub fn ask_vote(mut self, hello: &[u8], voter: usize) -> Option<bool> {
        self.send(HELLO, &hello[1..])?;
        self.next()?;
        // Group, replica; the vote: term, replica, not committed; the last entry: there is one, term, replica,
        // index; a leader hands over.
        let replica = voter as u64 + 1;
        let (term, own) = (TERM.to_le_bytes(), (replica % 3 + 1).to_le_bytes());
        let target = [&0_u32.to_le_bytes()[..], &replica.to_le_bytes()].concat();
        let last = [&[1][..], &term, &own, &u64::from(u32::MAX).to_le_bytes()].concat();
        self.send(VOTE, &[&target[..], &term, &own, &[0], &last, &[1]].concat())?;
        let reply = self.next()?;
        // The voter's vote, and whether it is for the one who asked.
        (reply[0] == REPLY).then(|| reply[1 + 8 + 8 + 1] == 1)
    }

    fn send(&mut self, kind: u8, body: &[u8]) -> Option<()> {
        self.0.write_all(&frame(kind, 1, body)).ok()
    }
}
