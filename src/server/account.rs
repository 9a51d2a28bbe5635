//! What a command that has run leaves behind on its node: counters, the logs of commands, delays, hot keys.
//!
//! Invariant: on the way of a command that is worth no note there are comparisons and no lock.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quoris_engine::command::{self, Found};
use quoris_resp::{Argv, Reply};

use crate::{client::Client, slowlog::Kind};

/// Whether something is as much as a threshold says; a negative one says never.
fn reaches(amount: u128, threshold: i64) -> bool {
    u128::try_from(threshold).is_ok_and(|threshold| amount >= threshold)
}

impl Client {
    /// Counts a command that ran from `since` to now and gives the time now.
    pub(crate) fn timed(&mut self, found: &Found, argv: &Argv, since: Instant, reply: &Reply) -> Instant {
        let now = Instant::now();
        let took = now - since;
        self.tally.add(&self.server.stats, found.id, took.as_nanos() as u64, reply.is_error());
        if self.is_notable(took, argv, reply) {
            self.note(found, argv, took, reply);
        }
        now
    }

    /// Whether [`Client::note`] may have something to do.
    fn is_notable(&self, took: Duration, argv: &Argv, reply: &Reply) -> bool {
        let tunables = &self.server.tunables;
        let (micros, delay) = (took.as_micros(), tunables.latency_ms.load(Relaxed));
        reaches(micros, tunables.slow_micros.load(Relaxed))
            || delay > 0 && reaches(micros, delay.saturating_mul(1000))
            || reaches(argv.frame().len() as u128, tunables.large_request_bytes.load(Relaxed))
            || reaches(reply.size() as u128, tunables.large_reply_bytes.load(Relaxed))
            || self.server.hot_keys.is_active()
    }

    /// The same for a command of which only the words are known.
    pub(crate) fn note_said(&self, argv: &Argv, took: Duration, reply: &Reply) {
        if self.is_notable(took, argv, reply)
            && let Ok(found) = command::lookup(argv)
        {
            self.note(&found, argv, took, reply);
        }
    }

    /// Notes a command. The time is what the client waited, for a majority's disks too.
    fn note(&self, found: &Found, argv: &Argv, took: Duration, reply: &Reply) {
        let (server, tunables, micros) = (&self.server, &self.server.tunables, took.as_micros());
        let (request, command) = (argv.frame().len(), found.command);
        let largest = tunables.large_reply_bytes.load(Relaxed);
        // In memory a reply is larger than on the wire.
        let reply = if reaches(reply.size() as u128, largest) || server.hot_keys.is_active() {
            let mut wire = BytesMut::new();
            quoris_resp::encode(reply, self.protocol, &mut wire);
            wire.len()
        } else {
            0
        };
        if !command.flags.has(command::SKIP_SLOWLOG) {
            let amounts = [micros, request as u128, reply as u128];
            let thresholds = [&tunables.slow_micros, &tunables.large_request_bytes, &tunables.large_reply_bytes];
            for (kind, (amount, threshold)) in Kind::ALL.into_iter().zip(amounts.into_iter().zip(thresholds)) {
                if reaches(amount, threshold.load(Relaxed)) {
                    server.command_logs.add(kind, self, argv, i64::try_from(amount).unwrap_or(i64::MAX));
                }
            }
        }
        let threshold = tunables.latency_ms.load(Relaxed);
        if threshold > 0 && reaches(micros, threshold.saturating_mul(1000)) {
            let event = if command.flags.has(command::FAST) { "fast-command" } else { "command" };
            server.latency.add(event, took.as_millis() as u64);
        }
        if server.hot_keys.is_active() {
            let keys = command.keys(argv).unwrap_or_default();
            server.hot_keys.note(keys.iter().filter_map(|at| argv.get(*at)), took, request + reply);
        }
    }
}
