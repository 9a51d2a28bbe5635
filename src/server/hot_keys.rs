//! HOTKEYS: the keys that take most time and most bytes of this node, while somebody wants to know.
//!
//! What is counted is bounded: when a table is full, the smaller half of it is forgotten. So a key that is used
//! much stays, and what is told of it is at most what it took.

mod wanted;

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use quoris_engine::slot;
use quoris_resp::{Argv, Reply};

use crate::{
    client::Client,
    commands::{Served, cpu_seconds},
    server::unix_ms,
};
use wanted::Wanted;

/// Keys in a table.
const KEYS_MAX: usize = 4096;
const SLOTS: u16 = quoris_engine::SLOTS;

#[derive(Debug, Default)]
pub(crate) struct HotKeys {
    active: AtomicBool,
    session: Mutex<Option<Session>>,
}

#[derive(Debug)]
struct Session {
    wanted: Wanted,
    began: Instant,
    began_ms: u64,
    /// The process's seconds in user and system mode.
    cpu_before: (f64, f64),
    /// How long it ran, and these seconds, when it has ended.
    ran: Option<(Duration, (f64, f64))>,
    commands: u64,
    /// Of all commands, of those in the slots, of the sampled ones among these.
    time: [Duration; 3],
    bytes: [u64; 3],
    by_time: Top,
    by_bytes: Top,
}

/// The sums of some keys.
#[derive(Debug, Default)]
struct Top(HashMap<Vec<u8>, u64>);

impl Top {
    fn add(&mut self, key: &[u8], amount: u64) {
        if let Some(sum) = self.0.get_mut(key) {
            *sum += amount;
            return;
        }
        if self.0.len() >= KEYS_MAX {
            let mut sums: Vec<u64> = self.0.values().copied().collect();
            let (_, median, _) = sums.select_nth_unstable(KEYS_MAX / 2);
            let median = *median;
            self.0.retain(|_, sum| *sum > median);
        }
        self.0.insert(key.to_vec(), amount);
    }

    /// The largest first.
    fn show(&self, count: usize, unit: u64) -> Reply {
        let mut all: Vec<(u64, &Vec<u8>)> = self.0.iter().map(|(key, sum)| (sum / unit, key)).collect();
        all.retain(|(sum, _)| *sum > 0);
        all.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        let shown = all.into_iter().take(count);
        Reply::Array(shown.flat_map(|(sum, key)| [Reply::bulk(key), Reply::Int(sum as i64)]).collect())
    }
}

impl HotKeys {
    /// Whether commands are to be noted.
    pub fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    /// Notes a command that used these keys.
    pub fn note<'a>(&self, keys: impl Iterator<Item = &'a [u8]>, took: Duration, bytes: usize) {
        if let Some(session) = &mut *self.session.lock() {
            session.end_when_due();
            match session.ran {
                None => session.note(keys.collect(), took, bytes as u64),
                Some(_) => self.active.store(false, Relaxed),
            }
        }
    }

    fn start(&self, wanted: Wanted) -> Result<(), &'static str> {
        let mut session = self.session.lock();
        if let Some(session) = &mut *session {
            session.end_when_due();
            if session.ran.is_none() {
                return Err("ERR hotkey tracking session already in progress");
            }
        }
        *session = Some(Session {
            wanted,
            began: Instant::now(),
            began_ms: unix_ms(),
            cpu_before: cpu_seconds(),
            ran: None,
            commands: 0,
            time: Default::default(),
            bytes: [0; 3],
            by_time: Top::default(),
            by_bytes: Top::default(),
        });
        self.active.store(true, Relaxed);
        Ok(())
    }

    /// False when none is running.
    fn stop(&self) -> bool {
        self.active.store(false, Relaxed);
        let mut session = self.session.lock();
        let Some(session) = session.as_mut() else { return false };
        session.end_when_due();
        let running = session.ran.is_none();
        session.ran.get_or_insert_with(|| (session.began.elapsed(), cpu_seconds()));
        running
    }

    fn reset(&self) -> Result<(), &'static str> {
        let mut session = self.session.lock();
        session.iter_mut().for_each(Session::end_when_due);
        if session.as_ref().is_some_and(|session| session.ran.is_none()) {
            return Err("ERR hotkey tracking session in progress, stop tracking first");
        }
        *session = None;
        Ok(())
    }

    fn get(&self) -> Reply {
        let mut session = self.session.lock();
        session.iter_mut().for_each(Session::end_when_due);
        session.as_ref().map_or(Reply::Null, |session| Reply::Array(vec![session.show()]))
    }
}

impl Session {
    fn end_when_due(&mut self) {
        if let Some(duration) = self.wanted.duration
            && self.began.elapsed() >= duration
        {
            self.ran.get_or_insert_with(|| (duration, cpu_seconds()));
        }
    }

    fn note(&mut self, mut keys: Vec<&[u8]>, took: Duration, bytes: u64) {
        self.add(0, took, bytes);
        if let Some(slots) = &self.wanted.slots {
            keys.retain(|key| slots.binary_search(&slot(key)).is_ok());
            if keys.is_empty() {
                return;
            }
        }
        self.add(1, took, bytes);
        self.commands += 1;
        if keys.is_empty() || !self.commands.is_multiple_of(self.wanted.sample) {
            return;
        }
        self.add(2, took, bytes);
        // Of several keys each had a share.
        let shares = keys.len() as u64;
        let (nanos, bytes) = (took.as_nanos() as u64 / shares, bytes / shares);
        for key in keys {
            if self.wanted.cpu {
                self.by_time.add(key, nanos);
            }
            if self.wanted.net {
                self.by_bytes.add(key, bytes);
            }
        }
    }

    fn add(&mut self, which: usize, took: Duration, bytes: u64) {
        self.time[which] += took;
        self.bytes[which] += bytes;
    }

    fn show(&self) -> Reply {
        let wanted = &self.wanted;
        let mut rows: Vec<(&str, Reply)> = Vec::new();
        let int = |n: u64| Reply::Int(n.cast_signed());
        let micros = |which: usize| int(self.time[which].as_micros() as u64);
        rows.push(("tracking-active", int(self.ran.is_none().into())));
        rows.push(("sample-ratio", int(wanted.sample)));
        rows.push(("selected-slots", ranges(wanted.slots.as_deref())));
        let (some, sampled) = (wanted.slots.is_some(), wanted.slots.is_some() && wanted.sample > 1);
        rows.extend(sampled.then(|| ("sampled-commands-selected-slots-us", micros(2))));
        rows.extend(some.then(|| ("all-commands-selected-slots-us", micros(1))));
        rows.push(("all-commands-all-slots-us", micros(0)));
        rows.extend(sampled.then(|| ("net-bytes-sampled-commands-selected-slots", int(self.bytes[2]))));
        rows.extend(some.then(|| ("net-bytes-all-commands-selected-slots", int(self.bytes[1]))));
        rows.push(("net-bytes-all-commands-all-slots", int(self.bytes[0])));
        rows.push(("collection-start-time-unix-ms", int(self.began_ms)));
        let (ran, cpu) = self.ran.unwrap_or_else(|| (self.began.elapsed(), cpu_seconds()));
        rows.push(("collection-duration-ms", int(ran.as_millis() as u64)));
        if wanted.cpu {
            let spent = |now: f64, before: f64| int(((now - before) * 1000.0) as u64);
            rows.push(("total-cpu-time-user-ms", spent(cpu.0, self.cpu_before.0)));
            rows.push(("total-cpu-time-sys-ms", spent(cpu.1, self.cpu_before.1)));
        }
        rows.extend(wanted.net.then(|| ("total-net-bytes", int(self.bytes[0]))));
        rows.extend(wanted.cpu.then(|| ("by-cpu-time-us", self.by_time.show(wanted.count, 1000))));
        rows.extend(wanted.net.then(|| ("by-net-bytes", self.by_bytes.show(wanted.count, 1))));
        Reply::Map(rows.into_iter().map(|(name, value)| (Reply::bulk(name), value)).collect())
    }
}

/// Slots in ascending order as ranges; all of them when none are given.
fn ranges(slots: Option<&[u16]>) -> Reply {
    let mut ranges: BTreeMap<u16, u16> = BTreeMap::new();
    match slots {
        None => ranges.extend([(0, SLOTS - 1)]),
        Some(slots) => {
            for slot in slots {
                match ranges.last_entry() {
                    Some(mut last) if *last.get() + 1 == *slot => *last.get_mut() = *slot,
                    _ => ranges.extend([(*slot, *slot)]),
                }
            }
        }
    }
    let range = |(first, last): (u16, u16)| {
        let ends = if first == last { vec![first] } else { vec![first, last] };
        Reply::Array(ends.into_iter().map(|slot| Reply::Int(slot.into())).collect())
    };
    Reply::Array(ranges.into_iter().map(range).collect())
}

/// HOTKEYS and its subcommands.
pub(crate) fn run(client: &Client, sub: &str, argv: &Argv) -> Served {
    let hot_keys = &client.server.hot_keys;
    let done = |result: Result<(), String>| result.map_or_else(Served::error, |()| Reply::Ok.into());
    match sub {
        "start" => {
            let in_slots = client.server.tunables.redirects.load(Relaxed);
            done(wanted::parse(argv, in_slots).and_then(|wanted| hot_keys.start(wanted).map_err(String::from)))
        }
        "stop" if hot_keys.stop() => Reply::Ok.into(),
        "stop" => Reply::Null.into(),
        "reset" => done(hot_keys.reset().map_err(String::from)),
        "get" => hot_keys.get().into(),
        _ => Served::unknown(argv),
    }
}

#[cfg(test)]
mod tests {
    use super::wanted::tests::parsed;
    use super::*;

    #[test]
    fn a_key_that_is_used_much_is_found_among_many() {
        let hot_keys = HotKeys::default();
        hot_keys.start(parsed("METRICS 2 CPU NET COUNT 1", false).expect("valid")).expect("none runs");
        for n in 0..3 * KEYS_MAX {
            let cold = format!("k{n}");
            hot_keys.note([cold.as_bytes()].into_iter(), Duration::from_micros(3), 10);
            hot_keys.note([&b"hot"[..]].into_iter(), Duration::from_micros(2), 9);
        }
        assert!(hot_keys.start(Wanted::default()).is_err() && hot_keys.reset().is_err());
        assert!(hot_keys.stop() && !hot_keys.is_active() && !hot_keys.stop());
        let shown = format!("{:?}", hot_keys.get());
        assert_eq!(shown.matches("\"hot\"").count(), 2, "{shown}");
        assert!(hot_keys.reset().is_ok() && hot_keys.get() == Reply::Null);
    }
}
