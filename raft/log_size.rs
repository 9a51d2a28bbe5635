//! How many bytes of a group's log lie in front of an index and behind it.
//!
//! Retention counts bytes, because an entry may have any size up to the largest write. A sum for every
//! entry would take as much memory as small entries do, so sums are kept at marks: what lies between two
//! of them without a mark of its own is at most a thousandth of the log as it then was. So there are
//! some thousands of marks, however long the log is, and every entry of a short one has its own.
//!
//! Invariants: indexes and sums grow from mark to mark; a truncation or purge between two marks miscounts
//! by at most what lies between them; bytes are never counted twice.

use std::collections::VecDeque;

/// How exact sums are: to so small a part of the log.
const FINENESS: u64 = 1024;

/// The bytes of one group's log.
#[derive(Clone, Debug, Default)]
pub struct LogSize {
    /// Bytes of all entries since the count began.
    appended: u64,
    /// How many of them are purged.
    purged: u64,
    /// An entry's index, and the bytes appended up to its end.
    marks: VecDeque<(u64, u64)>,
}

impl LogSize {
    /// Counts an entry behind all others.
    pub fn append(&mut self, index: u64, bytes: u64) {
        self.appended += bytes;
        if self.appended - self.marked() > self.bytes() / FINENESS {
            self.marks.push_back((index, self.appended));
        }
    }

    /// All entries behind `last` are cut off.
    pub fn truncate_after(&mut self, last: Option<u64>) {
        while self.marks.back().is_some_and(|&(index, _)| last.is_none_or(|last| index > last)) {
            self.marks.pop_back();
        }
        self.appended = self.marked();
    }

    /// All entries up to `upto` are gone.
    pub fn purge(&mut self, upto: u64) {
        while let Some((_, sum)) = self.marks.pop_front_if(|(index, _)| *index <= upto) {
            self.purged = sum;
        }
    }

    /// Bytes of the log.
    pub fn bytes(&self) -> u64 {
        self.appended - self.purged
    }

    /// The last index behind which there are still `bytes` of log or a little more; 0 if there is none.
    pub fn index_leaving(&self, bytes: u64) -> u64 {
        let marks = self.marks.partition_point(|&(_, sum)| sum.saturating_add(bytes) <= self.appended);
        marks.checked_sub(1).map_or(0, |at| self.marks[at].0)
    }

    /// The sum at the last mark.
    fn marked(&self) -> u64 {
        self.marks.back().map_or(self.purged, |&(_, sum)| sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of these sizes from index 1 on.
    fn log(sizes: impl IntoIterator<Item = u64>) -> LogSize {
        let mut log = LogSize::default();
        (1..).zip(sizes).for_each(|(index, bytes)| log.append(index, bytes));
        log
    }

    #[test]
    fn what_stays_behind_an_index_is_counted_in_bytes() {
        let log = log([10, 1000, 10, 10, 500]);
        assert_eq!(log.bytes(), 1530);
        let expected = [(0, 5), (1, 4), (500, 4), (501, 3), (510, 3), (520, 2), (521, 1), (1520, 1), (1521, 0)];
        for (bytes, index) in expected {
            assert_eq!(log.index_leaving(bytes), index, "{bytes} bytes");
        }
        assert_eq!(log.index_leaving(u64::MAX), 0);
        assert_eq!(LogSize::default().index_leaving(0), 0);
    }

    #[test]
    fn a_purge_takes_bytes_from_the_front() {
        let mut log = log([100; 10]);
        log.purge(log.index_leaving(300));
        assert_eq!(
            (log.bytes(), log.index_leaving(300), log.index_leaving(299), log.index_leaving(200)),
            (300, 0, 0, 8)
        );
        log.append(11, 50);
        assert_eq!((log.bytes(), log.index_leaving(50), log.index_leaving(250)), (350, 10, 8));
        log.purge(11);
        assert_eq!((log.bytes(), log.index_leaving(0)), (0, 0));
        log.append(12, 7);
        assert_eq!((log.bytes(), log.index_leaving(0)), (7, 12));
    }

    #[test]
    fn a_truncation_takes_bytes_from_the_end() {
        let mut log = log([100; 10]);
        log.purge(2);
        log.truncate_after(Some(6));
        assert_eq!((log.bytes(), log.index_leaving(100), log.index_leaving(0)), (400, 5, 6));
        log.append(7, 1);
        assert_eq!((log.bytes(), log.index_leaving(1)), (401, 6));
        log.truncate_after(None);
        assert_eq!((log.bytes(), log.index_leaving(0)), (0, 0));
        log.append(3, 1);
        assert_eq!(log.bytes(), 1);
    }

    #[test]
    fn long_logs_have_few_marks_and_small_errors() {
        let sizes: Vec<u64> = (0..1_000_000u64).map(|i| if i % 1000 == 0 { 1 << 20 } else { 60 + i % 90 }).collect();
        let mut log = log(sizes.iter().copied());
        let total: u64 = sizes.iter().sum();
        assert_eq!(log.bytes(), total);
        assert!(log.marks.len() < 10_000, "{} marks", log.marks.len());
        let behind = |index: u64| sizes[index as usize..].iter().sum::<u64>();
        for part in [2, 3, 10, 50] {
            let index = log.index_leaving(total / part);
            let (left, error) = (behind(index), total / FINENESS + (1 << 20));
            assert!((total / part..total / part + error).contains(&left), "a {part}th: {left} behind {index}");
        }
        for cut in [900_500, 900_400, 900_300] {
            log.truncate_after(Some(cut));
        }
        let rest = total - behind(900_300);
        assert!((rest - total / FINENESS..=rest).contains(&log.bytes()));
        log.purge(500_500);
        let rest = rest - (total - behind(500_500));
        assert!(log.bytes().abs_diff(rest) <= total / FINENESS, "{} of {rest}", log.bytes());
    }
}
