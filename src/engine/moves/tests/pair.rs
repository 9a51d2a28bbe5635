//! Two groups that own half of the slots each, and the steps of a move between them.

use std::collections::BTreeMap;

use quoris_resp::{Argv, Reply};

use super::super::*;
use crate::EngineSeed;
use crate::entry::CommandMeta;
use crate::keyspace::{key_print, print_in};
use crate::testing::{SEED, apply, command};

/// Where the second half begins.
pub(super) const MIDDLE: u16 = 8192;

/// The two halves of a cluster, and the number of the last attempt.
pub(super) struct Pair {
    pub(super) engines: [Engine; 2],
    pub(super) attempt: u64,
    pub(super) clock_ms: u64,
    /// Both are restored from snapshots behind each parcel.
    pub(super) restores: bool,
}

/// The digest of frozen slots.
pub(super) fn summed(engine: &Engine) -> Sum {
    let mut sum = Sum::default();
    while engine.sum_next(&mut sum) {}
    for mut heavy in sum.take_heavy() {
        while engine.weigh(&mut heavy) {}
        sum.add(heavy);
    }
    sum
}

/// A key's share of the digest of its slots, from the bytes.
pub(super) fn share(database: u32, key: &[u8], entry: &crate::EntryRef<'_>) -> u64 {
    let hash = crate::payload::hash(entry.value, true);
    print_in(database, key_print(key, hash, entry.expire_at_ms, entry.version))
}

pub(super) fn propose(engine: &mut Engine, clock_ms: u64, argv: Argv) -> Reply {
    apply(engine, clock_ms, &[(CommandMeta::default(), argv)]).pop().expect("one reply")
}

pub(super) fn must(engine: &mut Engine, clock_ms: u64, argv: Argv) {
    let reply = propose(engine, clock_ms, argv);
    assert!(matches!(reply, Reply::Int(_)), "{reply:?}");
}

pub(super) fn numbers(attempt: u64, range: Range) -> [u64; 3] {
    [attempt, range.first.into(), range.last.into()]
}

pub(super) fn dropped(attempt: u64, range: Range) -> Argv {
    step("DROP", &[attempt, range.first.into(), range.last.into(), 2, 7])
}

impl Pair {
    pub(super) fn new() -> Pair {
        let other = EngineSeed { hash_seed: [7, 9], ..SEED };
        let engines = [Engine::new(SEED).owning(&[(0, MIDDLE - 1)]), Engine::new(other).owning(&[(MIDDLE, SLOTS - 1)])];
        let mut pair = Pair { engines, attempt: 0, clock_ms: 1_000_000, restores: false };
        // Both ask for slots, as after a first move.
        pair.engines.iter_mut().for_each(|engine| must(engine, 1, step("THAW", &[0])));
        pair
    }

    /// A command where it belongs.
    pub(super) fn run(&mut self, words: &str) -> Reply {
        self.send(&command(words))
    }

    pub(super) fn send(&mut self, command: &(CommandMeta, Argv)) -> Reply {
        let replies = self.engines.each_mut().map(|engine| apply(engine, self.clock_ms, std::slice::from_ref(command)));
        let mut served: Vec<Reply> = replies.into_iter().flatten().filter(|reply| *reply != Reply::Elsewhere).collect();
        assert_eq!(served.len(), 1, "one owner: {command:?} {served:?}");
        served.remove(0)
    }

    /// Begins to copy; gives the number of the next parcel.
    pub(super) fn copy(&mut self, from: usize, range: Range) -> u64 {
        self.attempt += 1;
        must(&mut self.engines[1 - from], self.clock_ms, step("TAKE", &numbers(self.attempt, range)));
        self.engines[from].track(range);
        let (mut walk, mut number) = (Walk::new(range), 0);
        loop {
            let picks = self.engines[from].pick_next(&mut walk);
            if picks.is_empty() {
                return number;
            }
            number = self.load(from, number, picks);
        }
    }

    pub(super) fn load(&mut self, from: usize, mut number: u64, picks: Picks) -> u64 {
        for parcel in parcels(picks.small) {
            number = self.load_parcel(from, number, &parcel);
        }
        for mut sending in picks.large {
            while let Some(parcel) = self.engines[from].next_parcel(&mut sending) {
                number = self.load_parcel(from, number, &parcel);
            }
            assert!(sending.is_done(), "nobody writes meanwhile");
        }
        number
    }

    pub(super) fn load_parcel(&mut self, from: usize, number: u64, parcel: &[u8]) -> u64 {
        // Each comes twice.
        for _ in 0..2 {
            let reply = propose(&mut self.engines[1 - from], self.clock_ms, load(self.attempt, number, parcel));
            assert_eq!(reply, Reply::Int(number as i64 + 1));
        }
        if self.restores {
            (0..2).for_each(|which| self.restore(which));
            self.engines[from].track(Range { first: 0, last: SLOTS - 1 });
        }
        number + 1
    }

    /// A replica that is restored is the same.
    pub(super) fn restore(&mut self, which: usize) {
        let snapshot = self.engines[which].snapshot(vec![]).expect("none is running");
        let mut restored = Engine::load(&mut &snapshot[..], &mut |_| {}).expect("own file").engine;
        assert_eq!(restored.digest(), self.engines[which].digest());
        assert!(restored.snapshot(vec![]).expect("none is running") == snapshot, "the files differ");
        self.engines[which] = restored;
    }

    pub(super) fn follow(&mut self, from: usize, number: u64) -> u64 {
        let touched = self.engines[from].take_tracked().expect("nothing was flushed");
        let picks = self.engines[from].pick(&touched);
        self.load(from, number, picks)
    }

    pub(super) fn freeze_and_seal(&mut self, from: usize, range: Range, number: u64) {
        must(&mut self.engines[from], self.clock_ms, step("FREEZE", &numbers(self.attempt, range)));
        self.follow(from, number);
        let sum = summed(&self.engines[from]);
        let seal = self.engines[from].seal_of(self.attempt, self.clock_ms, &sum).expect("it is frozen");
        must(&mut self.engines[1 - from], self.clock_ms, seal);
    }

    /// One step each until nothing is left, and one more.
    pub(super) fn switch(&mut self, from: usize, range: Range) {
        for _ in 0..2 {
            self.finish(1 - from, step("OWN", &numbers(self.attempt, range)));
            self.finish(from, dropped(self.attempt, range));
        }
        self.engines[from].untrack();
    }

    fn finish(&mut self, which: usize, argv: Argv) {
        loop {
            match propose(&mut self.engines[which], self.clock_ms, argv.clone()) {
                Reply::Int(0) => break,
                Reply::Int(_) if self.restores => self.restore(which),
                Reply::Int(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(super) fn move_all_at_once(&mut self, from: usize, range: Range) {
        let number = self.copy(from, range);
        self.freeze_and_seal(from, range, number);
        self.switch(from, range);
    }

    /// Every key of both, and the print of what it holds; what is due is gone before.
    pub(super) fn keys(&mut self) -> BTreeMap<(u32, Vec<u8>), u64> {
        (0..9).for_each(|_| self.engines.iter_mut().for_each(|engine| drop(apply(engine, self.clock_ms, &[]))));
        let mut all = BTreeMap::new();
        for keys in self.engines.iter().map(Engine::keyspace) {
            for database in 0..keys.databases() {
                let mut cursor = 0;
                loop {
                    cursor = keys.scan(database, cursor, 1000, &mut |key, entry| {
                        let print = share(database, key, &entry);
                        assert_eq!(all.insert((database, key.to_vec()), print), None, "in both: {key:?}");
                    });
                    if cursor == 0 {
                        break;
                    }
                }
            }
        }
        all
    }
}
