//! SUBSCRIBE, UNSUBSCRIBE and their kin, and PUBSUB. PUBLISH is a write, see `pubsub.rs` for its reply.

use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};
use quoris_engine::glob;
use quoris_net::OutputClass;
use quoris_raft::interest::Kin;
use quoris_resp::{Argv, Protocol, Reply, encode};

use super::Served;
use crate::{client::Client, clients::flag, history, outcome};

const KINS: [Kin; 3] = [Kin::Channel, Kin::Pattern, Kin::Shard];

impl Client {
    /// Whether the connection listens and speaks a protocol in which it can then do little else.
    pub(crate) fn only_listens(&self) -> bool {
        self.protocol == Protocol::Resp2 && self.subscriptions.iter().any(|names| !names.is_empty())
    }

    /// Takes the connection out of everything that it listens to, without a word.
    pub(crate) fn forget_subscriptions(&mut self) {
        if self.subscriptions.iter().all(|names| names.is_empty()) {
            return;
        }
        self.resumed.clear();
        let server = self.server.clone();
        let mut state = server.pubsub.lock();
        for kin in KINS {
            for name in std::mem::take(&mut self.subscriptions[kin as usize]) {
                state.forget(&server, self.info.link.id, kin, &name);
            }
        }
        drop(state);
        self.show_subscriptions();
    }

    fn show_subscriptions(&self) {
        for kin in KINS {
            self.info.subscriptions[kin as usize].store(self.subscriptions[kin as usize].len() as u32, Relaxed);
        }
        if !self.info.has(flag::MONITOR) {
            let listens = self.subscriptions.iter().any(|names| !names.is_empty());
            self.info.link.set_class(if listens { OutputClass::PubSub } else { OutputClass::Normal });
            self.info.link.keep_idle(listens);
        }
    }

    /// Says how many subscriptions there are now, behind all messages before, whatever CLIENT REPLY has switched off.
    fn confirm(&self, word: &'static str, kin: Kin, name: Option<&Bytes>, output: &mut BytesMut) {
        self.info.link.take_messages(output);
        let [channels, patterns, shards] = &self.subscriptions;
        let count = if kin == Kin::Shard { shards.len() } else { channels.len() + patterns.len() };
        let name = name.map_or(Reply::Null, |name| Reply::Bulk(name.clone()));
        let reply = Reply::Push(vec![Reply::bulk(word), name, Reply::Int(count as i64)]);
        encode(&reply, self.protocol, output);
    }
}

/// SUBSCRIBE, UNSUBSCRIBE and their kin.
pub(super) async fn run(client: &mut Client, name: &str, argv: &Argv, output: &mut BytesMut) -> Served {
    let kin = match name.as_bytes().first() {
        Some(b'p') => Kin::Pattern,
        Some(b's') if name != "subscribe" => Kin::Shard,
        _ => Kin::Channel,
    };
    if name.contains("unsubscribe") {
        return unsubscribe(client, kin, argv, output);
    }
    subscribe(client, kin, argv, output).await
}

/// SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE.
async fn subscribe(client: &mut Client, kin: Kin, argv: &Argv, output: &mut BytesMut) -> Served {
    let word = ["subscribe", "psubscribe", "ssubscribe"][kin as usize];
    let server = client.server.clone();
    for at in 1..argv.len() {
        // It may be listened to for long: it must not pin a read buffer.
        let name = Bytes::copy_from_slice(&argv[at]);
        let known = client.subscriptions[kin as usize].contains(&name);
        let resumes = match history::wanted(&server, &name, client.database).await {
            Ok(wanted) => wanted.filter(|_| kin == Kin::Pattern),
            Err(error) => return error.into(),
        };
        if let Some((told, from)) = resumes {
            client.subscriptions[kin as usize].insert(name.clone());
            client.show_subscriptions();
            client.confirm(word, kin, Some(&name), output);
            if !known {
                let subscription = history::subscribe(&server, &client.info, name.clone(), told, from);
                client.resumed.insert(name, subscription);
            }
            continue;
        }
        let from = if known { Ok(Default::default()) } else { server.positions(&client.session, kin, &name).await };
        let from = match from {
            Ok(from) => from,
            Err(error) => return outcome::reply(&error, quoris_engine::slot(&name), || server.node.status()).into(),
        };
        let mut state = server.pubsub.lock();
        state.listen(&server, &client.info, kin, &name, &from);
        client.subscriptions[kin as usize].insert(name.clone());
        client.show_subscriptions();
        client.confirm(word, kin, Some(&name), output);
    }
    Served::Nothing
}

/// UNSUBSCRIBE, PUNSUBSCRIBE, SUNSUBSCRIBE.
fn unsubscribe(client: &mut Client, kin: Kin, argv: &Argv, output: &mut BytesMut) -> Served {
    let word = ["unsubscribe", "punsubscribe", "sunsubscribe"][kin as usize];
    let names: Vec<Bytes> = match argv.len() {
        1 => client.subscriptions[kin as usize].iter().cloned().collect(),
        _ => argv.iter().skip(1).map(Bytes::copy_from_slice).collect(),
    };
    let server = client.server.clone();
    let mut state = server.pubsub.lock();
    if names.is_empty() {
        client.confirm(word, kin, None, output);
    }
    for name in names {
        state.forget(&server, client.info.link.id, kin, &name);
        if kin == Kin::Pattern {
            client.resumed.remove(&name);
        }
        client.subscriptions[kin as usize].remove(&name);
        client.show_subscriptions();
        client.confirm(word, kin, Some(&name), output);
    }
    Served::Nothing
}

/// PUBSUB: over all nodes, as far as they have told each other.
pub(super) fn ask(client: &Client, sub: &str, argv: &Argv) -> Served {
    let everywhere = |kin| client.server.node.interest().everywhere(kin);
    let names = |kin| {
        let listed = everywhere(kin).into_keys();
        let listed = listed.filter(|name| argv.get(2).is_none_or(|pattern| glob::matches(pattern, name)));
        Reply::Array(listed.map(Reply::Bulk).collect())
    };
    let counts = |kin| {
        let all = everywhere(kin);
        let count = |name: &[u8]| [Reply::bulk(name), Reply::Int(all.get(name).map_or(0, |n| *n as i64))];
        Reply::Array(argv.iter().skip(2).flat_map(count).collect())
    };
    match sub {
        "channels" | "shardchannels" if argv.len() > 3 => quoris_engine::Error::Syntax.into(),
        "channels" => names(Kin::Channel),
        "shardchannels" => names(Kin::Shard),
        "numsub" => counts(Kin::Channel),
        "shardnumsub" => counts(Kin::Shard),
        "numpat" => Reply::Int(everywhere(Kin::Pattern).len() as i64),
        _ => return Served::unknown(argv),
    }
    .into()
}
