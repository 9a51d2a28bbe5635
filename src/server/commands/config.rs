//! CONFIG GET, SET, RESETSTAT, REWRITE, and what a changed setting does.
//!
//! SET of a replicated setting means the cluster: it is decided in the meta group, and answered when every
//! group has applied it. GET shows what this node knows of the cluster, which may be a moment old.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use quoris_engine::{glob, outcome};
use quoris_net::OutputClass;
use quoris_raft::SettingsError;
use quoris_resp::{Argv, Reply};

use super::Served;
use crate::{
    client::Client,
    config::{
        Error, key,
        kind::parse_output_limits,
        table,
        table::{Effect, Scope},
    },
    server::Server,
    slowlog::Kind,
};

pub(super) async fn run(client: &Client, sub: &str, argv: &Argv) -> Served {
    let server = &client.server;
    match sub {
        "get" => get(server, argv),
        "set" => match set(server, argv).await {
            Ok(()) => Reply::Ok.into(),
            Err(text) => Served::error(text),
        },
        "resetstat" => {
            client.server.pubsub.reset();
            server.stats.reset();
            server.traffic.reset();
            server.memory_peak.store(0, Relaxed);
            server.node.memory().forget_evicted();
            Reply::Ok.into()
        }
        "rewrite" => match server.config.rewrite() {
            Ok(()) => Reply::Ok.into(),
            Err(Error::NoFile) => Served::error("ERR The server is running without a config file"),
            Err(error) => Served::error(format!("ERR Rewriting config file: {error}")),
        },
        _ => Served::unknown(argv),
    }
}

fn get(server: &Server, argv: &Argv) -> Served {
    let wanted = |name: &str| argv.iter().skip(2).any(|pattern| glob::matches_case(pattern, name.as_bytes(), true));
    let named = |name: &str| argv.iter().skip(2).any(|pattern| pattern.eq_ignore_ascii_case(name.as_bytes()));
    let pairs = server.config.select(wanted, named);
    Reply::Map(pairs.into_iter().map(|(name, value)| (Reply::bulk(name), Reply::bulk(value))).collect()).into()
}

fn failed(name: &str, why: &str) -> String {
    format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")
}

/// All or nothing: values are checked first, and what took effect is taken back when a later one fails. The
/// cluster comes last, because what it has decided is not taken back.
async fn set(server: &Server, argv: &Argv) -> Result<(), String> {
    let (cluster, own): (Vec<_>, Vec<_>) =
        checked(server, argv)?.into_iter().partition(|(position, _)| key(*position).scope == Scope::Replicated);
    let before = set_own(server, own)?;
    if cluster.is_empty() {
        return Ok(());
    }
    let cluster: Vec<_> = cluster.into_iter().map(|(position, value)| (key(position).name, value)).collect();
    let changed = server.node.change_settings(&cluster).await;
    server.config.show_cluster(&server.node.settings());
    changed.map_err(|error| match error {
        SettingsError::Unchanged(_) => {
            take_back(server, before);
            format!("CLUSTERDOWN {error}")
        }
        SettingsError::Unknown(_) | SettingsError::Pending { .. } => outcome::timeout(error),
    })
}

/// The changes that an argv asks for: positions and canonical values.
fn checked(server: &Server, argv: &Argv) -> Result<Vec<(usize, String)>, String> {
    if !argv.len().is_multiple_of(2) {
        return Err("ERR syntax error".into());
    }
    let mut changes: Vec<(usize, String)> = Vec::new();
    for at in (2..argv.len()).step_by(2) {
        let (name, value) = (String::from_utf8_lossy(&argv[at]), String::from_utf8_lossy(&argv[at + 1]));
        let position = table::position(&name)
            .ok_or_else(|| format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"))?;
        // What is read at start may be "set" to what it is: tools write back all that they have read.
        let immutable = match key(position).effect {
            Effect::Fixed => true,
            Effect::Start => server.config.check(position, &value).as_ref() != Ok(&server.config.text(&name)),
            Effect::Live | Effect::None => false,
        };
        if immutable {
            return Err(failed(&name, "can't set immutable config"));
        }
        if changes.iter().any(|(known, _)| *known == position) {
            return Err(failed(&name, "duplicate parameter"));
        }
        let value = server.config.check(position, &value).map_err(|why| failed(&name, &why))?;
        changes.push((position, value));
    }
    Ok(changes)
}

/// Changes settings of this node and gives what they held before.
fn set_own(server: &Server, changes: Vec<(usize, String)>) -> Result<Vec<(usize, String)>, String> {
    let mut before: Vec<(usize, String)> = Vec::new();
    for (position, value) in changes {
        let name = key(position).name;
        before.push((position, server.config.store(position, value)));
        if let Err(why) = server.apply_setting(name) {
            take_back(server, before);
            return Err(failed(name, &why));
        }
    }
    Ok(before)
}

fn take_back(server: &Server, before: Vec<(usize, String)>) {
    for (position, value) in before.into_iter().rev() {
        server.config.store(position, value);
        let _ = server.apply_setting(key(position).name);
    }
}

impl Server {
    /// Shows the cluster's settings as they change, and says once where the file asks for something else. Runs
    /// until dropped.
    pub(crate) async fn follow_settings(self: Arc<Server>) {
        let mut settings = self.node.settings();
        let first = settings.wait_for(|settings| settings.version > 0).await.map(|settings| *settings);
        for (name, given, holds) in first.map(|first| self.config.differing(&first)).unwrap_or_default() {
            tracing::warn!(
                "{name}: the configuration says '{given}', the cluster '{holds}', which holds; change it with CONFIG SET"
            );
        }
        loop {
            self.config.show_cluster(&settings);
            if settings.changed().await.is_err() {
                return;
            }
        }
    }

    /// Lets every live setting take effect; at start.
    pub(crate) fn apply_all_settings(&self) {
        for key in table::KEYS.iter().filter(|key| key.effect == Effect::Live) {
            if let Err(why) = self.apply_setting(key.name) {
                tracing::warn!(setting = key.name, why, "a setting has no effect");
            }
        }
    }

    /// Lets one setting take effect.
    ///
    /// # Errors
    /// When the system refuses it.
    fn apply_setting(&self, name: &str) -> Result<(), String> {
        let (config, settings, tunables) = (&self.config, &self.settings, &self.tunables);
        match name {
            "proto-max-bulk-len" => settings.bulk_bytes_max.store(config.count(name), Relaxed),
            "client-query-buffer-limit" => settings.query_bytes_max.store(config.count(name), Relaxed),
            "client-output-buffer-limit" => self.apply_output_limits()?,
            "maxclients" => settings.clients_max.store(config.count(name), Relaxed),
            "tcp-keepalive" => settings.keepalive_seconds.store(config.count(name), Relaxed),
            "timeout" => settings.idle_seconds_max.store(config.count(name), Relaxed),
            "requirepass" => self.users.set_password(&config.text(name)),
            "protected-mode" => tunables.protected.store(config.flag(name), Relaxed),
            "cluster-redirects" => tunables.redirects.store(config.flag(name), Relaxed),
            "replica-read-age-ms" => tunables.replica_read_age_ms.store(config.number(name), Relaxed),
            "slowlog-log-slower-than" => tunables.slow_micros.store(config.number(name), Relaxed),
            "commandlog-request-larger-than" => tunables.large_request_bytes.store(config.number(name), Relaxed),
            "commandlog-reply-larger-than" => tunables.large_reply_bytes.store(config.number(name), Relaxed),
            "latency-monitor-threshold" => tunables.latency_ms.store(config.number(name), Relaxed),
            "latency-tracking" => self.stats.track_latency.store(config.flag(name), Relaxed),
            "maxmemory" => self.node.memory().set_max(config.count(name)),
            "maxmemory-samples" => self.node.memory().set_samples(config.count(name)),
            "tracking-table-max-keys" => self.tracking.set_keys_max(self, config.count(name)),
            "disk-reserve" => self.node.set_disk_reserve(config.count(name)),
            "loglevel" => crate::log::set_level(&config.text(name)),
            _ => {
                let kind = Kind::ALL.into_iter().find(|kind| kind.length_setting() == name);
                kind.into_iter().for_each(|kind| self.command_logs.truncate(kind, config.count(name)));
            }
        }
        Ok(())
    }

    fn apply_output_limits(&self) -> Result<(), String> {
        let limits =
            parse_output_limits(&self.config.text("client-output-buffer-limit")).ok_or("not a list of limits")?;
        let classes = [OutputClass::Normal, OutputClass::Replica, OutputClass::PubSub];
        for (class, [hard, soft, seconds]) in classes.into_iter().zip(limits) {
            let limit = self.settings.output(class);
            limit.hard.store(hard as u64, Relaxed);
            limit.soft.store(soft as u64, Relaxed);
            limit.soft_seconds.store(seconds as u64, Relaxed);
        }
        Ok(())
    }
}
