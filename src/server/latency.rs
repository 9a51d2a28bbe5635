//! LATENCY: events that took longer than a threshold, and histograms per command.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use quoris_engine::command;
use quoris_resp::{Argv, Reply};

use crate::{client::Client, commands::Served, server::unix_ms};

/// Samples kept per event, as in Redis.
const SAMPLES_MAX: usize = 160;

#[derive(Debug, Default)]
pub(crate) struct Latency(Mutex<BTreeMap<&'static str, Event>>);

#[derive(Debug, Default)]
struct Event {
    /// Unix seconds and milliseconds, one sample per second, the worst.
    samples: VecDeque<(u64, u64)>,
    worst_ms: u64,
}

impl Latency {
    /// Notes an event.
    pub fn add(&self, event: &'static str, millis: u64) {
        let now = unix_ms() / 1000;
        let mut events = self.0.lock();
        let event = events.entry(event).or_default();
        event.worst_ms = event.worst_ms.max(millis);
        match event.samples.back_mut() {
            Some((second, worst)) if *second == now => *worst = millis.max(*worst),
            _ => event.samples.push_back((now, millis)),
        }
        if event.samples.len() > SAMPLES_MAX {
            event.samples.pop_front();
        }
    }

    fn latest(&self) -> Reply {
        let events = self.0.lock();
        let shown = events.iter().map(|(name, event)| {
            let (second, millis) = event.samples.back().copied().unwrap_or_default();
            Reply::Array(vec![
                Reply::bulk(name),
                Reply::Int(second as i64),
                Reply::Int(millis as i64),
                Reply::Int(event.worst_ms as i64),
            ])
        });
        Reply::Array(shown.collect())
    }

    fn history(&self, name: &[u8]) -> Reply {
        let events = self.0.lock();
        let samples = events.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, event)| &event.samples);
        let shown = samples
            .into_iter()
            .flatten()
            .map(|(s, ms)| Reply::Array(vec![Reply::Int(*s as i64), Reply::Int(*ms as i64)]));
        Reply::Array(shown.collect())
    }

    fn reset(&self, names: &[&[u8]]) -> i64 {
        let mut events = self.0.lock();
        let before = events.len();
        events.retain(|name, _| !names.is_empty() && !names.contains(&name.as_bytes()));
        (before - events.len()) as i64
    }

    fn doctor(&self) -> String {
        let events = self.0.lock();
        if events.is_empty() {
            return "No event took longer than latency-monitor-threshold since the last reset. When the threshold is 0, nothing is measured.".into();
        }
        let mut text = String::from("Events that took longer than latency-monitor-threshold:\n");
        for (name, event) in events.iter() {
            let total: u64 = event.samples.iter().map(|(_, ms)| ms).sum();
            let mean = total / (event.samples.len() as u64).max(1);
            text += &format!(
                "* {name}: {} samples, {mean} ms on average, {} ms at worst\n",
                event.samples.len(),
                event.worst_ms
            );
        }
        text
    }

    fn graph(&self, name: &[u8]) -> Option<String> {
        let events = self.0.lock();
        let (name, event) = events.iter().find(|(known, _)| known.as_bytes() == name)?;
        let low = event.samples.iter().map(|(_, ms)| *ms).min()?;
        let mut text =
            format!("{name} - high {} ms, low {low} ms (all time high {} ms)\n", event.worst_ms, event.worst_ms);
        for (second, millis) in &event.samples {
            let bar = "#".repeat((millis * 60 / event.worst_ms.max(1)) as usize);
            text += &format!("{:>6}s {millis:>6} ms {bar}\n", (unix_ms() / 1000).saturating_sub(*second));
        }
        Some(text)
    }
}

/// LATENCY and its subcommands.
pub(crate) fn run(client: &Client, sub: &str, argv: &Argv) -> Served {
    let latency = &client.server.latency;
    Served::Reply(match sub {
        "latest" => latency.latest(),
        "history" => latency.history(&argv[2]),
        "reset" => Reply::Int(latency.reset(&argv.iter().skip(2).collect::<Vec<_>>())),
        "doctor" => Reply::Verbatim(*b"txt", latency.doctor().into()),
        "graph" => match latency.graph(&argv[2]) {
            Some(text) => Reply::Verbatim(*b"txt", text.into()),
            None => {
                return Served::error(format!(
                    "ERR No samples available for event '{}'",
                    String::from_utf8_lossy(&argv[2])
                ));
            }
        },
        "histogram" => histogram(client, argv),
        _ => return Served::unknown(argv),
    })
}

fn histogram(client: &Client, argv: &Argv) -> Reply {
    let rows: Vec<command::Found> = if argv.len() > 2 {
        let named = argv.iter().skip(2).filter_map(command::by_name);
        named
            .flat_map(|found| {
                command::walk()
                    .filter(move |f| f.id == found.id || f.container.is_some_and(|c| c.name == found.command.name))
            })
            .collect()
    } else {
        command::walk().collect()
    };
    let shown = rows.into_iter().filter_map(|found| {
        let histogram = client.server.stats.row(found.id).histogram();
        let calls: u64 = histogram.iter().map(|(_, n)| n).sum();
        if calls == 0 {
            return None;
        }
        let mut powers: BTreeMap<u64, u64> = BTreeMap::new();
        for (nanos, n) in histogram {
            *powers.entry((nanos / 1000).max(1).next_power_of_two()).or_default() += n;
        }
        let mut sum = 0;
        let cumulative = powers.into_iter().map(|(micros, n)| {
            sum += n;
            (Reply::Int(micros as i64), Reply::Int(sum as i64))
        });
        let fields = vec![
            (Reply::bulk("calls"), Reply::Int(calls as i64)),
            (Reply::bulk("histogram_usec"), Reply::Map(cumulative.collect())),
        ];
        Some((Reply::bulk(found.full_name()), Reply::Map(fields)))
    });
    Reply::Map(shown.collect())
}
