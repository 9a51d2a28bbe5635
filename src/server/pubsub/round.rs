//! One batch on its way to the connections that listen.
//!
//! Invariants:
//! * messages for the same connections that stand behind each other are encoded once for each version of the protocol,
//!   shared, and handed over together;
//! * a batch is written to no more than [`WRITES_MAX`] sockets here, and to none more than once: Raft waits meanwhile,
//!   and whoever gets several pieces had better get them with one system call, from his own task.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

use bytes::{Bytes, BytesMut};
use quoris_engine::{events::Event, glob};
use quoris_raft::{GroupId, feed::Batch, interest::Kin};
use quoris_resp::{Protocol, encode_message};

use super::{Listener, State};
use crate::server::Server;

/// Messages that are handed over together have about so many bytes.
pub(super) const RUN_BYTES_MAX: usize = 64 << 10;
/// Sockets that are written to here. A write takes about 5 µs.
const WRITES_MAX: usize = 16;
/// What is longer is left to the connection's task.
const WRITE_BYTES_MAX: usize = 16 << 10;
/// Lengths and line ends of a message are not longer, unless it is huge.
const HEADERS_BYTES: usize = 48;

/// See the module.
pub(super) struct Round<'a> {
    state: &'a State,
    server: &'a Server,
    group: GroupId,
    index: u64,
    run: Option<Run<'a>>,
    /// Sockets that may still be written to.
    writes: usize,
}

/// Messages for the same connections, one behind the other.
struct Run<'a> {
    kin: Kin,
    /// The channel, or the pattern.
    name: Bytes,
    listeners: &'a BTreeMap<u64, Listener>,
    /// Channels and payloads.
    messages: Vec<(Bytes, Bytes)>,
    bytes: usize,
}

impl<'a> Round<'a> {
    pub(super) fn new(state: &'a State, server: &'a Server, batch: &Batch) -> Round<'a> {
        Round { state, server, group: batch.group, index: batch.index, run: None, writes: WRITES_MAX }
    }

    pub(super) fn hand_over(mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Moved { .. } | Event::Arrived { .. } => {}
                Event::Message { channel, payload, sharded: true } => self.tell(Kin::Shard, channel, payload),
                Event::Message { channel, payload, sharded: false } => self.tell_all(channel, payload),
                Event::Key { keyspace, keyevent, name, database, key, .. } => {
                    if *keyspace {
                        self.tell_all(&keyspace_channel(*database, key), &Bytes::from_static(name.as_bytes()));
                    }
                    if *keyevent {
                        self.tell_all(&format!("__keyevent@{database}__:{name}").into(), key);
                    }
                }
            }
        }
        self.flush();
    }

    fn tell_all(&mut self, channel: &Bytes, payload: &Bytes) {
        self.tell(Kin::Channel, channel, payload);
        let state = self.state;
        for (pattern, listeners) in &state.listeners[Kin::Pattern as usize] {
            if glob::matches(pattern, channel) {
                self.add(Kin::Pattern, pattern, listeners, (channel, payload));
            }
        }
    }

    fn tell(&mut self, kin: Kin, channel: &Bytes, payload: &Bytes) {
        let state = self.state;
        if let Some(listeners) = state.listeners[kin as usize].get(channel) {
            self.add(kin, channel, listeners, (channel, payload));
        }
    }

    fn add(
        &mut self,
        kin: Kin,
        name: &Bytes,
        listeners: &'a BTreeMap<u64, Listener>,
        (channel, payload): (&Bytes, &Bytes),
    ) {
        let fits = |run: &Run<'_>| run.kin == kin && run.name == *name && run.bytes < RUN_BYTES_MAX;
        if self.run.as_ref().is_some_and(|run| !fits(run)) {
            // There is more than one run.
            self.writes = 0;
            self.flush();
        }
        let new = || Run { kin, name: name.clone(), listeners, messages: Vec::new(), bytes: 0 };
        let run = self.run.get_or_insert_with(new);
        run.bytes += name.len() + channel.len() + payload.len() + HEADERS_BYTES;
        run.messages.push((channel.clone(), payload.clone()));
    }

    /// Hands over what was added.
    fn flush(&mut self) {
        let Some(run) = self.run.take() else { return };
        let mut encoded: [Option<Bytes>; 2] = [None, None];
        let (mut delivered, mut dropped) = (0, 0);
        for listener in run.listeners.values() {
            // While a channel moves, one group still tells somebody who listens what another follower waits for.
            if !listener.from.iter().any(|(group, at)| *group == self.group && self.index > *at) {
                continue;
            }
            let protocol = listener.info.protocol();
            let encoded = &mut encoded[usize::from(protocol == Protocol::Resp3)];
            let messages = encoded.get_or_insert_with(|| run.encode(protocol));
            let link = &listener.info.link;
            let open = !link.is_closing();
            let sent = if self.writes > 0 && messages.len() <= WRITE_BYTES_MAX {
                self.writes -= 1;
                link.deliver(messages, &self.server.settings, &self.server.traffic)
            } else {
                link.send(messages.clone(), &self.server.settings)
            };
            if sent {
                delivered += run.messages.len() as u64;
            } else {
                dropped += run.messages.len() as u64;
                self.server.traffic.output_limit_closed.fetch_add(u64::from(open), Relaxed);
            }
        }
        self.server.pubsub.delivered.fetch_add(delivered, Relaxed);
        self.server.pubsub.dropped.fetch_add(dropped, Relaxed);
    }
}

impl Run<'_> {
    fn encode(&self, protocol: Protocol) -> Bytes {
        let mut out = BytesMut::with_capacity(self.bytes);
        for (channel, payload) in &self.messages {
            match self.kin {
                Kin::Channel => encode_message("message", &[channel, payload], protocol, &mut out),
                Kin::Shard => encode_message("smessage", &[channel, payload], protocol, &mut out),
                Kin::Pattern => encode_message("pmessage", &[&self.name, channel, payload], protocol, &mut out),
            }
        }
        out.freeze()
    }
}

/// Where it is told what happens to a key.
pub(crate) fn keyspace_channel(database: u32, key: &[u8]) -> Bytes {
    [format!("__keyspace@{database}__:").as_bytes(), key].concat().into()
}
