//! Counters that INFO, LATENCY and /metrics show.
//!
//! A connection counts a run of equal commands in a [`Tally`] of its own and adds it here when the run
//! ends, so that connections do not fight over a cache line for every command.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use quoris_engine::command;

/// Error codes that are counted apart; further ones count as one, so that clients cannot fill the memory.
const ERROR_CODES_MAX: usize = 128;
/// Samples of the rates per second, as in Redis.
const SAMPLES: usize = 16;

/// Counters of the process.
#[derive(Debug)]
pub(crate) struct Stats {
    rows: Box<[Row]>,
    pub processed: AtomicU64,
    pub error_replies: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
    pub keyspace_hits: AtomicU64,
    pub keyspace_misses: AtomicU64,
    pub auth_failures: AtomicU64,
    /// Whether histograms are kept (`latency-tracking`).
    pub track_latency: AtomicBool,
    rates: Mutex<Rates>,
}

/// Counters of one command.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub calls: AtomicU64,
    pub nanos: AtomicU64,
    pub rejected: AtomicU64,
    pub failed: AtomicU64,
    histogram: OnceLock<Box<[AtomicU64; BUCKETS]>>,
}

/// Buckets of a histogram: four per power of two of nanoseconds.
const BUCKETS: usize = 160;

fn bucket(nanos: u64) -> usize {
    let nanos = nanos.max(4);
    let power = nanos.ilog2();
    ((power as usize - 2) * 4 + ((nanos >> (power - 2)) & 3) as usize).min(BUCKETS - 1)
}

/// The largest number of nanoseconds that falls into a bucket.
fn upper(bucket: usize) -> u64 {
    let (power, quarter) = ((bucket / 4 + 2) as u32, (bucket % 4) as u64);
    ((5 + quarter) << (power - 2)) - 1
}

impl Row {
    /// The latencies in nanoseconds and how many calls were that fast, without empty buckets.
    pub fn histogram(&self) -> Vec<(u64, u64)> {
        let Some(buckets) = self.histogram.get() else { return Vec::new() };
        let counts = buckets.iter().enumerate().map(|(at, n)| (upper(at), n.load(Relaxed)));
        counts.filter(|(_, n)| *n > 0).collect()
    }

    /// The latency in nanoseconds that `percent` of the calls do not pass.
    pub fn percentile(histogram: &[(u64, u64)], percent: f64) -> u64 {
        let total: u64 = histogram.iter().map(|(_, n)| n).sum();
        let mut left = (total as f64 * percent / 100.0).ceil().max(1.0) as u64;
        for (upper, n) in histogram {
            if *n >= left {
                return *upper;
            }
            left -= n;
        }
        histogram.last().map_or(0, |(upper, _)| *upper)
    }
}

impl Stats {
    pub fn new() -> Stats {
        Stats {
            rows: (0..command::count()).map(|_| Row::default()).collect(),
            processed: AtomicU64::new(0),
            error_replies: AtomicU64::new(0),
            errors: Mutex::new(BTreeMap::new()),
            keyspace_hits: AtomicU64::new(0),
            keyspace_misses: AtomicU64::new(0),
            auth_failures: AtomicU64::new(0),
            track_latency: AtomicBool::new(true),
            rates: Mutex::new(Rates::default()),
        }
    }

    /// The counters of a row.
    pub fn row(&self, id: u16) -> &Row {
        &self.rows[id as usize]
    }

    /// Counts an error reply by its code.
    pub fn error(&self, text: &[u8]) {
        self.error_replies.fetch_add(1, Relaxed);
        let end = text.iter().position(|b| *b == b' ').unwrap_or(text.len()).min(64);
        let code = String::from_utf8_lossy(&text[..end]);
        let mut errors = self.errors.lock();
        if let Some(count) = errors.get_mut(code.as_ref()) {
            *count += 1;
        } else {
            let code = if errors.len() < ERROR_CODES_MAX { code.into_owned() } else { "OTHER".into() };
            *errors.entry(code).or_default() += 1;
        }
    }

    /// Error codes and how often each was answered.
    pub fn errors(&self) -> Vec<(String, u64)> {
        self.errors.lock().iter().map(|(code, n)| (code.clone(), *n)).collect()
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        for row in &self.rows {
            [&row.calls, &row.nanos, &row.rejected, &row.failed].iter().for_each(|c| c.store(0, Relaxed));
            self.clear_histogram(row);
        }
        let counters =
            [&self.processed, &self.error_replies, &self.keyspace_hits, &self.keyspace_misses, &self.auth_failures];
        counters.iter().for_each(|c| c.store(0, Relaxed));
        self.errors.lock().clear();
    }

    /// Forgets a row's latencies.
    pub fn clear_histogram(&self, row: &Row) {
        if let Some(buckets) = row.histogram.get() {
            buckets.iter().for_each(|b| b.store(0, Relaxed));
        }
    }

    /// Takes a sample of the running totals for the rates per second; called several times a second.
    pub fn sample(&self, elapsed: Duration, totals: [u64; 3]) {
        let mut rates = self.rates.lock();
        let before = std::mem::replace(&mut rates.before, totals);
        let at = rates.at;
        let seconds = elapsed.as_secs_f64().max(1e-3);
        rates.samples[at] = std::array::from_fn(|i| totals[i].saturating_sub(before[i]) as f64 / seconds);
        rates.at = (at + 1) % SAMPLES;
    }

    /// Commands, bytes in and bytes out per second.
    pub fn rates(&self) -> [f64; 3] {
        let rates = self.rates.lock();
        std::array::from_fn(|i| rates.samples.iter().map(|s| s[i]).sum::<f64>() / SAMPLES as f64)
    }
}

#[derive(Debug, Default)]
struct Rates {
    before: [u64; 3],
    samples: [[f64; 3]; SAMPLES],
    at: usize,
}

/// A run of equal commands of one connection.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    id: u16,
    calls: u64,
    nanos: u64,
    failed: u64,
    commands: u64,
}

impl Tally {
    /// Counts one call.
    pub fn add(&mut self, stats: &Stats, id: u16, nanos: u64, failed: bool) {
        if self.id != id {
            self.end_run(stats);
            self.id = id;
        }
        self.calls += 1;
        self.nanos += nanos;
        self.failed += u64::from(failed);
    }

    /// Adds everything to the shared counters; at the end of a batch.
    pub fn flush(&mut self, stats: &Stats) {
        self.end_run(stats);
        stats.processed.fetch_add(std::mem::take(&mut self.commands), Relaxed);
    }

    fn end_run(&mut self, stats: &Stats) {
        if self.calls == 0 {
            return;
        }
        let row = stats.row(self.id);
        row.calls.fetch_add(self.calls, Relaxed);
        row.nanos.fetch_add(self.nanos, Relaxed);
        if self.failed > 0 {
            row.failed.fetch_add(self.failed, Relaxed);
        }
        if stats.track_latency.load(Relaxed) {
            let buckets = row.histogram.get_or_init(|| Box::new(std::array::from_fn(|_| AtomicU64::new(0))));
            buckets[bucket(self.nanos / self.calls)].fetch_add(self.calls, Relaxed);
        }
        self.commands += self.calls;
        (self.calls, self.nanos, self.failed) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_everything_in_order() {
        let mut last = 0;
        for nanos in [0, 1, 4, 5, 7, 8, 100, 1000, 1_000_000, 1_000_000_000, u64::MAX] {
            let at = bucket(nanos);
            assert!(at >= last, "{nanos}");
            assert!(upper(at) >= nanos || at == BUCKETS - 1, "{nanos} in bucket {at} up to {}", upper(at));
            last = at;
        }
    }

    #[test]
    fn percentiles_walk_the_histogram() {
        let histogram = [(10, 50), (20, 49), (30, 1)];
        assert_eq!([50.0, 99.0, 99.9].map(|p| Row::percentile(&histogram, p)), [10, 20, 30]);
    }
}
