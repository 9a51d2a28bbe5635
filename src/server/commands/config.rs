//! CONFIG GET, SET, RESETSTAT, REWRITE, and what a changed setting does.

use std::sync::atomic::Ordering::Relaxed;

use quoris_engine::glob;
use quoris_net::OutputClass;
use quoris_resp::{Argv, Reply};

use super::Served;
use crate::{
    client::Client,
    config::{Error, key, kind::parse_output_limits, table, table::Effect},
    server::Server,
};

pub(super) fn run(client: &Client, sub: &str, argv: &Argv) -> Served {
    let server = &client.server;
    match sub {
        "get" => get(server, argv),
        "set" => match set(server, argv) {
            Ok(()) => Reply::Ok.into(),
            Err(text) => Served::error(text),
        },
        "resetstat" => {
            server.stats.reset();
            server.traffic.reset();
            server.memory_peak.store(0, Relaxed);
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
    let pairs = server.config.select(wanted);
    Reply::Map(pairs.into_iter().map(|(name, value)| (Reply::bulk(name), Reply::bulk(value))).collect()).into()
}

/// All or nothing: values are checked first, and what took effect is taken back when a later one fails.
fn set(server: &Server, argv: &Argv) -> Result<(), String> {
    if !argv.len().is_multiple_of(2) {
        return Err("ERR syntax error".into());
    }
    let failed =
        |name: &str, why: &str| format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}");
    let mut changes: Vec<(usize, String)> = Vec::new();
    for at in (2..argv.len()).step_by(2) {
        let (name, value) = (String::from_utf8_lossy(&argv[at]), String::from_utf8_lossy(&argv[at + 1]));
        let position = table::position(&name)
            .ok_or_else(|| format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"))?;
        if key(position).effect == Effect::Start {
            return Err(failed(&name, "can't set immutable config"));
        }
        if changes.iter().any(|(known, _)| *known == position) {
            return Err(failed(&name, "duplicate parameter"));
        }
        let value = server.config.check(position, &value).map_err(|why| failed(&name, &why))?;
        changes.push((position, value));
    }
    let mut before: Vec<(usize, String)> = Vec::new();
    for (position, value) in changes {
        let name = key(position).name;
        before.push((position, server.config.store(position, value)));
        if let Err(why) = server.apply_setting(name) {
            for (position, value) in before.into_iter().rev() {
                server.config.store(position, value);
                let _ = server.apply_setting(key(position).name);
            }
            return Err(failed(name, &why));
        }
    }
    Ok(())
}

impl Server {
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
            "slowlog-log-slower-than" => tunables.slow_micros.store(config.number(name), Relaxed),
            "slowlog-max-len" => self.slowlog.truncate(config.count(name)),
            "latency-monitor-threshold" => tunables.latency_ms.store(config.number(name), Relaxed),
            "latency-tracking" => self.stats.track_latency.store(config.flag(name), Relaxed),
            "maxmemory" => tunables.memory_max.store(config.count(name), Relaxed),
            "loglevel" => crate::log::set_level(&config.text(name)),
            _ => {}
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
