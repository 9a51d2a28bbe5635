//! MONITOR: every command of every connection, as a line for each monitor.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;
use quoris_net::{Link, Settings};
use quoris_resp::{Argv, quoted};

#[derive(Debug, Default)]
pub(crate) struct Monitors {
    links: Mutex<Vec<Arc<Link>>>,
    count: AtomicUsize,
}

impl Monitors {
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    pub fn add(&self, link: Arc<Link>) {
        let mut links = self.links.lock();
        if links.iter().all(|other| other.id != link.id) {
            links.push(link);
        }
        self.count.store(links.len(), Ordering::Relaxed);
    }

    pub fn remove(&self, id: u64) {
        let mut links = self.links.lock();
        links.retain(|link| link.id != id);
        self.count.store(links.len(), Ordering::Relaxed);
    }

    /// Shows a command to every monitor.
    pub fn feed(&self, link: &Link, database: u32, argv: &Argv, settings: &Settings) {
        let micros = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mut line = format!("+{}.{:06} [{database} {}]", micros.as_secs(), micros.subsec_micros(), link.peer);
        for argument in argv.iter() {
            line.push(' ');
            line += &quoted(argument);
        }
        line += "\r\n";
        let line = Bytes::from(line);
        self.links.lock().iter().for_each(|monitor| {
            monitor.send(line.clone(), settings);
        });
    }
}
