//! Targets for the fuzzer: plain functions that hold for any bytes, or panic.
//!
//! `./dev fuzz TARGET SECONDS` searches with coverage; the gate runs the kept corpus and some thousands of
//! mutations of it (`corpus.rs`). An input that once failed stays in `corpus/TARGET/`.
//!
//! Invariants: a target panics only where the product is wrong, and gives the same for the same bytes.

mod apply;
mod entry;
mod events;
mod feed;
mod frames;
mod rdb;
mod resp;

/// Something that must hold for any bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name; its corpus lies in the folder of that name.
    pub name: &'static str,
    /// Panics when it does not hold.
    pub run: fn(&[u8]),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "resp", run: resp::run },
    Target { name: "rdb", run: rdb::run },
    Target { name: "frames", run: frames::run },
    Target { name: "entry", run: entry::run },
    Target { name: "events", run: events::run },
    Target { name: "apply", run: apply::run },
];

/// The target of a name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}
