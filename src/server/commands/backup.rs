//! CLUSTER BACKUP: a snapshot of a group that this node leads, over a client's connection.
//!
//! `CLUSTER BACKUP group` takes it and says at which entry it stands; each `CLUSTER BACKUP NEXT` then gives the next
//! piece, an empty one at its end. The file is open as long as the connection, or until the next one is taken, so
//! newer snapshots of the node do not disturb it. `quoris admin backup` asks for all groups and checks what it got.

use std::{
    io::{self, Read},
    sync::Arc,
};

use parking_lot::Mutex;
use quoris_raft::{GroupCopy, GroupId};
use quoris_resp::{Argv, Reply};

use super::{Served, integer, word};
use crate::client::Client;

/// Bytes of a piece.
const PIECE_BYTES: u64 = 1 << 20;

pub(super) async fn run(client: &mut Client, argv: &Argv) -> Served {
    if word(argv, 2) == "next" {
        return next(client).await;
    }
    let group = match integer(argv, 2).map(u32::try_from) {
        Ok(Ok(group)) => GroupId(group),
        Ok(Err(_)) => return Served::error("ERR there is no such group"),
        Err(reply) => return reply.into(),
    };
    client.copy = None;
    match client.server.node.copy_group(group).await {
        Ok(copy) => {
            let numbers = [("index", copy.index), ("term", copy.term), ("bytes", copy.bytes)];
            client.copy = Some(Arc::new(Mutex::new(copy)));
            Reply::Map(numbers.map(|(name, n)| (Reply::bulk(name), Reply::Int(n as i64))).into()).into()
        }
        Err(error) => Served::error(format!("ERR {error}")),
    }
}

async fn next(client: &Client) -> Served {
    let Some(copy) = client.copy.clone() else {
        return Served::error("ERR no snapshot was taken on this connection: CLUSTER BACKUP group");
    };
    let read = tokio::task::spawn_blocking(move || piece(&mut copy.lock())).await;
    match read.map_err(io::Error::other).flatten() {
        Ok(piece) => Reply::Bulk(piece.into()).into(),
        Err(error) => Served::error(format!("ERR the snapshot cannot be read: {error}")),
    }
}

fn piece(copy: &mut GroupCopy) -> io::Result<Vec<u8>> {
    let mut piece = Vec::new();
    (&mut copy.source).take(PIECE_BYTES).read_to_end(&mut piece)?;
    Ok(piece)
}
